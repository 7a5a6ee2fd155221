#include "backends/base/net/http_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char status[] = "HTTP/";

unsigned http_line_version(const char *line, size_t size)
{
    size_t n = sizeof(status) - 1;
    if (size <= n || memcmp(line, status, n) != 0 || !isdigit((unsigned char)line[n])) {
        return 0;
    }
    return (unsigned)(line[n] - '0');
}

int http_line_field(const char *line, size_t size,
                    void (*take)(void *data, const char *name, const char *value, bool trailer),
                    void *data, bool trailer)
{
    const char *colon = memchr(line, ':', size);
    char *copy, *value;

    if (!colon || colon == line || http_line_version(line, size) > 0) {
        return 0;
    }
    while (size > 0 && isspace((unsigned char)line[size - 1])) {
        size--;
    }
    copy = strndup(line, size);
    if (!copy) {
        return -ENOMEM;
    }
    value = strchr(copy, ':');
    if (value) { /* else there is a NUL before it */
        *value++ = '\0';
        take(data, copy, value + strspn(value, " \t"), trailer);
    }
    free(copy);
    return 0;
}
