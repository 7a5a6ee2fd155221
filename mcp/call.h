#ifndef CELLBLOCK_MCP_CALL_H
#define CELLBLOCK_MCP_CALL_H

#include <jansson.h>
#include <stdbool.h>

#include "backends/base/error.h"
#include "backends/base/log.h"

/*
 * One tools/call in flight, as a tool sees it. server.c makes it, a tool's `start` takes it, and
 * the tool answers with exactly one of call_finish and call_fail, at once or later. A cancelled
 * call is still answered by the tool in the same way; server.c then sends nothing.
 */
struct call;
struct server;

enum era {
    ERA_LEGACY, /* initialize: 2024-11-05 … 2025-11-25; the connection has a default session */
    ERA_MODERN, /* 2026-07-28: each request by itself; sessions only by handle */
};

struct server *call_server(struct call *call);
enum era call_era(const struct call *call);

/* The tool's arguments: an object that has passed the tool's inputSchema, without the keys whose
 * value was null. */
const json_t *call_arguments(const struct call *call);

/* A line for people on how it goes, sent as notifications/progress when the request carried a
 * progressToken (else nothing): the first at once, then at most 20 a second, the newest text
 * winning. `message` may be long: the newest whole lines of it are sent. Nothing is sent after the
 * answer. */
void call_progress(struct call *call, const char *message);
bool call_wants_progress(const struct call *call);

/* notifications/message for this call: in the modern era only if the request carried a logLevel, in
 * the legacy era by the connection's level (server_log_message). */
void call_log(struct call *call, enum log_level level, const char *logger, json_t *data_owned);

/* `cancelled` is called once if the client takes the call back (notifications/cancelled) or goes
 * away; never after the answer. At most one may be set; NULL takes it out. */
void call_on_cancel(struct call *call, void (*cancelled)(void *data), void *data);

/* The answer: a CallToolResult {content, isError, structuredContent?, _meta?}, which is taken. The
 * era's extra fields (resultType, serverInfo) are added by server.c. The call is freed. */
void call_finish(struct call *call, json_t *result_owned);

/* The answer is a tool error with this text: isError true, one text block. The call is freed. */
void call_fail(struct call *call, const struct error *err);

/*
 * The client's roots as an array of absolute local paths (file:// URIs decoded, others left out).
 * Legacy clients with the `roots` capability are asked once (and again after
 * notifications/roots/list_changed), with a limit of 5 s; others, and modern ones, give an empty
 * array. `done` is called exactly once, never before this returns, with a borrowed array, or with
 * an error when the client answered none.
 */
void call_roots(struct call *call,
                void (*done)(void *data, const json_t *paths, const struct error *err), void *data);

#endif
