#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "mcp/server.h"
#include "mcp/tools/result.h"
#include "mcp/tools/sessions/session_tools.h"

enum {
    ID_ROOM = 16,
};

struct end_call {
    struct call *call;
    struct session *session; /* until it is gone */
    char id[ID_ROOM];
};

/* What became of it, from what is remembered; `more` after it. */
static void answer(struct call *call, const char *id, const char *more)
{
    char *end = sessions_tell_end(server_sessions(call_server(call)), id);
    char *text = string_format("%s%s", end ? end : "the session has ended", more);

    if (text && text[0] == 's') {
        text[0] = 'S';
    }
    session_tool_say(call, id, text ? text : "The session has ended.");
    free(text);
    free(end);
}

static void on_gone(void *data, const struct error *err)
{
    struct end_call *ec = data;

    (void)err;
    answer(ec->call, ec->id, "; nothing of it is left.");
    free(ec);
}

static void on_cancelled(void *data)
{
    struct end_call *ec = data;

    session_finish_forget(ec->session, ec);
    session_tool_say(ec->call, ec->id, "The session is ending.");
    free(ec);
}

static bool is_kill(const struct call *call)
{
    const char *how = json_string_value(json_object_get(call_arguments(call), "how"));

    return how && strcmp(how, "kill") == 0;
}

static int end(struct call *call, struct session *s, struct error *err)
{
    struct end_call *ec = calloc(1, sizeof(*ec));

    if (!ec) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "end_session");
    }
    *ec = (struct end_call){.call = call, .session = s};
    strncpy(ec->id, session_id(s), sizeof(ec->id) - 1);
    if (session_finish(s, is_kill(call), on_gone, ec, err) < 0) {
        free(ec);
        return -1;
    }
    call_on_cancel(call, on_cancelled, ec);
    return 0;
}

/* One that was left is found first, so it takes as long as that. */
static void on_left_gone(void *data, const struct error *err)
{
    struct end_call *ec = data;

    if (ec->call && err) {
        call_fail(ec->call, err);
    } else if (ec->call) {
        answer(ec->call, ec->id, "; nothing of it is left.");
    }
    free(ec);
}

static void on_left_cancelled(void *data)
{
    struct end_call *ec = data;

    session_tool_say(ec->call, ec->id, "The session is ending.");
    ec->call = NULL;
}

static bool is_left(const struct call *call)
{
    json_t *facts =
        sessions_left_facts(json_string_value(json_object_get(call_arguments(call), "session")));

    json_decref(facts);
    return facts != NULL;
}

static int end_left(struct call *call, const char *id, struct error *err)
{
    struct end_call *ec = calloc(1, sizeof(*ec));

    if (!ec) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "end_session");
    }
    *ec = (struct end_call){.call = call};
    strncpy(ec->id, id, sizeof(ec->id) - 1);
    if (sessions_end_left(server_sessions(call_server(call)), id, is_kill(call), on_left_gone, ec,
                          err) < 0) {
        free(ec);
        return -1;
    }
    call_on_cancel(call, on_left_cancelled, ec);
    return 0;
}

static void start(struct call *call)
{
    struct sessions *sessions = server_sessions(call_server(call));
    struct error err = {0};
    struct session *s = session_argument(call, &err);

    if (!s && is_left(call)) {
        if (end_left(call, json_string_value(json_object_get(call_arguments(call), "session")),
                     &err) < 0) {
            call_fail(call, &err);
        }
    } else if (!s &&
               err.kind == ERROR_LOST) { /* it has ended already, which is what was asked for */
        const char *name = json_string_value(json_object_get(call_arguments(call), "session"));

        answer(call, sessions_ended_id(sessions, name), ". There was nothing to do.");
    } else if (!s || end(call, s, &err) < 0) {
        call_fail(call, &err);
    }
    error_clear(&err);
}

const struct tool end_session_tool = {
    .name = "end_session",
    .title = "End a session",
    .description =
        "Variables, files and processes are gone then. graceful: what is going on may finish, for "
        "up to 30 s.",
    .schema = "tools/end_session",
    .read_only = false,
    .destructive = true,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
