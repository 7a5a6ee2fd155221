#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mcp/server.h"
#include "mcp/tools/runs/runs.h"

enum { LIMIT_MS = 15 * 1000 }; /* an interrupt, its grace and a kill take about two seconds here */

/* A call that waits for the run's end. */
struct cancel {
    struct call *call;
    struct run_record *record;
    struct run_watcher watcher;
    uv_timer_t timer;
};

static void answer(struct call *call, const struct run_record *record)
{
    struct run_view view;
    char text[256], space[32];
    bool cancelled;

    run_record_view(record, &view);
    cancelled = view.state == RUN_DONE && view.cause == CAUSE_CANCELLED;
    run_seconds(view.seconds, space);
    if (view.state != RUN_DONE) {
        snprintf(text, sizeof(text),
                 "cancelled: false. Run %s was asked to end and has not within %d s; poll_run "
                 "tells when it has.",
                 view.id, LIMIT_MS / 1000);
    } else if (cancelled) {
        snprintf(text, sizeof(text),
                 "cancelled: true. Run %s stopped after %s; poll_run has what it gave.", view.id,
                 space);
    } else {
        snprintf(text, sizeof(text),
                 "cancelled: false. Run %s had ended already (%s, after %s); poll_run has what "
                 "it gave.",
                 view.id, cause_name(view.cause), space);
    }
    call_finish_run(call, &view, text, view.state != RUN_DONE,
                    json_pack("{sb}", "cancelled", cancelled));
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void finish(struct cancel *cancel)
{
    run_record_unwatch(cancel->record, &cancel->watcher);
    answer(cancel->call, cancel->record);
    uv_close((uv_handle_t *)&cancel->timer, on_closed);
}

static void on_timer(uv_timer_t *timer)
{
    finish(timer->data);
}

static void on_end(void *data)
{
    finish(data);
}

static int cancel_and_wait(struct call *call, struct run_record *record, struct error *err)
{
    struct cancel *cancel = calloc(1, sizeof(*cancel));

    if (!cancel) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "cancel_run");
    }
    cancel->call = call;
    cancel->record = record;
    cancel->watcher = (struct run_watcher){.done = on_end, .data = cancel};
    run_record_watch(record, &cancel->watcher);
    uv_timer_init(server_loop(call_server(call)), &cancel->timer);
    cancel->timer.data = cancel;
    uv_timer_start(&cancel->timer, on_timer, LIMIT_MS, 0);
    call_on_cancel(call, on_end, cancel);
    run_record_cancel(record);
    return 0;
}

static void start(struct call *call)
{
    struct error err = {0};
    struct run_view view;
    struct run_record *record = run_argument(call, &view, &err);

    if (record && view.state == RUN_DONE) {
        answer(call, record);
    } else if (!record || cancel_and_wait(call, record, &err) < 0) {
        call_fail(call, &err);
    }
    error_clear(&err);
}

const struct tool cancel_run_tool = {
    .name = "cancel_run",
    .title = "Cancel a run",
    .description = "Interrupts a run, and kills it if that does not help.",
    .schema = "tools/cancel_run",
    .read_only = false,
    .destructive = true,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
