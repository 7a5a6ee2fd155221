#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/tools/result.h"
#include "mcp/tools/runs/runs.h"

enum { LIST_LIMIT = 36 * 1000 }; /* bytes of JSON */

struct filter {
    const char *session, *state; /* NULL: any */
};

static bool passes(const struct filter *filter, const struct run_view *view)
{
    return (!filter->session || strcmp(filter->session, view->session) == 0) &&
           (!filter->state || strcmp(filter->state, run_state_name(view->state)) == 0);
}

static json_t *entry(const struct run_view *view)
{
    return json_pack("{ss ss ss ss* sI sb ss ss}", "run", view->id, "session", view->session,
                     "state", run_state_name(view->state), "cause",
                     view->state == RUN_DONE ? cause_name(view->cause) : NULL, "seconds",
                     (json_int_t)view->seconds, "background", view->background, "tool", view->tool,
                     "title", view->title);
}

/* A session may be named; of one that has ended only its id is known. */
static int take_filter(struct call *call, struct filter *filter, struct error *err)
{
    struct sessions *sessions = server_sessions(call_server(call));
    const json_t *state = json_object_get(call_arguments(call), "state");
    const struct session *s;

    filter->state = json_string_value(state);
    if (argument_name(call, "session", &filter->session, err) < 0) {
        return -1;
    }
    s = filter->session ? sessions_find(sessions, filter->session, err) : NULL;
    filter->session = s ? session_id(s) : filter->session;
    error_clear(err);
    return 0;
}

/* The newest first; *ret_left is how many had no room. */
static json_t *list(struct run_records *records, const struct filter *filter, unsigned *ret_left)
{
    json_t *runs = json_array();
    struct run_record *record = NULL;
    size_t room = LIST_LIMIT;
    struct run_view view;

    *ret_left = 0;
    while ((record = run_records_next(records, record))) {
        json_t *one;
        size_t size;

        run_record_view(record, &view);
        if (!passes(filter, &view)) {
            continue;
        }
        one = entry(&view);
        size = json_dumpb(one, NULL, 0, JSON_COMPACT) + 1;
        if (size > room) {
            room = 0;
            (*ret_left)++;
            json_decref(one);
        } else {
            room -= size;
            json_array_append_new(runs, one);
        }
    }
    return runs;
}

static char *list_text(struct run_records *records, const struct filter *filter)
{
    unsigned left;
    json_t *runs = list(records, filter, &left), *whole = json_pack("{so}", "runs", runs);
    char *text;

    if (whole && left > 0) {
        json_object_set_new(whole, "left_out", json_integer(left));
    }
    text = whole ? json_dumps(whole, JSON_COMPACT) : NULL;
    json_decref(whole);
    return text;
}

static void start(struct call *call)
{
    struct filter filter;
    struct error err = {0};
    char *text = NULL;
    json_t *result = NULL;

    if (take_filter(call, &filter, &err) == 0) {
        text = list_text(server_runs(call_server(call)), &filter);
        result = text ? json_pack("{s[{ss ss}] sb}", "content", "type", "text", "text", text,
                                  "isError", 0)
                      : NULL;
        if (!result) {
            error_set_code(&err, ERROR_INTERNAL, ENOMEM, "the list of runs");
        }
    }
    free(text);
    if (result) {
        call_finish(call, result);
    } else {
        call_fail(call, &err);
    }
    error_clear(&err);
}

const struct tool list_runs_tool = {
    .name = "list_runs",
    .title = "List runs",
    .description = "Runs that are going or ended in the background, newest first.",
    .schema = "tools/list_runs",
    .read_only = true,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
