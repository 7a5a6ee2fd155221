#include <errno.h>
#include <fcntl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/base/net/websocket_internal.h"

/* ---- handing the connection over ---- */

/* A socket that accepts one connection, under a name that the kernel makes up: "+@NAME" for
 * libwebsockets. */
static int make_stand_in(char *ret_address, size_t size)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    socklen_t length = sizeof(at.sun_family);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (bind(fd, (const struct sockaddr *)&at, length) < 0 || listen(fd, 8) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    length = sizeof(at);
    getsockname(fd, (struct sockaddr *)&at, &length);
    snprintf(ret_address, size, "+@%.*s",
             (int)(length - offsetof(struct sockaddr_un, sun_path) - 1), at.sun_path + 1);
    return fd;
}

/* libwebsockets has connected to the stand-in and has sent nothing yet. */
static void take_over(struct websocket *ws, struct lws *wsi)
{
    ws->wsi = wsi;
    websocket_hold(ws);
    dup3(ws->fd, lws_get_socket_fd(wsi), O_CLOEXEC);
    close(ws->fd);
    ws->fd = -1;
}

/* libwebsockets 4.1 takes a host for its part up to the first colon. */
static bool is_ipv6(const struct websocket *ws)
{
    return strchr(ws->url.name, ':') != NULL;
}

static int connect_info(struct websocket *ws, const char *address,
                        struct lws_client_connect_info *info, struct error *err)
{
    *info = (struct lws_client_connect_info){
        .context = ws->context->lws,
        .address = address,
        .port = ws->url.port,
        .path = ws->url.path,
        .host = ws->url.authority,
        .protocol = ws->subprotocol,
        .local_protocol_name = websocket_protocols[0].name,
        .ietf_version_or_minus_one = -1,
        .userdata = ws,
        .opaque_user_data = ws,
        .ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT,
        .alpn = "http/1.1",
    };
    if (ws->url.tls) {
        info->ssl_connection |= LCCSCF_USE_SSL;
    }
    if (ws->insecure) {
        info->ssl_connection |= LCCSCF_ALLOW_SELFSIGNED | LCCSCF_ALLOW_EXPIRED |
                                LCCSCF_ALLOW_INSECURE | LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK;
    }
    if (is_ipv6(ws)) {
        info->ssl_connection |= LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK; /* check_certificate does */
    }
    info->vhost = websocket_context_vhost(ws->context, ws->url.tls, ws->ca_file, err);
    return info->vhost ? 0 : -1;
}

void websocket_handshake_start(struct websocket *ws)
{
    char address[128];
    struct lws_client_connect_info info;
    struct error err = {0};
    ws->phase = PHASE_HANDSHAKE;
    int listener = make_stand_in(address, sizeof(address));
    if (listener < 0) {
        error_set_code(&err, ERROR_INTERNAL, listener, "websocket: a socket of our own");
    } else if (connect_info(ws, address, &info, &err) == 0 && !lws_client_connect_via_info(&info) &&
               ws->phase == PHASE_HANDSHAKE) {
        /* Before it has returned libwebsockets does not call back for a failure. */
        error_set(&err, ERROR_LOST, "the WebSocket handshake with %s could not be started%s%s",
                  ws->url.authority, ws->tls_error[0] ? ": " : "", ws->tls_error);
    }
    if (listener >= 0) {
        close(listener);
    }
    if (err.kind != ERROR_NONE) {
        websocket_connect_stop(ws);
        websocket_end(ws, 0, &err);
    }
}

/* With output still waiting libwebsockets would not close for five seconds; on a socket that is
 * shut down its next write fails. */
void websocket_kill(struct websocket *ws)
{
    if (ws->wsi) {
        shutdown(lws_get_socket_fd(ws->wsi), SHUT_RDWR);
        lws_set_timeout(ws->wsi, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_SYNC);
    }
}

/* ---- the handshake ---- */

static int add_headers(const struct websocket *ws, unsigned char **at, size_t room)
{
    size_t size = ws->headers ? strlen(ws->headers) : 0;
    if (size > room) {
        return -1;
    }
    if (size > 0) {
        memcpy(*at, ws->headers, size);
        *at += size;
    }
    return 0;
}

/* Keeps why a certificate is not accepted; libwebsockets only says that it was not. */
static int check_certificate(struct websocket *ws, X509_STORE_CTX *store, bool fine)
{
    int code = X509_STORE_CTX_get_error(store);
    if (fine && !ws->insecure && is_ipv6(ws) && X509_STORE_CTX_get_error_depth(store) == 0 &&
        X509_check_ip_asc(X509_STORE_CTX_get_current_cert(store), ws->url.name, 0) != 1) {
        code = X509_V_ERR_IP_ADDRESS_MISMATCH;
        fine = false;
    }
    if (fine) {
        return 0;
    }
    if (ws->insecure) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 0;
    }
    snprintf(ws->tls_error, sizeof(ws->tls_error), "%s", X509_verify_cert_error_string(code));
    return 1;
}

