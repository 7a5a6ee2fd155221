#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/files_wire.h"
#include "backends/remote/box.h"

/* What the executor sees: a box of its own, from the pool or made for it. */

struct box_machine {
    struct machine base;
    struct boxes *boxes;
    struct box *box; /* NULL: none yet, or it is gone */
    bool starting;
    bool running; /* a worker is there and was told */
    char *lost;   /* the box went away while nobody looked */
    uv_timer_t soon;
    struct file_waiting *unasked; /* requests about files that nobody was there for */
    bool has_pending;
    struct machine_exit pending;
    char *pending_text;
    void (*closed)(void *data);
    void *closed_data;
};

struct box *box_of_machine(const struct machine *m)
{
    return ((const struct box_machine *)m)->box;
}

/* What lives in its box and has a worker; NULL. */
static struct occupant *host_of(const struct machine *m)
{
    const struct box *b = box_of_machine(m);

    return b && b->state == BOX_UP && b->link ? b->occupant : NULL;
}

/* ---- told from the loop ---- */

static void tell_started(struct box_machine *m, struct link *link)
{
    m->starting = false;
    m->running = true;
    m->base.events.on_started(m->base.data, link);
}

static void tell_exit(struct box_machine *m, const struct machine_exit *exit)
{
    m->starting = m->running = false;
    m->base.events.on_exit(m->base.data, exit);
}

static void on_soon(uv_timer_t *timer)
{
    struct box_machine *m = timer->data;

    file_waiting_lost(&m->unasked);
    if (m->has_pending) {
        m->has_pending = false;
        tell_exit(m, &m->pending);
    } else if (m->starting && m->box && m->box->link) {
        tell_started(m, m->box->link);
        if (m->box->occupant) {
            m->box->occupant->ops->attached(m->box->occupant);
        }
        boxes_fill_later(m->boxes);
    }
}

static void exit_soon(struct box_machine *m, struct machine_exit exit)
{
    free(m->pending_text);
    m->pending_text = exit.message ? strdup(exit.message) : NULL;
    exit.message = m->pending_text;
    m->pending = exit;
    m->has_pending = true;
    uv_timer_start(&m->soon, on_soon, 0, 0);
}

/* ---- what the box tells ---- */

static void on_waiting(void *data, const char *what)
{
    struct box_machine *m = data;

    if (m->starting) {
        m->base.events.on_waiting(m->base.data, what);
    }
}

static void on_worker(void *data, struct link *link)
{
    struct box_machine *m = data;

    if (m->starting && !m->has_pending) {
        tell_started(m, link);
        boxes_fill_later(m->boxes);
    }
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct box_machine *m = data;

    if (m->starting || m->running) {
        tell_exit(m, exit);
    }
}

static void on_gone(void *data, const struct machine_exit *exit)
{
    struct box_machine *m = data;

    m->box = NULL;
    if (m->has_pending) {
        return;
    }
    if (m->starting || m->running) {
        tell_exit(m, exit);
    } else {
        free(m->lost);
        m->lost = exit->message ? strdup(exit->message)
                                : string_format("its %s is gone", m->boxes->ops->noun);
    }
}

static const struct box_events machine_events = {on_waiting, on_worker, on_worker_exit, on_gone};

/* ---- life ---- */

struct machine *box_machine_new(struct boxes *boxes, const struct machine_events *events,
                                void *data)
{
    struct box_machine *m = calloc(1, sizeof(*m));

    if (!m) {
        return NULL;
    }
    m->base = (struct machine){.place = boxes->place, .events = *events, .data = data};
    m->boxes = boxes;
    uv_timer_init(boxes->place->loop, &m->soon);
    m->soon.data = m;
    boxes->machines++;
    boxes_touch(boxes);
    return &m->base;
}

static void find_box(struct box_machine *m, const struct start_request *request)
{
    const struct boxes_ops *ops = m->boxes->ops;

    m->boxes->pool_failed = false;
    m->box = ops->needs_own(request) ? NULL : boxes_take(m->boxes);
    if (m->box) {
        box_own(m->box, &machine_events, m);
        uv_timer_start(&m->soon, on_soon, 0, 0);
        return;
    }
    m->box = ops->make(m->boxes->place, request, false, &machine_events, m);
    if (!m->box) {
        exit_soon(m, (struct machine_exit){
                         .how = EXIT_LOST, .kind = ERROR_INTERNAL, .message = "out of memory"});
    }
}

