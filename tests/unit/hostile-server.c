#include "tests/unit/hostile-server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

enum { READ_SIZE = 8192 };

struct hostile_peer {
    struct hostile *hostile;
    struct hostile_peer *next, *prev;
    union {
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } s;
    uv_timer_t timer;
    unsigned handles;
    bool closing, ended, resting;    /* ended: the client shut its direction */
    const struct hostile_step *step; /* NULL: waits for a head */
    size_t at;                       /* of a drip */
    char space[READ_SIZE];           /* libuv reads into it */
    char in[16384];
    size_t in_size;
    size_t after_head, expected; /* bytes of the body that came, that are due */
    bool chunked;
    char tail[8]; /* the newest bytes of a chunked body */
};

struct out {
    uv_write_t req;
    struct hostile_peer *peer;
    bool then_on;
    char bytes[];
};

static void go(struct hostile_peer *peer);

static void peer_handle_closed(uv_handle_t *handle)
{
    struct hostile_peer *peer = handle->data;
    struct hostile *h = peer->hostile;
    if (--peer->handles > 0) {
        return;
    }
    *(peer->prev ? &peer->prev->next : &h->peers) = peer->next;
    if (peer->next) {
        peer->next->prev = peer->prev;
    }
    h->open--;
    free(peer);
    if (!h->peers && !h->listener.stream.data) {
        free(h); /* the listener was gone first */
    }
}

static void peer_close(struct hostile_peer *peer)
{
    if (peer->closing) {
        return;
    }
    peer->closing = true;
    uv_close((uv_handle_t *)&peer->timer, peer_handle_closed);
    uv_close((uv_handle_t *)&peer->s.stream, peer_handle_closed);
}

static void on_written(uv_write_t *req, int status)
{
    struct out *out = (struct out *)req;
    struct hostile_peer *peer = out->peer;
    bool then_on = out->then_on;
    free(out);
    if (status == 0 && then_on && !peer->closing) {
        go(peer);
    }
}

/* then_on: the script goes on when it is out. */
static void put(struct hostile_peer *peer, const char *bytes, size_t size, bool then_on)
{
    struct out *out = malloc(sizeof(*out) + size);
    uv_buf_t buf;
    assert_non_null(out);
    out->peer = peer;
    out->then_on = then_on;
    memcpy(out->bytes, bytes, size);
    buf = uv_buf_init(out->bytes, (unsigned)size);
    if (uv_write(&out->req, &peer->s.stream, &buf, 1, on_written) < 0) {
        free(out);
    }
}

static void fill(struct hostile_peer *peer, size_t size)
{
    char *bytes = malloc(size);
    assert_non_null(bytes);
    memset(bytes, 'x', size);
    put(peer, bytes, size, true);
    free(bytes);
}

static void on_timer(uv_timer_t *timer)
{
    go(timer->data);
}

static void rest(struct hostile_peer *peer, size_t ms)
{
    uv_timer_start(&peer->timer, on_timer, ms, 0);
}

static void cut(struct hostile_peer *peer, bool reset)
{
    uv_os_fd_t fd;
    if (reset && uv_fileno((uv_handle_t *)&peer->s.stream, &fd) == 0) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
    peer_close(peer);
}

static bool body_in(const struct hostile_peer *peer)
{
    if (peer->chunked) {
        return memcmp(peer->tail + 1, "\r\n0\r\n\r\n", 7) == 0 ||
               (peer->after_head == 5 && memcmp(peer->tail + 3, "0\r\n\r\n", 5) == 0);
    }
    return peer->after_head >= peer->expected;
}

static void drip(struct hostile_peer *peer)
{
    const struct hostile_step *step = peer->step;
    put(peer, step->text + peer->at, 1, false);
    peer->at++;
    if (step->text[peer->at] == '\0') {
        peer->at = 0;
        peer->step++;
    }
    rest(peer, step->n);
}

