#include "mcp/one_run.h"

#include <errno.h>
#include <signal.h>

/*
 * Each step is started by the completion of the one before it:
 *
 *   add_next_share → on_share … → start_run → on_done → close_executor → on_executor_closed →
 *   on_place_closed → the loop has nothing left and ends
 */
static const int signals[ONE_RUN_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};

static void on_place_closed(void *data)
{
    struct one_run *r = data;

    for (size_t i = 0; i < ONE_RUN_SIGNALS; i++) {
        uv_close((uv_handle_t *)&r->signals[i], NULL);
    }
}

static void on_executor_closed(void *data, const struct error *err)
{
    struct one_run *r = data;

    (void)err;
    if (r->before_close) {
        r->before_close(r->data, r->place);
    }
    place_close(r->place, on_place_closed, r);
}

static void close_executor(struct one_run *r)
{
    executor_close(r->executor, on_executor_closed, r);
}

static void on_done(void *data, const struct outcome *outcome)
{
    struct one_run *r = data;

    r->run = NULL;
    r->events->on_done(r->data, outcome);
    close_executor(r);
}

/* The caller's callbacks with the caller's data, but for the last one. */
static void on_waiting(void *data, const char *what)
{
    struct one_run *r = data;

    if (r->events->on_waiting) {
        r->events->on_waiting(r->data, what);
    }
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct one_run *r = data;

    if (r->events->on_output) {
        r->events->on_output(r->data, stream, bytes, size);
    }
}

static void on_display(void *data, const struct display *display)
{
    struct one_run *r = data;

    if (r->events->on_display) {
        r->events->on_display(r->data, display);
    }
}

static void on_note(void *data, const char *text)
{
    struct one_run *r = data;

    if (r->events->on_note) {
        r->events->on_note(r->data, text);
    }
}

static const struct run_events own_events = {
    .on_waiting = on_waiting,
    .on_output = on_output,
    .on_display = on_display,
    .on_note = on_note,
    .on_done = on_done,
};

static void start_run(struct one_run *r)
{
    r->run = executor_run(r->executor, &r->request, &own_events, r, r->err);
    if (!r->run) {
        close_executor(r);
    }
}

static void add_next_share(struct one_run *r);

static void on_share(void *data, const struct error *err)
{
    struct one_run *r = data;

    if (err) {
        error_copy(r->err, err);
        close_executor(r);
    } else if (r->signal) {
        error_set(r->err, ERROR_LOST, "stopped before the run began");
        close_executor(r);
    } else {
        add_next_share(r);
    }
}

static void add_next_share(struct one_run *r)
{
    struct share *share;

    if (r->next_share == r->share_count) {
        start_run(r);
        return;
    }
    share = r->shares[r->next_share];
    r->shares[r->next_share++] = NULL;
    executor_add_share(r->executor, share, NULL, on_share, r);
}

void one_run_stop(struct one_run *r, int signal)
{
    if (!r->signal) {
        r->signal = signal;
    }
    if (r->run) {
        run_cancel(r->run);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    /* From now on this signal does what it does by default: a second one ends us at once. */
    uv_signal_stop(handle);
    one_run_stop(handle->data, number);
}

static void watch_signals(struct one_run *r)
{
    for (size_t i = 0; i < ONE_RUN_SIGNALS; i++) {
        uv_signal_init(&r->loop, &r->signals[i]);
        r->signals[i].data = r;
        uv_signal_start(&r->signals[i], on_signal, signals[i]);
        uv_unref((uv_handle_t *)&r->signals[i]);
    }
}

static int begin(struct one_run *r)
{
    if (place_open(&r->loop, r->env, &r->place, r->err) < 0) {
        return -1;
    }
    watch_signals(r);
    r->executor = executor_new(r->place);
    if (!r->executor) {
        place_close(r->place, on_place_closed, r);
        return error_set_code(r->err, ERROR_INTERNAL, ENOMEM, "cannot start");
    }
    add_next_share(r);
    return 0;
}

int one_run_execute(struct one_run *r, struct error *err)
{
    struct error failure = {0};
    int status = uv_loop_init(&r->loop);

    if (status < 0) {
        return error_set_code(err, ERROR_INTERNAL, status, "cannot make an event loop");
    }
    r->err = &failure;
    begin(r);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    uv_loop_close(&r->loop);
    if (failure.kind == ERROR_NONE) {
        return 0;
    }
    error_set(err, failure.kind, "%s", failure.message);
    error_clear(&failure);
    return -1;
}
