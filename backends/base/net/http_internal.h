#ifndef CELLBLOCK_NET_HTTP_INTERNAL_H
#define CELLBLOCK_NET_HTTP_INTERNAL_H

#include <curl/curl.h>

#include "backends/base/buffer.h"
#include "backends/base/net/http.h"

/*
 * Between the files of the HTTP layer:
 *   http_multi.c    one libcurl multi handle on the loop
 *   http.c          struct http: the server, how it is reached, closing
 *   http_request.c  one exchange
 *   http_head.c     the head of an answer that we read ourselves (streams)
 *   http_queue.c    bytes that wait to be sent
 *   http_stream_open.c  the start of an upgraded connection
 *   http_stream.c   its life
 *   http_error.c    what went wrong, in words
 *
 * The rule that shapes them: libcurl may not be called from inside its own callbacks, and it calls
 * some of ours (head, body) from inside. So whatever a user may ask for at any time (a new request,
 * cancel, resume, close) is noted, and done by a timer in the loop's next turn.
 */

/* --- http_multi.c ------------------------------------------------------------------------- */

struct http_multi {
    uv_loop_t *loop;
    CURLM *curl;
    uv_timer_t timer; /* libcurl's own */
    unsigned handles; /* of libuv, whose memory is not given back yet */
    bool closing;
    bool quick_ack;
    /* A transfer ended. The easy handle is still in the multi handle. */
    void (*finished)(void *data, CURL *easy, CURLcode code);
    void (*closed)(void *data);
    void *data;
};

/* Of one that is all zero, or open already. libcurl's part is http_multi_open's: it costs a socket
 * pair, and who only makes streams needs none. */
void http_multi_init(struct http_multi *multi, uv_loop_t *loop, bool quick_ack,
                     void (*finished)(void *data, CURL *easy, CURLcode code), void *data);
/* Makes that part, unless it is there: before the first easy handle. -ENOMEM when libcurl cannot;
 * nothing is to be closed then that http_multi_init has not made. */
int http_multi_open(struct http_multi *multi);
/* Tells `finished` of what has ended. Called by itself after each event. */
void http_multi_drain(struct http_multi *multi);
/* After the last easy handle was removed. `closed` comes from the loop. */
void http_multi_close(struct http_multi *multi, void (*closed)(void *data));

/* Sets TCP_QUICKACK, which the kernel clears by itself. */
void http_quick_ack(int fd);

/* --- http.c ------------------------------------------------------------------------------- */

struct http {
    struct http_multi multi;
    uv_timer_t work; /* with a time of 0: what was noted is done in the loop's next turn */
    unsigned users;  /* requests whose memory is not given back yet, and the handles above */
    bool closing, torn_down;
    void (*closed)(void *data);
    void *closed_data;

    char *base;   /* of URLs: no "/" at the end */
    char *host;   /* for the Host header of a stream */
    char *prefix; /* the path of the base: "" or "/prefix" */
    char *peer;   /* the socket's path, or host and port */
    char *unix_socket, *ca_file, *cert_file, *key_file;
    char **headers;
    bool insecure, use_proxy, tls;
    unsigned connect_timeout_ms, answer_timeout_ms;

    struct http_request *requests; /* all that `done` was not called for, in order */
    struct http_request *last_request;
    struct http_stream *streams; /* all that on_end was not called for */
};

/* Sets what every transfer has: TLS, proxies, protocols, time to connect. -ENOMEM. */
int http_set_up(const struct http *http, CURL *easy, char *error_text);
/* Makes the loop call back for what was noted. */
void http_schedule(struct http *http);
/* One user less; frees a closed `http` with the last one. */
void http_release(struct http *http);
/* "GET http://docker/info", without the query: it may hold a token. */
char *http_tried(const struct http *http, const char *method, const char *path);
/* Method and path are what HTTP allows. -1 with ERROR_INVALID. */
int http_check_target(const char *method, const char *path, struct error *err);
/* "Name: value" without a line end. -1 with ERROR_INVALID that does not quote the value. */
int http_check_header(const char *header, struct error *err);

