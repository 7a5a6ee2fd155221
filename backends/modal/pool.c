#include <stdlib.h>
#include <string.h>

#include "backends/modal/internal.h"

/* Started sandboxes that nobody has used, with a worker that is ready. None has any share. */

static const struct sandbox_events pool_events;

static void forget(struct modal_place *place, const struct sandbox *c)
{
    for (unsigned i = 0; i < place->pool_count; i++) {
        if (place->pool[i] == c) {
            place->pool_count--;
            memmove(&place->pool[i], &place->pool[i + 1],
                    (place->pool_count - i) * sizeof(struct sandbox *));
            return;
        }
    }
}

/* Owner of a pooled sandbox is the sandbox itself. */
static void add(struct modal_place *place)
{
    static const struct start_request nothing;
    struct sandbox *c = sandbox_new(place, &nothing, true, &pool_events, NULL);

    if (c) {
        sandbox_own(c, &pool_events, c);
        place->pool[place->pool_count++] = c;
    }
}

static void on_waiting(void *data, const char *what)
{
    (void)data;
    (void)what;
}

static void on_worker(void *data, struct link *link)
{
    (void)data;
    (void)link; /* kept by the sandbox */
}

/* One that fails while it waits is no use, and the next one would most likely fail as well. */
static void drop(struct sandbox *c)
{
    c->place->pool_failed = true;
    forget(c->place, c);
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct sandbox *c = data;

    (void)exit;
    drop(c);
    sandbox_fail(c, ERROR_LOST, "its worker ended before it was used");
}

static void on_gone(void *data, const struct machine_exit *exit)
{
    (void)exit;
    drop(data);
}

static const struct sandbox_events pool_events = {on_waiting, on_worker, on_worker_exit, on_gone};

struct sandbox *pool_take(struct modal_place *place)
{
    struct sandbox *best = NULL;

    for (unsigned i = 0; i < place->pool_count; i++) {
        struct sandbox *c = place->pool[i];
        if (!best || c->state > best->state ||
            (c->state == best->state && c->link && !best->link)) {
            best = c;
        }
    }
    if (best) {
        forget(place, best);
    }
    return best;
}

/* What runs elsewhere costs: sandboxes are kept ready only when that was asked for. Of a given name
 * there can be one alone. */
static unsigned pool_size(const struct modal_place *place)
{
    const struct environment *env = place->base.env;

    return env->given & SETTING_POOL && !env->sandbox_name ? env->pool : 0;
}

void pool_fill(struct modal_place *place)
{
    unsigned wanted = pool_size(place);

    wanted = wanted < POOL_CAP ? wanted : POOL_CAP;
    while (!place->closing && !place->pool_failed && place->pool_count < wanted) {
        unsigned before = place->pool_count;
        add(place);
        if (place->pool_count == before) {
            return;
        }
    }
}

static void on_fill(uv_timer_t *timer)
{
    pool_fill(timer->data);
}

void pool_fill_later(struct modal_place *place)
{
    if (!place->closing) {
        uv_timer_start(&place->fill, on_fill, POOL_FILL_MS, 0);
    }
}

void pool_drop(struct modal_place *place)
{
    while (place->pool_count > 0) {
        sandbox_close(place->pool[--place->pool_count]);
    }
}
