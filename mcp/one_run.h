#ifndef CELLBLOCK_MCP_ONE_RUN_H
#define CELLBLOCK_MCP_ONE_RUN_H

#include <stddef.h>
#include <uv.h>

#include "backends/base/error.h"
#include "backends/base/log.h"
#include "backends/executor.h"
#include "backends/place.h"

/*
 * One run in a sandbox of its own, from nothing to nothing: `cellblock run` and `cellblock doctor`.
 * The caller
 *   1. fills the first part of a zeroed struct one_run;
 *   2. calls one_run_execute, which has a loop of its own and returns when all is closed;
 *   3. has got the outcome in events.on_done, or an error if it did not come so far.
 * SIGINT, SIGTERM and SIGHUP cancel the run; a second one of the same kind ends the process.
 */
enum {
    ONE_RUN_SIGNALS = 3,
};

struct one_run {
    const struct environment *env;
    struct run_request request;
    const struct run_events *events; /* on_done is set */
    /* Called after the run, also when it could not be started: the place is still open. May be
     * NULL. */
    void (*before_close)(void *data, struct place *place);
    void *data;            /* for the events and before_close */
    struct share **shares; /* taken one by one; what is left afterwards is NULL */
    size_t share_count;

    int signal; /* that made us stop; 0 when none did */

    uv_loop_t loop; /* from here on one_run.c's own */
    uv_signal_t signals[ONE_RUN_SIGNALS];
    struct place *place;
    struct executor *executor;
    struct run *run; /* while it is going */
    size_t next_share;
    struct error *err;
};

/* 0 after on_done, or -1 with an error and no on_done. */
int one_run_execute(struct one_run *r, struct error *err);

/* Cancels the run as if `signal` had come. */
void one_run_stop(struct one_run *r, int signal);

#endif
