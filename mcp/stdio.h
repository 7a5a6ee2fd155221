#ifndef CELLBLOCK_MCP_STDIO_H
#define CELLBLOCK_MCP_STDIO_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "backends/base/error.h"

/*
 * Lines in, bytes out, on two descriptors of any kind (pipe, socket, terminal, file, /dev/null),
 * without ever blocking the loop and with bounded memory.
 *
 * Input: one message a line; a CR before the newline and empty lines are dropped; a last line
 * without a newline counts. A line longer than MESSAGE_CAP is told once (on_too_long) and skipped.
 * Output: written at once where the reader takes it, else queued. Past STDIO_QUEUE_HIGH bytes in
 * the queue nothing more is read until the reader has taken most of it.
 */
enum {
    STDIO_QUEUE_HIGH = 8 * 1024 * 1024,
    STDIO_QUEUE_LOW = 1024 * 1024,
    STDIO_QUEUE_CAP =
        256 * 1024 * 1024, /* answers to what was in flight; then the reader is given up */
};

struct stdio;

/* Never called before stdio_open has returned, nor from within stdio_write, nor after stdio_close.
 */
struct stdio_events {
    void (*on_line)(void *data, const char *line, size_t size); /* the bytes are borrowed */
    void (*on_too_long)(void *data);
    void (*on_end)(void *data);  /* end of input; once, after the last line */
    void (*on_gone)(void *data); /* nobody reads our output any more; once */
};

/* Takes the protocol off 0 and 1: *ret_in and *ret_out are close-on-exec copies (the caller closes
 * them), fd 0 becomes /dev/null and fd 1 goes where fd 2 goes, so that a stray print cannot harm.
 */
int stdio_claim(int *ret_in, int *ret_out, struct error *err);

/* The descriptors are not closed; `events` is copied. NULL with an error when they cannot be used.
 */
struct stdio *stdio_open(uv_loop_t *loop, int in_fd, int out_fd, const struct stdio_events *events,
                         void *data, struct error *err);

/* Whole lines. Bytes for a reader that has gone are dropped. */
void stdio_write(struct stdio *s, const char *bytes, size_t size);

/* The reader is slow: leave out what may be left out. */
bool stdio_congested(const struct stdio *s);

/* Input is a file: all of it is there at once and nobody waits for single answers. */
bool stdio_reads_file(const struct stdio *s);

/* Nothing is read, and no line delivered, while it is held. */
void stdio_hold(struct stdio *s, bool hold);

/* No line and no end is told any more. */
void stdio_stop_reading(struct stdio *s);

/* Ends it and frees it; what is queued is still written for at most linger_ms. `closed` is called
 * last, never before this returns. */
void stdio_close(struct stdio *s, unsigned linger_ms, void (*closed)(void *data), void *data);

#endif
