#include "backends/modal/resources.h"

#include <stdlib.h>
#include <string.h>

#include "backends/modal/resources_internal.h"

static void start(struct modal_resources *r);

/* ---- who waits ---- */

/* Who comes while they are told waits for the next time. */
static void tell(struct modal_resources *r, const struct error *err)
{
    struct resources_waiter *w = r->waiters;

    r->waiters = NULL;
    while (w) {
        struct resources_waiter *next = w->next;
        void (*done)(void *, const struct modal_ids *, const struct error *) = w->done;
        void *data = w->data;

        r->telling = next; /* modal_resources_leave may take more of them away */
        free(w);
        done(data, err ? NULL : &r->ids, err);
        w = r->telling;
    }
    r->telling = NULL;
}

static void say(struct modal_resources *r, const char *line)
{
    struct resources_waiter *next;

    for (struct resources_waiter *w = r->waiters; w; w = next) {
        next = w->next;
        if (w->waiting) {
            w->waiting(w->data, line);
        }
    }
}

static void take_out(struct resources_waiter **list, const void *data)
{
    while (*list) {
        struct resources_waiter *w = *list;
        if (w->data == data) {
            *list = w->next;
            free(w);
        } else {
            list = &w->next;
        }
    }
}

/* ---- the end of a search ---- */

static void check_closed(struct modal_resources *r);

static void on_soon(uv_timer_t *timer)
{
    struct modal_resources *r = timer->data;
    struct error err = r->failure;

    if (r->state == RESOURCES_READY) {
        tell(r, NULL);
        return;
    }
    r->failure = (struct error){0};
    if (err.kind != ERROR_NONE) {
        tell(r, &err);
    } else if (r->state == RESOURCES_IDLE && r->waiters) {
        start(r);
    }
    error_clear(&err);
}

static void tell_soon(struct modal_resources *r)
{
    if (!r->closing) {
        uv_timer_start(&r->soon, on_soon, 0, 0);
    }
}

static void settle(struct modal_resources *r, bool ready)
{
    r->state = ready && !r->abandoned ? RESOURCES_READY : RESOURCES_IDLE;
    if (r->abandoned) { /* whoever came since then begins anew */
        error_clear(&r->failure);
        r->abandoned = false;
    }
    tell_soon(r);
    check_closed(r);
}

/* ---- the image ---- */

static void on_line(void *data, const char *line)
{
    say(data, line);
}

static void on_image(void *data, const char *image_id, const struct error *err)
{
    struct modal_resources *r = data;

    r->image = NULL;
    if (err) {
        error_copy(&r->failure, err);
    } else {
        r->image_id = strdup(image_id);
        if (!r->image_id || resources_list(r) < 0) {
            error_set(&r->failure, ERROR_INTERNAL, "out of memory");
        }
    }
    settle(r, r->failure.kind == ERROR_NONE);
}

static int make_recipe(struct modal_resources *r)
{
    const char *builder = modal_client_credentials(r->client)->builder_version;

    modal_recipe_deinit(&r->recipe);
    return modal_recipe_make(r->env, builder ? builder : resources_builder(r), r->jupyter,
                             &r->recipe, &r->failure);
}

static void start_image(struct modal_resources *r)
{
    struct modal_image_order order = {.app_id = resources_app(r),
                                      .builder =
                                          modal_client_credentials(r->client)->builder_version,
                                      .recipe = &r->recipe,
                                      .registry = r->registry,
                                      .on_line = on_line,
                                      .done = on_image,
                                      .data = r};

    if (make_recipe(r) < 0) {
        settle(r, false);
        return;
    }
    if (r->recipe.count == 0) {
        on_image(r, r->recipe.image_id, NULL);
        return;
    }
    order.builder = order.builder ? order.builder : resources_builder(r);
    r->image = modal_image_start(r->client, r->loop, &order, &r->failure);
    if (!r->image) {
        settle(r, false);
    }
}

/* ---- a search ---- */