static enum error_kind kind_of_status(long status)
{
    return status == 401 || status == 403 ? ERROR_REFUSED
           : status == 404                ? ERROR_NOT_FOUND
                                          : ERROR_LOST;
}

static void on_failed(struct websocket *ws, struct lws *wsi, const char *text, size_t size)
{
    struct error err = {0};
    char line[128] = "";
    long status = (long)lws_http_client_http_response(wsi);
    if (status != 0 && status != 101) {
        lws_hdr_copy(wsi, line, sizeof(line), WSI_TOKEN_HTTP);
        error_set(&err, kind_of_status(status), "%s refused the WebSocket connection: HTTP %s",
                  ws->url.authority, line[0] ? line : "error");
    } else if (ws->tls_error[0]) {
        error_set(&err, ERROR_LOST, "the certificate of %s is not accepted: %s", ws->url.authority,
                  ws->tls_error);
    } else {
        error_set(&err, ERROR_LOST, "the WebSocket handshake with %s failed: %.*s",
                  ws->url.authority, (int)size, text ? text : "");
    }
    websocket_end(ws, status == 101 ? 0 : status, &err);
}

static void on_established(struct websocket *ws)
{
    ws->phase = PHASE_OPEN;
    websocket_opened(ws);
    ws->events.on_open(ws->data, ws->chosen);
}

/* ---- receiving ---- */

static void heard(struct websocket *ws)
{
    ws->heard_ms = uv_now(ws->context->loop);
    ws->pinged = false;
    websocket_context_quick(ws);
}

/* Ends it from our side with a code, and reads no more. */
static void break_off(struct websocket *ws, struct lws *wsi, unsigned code, struct error *err)
{
    ws->close_code = code;
    lws_rx_flow_control(wsi, 0);
    lws_callback_on_writable(wsi);
    websocket_end(ws, 0, err);
}

static void too_long(struct websocket *ws, struct lws *wsi)
{
    struct error err = {0};
    error_set(&err, ERROR_LIMIT,
              "%s sent a message of more than %zu bytes; the connection was "
              "closed",
              ws->url.authority, ws->message_cap);
    break_off(ws, wsi, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, &err);
}

/* A part of a message that is not all of it, or its last part. */
static void join(struct websocket *ws, struct lws *wsi, const char *bytes, size_t size)
{
    struct error err = {0};
    if (buffer_append(&ws->incoming, bytes, size) < 0) {
        error_set(&err, ERROR_INTERNAL, "websocket: out of memory for a message");
        break_off(ws, wsi, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION, &err);
    } else if (lws_is_final_fragment(wsi)) {
        ws->events.on_message(ws->data, lws_frame_is_binary(wsi), buffer_data(&ws->incoming),
                              buffer_size(&ws->incoming));
        buffer_reset(&ws->incoming);
    }
}

static void on_received(struct websocket *ws, struct lws *wsi, const char *bytes, size_t size)
{
    size_t before = buffer_size(&ws->incoming);
    heard(ws);
    if (ws->closing || ws->phase != PHASE_OPEN) {
        return;
    }
    if (size > ws->message_cap - before ||
        lws_remaining_packet_payload(wsi) > ws->message_cap - before - size) {
        too_long(ws, wsi);
    } else if (before > 0 || !lws_is_final_fragment(wsi)) {
        join(ws, wsi, bytes, size);
    } else {
        ws->events.on_message(ws->data, lws_frame_is_binary(wsi), size ? bytes : "", size);
    }
}

static void on_peer_close(struct websocket *ws, const unsigned char *bytes, size_t size)
{
    struct error err = {0};
    unsigned code = size >= 2 ? bytes[0] << 8 | bytes[1] : 1005;
    int length = size > 2 ? (int)(size - 2) : 0;
    if (length > CLOSE_REASON_CAP) {
        length = CLOSE_REASON_CAP;
    }
    error_set(&err, ERROR_LOST, "%s closed the WebSocket connection: code %u%s%.*s",
              ws->url.authority, code, length ? ", " : "", length,
              length ? (const char *)bytes + 2 : "");
    websocket_end(ws, 0, &err);
}

/* Nobody said why: what the socket still holds tells whether the peer went or libwebsockets. */
static void on_lost(struct websocket *ws, struct lws *wsi)
{
    struct error err = {0};
    char byte;
    int fd = lws_get_socket_fd(wsi);
    bool peer_gone = fd < 0 || recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0 || errno != EAGAIN;
    if (peer_gone) {
        error_set(&err, ERROR_LOST, "the WebSocket connection to %s was lost%s", ws->url.authority,
                  buffer_size(&ws->incoming) ? " in the middle of a message" : "");
    } else {
        error_set(&err, ERROR_LOST,
                  "the WebSocket connection to %s was closed: it sent what is no valid frame",
                  ws->url.authority);
    }
    websocket_end(ws, 0, &err);
}

