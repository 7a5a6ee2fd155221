#include "mcp/tools/runs/runs.h"

#include <errno.h>
#include <stdio.h>

#include "mcp/server.h"
#include "mcp/text.h"
#include "mcp/tools/result.h"

enum { TEXT_LIMIT = 4 * 1000 };

struct run_record *run_argument(struct call *call, struct run_view *ret_view, struct error *err)
{
    struct run_record *record;
    const char *id;

    if (argument_name(call, "run", &id, err) < 0) {
        return NULL;
    }
    record = run_records_find(server_runs(call_server(call)), id, err);
    if (record) {
        run_record_view(record, ret_view);
    }
    return record;
}

struct run_record *run_argument_going(struct call *call, struct run_view *ret_view,
                                      struct run **ret_run, struct error *err)
{
    struct run_record *record = run_argument(call, ret_view, err);
    char space[32];

    if (record && !(*ret_run = run_record_run(record))) {
        error_set(err, ERROR_INVALID,
                  "run \"%s\" has ended (%s, after %s); poll_run has its result", ret_view->id,
                  cause_name(ret_view->cause), run_seconds(ret_view->seconds, space));
        return NULL;
    }
    return record;
}

void call_finish_run(struct call *call, const struct run_view *view, const char *text,
                     bool is_error, json_t *fields_owned)
{
    json_t *fields = fields_owned ? fields_owned : json_object(), *result;
    struct error err = {0};

    json_object_set_new(fields, "run", json_string(view->id));
    json_object_set_new(fields, "state", json_string(run_state_name(view->state)));
    result =
        json_pack("{s[{ss so s{ss}}] sb s{ss so}}", "content", "type", "text", "text",
                  text_json(text, TEXT_LIMIT), "_meta", "cellblock/part", "note", "isError",
                  is_error, "_meta", "cellblock/session", view->session, "cellblock/run", fields);
    if (result) {
        call_finish(call, result);
        return;
    }
    error_set_code(&err, ERROR_INTERNAL, ENOMEM, "the result");
    call_fail(call, &err);
    error_clear(&err);
}
