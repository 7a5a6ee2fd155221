#include "backends/kernels/jupyter/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ID_CAP = 200,
    CREATE_MS = 60 * 1000,
    CONNECT_MS = 60 * 1000, /* the handshake waits until the kernel has answered */
    DELETE_MS = 15 * 1000,
    DELETE_TRIES = 40,
    DELETE_AGAIN_MS = 250,
    ORDER_MS = 10 * 1000,
    AGAIN_MS = 50,                  /* first pause between two tries */
    AGAIN_MOST_MS = 2000,           /* they double up to this */
    AGAIN_LIMIT_MS = 30 * 1000,     /* all tries of one cut */
    WAITING_CAP = 64 * 1024 * 1024, /* bytes that wait for a connection */
};

/* A message that waits for the connection. */
struct waiting {
    struct waiting *next;
    bool binary;
    struct buffer bytes;
};

struct remote {
    struct jupyter_server *server;
    struct websocket_context *websockets;
    struct remote_events events;
    void *data;
    char *id;
    char session[JUPYTER_ID_SIZE];
    struct websocket *ws;
    uv_timer_t timer;
    bool open;
    bool opened_once;
    bool v1;
    bool ended;
    bool made; /* by us */
    bool closing;
    bool deleting;
    bool checking;
    unsigned deletes; /* tries of it */
    bool finished;    /* the timer is being closed */
    unsigned busy;    /* calls and sockets that hold us */
    enum remote_fate fate;
    uint64_t cut_at;
    unsigned pause_ms;
    struct waiting *first, **last;
    size_t waiting_size;
    struct error close_error;
    void (*closed)(void *data, const struct error *err);
    void *closed_data;
};

static void maybe_closed(struct remote *r);
static void connect_now(struct remote *r);

struct remote *remote_new(struct jupyter_server *server, struct websocket_context *websockets,
                          const struct remote_events *events, void *data)
{
    struct remote *r = calloc(1, sizeof(*r));

    if (!r) {
        return NULL;
    }
    r->server = server;
    r->websockets = websockets;
    r->events = *events;
    r->data = data;
    r->last = &r->first;
    jupyter_make_id(r->session);
    uv_timer_init(server->loop, &r->timer);
    r->timer.data = r;
    return r;
}

const char *remote_id(const struct remote *r)
{
    return r->id ? r->id : "";
}

bool remote_is_open(const struct remote *r)
{
    return r->open;
}

static void end(struct remote *r, const struct error *err)
{
    if (!r->ended && !r->closing) {
        r->ended = true;
        uv_timer_stop(&r->timer);
        r->events.on_end(r->data, err);
    }
}

/* ---- sending ---- */

static void waiting_free(struct waiting *w)
{
    buffer_deinit(&w->bytes);
    free(w);
}

static int keep_waiting(struct remote *r, const struct buffer *bytes, bool binary)
{
    struct waiting *w;

    if (r->waiting_size + buffer_size(bytes) > WAITING_CAP) {
        return -ENOBUFS;
    }
    w = calloc(1, sizeof(*w));
    if (!w) {
        return -ENOMEM;
    }
    w->binary = binary;
    buffer_init(&w->bytes, WAITING_CAP);
    if (buffer_append(&w->bytes, buffer_data(bytes), buffer_size(bytes)) < 0) {
        waiting_free(w);
        return -ENOMEM;
    }
    r->waiting_size += buffer_size(bytes);
    *r->last = w;
    r->last = &w->next;
    return 0;
}

static struct waiting *next_waiting(struct remote *r)
{
    struct waiting *w = r->first;

    if (w) {
        r->first = w->next;
        if (!r->first) {
            r->last = &r->first;
        }
        r->waiting_size -= buffer_size(&w->bytes);
    }
    return w;
}

static void send_waiting(struct remote *r)
{
    struct waiting *w;

    while (r->open && (w = next_waiting(r))) {
        (void)websocket_send(r->ws, w->binary, buffer_data(&w->bytes), buffer_size(&w->bytes));
        waiting_free(w);
    }
}

static int send_out(struct remote *r, struct jupyter_outgoing *out)
{
    struct buffer bytes;
    bool binary = false;
    int n;

    if (r->ended || r->closing) {
        return -EPIPE;
    }
    out->session = r->session;
    buffer_init(&bytes, WAITING_CAP);
    n = jupyter_message_build(r->v1, out, &bytes, &binary);
    if (n == 0) {
        n = r->open ? websocket_send(r->ws, binary, buffer_data(&bytes), buffer_size(&bytes))
                    : keep_waiting(r, &bytes, binary);
    }
    buffer_deinit(&bytes);
    return n;
}

int remote_send(struct remote *r, enum jupyter_channel channel, const char *type, json_t *content,
                const void *buffer, size_t buffer_bytes, char id[JUPYTER_ID_SIZE])
{
    struct jupyter_outgoing out = {
        .channel = channel,
        .type = type,
        .id = id,
        .content = content,
        .buffer = buffer,
        .buffer_size = buffer_bytes,
    };

    jupyter_make_id(id);
    return send_out(r, &out);
}

