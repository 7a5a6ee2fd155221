#ifndef CELLBLOCK_MCP_LIFELINE_H
#define CELLBLOCK_MCP_LIFELINE_H

#include <uv.h>

/*
 * What ends a server besides its input: SIGTERM, SIGINT, SIGHUP and the death of the process that
 * started it. SIGPIPE is ignored from here on, in the whole process.
 *
 * The parent is watched as a process (pidfd), not by PR_SET_PDEATHSIG: that one fires when the
 * *thread* that forked us ends, and hosts start servers from threads that do not live long. A
 * SIGHUP that was ignored when we started (nohup) stays ignored.
 */
struct lifeline;

/* `cut` is called with words for the log, once for each reason, never before this returns. NULL: no
 * memory. */
struct lifeline *lifeline_new(uv_loop_t *loop, void (*cut)(void *data, const char *why),
                              void *data);
void lifeline_close(struct lifeline *l, void (*closed)(void *data), void *data);

#endif
