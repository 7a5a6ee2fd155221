#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/files_wire.h"
#include "backends/remote/crate.h"

/* What the executor sees: a crate of its own, from the pool or made for it. */

struct crate_machine {
    struct machine base;
    struct crates *crates;
    struct crate *crate; /* NULL: none yet, or it is gone */
    bool starting;
    bool running; /* a worker is there and was told */
    char *lost;   /* the crate went away while nobody looked */
    uv_timer_t soon;
    struct file_waiting *unasked; /* requests about files that nobody was there for */
    struct {
        snapshot_done done; /* NULL: there is none */
        void *data;
        struct error err;
    } unmade; /* a snapshot that could not even be asked for */
    bool has_pending;
    struct machine_exit pending;
    char *pending_text;
    void (*closed)(void *data);
    void *closed_data;
};

struct crate *crate_of_machine(const struct machine *m)
{
    return ((const struct crate_machine *)m)->crate;
}

/* What lives in its crate and has a worker; NULL. */
static struct occupant *host_of(const struct machine *m)
{
    const struct crate *c = crate_of_machine(m);

    return c && c->state == CRATE_UP && c->link ? c->occupant : NULL;
}

/* ---- told from the loop ---- */

static void tell_started(struct crate_machine *m, struct link *link)
{
    m->starting = false;
    m->running = true;
    m->base.events.on_started(m->base.data, link);
}

static void tell_exit(struct crate_machine *m, const struct machine_exit *exit)
{
    m->starting = m->running = false;
    m->base.events.on_exit(m->base.data, exit);
}

static void tell_unmade(struct crate_machine *m)
{
    snapshot_done done = m->unmade.done;
    struct error err = m->unmade.err;

    m->unmade.done = NULL;
    m->unmade.err = (struct error){0};
    if (done) {
        done(m->unmade.data, NULL, &err);
    }
    error_clear(&err);
}

static void on_soon(uv_timer_t *timer)
{
    struct crate_machine *m = timer->data;

    file_waiting_lost(&m->unasked);
    if (m->has_pending) {
        m->has_pending = false;
        tell_exit(m, &m->pending);
    } else if (m->starting && m->crate && m->crate->link) {
        tell_started(m, m->crate->link);
        if (m->crate->occupant) {
            m->crate->occupant->ops->attached(m->crate->occupant);
        }
        crates_fill_later(m->crates);
    }
    tell_unmade(m);
}

static void exit_soon(struct crate_machine *m, struct machine_exit exit)
{
    free(m->pending_text);
    m->pending_text = exit.message ? strdup(exit.message) : NULL;
    exit.message = m->pending_text;
    m->pending = exit;
    m->has_pending = true;
    uv_timer_start(&m->soon, on_soon, 0, 0);
}

/* ---- what the crate tells ---- */

static void on_waiting(void *data, const char *what)
{
    struct crate_machine *m = data;

    if (m->starting) {
        m->base.events.on_waiting(m->base.data, what);
    }
}

static void on_worker(void *data, struct link *link)
{
    struct crate_machine *m = data;

    if (m->starting && !m->has_pending) {
        tell_started(m, link);
        crates_fill_later(m->crates);
    }
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct crate_machine *m = data;

    if (m->starting || m->running) {
        tell_exit(m, exit);
    }
}

static void on_gone(void *data, const struct machine_exit *exit)
{
    struct crate_machine *m = data;

    m->crate = NULL;
    if (m->has_pending) {
        return;
    }
    if (m->starting || m->running) {
        tell_exit(m, exit);
    } else {
        free(m->lost);
        m->lost = exit->message ? strdup(exit->message)
                                : string_format("its %s is gone", m->crates->ops->noun);
    }
}

static const struct crate_events machine_events = {on_waiting, on_worker, on_worker_exit, on_gone};

/* ---- life ---- */

struct machine *crate_machine_new(struct crates *crates, const struct machine_events *events,
                                  void *data)
{
    struct crate_machine *m = calloc(1, sizeof(*m));

    if (!m) {
        return NULL;
    }
    m->base = (struct machine){.place = crates->place, .events = *events, .data = data};
    m->crates = crates;
    uv_timer_init(crates->place->loop, &m->soon);
    m->soon.data = m;
    crates->machines++;
    crates_touch(crates);
    return &m->base;
}

static void find_crate(struct crate_machine *m, const struct start_request *request)
{
    const struct crates_ops *ops = m->crates->ops;

    m->crates->pool_failed = false;
    m->crate = ops->needs_own(request) ? NULL : crates_take(m->crates);
    if (m->crate) {
        crate_own(m->crate, &machine_events, m);
        uv_timer_start(&m->soon, on_soon, 0, 0);
        return;
    }
    m->crate = ops->make(m->crates->place, request, false, &machine_events, m);
    if (!m->crate) {
        exit_soon(m, (struct machine_exit){
                         .how = EXIT_LOST, .kind = ERROR_INTERNAL, .message = "out of memory"});
    }
}

