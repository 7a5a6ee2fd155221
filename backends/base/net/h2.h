#ifndef CELLBLOCK_NET_H2_H
#define CELLBLOCK_NET_H2_H

#include "backends/base/net/http.h"

/*
 * HTTP/2 (RFC 9113), client side: many exchanges on one connection, each held back by itself when
 * its taker is slow, with trailers. libcurl makes the connection (name, proxy, TLS: http.h);
 * nghttp2, which libcurl has its own HTTP/2 from, makes and reads the frames.
 *
 * Not libcurl's own HTTP/2, because there a connection is read for all of its streams or for none,
 * so that one that is paused holds up the others; and because libcurl before 8.0 (Debian 12's is
 * 7.88) cannot use a connection without TLS a second time.
 *
 * What holds for every request is what http.h says of its own: no callback before h2_start has
 * returned; `done` exactly once, last, also after h2_cancel; what a server sends has a cap.
 */
struct h2;
struct h2_request;

enum {
    H2_WINDOW = 8 * 1024 * 1024, /* what a server may send ahead of the taker of one answer */
};

/* Of the options those of a connection count: base, ca_file, cert_file, key_file, insecure,
 * use_proxy, headers, connect_timeout_ms, quick_ack. https is HTTP/2 by ALPN, http with prior
 * knowledge. Connects with the first request, and again after a connection was lost: also where
 * nothing was heard for `ping_ms` (0: 30 s) and a PING was not answered in two thirds of that. */
struct h2 *h2_new(uv_loop_t *loop, const struct http_options *options, unsigned ping_ms,
                  struct error *err);
/* Cancels what is going (each `done` comes before `closed`) and frees it. */
void h2_close(struct h2 *h2, void (*closed)(void *data), void *data);

struct h2_call {
    const char *path;           /* appended to the base; begins with "/" */
    const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
    const void *body;           /* of a POST; copied */
    size_t body_size;
    /* Each field of the answer's head and of the trailers after its body; names in small letters.
     * Trailers may come before body that is held back. Borrowed; all together at most
     * HTTP_HEAD_CAP. May be NULL. */
    void (*on_field)(void *data, const char *name, const char *value, bool trailer);
    /* Body as it comes, of a 2xx reply (of another one its beginning is told by `done`). */
    void (*on_body)(void *data, const char *bytes, size_t size);
    /* `err` is NULL when an answer came, whatever its status. Kinds of errors are those of http.h;
     * a stream that was reset, refused or not begun (GOAWAY) is ERROR_LOST with reply->reset. A
     * request that was refused (REFUSED_STREAM, 7) was not acted on and may be sent again. */
    void (*done)(void *data, const struct http_reply *reply, const struct error *err);
    void *data;
};

/* NULL with `err` when it cannot be started: then `done` is not called. */
struct h2_request *h2_start(struct h2 *h2, const struct h2_call *call, struct error *err);
/* Idempotent; resets the stream. `done` follows from the loop with an ERROR_LOST "cancelled". */
void h2_cancel(struct h2_request *request);
/* Body is held back / goes on. At most H2_WINDOW bytes are kept here meanwhile; the connection's
 * other streams go on. */
void h2_pause(struct h2_request *request, bool paused);

#endif