/* ---- sending ---- */

static int send_first(struct websocket *ws, struct lws *wsi)
{
    struct outgoing *out = ws->first;
    ws->first = out->next;
    if (!ws->first) {
        ws->last = &ws->first;
    }
    ws->queued -= out->size;
    int n = lws_write(wsi, out->bytes + LWS_PRE, out->size,
                      out->binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT);
    free(out);
    return n < 0 ? -1 : 0;
}

static int send_ping(struct websocket *ws, struct lws *wsi)
{
    unsigned char empty[LWS_PRE + 1] = {0};
    ws->ping_due = false;
    return lws_write(wsi, empty + LWS_PRE, 0, LWS_WRITE_PING) < 0 ? -1 : 0;
}

/* What lws_close_reason ends in; libwebsockets' public headers leave the name out. Written by
 * ourselves, because of 4.1 as Debian builds it (with its debug checks: it closes everything twice)
 * a closing frame that is asked for on the way out of a callback is never sent. */
enum { WRITE_CLOSE = 4 };

static void on_broken_off(uv_timer_t *timer)
{
    websocket_kill(timer->data);
}

static int send_close(struct websocket *ws, struct lws *wsi)
{
    unsigned char bytes[LWS_PRE + 2] = {0};
    bytes[LWS_PRE] = (unsigned char)(ws->close_code >> 8);
    bytes[LWS_PRE + 1] = (unsigned char)ws->close_code;
    ws->close_sent = true;
    if (ws->close_code != LWS_CLOSE_STATUS_NORMAL) {
        uv_timer_start(&ws->timer, on_broken_off, BREAK_OFF_MS, 0);
    }
    return lws_write(wsi, bytes + LWS_PRE, 2, (enum lws_write_protocol)WRITE_CLOSE) < 0 ? -1 : 0;
}

static int send_messages(struct websocket *ws, struct lws *wsi)
{
    int r = 0;
    while (r == 0 && ws->first && !lws_send_pipe_choked(wsi)) {
        r = send_first(ws, wsi);
    }
    if (r == 0 && ws->first) {
        lws_callback_on_writable(wsi);
    }
    return r;
}

static int on_writeable(struct websocket *ws, struct lws *wsi)
{
    if (ws->close_sent) {
        return 0;
    }
    int r = ws->ping_due ? send_ping(ws, wsi) : 0;
    r = r == 0 ? send_messages(ws, wsi) : r;
    if (r == 0 && !ws->first && ws->closing && ws->close_code == 0 && ws->phase == PHASE_OPEN) {
        ws->close_code = LWS_CLOSE_STATUS_NORMAL;
    }
    if (r == 0 && !ws->first && ws->close_code != 0 && !lws_send_pipe_choked(wsi)) {
        return send_close(ws, wsi);
    }
    return r;
}

/* ---- libwebsockets' only way to talk ---- */

static void on_destroyed(struct websocket *ws, struct lws *wsi)
{
    if (ws->wsi != wsi) {
        return; /* it never had our connection */
    }
    ws->wsi = NULL;
    if (ws->phase != PHASE_ENDED) {
        on_lost(ws, wsi);
    }
    websocket_release(ws);
}

static int on_open_reason(struct websocket *ws, struct lws *wsi, enum lws_callback_reasons reason,
                          void *in, size_t size)
{
    switch (reason) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        on_established(ws);
        return 0;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        on_received(ws, wsi, in, size);
        return 0;
    case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
        heard(ws);
        return 0;
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return on_writeable(ws, wsi);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        on_peer_close(ws, in, size);
        return ws->close_sent ? -1 : 0; /* libwebsockets answers it, unless it is the answer */
    case LWS_CALLBACK_CLIENT_CLOSED:
        on_lost(ws, wsi);
        return 0;
    default:
        return 0;
    }
}

static int on_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                       size_t size)
{
    struct websocket *ws = wsi ? lws_get_opaque_user_data(wsi) : NULL;
    if (!ws) {
        return 0;
    }
    switch (reason) {
    case LWS_CALLBACK_WSI_CREATE:
        take_over(ws, wsi);
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        on_destroyed(ws, wsi);
        return 0;
    case LWS_CALLBACK_OPENSSL_PERFORM_SERVER_CERT_VERIFICATION:
        return check_certificate(ws, user, size != 0);
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return add_headers(ws, in, size);
    case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
        lws_hdr_copy(wsi, ws->chosen, sizeof(ws->chosen), WSI_TOKEN_PROTOCOL);
        return 0;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        on_failed(ws, wsi, in, size);
        return 0;
    default:
        return on_open_reason(ws, wsi, reason, in, size);
    }
}

const struct lws_protocols websocket_protocols[] = {
    {.name = "cellblock", .callback = on_callback, .rx_buffer_size = RX_SIZE},
    {0},
};