int remote_send_again(struct remote *r, enum jupyter_channel channel, const char *type,
                      json_t *content, const char *id)
{
    struct jupyter_outgoing out = {.channel = channel, .type = type, .id = id, .content = content};

    return send_out(r, &out);
}

/* ---- the connection ---- */

static void on_open(void *data, const char *subprotocol)
{
    struct remote *r = data;
    bool again = r->opened_once;

    if (r->closing) {
        return;
    }
    r->v1 = strcmp(subprotocol, JUPYTER_SUBPROTOCOL) == 0;
    r->open = true;
    r->opened_once = true;
    r->pause_ms = 0;
    r->cut_at = 0;
    send_waiting(r);
    r->events.on_open(r->data, again);
}

static void on_message(void *data, bool binary, const char *bytes, size_t size)
{
    struct remote *r = data;
    struct jupyter_message message;
    struct error err = {0};
    const char *why;

    if (r->closing || r->ended) {
        return;
    }
    if (jupyter_message_parse(r->v1, binary, bytes, size, &message, &why) < 0) {
        (void)error_set(&err, ERROR_LOST,
                        "the Jupyter server sent a message that does not keep to the protocol: "
                        "it %s",
                        why);
        end(r, &err);
        error_clear(&err);
        return;
    }
    r->events.on_message(r->data, &message);
    jupyter_message_deinit(&message);
}

static void on_timer(uv_timer_t *timer)
{
    connect_now(timer->data);
}

static void try_again(struct remote *r, const struct error *why)
{
    uint64_t now = uv_now(r->server->loop);
    struct error err = {0};

    if (r->cut_at == 0) {
        r->cut_at = now;
    }
    if (now - r->cut_at > AGAIN_LIMIT_MS) {
        error_copy(&err, why);
        (void)error_wrap(&err,
                         "the connection to the kernel was lost and could not be made again "
                         "within %d s",
                         AGAIN_LIMIT_MS / 1000);
        end(r, &err);
        error_clear(&err);
        return;
    }
    uv_timer_start(&r->timer, on_timer, r->pause_ms, 0);
    r->pause_ms = r->pause_ms == 0 ? AGAIN_MS : 2 * r->pause_ms;
    if (r->pause_ms > AGAIN_MOST_MS) {
        r->pause_ms = AGAIN_MOST_MS;
    }
}

static void on_ws_closed(void *data)
{
    struct remote *r = data;

    r->busy--;
    maybe_closed(r);
}

static void on_ws_end(void *data, long status, const struct error *err)
{
    struct remote *r = data;
    struct error gone = {0};

    r->open = false;
    websocket_close(r->ws, on_ws_closed, r);
    r->ws = NULL;
    if (r->closing || r->ended) {
        return;
    }
    if (status == 404) {
        (void)error_set(&gone, ERROR_NOT_FOUND, "the Jupyter server has no kernel %s", r->id);
        end(r, &gone);
        error_clear(&gone);
    } else if (status == 401 || status == 403) {
        end(r, err);
    } else {
        try_again(r, err);
    }
}

static void connect_now(struct remote *r)
{
    static const struct websocket_events events = {on_open, on_message, on_ws_end};
    char *url = jupyter_server_channels_url(r->server, r->id, r->session);
    struct error err = {0};
    struct websocket_options options = {
        .url = url,
        .unix_socket = r->server->unix_socket,
        .subprotocol = JUPYTER_SUBPROTOCOL,
        .headers = (const char *const *)r->server->headers,
        .ca_file = r->server->ca_file,
        .insecure = r->server->insecure,
        .connect_timeout_ms = CONNECT_MS,
        .quick_ack = true,
    };

    if (r->closing || r->ended) {
        free(url);
        return;
    }
    r->ws = url ? websocket_open(r->websockets, &options, &events, r, &err) : NULL;
    if (r->ws) {
        r->busy++;
    } else {
        try_again(r, &err);
    }
    error_clear(&err);
    free(url);
}

/* ---- the kernel ---- */

/* It becomes a part of paths. */
static bool good_id(const char *id)
{
    size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    return n > 0 && n <= ID_CAP && id[n] == '\0';
}

static void tell_kernel(const struct remote *r, bool there)
{
    if (r->made && r->id && r->server->on_kernel) {
        r->server->on_kernel(r->server->data, r->id, there);
    }
}

static void on_created(void *data, long status, json_t *body, const struct error *failure)
{
    struct remote *r = data;
    const char *id = json_string_value(json_object_get(body, "id"));
    struct error err = {0};

    (void)status;
    r->busy--;
    if (!failure && (!id || !good_id(id))) {
        (void)error_set(&err, ERROR_LOST,
                        "the Jupyter server made a kernel and did not name it by an id of letters, "
                        "digits and \"-\"");
        failure = &err;
    }
    if (failure) {
        end(r, failure);
    } else if (!r->id) {
        r->id = strdup(id);
        tell_kernel(r, true);
    }
    error_clear(&err);
    if (r->closing) {
        maybe_closed(r);
    } else if (r->id && !r->ended) {
        connect_now(r);
    }
}

