#include "mcp/toolsets.h"

#include "mcp/tools/runs/runs.h"

const struct tool *const runs_tools[] = {
    &poll_run_tool, &list_runs_tool, &cancel_run_tool, &signal_run_tool, &write_run_tool, NULL,
};
