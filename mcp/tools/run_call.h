#ifndef CELLBLOCK_MCP_TOOLS_RUN_CALL_H
#define CELLBLOCK_MCP_TOOLS_RUN_CALL_H

#include <jansson.h>
#include <stdbool.h>

#include "backends/executor.h"
#include "mcp/call.h"

/*
 * What every tool that starts a run does once it has understood its arguments: finds the session,
 * starts the run, tells its progress, and answers: with the result at its end, or at once with the
 * run's id (`background`), or with what there is after max_foreground_seconds. A tool calls
 * run_call_start and is done.
 *
 *     struct run_ask ask = {.tool = "run_command", .title = argv[0], .session = …,
 *                           .request = {.argv = argv, .workdir = …}};
 *     run_call_start(call, &ask);
 */
struct run_ask {
    const char *tool;         /* its name; static */
    const char *title;        /* what is run, for list_runs: the first line of it is shown */
    const char *session;      /* NULL: not given */
    const char *environment;  /* NULL: not given */
    const json_t *timeout;    /* seconds, a number; NULL: the environment's */
    const char *failure_note; /* told with a run that did not end well, first; NULL: none; static */
    bool ephemeral;
    bool background; /* refused when the toolset `runs` is off */
    bool may_write;  /* stdin is open where code's can be (CAP_STDIN_CODE); elsewhere it is empty */
    /* All but id, timeout_seconds and keep_full_output, which are filled in. Borrowed. */
    struct run_request request;
};

/* Takes the call. What was asked for, understood and cannot begin is answered with an outcome. */
void run_call_start(struct call *call, const struct run_ask *ask);

/* The `env` argument of a run: names of variables, texts without NUL. -1 with an error. NULL is
 * fine. */
int run_env_check(json_t *env, struct error *err);

#endif
