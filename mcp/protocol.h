#ifndef CELLBLOCK_MCP_PROTOCOL_H
#define CELLBLOCK_MCP_PROTOCOL_H

#include <jansson.h>
#include <stdbool.h>

#include "mcp/call.h"
#include "mcp/jsonrpc.h"
#include "mcp/tools.h"

/*
 * MCP's revisions: which there are, how a message says which one it speaks, and what a result looks
 * like in each. No state: the connection's is server.c's.
 *
 * Legacy revisions are negotiated once, by `initialize`. A modern request carries its revision in
 * params._meta; both may come on one connection.
 */
enum protocol {
    PROTOCOL_NONE, /* before initialize */
    PROTOCOL_2024_11_05,
    PROTOCOL_2025_03_26, /* + batches, tool annotations, progress messages */
    PROTOCOL_2025_06_18, /* + title, structuredContent, outputSchema, _meta everywhere; no batches
                          */
    PROTOCOL_2025_11_25, /* + Implementation.description */
    PROTOCOL_2026_07_28, /* modern */
    PROTOCOL_LATEST_LEGACY = PROTOCOL_2025_11_25,
};

/* "2025-06-18"; NULL for PROTOCOL_NONE. */
const char *protocol_name(enum protocol v);

static inline enum era protocol_era(enum protocol v)
{
    return v == PROTOCOL_2026_07_28 ? ERA_MODERN : ERA_LEGACY;
}

/* The legacy revision to speak with a client that asked for `requested`: that one, or our latest.
 */
enum protocol protocol_negotiate(const char *requested);

/* The revision of one request: modern by its own _meta, else the connection's. -1 with the fault to
 * answer: a modern revision that we don't speak (-32022), missing clientCapabilities (-32602). */
int protocol_of_request(const json_t *params, enum protocol connection, enum protocol *ret,
                        struct fault *fault);

/* Results. New references, NULL when out of memory. */
json_t *protocol_initialize(enum protocol v);
json_t *protocol_discover(void);
json_t *protocol_tools(enum protocol v, const struct tool *const *tools, bool structured);

/* Makes any result fit its revision, in place: takes out what is newer than the revision, and adds
 * resultType (unless it has one) and serverInfo where it is modern. */
void protocol_finish(enum protocol v, json_t *result);

/* notifications/progress for this revision; `number` is strictly increasing. */
json_t *protocol_progress(enum protocol v, json_t *token, unsigned number, json_t *message_owned);

#endif
