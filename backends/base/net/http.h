#ifndef CELLBLOCK_NET_HTTP_H
#define CELLBLOCK_NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "backends/base/error.h"

/*
 * HTTP/1.1 on libcurl's multi interface, driven by a uv loop. The only owner of libcurl.
 *
 * One `struct http` is one server (a base address, who we are, how it is reached): a Docker engine
 * on a unix socket, a Jupyter server at a URL. It keeps connections alive between requests.
 * Nothing blocks: names are resolved by libcurl's own threads.
 *
 * What holds for every request: no callback before the start function has returned; `done` exactly
 * once, last, also after http_cancel; everything that a server sends has a cap (head, body, time).
 */
struct http;
struct http_request;

struct http_options {
    /* "http://docker", "https://host:8888/prefix"; no trailing "/" needed. A user, password, query
     * or fragment in it is refused: they belong into headers and paths. */
    const char *base;
    const char *unix_socket; /* path of the socket that is connected to instead; NULL: TCP */
    const char *ca_file, *cert_file, *key_file; /* PEM; NULL: the system's, none, none */
    bool insecure;  /* the server's certificate is not checked: only when said outright */
    bool use_proxy; /* http_proxy, https_proxy, no_proxy of the environment count */
    const char *const
        *headers; /* "Name: value" sent with every request; NULL-terminated, or NULL */
    unsigned connect_timeout_ms; /* 0: 10 s; of name, connection and TLS together */
    unsigned answer_timeout_ms;  /* of a stream: from connected to agreed or refused; 0: 60 s */
    bool quick_ack; /* TCP_QUICKACK is set again before each read: a server that writes in two small
                     * pieces otherwise costs 40 ms a message (tcp(7)) */
};

/* Copies what it needs. NULL with `err` (a base that is no URL, libcurl without what is asked). */
struct http *http_new(uv_loop_t *loop, const struct http_options *options, struct error *err);
/* Cancels what is going (each `done` comes before `closed`) and frees it. */
void http_close(struct http *http, void (*closed)(void *data), void *data);

struct http_reply {
    long status;              /* 200, 404 …; 0 when no answer came */
    const char *content_type; /* "" when not said */
    const char *etag;         /* as it was sent, with its quotes; "" when not said */
    const char *body;         /* NUL-terminated; empty when on_body took it */
    size_t size;
    bool reset;        /* HTTP/2 (h2.h): the stream was reset; the error says so too */
    unsigned h2_error; /* with which code (RFC 9113, section 7) */
};

enum {
    HTTP_BODY_CAP = 16 * 1024 * 1024, /* of a reply that is kept whole, when body_cap is 0 */
    HTTP_HEAD_CAP = 256 * 1024,
};

struct http_call {
    const char *method;         /* "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH" */
    const char *path;           /* appended to the base; begins with "/"; encoded by the caller */
    const char *const *headers; /* more of them, NULL-terminated, or NULL */
    const char *content_type;   /* of the body; NULL: application/json, "": none is said */
    const void *body;           /* copied; NULL: none */
    size_t body_size;
    /* A body that is made piece by piece: fills `space`, returns the bytes written,
     * 0 at the end, -errno to give up, or -EAGAIN: asked again after http_request_resume. */
    ptrdiff_t (*read_body)(void *data, char *space, size_t size);
    uint64_t read_size;  /* of all that read_body gives, sent ahead of it; 0: not known, and sent
                          * chunked */
    size_t body_cap;     /* of the reply; 0: HTTP_BODY_CAP, or no end where on_body takes it */
    unsigned timeout_ms; /* of the whole exchange; 0: none (a stream) */
    /* Most time without a byte in either direction, from when it is connected, while neither side
     * of it is held back here; 0: 60 s, UINT_MAX: none. */
    unsigned idle_ms;
    /* The status line and headers are in. May be NULL. */
    void (*on_head)(void *data, long status, const char *content_type);
    /* Body as it comes, of a 2xx reply only (another one's is kept whole and told by `done`). NULL:
     * kept whole up to body_cap. */
    void (*on_body)(void *data, const char *bytes, size_t size);
    /* `err` is NULL when an answer came, whatever its status. */
    void (*done)(void *data, const struct http_reply *reply, const struct error *err);
    void *data;
};