void remote_start(struct remote *r, const char *spec, const char *kernel_id)
{
    json_t *body;
    char *path = NULL;
    char *escaped;

    r->busy++;
    r->made = !kernel_id;
    if (!kernel_id) {
        body = json_pack("{s:s}", "name", spec);
        jupyter_server_call(r->server, "POST", "/api/kernels", body, CREATE_MS, on_created, r);
        json_decref(body);
        return;
    }
    escaped = http_escape(kernel_id);
    if (!escaped || asprintf(&path, "/api/kernels/%s", escaped) < 0) {
        abort();
    }
    jupyter_server_call(r->server, "GET", path, NULL, 0, on_created, r);
    free(escaped);
    free(path);
}

void remote_start_known(struct remote *r, const char *kernel_id)
{
    r->id = strdup(kernel_id);
    if (!r->id) {
        abort();
    }
    connect_now(r);
}

static char *kernel_path(const struct remote *r, const char *verb)
{
    char *escaped = http_escape(r->id);
    char *path = NULL;

    if (!escaped || asprintf(&path, "/api/kernels/%s%s%s", escaped, *verb ? "/" : "", verb) < 0) {
        abort();
    }
    free(escaped);
    return path;
}

static void on_ordered(void *data, long status, json_t *body, const struct error *err)
{
    struct remote *r = data;

    (void)status;
    (void)body;
    (void)err;
    r->busy--;
    maybe_closed(r);
}

void remote_order(struct remote *r, const char *verb)
{
    char *path;

    if (!r->id || r->closing) {
        return;
    }
    path = kernel_path(r, verb);
    r->busy++;
    jupyter_server_call(r->server, "POST", path, NULL, ORDER_MS, on_ordered, r);
    free(path);
}

/* Servers do not tell that somebody has deleted a kernel: messages to it are lost. */
static void on_checked(void *data, long status, json_t *body, const struct error *err)
{
    struct remote *r = data;
    struct error gone = {0};

    (void)body;
    r->busy--;
    r->checking = false;
    if (err && status == 404 && !r->closing) {
        (void)error_set(&gone, r->opened_once ? ERROR_NOT_FOUND : ERROR_LOST,
                        r->opened_once ? "the Jupyter server has no kernel %s any more"
                                       : "the kernel %s died while it was starting; the Jupyter "
                                         "server's log says why",
                        r->id);
        end(r, &gone);
        error_clear(&gone);
    }
    maybe_closed(r);
}

void remote_check(struct remote *r)
{
    char *path;

    if (!r->id || r->closing || r->ended || r->checking) {
        return;
    }
    path = kernel_path(r, "");
    r->checking = true;
    r->busy++;
    jupyter_server_call(r->server, "GET", path, NULL, ORDER_MS, on_checked, r);
    free(path);
}

/* ---- closing ---- */

static void delete_kernel(struct remote *r);

static void on_delete_again(uv_timer_t *timer)
{
    struct remote *r = timer->data;

    r->busy--;
    delete_kernel(r);
}

static void on_deleted(void *data, long status, json_t *body, const struct error *err)
{
    struct remote *r = data;

    (void)body;
    r->busy--;
    if (err && status >= 500 && ++r->deletes < DELETE_TRIES) {
        /* As servers answer while they restart a kernel that has died. */
        uv_timer_start(&r->timer, on_delete_again, DELETE_AGAIN_MS, 0);
        r->busy++;
        return;
    }
    if (err && status != 404) {
        error_copy(&r->close_error, err);
    } else {
        tell_kernel(r, false);
    }
    maybe_closed(r);
}

static void delete_kernel(struct remote *r)
{
    char *path = kernel_path(r, "");

    r->deleting = true;
    r->busy++;
    jupyter_server_call(r->server, "DELETE", path, NULL, DELETE_MS, on_deleted, r);
    free(path);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct remote *r = handle->data;
    struct waiting *w;

    while ((w = next_waiting(r))) {
        waiting_free(w);
    }
    r->closed(r->closed_data, r->close_error.kind == ERROR_NONE ? NULL : &r->close_error);
    error_clear(&r->close_error);
    free(r->id);
    free(r);
}

/* A kernel that was still being made is waited for, to be deleted. */
static void maybe_closed(struct remote *r)
{
    if (!r->closing || r->busy > 0 || r->finished) {
        return;
    }
    if (r->fate == REMOTE_DELETE && r->id && !r->deleting) {
        delete_kernel(r);
        return;
    }
    r->finished = true;
    uv_close((uv_handle_t *)&r->timer, on_timer_closed);
}

void remote_close(struct remote *r, enum remote_fate fate,
                  void (*closed)(void *data, const struct error *err), void *data)
{
    r->closing = true;
    r->fate = fate;
    r->closed = closed;
    r->closed_data = data;
    uv_timer_stop(&r->timer);
    if (r->ws) {
        r->open = false;
        websocket_close(r->ws, on_ws_closed, r);
        r->ws = NULL;
    }
    if (fate == REMOTE_DELETE && r->id && !r->deleting) {
        delete_kernel(r); /* does not wait for the socket */
    }
    maybe_closed(r);
}
