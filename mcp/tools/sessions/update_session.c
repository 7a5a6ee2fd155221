#include <stdlib.h>

#include "backends/base/strings.h"
#include "mcp/tools/result.h"
#include "mcp/tools/sessions/session_tools.h"

static int take_changes(const struct call *call, struct session_changes *changes, struct error *err)
{
    const json_t *timeout = json_object_get(call_arguments(call), "timeout_seconds");

    changes->timeout_seconds = json_number_value(timeout);
    changes->tags = json_object_get(call_arguments(call), "tags");
    if (argument_name(call, "name", &changes->name, err) < 0) {
        return -1;
    }
    if (!timeout && !changes->tags && !changes->name) {
        return error_set(err, ERROR_INVALID,
                         "nothing to change: give timeout_seconds, tags or name");
    }
    return 0;
}

static void answer(struct call *call, struct session *s)
{
    json_t *facts = session_facts(s, 0);
    json_t *tags = json_object_get(facts, "tags");
    const char *name = json_string_value(json_object_get(facts, "name"));
    char *tags_text = tags ? json_dumps(tags, JSON_COMPACT) : NULL;
    char *text =
        string_format("Session %s%s%s%s ends at %s, or after %g s without use. Tags: %s.",
                      session_id(s), name ? " (" : "", name ? name : "", name ? ")" : "",
                      json_string_value(json_object_get(facts, "ends_at")),
                      session_environment(s)->idle_timeout_seconds, tags_text ? tags_text : "none");

    session_tool_say(call, session_id(s), text ? text : "The session is changed.");
    free(text);
    free(tags_text);
    json_decref(facts);
}

static void start(struct call *call)
{
    struct session_changes changes = {0};
    struct error err = {0};
    struct session *s = session_argument(call, &err);

    if (!s || take_changes(call, &changes, &err) < 0 || session_change(s, &changes, &err) < 0) {
        call_fail(call, &err);
    } else {
        answer(call, s);
    }
    error_clear(&err);
}

const struct tool update_session_tool = {
    .name = "update_session",
    .title = "Change a session",
    .description = "A new end, counted from now, a name, or tags.",
    .schema = "tools/update_session",
    .read_only = false,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
