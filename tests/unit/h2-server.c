#include "tests/unit/h2-server.h"

#include <nghttp2/nghttp2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

enum {
    LINES_MOST = 32,
    QUEUE_MOST = 1024 * 1024,
    WINDOW = 64 * 1024 * 1024,
    BACKLOG = 16,
    FRAME_HEAD = 5,
    HEAD_MOST = 1024 * 1024,
};

struct h2_peer {
    struct h2_server *server;
    struct h2_peer *next, *prev;
    uv_tcp_t tcp;
    nghttp2_session *session;
    struct stream *streams;
    bool closing, cut;
    char space[64 * 1024];
};

struct stream {
    struct h2_peer *peer;
    struct stream *next, *prev;
    int32_t id;
    const struct h2_step *step;
    size_t at; /* bytes of the step that were sent */
    char *body;
    size_t body_size, body_room;
    char fields[H2_FIELDS_SIZE];
    bool begun, waits;
};

struct writing {
    uv_write_t request;
    struct h2_peer *peer;
};

/* --- connections -------------------------------------------------------------------------- */

static void stream_free(struct stream *s)
{
    free(s->body);
    free(s);
}

static void unlink_stream(struct stream *s)
{
    *(s->prev ? &s->prev->next : &s->peer->streams) = s->next;
    if (s->next) {
        s->next->prev = s->prev;
    }
    s->peer->server->streams--;
}

static void server_release(struct h2_server *server)
{
    if (server->closing && server->open == 0) {
        server->closing = false;
        free(server);
    }
}

static void peer_closed(uv_handle_t *handle)
{
    struct h2_peer *p = handle->data;
    struct h2_server *server = p->server;

    for (struct stream *s = p->streams, *next; s; s = next) {
        next = s->next;
        server->streams--;
        stream_free(s);
    }
    nghttp2_session_del(p->session);
    free(p);
    server->open--;
    server_release(server);
}

static void peer_close(struct h2_peer *p)
{
    if (p->closing) {
        return;
    }
    p->closing = true;
    *(p->prev ? &p->prev->next : &p->server->peers) = p->next;
    if (p->next) {
        p->next->prev = p->prev;
    }
    uv_close((uv_handle_t *)&p->tcp, peer_closed);
}

static void flush(struct h2_peer *p);

static void on_written(uv_write_t *request, int status)
{
    struct writing *w = (struct writing *)(void *)request;
    struct h2_peer *p = w->peer;
    free(w);
    if (status == 0 && !p->closing) {
        flush(p);
    }
}

static void flush(struct h2_peer *p)
{
    while (!p->closing && uv_stream_get_write_queue_size((uv_stream_t *)&p->tcp) < QUEUE_MOST) {
        const uint8_t *bytes;
        ssize_t n = nghttp2_session_mem_send(p->session, &bytes);
        struct writing *w;
        if (n <= 0) {
            break;
        }
        w = malloc(sizeof(*w) + (size_t)n);
        w->peer = p;
        memcpy(w + 1, bytes, (size_t)n);
        uv_buf_t buf = uv_buf_init((char *)(w + 1), (unsigned)n);
        uv_write(&w->request, (uv_stream_t *)&p->tcp, &buf, 1, on_written);
    }
    if (p->cut) {
        peer_close(p);
    }
}

/* --- scripts ------------------------------------------------------------------------------ */

/* The lines of a step as fields; texts in `copy`, which is cut up. */
static size_t read_lines(char *copy, nghttp2_nv *fields, bool head)
{
    static char status_name[] = ":status", status_value[] = "200";
    size_t n = 0;
    char *rest = copy;

    if (head && !strstr(copy, ":status")) {
        fields[n++] = (nghttp2_nv){(uint8_t *)status_name, (uint8_t *)status_value, 7, 3, 0};
    }
    for (char *line; (line = strsep(&rest, "\n")) && n < LINES_MOST;) {
        char *value = *line ? strstr(line + 1, ": ") : NULL;
        if (value) {
            *value = '\0';
            value += 2;
            fields[n++] =
                (nghttp2_nv){(uint8_t *)line, (uint8_t *)value, strlen(line), strlen(value), 0};
        }
    }
    return n;
}

/* A byte of the n-th message's frame. */
static uint8_t frame_byte(size_t message, size_t at, size_t size)
{
    size_t number = at == 0 ? 0 : at < FRAME_HEAD ? size : message;
    size_t place = at < FRAME_HEAD ? FRAME_HEAD - 1 - at : FRAME_HEAD + 3 - at;
    if (at == 0) {
        return 0;
    }
    return at < FRAME_HEAD + 4 ? (uint8_t)(number >> (8 * place)) : 'x';
}

