#include "backends/executor.h"

#include <stdlib.h>
#include <string.h>

#include "backends/executor_internal.h"

enum {
    START_LIMIT_MS = 60 * 1000,
    START_WHOLE_LIMIT_MS = 1800 * 1000,
    GREETING_LIMIT_MS = 30 * 1000,
    STALL_LIMIT_MS = 60 * 1000,
    UNDO_LIMIT_MS = 10 * 1000,
    YOUNG_MS = 50,
    GRACE_MS = 1000,
    BROKEN_GRACE_MS = 100,
    KILL_LIMIT_MS = 10 * 1000,
    FILE_LIMIT_MS = 60 * 1000,
};

/* ---- lists of runs ---- */

void run_list_push(struct run_list *list, struct run *run)
{
    run->next = NULL;
    if (list->last) {
        list->last->next = run;
    } else {
        list->first = run;
    }
    list->last = run;
    list->count++;
}

void run_list_push_front(struct run_list *list, struct run *run)
{
    run->next = list->first;
    list->first = run;
    if (!list->last) {
        list->last = run;
    }
    list->count++;
}

struct run *run_list_pop(struct run_list *list)
{
    struct run *run = list->first;

    if (run) {
        list->first = run->next;
        if (!list->first) {
            list->last = NULL;
        }
        list->count--;
        run->next = NULL;
    }
    return run;
}

bool run_list_remove(struct run_list *list, struct run *run)
{
    struct run *before = NULL;

    for (struct run *at = list->first; at; before = at, at = at->next) {
        if (at != run) {
            continue;
        }
        if (before) {
            before->next = run->next;
        } else {
            list->first = run->next;
        }
        if (list->last == run) {
            list->last = before;
        }
        list->count--;
        run->next = NULL;
        return true;
    }
    return false;
}

/* ---- the timer ---- */

/* On the place's silence, or on the whole. */
static void start_took_too_long(struct executor *e)
{
    struct error err = {0};

    (void)error_set(&err, ERROR_TIMEOUT, "the sandbox did not start within its limit%s%s%s",
                    e->waiting_what ? "; what was heard of it last: \"" : "",
                    e->waiting_what ? e->waiting_what : "", e->waiting_what ? "\"" : "");
    executor_fail_start(e, err.kind, err.message);
    error_clear(&err);
}

static void on_timer(uv_timer_t *timer)
{
    struct executor *e = timer->data;

    switch (e->state) {
    case EXECUTOR_STARTING:
        start_took_too_long(e);
        break;
    case EXECUTOR_PREPARING:
        executor_fail_start(e, ERROR_TIMEOUT,
                            "the sandbox's worker did not greet within its limit");
        break;
    case EXECUTOR_READY:
        executor_run_timer(e);
        break;
    case EXECUTOR_ENDING:
        executor_kill(e);
        break;
    case EXECUTOR_IDLE:
        break;
    }
}

void executor_arm(struct executor *e, uint64_t ms)
{
    if (!e->handles_closing) {
        /* The loop's idea of now is as old as the callback that we are in. */
        uv_update_time(e->place->loop);
        uv_timer_start(&e->timer, on_timer, ms, 0);
    }
}

void executor_disarm(struct executor *e)
{
    uv_timer_stop(&e->timer);
}

/* ---- soon ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct executor *e = handle->data;
    executor_done closed = e->closed;
    void *data = e->closed_data;

    if (--e->open_handles > 0) {
        return;
    }
    executor_free_shares(e);
    free(e->waiting_what);
    free(e->restart_note);
    executor_free_kept(e);
    free(e);
    if (closed) {
        closed(data, NULL);
    }
}

static void close_handles(struct executor *e)
{
    if (e->handles_closing) {
        return;
    }
    e->handles_closing = true;
    uv_close((uv_handle_t *)&e->timer, on_handle_closed);
    uv_close((uv_handle_t *)&e->put_timer, on_handle_closed);
    uv_close((uv_handle_t *)&e->file_timer, on_handle_closed);
    uv_close((uv_handle_t *)&e->soon, on_handle_closed);
}

static void tell_finished(struct executor *e)
{
    struct run *run;

    while ((run = run_list_pop(&e->finished))) {
        run_complete(run);
    }
}

static void abandon_all(struct executor *e)
{
    struct run *run;

    if (e->current) {
        executor_run_abandon(e->current);
    }
    while ((run = run_list_pop(&e->queue))) {
        outcome_of_cancel(run, false);
        run_list_push(&e->finished, run);
    }
}

static void let_go_of_box(struct executor *e)
{
    if (e->kernel) {
        e->place->kernel->detach(e->kernel);
        e->kernel = NULL;
    }
    if (e->box) {
        executor_put_abandon(e);
        e->box->next = e->ended;
        e->ended = e->box;
        e->box = NULL;
    }
    e->state = EXECUTOR_IDLE;
    executor_disarm(e);
}

static void end_soon(struct executor *e)
{
    abandon_all(e);
    executor_let_machine_be(e);
    let_go_of_box(e);
    executor_forget_puts(e);
    executor_abandon_files(e);
    tell_finished(e);
    executor_answer_shares(e);
    executor_answer_files(e);
    executor_close_boxes(e);
    if (!e->ended) {
        close_handles(e);
    }
}

/* Each step may call the caller back, and he may close the executor: then `soon` comes again. */
static void on_soon(uv_idle_t *soon)
{
    struct executor *e = soon->data;

    uv_idle_stop(soon);
    if (e->closing) {
        end_soon(e);
        return;
    }
    executor_announce(e);
    tell_finished(e);
    executor_answer_shares(e);
    executor_answer_files(e);
    executor_close_boxes(e);
    executor_put_shares(e);
    executor_keep(e);
    if (!e->closing && e->state == EXECUTOR_IDLE && !e->current &&
        (e->queue.first || executor_files_wait(e))) {
        executor_start(e);
    }
    executor_next(e);
    executor_next_files(e);
    executor_tell_waiting(e);
}

