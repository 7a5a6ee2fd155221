#include "backends/base/strings.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *format_list(const char *format, va_list args)
{
    char *text = NULL;

    return vasprintf(&text, format, args) < 0 ? NULL : text;
}

char *string_format(const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    text = format_list(format, args);
    va_end(args);
    return text;
}

static void add_owned(struct strings *s, char *text)
{
    if (text && s->count + 1 >= s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        char **list = realloc(s->list, room * sizeof(*list));
        if (list) {
            s->list = list;
            s->room = room;
        }
    }
    if (!text || s->count + 1 >= s->room) {
        free(text);
        s->failed = 1;
        return;
    }
    s->list[s->count++] = text;
    s->list[s->count] = NULL;
}

void strings_add(struct strings *s, const char *text)
{
    add_owned(s, strdup(text));
}

void strings_add_format(struct strings *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_owned(s, format_list(format, args));
    va_end(args);
}

void strings_add_all(struct strings *s, const char *const *texts)
{
    for (; *texts; texts++) {
        strings_add(s, *texts);
    }
}

int strings_ok(const struct strings *s)
{
    return s->failed || !s->list ? -ENOMEM : 0;
}

void strings_free(struct strings *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->list[i]);
    }
    free(s->list);
    memset(s, 0, sizeof(*s));
}
