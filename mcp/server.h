#ifndef CELLBLOCK_MCP_SERVER_H
#define CELLBLOCK_MCP_SERVER_H

#include <jansson.h>
#include <uv.h>

#include "backends/base/log.h"
#include "mcp/config.h"
#include "mcp/tools.h"

/*
 * One MCP server on one connection: both eras, decided for each message (protocol.c), requests
 * answered as they get done, never in the way of each other.
 *
 * server.c owns the connection's state (what the client declared, the requests in flight, the
 * sessions); stdio.c moves the bytes; jsonrpc.c knows what a message is.
 */
struct server;
struct run_records;
struct snapshots;
struct sessions;

struct server_options {
    const struct config *config;     /* outlives the server */
    const struct tool *const *tools; /* NULL-terminated, in a fixed order */
    struct log *log;
    int in_fd;  /* the client's messages; not closed */
    int out_fd; /* ours; not closed */
};

/* Reads and answers until the end of input with nothing in flight, a reader that went away, or
 * server_stop; then sessions are closed and everything is removed, and `stopped` is called (never
 * before this returns). NULL with `err` when the descriptors cannot be used. */
struct server *server_new(uv_loop_t *loop, const struct server_options *options,
                          void (*stopped)(void *data), void *data, struct error *err);

/* Stop at once: runs in flight are cancelled, nothing more is read. Idempotent. */
void server_stop(struct server *server);

void server_free(struct server *server); /* after `stopped` */

const struct config *server_config(const struct server *server);
struct sessions *server_sessions(struct server *server);
struct run_records *server_runs(struct server *server);
struct snapshots *server_snapshots(struct server *server);
uv_loop_t *server_loop(struct server *server);
struct log *server_log(struct server *server);

/* notifications/message to a legacy client: from the level that it asked for with logging/setLevel,
 * `info` until it did. Dropped while the client does not read. call_log is the one for what belongs
 * to a call. */
void server_log_message(struct server *server, enum log_level level, const char *logger,
                        json_t *data_owned);

#endif
