#ifndef CELLBLOCK_MCP_TOOLS_RUNS_RUNS_H
#define CELLBLOCK_MCP_TOOLS_RUNS_RUNS_H

#include <stdbool.h>

#include "mcp/call.h"
#include "mcp/run_record.h"
#include "mcp/tools.h"

/*
 * The tools for runs that go on in the background, and what they share.
 */
extern const struct tool poll_run_tool;
extern const struct tool list_runs_tool;
extern const struct tool cancel_run_tool;
extern const struct tool signal_run_tool;
extern const struct tool write_run_tool;

/* The record that the argument `run` names, and its view. NULL with an error. */
struct run_record *run_argument(struct call *call, struct run_view *ret_view, struct error *err);

/* The same, for what needs a run that is not done: *ret_run is it. */
struct run_record *run_argument_going(struct call *call, struct run_view *ret_view,
                                      struct run **ret_run, struct error *err);

/* Answers with one note, the session's and the run's id; `fields` (taken, may be NULL) go beside
 * the latter. */
void call_finish_run(struct call *call, const struct run_view *view, const char *text,
                     bool is_error, json_t *fields_owned);

#endif
