#include "backends/modal/toml.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/hex.h"
#include "backends/base/wipe.h"

enum {
    KEY_CAP = 256,
    NUMBER_CAP = 64,
};

/* A text while it is read. */
struct text {
    char *bytes; /* as large as the file: nothing in it is longer */
    size_t size;
};

struct reader {
    const char *at, *end;
    unsigned line;
    json_t *root;
    json_t *table; /* borrowed of root; NULL before the first */
    struct text text;
    struct error *err;
};

static int refuse(const struct reader *r, const char *what)
{
    return error_set(r->err, ERROR_INVALID, "line %u: %s", r->line, what);
}

static bool at_end(const struct reader *r)
{
    return r->at == r->end;
}

static bool see(const struct reader *r, char c)
{
    return r->at < r->end && *r->at == c;
}

static bool take(struct reader *r, char c)
{
    bool seen = see(r, c);
    r->at += seen ? 1 : 0;
    return seen;
}

static void skip_blanks(struct reader *r)
{
    while (see(r, ' ') || see(r, '\t')) {
        r->at++;
    }
}

static bool is_control(char c)
{
    return ((unsigned char)c < ' ' && c != '\t') || c == 0x7f;
}

/* Blanks, a comment, and the line's end (or the file's). */
static int end_line(struct reader *r)
{
    skip_blanks(r);
    if (take(r, '#')) {
        while (!at_end(r) && !is_control(*r->at)) {
            r->at++;
        }
    }
    (void)take(r, '\r');
    if (!at_end(r) && !take(r, '\n')) {
        return refuse(r, "something follows where the line should end");
    }
    r->line++;
    return 0;
}

/* ---- texts ---- */

static void put(struct text *text, char c)
{
    text->bytes[text->size++] = c;
}

/* As UTF-8, which is never longer than its escape. */
static void put_code(struct text *text, uint32_t code)
{
    if (code < 0x80) {
        put(text, (char)code);
        return;
    }
    if (code < 0x800) {
        put(text, (char)(0xc0 | (code >> 6)));
    } else {
        if (code < 0x10000) {
            put(text, (char)(0xe0 | (code >> 12)));
        } else {
            put(text, (char)(0xf0 | (code >> 18)));
            put(text, (char)(0x80 | ((code >> 12) & 0x3f)));
        }
        put(text, (char)(0x80 | ((code >> 6) & 0x3f)));
    }
    put(text, (char)(0x80 | (code & 0x3f)));
}

static int read_code(struct reader *r, unsigned digits)
{
    uint32_t code = 0;

    for (unsigned i = 0; i < digits; i++) {
        int value = at_end(r) ? -1 : hex_value(*r->at);
        if (value < 0) {
            return refuse(r, "\\u needs four hexadecimal digits, \\U eight");
        }
        code = code << 4 | (uint32_t)value;
        r->at++;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        return refuse(r, "no such character of Unicode");
    }
    put_code(&r->text, code);
    return 0;
}

static int read_escape(struct reader *r)
{
    static const char names[] = "btnfr\"\\";
    static const char values[] = "\b\t\n\f\r\"\\";
    const char *known = at_end(r) || *r->at == '\0' ? NULL : strchr(names, *r->at);

    if (known) {
        put(&r->text, values[known - names]);
        r->at++;
        return 0;
    }
    if (take(r, 'u')) {
        return read_code(r, 4);
    }
    if (take(r, 'U')) {
        return read_code(r, 8);
    }
    return refuse(r, "an unknown escape after \\");
}

/* Between two of `quote`, in r->text. */
static int read_text(struct reader *r, char quote)
{
    r->at++;
    r->text.size = 0;
    if (r->end - r->at >= 2 && r->at[0] == quote && r->at[1] == quote) {
        return refuse(r, "texts of several lines are not read here");
    }
    while (!take(r, quote)) {
        if (at_end(r) || is_control(*r->at)) {
            return refuse(r, "a text without its closing quote");
        }
        if (quote == '"' && take(r, '\\')) {
            if (read_escape(r) < 0) {
                return -1;
            }
        } else {
            put(&r->text, *r->at++);
        }
    }
    return 0;
}

/* ---- keys ---- */

