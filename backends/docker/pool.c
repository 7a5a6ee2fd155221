#include <stdlib.h>
#include <string.h>

#include "backends/docker/internal.h"

/* Started containers that nobody has used, with a worker that is ready. None has any share. */

static const struct container_events pool_events;

static void forget(struct docker_place *place, const struct container *c)
{
    for (unsigned i = 0; i < place->pool_count; i++) {
        if (place->pool[i] == c) {
            place->pool_count--;
            memmove(&place->pool[i], &place->pool[i + 1],
                    (place->pool_count - i) * sizeof(struct container *));
            return;
        }
    }
}

/* Owner of a pooled container is the container itself. */
static void add(struct docker_place *place)
{
    static const struct start_request nothing;
    struct container *c = container_new(place, &nothing, true, &pool_events, NULL);

    if (c) {
        container_own(c, &pool_events, c);
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
    (void)link; /* kept by the container */
}

/* One that fails while it waits is no use, and the next one would most likely fail as well. */
static void drop(struct container *c)
{
    c->place->pool_failed = true;
    forget(c->place, c);
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct container *c = data;

    (void)exit;
    drop(c);
    container_fail(c, ERROR_LOST, "its worker ended before it was used");
}

static void on_gone(void *data, const struct machine_exit *exit)
{
    (void)exit;
    drop(data);
}

static const struct container_events pool_events = {on_waiting, on_worker, on_worker_exit, on_gone};

struct container *pool_take(struct docker_place *place)
{
    struct container *best = NULL;

    for (unsigned i = 0; i < place->pool_count; i++) {
        struct container *c = place->pool[i];
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

/* A container with a gateway of its own is no small thing to keep ready: only where each run takes
 * one, unless it was asked for. One that outlives us has its session's tag from its beginning. */
static unsigned pool_size(const struct docker_place *place)
{
    const struct environment *env = place->base.env;
    bool asked = env->given & SETTING_POOL || env->mode == MODE_EPHEMERAL;

    return env->keep || (place->kernel_image && !asked) ? 0 : env->pool;
}

void pool_fill(struct docker_place *place)
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

void pool_fill_later(struct docker_place *place)
{
    if (!place->closing) {
        uv_timer_start(&place->fill, on_fill, POOL_FILL_MS, 0);
    }
}

void pool_drop(struct docker_place *place)
{
    while (place->pool_count > 0) {
        container_close(place->pool[--place->pool_count]);
    }
}
