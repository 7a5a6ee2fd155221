#include <string.h>

#include "backends/remote/crate.h"

/* The crates of a place. In the pool are those that are started and that nobody has used, with a
 * worker that is ready. None of them has any share. */

/* ---- the pool ---- */

static void forget(struct crates *crates, const struct crate *c)
{
    for (unsigned i = 0; i < crates->pool_count; i++) {
        if (crates->pool[i] == c) {
            crates->pool_count--;
            memmove(&crates->pool[i], &crates->pool[i + 1],
                    (crates->pool_count - i) * sizeof(struct crate *));
            return;
        }
    }
}

/* One that fails while it waits is no use, and the next one would most likely fail as well. */
static void drop(struct crate *c)
{
    c->crates->pool_failed = true;
    forget(c->crates, c);
}

static void on_worker(void *data, struct link *link)
{
    (void)data;
    (void)link; /* kept by the crate */
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct crate *c = data;

    (void)exit;
    drop(c);
    crate_fail(c, ERROR_LOST, "its worker ended before it was used");
}

static void on_gone(void *data, const struct machine_exit *exit)
{
    (void)exit;
    drop(data);
}

/* Owner of a pooled crate is the crate itself. */
static bool add(struct crates *crates)
{
    static const struct crate_events events = {NULL, on_worker, on_worker_exit, on_gone};
    static const struct start_request nothing;
    struct crate *c = crates->ops->make(crates->place, &nothing, true, &events, NULL);

    if (c) {
        crate_own(c, &events, c);
        crates->pool[crates->pool_count++] = c;
    }
    return c != NULL;
}

struct crate *crates_take(struct crates *crates)
{
    struct crate *best = NULL;

    for (unsigned i = 0; i < crates->pool_count; i++) {
        struct crate *c = crates->pool[i];
        if (!best || c->state > best->state ||
            (c->state == best->state && c->link && !best->link)) {
            best = c;
        }
    }
    if (best) {
        forget(crates, best);
    }
    return best;
}

static void fill(struct crates *crates)
{
    unsigned wanted = crates->ops->pool_size(crates->place);

    wanted = wanted < CRATE_POOL_CAP ? wanted : CRATE_POOL_CAP;
    while (!crates->closing && !crates->pool_failed && crates->pool_count < wanted) {
        if (!add(crates)) {
            return;
        }
    }
}

static void on_fill(uv_timer_t *timer)
{
    fill(timer->data);
}

void crates_fill_later(struct crates *crates)
{
    if (!crates->closing) {
        uv_timer_start(&crates->fill, on_fill, CRATE_POOL_FILL_MS, 0);
    }
}

static void drop_pool(struct crates *crates)
{
    uv_timer_stop(&crates->fill);
    while (crates->pool_count > 0) {
        struct crate *c = crates->pool[--crates->pool_count];
        c->ops->close(c);
    }
}

/* ---- idle ---- */

static void on_idle(uv_timer_t *timer)
{
    struct crates *crates = timer->data;

    if (crates->machines == 0) {
        drop_pool(crates);
    }
}

void crates_touch(struct crates *crates)
{
    if (!crates->closing) {
        uint64_t ms = (uint64_t)(crates->place->env->idle_timeout_seconds * 1000);
        uv_timer_start(&crates->idle, on_idle, ms, 0);
        uv_unref((uv_handle_t *)&crates->idle);
    }
}

void crates_warm(struct crates *crates)
{
    crates_touch(crates);
    fill(crates);
}

/* ---- from the place's opening to its closing ---- */

void crates_init(struct crates *crates, const struct crates_ops *ops, struct place *place)
{
    crates->ops = ops;
    crates->place = place;
    uv_timer_init(place->loop, &crates->fill);
    uv_timer_init(place->loop, &crates->idle);
    crates->fill.data = crates->idle.data = crates;
    crates->open_timers = 2;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct crates *crates = handle->data;

    if (--crates->open_timers == 0) {
        crates->ops->over(crates->place);
    }
}

void crates_maybe_over(struct crates *crates)
{
    if (!crates->closing || crates->first || crates->machines > 0 ||
        uv_is_closing((uv_handle_t *)&crates->fill)) {
        return;
    }
    uv_close((uv_handle_t *)&crates->fill, on_timer_closed);
    uv_close((uv_handle_t *)&crates->idle, on_timer_closed);
}

void crates_close(struct crates *crates)
{
    crates->closing = true;
    uv_timer_stop(&crates->idle);
    drop_pool(crates);
    crates_maybe_over(crates);
}
