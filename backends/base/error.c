#include "backends/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { UV_OWN_CODES = 3000 }; /* libuv's own codes (UV_EAI_*, UV_EOF) lie below -3000 */

/* Stands in when there is no memory for the real message; never written, never freed. */
static char no_memory[] = "out of memory";

static void replace(struct error *err, enum error_kind kind, char *message_owned)
{
    error_clear(err);
    err->kind = kind;
    err->message = message_owned ? message_owned : no_memory;
}

int error_set(struct error *err, enum error_kind kind, const char *format, ...)
{
    char *message = NULL;
    va_list args;

    if (!err) {
        return -1;
    }
    va_start(args, format);
    /* Formatted before the old message is freed: it may be one of the arguments. */
    if (vasprintf(&message, format, args) < 0) {
        message = NULL;
    }
    va_end(args);
    replace(err, kind, message);
    return -1;
}

static const char *code_text(int code, char *space, size_t size)
{
    int number = code < 0 ? -code : code;
    /* strerror knows every errno of the system, libuv only those that it translates. */
    return number < UV_OWN_CODES ? strerror_r(number, space, size)
                                 : uv_strerror_r(-number, space, size);
}

int error_set_code(struct error *err, enum error_kind kind, int code, const char *format, ...)
{
    char space[128];
    char *context = NULL, *message = NULL;
    va_list args;

    if (!err) {
        return -1;
    }
    va_start(args, format);
    if (vasprintf(&context, format, args) < 0) {
        context = NULL;
    }
    va_end(args);
    if (context &&
        asprintf(&message, "%s: %s", context, code_text(code, space, sizeof(space))) < 0) {
        message = NULL;
    }
    free(context);
    replace(err, kind, message);
    return -1;
}

int error_wrap(struct error *err, const char *format, ...)
{
    char *context = NULL, *message = NULL;
    va_list args;

    if (!err || err->kind == ERROR_NONE) {
        return -1;
    }
    va_start(args, format);
    if (vasprintf(&context, format, args) < 0) {
        context = NULL;
    }
    va_end(args);
    /* Without memory for the context the message stays as it is: it says more than nothing. */
    if (context && asprintf(&message, "%s: %s", context, err->message) >= 0) {
        replace(err, err->kind, message);
    }
    free(context);
    return -1;
}

void error_copy(struct error *to, const struct error *from)
{
    to->kind = from->kind;
    to->message = NULL;
    if (from->message) {
        to->message = strdup(from->message);
        if (!to->message) {
            to->message = no_memory;
        }
    }
}

void error_clear(struct error *err)
{
    if (!err) {
        return;
    }
    if (err->message != no_memory) {
        free(err->message);
    }
    err->kind = ERROR_NONE;
    err->message = NULL;
}
