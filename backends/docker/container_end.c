#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/docker/internal.h"

/* A container's end: who is told, and that nothing of it is left in the engine. */

static void remove_it(struct container *c);

/* ---- telling ---- */

void container_fail(struct container *c, enum error_kind kind, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    crate_vfail(&c->base, kind, format, args);
    va_end(args);
}

/* ---- letting go ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct container *c = handle->data;

    json_decref(c->folders);
    crate_deinit(&c->base);
    free(c);
}

void container_settle(struct container *c)
{
    if (c->waiting > 0 || c->attach || c->base.occupant || c->timer_closed) {
        return;
    }
    if (c->asked && !c->removed && !c->base.left) {
        remove_it(c);
        return;
    }
    c->timer_closed = true;
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
}

static void on_attach_closed(void *data)
{
    struct container *c = data;

    c->attach = NULL;
    container_settle(c);
}

static void let_stream_go(struct container *c)
{
    if (c->attach) {
        attach_close(c->attach, on_attach_closed, c);
    } else {
        container_settle(c);
    }
}

static void on_occupant_closed(void *data)
{
    struct container *c = data;

    c->base.occupant = NULL;
    let_stream_go(c);
}

void container_close(struct crate *crate)
{
    struct container *c = (struct container *)crate;

    if (c->base.state == CRATE_CLOSING) {
        return;
    }
    c->base.state = CRATE_CLOSING;
    c->base.events = NULL;
    c->request = (struct start_request){0};
    uv_timer_stop(&c->timer);
    if (c->base.occupant) {
        c->base.occupant->ops->close(c->base.occupant, on_occupant_closed, c);
    } else {
        let_stream_go(c);
    }
}

/* ---- removing ---- */

static void give_up(struct container *c, const struct error *err)
{
    free(c->place->left);
    c->place->left = string_format("%s (%s)", c->name, err ? err->message : "it stays");
    c->removed = true;
}

static bool engine_is_gone(const struct container *c, long status)
{
    return status == 0 && c->remove_tries >= 3;
}

static void on_removed(void *data, long status, json_t *reply, const struct error *err)
{
    struct container *c = data;

    (void)reply;
    c->waiting--;
    if (!err || status == 404) {
        c->removed = true;
    } else if (++c->remove_tries >= REMOVE_TRIES || engine_is_gone(c, status)) {
        give_up(c, err);
    } else {
        container_arm(c, REMOVE_AGAIN_MS, remove_it); /* "in progress already", most often */
        return;
    }
    container_settle(c);
}

static void remove_it(struct container *c)
{
    c->waiting++;
    engine_call(c->place->engine,
                &(struct engine_call){
                    .method = "DELETE",
                    .path = string_format("/containers/%s?force=1&v=1", c->id[0] ? c->id : c->name),
                    .timeout_ms = REMOVE_MS,
                    .done = on_removed,
                    .data = c});
}
