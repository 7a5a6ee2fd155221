#include <stdlib.h>
#include <string.h>

#include "backends/executor_internal.h"

static void box_free(struct box *box)
{
    error_clear(&box->start_error);
    free(box->broken);
    free(box->shares);
    free(box);
}

static void arm_start(struct executor *e)
{
    uint64_t age = (uv_hrtime() - e->start_ns) / 1000000;
    uint64_t left = age < e->limits.start_whole ? e->limits.start_whole - age : 1;

    executor_arm(e, left < e->limits.start ? left : e->limits.start);
}

/* ---- what the machine calls ---- */

static void on_waiting(void *data, const char *what)
{
    struct box *box = data;
    struct executor *e = box->executor;
    char *copy;

    if (box != e->box || e->closing) {
        return;
    }
    copy = strdup(what);
    if (copy) {
        free(e->waiting_what);
        e->waiting_what = copy;
    }
    if (e->state == EXECUTOR_STARTING) {
        /* It goes on: an image is being fetched, say. The limit is on silence, and on the whole. */
        arm_start(e);
    }
    for (struct run *run = e->queue.first; run; run = run->next) {
        run->told = true;
        if (run->events.on_waiting) {
            run->events.on_waiting(run->data, what);
        }
    }
}

static void on_started(void *data, struct link *link)
{
    struct box *box = data;
    struct executor *e = box->executor;

    if (box != e->box || e->state != EXECUTOR_STARTING) {
        /* Given up meanwhile. What still comes on the link is nobody's. */
        struct kernel *nobody = e->place->kernel->attach(link, &executor_kernel_events, e);
        if (nobody) {
            e->place->kernel->detach(nobody);
        }
        return;
    }
    free(box->shares);
    box->shares = NULL;
    e->state = EXECUTOR_PREPARING;
    e->kernel = e->place->kernel->attach(link, &executor_kernel_events, e);
    if (!e->kernel) {
        executor_fail_start(e, ERROR_INTERNAL, "out of memory");
        return;
    }
    executor_arm(e, e->limits.greeting);
    /* The puts do not wait for the greeting: both take their time. */
    executor_put_shares(e);
}

static void on_exit_event(void *data, const struct machine_exit *exit)
{
    executor_box_ended(data, exit);
}

/* ---- starting ---- */

static struct box *box_new(struct executor *e)
{
    static const struct machine_events events = {on_waiting, on_started, on_exit_event};
    struct box *box = calloc(1, sizeof(*box));

    if (!box) {
        return NULL;
    }
    box->executor = e;
    box->machine = e->place->ops->machine_new(e->place, &events, box);
    if (!box->machine) {
        free(box);
        return NULL;
    }
    return box;
}

/* The one whose machine outlived its worker, or a new one. */
static struct box *box_to_start(struct executor *e)
{
    struct box *box = e->box;

    if (!box) {
        return box_new(e);
    }
    e->box = NULL;
    box->again = true;
    box->ready = false;
    box->kill_sent = false;
    error_clear(&box->start_error);
    free(box->broken);
    box->broken = NULL;
    return box;
}

void executor_start(struct executor *e)
{
    struct start_request request = {0};
    struct machine_exit none = {
        .how = EXIT_LOST, .kind = ERROR_INTERNAL, .message = "out of memory"};
    struct box *box = box_to_start(e);

    if (!box || executor_start_shares(e, &box->shares, &request) < 0) {
        if (box) {
            box->next = e->ended;
            e->ended = box;
        }
        executor_fail_queue(e, NULL, &none);
        executor_soon(e);
        return;
    }
    e->box = box;
    request.tag = e->tag;
    request.where = e->where;
    request.to_end = e->where ? e->to_end : 0;
    e->greeted = false;
    e->state = EXECUTOR_STARTING;
    e->start_ns = uv_hrtime();
    arm_start(e);
    e->place->ops->machine_start(box->machine, &request);
}

void executor_check_ready(struct executor *e)
{
    if (e->state != EXECUTOR_PREPARING || !e->greeted || !executor_shares_are_in(e)) {
        return;
    }
    executor_disarm(e);
    e->state = EXECUTOR_READY;
    e->box->ready = true;
    free(e->waiting_what);
    e->waiting_what = NULL;
    executor_tell_where(e);
    executor_next_files(e);
    executor_next(e);
}