static bool is_bare(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

static int read_key(struct reader *r, char space[KEY_CAP])
{
    if (see(r, '"') || see(r, '\'')) {
        if (read_text(r, *r->at) < 0) {
            return -1;
        }
    } else {
        r->text.size = 0;
        while (!at_end(r) && is_bare(*r->at)) {
            put(&r->text, *r->at++);
        }
        if (r->text.size == 0) {
            return refuse(r, "expected a key, a [table] or a comment");
        }
    }
    if (r->text.size >= KEY_CAP || memchr(r->text.bytes, '\0', r->text.size)) {
        return refuse(r, "a key is too long, or holds a NUL");
    }
    memcpy(space, r->text.bytes, r->text.size);
    space[r->text.size] = '\0';
    skip_blanks(r);
    return see(r, '.') ? refuse(r, "dotted keys are not read here") : 0;
}

/* ---- values ---- */

static bool is_number_letter(char c)
{
    return (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E' ||
           c == '_';
}

static json_t *number_of(const char *digits, bool whole)
{
    char *after;
    json_t *value;

    errno = 0;
    value = whole ? json_integer(strtoll(digits, &after, 10)) : json_real(strtod(digits, &after));
    if (errno != 0 || *after != '\0') {
        json_decref(value);
        return NULL;
    }
    return value;
}

static json_t *read_number(struct reader *r)
{
    char digits[NUMBER_CAP];
    size_t n = 0;
    bool whole = true;

    while (!at_end(r) && is_number_letter(*r->at) && n < sizeof(digits) - 1) {
        whole = whole && !strchr(".eE", *r->at);
        if (*r->at != '_') {
            digits[n++] = *r->at;
        }
        r->at++;
    }
    digits[n] = '\0';
    return n > 0 ? number_of(digits, whole) : NULL;
}

static bool take_word(struct reader *r, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0 ||
        (r->at + n < r->end && is_bare(r->at[n]))) {
        return false;
    }
    r->at += n;
    return true;
}

static json_t *read_value(struct reader *r)
{
    json_t *value;

    if (see(r, '"') || see(r, '\'')) {
        if (read_text(r, *r->at) < 0) {
            return NULL;
        }
        value = json_stringn(r->text.bytes, r->text.size);
    } else if (take_word(r, "true")) {
        value = json_true();
    } else if (take_word(r, "false")) {
        value = json_false();
    } else {
        value = read_number(r);
    }
    if (!value) {
        (void)refuse(r, "the value is no text in UTF-8 between quotes, number, true or false: "
                        "nothing else of TOML is read here");
    }
    return value;
}

/* ---- lines ---- */

static int read_table(struct reader *r)
{
    char name[KEY_CAP];

    r->at++;
    if (see(r, '[')) {
        return refuse(r, "lists of tables are not read here");
    }
    skip_blanks(r);
    if (read_key(r, name) < 0) {
        return -1;
    }
    if (!take(r, ']')) {
        return refuse(r, "a table's name ends with ]");
    }
    if (json_object_get(r->root, name)) {
        return refuse(r, "this table has come before");
    }
    r->table = json_object();
    if (json_object_set_new(r->root, name, r->table) < 0) {
        return refuse(r, "the table's name is not UTF-8");
    }
    return end_line(r);
}

static int read_pair(struct reader *r)
{
    char name[KEY_CAP];
    json_t *value;

    if (read_key(r, name) < 0) {
        return -1;
    }
    if (!take(r, '=')) {
        return refuse(r, "expected = after the key");
    }
    if (!r->table) {
        return refuse(r, "a key before the first [profile]");
    }
    if (json_object_get(r->table, name)) {
        return refuse(r, "this key has come before");
    }
    skip_blanks(r);
    value = read_value(r);
    if (!value) {
        return -1;
    }
    if (json_object_set_new(r->table, name, value) < 0) {
        return refuse(r, "the key is not UTF-8");
    }
    return end_line(r);
}

static int read_lines(struct reader *r)
{
    int result = 0;

    while (result == 0 && !at_end(r)) {
        skip_blanks(r);
        if (see(r, '[')) {
            result = read_table(r);
        } else if (at_end(r) || strchr("#\r\n", *r->at)) {
            result = *r->at == '\0' && !at_end(r) ? refuse(r, "a NUL") : end_line(r);
        } else {
            result = read_pair(r);
        }
    }
    return result;
}

json_t *toml_read(const char *text, size_t size, struct error *err)
{
    struct reader r = {.at = text, .end = text + size, .line = 1, .err = err};
    int result;

    if (size > TOML_SIZE_CAP) {
        (void)error_set(err, ERROR_LIMIT, "it is larger than %d bytes", TOML_SIZE_CAP);
        return NULL;
    }
    r.root = json_object();
    r.text.bytes = malloc(size + 1);
    if (!r.root || !r.text.bytes) {
        result = error_set(err, ERROR_INTERNAL, "out of memory");
    } else {
        result = read_lines(&r);
        explicit_bzero(r.text.bytes, size + 1);
    }
    free(r.text.bytes);
    if (result < 0) {
        toml_wipe(r.root);
        return NULL;
    }
    return r.root;
}

void toml_wipe(json_t *tables)
{
    const char *name;
    json_t *table;

    json_object_foreach(tables, name, table)
    {
        wipe_texts(json_incref(table));
    }
    json_decref(tables);
}
