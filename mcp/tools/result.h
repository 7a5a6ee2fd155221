#ifndef CELLBLOCK_MCP_TOOLS_RESULT_H
#define CELLBLOCK_MCP_TOOLS_RESULT_H

#include <jansson.h>
#include <stdbool.h>

#include "mcp/call.h"
#include "mcp/session.h"

/*
 * What the tools share: arguments out of checked JSON, and short results.
 */

/* A string argument; NULL when it was left out. -1 with an error when it holds a NUL, which no name
 * or path may. */
int argument_name(const struct call *call, const char *key, const char **ret, struct error *err);
bool argument_bool(const struct call *call, const char *key, bool otherwise);

/* "… pass "session": "s-…" to go on in it": what a session that was made for a call is told with.
 * Put after what session_take_notice says, if anything. NULL when there is nothing to say; to be
 * freed. */
char *session_hint(struct session *s, bool made);

/* Answers with text blocks (the second one may be NULL), part `note`, and the session's id. */
void call_finish_text(struct call *call, const struct session *s, const char *text,
                      const char *hint);

/* Answers with an error's text, and the session's id, so that one that was made for the call is not
 * lost. */
void call_fail_in(struct call *call, const struct session *s, const struct error *err,
                  const char *hint);

#endif
