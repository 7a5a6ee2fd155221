#include "mcp/base64.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum {
    NO_VALUE = 64,
    GROUP = 4, /* characters for three bytes */
};

char *base64_encode(const void *bytes, size_t size)
{
    const unsigned char *in = bytes;
    char *text = malloc((size + 2) / 3 * GROUP + 1), *out = text;

    if (!text) {
        return NULL;
    }
    for (; size >= 3; size -= 3, in += 3) {
        *out++ = alphabet[in[0] >> 2];
        *out++ = alphabet[(in[0] << 4 | in[1] >> 4) & 63];
        *out++ = alphabet[(in[1] << 2 | in[2] >> 6) & 63];
        *out++ = alphabet[in[2] & 63];
    }
    if (size > 0) {
        unsigned second = size > 1 ? in[1] : 0;
        char third = '=';

        if (size > 1) {
            third = alphabet[second << 2 & 63];
        }
        *out++ = alphabet[in[0] >> 2];
        *out++ = alphabet[(in[0] << 4 | second >> 4) & 63];
        *out++ = third;
        *out++ = '=';
    }
    *out = '\0';
    return text;
}

static void fill_values(unsigned char values[256])
{
    for (int c = 0; c < 256; c++) {
        values[c] = NO_VALUE;
    }
    for (unsigned i = 0; i < NO_VALUE; i++) {
        values[(unsigned char)alphabet[i]] = (unsigned char)i;
    }
}

/* What has been read of a text. */
struct reader {
    unsigned char values[256];
    uint32_t bits;
    unsigned in_group; /* characters of this group, padding included */
    unsigned padding;
    char *out;
    size_t size;
};

static int end_group(struct reader *r)
{
    unsigned bytes = 3 - r->padding;

    /* The bits past the last byte stand for nothing. */
    if (r->bits & ((UINT32_C(1) << 8 * r->padding) - 1)) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < bytes; i++) {
        r->out[r->size++] = (char)(r->bits >> (16 - 8 * i));
    }
    r->in_group = 0;
    r->bits = 0;
    return 0;
}

static int take(struct reader *r, unsigned char c)
{
    unsigned value = r->values[c];

    if (c == '\n' || c == '\r') {
        return 0;
    }
    if (c == '=') {
        if (r->in_group < 2) {
            return -EINVAL;
        }
        r->padding++;
        value = 0;
    } else if (value == NO_VALUE || r->padding > 0) {
        return -EINVAL;
    }
    r->bits = r->bits << 6 | value;
    return ++r->in_group == GROUP ? end_group(r) : 0;
}

int base64_decode(const char *text, size_t size, char **ret_bytes, size_t *ret_size,
                  size_t *ret_where)
{
    struct reader r = {.out = malloc(size / GROUP * 3 + 3)};

    if (!r.out) {
        return -ENOMEM;
    }
    fill_values(r.values);
    for (size_t i = 0; i <= size; i++) {
        bool wrong = i == size ? r.in_group != 0 : take(&r, (unsigned char)text[i]) < 0;

        if (wrong) {
            free(r.out);
            *ret_where = i;
            return -EINVAL;
        }
    }
    *ret_bytes = r.out;
    *ret_size = r.size;
    return 0;
}