/* --- http_request.c ----------------------------------------------------------------------- */

struct http_request *http_request_next(const struct http_request *request);
/* A transfer of the multi handle of `http` ended. */
void http_request_finished(void *data, CURL *easy, CURLcode code);
/* Does what was noted for one request; false when there is nothing to do any more. */
bool http_request_work(struct http *http);

/* --- http_head.c -------------------------------------------------------------------------- */

struct http_head {
    long status;
    int64_t length; /* Content-Length, -1 when not said */
    bool chunked;
    bool upgraded_other; /* an Upgrade header that names something else than tcp */
};

/* Reads one head. Its size in bytes with the empty line, 0 when it is not complete, -EBADMSG when
 * it is not HTTP/1. */
ssize_t http_head_parse(const char *bytes, size_t size, struct http_head *ret);
/* Takes the chunked coding off `bytes` in place, as far as it has come: the size left. *ret_whole
 * says whether the last chunk is there. */
size_t http_unchunk(char *bytes, size_t size, bool *ret_whole);

/* --- http_queue.c ------------------------------------------------------------------------- */

/*
 * A queue whose bytes never move: a TLS send that could not go out must be tried again with the
 * same address and size.
 */
struct http_queue {
    struct http_piece *first, *last;
    size_t size, cap;
};

int http_queue_append(struct http_queue *queue, const void *bytes, size_t size);
/* The next run of bytes; NULL when the queue is empty. */
const char *http_queue_peek(const struct http_queue *queue, size_t *ret_size);
void http_queue_consume(struct http_queue *queue, size_t size);
void http_queue_clear(struct http_queue *queue);

/* --- http_stream.c, http_stream_open.c ---------------------------------------------------- */

enum http_stage {
    STREAM_CONNECTING, /* libcurl's work */
    STREAM_ASKING,     /* the request goes out, the head of the answer comes */
    STREAM_REFUSED,    /* the rest of an answer that says no */
    STREAM_OPEN,
    STREAM_ENDED,
};

struct http_stream {
    struct http *http; /* NULL when ended */
    struct http_stream *next, *prev;
    struct http_multi multi;
    CURL *easy;
    char *tried, *peer;
    char text[CURL_ERROR_SIZE];
    unsigned answer_ms;
    bool tls, no_cert, quick_ack;
    bool bare;                 /* nothing is asked for */
    unsigned char protocol[8]; /* for ALPN, with its size before it; else empty */
    bool agreed;               /* the server has chosen it */
    struct http_stream_events events;
    void *data;

    enum http_stage stage;
    struct http_head head;
    struct buffer in;        /* the answer's head; then what came with it, or a refusal's body */
    struct http_queue queue; /* the request, then what the user wrote */
    size_t request_left;     /* bytes of the request in the queue */
    size_t retry;            /* TLS: the size of the send that must be tried again just so */
    bool paused, shut, shut_done, no_writes;

    uv_poll_t poll;
    int fd, watched; /* what poll waits for now */
    bool has_poll;
    uv_timer_t limit;
    uv_idle_t kick; /* reading goes on in the loop's next turn */
    unsigned handles;
    void (*closed)(void *data);
    void *closed_data;
};

/* libcurl has connected it or not. */
void http_stream_connected(void *data, CURL *easy, CURLcode code);
/* Its memory; libcurl's part is gone already. */
void http_stream_free(struct http_stream *stream);

/* Ends the first of the streams of a closing `http`; false when there is none. */
bool http_stream_abandon_one(struct http *http);

/* --- http_error.c ------------------------------------------------------------------------- */

struct http_failure {
    CURL *easy;
    CURLcode code;
    const char *tried;
    const char *peer;
    const char *text; /* libcurl's own words, may be empty */
    bool no_cert;     /* TLS, and the server was not shown a certificate of ours */
};

void http_failure_tell(const struct http_failure *failure, struct error *err);

#endif
