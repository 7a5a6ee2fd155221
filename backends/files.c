#include "backends/files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "backends/base/hex.h"

enum {
    MODE_MAX = 0777,
    TEMPORARY_BYTES = 12,
    ESCAPED = 4, /* "\xHH": the longest that a byte becomes */
};

/* ---- names as text ---- */

static unsigned follower(unsigned char byte)
{
    return byte & 0x3Fu;
}

static bool follows(unsigned char byte)
{
    return (byte & 0xC0u) == 0x80u;
}

/* The length of the UTF-8 character at `at` and its code point; 0 when there is none (too long a
 * form, a surrogate, past the end: NUL is no follower). */
static size_t decode(const unsigned char *at, unsigned *ret)
{
    if (at[0] < 0x80) {
        *ret = at[0];
        return 1;
    }
    if (at[0] >= 0xC2 && at[0] < 0xE0 && follows(at[1])) {
        *ret = (at[0] & 0x1Fu) << 6 | follower(at[1]);
        return 2;
    }
    if ((at[0] & 0xF0u) == 0xE0 && follows(at[1]) && follows(at[2])) {
        *ret = (at[0] & 0x0Fu) << 12 | follower(at[1]) << 6 | follower(at[2]);
        return *ret < 0x800 || (*ret >= 0xD800 && *ret < 0xE000) ? 0 : 3;
    }
    if (at[0] >= 0xF0 && at[0] < 0xF5 && follows(at[1]) && follows(at[2]) && follows(at[3])) {
        *ret =
            (at[0] & 0x07u) << 18 | follower(at[1]) << 12 | follower(at[2]) << 6 | follower(at[3]);
        return *ret < 0x10000 || *ret > 0x10FFFF ? 0 : 4;
    }
    return 0;
}

/* Control characters, and those that a reader does not see or that turn a line around. */
static bool shows(unsigned code)
{
    static const struct {
        unsigned first, last;
    } hidden[] = {{0, 0x1F},        {0x7F, 0x9F},     {0xAD, 0xAD},      {0x200B, 0x200F},
                  {0x2028, 0x202E}, {0x2060, 0x206F}, {0xFE00, 0xFE0F},  {0xFEFF, 0xFEFF},
                  {0xFFF9, 0xFFFB}, {0xFFFE, 0xFFFF}, {0xE0000, 0xE0FFF}};

    for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
        if (code >= hidden[i].first && code <= hidden[i].last) {
            return false;
        }
    }
    return true;
}

static char *escape(char *out, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";
    static const char known[] = "\\\\\nn\rr\tt";

    *out++ = '\\';
    for (const char *at = known; *at; at += 2) {
        if (byte == (unsigned char)*at) {
            *out++ = at[1];
            return out;
        }
    }
    *out++ = 'x';
    *out++ = digits[byte >> 4];
    *out++ = digits[byte & 0x0F];
    return out;
}

char *file_name_text(const char *name)
{
    const unsigned char *at = (const unsigned char *)name;
    char *text = malloc(strlen(name) * ESCAPED + 1);
    char *out = text;

    while (text && *at) {
        unsigned code = 0;
        size_t size = decode(at, &code);
        if (size > 0 && shows(code) && code != '\\') {
            memcpy(out, at, size);
            out += size;
            at += size;
            continue;
        }
        for (size_t i = 0; i < (size > 0 ? size : 1); i++) {
            out = escape(out, *at++);
        }
    }
    if (text) {
        *out = '\0';
    }
    return text;
}

/* The byte that the escape at `at` stands for, or -1 when it is none; *ret is its length. */
static int unescape(const char *at, size_t *ret)
{
    int high = -1, low = -1;

    switch (at[1]) {
    case '\\':
        *ret = 2;
        return '\\';
    case 'n':
        *ret = 2;
        return '\n';
    case 'r':
        *ret = 2;
        return '\r';
    case 't':
        *ret = 2;
        return '\t';
    case 'x':
        high = hex_value(at[2]);
        low = high < 0 ? -1 : hex_value(at[3]);
        *ret = 4;
        return low < 0 ? -1 : high * 16 + low;
    default:
        return -1;
    }
}

