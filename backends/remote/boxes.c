#include <string.h>

#include "backends/remote/box.h"

/* The boxes of a place. In the pool are those that are started and that nobody has used, with a
 * worker that is ready. None of them has any share. */

/* ---- the pool ---- */

static void forget(struct boxes *boxes, const struct box *b)
{
    for (unsigned i = 0; i < boxes->pool_count; i++) {
        if (boxes->pool[i] == b) {
            boxes->pool_count--;
            memmove(&boxes->pool[i], &boxes->pool[i + 1],
                    (boxes->pool_count - i) * sizeof(struct box *));
            return;
        }
    }
}

/* One that fails while it waits is no use, and the next one would most likely fail as well. */
static void drop(struct box *b)
{
    b->boxes->pool_failed = true;
    forget(b->boxes, b);
}

static void on_worker(void *data, struct link *link)
{
    (void)data;
    (void)link; /* kept by the box */
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct box *b = data;

    (void)exit;
    drop(b);
    box_fail(b, ERROR_LOST, "its worker ended before it was used");
}

static void on_gone(void *data, const struct machine_exit *exit)
{
    (void)exit;
    drop(data);
}

/* Owner of a pooled box is the box itself. */
static bool add(struct boxes *boxes)
{
    static const struct box_events events = {NULL, on_worker, on_worker_exit, on_gone};
    static const struct start_request nothing;
    struct box *b = boxes->ops->make(boxes->place, &nothing, true, &events, NULL);

    if (b) {
        box_own(b, &events, b);
        boxes->pool[boxes->pool_count++] = b;
    }
    return b != NULL;
}

struct box *boxes_take(struct boxes *boxes)
{
    struct box *best = NULL;

    for (unsigned i = 0; i < boxes->pool_count; i++) {
        struct box *b = boxes->pool[i];
        if (!best || b->state > best->state ||
            (b->state == best->state && b->link && !best->link)) {
            best = b;
        }
    }
    if (best) {
        forget(boxes, best);
    }
    return best;
}

static void fill(struct boxes *boxes)
{
    unsigned wanted = boxes->ops->pool_size(boxes->place);

    wanted = wanted < BOX_POOL_CAP ? wanted : BOX_POOL_CAP;
    while (!boxes->closing && !boxes->pool_failed && boxes->pool_count < wanted) {
        if (!add(boxes)) {
            return;
        }
    }
}

static void on_fill(uv_timer_t *timer)
{
    fill(timer->data);
}

void boxes_fill_later(struct boxes *boxes)
{
    if (!boxes->closing) {
        uv_timer_start(&boxes->fill, on_fill, BOX_POOL_FILL_MS, 0);
    }
}

static void drop_pool(struct boxes *boxes)
{
    uv_timer_stop(&boxes->fill);
    while (boxes->pool_count > 0) {
        struct box *b = boxes->pool[--boxes->pool_count];
        b->ops->close(b);
    }
}

/* ---- idle ---- */

static void on_idle(uv_timer_t *timer)
{
    struct boxes *boxes = timer->data;

    if (boxes->machines == 0) {
        drop_pool(boxes);
    }
}

void boxes_touch(struct boxes *boxes)
{
    if (!boxes->closing) {
        uint64_t ms = (uint64_t)(boxes->place->env->idle_timeout_seconds * 1000);
        uv_timer_start(&boxes->idle, on_idle, ms, 0);
        uv_unref((uv_handle_t *)&boxes->idle);
    }
}

void boxes_warm(struct boxes *boxes)
{
    boxes_touch(boxes);
    fill(boxes);
}

/* ---- from the place's opening to its closing ---- */

void boxes_init(struct boxes *boxes, const struct boxes_ops *ops, struct place *place)
{
    boxes->ops = ops;
    boxes->place = place;
    uv_timer_init(place->loop, &boxes->fill);
    uv_timer_init(place->loop, &boxes->idle);
    boxes->fill.data = boxes->idle.data = boxes;
    boxes->open_timers = 2;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct boxes *boxes = handle->data;

    if (--boxes->open_timers == 0) {
        boxes->ops->over(boxes->place);
    }
}

void boxes_maybe_over(struct boxes *boxes)
{
    if (!boxes->closing || boxes->first || boxes->machines > 0 ||
        uv_is_closing((uv_handle_t *)&boxes->fill)) {
        return;
    }
    uv_close((uv_handle_t *)&boxes->fill, on_timer_closed);
    uv_close((uv_handle_t *)&boxes->idle, on_timer_closed);
}

void boxes_close(struct boxes *boxes)
{
    boxes->closing = true;
    uv_timer_stop(&boxes->idle);
    drop_pool(boxes);
    boxes_maybe_over(boxes);
}
