#include "backends/base/net/websocket.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/base/net/websocket_internal.h"

/* ---- its memory ---- */

static void free_parts(struct websocket *ws)
{
    websocket_drop_queue(ws);
    websocket_url_deinit(&ws->url);
    buffer_deinit(&ws->incoming);
    if (ws->addresses) {
        uv_freeaddrinfo(ws->addresses);
    }
    free(ws->unix_socket);
    free(ws->subprotocol);
    free(ws->headers);
    free(ws->ca_file);
    free(ws);
}

static void leave_context(struct websocket *ws)
{
    struct websocket **at = &ws->context->first;
    while (*at != ws) {
        at = &(*at)->next;
    }
    *at = ws->next;
    ws->context->count--;
}

static void timer_closed(uv_handle_t *handle)
{
    struct websocket *ws = handle->data;
    void (*closed)(void *data) = ws->closed;
    void *data = ws->closed_data;
    leave_context(ws);
    free_parts(ws);
    if (closed) {
        closed(data);
    }
}

void websocket_hold(struct websocket *ws)
{
    ws->holds++;
}

/* The timer is the last to go: it is what bounds all the others. */
static void close_if_done(struct websocket *ws)
{
    if (ws->closing && ws->holds == 0 && !uv_is_closing((uv_handle_t *)&ws->timer)) {
        uv_close((uv_handle_t *)&ws->timer, timer_closed);
    }
}

void websocket_release(struct websocket *ws)
{
    ws->holds--;
    close_if_done(ws);
}

void websocket_drop_queue(struct websocket *ws)
{
    while (ws->first) {
        struct outgoing *next = ws->first->next;
        free(ws->first);
        ws->first = next;
    }
    ws->last = &ws->first;
    ws->queued = 0;
}

/* ---- silence, and the end ---- */

static void on_closing_limit(uv_timer_t *timer)
{
    websocket_kill(timer->data);
}

void websocket_end(struct websocket *ws, long status, struct error *err)
{
    bool tell = ws->phase != PHASE_ENDED && !ws->closing;
    ws->phase = PHASE_ENDED;
    websocket_drop_queue(ws);
    uv_timer_start(&ws->timer, on_closing_limit, CLOSING_MS, 0);
    websocket_hold(ws);
    if (tell) {
        ws->events.on_end(ws->data, status, err);
    }
    error_clear(err);
    websocket_release(ws);
}

/* Milliseconds since the peer was last heard. Of a frame that comes slowly libwebsockets gives us
 * nothing until there is a buffer full of it: the kernel knows. */
static uint64_t silence_ms(const struct websocket *ws)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);
    uint64_t silent = uv_now(ws->context->loop) - ws->heard_ms;
    if (!ws->unix_socket && ws->wsi &&
        getsockopt(lws_get_socket_fd(ws->wsi), IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
        info.tcpi_last_data_recv < silent) {
        return info.tcpi_last_data_recv;
    }
    return silent;
}

static void on_silence(uv_timer_t *timer)
{
    struct websocket *ws = timer->data;
    struct error err = {0};
    uint64_t silent = ws->paused ? 0 : silence_ms(ws);
    if (silent < ws->ping_ms) {
        ws->pinged = false;
        uv_timer_start(timer, on_silence, ws->ping_ms - silent, 0);
    } else if (!ws->pinged) {
        ws->pinged = ws->ping_due = true;
        lws_callback_on_writable(ws->wsi);
        uv_timer_start(timer, on_silence, ws->ping_ms, 0);
    } else {
        error_set(&err, ERROR_LOST,
                  "nothing was heard of %s for %llu seconds, and a ping was not answered",
                  ws->url.authority, (unsigned long long)(silent / 1000));
        websocket_end(ws, 0, &err);
        websocket_kill(ws);
    }
}

void websocket_opened(struct websocket *ws)
{
    ws->heard_ms = uv_now(ws->context->loop);
    uv_timer_start(&ws->timer, on_silence, ws->ping_ms, 0);
    websocket_context_quick(ws);
}

/* ---- what a caller asks ---- */

static bool is_clean(const char *text)
{
    return !text[strcspn(text, "\r\n")];
}

static int copy_headers(struct websocket *ws, const char *const *headers, struct error *err)
{
    struct buffer all;
    buffer_init(&all, REQUEST_HEADERS_CAP);
    int r = 0;
    for (; r == 0 && headers && *headers; headers++) {
        if (!is_clean(*headers) || !strchr(*headers, ':')) {
            buffer_deinit(&all);
            return error_set(err, ERROR_INVALID,
                             "websocket: a header must be one line \"Name: value\"");
        }
        r = buffer_append(&all, *headers, strlen(*headers));
        r = r == 0 ? buffer_append(&all, "\r\n", 2) : r;
    }
    r = r == 0 ? buffer_append(&all, "", 1) : r;
    ws->headers = r == 0 ? all.base : NULL;
    if (r < 0) {
        buffer_deinit(&all);
        return error_set_code(err, ERROR_LIMIT, r, "websocket: the headers (at most %d bytes)",
                              REQUEST_HEADERS_CAP);
    }
    return 0;
}

