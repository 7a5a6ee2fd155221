#ifndef CELLBLOCK_TESTS_WIRE_H
#define CELLBLOCK_TESTS_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "backends/base/buffer.h"
#include "mcp/config.h"
#include "mcp/server.h"

/*
 * A client for tests: a server with fake tools and fake sessions in this process, pipes to and from
 * it, and a loop that is turned until what is waited for is there. Every wait ends after
 * WIRE_LIMIT_MS with a failure.
 */
enum { WIRE_LIMIT_MS = 10000 };

struct wire {
    uv_loop_t loop;
    struct config config;
    struct server *server;
    int to, from;      /* our ends; -1 when closed */
    int in_fd, out_fd; /* the server's */
    bool stopped;
    struct buffer received;
};

void wire_open(struct wire *w, const struct tool *const *tools);
/* Like wire_open with an input of the caller's (closed by wire_close). */
void wire_open_input(struct wire *w, const struct tool *const *tools, int in_fd);
/* Writes all of it while the loop turns. */
void wire_send_bytes(struct wire *w, const char *bytes, size_t size);
/* A line; ' stands for " so that JSON reads well in C. */
void wire_send(struct wire *w, const char *line);
/* The next message; new reference. */
json_t *wire_read(struct wire *w);
/* The next message must be this JSON (' for "). */
void wire_expect(struct wire *w, const char *json);
/* initialize in this version, its answer read. */
void wire_initialize(struct wire *w, const char *version, const char *capabilities);
/* Nothing arrives while the loop turns for a while. */
void wire_expect_silence(struct wire *w, unsigned ms);
/* Turns the loop for some time. */
void wire_turn(struct wire *w, unsigned ms);
void wire_end_input(struct wire *w);
/* Turns the loop until `stopped`. */
void wire_wait_stopped(struct wire *w);
/* Ends input if it is still open, waits for the end, frees all; the loop must close clean. */
void wire_close(struct wire *w);

/* How many fake sessions were made and closed since wire_open. */
struct fake_sessions {
    int opened, closed;
};
extern struct fake_sessions fake_sessions;

#endif