/* Steps that are done at once and go on by themselves, or wait. */
static void act(struct hostile_peer *peer, const struct hostile_step *step)
{
    switch (step->kind) {
    case HOSTILE_SEND:
        put(peer, step->text, strlen(step->text), true);
        return;
    case HOSTILE_FILL:
        fill(peer, step->n);
        return;
    case HOSTILE_CUT:
    case HOSTILE_RESET:
        cut(peer, step->kind == HOSTILE_RESET);
        return;
    case HOSTILE_DEAF:
        uv_read_stop(&peer->s.stream);
        rest(peer, 0);
        return;
    default: /* HOSTILE_SHUT */
        assert_int_equal(step->kind, HOSTILE_SHUT);
        uv_os_fd_t fd;
        assert_int_equal(uv_fileno((uv_handle_t *)&peer->s.stream, &fd), 0);
        shutdown(fd, SHUT_WR);
        rest(peer, 0);
    }
}

static void take_head(struct hostile_peer *peer);

static void go(struct hostile_peer *peer)
{
    const struct hostile_step *step = peer->step;
    if (peer->closing || !step) {
        return;
    }
    switch (step->kind) {
    case HOSTILE_END:
        if (body_in(peer)) {
            peer->step = NULL;
            take_head(peer);
        }
        return;
    case HOSTILE_BODY:
    case HOSTILE_COUNT:
        if (step->kind == HOSTILE_BODY ? body_in(peer) : peer->after_head >= step->n) {
            peer->step++;
            go(peer);
        }
        return;
    case HOSTILE_ECHO:
        if (peer->ended) {
            peer_close(peer);
        }
        return;
    case HOSTILE_DRIP:
        drip(peer);
        return;
    case HOSTILE_FLOOD:
        put(peer, step->text, strlen(step->text), true);
        return;
    case HOSTILE_SLEEP:
        peer->resting = !peer->resting;
        if (peer->resting) {
            rest(peer, step->n);
        } else {
            peer->step++;
            go(peer);
        }
        return;
    default:
        peer->step++;
        act(peer, step);
    }
}

/* Bytes after the head. */
static void take_body(struct hostile_peer *peer, const char *bytes, size_t size)
{
    struct hostile *h = peer->hostile;
    size_t kept = h->body_size < sizeof(h->body) ? sizeof(h->body) - h->body_size : 0;

    memcpy(h->body + (kept ? h->body_size : 0), bytes, kept < size ? kept : size);
    h->body_size += size;
    peer->after_head += size;
    for (size_t i = size > 8 ? size - 8 : 0; i < size; i++) {
        memmove(peer->tail, peer->tail + 1, 7);
        peer->tail[7] = bytes[i];
    }
    if (peer->step && peer->step->kind == HOSTILE_ECHO) {
        put(peer, bytes, size, false);
    } else if (peer->step &&
               (peer->step->kind == HOSTILE_BODY || peer->step->kind == HOSTILE_COUNT ||
                peer->step->kind == HOSTILE_END)) {
        go(peer);
    }
}

static void next_script(struct hostile_peer *peer)
{
    struct hostile *h = peer->hostile;
    peer->step = h->options.scripts[h->scripts_used];
    peer->at = 0;
    if (h->options.scripts[h->scripts_used + 1]) {
        h->scripts_used++;
    }
    h->requests++;
}

static void take_head(struct hostile_peer *peer)
{
    struct hostile *h = peer->hostile;
    char *end = memmem(peer->in, peer->in_size, "\r\n\r\n", 4), *length;
    size_t head, more;

    if (!end) {
        assert_true(peer->in_size < sizeof(peer->in));
        return;
    }
    head = (size_t)(end - peer->in) + 4;
    more = peer->in_size - head;
    memcpy(h->head, peer->in, head);
    h->head[head] = '\0';
    h->body_size = 0;
    peer->after_head = 0;
    length = strcasestr(h->head, "\r\nContent-Length:");
    peer->expected = length ? strtoul(length + 17, NULL, 10) : 0;
    peer->chunked = strcasestr(h->head, "\r\nTransfer-Encoding: chunked") != NULL;
    peer->in_size = 0;
    take_body(peer, peer->in + head, more); /* no step yet: nothing goes on by it */
    next_script(peer);
    rest(peer, 0);
}