void box_machine_start(struct machine *base, const struct start_request *request)
{
    struct box_machine *m = (struct box_machine *)base;

    m->starting = true;
    boxes_touch(m->boxes);
    if (m->lost) {
        exit_soon(m,
                  (struct machine_exit){.how = EXIT_LOST, .kind = ERROR_LOST, .message = m->lost});
    } else if (m->box) {
        m->box->ops->start_worker(m->box);
    } else {
        find_box(m, request);
    }
}

static void let_go(struct box_machine *m)
{
    if (m->box) {
        m->box->ops->close(m->box); /* the place waits for its removal */
        m->box = NULL;
    }
}

void box_machine_kill(struct machine *base)
{
    struct box_machine *m = (struct box_machine *)base;

    if (m->box && m->running) {
        m->box->ops->kill(m->box);
        return;
    }
    let_go(m); /* nothing of it runs any code yet */
    if (!m->has_pending) {
        exit_soon(m, (struct machine_exit){.how = EXIT_SIGNAL, .signal = SIGKILL});
    }
}

static void on_soon_closed(uv_handle_t *handle)
{
    struct box_machine *m = handle->data;
    struct boxes *boxes = m->boxes;
    void (*closed)(void *data) = m->closed;
    void *data = m->closed_data;

    free(m->lost);
    free(m->pending_text);
    free(m);
    boxes->machines--;
    boxes_touch(boxes);
    if (closed) {
        closed(data);
    }
    boxes_maybe_over(boxes);
}

void box_machine_close(struct machine *base, void (*closed)(void *data), void *data)
{
    struct box_machine *m = (struct box_machine *)base;

    m->closed = closed;
    m->closed_data = data;
    file_waiting_lost(&m->unasked);
    let_go(m);
    uv_close((uv_handle_t *)&m->soon, on_soon_closed);
}

/* ---- while it lives ---- */

void box_machine_interrupt(struct machine *base)
{
    struct occupant *o = host_of(base);

    if (o) {
        o->ops->interrupt(o);
    }
}

int box_machine_signal(struct machine *base, int number)
{
    struct occupant *o = host_of(base);

    if (!o) {
        return -ESRCH;
    }
    return o->ops->signal ? o->ops->signal(o, number) : -ENOTSUP;
}

void box_machine_busy(struct machine *base, bool busy)
{
    struct box *b = box_of_machine(base);

    if (b && busy) {
        b->used = true;
    }
}

json_t *box_machine_where(const struct machine *base)
{
    const struct box *b = box_of_machine(base);

    return b && b->tag && b->occupant ? b->ops->where(b) : NULL;
}

void box_machine_leave(struct machine *base, bool interrupt)
{
    struct occupant *o = host_of(base);
    struct box *b = box_of_machine(base);

    if (o && b->tag) {
        b->left = true;
        o->ops->leave(o, interrupt);
    }
}

void box_machine_put(struct machine *base, const struct share *share, executor_progress progress,
                     executor_done done, void *data)
{
    const struct box_machine *m = (const struct box_machine *)base;
    struct error err = {0};

    if (m->box) {
        m->box->occupant->ops->put(m->box->occupant, share, progress, done, data);
        return;
    }
    error_set(&err, ERROR_LOST, "the %s is gone", m->boxes->ops->noun);
    done(data, &err);
    error_clear(&err);
}

void box_machine_put_cancel(struct machine *base)
{
    const struct box *b = box_of_machine(base);

    if (b && b->occupant) {
        b->occupant->ops->put_cancel(b->occupant);
    }
}

void box_machine_file(struct machine *base, const struct file_request *request, file_done done,
                      void *data)
{
    struct box_machine *m = (struct box_machine *)base;
    struct occupant *o = m->box ? m->box->occupant : NULL;

    if (o && o->ops->file) {
        o->ops->file(o, request, done, data);
    } else {
        file_wait(&m->unasked, done, data);
        uv_timer_start(&m->soon, on_soon, 0, 0);
    }
}
