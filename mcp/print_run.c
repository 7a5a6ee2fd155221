#include "mcp/print_run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CODE_CAP = 16 * 1024 * 1024, /* bytes of a file with code */
};

char *read_code_of(int fd, size_t *ret_size, struct error *err)
{
    char *bytes = malloc(CODE_CAP + 1);
    size_t size = 0;
    ssize_t n = 0;

    while (bytes && size <= CODE_CAP) {
        n = read(fd, bytes + size, CODE_CAP + 1 - size);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            break;
        }
        size += n > 0 ? (size_t)n : 0;
    }
    if (bytes && n >= 0 && size <= CODE_CAP) {
        *ret_size = size;
        return bytes;
    }
    error_set_code(err, ERROR_INVALID, !bytes ? ENOMEM : n < 0 ? errno : EFBIG, "cannot be read");
    free(bytes);
    return NULL;
}

bool print_bytes(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);

        if (n < 0 && errno != EINTR) {
            return false;
        }
        bytes += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

void print_display(print_output *output, void *data, const struct display *display)
{
    const json_t *text = json_object_get(display->data, "text/plain");

    if (display->kind != DISPLAY_CLEAR && text) {
        output(data, STREAM_STDOUT, json_string_value(text), json_string_length(text));
        output(data, STREAM_STDOUT, "\n", 1);
    }
}

static void say(print_output *output, void *data, const char *text)
{
    output(data, STREAM_STDERR, text, strlen(text));
}

void print_note(print_output *output, void *data, const char *text)
{
    say(output, data, "cellblock: ");
    say(output, data, text);
    say(output, data, "\n");
}

void print_outcome(print_output *output, void *data, const struct outcome *outcome)
{
    const struct run_error *error = &outcome->error;

    if (error->traceback && error->traceback[0]) {
        say(output, data, error->traceback);
        say(output, data, error->traceback[strlen(error->traceback) - 1] == '\n' ? "" : "\n");
    } else if (error->etype && !outcome->note) {
        say(output, data, error->etype);
        say(output, data, ": ");
        say(output, data, error->evalue ? error->evalue : "");
        say(output, data, "\n");
    }
    if (outcome->note) {
        print_note(output, data, outcome->note);
    }
}
