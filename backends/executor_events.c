#include <string.h>

#include "backends/executor_internal.h"

/* What the kernel calls: output and the end of the current run. */

static void on_ready(void *data, const char *description)
{
    struct executor *e = data;

    (void)description;
    e->greeted = true;
    if (e->state == EXECUTOR_PREPARING) {
        executor_disarm(e); /* what is still on its way has limits of its own */
    }
    executor_check_ready(e);
}

static void on_leftover(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct executor *e = data;

    if (!e->closing && size > 0 && e->on_idle_output) {
        e->on_idle_output(e->idle_data, stream, bytes, size);
    }
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct executor *e = data;
    struct run *run = e->current;

    if (e->closing || size == 0) {
        return;
    }
    if (!run || run->ending) {
        on_leftover(e, stream, bytes, size);
        return;
    }
    executor_announce(e);
    spool_write(&run->spools[stream], run->id, stream, bytes, size);
    if (run->events.on_output && !e->closing) {
        run->events.on_output(run->data, stream, bytes, size);
    }
}

/* The run that output is of now; NULL: nobody's. */
static struct run *going(const struct executor *e)
{
    return e->current && !e->current->ending && !e->closing ? e->current : NULL;
}

/* … if it leaves some of it out. Of one that wants everything nothing is held, whatever is said. */
static struct run *going_in_part(const struct executor *e)
{
    struct run *run = going(e);

    return run && run->request.output_head > 0 ? run : NULL;
}

static void on_held(void *data, enum stream stream, uint64_t bytes, uint64_t lines)
{
    struct executor *e = data;
    struct run *run = going_in_part(e);

    if (run) {
        executor_announce(e);
        spool_skip(&run->spools[stream], bytes);
        run->events.on_held(run->data, stream, bytes, lines);
    }
}

static void on_sample(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct executor *e = data;
    struct run *run = going_in_part(e);

    if (run && run->events.on_sample) {
        executor_announce(e);
        run->events.on_sample(run->data, stream, bytes, size);
    }
}

static void on_kept(void *data, enum stream stream, uint64_t bytes)
{
    struct run *run = going(data);

    if (run) {
        spool_kept_there(&run->spools[stream], run->id, stream, bytes);
    }
}

static void on_display(void *data, const struct display *display)
{
    struct executor *e = data;

    executor_announce(e);
    if (e->current && !e->current->ending && !e->closing && e->current->events.on_display) {
        e->current->events.on_display(e->current->data, display);
    }
}

static void on_note(void *data, const char *text)
{
    struct executor *e = data;

    executor_announce(e);
    if (e->current && !e->current->ending && !e->closing && e->current->events.on_note) {
        e->current->events.on_note(e->current->data, text);
    }
}

static void on_reply(void *data, const struct kernel_reply *reply)
{
    struct executor *e = data;

    executor_announce(e);
    if (!e->current || e->current->ending || (e->box && e->box->kill_sent)) {
        return; /* too late: its machine is being ended */
    }
    if (e->closing) {
        executor_run_abandon(e->current);
        return;
    }
    outcome_of_reply(e->current, reply);
    executor_run_decided(e);
    executor_next(e);
}

static void on_refused(void *data, const struct error *err)
{
    struct executor *e = data;

    if (!e->current || e->current->ending || e->closing) {
        return;
    }
    outcome_of_start_error(e->current, err->kind, err->message);
    executor_run_decided(e);
    executor_next(e);
}

/* The clock of a run that waits at the far side stands. */
static void on_delayed(void *data, const char *what)
{
    struct executor *e = data;
    struct run *run = e->current;

    if (!run || run->stop != STOP_NONE || e->state != EXECUTOR_READY) {
        return;
    }
    if (!what) {
        executor_arm(e, e->limits.greeting);
        return;
    }
    executor_disarm(e);
    if (run->events.on_waiting && !e->closing) {
        run->events.on_waiting(run->data, what);
    }
}

static void on_begun(void *data)
{
    struct executor *e = data;

    if (e->current && e->current->stop == STOP_NONE && e->state == EXECUTOR_READY) {
        executor_run_clock(e, e->current);
    }
}

static void on_broken(void *data, const char *why)
{
    struct executor *e = data;

    if (e->state != EXECUTOR_PREPARING && e->state != EXECUTOR_READY) {
        return;
    }
    e->box->broken = strdup(why);
    /* A process that ends closes its streams first: how it ended is about to be told, and says
     * more than this does. */
    e->state = EXECUTOR_ENDING;
    executor_arm(e, e->limits.broken);
}

const struct kernel_events executor_kernel_events = {
    .on_ready = on_ready,
    .on_output = on_output,
    .on_leftover = on_leftover,
    .on_display = on_display,
    .on_note = on_note,
    .on_reply = on_reply,
    .on_broken = on_broken,
    .on_delayed = on_delayed,
    .on_begun = on_begun,
    .on_refused = on_refused,
    .on_held = on_held,
    .on_sample = on_sample,
    .on_kept = on_kept,
};
