#include "mcp/tools/sessions/session_tools.h"

static void start(struct call *call)
{
    struct error err = {0};
    struct session *s = session_argument(call, &err);

    if (s) {
        session_tool_show(call, session_id(s),
                          session_facts(s, session_argument_number(call, "log_tail", 0)));
    } else {
        call_fail(call, &err);
    }
    error_clear(&err);
}

const struct tool get_session_tool = {
    .name = "get_session",
    .title = "Look at a session",
    .description =
        "State, end, limits, shares, tags, usage of the last run, and with log_tail what was "
        "printed between runs.",
    .schema = "tools/get_session",
    .read_only = true,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
