#ifndef CELLBLOCK_MCP_TOOLS_SESSION_TOOLS_H
#define CELLBLOCK_MCP_TOOLS_SESSION_TOOLS_H

#include "mcp/session.h"
#include "mcp/tools.h"

/*
 * The toolset `sessions`, and what its tools share. Facts are answered as JSON in one text block:
 * short, and nothing in a name can break it.
 */
extern const struct tool create_session_tool;
extern const struct tool list_sessions_tool;
extern const struct tool get_session_tool;
extern const struct tool update_session_tool;
extern const struct tool end_session_tool;

/* The session that the argument `session` names (its schema requires it), also one that is about to
 * end. NULL with an error. */
struct session *session_argument(struct call *call, struct error *err);

/* create_session with `attach`: false when that was not given. */
bool attach_session_start(struct call *call);

/* A whole number that the schema has checked. */
size_t session_argument_number(const struct call *call, const char *key, size_t otherwise);

/* Answers with one text block; `session`: the id that goes along, NULL: none. */
void session_tool_say(struct call *call, const char *session, const char *text);
/* Answers with the value as JSON (taken; NULL: out of memory). */
void session_tool_show(struct call *call, const char *session, json_t *value_owned);

/*
 * Some of a list, so that a result stays short: {KEY: […], "total": n, "next_offset": n}, where the
 * last says that there is more. Takes the list; NULL when out of memory.
 */
json_t *session_tool_page(const char *key, json_t *list_owned, size_t offset, size_t limit);

#endif
