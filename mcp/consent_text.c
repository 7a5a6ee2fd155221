#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/consent.h"

/* What is not plainly seen, or is seen elsewhere than where it stands. */
static bool is_hidden(uint32_t c)
{
    static const struct {
        uint32_t first, last;
    } hidden[] = {
        {0x00, 0x1f},       {0x7f, 0xa0},        {0xad, 0xad},     {0x034f, 0x034f},
        {0x061c, 0x061c},   {0x115f, 0x1160},    {0x1680, 0x1680}, {0x17b4, 0x17b5},
        {0x180b, 0x180f},   {0x2000, 0x200f},    {0x2028, 0x202f}, {0x205f, 0x206f},
        {0x2800, 0x2800},   {0x3000, 0x3000},    {0x3164, 0x3164}, {0xd800, 0xf8ff},
        {0xfe00, 0xfe0f},   {0xfeff, 0xfeff},    {0xffa0, 0xffa0}, {0xfff0, 0xffff},
        {0x1d173, 0x1d17a}, {0xe0000, 0x10ffff},
    };

    for (size_t i = 0; i < sizeof(hidden) / sizeof(*hidden); i++) {
        if (c >= hidden[i].first && c <= hidden[i].last) {
            return true;
        }
    }
    return false;
}

/* The character at `s` and its bytes; 0 bytes when it is none of UTF-8. */
static size_t decode(const unsigned char *s, uint32_t *ret)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    uint32_t c = n == 1 ? s[0] : n == 0 || s[0] >= 0xf8 ? 0 : s[0] & (0xffU >> (n + 1));

    if (n == 0 || s[0] >= 0xf8) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0; /* the NUL at the end is none either */
        }
        c = c << 6 | (s[i] & 0x3fU);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
        return 0;
    }
    *ret = c;
    return n;
}

/* One character as it is shown; returns how many bytes were read. */
static size_t show(const unsigned char *s, char shown[16])
{
    uint32_t c;
    size_t n = decode(s, &c);

    if (n == 0) {
        snprintf(shown, 16, "\\x%02x", s[0]);
        return 1;
    }
    if (is_hidden(c)) {
        snprintf(shown, 16, "\\u{%x}", (unsigned)c);
    } else {
        snprintf(shown, 16, "%s%.*s", c == '"' || c == '\\' ? "\\" : "", (int)n, (const char *)s);
    }
    return n;
}

char *consent_quote(const char *text)
{
    char *quoted = text ? malloc(CONSENT_QUOTE_CAP + 1) : NULL;
    const unsigned char *s = (const unsigned char *)text;
    size_t used = 1;

    if (!quoted) {
        return NULL;
    }
    quoted[0] = '"';
    while (*s) {
        char shown[16];
        size_t read = show(s, shown), size = strlen(shown);

        if (used + size + 1 > CONSENT_QUOTE_CAP) {
            free(quoted);
            return NULL;
        }
        memcpy(quoted + used, shown, size);
        used += size;
        s += read;
    }
    quoted[used] = '"';
    quoted[used + 1] = '\0';
    return quoted;
}
