#include "backends/local/machine.h"

#include <signal.h>
#include <stdlib.h>

static void soon_closed(uv_handle_t *handle)
{
    struct local_machine *m = handle->data;
    struct local_place *place = (struct local_place *)m->base.place;
    void (*closed)(void *data) = m->closed;
    void *data = m->closed_data;
    free(m);
    place->machines--;
    place_touch(place);
    if (closed) {
        closed(data);
    }
    place_maybe_closed(place);
}

static void maybe_closed(struct local_machine *m)
{
    if (m->closing && m->holds == 0 && m->soon_open) {
        m->soon_open = false;
        uv_close((uv_handle_t *)&m->soon, soon_closed);
    }
}

void machine_hold(struct local_machine *m)
{
    m->holds++;
}

void machine_release(struct local_machine *m)
{
    m->holds--;
    maybe_closed(m);
}

struct machine *local_machine_new(struct place *base, const struct machine_events *events,
                                  void *data)
{
    struct local_place *place = (struct local_place *)base;
    struct local_machine *m = calloc(1, sizeof(*m));
    if (!m) {
        return NULL;
    }
    m->base = (struct machine){.place = base, .events = *events, .data = data};
    uv_idle_init(base->loop, &m->soon);
    m->soon.data = m;
    m->soon_open = true;
    place->machines++;
    place_touch(place);
    return &m->base;
}

static void let_go(struct local_machine *m)
{
    if (m->cell) {
        cell_close(m->cell);
        m->cell = NULL;
    }
}

static void tell_exit(struct local_machine *m, const struct machine_exit *exit)
{
    m->starting = false;
    m->base.events.on_exit(m->base.data, exit);
}

void machine_cell_ready(struct local_machine *m)
{
    m->starting = false;
    cell_own(m->cell, m);
    m->base.events.on_started(m->base.data, &m->cell->link);
}

void machine_cell_gone(struct local_machine *m)
{
    struct live_cell *cell = m->cell;
    m->cell = NULL;
    cell->owner = NULL;
    local_files_stop(m);
    tell_exit(m, &cell->exit);
    cell_close(cell);
}

static void on_soon(uv_idle_t *soon)
{
    struct local_machine *m = soon->data;
    struct local_place *place = (struct local_place *)m->base.place;
    uv_idle_stop(soon);
    if (m->closing) {
        return;
    }
    if (m->has_pending) {
        m->has_pending = false;
        tell_exit(m, &m->pending);
    } else if (m->cell && m->cell->state == CELL_STATE_READY && m->starting) {
        machine_cell_ready(m);
        pool_fill_later(place);
    } else if (m->cell && m->cell->state == CELL_STATE_WAITING) {
        place_want(place);
    }
}

static void fail_soon(struct local_machine *m, enum error_kind kind, const char *message)
{
    m->pending = (struct machine_exit){.how = EXIT_LOST, .kind = kind, .message = message};
    m->has_pending = true;
    uv_idle_start(&m->soon, on_soon);
}

static bool mounts_possible(const struct local_place *place)
{
    return place->isolation == ISOLATION_BWRAP;
}

static void find_cell(struct local_machine *m)
{
    struct local_place *place = (struct local_place *)m->base.place;
    m->cell = m->mount_count ? NULL : pool_take(place);
    if (!m->cell) {
        m->cell = cell_new(place, m->mount_count);
    }
    if (!m->cell) {
        fail_soon(m, ERROR_LIMIT,
                  "no descriptors or memory are left for another sandbox: end a session, or raise "
                  "the limit of open files (ulimit -n)");
        return;
    }
    m->cell->owner = m;
    uv_idle_start(&m->soon, on_soon);
}

void local_machine_start(struct machine *base, const struct start_request *request)
{
    struct local_machine *m = (struct local_machine *)base;
    struct local_place *place = (struct local_place *)base->place;
    m->starting = true;
    m->mounts = request->mounts;
    m->mount_count = request->mount_count;
    place_touch(place);
    if (m->mount_count && !mounts_possible(place)) {
        fail_soon(m, ERROR_UNSUPPORTED,
                  "mounts need a mount namespace, which this isolation does without: use a copy, "
                  "or --isolation bwrap");
        return;
    }
    find_cell(m);
}

void machine_try_again(struct local_machine *m)
{
    m->cell = NULL;
    find_cell(m);
}

void local_machine_interrupt(struct machine *base)
{
    struct local_machine *m = (struct local_machine *)base;
    if (m->cell) {
        cell_order(m->cell, CELL_ORDER_INTERRUPT);
    }
}

int local_machine_signal(struct machine *base, int number)
{
    struct local_machine *m = (struct local_machine *)base;
    return m->cell ? cell_signal(m->cell, number) : -ESRCH;
}

void local_machine_kill(struct machine *base)
{
    struct local_machine *m = (struct local_machine *)base;
    if (m->cell && m->cell->state == CELL_STATE_READY && !m->starting) {
        cell_kill(m->cell);
        return;
    }
    let_go(m); /* nothing of it runs any code yet */
    m->pending = (struct machine_exit){.how = EXIT_SIGNAL, .signal = SIGKILL};
    m->has_pending = true;
    uv_idle_start(&m->soon, on_soon);
}

void local_machine_busy(struct machine *base, bool busy)
{
    struct local_machine *m = (struct local_machine *)base;
    if (m->cell) {
        cell_busy(m->cell, busy);
    }
}

const char *local_machine_folder(const struct machine *base)
{
    const struct local_machine *m = (const struct local_machine *)base;
    return m->cell ? m->cell->folder : NULL;
}

void local_machine_close(struct machine *base, void (*closed)(void *data), void *data)
{
    struct local_machine *m = (struct local_machine *)base;
    m->closing = true;
    m->closed = closed;
    m->closed_data = data;
    struct local_place *place = (struct local_place *)base->place;
    uv_idle_stop(&m->soon);
    local_files_stop(m);
    if (m->cell && m->cell->watched == CELL_WATCH_SELDOM) {
        place_retire(place, m->cell);
        m->cell = NULL;
    }
    let_go(m); /* one in the middle of a run is ended now */
    if (uv_is_active((uv_handle_t *)&place->fill) && !pool_has_ready(place)) {
        pool_fill(place); /* the run that took the last is over; the timer still ends the retired */
    }
    maybe_closed(m);
}
