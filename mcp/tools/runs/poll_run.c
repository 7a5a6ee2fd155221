#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/tools/result.h"
#include "mcp/tools/run_page.h"
#include "mcp/tools/runs/runs.h"

enum {
    WAIT_SECONDS = 10,
    TOGETHER_MS = 100, /* after the first new output, so that what comes in bursts is one answer */
};

/* A poll that waits. */
struct poll {
    struct call *call;
    struct run_record *record;
    struct run_watcher watcher;
    uint64_t offset;
    uv_timer_t timer;
    bool has_output;
};

static void answer(struct call *call, const struct run_record *record, uint64_t offset)
{
    struct run_view view;
    struct run_page page = {.view = &view, .offset = offset};
    struct error err = {0};
    struct session *s;
    char *ports = NULL;
    json_t *result;

    run_record_view(record, &view);
    s = sessions_find(server_sessions(call_server(call)), view.session, &err);
    if (s && view.state == RUN_RUNNING && !view.ephemeral) {
        page.hint = ports = session_take_ports(s); /* a server of its own never ends by itself */
    } else if (!s && view.state == RUN_DONE) {
        page.hint = err.message; /* why its state is gone */
    }
    result = run_page_result(&page);
    free(ports);
    error_clear(&err);
    if (result) {
        call_finish(call, result);
        return;
    }
    error_set_code(&err, ERROR_INTERNAL, ENOMEM, "the output of a run");
    call_fail(call, &err);
    error_clear(&err);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void finish(struct poll *poll)
{
    run_record_unwatch(poll->record, &poll->watcher);
    answer(poll->call, poll->record, poll->offset);
    uv_close((uv_handle_t *)&poll->timer, on_closed);
}

static void on_timer(uv_timer_t *timer)
{
    finish(timer->data);
}

static void on_output(void *data, const char *bytes, size_t size)
{
    struct poll *poll = data;

    (void)bytes;
    if (size > 0 && !poll->has_output) {
        poll->has_output = true;
        if (uv_timer_get_due_in(&poll->timer) > TOGETHER_MS) {
            uv_timer_start(&poll->timer, on_timer, TOGETHER_MS, 0);
        }
    }
}

static void on_end(void *data)
{
    finish(data);
}

static void wait_for_more(struct call *call, struct run_record *record, uint64_t offset,
                          double seconds)
{
    struct poll *poll = calloc(1, sizeof(*poll));

    if (!poll) {
        answer(call, record, offset);
        return;
    }
    poll->call = call;
    poll->record = record;
    poll->offset = offset;
    poll->watcher = (struct run_watcher){.output = on_output, .done = on_end, .data = poll};
    run_record_watch(record, &poll->watcher);
    uv_timer_init(server_loop(call_server(call)), &poll->timer);
    poll->timer.data = poll;
    uv_timer_start(&poll->timer, on_timer, (uint64_t)ceil(seconds * 1000), 0);
    call_on_cancel(call, on_end, poll);
}

static double wait_argument(const struct call *call)
{
    const json_t *wait = json_object_get(call_arguments(call), "wait_seconds");

    return wait ? json_number_value(wait) : WAIT_SECONDS;
}

static void start(struct call *call)
{
    double seconds = wait_argument(call);
    struct error err = {0};
    struct run_view view;
    const char *cursor;
    uint64_t offset;
    struct run_record *record = run_argument(call, &view, &err);

    if (!record || argument_name(call, "cursor", &cursor, &err) < 0 ||
        run_cursor_parse(&view, cursor, &offset, &err) < 0) {
        call_fail(call, &err);
    } else if (view.state == RUN_DONE || seconds <= 0 || run_page_has_output(&view, offset)) {
        answer(call, record, offset);
    } else {
        wait_for_more(call, record, offset, seconds);
    }
    error_clear(&err);
}

const struct tool poll_run_tool = {
    .name = "poll_run",
    .title = "Poll a run",
    .description = "A run's output since the cursor (left out: all), and its result once it has "
                   "ended. Waits for something new.",
    .schema = "tools/poll_run",
    .read_only = true,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