void crate_machine_start(struct machine *base, const struct start_request *request)
{
    struct crate_machine *m = (struct crate_machine *)base;

    m->starting = true;
    crates_touch(m->crates);
    if (m->lost) {
        exit_soon(m,
                  (struct machine_exit){.how = EXIT_LOST, .kind = ERROR_LOST, .message = m->lost});
    } else if (m->crate) {
        m->crate->ops->start_worker(m->crate);
    } else {
        find_crate(m, request);
    }
}

static void let_go(struct crate_machine *m)
{
    if (m->crate) {
        m->crate->ops->close(m->crate); /* the place waits for its removal */
        m->crate = NULL;
    }
}

void crate_machine_kill(struct machine *base)
{
    struct crate_machine *m = (struct crate_machine *)base;

    if (m->crate && m->running) {
        m->crate->ops->kill(m->crate);
        return;
    }
    let_go(m); /* nothing of it runs any code yet */
    if (!m->has_pending) {
        exit_soon(m, (struct machine_exit){.how = EXIT_SIGNAL, .signal = SIGKILL});
    }
}

static void on_soon_closed(uv_handle_t *handle)
{
    struct crate_machine *m = handle->data;
    struct crates *crates = m->crates;
    void (*closed)(void *data) = m->closed;
    void *data = m->closed_data;

    free(m->lost);
    free(m->pending_text);
    free(m);
    crates->machines--;
    crates_touch(crates);
    if (closed) {
        closed(data);
    }
    crates_maybe_over(crates);
}

void crate_machine_close(struct machine *base, void (*closed)(void *data), void *data)
{
    struct crate_machine *m = (struct crate_machine *)base;

    m->closed = closed;
    m->closed_data = data;
    file_waiting_lost(&m->unasked);
    tell_unmade(m);
    let_go(m);
    uv_close((uv_handle_t *)&m->soon, on_soon_closed);
}

/* ---- while it lives ---- */

void crate_machine_interrupt(struct machine *base)
{
    struct occupant *o = host_of(base);

    if (o) {
        o->ops->interrupt(o);
    }
}

int crate_machine_signal(struct machine *base, int number)
{
    struct occupant *o = host_of(base);

    if (!o) {
        return -ESRCH;
    }
    return o->ops->signal ? o->ops->signal(o, number) : -ENOTSUP;
}

void crate_machine_busy(struct machine *base, bool busy)
{
    struct crate *c = crate_of_machine(base);

    if (c && busy) {
        c->used = true;
    }
}

json_t *crate_machine_where(const struct machine *base)
{
    const struct crate *c = crate_of_machine(base);

    return c && c->tag && c->occupant ? c->ops->where(c) : NULL;
}

json_t *crate_machine_ports(const struct machine *base, const char **ret_note)
{
    const struct crate *c = crate_of_machine(base);

    *ret_note = NULL;
    return c && c->state == CRATE_UP && c->ops->ports ? c->ops->ports(c, ret_note) : NULL;
}

void crate_machine_leave(struct machine *base, bool interrupt)
{
    struct occupant *o = host_of(base);
    struct crate *c = crate_of_machine(base);

    if (o && c->tag) {
        c->left = true;
        o->ops->leave(o, interrupt);
    }
}

void crate_machine_put(struct machine *base, const struct share *share, executor_progress progress,
                       executor_done done, void *data)
{
    const struct crate_machine *m = (const struct crate_machine *)base;
    struct error err = {0};

    if (m->crate) {
        m->crate->occupant->ops->put(m->crate->occupant, share, progress, done, data);
        return;
    }
    error_set(&err, ERROR_LOST, "the %s is gone", m->crates->ops->noun);
    done(data, &err);
    error_clear(&err);
}

void crate_machine_put_cancel(struct machine *base)
{
    const struct crate *c = crate_of_machine(base);

    if (c && c->occupant) {
        c->occupant->ops->put_cancel(c->occupant);
    }
}

void crate_machine_file(struct machine *base, const struct file_request *request, file_done done,
                        void *data)
{
    struct crate_machine *m = (struct crate_machine *)base;
    struct occupant *o = m->crate ? m->crate->occupant : NULL;

    if (o && o->ops->file) {
        o->ops->file(o, request, done, data);
    } else {
        file_wait(&m->unasked, done, data);
        uv_timer_start(&m->soon, on_soon, 0, 0);
    }
}

void crate_machine_snapshot(struct machine *base, const struct snapshot_request *request,
                            snapshot_done done, void *data)
{
    struct crate_machine *m = (struct crate_machine *)base;
    struct crate *c = m->crate;
    struct error err = {0};

    if (!c || c->state != CRATE_UP) {
        error_set(&err, ERROR_LOST, "the %s is %s", m->crates->ops->noun, c ? "ending" : "gone");
    } else if (c->ops->snapshot(c, request, done, data, &err) == 0) {
        return;
    }
    error_clear(&m->unmade.err);
    m->unmade.done = done;
    m->unmade.data = data;
    m->unmade.err = err;
    uv_timer_start(&m->soon, on_soon, 0, 0);
}

void crate_machine_snapshot_drop(struct machine *base, const void *data)
{
    struct crate_machine *m = (struct crate_machine *)base;

    if (m->unmade.data == data) {
        m->unmade.done = NULL;
    }
    if (m->crate) {
        m->crate->ops->snapshot_drop(m->crate, data);
    }
}
