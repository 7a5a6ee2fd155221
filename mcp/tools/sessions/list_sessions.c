#include "mcp/server.h"
#include "mcp/tools/result.h"
#include "mcp/tools/sessions/session_tools.h"

enum {
    ROWS = 100,
};

static void start(struct call *call)
{
    struct sessions *sessions = server_sessions(call_server(call));
    const json_t *tags = json_object_get(call_arguments(call), "tags");
    json_t *list = sessions_list(sessions, tags, argument_bool(call, "ended", false));

    sessions_sweep(sessions);
    session_tool_show(
        call, NULL,
        session_tool_page("sessions", list, session_argument_number(call, "offset", 0), ROWS));
}

const struct tool list_sessions_tool = {
    .name = "list_sessions",
    .title = "List sessions",
    .description = "The live ones, newest first; with ended also why and when others ended.",
    .schema = "tools/list_sessions",
    .read_only = true,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
