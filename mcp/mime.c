#include "mcp/mime.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAGIC_SIZE = 12, /* bytes of an image that say what it is */
};

struct image_type {
    const char *mime;
    const char *magic;
    size_t magic_size;
    const char *magic8; /* at offset 8, or NULL */
};

/* In the order of preference when a bundle has several: one format of a figure is enough. */
static const struct image_type image_types[] = {
    {"image/png", "\x89PNG\r\n\x1a\n", 8, NULL},
    {"image/jpeg", "\xff\xd8\xff", 3, NULL},
    {"image/webp", "RIFF", 4, "WEBP"},
    {"image/gif", "GIF8", 4, NULL},
    {NULL},
};

static const struct {
    const char *mime;
    enum form form;
} rich_types[] = {
    {"text/latex", FORM_TEXT},           {"application/json", FORM_TEXT},
    {"application/geo+json", FORM_TEXT}, {"image/svg+xml", FORM_RESOURCE},
    {"text/html", FORM_RESOURCE},        {NULL, FORM_NONE},
};

bool mime_is_placeholder(const json_t *text)
{
    const char *s = json_string_value(text);
    size_t n = json_string_length(text);

    return s && n >= 2 && s[0] == '<' && s[n - 1] == '>' && !memchr(s, '\n', n);
}

static struct shown choose_image(const json_t *bundle)
{
    for (const struct image_type *t = image_types; t->mime; t++) {
        const json_t *payload = json_object_get(bundle, t->mime);

        if (payload) {
            return (struct shown){FORM_IMAGE, t->mime, payload};
        }
    }
    return (struct shown){FORM_NONE};
}

/* Another text type, text/csv say; not the JavaScript that widgets bring along. */
static struct shown choose_other_text(const json_t *bundle)
{
    const char *mime;
    json_t *payload;

    json_object_foreach((json_t *)bundle, mime, payload)
    {
        if (strncmp(mime, "text/", 5) == 0 && strcmp(mime, "text/plain") != 0) {
            return (struct shown){FORM_TEXT, mime, payload};
        }
    }
    return (struct shown){FORM_NONE};
}

struct shown mime_choose(const json_t *bundle, bool without_image)
{
    struct shown shown = without_image ? (struct shown){FORM_NONE} : choose_image(bundle);
    const json_t *plain = json_object_get(bundle, "text/plain");
    const json_t *markdown = json_object_get(bundle, "text/markdown");

    if (shown.form != FORM_NONE) {
        return shown;
    }
    if (markdown) {
        return (struct shown){FORM_TEXT, "text/markdown", markdown};
    }
    if (plain && !mime_is_placeholder(plain)) {
        return (struct shown){FORM_TEXT, "text/plain", plain};
    }
    for (size_t i = 0; rich_types[i].mime; i++) {
        const json_t *payload = json_object_get(bundle, rich_types[i].mime);

        if (payload) {
            return (struct shown){rich_types[i].form, rich_types[i].mime, payload};
        }
    }
    shown = choose_other_text(bundle);
    if (shown.form == FORM_NONE && plain) {
        return (struct shown){FORM_TEXT, "text/plain", plain};
    }
    return shown;
}

static int base64_value(char c)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(alphabet, c) : NULL;

    return at ? (int)(at - alphabet) : -1;
}

/* The first bytes that the base64 text stands for; returns how many. */
static size_t decode_start(const char *base64, size_t size, unsigned char out[MAGIC_SIZE])
{
    uint32_t bits = 0;
    size_t n = 0;

    for (size_t i = 0; i < size && n < MAGIC_SIZE && base64[i] != '='; i++) {
        bits = bits << 6 | (uint32_t)base64_value(base64[i]);
        if (i % 4 != 0) {
            out[n++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
        }
    }
    return n;
}

/* Copies `in` without white space; -1 when it is not base64. */
static int clean_base64(const char *in, size_t size, char *out, size_t *ret_size)
{
    unsigned char known[256] = {0};
    size_t n = 0, padding = 0;

    for (int c = 1; c < 256; c++) {
        known[c] = base64_value((char)c) >= 0;
    }
    for (size_t i = 0; i < size; i++) {
        if (in[i] == '\n' || in[i] == '\r' || in[i] == ' ' || in[i] == '\t') {
            continue;
        }
        padding += in[i] == '=';
        if (in[i] == '=' ? padding > 2 : padding > 0 || !known[(unsigned char)in[i]]) {
            return -1;
        }
        out[n++] = in[i];
    }
    out[n] = '\0';
    *ret_size = n;
    return n > 0 && n % 4 == 0 ? 0 : -1;
}

static bool begins_so(const struct image_type *t, const void *start, size_t size)
{
    return size >= MAGIC_SIZE && memcmp(start, t->magic, t->magic_size) == 0 &&
           (!t->magic8 || memcmp((const char *)start + 8, t->magic8, 4) == 0);
}

static bool magic_fits(const char *mime, const char *base64, size_t size)
{
    unsigned char start[MAGIC_SIZE];
    size_t n = decode_start(base64, size, start);

    for (const struct image_type *t = image_types; t->mime; t++) {
        if (strcmp(t->mime, mime) == 0) {
            return begins_so(t, start, n);
        }
    }
    return false;
}

const char *mime_of_image(const char *bytes, size_t size)
{
    for (const struct image_type *t = image_types; t->mime; t++) {
        if (begins_so(t, bytes, size)) {
            return t->mime;
        }
    }
    return NULL;
}

const char *mime_check_image(const char *mime, const json_t *payload, char **ret_clean,
                             size_t *ret_size)
{
    size_t size = json_string_length(payload), clean_size;
    char *clean;

    if (!json_is_string(payload)) {
        return "its data is not text";
    }
    clean = malloc(size + 1);
    if (!clean) {
        return "there was no memory for it";
    }
    if (clean_base64(json_string_value(payload), size, clean, &clean_size) < 0) {
        free(clean);
        return "its data is not base64";
    }
    if (!magic_fits(mime, clean, clean_size)) {
        free(clean);
        return "its data is not an image of that type";
    }
    *ret_clean = clean;
    *ret_size = clean_size;
    return NULL;
}

json_t *mime_checked(json_t *bundle, const char **ret_mime, const char **ret_wrong)
{
    json_t *checked = json_incref(bundle);

    for (const struct image_type *t = image_types; t->mime && checked; t++) {
        const json_t *payload = json_object_get(checked, t->mime);
        const char *wrong;
        char *clean = NULL;
        size_t size;

        wrong = payload ? mime_check_image(t->mime, payload, &clean, &size) : NULL;
        free(clean);
        if (wrong) {
            json_t *copy = json_copy(checked); /* what came is not ours to change */

            json_decref(checked);
            checked = copy;
            json_object_del(checked, t->mime);
            *ret_mime = t->mime;
            *ret_wrong = wrong;
        }
    }
    return checked;
}

size_t mime_size(const json_t *bundle)
{
    size_t size = 0;
    const char *mime;
    json_t *payload;

    json_object_foreach((json_t *)bundle, mime, payload)
    {
        size += strlen(mime) + 8;
        size += json_is_string(payload) ? json_string_length(payload)
                                        : json_dumpb(payload, NULL, 0, JSON_ENCODE_ANY);
    }
    return size;
}
