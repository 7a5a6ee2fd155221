#ifndef CELLBLOCK_MCP_RESOURCES_H
#define CELLBLOCK_MCP_RESOURCES_H

#include <jansson.h>

#include "mcp/jsonrpc.h"
#include "mcp/protocol.h"

/*
 * MCP's resources: what runs have left (artifacts.h), as the methods resources/list,
 * resources/templates/list and resources/read, and the notification that the list has changed.
 */
struct batch;
struct server;

/* 0 with *ret, or -1 with the fault. */
int resources_list(struct server *s, enum protocol version, const json_t *params, json_t **ret,
                   struct fault *fault);
int resources_templates(enum protocol version, const json_t *params, json_t **ret,
                        struct fault *fault);
/* 0: it answers by itself, at once or later. */
int resources_read(struct server *s, enum protocol version, const struct message *m,
                   struct batch *batch, struct fault *fault);

/* Tells the client from now on when the list changes: a legacy one always, a modern one on the
 * subscriptions that asked for it. */
void resources_watch(struct server *s);

/* What a subscription is told of its wish for `resourcesListChanged`: {…}, to be acknowledged; it
 * is noted under the id. NULL when out of memory. */
json_t *resources_subscribe(struct server *s, const json_t *wanted, json_t *id);

#endif
