#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/net/tar.h"
#include "backends/files_wire.h"
#include "backends/modal/internal.h"

/* What the executor sees: a sandbox of its own, from the pool or made for it. */

struct modal_machine {
    struct machine base;
    struct sandbox *sandbox; /* NULL: none yet, or it is gone */
    struct start_request request;
    bool starting;
    bool running; /* a worker is there and was told */
    char *lost;   /* the sandbox went away while nobody looked */
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
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

static struct modal_place *place_of(const struct modal_machine *m)
{
    return (struct modal_place *)m->base.place;
}

/* ---- told from the loop ---- */

static void tell_unmade(struct modal_machine *m)
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
    struct modal_machine *m = timer->data;

    file_waiting_lost(&m->unasked);
    if (m->has_pending) {
        m->has_pending = false;
        m->starting = m->running = false;
        m->base.events.on_exit(m->base.data, &m->pending);
    } else if (m->starting && m->sandbox && m->sandbox->link) {
        m->starting = false;
        m->running = true;
        m->base.events.on_started(m->base.data, m->sandbox->link);
        sandbox_attached(m->sandbox);
        pool_fill_later(place_of(m));
    }
    tell_unmade(m);
}

static void exit_soon(struct modal_machine *m, struct machine_exit exit)
{
    free(m->pending_text);
    m->pending_text = exit.message ? strdup(exit.message) : NULL;
    exit.message = m->pending_text;
    m->pending = exit;
    m->has_pending = true;
    uv_timer_start(&m->soon, on_soon, 0, 0);
}

/* ---- what the sandbox tells ---- */

static void on_waiting(void *data, const char *what)
{
    struct modal_machine *m = data;

    if (m->starting) {
        m->base.events.on_waiting(m->base.data, what);
    }
}

static void on_worker(void *data, struct link *link)
{
    struct modal_machine *m = data;

    if (m->starting && !m->has_pending) {
        m->starting = false;
        m->running = true;
        m->base.events.on_started(m->base.data, link);
        pool_fill_later(place_of(m));
    }
}

static void tell_exit(struct modal_machine *m, const struct machine_exit *exit)
{
    m->starting = m->running = false;
    m->base.events.on_exit(m->base.data, exit);
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct modal_machine *m = data;

    if (m->starting || m->running) {
        tell_exit(m, exit);
    }
}

static void on_gone(void *data, const struct machine_exit *exit)
{
    struct modal_machine *m = data;

    m->sandbox = NULL;
    if (m->has_pending) {
        return;
    }
    if (m->starting || m->running) {
        tell_exit(m, exit);
    } else {
        free(m->lost);
        m->lost = strdup(exit->message ? exit->message : "its sandbox is gone");
    }
}

static const struct sandbox_events machine_events = {on_waiting, on_worker, on_worker_exit,
                                                     on_gone};

/* ---- life ---- */

struct machine *modal_machine_new(struct place *base, const struct machine_events *events,
                                  void *data)
{
    struct modal_place *place = (struct modal_place *)base;
    struct modal_machine *m = calloc(1, sizeof(*m));

    if (!m) {
        return NULL;
    }
    m->base = (struct machine){.place = base, .events = *events, .data = data};
    uv_timer_init(base->loop, &m->soon);
    m->soon.data = m;
    place->machines++;
    place_touch(place);
    return &m->base;
}

static bool needs_own(const struct start_request *request)
{
    return request->tag || request->mount_count > 0; /* it is made with them */
}

static void find_sandbox(struct modal_machine *m, const struct start_request *request)
{
    struct modal_place *place = place_of(m);

    place->pool_failed = false;
    m->sandbox = needs_own(request) ? NULL : pool_take(place);
    if (m->sandbox) {
        sandbox_own(m->sandbox, &machine_events, m);
        uv_timer_start(&m->soon, on_soon, 0, 0);
        return;
    }
    m->sandbox = sandbox_new(place, request, false, &machine_events, m);
    if (!m->sandbox) {
        exit_soon(m, (struct machine_exit){
                         .how = EXIT_LOST, .kind = ERROR_INTERNAL, .message = "out of memory"});
    }
}

void modal_machine_start(struct machine *base, const struct start_request *request)
{
    struct modal_machine *m = (struct modal_machine *)base;

    m->starting = true;
    place_touch(place_of(m));
    if (m->lost) {
        exit_soon(m,
                  (struct machine_exit){.how = EXIT_LOST, .kind = ERROR_LOST, .message = m->lost});
    } else if (m->sandbox) {
        sandbox_start_worker(m->sandbox);
    } else {
        find_sandbox(m, request);
    }
}

