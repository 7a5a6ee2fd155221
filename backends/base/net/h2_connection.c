#include <stdlib.h>
#include <string.h>

#include "backends/base/net/h2_internal.h"

enum {
    CONNECTION_WINDOW = 64 * 1024 * 1024, /* of all streams together; each has its own */
    FRAME_SIZE = 256 * 1024,
    STREAMS_BEFORE_TOLD = 100, /* at a time, until the server has said how many */
    PIECE_SIZE = 64 * 1024,    /* frames are gathered up to it: one packet for several */
    QUEUE_MOST = 8 * 1024 * 1024,
    QUEUE_MS = 2,
};

static const char http1[] = "HTTP/1";

static void on_work(uv_timer_t *timer);

/* --- the end ------------------------------------------------------------------------------ */

static void release(struct h2_connection *c)
{
    struct h2 *h2 = c->h2;
    if (--c->handles == 0) {
        nghttp2_session_del(c->session);
        free(c);
        h2_release(h2);
    }
}

static void stream_closed(void *data)
{
    release(data);
}

static void handle_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void unlink_connection(struct h2_connection *c)
{
    *(c->prev ? &c->prev->next : &c->h2->connections) = c->next;
    if (c->next) {
        c->next->prev = c->prev;
    }
}

void h2_connection_end(struct h2_connection *connection)
{
    struct h2_connection *c = connection;
    c->leaving = true;
    if (c->closed) {
        return;
    }
    if (c->inside) {
        c->ending = true;
        uv_timer_start(&c->work, on_work, 0, 0);
        return;
    }
    nghttp2_session_terminate_session(c->session, NGHTTP2_NO_ERROR);
    h2_connection_flush(c);
    c->closed = true;
    unlink_connection(c);
    http_stream_close(c->stream, stream_closed, c);
    uv_close((uv_handle_t *)&c->work, handle_closed);
    uv_close((uv_handle_t *)&c->ping, handle_closed);
}

/* What was on it is lost; a new one is made with the next request. */
static void lose(struct h2_connection *c, const struct error *err)
{
    c->leaving = true;
    for (struct h2_request *r = c->h2->requests; r; r = r->next) {
        if (r->connection == c) {
            h2_request_lost(r, err);
        }
    }
    h2_connection_end(c);
}

static void on_end(void *data, long status, const struct error *err)
{
    struct h2_connection *c = data;
    struct error closed = {0};
    (void)status;
    if (err) {
        lose(c, err);
        return;
    }
    error_set(&closed, ERROR_LOST, "%s: the server closed the connection", c->h2->http->base);
    lose(c, &closed);
    error_clear(&closed);
}

/* --- sending ------------------------------------------------------------------------------ */

static void on_work(uv_timer_t *timer)
{
    struct h2_connection *c = timer->data;
    if (c->ending) {
        h2_connection_end(c);
    } else {
        h2_connection_flush(c);
    }
}

/* The next frames, gathered; the bytes in `piece`. */
static size_t gather(struct h2_connection *c, unsigned char *piece)
{
    size_t size = 0;
    while (size < PIECE_SIZE) {
        const uint8_t *bytes;
        ssize_t n = nghttp2_session_mem_send(c->session, &bytes);
        if (n <= 0) {
            break; /* no memory shows as a connection that stands still */
        }
        if (size + (size_t)n > PIECE_SIZE) {
            /* One that is larger than what is left goes by itself. */
            http_stream_write(c->stream, piece, size);
            size = 0;
        }
        if ((size_t)n > PIECE_SIZE) {
            http_stream_write(c->stream, bytes, (size_t)n);
            continue;
        }
        memcpy(piece + size, bytes, (size_t)n);
        size += (size_t)n;
    }
    return size;
}

