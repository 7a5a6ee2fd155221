#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "mcp/consent.h"
#include "mcp/policy_ask.h"
#include "mcp/server.h"
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

static void change(struct call *call, struct session *s, const struct session_changes *changes,
                   struct error *err)
{
    if (session_change(s, changes, err) < 0) {
        call_fail(call, err);
    } else {
        answer(call, s);
    }
}

/* --- a time that a person is asked about --- */

/* `data` is the id of the session that the person was told. */
static void on_allowed(struct call *call, void *data)
{
    struct session_changes changes = {.consented = true};
    struct error err = {0};
    struct session *s = session_argument(call, &err);

    if (s && strcmp(session_id(s), data) != 0) {
        error_set(
            &err, ERROR_REFUSED,
            "the session of this name is another one by now: the person agreed to a change of "
            "%s. Nothing was changed",
            (const char *)data);
        s = NULL;
    }
    if (!s || take_changes(call, &changes, &err) < 0) {
        call_fail(call, &err);
    } else {
        change(call, s, &changes, &err);
    }
    free(data);
    error_clear(&err);
}

static void ask(struct call *call, const struct session *s, double seconds,
                const struct error *refusal)
{
    const struct policy *policy = &server_config(call_server(call))->policy;
    char *wish = policy_ask_seconds(seconds);
    char *most = policy_ask_seconds(floor(session_may_live(s, policy)));
    struct consent_question question = {
        .what = string_format("timeout_seconds %g", seconds),
        .go_on = on_allowed,
        .drop = free,
        .data = strdup(session_id(s)),
    };

    if (wish && most && question.data) {
        question.message = string_format(
            "The agent asks that session %s lives longer than it may.\n\nFrom now on: "
            "%s (without asking: %s)\n\nIt counts for this session. Say no if you did "
            "not expect this.",
            session_id(s), wish, most);
    }
    free(wish);
    free(most);
    call_ask(call, &question, refusal);
}

static bool may_ask(const struct session *s, const struct session_changes *changes)
{
    struct session_changes consented = *changes;

    consented.consented = true;
    return session_change_check(s, &consented, NULL) == 0;
}

static void start(struct call *call)
{
    struct session_changes changes = {0};
    struct error err = {0};
    struct session *s = session_argument(call, &err);

    if (!s || take_changes(call, &changes, &err) < 0) {
        call_fail(call, &err);
    } else if (session_change_check(s, &changes, &err) < 0 && err.kind == ERROR_REFUSED &&
               may_ask(s, &changes)) {
        ask(call, s, changes.timeout_seconds, &err);
    } else {
        change(call, s, &changes, &err);
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
