#include "mcp/server.h"
#include "mcp/snapshots.h"
#include "mcp/tools/sessions/session_tools.h"
#include "mcp/tools/snapshots/snapshots_tools.h"

static void start(struct call *call)
{
    json_t *list = snapshots_list(server_snapshots(call_server(call)));

    session_tool_show(call, NULL, session_tool_page("snapshots", list, 0, SNAPSHOTS_CAP));
}

const struct tool list_snapshots_tool = {
    .name = "list_snapshots",
    .title = "List snapshots",
    .description = "This server's, newest first.",
    .schema = "tools/list_snapshots",
    .read_only = true,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