void h2_connection_flush(struct h2_connection *connection)
{
    struct h2_connection *c = connection;
    unsigned char piece[PIECE_SIZE];

    if (c->inside || c->closed) {
        return;
    }
    while (nghttp2_session_want_write(c->session)) {
        size_t size;
        if (http_stream_queued(c->stream) > QUEUE_MOST) {
            uv_timer_start(&c->work, on_work, QUEUE_MS, 0);
            return;
        }
        c->inside = true;
        size = gather(c, piece);
        c->inside = false;
        if (size == 0) {
            return; /* what is left waits for the server's windows */
        }
        http_stream_write(c->stream, piece, size);
    }
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *space, size_t size,
                         uint32_t *flags, nghttp2_data_source *source, void *data)
{
    struct h2_request *r = h2_request_find(data, id);
    bool end = false;
    size_t n;
    (void)session;
    (void)source;

    if (!r) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* cancelled: the stream is reset */
    }
    n = h2_request_read(r, space, size, &end);
    if (end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

const nghttp2_data_provider h2_body_provider = {.read_callback = read_body};

/* --- what nghttp2 tells ------------------------------------------------------------------- */

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *data)
{
    struct h2_request *r = h2_request_find(data, frame->hd.stream_id);
    (void)session;
    (void)flags;
    (void)name_size;
    (void)value_size;
    if (r && frame->hd.type == NGHTTP2_HEADERS) {
        h2_request_field(r, (const char *)name, (const char *)value);
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    struct h2_connection *c = data;
    struct h2_request *r;
    (void)session;

    if (frame->hd.type == NGHTTP2_GOAWAY) {
        c->leaving = true;
    }
    r = h2_request_find(c, frame->hd.stream_id);
    if (r && frame->hd.type == NGHTTP2_HEADERS) {
        h2_request_head_end(r);
        r = h2_request_find(c, frame->hd.stream_id); /* its user may have cancelled it */
    }
    if (r && (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        h2_request_answered(r);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                   size_t size, void *data)
{
    struct h2_request *r = h2_request_find(data, id);
    (void)flags;

    nghttp2_session_consume_connection(session, size);
    if (r) {
        h2_request_bytes(r, (const char *)bytes, size);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t h2_error, void *data)
{
    struct h2_request *r = h2_request_find(data, id);
    (void)session;
    if (r) {
        h2_request_stream_closed(r, h2_error);
    }
    return 0;
}

/* --- receiving ---------------------------------------------------------------------------- */

static void lose_broken(struct h2_connection *c, const char *what)
{
    struct error err = {0};
    error_set(&err, ERROR_LOST, "%s: what the server sends is not HTTP/2 as it should be: %s",
              c->h2->http->base, what);
    lose(c, &err);
    error_clear(&err);
}

static bool is_http1(struct h2_connection *c, const char *bytes, size_t size)
{
    struct error err = {0};
    bool first = !c->greeted;

    c->greeted = true;
    if (!first || size < sizeof(http1) - 1 || memcmp(bytes, http1, sizeof(http1) - 1) != 0) {
        return false;
    }
    error_set(&err, ERROR_UNSUPPORTED,
              "%s: the server answers in HTTP/1, and HTTP/2 is needed here; give the address of "
              "the service itself, not of a proxy before it",
              c->h2->http->base);
    lose(c, &err);
    error_clear(&err);
    return true;
}

static void on_bytes(void *data, const char *bytes, size_t size)
{
    struct h2_connection *c = data;
    ssize_t n;

    c->heard = uv_now(c->h2->loop);
    c->asked = c->doubted = false;
    if (c->closed || is_http1(c, bytes, size)) {
        return;
    }
    c->inside = true;
    n = nghttp2_session_mem_recv(c->session, (const uint8_t *)bytes, size);
    c->inside = false;
    if (n < 0) {
        lose_broken(c, nghttp2_strerror((int)n));
        return;
    }
    h2_connection_flush(c);
    if (!nghttp2_session_want_read(c->session) && c->requests > 0) {
        lose_broken(c, "the connection had to be ended");
    } else if (c->leaving && c->requests == 0) {
        h2_connection_end(c);
    }
}

/* --- whether the server is still there ---------------------------------------------------- */

static void lose_silent(struct h2_connection *c, uint64_t quiet)
{
    struct error err = {0};
    error_set(
        &err, ERROR_LOST,
        "%s: nothing came for %llu ms, not even the answer to a PING; the server hangs or the "
        "network is cut",
        c->h2->http->base, (unsigned long long)quiet);
    lose(c, &err);
    error_clear(&err);
}

static void on_ping(uv_timer_t *timer)
{
    struct h2_connection *c = timer->data;
    uint64_t quiet = uv_now(timer->loop) - c->heard, most = c->h2->ping_ms;

    if (quiet < most) {
        uv_timer_start(timer, on_ping, most - quiet, 0);
    } else if (!c->asked) {
        c->asked = true;
        nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
        uv_timer_start(timer, on_ping, most / 3 + 1, 0);
        h2_connection_flush(c);
    } else if (!c->doubted) {
        /* The loop runs its timers before it looks at the sockets: where it was held up, what came
         * meanwhile is not read yet. */
        c->doubted = true;
        uv_timer_start(timer, on_ping, most / 3 + 1, 0);
    } else {
        lose_silent(c, quiet);
    }
}

static void on_open(void *data)
{
    struct h2_connection *c = data; /* what was written before goes out now */
    c->heard = uv_now(c->h2->loop);
    uv_timer_start(&c->ping, on_ping, c->h2->ping_ms, 0);
}

/* --- the start ---------------------------------------------------------------------------- */

static int make_session(struct h2_connection *c)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int r = nghttp2_session_callbacks_new(&callbacks);

    if (r == 0 && (r = nghttp2_option_new(&option)) == 0) {
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_option_set_peer_max_concurrent_streams(option, STREAMS_BEFORE_TOLD);
        r = nghttp2_session_client_new2(&c->session, callbacks, c, option);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return r;
}

static int greet(struct h2_connection *c)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_WINDOW},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FRAME_SIZE},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEAD_CAP},
    };
    int r = nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings,
                                    sizeof(settings) / sizeof(settings[0]));
    return r ? r
             : nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
                                                     CONNECTION_WINDOW);
}

static void link_connection(struct h2_connection *c)
{
    struct h2 *h2 = c->h2;
    c->next = h2->connections;
    if (c->next) {
        c->next->prev = c;
    }
    h2->connections = c;
    h2->users++;
}

static struct h2_connection *connection_new(struct h2 *h2, struct error *err)
{
    static const struct http_stream_events events = {on_open, on_bytes, on_end};
    struct h2_connection *c = calloc(1, sizeof(*c));

    if (!c || (c->h2 = h2, make_session(c)) != 0 || greet(c) != 0) {
        error_set(err, ERROR_INTERNAL, "out of memory for a connection to %s", h2->http->base);
    } else {
        c->stream = http_connect(h2->http, "h2", &events, c, err);
    }
    if (c && !c->stream) {
        nghttp2_session_del(c->session);
        free(c);
        return NULL;
    }
    return c;
}

struct h2_connection *h2_connection_get(struct h2 *h2, struct error *err)
{
    struct h2_connection *c = h2->connections;

    while (c && (c->leaving || !nghttp2_session_check_request_allowed(c->session))) {
        c = c->next;
    }
    if (c) {
        return c;
    }
    c = connection_new(h2, err);
    if (c) {
        uv_timer_init(h2->loop, &c->work);
        uv_timer_init(h2->loop, &c->ping);
        c->work.data = c->ping.data = c;
        c->handles = 3; /* the stream, and the two */
        link_connection(c);
    }
    return c;
}
