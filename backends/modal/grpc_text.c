#include <stdlib.h>
#include <string.h>

#include "backends/modal/grpc_status.h"

/* --- grpc-message ------------------------------------------------------------------------- */

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A "%" that two digits do not follow stands for itself. */
static size_t percent_decode(const char *text, char *out, size_t most)
{
    size_t n = 0;
    while (*text && n < most) {
        int high = *text == '%' ? hex(text[1]) : -1;
        int low = high >= 0 ? hex(text[2]) : -1;
        if (low >= 0) {
            out[n++] = (char)(high << 4 | low);
            text += 3;
        } else {
            out[n++] = *text++;
        }
    }
    return n;
}

static size_t sequence_size(unsigned char lead)
{
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4) {
        return 0;
    }
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* The size of the character of UTF-8 at the front; 0 when there is none. */
static size_t character(const unsigned char *bytes, size_t size)
{
    size_t n = sequence_size(bytes[0]);
    if (n == 0 || n > size) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    /* Longer than need be, a surrogate, or past the last one. */
    if ((bytes[0] == 0xe0 && bytes[1] < 0xa0) || (bytes[0] == 0xed && bytes[1] > 0x9f) ||
        (bytes[0] == 0xf0 && bytes[1] < 0x90) || (bytes[0] == 0xf4 && bytes[1] > 0x8f)) {
        return 0;
    }
    return n;
}

char *grpc_message_decode(const char *value)
{
    char *text = malloc(GRPC_MESSAGE_TEXT_CAP + 1);
    size_t size, at = 0;

    if (!text) {
        return NULL;
    }
    size = percent_decode(value, text, GRPC_MESSAGE_TEXT_CAP);
    while (at < size) {
        size_t n = character((const unsigned char *)text + at, size - at);
        if (n == 0) {
            text[at] = '?';
        } else if (n == 1 && ((unsigned char)text[at] < ' ' || text[at] == 0x7f)) {
            text[at] = ' ';
        }
        at += n ? n : 1;
    }
    text[size] = '\0';
    return text;
}

/* --- base64 ------------------------------------------------------------------------------- */

static int digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* The text without its padding; 0 when it is too much of it, or the rest is no base64. */
static size_t digits_in(const char *text)
{
    size_t n = strlen(text), whole = n;
    while (n > 0 && text[n - 1] == '=') {
        n--;
    }
    if (whole - n > 2 || (whole > n && whole % 4 != 0) || n % 4 == 1) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (digit(text[i]) < 0) {
            return 0;
        }
    }
    return n;
}

void *grpc_base64_decode(const char *text, size_t cap, size_t *ret_size)
{
    size_t n = digits_in(text), size = n / 4 * 3 + (n % 4 ? n % 4 - 1 : 0), out = 0;
    unsigned bits = 0, held = 0;
    unsigned char *bytes;

    if (n == 0 || size > cap || !(bytes = malloc(size))) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        held = (held << 6 | (unsigned)digit(text[i])) & 0xffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes[out++] = (unsigned char)(held >> bits);
        }
    }
    *ret_size = size;
    return bytes;
}
