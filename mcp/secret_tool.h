#ifndef CELLBLOCK_MCP_SECRET_TOOL_H
#define CELLBLOCK_MCP_SECRET_TOOL_H

#include <jansson.h>
#include <uv.h>

#include "backends/base/error.h"

/*
 * One `secret-tool lookup ATTRIBUTE VALUE …`: asks the desktop's keyring for one value, without a
 * shell and with a limit of time and of size.
 */
struct secret_tool;

/* `failed` is NULL when it found one; the bytes are the callee's to read until it returns, and are
 * wiped then. */
typedef void (*secret_tool_done)(void *data, const char *bytes, size_t size,
                                 const struct error *failed);

/* `done` is called exactly once, never before this returns. NULL with an error: it is not
 * installed, say. */
struct secret_tool *secret_tool_start(uv_loop_t *loop, const json_t *attributes, unsigned seconds,
                                      secret_tool_done done, void *data, struct error *err);
/* `done` is not called any more; it is killed. */
void secret_tool_cancel(struct secret_tool *tool);

#endif
