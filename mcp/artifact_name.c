#include "mcp/artifact_name.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "backends/base/hex.h"
#include "mcp/mime.h"
#include "mcp/text.h"

static const char scheme[] = "cellblock://";
static const char digits[] = "0123456789ABCDEF";
static const char binary[] = "application/octet-stream";

/* --- URIs --- */

static bool is_plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~/", c));
}

char *artifact_uri(const char *session, const char *run, const char *path)
{
    size_t room = sizeof(scheme) + strlen(session) + strlen(run) + 3 * strlen(path) + 2;
    char *uri = malloc(room), *to;

    if (!uri) {
        return NULL;
    }
    to = uri + snprintf(uri, room, "%s%s/%s/", scheme, session, run);
    for (; *path; path++) {
        unsigned char c = (unsigned char)*path;

        if (is_plain(c)) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
    }
    *to = '\0';
    return uri;
}

char *artifact_uri_key(const char *uri)
{
    const char *from = uri + sizeof(scheme) - 1;
    char *key, *to;

    if (strlen(uri) > ARTIFACT_URI_CAP || strncmp(uri, scheme, sizeof(scheme) - 1) != 0 ||
        !(key = to = malloc(strlen(from) + 1))) {
        return NULL;
    }
    for (; *from; from++) {
        int c = (unsigned char)*from;

        if (c == '%') {
            int high = hex_value(from[1]), low = high < 0 ? -1 : hex_value(from[2]);

            c = low < 0 ? 0 : high * 16 + low;
            from += 2;
        }
        if (c == 0) {
            free(key);
            return NULL;
        }
        *to++ = (char)c;
    }
    *to = '\0';
    return key;
}

/* --- types --- */

static const struct {
    const char *ending, *mime;
} types[] = {
    {"bmp", "image/bmp"},
    {"bz2", "application/x-bzip2"},
    {"c", "text/x-c"},
    {"cfg", "text/plain"},
    {"conf", "text/plain"},
    {"cpp", "text/x-c"},
    {"css", "text/css"},
    {"csv", "text/csv"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"geojson", "application/geo+json"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"h", "text/x-c"},
    {"htm", "text/html"},
    {"html", "text/html"},
    {"ini", "text/plain"},
    {"ipynb", "application/x-ipynb+json"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript"},
    {"json", "application/json"},
    {"jsonl", "application/jsonl"},
    {"log", "text/plain"},
    {"md", "text/markdown"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"npy", "application/octet-stream"},
    {"npz", "application/zip"},
    {"parquet", "application/vnd.apache.parquet"},
    {"pdf", "application/pdf"},
    {"pkl", "application/octet-stream"},
    {"png", "image/png"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"py", "text/x-python"},
    {"rst", "text/x-rst"},
    {"sh", "text/x-shellscript"},
    {"sql", "application/sql"},
    {"sqlite", "application/vnd.sqlite3"},
    {"stderr", "text/plain"},
    {"stdout", "text/plain"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tex", "text/x-tex"},
    {"toml", "application/toml"},
    {"ts", "text/plain"},
    {"tsv", "text/tab-separated-values"},
    {"txt", "text/plain"},
    {"wav", "audio/wav"},
    {"webp", "image/webp"},
    {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"xml", "application/xml"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"zip", "application/zip"},
};

const char *artifact_mime(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *dot = strrchr(slash ? slash : name, '.');

    for (size_t i = 0; dot && i < sizeof(types) / sizeof(*types); i++) {
        if (strcasecmp(dot + 1, types[i].ending) == 0) {
            return types[i].mime;
        }
    }
    return NULL;
}

bool artifact_mime_is_text(const char *mime)
{
    static const char *const others[] = {"application/json", "application/jsonl",
                                         "application/sql",  "application/toml",
                                         "application/xml",  "application/yaml"};
    const char *plus = strrchr(mime, '+');

    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        if (strcmp(mime, others[i]) == 0) {
            return true;
        }
    }
    return strncmp(mime, "text/", 5) == 0 ||
           (plus && (strcmp(plus, "+json") == 0 || strcmp(plus, "+xml") == 0));
}

static bool is_text(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)bytes[i];

        if ((c < ' ' && (c < '\t' || c > '\r') && c != '\x1b') || c == 0x7f) {
            return false;
        }
    }
    return text_prefix(bytes, size, SIZE_MAX).size == size;
}

const char *artifact_mime_of(const char *name, const char *bytes, size_t size, bool *ret_text)
{
    const char *mime = artifact_mime(name), *image = mime_of_image(bytes, size);

    *ret_text = !image && (!mime || artifact_mime_is_text(mime)) && is_text(bytes, size);
    if (image) {
        return image;
    }
    if (!mime) {
        return *ret_text ? "text/plain" : binary;
    }
    /* A name is no proof: what claims one of the types that are known by their first bytes and does
     * not begin so, is none. */
    if (strcmp(mime, "image/png") == 0 || strcmp(mime, "image/jpeg") == 0 ||
        strcmp(mime, "image/gif") == 0 || strcmp(mime, "image/webp") == 0) {
        return binary;
    }
    return mime;
}