static void take(struct hostile_peer *peer, const char *bytes, size_t size)
{
    if (peer->step) {
        take_body(peer, bytes, size);
        return;
    }
    assert_true(size <= sizeof(peer->in) - peer->in_size);
    memcpy(peer->in + peer->in_size, bytes, size);
    peer->in_size += size;
    take_head(peer);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    (void)suggested;
    *ret = uv_buf_init(((struct hostile_peer *)handle->data)->space, READ_SIZE);
}

/* The client shut its direction, or broke off. */
static void end_of_client(struct hostile_peer *peer, bool clean)
{
    enum hostile_kind kind = peer->step ? peer->step->kind : HOSTILE_END;
    if (clean && kind == HOSTILE_ECHO) {
        put(peer, "", 0, true); /* closes after what is on its way */
    } else if (!clean || kind == HOSTILE_END || kind == HOSTILE_FLOOD || kind == HOSTILE_COUNT ||
               kind == HOSTILE_BODY) {
        peer_close(peer);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct hostile_peer *peer = stream->data;
    if (n > 0) {
        take(peer, buf->base, (size_t)n);
    } else if (n < 0) {
        peer->ended = true;
        uv_read_stop(stream);
        end_of_client(peer, n == UV_EOF);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct hostile *h = listener->data;
    struct hostile_peer *peer = calloc(1, sizeof(*peer));
    int size = h->options.buffer;

    assert_int_equal(status, 0);
    assert_non_null(peer);
    peer->hostile = h;
    if (h->options.tcp) {
        uv_tcp_init(h->loop, &peer->s.tcp);
    } else {
        uv_pipe_init(h->loop, &peer->s.pipe, 0);
    }
    uv_timer_init(h->loop, &peer->timer);
    peer->s.stream.data = peer->timer.data = peer;
    peer->handles = 2;
    peer->next = h->peers;
    if (peer->next) {
        peer->next->prev = peer;
    }
    h->peers = peer;
    h->connections++;
    h->open++;
    assert_int_equal(uv_accept(listener, &peer->s.stream), 0);
    if (size) {
        uv_send_buffer_size((uv_handle_t *)&peer->s.stream, &size);
        size = h->options.buffer;
        uv_recv_buffer_size((uv_handle_t *)&peer->s.stream, &size);
    }
    uv_read_start(&peer->s.stream, on_alloc, on_read);
}

static void listen_tcp(struct hostile *h)
{
    struct sockaddr_in address;
    int size = sizeof(address);
    uv_tcp_init(h->loop, &h->listener.tcp);
    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &address), 0);
    assert_int_equal(uv_tcp_bind(&h->listener.tcp, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_tcp_getsockname(&h->listener.tcp, (struct sockaddr *)&address, &size), 0);
    snprintf(h->base, sizeof(h->base), "http://127.0.0.1:%d", ntohs(address.sin_port));
}

static void listen_unix(struct hostile *h)
{
    strcpy(h->folder, "/tmp/hostile-XXXXXX");
    assert_non_null(mkdtemp(h->folder));
    snprintf(h->socket, sizeof(h->socket), "%s/s", h->folder);
    uv_pipe_init(h->loop, &h->listener.pipe, 0);
    assert_int_equal(uv_pipe_bind(&h->listener.pipe, h->socket), 0);
    strcpy(h->base, "http://docker");
}

struct hostile *hostile_new(uv_loop_t *loop, const struct hostile_options *options)
{
    struct hostile *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    signal(SIGPIPE, SIG_IGN); /* libuv's writes raise it */
    h->loop = loop;
    h->options = *options;
    if (options->tcp) {
        listen_tcp(h);
    } else {
        listen_unix(h);
    }
    h->listener.stream.data = h;
    assert_int_equal(uv_listen(&h->listener.stream, 16, on_connection), 0);
    return h;
}

static void listener_closed(uv_handle_t *handle)
{
    struct hostile *h = handle->data;
    handle->data = NULL;
    if (h->folder[0]) {
        unlink(h->socket);
        rmdir(h->folder);
    }
    if (!h->peers) {
        free(h);
    }
}

void hostile_close(struct hostile *hostile)
{
    hostile->closing = true;
    for (struct hostile_peer *peer = hostile->peers; peer; peer = peer->next) {
        peer_close(peer);
    }
    uv_close((uv_handle_t *)&hostile->listener.stream, listener_closed);
}
