#ifndef CELLBLOCK_MCP_OWN_SESSIONS_H
#define CELLBLOCK_MCP_OWN_SESSIONS_H

#include <uv.h>

#include "backends/base/error.h"
#include "backends/base/log.h"
#include "mcp/config.h"
#include "mcp/session.h"

/* Sessions without a server: what the commands for people (sessions, attach, stop) work on. */
struct own_sessions {
    uv_loop_t loop;
    struct log *log; /* on stderr */
    struct sessions *sessions;
};

/* -1 with an error, and then nothing is open. */
int own_sessions_open(struct own_sessions *own, const struct config *config, struct error *err);
/* Runs the loop until all is over: `sessions` have been told to close. */
void own_sessions_finish(struct own_sessions *own);

#endif