void executor_soon(struct executor *e)
{
    if (!e->handles_closing) {
        uv_idle_start(&e->soon, on_soon);
    }
}

/* ---- the contract ---- */

struct executor *executor_new(struct place *place)
{
    struct executor *e = calloc(1, sizeof(*e));

    if (!e) {
        return NULL;
    }
    e->place = place;
    e->limits = (struct executor_limits){
        .start = START_LIMIT_MS,
        .start_whole = START_WHOLE_LIMIT_MS,
        .greeting = GREETING_LIMIT_MS,
        .stall = STALL_LIMIT_MS,
        .undo = UNDO_LIMIT_MS,
        .young = YOUNG_MS,
        .grace = GRACE_MS,
        .broken = BROKEN_GRACE_MS,
        .kill = KILL_LIMIT_MS,
        .file = FILE_LIMIT_MS,
    };
    e->answers_end = &e->answers;
    uv_timer_init(place->loop, &e->timer);
    uv_idle_init(place->loop, &e->soon);
    executor_put_timer_init(e);
    executor_file_timer_init(e);
    e->timer.data = e;
    e->soon.data = e;
    e->open_handles = 4;
    return e;
}

void executor_set_idle_output(struct executor *e,
                              void (*on_idle_output)(void *data, enum stream stream,
                                                     const char *bytes, size_t size),
                              void *data)
{
    e->on_idle_output = on_idle_output;
    e->idle_data = data;
}

bool executor_started(const struct executor *e)
{
    return e->state != EXECUTOR_IDLE || e->box;
}

bool executor_ready(const struct executor *e)
{
    return e->state == EXECUTOR_READY;
}

json_t *executor_ports(const struct executor *e, const char **ret_note)
{
    const struct place_ops *ops = e->place->ops;

    *ret_note = NULL;
    return executor_ready(e) && ops->machine_ports ? ops->machine_ports(e->box->machine, ret_note)
                                                   : NULL;
}

bool executor_busy(const struct executor *e)
{
    return e->current || e->queue.first || e->finished.first;
}

void run_cancel(struct run *run)
{
    struct executor *e = run->executor;

    if (run == e->current) {
        executor_run_stop(run, STOP_CANCEL);
    } else if (run_list_remove(&e->queue, run)) {
        outcome_of_cancel(run, false);
        run_list_push(&e->finished, run);
        executor_soon(e);
    }
}

void executor_close(struct executor *e, executor_done done, void *data)
{
    if (e->closing) {
        return;
    }
    e->closing = true;
    e->closed = done;
    e->closed_data = data;
    executor_soon(e);
}

const char *capability_name(unsigned index, enum capability *ret)
{
    static const char *const names[] = {
        "stateful",     "ephemeral",    "shell",           "copy",          "mount",
        "mount_write",  "cloud",        "stdin",           "network_none",  "network_all",
        "memory_limit", "disk_limit",   "process_limit",   "interrupt",     "exit_status",
        "keeps_files",  "kernelspecs",  "usage",           "files",         "commands",
        "signal",       "stdin_stream", "reattach",        "network_hosts", "stdin_code",
        "snapshot",     "mount_copy",   "snapshot_memory",
    };

    if (index >= sizeof(names) / sizeof(names[0])) {
        return NULL;
    }
    *ret = (enum capability)(1u << index);
    return names[index];
}
