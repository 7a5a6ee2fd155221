#include "mcp/tools/sessions/session_tools.h"

static void start(struct call *call)
{
    struct error err = {0};
    struct session *s = session_argument(call, &err);
    const char *name = json_string_value(json_object_get(call_arguments(call), "session"));
    json_t *left = s ? NULL : sessions_left_facts(name);

    if (s) {
        session_tool_show(call, session_id(s),
                          session_facts(s, session_argument_number(call, "log_tail", 0)));
    } else if (left) {
        session_tool_show(call, name, left);
    } else {
        call_fail(call, &err);
    }
    error_clear(&err);
}

const struct tool get_session_tool = {
    .name = "get_session",
    .title = "Look at a session",
    .description = "State, end, limits, shares, tags, usage of the last run; log_tail: output "
                   "between runs.",
    .schema = "tools/get_session",
    .read_only = true,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