void resources_item_done(struct modal_resources *r)
{
    if (--r->going > 0) {
        return;
    }
    if (r->failure.kind != ERROR_NONE || r->abandoned) {
        settle(r, false);
    } else {
        start_image(r);
    }
}

static void start(struct modal_resources *r)
{
    r->state = RESOURCES_GOING;
    r->going = 1; /* ours, until all were started */
    for (unsigned i = 0; i < r->item_count; i++) {
        if (!r->items[i].id && resources_item_ask(&r->items[i]) == 0) {
            r->going++;
        }
    }
    resources_item_done(r);
}

static void abandon(struct modal_resources *r)
{
    if (r->state != RESOURCES_GOING || r->abandoned) {
        return;
    }
    r->abandoned = true;
    for (unsigned i = 0; i < r->item_count; i++) {
        if (r->items[i].rpc) {
            modal_rpc_cancel(r->items[i].rpc);
        }
    }
    if (r->image) {
        modal_image_cancel(r->image);
    }
}

/* ---- from outside ---- */

struct modal_resources *modal_resources_new(struct modal_client *client,
                                            const struct environment *env, bool jupyter)
{
    struct modal_resources *r = calloc(1, sizeof(*r));

    if (!r) {
        return NULL;
    }
    r->client = client;
    r->loop = modal_client_loop(client);
    r->env = env;
    r->jupyter = jupyter;
    if (resources_make_items(r) < 0) {
        free(r);
        return NULL;
    }
    r->soon.data = r;
    r->beat.data = r;
    uv_timer_init(r->loop, &r->soon);
    uv_timer_init(r->loop, &r->beat);
    r->handles = 2;
    return r;
}

void modal_resources_get(struct modal_resources *r, void (*waiting)(void *data, const char *what),
                         void (*done)(void *data, const struct modal_ids *ids,
                                      const struct error *err),
                         void *data)
{
    static const struct error no_memory = {.kind = ERROR_INTERNAL,
                                           .message = (char *)"out of memory"};
    struct resources_waiter *w = calloc(1, sizeof(*w));
    struct resources_waiter **end = &r->waiters;

    if (!w) {
        done(data, NULL, &no_memory); /* too early, but never is worse */
        return;
    }
    *w = (struct resources_waiter){.waiting = waiting, .done = done, .data = data};
    while (*end) {
        end = &(*end)->next;
    }
    *end = w;
    if (r->state != RESOURCES_GOING) {
        tell_soon(r);
    }
}

void modal_resources_leave(struct modal_resources *r, const void *data)
{
    take_out(&r->waiters, data);
    take_out(&r->telling, data);
    if (!r->waiters) {
        abandon(r);
    }
}

void modal_resources_forget(struct modal_resources *r)
{
    if (r->state != RESOURCES_READY) {
        return;
    }
    r->state = RESOURCES_IDLE;
    resources_clear(r, false);
}

/* ---- its end ---- */

static void check_closed(struct modal_resources *r)
{
    void (*closed)(void *data) = r->closed;
    void *data = r->closed_data;

    if (!r->closing || r->handles > 0 || r->state == RESOURCES_GOING || r->deleting > 0) {
        return;
    }
    resources_clear(r, true);
    modal_recipe_deinit(&r->recipe);
    error_clear(&r->failure);
    free(r->items);
    free(r);
    if (closed) {
        closed(data);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct modal_resources *r = handle->data;

    r->handles--;
    check_closed(r);
}

void resources_deleted(struct modal_resources *r)
{
    r->deleting--;
    check_closed(r);
}

void modal_resources_close(struct modal_resources *r, void (*closed)(void *data), void *data)
{
    r->closing = true;
    r->closed = closed;
    r->closed_data = data;
    while (r->waiters) {
        take_out(&r->waiters, r->waiters->data);
    }
    abandon(r);
    resources_delete_volumes(r);
    uv_close((uv_handle_t *)&r->soon, on_timer_closed);
    uv_close((uv_handle_t *)&r->beat, on_timer_closed);
}
