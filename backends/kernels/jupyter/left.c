#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/kernels/jupyter/remote.h"

/*
 * A kernel that nobody owns any more:
 *
 *   GET, until nobody is connected ─► connect ─► "bye" answered, or too late ─► DELETE
 */
enum {
    ASK_MS = 5000,
    LOOK_AGAIN_MS = 500, /* a server may not have noticed yet that a client is dead */
    LOOKS = 6,
    BYE_MS = 3000,
};

struct left {
    struct jupyter_server *server;
    struct websocket_context *websockets;
    char *id;
    struct remote *remote;
    uv_timer_t timer;
    unsigned looks;
    bool ending;
    struct error err;
    void (*done)(void *data, const struct error *err);
    void *data;
};

static void on_timer_closed(uv_handle_t *handle)
{
    struct left *l = handle->data;

    l->done(l->data, l->err.kind == ERROR_NONE ? NULL : &l->err);
    error_clear(&l->err);
    free(l->id);
    free(l);
}

static void finish(struct left *l, const struct error *err)
{
    if (err) {
        error_copy(&l->err, err);
    }
    uv_close((uv_handle_t *)&l->timer, on_timer_closed);
}

/* ---- ending it ---- */

static void on_remote_closed(void *data, const struct error *err)
{
    finish(data, err);
}

static void end_kernel(struct left *l)
{
    if (!l->ending) {
        l->ending = true;
        uv_timer_stop(&l->timer);
        remote_close(l->remote, REMOTE_DELETE, on_remote_closed, l);
    }
}

static void on_late(uv_timer_t *timer)
{
    end_kernel(timer->data);
}

static void ask(struct left *l, const char *op)
{
    json_t *content = json_pack("{s:s}", "op", op);
    char id[JUPYTER_ID_SIZE];

    if (content) {
        (void)remote_send(l->remote, JUPYTER_CONTROL, "cellblock_request", content, NULL, 0, id);
    }
    json_decref(content);
}

static void on_open(void *data, bool again)
{
    (void)again;
    ask(data, "bye");
}

/* A kernel that is busy takes seconds to be deleted; its helper is quicker. */
static void on_message(void *data, struct jupyter_message *message)
{
    if (message->channel == JUPYTER_CONTROL) {
        ask(data, "die");
        end_kernel(data);
    }
}

/* What cannot be connected to is deleted all the same. */
static void on_end(void *data, const struct error *err)
{
    (void)err;
    end_kernel(data);
}

static void say_bye(struct left *l)
{
    static const struct remote_events events = {on_open, on_message, on_end};

    l->remote = remote_new(l->server, l->websockets, &events, l);
    if (!l->remote) {
        abort(); /* so few bytes, and nobody could be told */
    }
    uv_timer_start(&l->timer, on_late, BYE_MS, 0);
    remote_start_known(l->remote, l->id);
}

/* ---- looking ---- */

static void look(struct left *l);

static void on_look_again(uv_timer_t *timer)
{
    look(timer->data);
}

static void on_looked(void *data, long status, json_t *body, const struct error *err)
{
    struct left *l = data;
    struct error busy = {0};

    if (err) {
        finish(l, status == 404 ? NULL : err);
    } else if (json_integer_value(json_object_get(body, "connections")) <= 0) {
        say_bye(l);
    } else if (++l->looks < LOOKS) {
        uv_timer_start(&l->timer, on_look_again, LOOK_AGAIN_MS, 0);
    } else {
        (void)error_set(&busy, ERROR_REFUSED, "somebody is connected to the kernel %s", l->id);
        finish(l, &busy);
        error_clear(&busy);
    }
}

static void look(struct left *l)
{
    char *escaped = http_escape(l->id);
    char *path = escaped ? string_format("/api/kernels/%s", escaped) : NULL;

    if (!path) {
        abort();
    }
    jupyter_server_call(l->server, "GET", path, NULL, ASK_MS, on_looked, l);
    free(escaped);
    free(path);
}

void jupyter_server_end_left(struct jupyter_server *server, struct websocket_context *websockets,
                             const char *id, void (*done)(void *data, const struct error *err),
                             void *data)
{
    struct left *l = calloc(1, sizeof(*l));

    if (!l || !(l->id = strdup(id))) {
        abort();
    }
    l->server = server;
    l->websockets = websockets;
    l->done = done;
    l->data = data;
    uv_timer_init(server->loop, &l->timer);
    l->timer.data = l;
    look(l);
}
