#include "mcp/json_write.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "mcp/text.h"

static const uint64_t ones = UINT64_C(0x0101010101010101), highs = UINT64_C(0x8080808080808080);

/* ---- strings ---- */

/* Eight bytes: is each ASCII that stands for itself? A byte b is 0 where (b - 1) & ~b has its high
 * bit; what is borrowed from a higher byte can only make this say no too often. */
static bool are_plain(uint64_t word)
{
    uint64_t quotes = word ^ ones * '"', backslashes = word ^ ones * '\\';

    return ((word | (word - ones * 0x20) | ((quotes - ones) & ~quotes) |
             ((backslashes - ones) & ~backslashes)) &
            highs) == 0;
}

static bool is_plain(char c)
{
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

/* How many bytes at the beginning stand for themselves; bytes of UTF-8 are looked at as well. 0 to
 * size, or -EINVAL. */
static ssize_t plain_size(const char *p, size_t size)
{
    size_t n = 0;
    uint64_t word;

    while (n < size) {
        if (size - n >= sizeof(word)) {
            memcpy(&word, p + n, sizeof(word));
            if (are_plain(word)) {
                n += sizeof(word);
                continue;
            }
        }
        if (is_plain(p[n])) {
            n++;
        } else if ((unsigned char)p[n] >= 0x80) {
            size_t length = text_character(p + n, size - n);
            if (length == 0) {
                return -EINVAL;
            }
            n += length;
        } else {
            break;
        }
    }
    return (ssize_t)n;
}

static int write_escape(char c, struct buffer *out)
{
    static const char named[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    const char *at = c ? strchr(named, c) : NULL;
    char text[8] = "\\";

    if (at) {
        text[1] = names[at - named];
        return buffer_append(out, text, 2);
    }
    return buffer_append(out, text, (size_t)snprintf(text, sizeof(text), "\\u%04X", (unsigned)c));
}

static int write_string(const char *p, size_t size, struct buffer *out)
{
    int r = buffer_append(out, "\"", 1);

    while (r == 0 && size > 0) {
        ssize_t n = plain_size(p, size);

        r = n < 0 ? (int)n : buffer_append(out, p, (size_t)n);
        if (r == 0 && (size_t)n < size) {
            r = write_escape(p[n++], out);
        }
        if (r == 0) {
            p += n;
            size -= (size_t)n;
        }
    }
    return r < 0 ? r : buffer_append(out, "\"", 1);
}

/* ---- what holds others ---- */

static int write_array(const json_t *array, struct buffer *out)
{
    const json_t *value;
    size_t index;

    json_array_foreach(array, index, value)
    {
        int r = buffer_append(out, index == 0 ? "[" : ",", 1);

        r = r < 0 ? r : json_write(value, out);
        if (r < 0) {
            return r;
        }
    }
    return json_array_size(array) > 0 ? buffer_append(out, "]", 1) : buffer_append(out, "[]", 2);
}

static int write_object(const json_t *object, struct buffer *out)
{
    json_t *members = (json_t *)object, *value; /* it is only read */
    const char *key, *before = "{";
    size_t key_size;

    json_object_keylen_foreach(members, key, key_size, value)
    {
        int r = buffer_append(out, before, 1);

        r = r < 0 ? r : write_string(key, key_size, out);
        r = r < 0 ? r : buffer_append(out, ":", 1);
        r = r < 0 ? r : json_write(value, out);
        if (r < 0) {
            return r;
        }
        before = ",";
    }
    return *before == ',' ? buffer_append(out, "}", 1) : buffer_append(out, "{}", 2);
}

static int append_piece(const char *bytes, size_t size, void *data)
{
    return buffer_append(data, bytes, size);
}

int json_write(const json_t *value, struct buffer *out)
{
    if (json_is_string(value)) {
        return write_string(json_string_value(value), json_string_length(value), out);
    }
    if (json_is_array(value)) {
        return write_array(value, out);
    }
    if (json_is_object(value)) {
        return write_object(value, out);
    }
    return json_dump_callback(value, append_piece, out, JSON_COMPACT | JSON_ENCODE_ANY) < 0
               ? -ENOBUFS
               : 0;
}
