#include "backends/base/hex.h"
#include "backends/base/net/http_internal.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

static int status_line(const char *line, size_t size, long *ret)
{
    /* "HTTP/1.1 101 UPGRADED": the words may be missing */
    if (size < 12 || memcmp(line, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)line[7]) ||
        line[8] != ' ' || (size > 12 && line[12] != ' ')) {
        return -EBADMSG;
    }
    *ret = 0;
    for (size_t i = 9; i < 12; i++) {
        if (!isdigit((unsigned char)line[i])) {
            return -EBADMSG;
        }
        *ret = *ret * 10 + (line[i] - '0');
    }
    return *ret >= 100 ? 0 : -EBADMSG;
}

static bool is(const char *text, size_t size, const char *word)
{
    return size == strlen(word) && strncasecmp(text, word, size) == 0;
}

static int decimal(const char *text, size_t size, int64_t *ret)
{
    int64_t n = 0;
    if (size == 0 || size > 18) {
        return -EBADMSG;
    }
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return -EBADMSG;
        }
        n = n * 10 + (text[i] - '0');
    }
    *ret = n;
    return 0;
}

static int header_line(const char *line, size_t size, struct http_head *head)
{
    const char *colon = memchr(line, ':', size);
    if (!colon || colon == line) {
        return -EBADMSG;
    }
    size_t name = (size_t)(colon - line);
    const char *value = colon + 1, *end = line + size;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    size_t n = (size_t)(end - value);
    if (is(line, name, "content-length")) {
        return decimal(value, n, &head->length);
    }
    if (is(line, name, "transfer-encoding")) {
        head->chunked = !is(value, n, "identity");
    } else if (is(line, name, "upgrade")) {
        head->upgraded_other = !is(value, n, "tcp");
    }
    return 0;
}

ssize_t http_head_parse(const char *bytes, size_t size, struct http_head *ret)
{
    const char *end = memmem(bytes, size, "\r\n\r\n", 4);
    struct http_head head = {.length = -1};
    const char *line = bytes, *stop;

    if (!end) {
        /* What cannot become a head any more need not be waited for. */
        return memcmp(bytes, "HTTP/1.", size < 7 ? size : 7) == 0 ? 0 : -EBADMSG;
    }
    stop = memmem(line, (size_t)(end - line) + 2, "\r\n", 2);
    if (memchr(bytes, 0, (size_t)(end - bytes)) ||
        status_line(line, (size_t)(stop - line), &head.status) < 0) {
        return -EBADMSG;
    }
    while (stop < end) {
        line = stop + 2;
        stop = memmem(line, (size_t)(end - line) + 2, "\r\n", 2);
        if (header_line(line, (size_t)(stop - line), &head) < 0) {
            return -EBADMSG;
        }
    }
    *ret = head;
    return end - bytes + 4;
}

/* One chunk's size line; its length with the line end, or 0. */
static size_t chunk_size(const char *bytes, size_t size, size_t *ret)
{
    const char *end = memmem(bytes, size, "\r\n", 2);
    size_t n = 0, i = 0;
    if (!end || hex_value(bytes[0]) < 0) {
        return 0;
    }
    for (; hex_value(bytes[i]) >= 0 && i < 8; i++) {
        n = n * 16 + (size_t)hex_value(bytes[i]);
    }
    *ret = n;
    return (size_t)(end - bytes) + 2;
}

size_t http_unchunk(char *bytes, size_t size, bool *ret_whole)
{
    size_t from = 0, to = 0, n, line;

    *ret_whole = false;
    while (from < size && (line = chunk_size(bytes + from, size - from, &n)) > 0) {
        from += line;
        if (n == 0) {
            *ret_whole = true;
            break;
        }
        size_t here = n < size - from ? n : size - from;
        memmove(bytes + to, bytes + from, here);
        to += here;
        from += here;
        from += size - from < 2 ? size - from : 2; /* the line end after it */
    }
    return to;
}