/* NULL with `err` when it cannot be started: then `done` is not called. */
struct http_request *http_start(struct http *http, const struct http_call *call, struct error *err);
/* An idempotent request; `done` follows from the loop with an ERROR_LOST "cancelled". */
void http_cancel(struct http_request *request);
/* Reading on is held back / goes on: for a body that its taker cannot keep up with. */
void http_request_pause(struct http_request *request, bool paused);
/* read_body, which answered -EAGAIN, is asked again. */
void http_request_resume(struct http_request *request);

/*
 * Kinds of errors here: ERROR_LOST (nothing listens, cut, not HTTP, cancelled), ERROR_TIMEOUT,
 * ERROR_LIMIT (a cap), ERROR_REFUSED (a certificate, the rights on a socket), ERROR_INVALID (a file
 * or value that was given). No message holds a query, a header's value or a body that was sent.
 */

/* What a server says of its refusal: "message" (or "reason") of a JSON object, else the body's
 * first line; without control characters, at most 500 bytes, "" when it says nothing. To be freed;
 * NULL without memory. */
char *http_message(const char *body, size_t size);
/* The kind of error that a status of 300 and above is. */
enum error_kind http_status_kind(long status);
/* Sets err to "WHAT: the server answered 404: MESSAGE" for a reply that is not 2xx. Returns -1. */
int http_refusal(const struct http_reply *reply, const char *what, struct error *err);

/* Percent-encodes for a path segment or a query value (RFC 3986 unreserved stay); to be freed. */
char *http_escape(const char *text);

/*
 * A connection that has been upgraded (101 to "Upgrade: tcp", or 200 as old Docker engines answer)
 * to a raw duplex byte stream, over whatever the server is reached by: unix socket, TCP, TLS.
 * Built on CURLOPT_CONNECT_ONLY and curl_easy_send/recv.
 */
struct http_stream;

struct http_stream_events {
    /* The server has agreed: bytes may be written. */
    void (*on_open)(void *data);
    void (*on_bytes)(void *data, const char *bytes, size_t size);
    /* Once: the far side closed (err NULL) or it failed, before or after on_open; a refusal quotes
     * the server's status and message. `status`: of the answer, 0 when none came. Nothing follows
     * but http_stream_close, which is still to be called. Not called after http_stream_close. */
    void (*on_end)(void *data, long status, const struct error *err);
};

/* Connects and sends the request. A body is JSON. `http` may be closed before the stream is: that
 * ends it. */
struct http_stream *http_stream_open(struct http *http, const char *method, const char *path,
                                     const void *body, size_t body_size,
                                     const struct http_stream_events *events, void *data,
                                     struct error *err);
/* A bare connection to the server of the base's address: on_open when it is there. Over TLS the
 * server is asked for `protocol` by ALPN ("h2"); one that does not agree is refused (on_end with
 * ERROR_UNSUPPORTED). */
struct http_stream *http_connect(struct http *http, const char *protocol,
                                 const struct http_stream_events *events, void *data,
                                 struct error *err);
enum { HTTP_STREAM_QUEUE_CAP = 64 * 1024 * 1024 };
/* Sends in order; keeps a copy of what cannot go out at once, and before on_open of everything.
 * -EPIPE when it has ended, was shut down or the far side takes no more (on_end then follows by
 * itself), -ENOBUFS when the queue's cap would be passed. */
int http_stream_write(struct http_stream *stream, const void *bytes, size_t size);
/* Bytes that wait to be sent. */
size_t http_stream_queued(const struct http_stream *stream);
/* After what was written, our direction is shut. Under TLS it is the TCP connection's direction
 * that is shut, without a closing alert (libcurl has no call for that): a server in Go, as Docker
 * is, takes that for the end of the input and talks on; one on OpenSSL ends the connection. */
void http_stream_shutdown(struct http_stream *stream);
void http_stream_pause(struct http_stream *stream, bool paused);
/* Ends it; `closed` (may be NULL) is called from the loop when its memory is gone. */
void http_stream_close(struct http_stream *stream, void (*closed)(void *data), void *data);

#endif