static size_t fill_messages(const struct h2_step *step, size_t from, uint8_t *space, size_t size)
{
    size_t frame = step->size + FRAME_HEAD, n = 0;
    while (n < size && from + n < step->n * frame) {
        size_t message = (from + n) / frame, at = (from + n) % frame;
        if (at >= FRAME_HEAD + 4) {
            size_t run = frame - at < size - n ? frame - at : size - n;
            memset(space + n, 'x', run);
            n += run;
        } else {
            space[n++] = frame_byte(message, at, step->size);
        }
    }
    return n;
}

static size_t fill_from(const char *bytes, size_t have, size_t from, uint8_t *space, size_t size)
{
    size_t n = have - from < size ? have - from : size;
    memcpy(space, bytes + from, n);
    return n;
}

static size_t fill(struct stream *s, uint8_t *space, size_t size)
{
    switch (s->step->kind) {
    case H2_BYTES:
        return fill_from(s->step->text, s->step->n, s->at, space, size);
    case H2_MESSAGES:
        return fill_messages(s->step, s->at, space, size);
    case H2_ECHO:
        return fill_from(s->body, s->body_size, s->at, space, size);
    default:
        return 0;
    }
}

static void send_trailers(struct stream *s)
{
    nghttp2_nv fields[LINES_MOST];
    char *copy = strdup(s->step->text);
    size_t n = read_lines(copy, fields, false);
    nghttp2_submit_trailer(s->peer->session, s->id, fields, n);
    free(copy);
}

/* A step that is no data; false when nothing follows for now. */
static bool act(struct stream *s)
{
    nghttp2_session *session = s->peer->session;
    switch (s->step->kind) {
    case H2_RESET:
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, (uint32_t)s->step->n);
        return false;
    case H2_GOAWAY:
        nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE, s->id, (uint32_t)s->step->n, NULL, 0);
        s->step++;
        return true;
    case H2_CUT:
        s->peer->cut = true;
        return false;
    case H2_UNTIL:
        s->waits = !s->peer->server->gate;
        s->step += !s->waits;
        return !s->waits;
    default:
        return false;
    }
}

static bool is_data(const struct h2_step *step)
{
    return step->kind == H2_BYTES || step->kind == H2_MESSAGES || step->kind == H2_ECHO;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *space, size_t size,
                       uint32_t *flags, nghttp2_data_source *source, void *data)
{
    struct stream *s = source->ptr;
    size_t n = 0;
    (void)session;
    (void)id;
    (void)data;

    for (;;) {
        if (is_data(s->step)) {
            n = fill(s, space, size);
            s->at += n;
            if (n > 0) {
                break;
            }
            s->at = 0;
            s->step++;
        } else if (s->step->kind == H2_END) {
            *flags |= NGHTTP2_DATA_FLAG_EOF;
            break;
        } else if (s->step->kind == H2_TRAILERS) {
            *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
            send_trailers(s);
            break;
        } else if (!act(s)) {
            return NGHTTP2_ERR_DEFERRED;
        }
    }
    s->peer->server->sent += n;
    return (ssize_t)n;
}

static void answer(struct stream *s)
{
    nghttp2_data_provider provider = {.source.ptr = s, .read_callback = on_read};
    nghttp2_nv fields[LINES_MOST];

    s->step += s->step->kind == H2_EARLY;
    while (s->step->kind != H2_HEAD && s->step->kind != H2_ONLY) {
        if (!act(s)) {
            return;
        }
    }
    char *copy = strdup(s->step->text);
    size_t n = read_lines(copy, fields, true);
    bool only = s->step->kind == H2_ONLY;
    s->step++;
    nghttp2_submit_response(s->peer->session, s->id, fields, n, only ? NULL : &provider);
    free(copy);
}

static void begin(struct stream *s)
{
    struct h2_server *server = s->peer->server;
    const char *path = strstr(s->fields, ":path: ");

    s->begun = true;
    server->requests++;
    memcpy(server->fields, s->fields, sizeof(s->fields));
    server->body_size = s->body_size;
    for (const struct h2_route *r = server->routes; r->path && path; r++) {
        size_t n = strlen(r->path);
        if (strncmp(path + 7, r->path, n) == 0 && path[7 + n] == '\n') {
            s->step = r->script;
            return;
        }
    }
    fail_msg("a path that has no script: %s", s->fields);
}

void h2_server_go_on(struct h2_server *server)
{
    server->gate = true;
    for (struct h2_peer *p = server->peers; p; p = p->next) {
        for (struct stream *s = p->streams; s; s = s->next) {
            if (s->waits) {
                s->waits = false;
                nghttp2_session_resume_data(p->session, s->id);
            }
        }
        flush(p);
    }
}

/* --- what nghttp2 tells ------------------------------------------------------------------- */

static int on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    struct h2_peer *p = data;
    struct stream *s;

    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    s = calloc(1, sizeof(*s));
    s->peer = p;
    s->id = frame->hd.stream_id;
    s->next = p->streams;
    if (s->next) {
        s->next->prev = s;
    }
    p->streams = s;
    if (++p->server->streams > p->server->most_streams) {
        p->server->most_streams = p->server->streams;
    }
    return nghttp2_session_set_stream_user_data(session, s->id, s);
}