static int copy_text(const char *from, char **to)
{
    *to = from ? strdup(from) : NULL;
    return from && !*to ? -ENOMEM : 0;
}

static int check_options(const struct websocket_options *options, struct error *err)
{
    if (options->subprotocol &&
        (!is_clean(options->subprotocol) || strlen(options->subprotocol) > 100)) {
        return error_set(err, ERROR_INVALID, "websocket: the subprotocol must be one short line");
    }
    if (options->ca_file && access(options->ca_file, R_OK) < 0) {
        return error_set_code(err, ERROR_INVALID, errno, "the CA file %s", options->ca_file);
    }
    return 0;
}

static int copy_options(struct websocket *ws, const struct websocket_options *options,
                        struct error *err)
{
    ws->insecure = options->insecure;
    ws->quick_ack = options->quick_ack;
    ws->connect_ms = options->connect_timeout_ms ? options->connect_timeout_ms : DEFAULT_CONNECT_MS;
    ws->ping_ms = (options->ping_seconds ? options->ping_seconds : DEFAULT_PING_S) * 1000;
    ws->message_cap = options->message_cap ? options->message_cap : DEFAULT_MESSAGE_CAP;
    buffer_init(&ws->incoming, ws->message_cap);
    if (copy_text(options->unix_socket, &ws->unix_socket) < 0 ||
        copy_text(options->subprotocol, &ws->subprotocol) < 0 ||
        copy_text(options->ca_file, &ws->ca_file) < 0) {
        return error_set(err, ERROR_INTERNAL, "websocket: out of memory");
    }
    if (check_options(options, err) < 0 || websocket_url_parse(options->url, &ws->url, err) < 0) {
        return -1;
    }
    return copy_headers(ws, options->headers, err);
}

struct websocket *websocket_open(struct websocket_context *context,
                                 const struct websocket_options *options,
                                 const struct websocket_events *events, void *data,
                                 struct error *err)
{
    if (context->count == CONNECTIONS_CAP) {
        error_set(err, ERROR_LIMIT, "websocket: %d connections are open; close some first",
                  CONNECTIONS_CAP);
        return NULL;
    }
    struct websocket *ws = calloc(1, sizeof(*ws));
    if (!ws) {
        error_set(err, ERROR_INTERNAL, "websocket: out of memory");
        return NULL;
    }
    ws->context = context;
    ws->events = *events;
    ws->data = data;
    ws->fd = -1;
    ws->last = &ws->first;
    if (copy_options(ws, options, err) < 0) {
        free_parts(ws);
        return NULL;
    }
    ws->next = context->first;
    context->first = ws;
    context->count++;
    uv_timer_init(context->loop, &ws->timer);
    ws->timer.data = ws;
    websocket_connect_start(ws);
    return ws;
}

int websocket_send(struct websocket *ws, bool binary, const void *bytes, size_t size)
{
    if (ws->phase != PHASE_OPEN || ws->closing) {
        return -EPIPE;
    }
    if (size > WEBSOCKET_QUEUE_CAP - ws->queued) {
        return -ENOBUFS;
    }
    struct outgoing *out = malloc(sizeof(*out) + LWS_PRE + size);
    if (!out) {
        return -ENOMEM;
    }
    out->next = NULL;
    out->size = size;
    out->binary = binary;
    if (size > 0) {
        memcpy(out->bytes + LWS_PRE, bytes, size);
    }
    *ws->last = out;
    ws->last = &out->next;
    ws->queued += size;
    websocket_context_quick(ws);
    lws_callback_on_writable(ws->wsi);
    return 0;
}

void websocket_pause(struct websocket *ws, bool paused)
{
    if (ws->phase != PHASE_OPEN || ws->closing || paused == ws->paused) {
        return;
    }
    ws->paused = paused;
    ws->heard_ms = uv_now(ws->context->loop);
    lws_rx_flow_control(ws->wsi, !paused);
}

void websocket_close(struct websocket *ws, void (*closed)(void *data), void *data)
{
    if (ws->phase == PHASE_OPEN) {
        websocket_pause(ws, false);
        lws_callback_on_writable(ws->wsi);
    }
    ws->closing = true;
    ws->closed = closed;
    ws->closed_data = data;
    if (ws->phase == PHASE_CONNECTING || ws->phase == PHASE_HANDSHAKE) {
        bool handshake = ws->phase == PHASE_HANDSHAKE;
        ws->phase = PHASE_ENDED;
        websocket_connect_stop(ws);
        if (handshake) {
            websocket_kill(ws);
        }
    }
    if (!uv_is_closing((uv_handle_t *)&ws->timer)) {
        uv_timer_start(&ws->timer, on_closing_limit, CLOSING_MS, 0);
    }
    close_if_done(ws);
}
