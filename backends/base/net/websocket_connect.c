#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/base/net/websocket_internal.h"

static void try_address(struct websocket *ws);

static void close_fd(struct websocket *ws)
{
    if (ws->fd >= 0) {
        close(ws->fd);
        ws->fd = -1;
    }
}

static void fail(struct websocket *ws)
{
    struct error err = {0};
    error_set_code(&err, ERROR_LOST, ws->connect_error, "connecting to %s",
                   ws->unix_socket ? ws->unix_socket : ws->url.authority);
    websocket_end(ws, 0, &err);
}

static void on_limit(uv_timer_t *timer)
{
    struct websocket *ws = timer->data;
    struct error err = {0};
    bool resolving = ws->phase == PHASE_CONNECTING && !ws->unix_socket && !ws->addresses;
    error_set(&err, ERROR_TIMEOUT,
              "connecting to %s: %s within %u ms: is it running, and can it be reached from here?",
              ws->unix_socket ? ws->unix_socket : ws->url.authority,
              resolving                       ? "its name was not resolved"
              : ws->phase == PHASE_CONNECTING ? "no connection"
                                              : "no answer to the WebSocket handshake",
              ws->connect_ms);
    websocket_connect_stop(ws);
    websocket_end(ws, 0, &err);
    websocket_kill(ws);
}

/* ---- TCP: one address after the other ---- */

static void poll_closed(uv_handle_t *handle)
{
    struct websocket *ws = handle->data;
    if (ws->phase == PHASE_CONNECTING && ws->fd >= 0) {
        websocket_handshake_start(ws);
    } else if (ws->phase == PHASE_CONNECTING) {
        ws->address = ws->address->ai_next;
        try_address(ws);
    }
    websocket_release(ws);
}

static void on_writable(uv_poll_t *poll, int status, int events)
{
    struct websocket *ws = poll->data;
    int error = status < 0 ? -status : 0;
    socklen_t size = sizeof(error);
    (void)events;
    uv_close((uv_handle_t *)poll, poll_closed);
    if (getsockopt(ws->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0) {
        ws->connect_error = error ? -error : -errno;
        close_fd(ws);
    }
}

/* 0: on_writable follows. */
static int start_address(struct websocket *ws)
{
    const struct addrinfo *at = ws->address;
    const int one = 1;
    ws->fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (ws->fd < 0) {
        return -errno;
    }
    setsockopt(ws->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(ws->fd, at->ai_addr, at->ai_addrlen) < 0 && errno != EINPROGRESS) {
        return -errno;
    }
    int r = uv_poll_init(ws->context->loop, &ws->poll, ws->fd);
    if (r < 0) {
        return r;
    }
    ws->poll.data = ws;
    websocket_hold(ws);
    uv_poll_start(&ws->poll, UV_WRITABLE, on_writable);
    return 0;
}

static void try_address(struct websocket *ws)
{
    for (; ws->address; ws->address = ws->address->ai_next) {
        int r = start_address(ws);
        if (r == 0) {
            return;
        }
        ws->connect_error = r;
        close_fd(ws);
    }
    fail(ws);
}

static void on_resolved(uv_getaddrinfo_t *lookup, int status, struct addrinfo *addresses)
{
    struct websocket *ws = lookup->data;
    lookup->data = NULL;
    if (ws->phase != PHASE_CONNECTING) {
        uv_freeaddrinfo(addresses);
    } else if (status < 0) {
        ws->connect_error = status;
        fail(ws);
    } else {
        ws->addresses = ws->address = addresses;
        try_address(ws);
    }
    websocket_release(ws);
}

static int start_lookup(struct websocket *ws)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    char port[8];
    snprintf(port, sizeof(port), "%d", ws->url.port);
    int r = uv_getaddrinfo(ws->context->loop, &ws->lookup, on_resolved, ws->url.name, port, &hints);
    if (r == 0) {
        ws->lookup.data = ws;
        websocket_hold(ws);
    }
    return r;
}

/* ---- a socket in the file system: at once ---- */

static int connect_unix(struct websocket *ws)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (strlen(ws->unix_socket) >= sizeof(at.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(at.sun_path, ws->unix_socket, strlen(ws->unix_socket) + 1);
    ws->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (ws->fd < 0 || connect(ws->fd, (const struct sockaddr *)&at, sizeof(at)) < 0) {
        return -errno;
    }
    return 0;
}

static void on_start(uv_timer_t *timer)
{
    struct websocket *ws = timer->data;
    uv_timer_start(timer, on_limit, ws->connect_ms, 0);
    int r = ws->unix_socket ? connect_unix(ws) : start_lookup(ws);
    if (r < 0) {
        ws->connect_error = r;
        close_fd(ws);
        fail(ws);
    } else if (ws->unix_socket) {
        websocket_handshake_start(ws);
    }
}

void websocket_connect_start(struct websocket *ws)
{
    uv_timer_start(&ws->timer, on_start, 0, 0);
}

void websocket_connect_stop(struct websocket *ws)
{
    if (ws->lookup.data) {
        uv_cancel((uv_req_t *)&ws->lookup); /* fails when it is too late: it calls back then too */
    }
    if (ws->poll.data && !uv_is_closing((uv_handle_t *)&ws->poll)) {
        uv_close((uv_handle_t *)&ws->poll, poll_closed);
    }
    close_fd(ws);
}