static int on_field(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                    size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                    void *data)
{
    struct stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    size_t n = s ? strlen(s->fields) : 0;
    (void)flags;
    (void)data;
    if (s) {
        snprintf(s->fields + n, sizeof(s->fields) - n, "%.*s: %.*s\n", (int)name_size,
                 (const char *)name, (int)value_size, (const char *)value);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                   size_t size, void *data)
{
    struct stream *s = nghttp2_session_get_stream_user_data(session, id);
    (void)flags;
    (void)data;
    if (!s) {
        return 0;
    }
    if (s->body_size + size > s->body_room) {
        s->body_room = (s->body_size + size) * 2;
        s->body = realloc(s->body, s->body_room);
    }
    memcpy(s->body + s->body_size, bytes, size);
    s->body_size += size;
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    struct h2_peer *p = data;
    struct stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        p->server->resets++;
        p->server->reset_code = frame->rst_stream.error_code;
    }
    p->server->pings += frame->hd.type == NGHTTP2_PING;
    p->server->goaways += frame->hd.type == NGHTTP2_GOAWAY;
    if (!s || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        begin(s);
        if (s->step->kind == H2_EARLY) {
            answer(s);
            return 0;
        }
    }
    if (end && s->step->kind != H2_EARLY && !s->waits) {
        p->server->body_size = s->body_size;
        answer(s);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *data)
{
    struct stream *s = nghttp2_session_get_stream_user_data(session, id);
    (void)code;
    (void)data;
    if (s) {
        unlink_stream(s);
        stream_free(s);
    }
    return 0;
}

/* --- the server --------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    struct h2_peer *p = handle->data;
    (void)size;
    *buf = uv_buf_init(p->space, sizeof(p->space));
}

static void on_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct h2_peer *p = stream->data;
    if (n < 0 || nghttp2_session_mem_recv(p->session, (uint8_t *)buf->base, (size_t)n) < 0) {
        peer_close(p);
        return;
    }
    flush(p);
}

static void make_session(struct h2_peer *p)
{
    unsigned window = p->server->window ? p->server->window : WINDOW;
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, p->server->max_streams},
    };
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;

    assert_int_equal(nghttp2_option_new(&option), 0);
    nghttp2_option_set_max_send_header_block_length(option, HEAD_MOST);
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_field);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    assert_int_equal(nghttp2_session_server_new2(&p->session, callbacks, p, option), 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(p->session, NGHTTP2_FLAG_NONE, settings,
                            p->server->max_streams ? 2 : 1);
    nghttp2_session_set_local_window_size(p->session, NGHTTP2_FLAG_NONE, 0, (int32_t)window);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct h2_server *server = listener->data;
    struct h2_peer *p = calloc(1, sizeof(*p));

    assert_int_equal(status, 0);
    p->server = server;
    uv_tcp_init(server->loop, &p->tcp);
    p->tcp.data = p;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&p->tcp), 0);
    uv_tcp_nodelay(&p->tcp, 1);
    p->next = server->peers;
    if (p->next) {
        p->next->prev = p;
    }
    server->peers = p;
    server->connections++;
    server->open++;
    make_session(p);
    uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_bytes);
    flush(p);
}

struct h2_server *h2_server_new(uv_loop_t *loop, const struct h2_route *routes)
{
    struct h2_server *server = calloc(1, sizeof(*server));
    struct sockaddr_in address;
    int size = sizeof(address);

    signal(SIGPIPE, SIG_IGN); /* libuv writes to peers that may have gone */
    server->loop = loop;
    server->routes = routes;
    uv_tcp_init(loop, &server->listener);
    server->listener.data = server;
    uv_ip4_addr("127.0.0.1", 0, &address);
    assert_int_equal(uv_tcp_bind(&server->listener, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&server->listener, BACKLOG, on_connection), 0);
    uv_tcp_getsockname(&server->listener, (struct sockaddr *)&address, &size);
    server->port = ntohs(address.sin_port);
    snprintf(server->base, sizeof(server->base), "http://127.0.0.1:%d", server->port);
    return server;
}

void h2_server_deaf(struct h2_server *server)
{
    for (struct h2_peer *p = server->peers; p; p = p->next) {
        uv_read_stop((uv_stream_t *)&p->tcp);
    }
}

void h2_server_cut(struct h2_server *server)
{
    while (server->peers) {
        peer_close(server->peers);
    }
}

static void listener_closed(uv_handle_t *handle)
{
    struct h2_server *server = handle->data;
    server->closing = true;
    server_release(server);
}

void h2_server_close(struct h2_server *server)
{
    h2_server_cut(server);
    uv_close((uv_handle_t *)&server->listener, listener_closed);
}