void modal_machine_interrupt(struct machine *base)
{
    struct modal_machine *m = (struct modal_machine *)base;

    if (m->sandbox) {
        sandbox_interrupt(m->sandbox);
    }
}

int modal_machine_signal(struct machine *base, int number)
{
    struct modal_machine *m = (struct modal_machine *)base;

    return m->sandbox ? sandbox_signal(m->sandbox, number) : -ESRCH;
}

void modal_machine_kill(struct machine *base)
{
    struct modal_machine *m = (struct modal_machine *)base;

    if (m->sandbox && m->running) {
        sandbox_kill(m->sandbox);
        return;
    }
    if (m->sandbox) {
        sandbox_close(m->sandbox); /* nothing of it runs any code yet */
        m->sandbox = NULL;
    }
    if (!m->has_pending) {
        exit_soon(m, (struct machine_exit){.how = EXIT_SIGNAL, .signal = SIGKILL});
    }
}

void modal_machine_busy(struct machine *base, bool busy)
{
    struct modal_machine *m = (struct modal_machine *)base;

    if (m->sandbox && busy) {
        m->sandbox->used = true;
    }
}

json_t *modal_machine_where(const struct machine *base)
{
    const struct modal_machine *m = (const struct modal_machine *)base;

    return m->sandbox ? sandbox_where(m->sandbox) : NULL;
}

void modal_machine_leave(struct machine *base, bool interrupt)
{
    const struct modal_machine *m = (const struct modal_machine *)base;

    if (m->sandbox) {
        sandbox_leave(m->sandbox, interrupt);
    }
}

static void on_soon_closed(uv_handle_t *handle)
{
    struct modal_machine *m = handle->data;
    struct modal_place *place = place_of(m);
    void (*closed)(void *data) = m->closed;
    void *data = m->closed_data;

    free(m->lost);
    free(m->pending_text);
    free(m);
    place->machines--;
    place_touch(place);
    if (closed) {
        closed(data);
    }
    place_maybe_closed(place);
}

void modal_machine_close(struct machine *base, void (*closed)(void *data), void *data)
{
    struct modal_machine *m = (struct modal_machine *)base;

    m->closing = true;
    m->closed = closed;
    m->closed_data = data;
    file_waiting_lost(&m->unasked);
    tell_unmade(m);
    if (m->sandbox) {
        sandbox_close(m->sandbox); /* the place waits for its removal */
        m->sandbox = NULL;
    }
    uv_close((uv_handle_t *)&m->soon, on_soon_closed);
}

/* ---- shares ---- */

void modal_machine_put(struct machine *base, const struct share *share, executor_progress progress,
                       executor_done done, void *data)
{
    struct modal_machine *m = (struct modal_machine *)base;
    struct error err = {0};

    if (!m->sandbox) {
        error_set(&err, ERROR_LOST, "the sandbox is gone");
    } else {
        sandbox_put(m->sandbox, share, progress, done, data);
        return;
    }
    done(data, &err);
    error_clear(&err);
}

void modal_machine_put_cancel(struct machine *base)
{
    const struct modal_machine *m = (const struct modal_machine *)base;

    if (m->sandbox) {
        sandbox_put_cancel(m->sandbox);
    }
}

void modal_machine_file(struct machine *base, const struct file_request *request, file_done done,
                        void *data)
{
    struct modal_machine *m = (struct modal_machine *)base;

    if (!m->sandbox || !sandbox_file(m->sandbox, request, done, data)) {
        file_wait(&m->unasked, done, data);
        uv_timer_start(&m->soon, on_soon, 0, 0);
    }
}

void modal_machine_snapshot(struct machine *base, const struct snapshot_request *request,
                            snapshot_done done, void *data)
{
    struct modal_machine *m = (struct modal_machine *)base;
    struct error err = {0};

    if (!m->sandbox) {
        error_set(&err, ERROR_LOST, "the sandbox is gone");
    } else if (sandbox_snapshot(m->sandbox, request, done, data, &err) == 0) {
        return;
    }
    error_clear(&m->unmade.err);
    m->unmade.done = done;
    m->unmade.data = data;
    m->unmade.err = err;
    uv_timer_start(&m->soon, on_soon, 0, 0);
}

void modal_machine_snapshot_drop(struct machine *base, const void *data)
{
    struct modal_machine *m = (struct modal_machine *)base;

    if (m->unmade.data == data) {
        m->unmade.done = NULL;
    }
    if (m->sandbox) {
        sandbox_snapshot_drop(m->sandbox, data);
    }
}

int modal_share_check(struct place *base, const struct share *share, struct error *err)
{
    (void)base;
    return share->type == SHARE_CLOUD ? 0 : tar_check(share, err);
}
