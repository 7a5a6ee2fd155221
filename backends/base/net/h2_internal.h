#ifndef CELLBLOCK_NET_H2_INTERNAL_H
#define CELLBLOCK_NET_H2_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "backends/base/buffer.h"
#include "backends/base/net/h2.h"
#include "backends/base/net/http_internal.h"

/*
 * Between the files of HTTP/2:
 *   h2.c             the server, closing
 *   h2_connection.c  one connection: what goes and comes
 *   h2_request.c     one exchange
 *
 * The rule that shapes them: nghttp2 calls ours back from inside of reading, and may then be given
 * something to send, but must neither send nor be freed. Both are noted, and done after it.
 */

struct h2 {
    uv_loop_t *loop;
    struct http *http;
    struct h2_connection *connections; /* all that are not closed; the newest first */
    struct h2_request *requests;       /* all that `done` was not called for */
    unsigned users; /* `http`, connections and requests whose memory is not given back yet */
    unsigned ping_ms;
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

/* One user less; closes `http` of a closed h2 with the last but one. */
void h2_release(struct h2 *h2);

/* --- h2_connection.c ---------------------------------------------------------------------- */

struct h2_connection {
    struct h2 *h2;
    struct h2_connection *next, *prev;
    struct http_stream *stream;
    nghttp2_session *session;
    unsigned requests; /* that have a stream */
    bool greeted;      /* bytes came */
    bool leaving;      /* takes no new ones */
    bool inside;       /* of nghttp2 */
    bool ending;       /* is to be closed, when not inside any more */
    bool closed;
    uv_timer_t work;  /* sends on, or closes */
    uv_timer_t ping;  /* from when it is open */
    uint64_t heard;   /* loop time of the newest byte */
    bool asked;       /* by a PING, and nothing came since */
    bool doubted;     /* half of the time for it is over */
    unsigned handles; /* that are not closed yet */
};

/* Reads the bodies of requests. */
extern const nghttp2_data_provider h2_body_provider;
/* One that takes requests, or a new one; NULL with `err`. */
struct h2_connection *h2_connection_get(struct h2 *h2, struct error *err);
/* What nghttp2 has to send goes out, now or after it has returned. */
void h2_connection_flush(struct h2_connection *connection);
/* Closes it; its requests have ended. */
void h2_connection_end(struct h2_connection *connection);

/* --- h2_request.c ------------------------------------------------------------------------- */

struct h2_request {
    struct h2 *h2;
    struct h2_request *next, *prev;
    struct h2_connection *connection; /* NULL: has no stream any more */
    int32_t id;
    char *tried; /* for messages */

    unsigned char *body;
    size_t body_size, sent;

    void (*on_field)(void *data, const char *name, const char *value, bool trailer);
    void (*on_body)(void *data, const char *bytes, size_t size);
    void (*done)(void *data, const struct http_reply *reply, const struct error *err);
    void *data;

    long status; /* of the newest head */
    bool head_done, answered;
    size_t head_size;
    struct buffer held;    /* body that its taker does not want yet */
    struct buffer refusal; /* the beginning of the body of a reply that is not 2xx */
    bool paused, cancelled, ended;
    bool closed; /* the stream; what is held is still to be taken */
    bool reset;
    unsigned h2_error;
    struct error err;     /* our own finding: the end, whatever else comes */
    struct error end_err; /* how the stream ended, told after what is held */
    uv_timer_t work;
};

struct h2_request *h2_request_find(const struct h2_connection *connection, int32_t id);
/* What nghttp2 tells of the stream. */
void h2_request_field(struct h2_request *request, const char *name, const char *value);
void h2_request_head_end(struct h2_request *request);
void h2_request_bytes(struct h2_request *request, const char *bytes, size_t size);
void h2_request_answered(struct h2_request *request);
void h2_request_stream_closed(struct h2_request *request, unsigned h2_error);
/* The connection is gone. */
void h2_request_lost(struct h2_request *request, const struct error *err);
size_t h2_request_read(struct h2_request *request, uint8_t *space, size_t size, bool *ret_end);

#endif