int file_name_parse(const char *text, char **ret, struct error *err)
{
    char *name = malloc(strlen(text) + 1), *out = name;

    if (!name) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "a name");
    }
    for (const char *at = text; *at;) {
        size_t size = 1;
        int byte = *at == '\\' ? unescape(at, &size) : (unsigned char)*at;

        if (byte <= 0) {
            free(name);
            return error_set(err, ERROR_INVALID,
                             byte == 0 ? "\\x00 at byte %zu: no name holds a NUL"
                                       : "the backslash at byte %zu begins no escape: there are "
                                         "\\\\ (for a backslash), \\n, \\r, \\t and \\xHH (for a "
                                         "byte), as list_files shows names",
                             (size_t)(at - text));
        }
        *out++ = (char)byte;
        at += size;
    }
    *out = '\0';
    *ret = name;
    return 0;
}

const char *file_type_name(enum file_type type)
{
    switch (type) {
    case FILE_REGULAR:
        return "file";
    case FILE_DIRECTORY:
        return "directory";
    case FILE_SYMLINK:
        return "symlink";
    default:
        return "other";
    }
}

/* ---- replies ---- */

static void entry_deinit(struct file_entry *entry)
{
    free(entry->name);
    free(entry->target);
}

void file_reply_deinit(struct file_reply *reply)
{
    entry_deinit(&reply->entry);
    for (size_t i = 0; i < reply->count; i++) {
        entry_deinit(&reply->entries[i]);
    }
    free(reply->entries);
    free(reply->bytes);
    *reply = (struct file_reply){0};
}

/* ---- requests ---- */

static int check_path(const char *what, const char *path, struct error *err)
{
    if (!path || !*path) {
        return error_set(err, ERROR_INVALID, "%s: empty; expected a path in the sandbox", what);
    }
    if (strnlen(path, FILE_PATH_CAP + 1) > FILE_PATH_CAP) {
        return error_set(err, ERROR_INVALID, "%s: longer than %d bytes", what, FILE_PATH_CAP);
    }
    return 0;
}

static int check_mode(const struct file_request *request, struct error *err)
{
    if (request->mode < -1 || request->mode > MODE_MAX) {
        return error_set(err, ERROR_INVALID, "mode: %o (octal) is not between 0 and 777",
                         (unsigned)request->mode);
    }
    return 0;
}

static int check_read(const struct file_request *request, struct error *err)
{
    if (request->offset > INT64_MAX) {
        return error_set(err, ERROR_INVALID, "offset: %llu is past the end of any file",
                         (unsigned long long)request->offset);
    }
    return 0;
}

static int check_write(const struct file_request *request, struct error *err)
{
    if (request->size > FILE_WRITE_CAP) {
        return error_set(err, ERROR_LIMIT,
                         "content: %zu bytes are more than one write takes (%d); write the rest "
                         "with append",
                         request->size, FILE_WRITE_CAP);
    }
    return check_mode(request, err);
}

static int check_list(const struct file_request *request, struct error *err)
{
    if (request->limit < 1 || request->limit > FILE_LIST_CAP) {
        return error_set(err, ERROR_INVALID, "limit: %zu is not between 1 and %d", request->limit,
                         FILE_LIST_CAP);
    }
    return 0;
}

int file_request_check(const struct file_request *request, struct error *err)
{
    if (check_path("path", request->path, err) < 0) {
        return -1;
    }
    switch (request->op) {
    case FILE_LIST:
        return check_list(request, err);
    case FILE_READ:
        return check_read(request, err);
    case FILE_WRITE:
        return check_write(request, err);
    case FILE_MKDIR:
        return check_mode(request, err);
    case FILE_COPY:
    case FILE_MOVE:
        return check_path("dest", request->dest, err);
    case FILE_STAT:
    case FILE_REMOVE:
        return 0;
    }
    return error_set(err, ERROR_INVALID, "op: %d is no operation on files", (int)request->op);
}

/* ---- names of what is not in place yet ---- */

int file_temporary_name(char ret[FILE_TEMPORARY_SIZE])
{
    unsigned char random[TEMPORARY_BYTES];
    char *end = stpcpy(ret, ".cellblock-");

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return -EIO;
    }
    hex_write(random, sizeof(random), end);
    return 0;
}
