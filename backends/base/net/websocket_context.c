#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "backends/base/net/websocket_internal.h"

/* So many turns of the loop libwebsockets needs between the two calls that destroy it: its event
 * pipe closes in the first, and in that close callback it begins to close its timer and idle
 * handle.
 */
enum { TURNS_TO_DESTROY = 4 };

/* ---- acknowledgements ---- */

/* A server that writes a message in small pieces waits for the acknowledgement of each (Nagle), and
 * we would hold it back for 40 ms. Asking for it at once is not a lasting option (tcp(7)), so it is
 * set after each poll, when libwebsockets has read; also for what was no whole frame yet and so
 * made no callback. */
static void on_check(uv_check_t *check)
{
    struct websocket_context *context = check->data;
    uint64_t now = uv_now(context->loop);
    bool any = false;
    const int one = 1;
    for (struct websocket *ws = context->first; ws; ws = ws->next) {
        if (ws->quick_until_ms < now || !ws->wsi) {
            continue;
        }
        setsockopt(lws_get_socket_fd(ws->wsi), IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
        any = true;
    }
    if (!any) {
        uv_check_stop(check);
    }
}

void websocket_context_quick(struct websocket *ws)
{
    if (ws->quick_ack && ws->wsi && !ws->unix_socket) {
        ws->quick_until_ms = uv_now(ws->context->loop) + QUICK_MS;
        uv_check_start(&ws->context->check, on_check);
    }
}

/* ---- vhosts ---- */

static struct lws_vhost *make_vhost(struct websocket_context *context, bool tls,
                                    const char *ca_file)
{
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = websocket_protocols,
        .vhost_name = ca_file ? ca_file
                      : tls   ? "tls"
                              : "plain",
        .http_proxy_address = "", /* so that the environment is not looked at */
        .options = tls ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0,
        .client_ssl_ca_filepath = ca_file,
    };
    if (ca_file) {
        info.options |= LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
    }
    struct lws_vhost *vhost = lws_create_vhost(context->lws, &info);
    if (vhost && tls && lws_init_vhost_client_ssl(&info, vhost) != 0) {
        lws_vhost_destroy(vhost);
        return NULL;
    }
    return vhost;
}

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

struct lws_vhost *websocket_context_vhost(struct websocket_context *context, bool tls,
                                          const char *ca_file, struct error *err)
{
    for (struct vhost_row *row = context->vhosts; row; row = row->next) {
        if (row->tls == tls && same(row->ca_file, ca_file)) {
            return row->vhost;
        }
    }
    struct vhost_row *row = calloc(1, sizeof(*row));
    if (row && ca_file) {
        row->ca_file = strdup(ca_file);
    }
    if (row && (!ca_file || row->ca_file)) {
        row->tls = tls;
        row->vhost = make_vhost(context, tls, ca_file);
    }
    if (!row || !row->vhost) {
        error_set(err, ERROR_INVALID, "TLS cannot be set up%s%s: is it a file of PEM certificates?",
                  ca_file ? " with " : "", ca_file ? ca_file : "");
        free(row ? row->ca_file : NULL);
        free(row);
        return NULL;
    }
    row->next = context->vhosts;
    context->vhosts = row;
    return row->vhost;
}

/* ---- the context ---- */

static void free_context(struct websocket_context *context)
{
    for (struct vhost_row *row = context->vhosts; row;) {
        struct vhost_row *next = row->next;
        free(row->ca_file);
        free(row);
        row = next;
    }
    free(context);
}

static void handle_closed(uv_handle_t *handle)
{
    struct websocket_context *context = handle->data;
    if (--context->handles > 0) {
        return;
    }
    void (*closed)(void *data) = context->closed;
    void *data = context->closed_data;
    free_context(context);
    if (closed) {
        closed(data);
    }
}

static void close_handles(struct websocket_context *context)
{
    context->handles = 2;
    uv_close((uv_handle_t *)&context->check, handle_closed);
    uv_close((uv_handle_t *)&context->idle, handle_closed);
}

static void on_destroy_turn(uv_idle_t *idle)
{
    struct websocket_context *context = idle->data;
    if (++context->turns < TURNS_TO_DESTROY) {
        return;
    }
    if (context->lws) {
        lws_context_destroy(context->lws);
    }
    close_handles(context);
}

void websocket_context_close(struct websocket_context *context, void (*closed)(void *data),
                             void *data)
{
    context->closed = closed;
    context->closed_data = data;
    uv_check_stop(&context->check);
    lws_context_destroy(context->lws);
    uv_idle_start(&context->idle, on_destroy_turn);
}

struct websocket_context *websocket_context_new(uv_loop_t *loop, struct error *err)
{
    struct websocket_context *context = calloc(1, sizeof(*context));
    if (!context) {
        error_set(err, ERROR_INTERNAL, "websocket: out of memory");
        return NULL;
    }
    void *loops[] = {loop};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
        .foreign_loops = loops,
        .pcontext = &context->lws,
        .fd_limit_per_thread = CONNECTIONS_CAP + 16,
        .pt_serv_buf_size = RX_SIZE,
        .max_http_header_data2 = HEAD_CAP,
        .timeout_secs = 24 * 3600, /* ours are shorter */
        .connect_timeout_secs = 24 * 3600,
    };
    lws_set_log_level(0, NULL);
    context->loop = loop;
    context->lws = lws_create_context(&info);
    if (!context->lws) {
        error_set(err, ERROR_UNSUPPORTED,
                  "libwebsockets cannot be started on libuv: is its plug-in installed (apt-get "
                  "install libwebsockets-evlib-uv)?");
        free(context);
        return NULL;
    }
    uv_check_init(loop, &context->check);
    uv_unref((uv_handle_t *)&context->check);
    uv_idle_init(loop, &context->idle);
    context->check.data = context;
    context->idle.data = context;
    return context;
}
