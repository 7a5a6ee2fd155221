#ifndef CELLBLOCK_NET_WEBSOCKET_H
#define CELLBLOCK_NET_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "backends/base/error.h"

/*
 * A WebSocket client (RFC 6455) on libwebsockets, on the caller's uv loop. The only owner of
 * libwebsockets. One connection an object; fragments are joined, pings are answered, and a peer
 * that is silent past ping_seconds is pinged and given up after as long again.
 *
 * No callback before websocket_open has returned; on_end exactly once, last, unless
 * websocket_close was called first. After on_end websocket_close has to be called too, to give back
 * the memory; it may be called in any callback.
 *
 * The process is left ignoring SIGPIPE, by libwebsockets. Proxies of the environment are not used.
 */
struct websocket;
struct websocket_context; /* what the connections of a loop share */

struct websocket_context *websocket_context_new(uv_loop_t *loop, struct error *err);
/* After its last websocket has been closed. Destroys in two turns of the loop, as libwebsockets
 * needs; `closed` is called when no handle of it is left. */
void websocket_context_close(struct websocket_context *context, void (*closed)(void *data),
                             void *data);

struct websocket_options {
    const char *url;            /* ws:// or wss://, with path and query */
    const char *unix_socket;    /* connected to instead of the URL's host; NULL: TCP */
    const char *subprotocol;    /* offered; NULL: none */
    const char *const *headers; /* "Name: value", NULL-terminated, or NULL. No Origin is sent */
    const char *ca_file;        /* PEM; NULL: the system's */
    bool insecure;
    unsigned connect_timeout_ms; /* 0: 10 s; of name, connection, TLS and handshake together */
    unsigned ping_seconds;       /* 0: 30 */
    size_t message_cap;          /* 0: 64 MiB; a longer message ends the connection, at the latest
                                  * when 128 KiB more than the cap have come */
    bool quick_ack;              /* TCP_QUICKACK again before each read; see http.h */
};

struct websocket_events {
    /* `subprotocol`: what the server chose, "" when none. */
    void (*on_open)(void *data, const char *subprotocol);
    /* A whole message; its bytes are there until this returns. Text is not checked to be UTF-8. */
    void (*on_message)(void *data, bool binary, const char *bytes, size_t size);
    /* `err` says why: refused (with the HTTP status), a wrong name in the certificate, closed by
     * the peer with a code, too long, timed out. `status`: HTTP status of a refused handshake or 0.
     * Kinds: ERROR_REFUSED (401, 403), ERROR_NOT_FOUND (404), ERROR_TIMEOUT (connecting),
     * ERROR_LIMIT (a message past the cap), ERROR_LOST (all others). */
    void (*on_end)(void *data, long status, const struct error *err);
};

struct websocket *websocket_open(struct websocket_context *context,
                                 const struct websocket_options *options,
                                 const struct websocket_events *events, void *data,
                                 struct error *err);
enum { WEBSOCKET_QUEUE_CAP = 64 * 1024 * 1024 };
/* Queues one message. -EPIPE when it is not open, -ENOBUFS past the queue's cap. */
int websocket_send(struct websocket *ws, bool binary, const void *bytes, size_t size);
/* Reading is held back (the peer feels it by TCP) / goes on. */
void websocket_pause(struct websocket *ws, bool paused);
/* Sends what is queued and closes with code 1000, which may take two seconds and no longer;
 * `closed` (may be NULL) is called when its memory is gone. */
void websocket_close(struct websocket *ws, void (*closed)(void *data), void *data);

#endif
