#include <stdlib.h>
#include <string.h>

#include "backends/executor_internal.h"

/*
 * A put ends in one of three ways: the machine answers it; nothing of it moves for too long, and it
 * is answered here and given up; or its machine ends, and who started it knows that. One that is
 * cancelled is answered when the machine has undone it, unless it was there first: then it stays.
 *
 * A machine that has not answered a put is not given another one. What was given up is undone by
 * the place (machine_put_cancel), which takes a moment; a machine that does not answer even then is
 * stuck, and whatever else is to be brought in fails at once, until it does.
 */
struct put {
    struct box *box;
    struct share *share; /* the machine's, until it has answered */
    executor_progress progress;
    executor_done done; /* NULL: it was answered here, or abandoned */
    void *data;
    char *last;     /* what was said of it last; NULL */
    bool cancelled; /* the caller wants it no more; what the machine answers then decides */
    bool asked;     /* the machine was told that nobody wants it */
};

static void put_free(struct put *put)
{
    share_free(put->share);
    free(put->last);
    free(put);
}

static void on_limit(uv_timer_t *timer);

static void arm(struct executor *e, uint64_t ms)
{
    if (!e->handles_closing) {
        uv_update_time(e->place->loop);
        uv_timer_start(&e->put_timer, on_limit, ms, 0);
    }
}

static void on_progress(void *data, const char *line)
{
    struct put *put = data;
    struct executor *e = put->box->executor;
    char *copy;

    if (!put->done || put->cancelled) {
        return;
    }
    arm(e, e->limits.stall);
    copy = strdup(line);
    if (copy) {
        free(put->last);
        put->last = copy;
    }
    if (put->progress) {
        put->progress(put->data, line);
    }
}

static void on_answer(void *data, const struct error *err)
{
    struct put *put = data;
    struct box *box = put->box;
    struct executor *e = box->executor;
    executor_done done = put->done;
    void *done_data = put->data;
    struct error cancelled = {0};

    if (err && put->cancelled) {
        executor_set_cancelled(put->share, &cancelled);
        err = &cancelled;
    }
    box->put = NULL;
    box->put_stuck = false;
    if (box == e->box) {
        uv_timer_stop(&e->put_timer);
    }
    put_free(put);
    if (done) {
        done(done_data, err);
    }
    error_clear(&cancelled);
    executor_soon(e);
}

static void set_given_up(const struct executor *e, const struct put *put, struct error *err)
{
    if (put->cancelled) {
        executor_set_cancelled(put->share, err);
        return;
    }
    (void)error_set(err, ERROR_TIMEOUT,
                    "copying %s to %s was given up: nothing of it moved for %g s%s%s%s",
                    put->share->source, put->share->dest, (double)e->limits.stall / 1000,
                    put->last ? " (the last word was \"" : "", put->last ? put->last : "",
                    put->last ? "\")" : "");
}

/* The machine is to undo it, and has a moment for that. */
static void ask_to_undo(struct executor *e, struct put *put)
{
    bool asked = put->asked;

    put->asked = true;
    arm(e, e->limits.undo);
    if (!asked && e->place->ops->machine_put_cancel) {
        e->place->ops->machine_put_cancel(put->box->machine);
    }
}

static void give_up(struct executor *e, struct put *put)
{
    const struct box *box = put->box;
    executor_done done = put->done;
    struct error err = {0};

    set_given_up(e, put, &err);
    put->done = NULL;
    done(put->data, &err);
    error_clear(&err);
    if (box == e->box && box->put == put) {
        ask_to_undo(e, put);
    }
}

static void on_limit(uv_timer_t *timer)
{
    struct executor *e = timer->data;
    struct box *box = e->box;

    if (!box || !box->put || e->closing) {
        return;
    }
    if (box->put->cancelled && !box->put->asked) {
        ask_to_undo(e, box->put);
    } else if (box->put->done) {
        give_up(e, box->put);
    } else {
        box->put_stuck = true;
        executor_soon(e);
    }
}

void executor_put(struct executor *e, struct share *share_owned, executor_progress progress,
                  executor_done done, void *data)
{
    struct put *put = calloc(1, sizeof(*put));
    struct error err = {0};

    if (!put) {
        share_free(share_owned);
        (void)error_set(&err, ERROR_INTERNAL, "out of memory");
        done(data, &err);
        error_clear(&err);
        return;
    }
    *put = (struct put){e->box, share_owned, progress, done, data, NULL, false, false};
    e->box->put = put;
    arm(e, e->limits.stall);
    e->place->ops->machine_put(e->box->machine, share_owned, on_progress, on_answer, put);
}

void executor_set_cancelled(const struct share *share, struct error *err)
{
    (void)error_set(err, ERROR_LOST, "copying %s to %s was cancelled", share->source, share->dest);
}

void executor_put_cancel(struct executor *e, const void *data)
{
    struct put *put = e->box ? e->box->put : NULL;

    if (put && put->done && put->data == data && !put->cancelled) {
        put->cancelled = true;
        arm(e, 0);
    }
}

bool executor_can_put(const struct executor *e)
{
    return e->box && !e->box->put;
}

bool executor_put_is_stuck(const struct executor *e, struct error *err)
{
    if (!e->box || !e->box->put_stuck) {
        return false;
    }
    (void)error_set(err, ERROR_TIMEOUT,
                    "the sandbox does not answer: a copy to %s stalled in it, and has not ended "
                    "since it was given up. Call reset_session to have a new sandbox",
                    e->box->put->share->dest);
    return true;
}

void executor_put_abandon(struct executor *e)
{
    e->keeping = false;
    uv_timer_stop(&e->put_timer);
    if (e->box && e->box->put) {
        e->box->put->done = NULL;
    }
}

void executor_put_timer_init(struct executor *e)
{
    uv_timer_init(e->place->loop, &e->put_timer);
    e->put_timer.data = e;
}