void executor_fail_start(struct executor *e, enum error_kind kind, const char *message)
{
    if (e->state != EXECUTOR_STARTING && e->state != EXECUTOR_PREPARING) {
        return;
    }
    (void)error_set(&e->box->start_error, kind, "%s", message);
    executor_kill(e);
}

/* ---- ending ---- */

/* The first time it kills; when the limit of that is over too, the machine is given up. */
void executor_kill(struct executor *e)
{
    static const struct machine_exit given_up = {
        .how = EXIT_LOST,
        .kind = ERROR_LOST,
        .message = "the sandbox did not end when it was killed",
    };
    struct box *box = e->box;

    if (box->kill_sent) {
        executor_box_ended(box, &given_up);
        return;
    }
    box->kill_sent = true;
    e->state = EXECUTOR_ENDING;
    executor_arm(e, e->limits.kill);
    e->place->ops->machine_kill(box->machine);
}

static void note_idle_end(struct executor *e, const struct box *box,
                          const struct machine_exit *exit)
{
    char *how = exit->resumes ? NULL : exit_sentence(box, exit);
    char *note = NULL;

    if (exit->resumes) {
        note = strdup("The session was asleep for a memory snapshot, and went on before this run: "
                      "its variables and files are as they were, its connections are not, and "
                      "random numbers were seeded anew.");
    } else if (asprintf(
                   &note,
                   exit->kept
                       ? "The session was restarted before this run, since %s while nothing was "
                         "running; its variables are gone, its files are kept."
                       : "The session was restarted before this run, since %s while nothing was "
                         "running; its variables and files are gone, the shares were brought "
                         "in again.",
                   how ? how : "its sandbox ended") < 0) {
        note = NULL;
    }
    free(how);
    free(e->restart_note);
    e->restart_note = note;
}

/* The machine that was to be started again is gone as well: a new one is made. */
static void note_lost_machine(struct executor *e, const struct machine_exit *exit)
{
    char *note = NULL;

    if (asprintf(
            &note,
            "The session's sandbox was gone when this run came%s%s; its files are gone too, the "
            "shares were brought in again.",
            exit->message ? ": " : "", exit->message ? exit->message : "") < 0) {
        note = NULL;
    }
    free(e->restart_note);
    e->restart_note = note;
}

static void tell_end(struct executor *e, struct box *box, const struct machine_exit *exit)
{
    bool again = exit->unbegun && executor_run_again(e);

    if (e->current && !e->current->ending) {
        executor_run_exited(e->current, box, exit);
    } else if (again || box->ready) {
        note_idle_end(e, box, exit);
    } else if (box->again && !exit->kept && exit->how == EXIT_LOST &&
               box->start_error.kind == ERROR_NONE) {
        note_lost_machine(e, exit);
    } else {
        executor_fail_queue(e, box, exit);
    }
}

void executor_box_ended(struct box *box, const struct machine_exit *exit)
{
    struct executor *e = box->executor;
    struct machine_exit end = *exit;

    if (box != e->box) {
        return;
    }
    /* One that did not get ready is not trusted to get there the next time. */
    end.kept = exit->kept && box->ready && !e->closing;
    e->state = EXECUTOR_ENDING;
    if (e->kernel) {
        /* The last words come before the end that they belong to; the link is not ours later. */
        e->place->kernel->drain(e->kernel);
        e->place->kernel->detach(e->kernel);
        e->kernel = NULL;
    }
    executor_disarm(e);
    e->state = EXECUTOR_IDLE;
    executor_where_ended(e, box, &end);
    if (!end.kept) {
        executor_put_abandon(e);
        e->box = NULL;
        executor_forget_puts(e);
        executor_forget_files(e, box);
    }
    tell_end(e, box, &end);
    if (!end.kept) {
        box->next = e->ended;
        e->ended = box;
    }
    executor_soon(e);
}

static void on_box_closed(void *data)
{
    struct box *box = data;
    struct executor *e = box->executor;

    for (struct box **at = &e->ended; *at; at = &(*at)->next) {
        if (*at == box) {
            *at = box->next;
            break;
        }
    }
    box_free(box);
    if (e->closing) {
        executor_soon(e);
    }
}

void executor_close_boxes(struct executor *e)
{
    struct box *next;

    for (struct box *box = e->ended; box; box = next) {
        next = box->next;
        if (!box->closing) {
            box->closing = true;
            e->place->ops->machine_close(box->machine, on_box_closed, box);
        }
    }
}
