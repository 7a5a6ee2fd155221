#include "backends/kernels/jupyter/tunnel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/base/buffer.h"
#include "backends/base/embedded.h"

enum frame_kind {
    TUNNEL_CONFIG = 1,
    TUNNEL_OPEN,
    TUNNEL_DATA,
    TUNNEL_END,
    TUNNEL_CLOSE,
    TUNNEL_MORE,
    TUNNEL_READY,
    TUNNEL_KILL,
    TUNNEL_GONE,
};

enum { HEAD_SIZE = 9, PATH_SIZE = 108, BACKLOG = 64, IN_CAP = 4 * 1024 * 1024 };

struct connection {
    struct connection *next;
    struct tunnel *tunnel;
    uint32_t number;
    uv_pipe_t pipe;
    size_t window; /* that we may send */
    size_t held;   /* bytes of the far side that its client has not taken */
    size_t taken;  /* taken, and the far side does not know */
    bool reading;
    bool ended;     /* its client sends no more */
    bool far_ended; /* the far side sends no more */
    bool shutting;
    bool closing;
    uv_shutdown_t shutdown;
};

struct tunnel {
    uv_loop_t *loop;
    struct byte_stream *stream; /* NULL: ended */
    struct tunnel_events events;
    void *data;
    uv_pipe_t listener;
    int socket_fd; /* O_PATH of the socket, whose name is gone */
    char path[32];
    struct buffer in;
    struct connection *connections;
    unsigned count;
    uint32_t last;
    bool broken;
    unsigned handles;
    void (*closed)(void *data);
    void *closed_data;
    char piece[HEAD_SIZE + TUNNEL_PIECE];
};

extern const struct embedded_file embedded_gateway[];

/* ---- frames ---- */

static void put_u32(char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (char)(value >> 8 * i & 0xff);
    }
}

static uint32_t get_u32(const char *at)
{
    const unsigned char *u = (const unsigned char *)at;
    return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

static void put_head(char *at, enum frame_kind kind, uint32_t number, size_t size)
{
    put_u32(at, (uint32_t)size);
    at[4] = (char)kind;
    put_u32(at + 5, number);
}

static void break_off(struct tunnel *t, const char *why)
{
    if (!t->broken) {
        t->broken = true;
        t->events.on_broken(t->data, why);
    }
}

static void send_bytes(struct tunnel *t, const void *bytes, size_t size)
{
    if (t->stream && !t->broken) {
        int r = t->stream->write(t->stream, bytes, size);
        if (r < 0 && r != -EPIPE) { /* of an end the place hears by itself */
            break_off(t, "its stream takes no more");
        }
    }
}

static void send_frame(struct tunnel *t, enum frame_kind kind, uint32_t number, const void *payload,
                       size_t size)
{
    char small[HEAD_SIZE + 8];

    put_head(small, kind, number, size);
    if (size > 0) {
        memcpy(small + HEAD_SIZE, payload, size);
    }
    send_bytes(t, small, HEAD_SIZE + size);
}

/* ---- a connection's end ---- */

static void settle(struct tunnel *t)
{
    if (t->handles == 0 && t->closed) {
        void (*closed)(void *data) = t->closed;
        void *data = t->closed_data;
        buffer_deinit(&t->in);
        if (t->socket_fd >= 0) {
            close(t->socket_fd);
        }
        free(t);
        closed(data);
    }
}

static void on_connection_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    struct tunnel *t = c->tunnel;

    for (struct connection **at = &t->connections; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    free(c);
    t->handles--;
    t->count--;
    settle(t);
}

static void drop(struct connection *c, bool tell)
{
    if (c->closing) {
        return;
    }
    c->closing = true;
    if (tell) {
        send_frame(c->tunnel, TUNNEL_CLOSE, c->number, NULL, 0);
    }
    uv_close((uv_handle_t *)&c->pipe, on_connection_closed);
}

static void finish(struct connection *c)
{
    if (c->ended && c->far_ended && c->shutting && c->held == 0) {
        drop(c, true);
    }
}

/* ---- from the client ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct connection *c = handle->data;
    size_t size = c->window < TUNNEL_PIECE ? c->window : TUNNEL_PIECE;

    (void)suggested;
    *buf = uv_buf_init(c->tunnel->piece + HEAD_SIZE, (unsigned)size);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct connection *c = stream->data;
    struct tunnel *t = c->tunnel;

    (void)buf;
    if (n > 0) {
        put_head(t->piece, TUNNEL_DATA, c->number, (size_t)n);
        send_bytes(t, t->piece, HEAD_SIZE + (size_t)n);
        c->window -= (size_t)n;
        if (c->window == 0 && !c->closing) {
            c->reading = false;
            uv_read_stop(stream);
        }
    } else if (n == UV_EOF) {
        c->ended = true;
        uv_read_stop(stream);
        send_frame(t, TUNNEL_END, c->number, NULL, 0);
        finish(c);
    } else if (n < 0) {
        drop(c, true);
    }
}

static void read_on(struct connection *c)
{
    if (!c->reading && !c->ended && !c->closing && c->window > 0) {
        c->reading = uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read) == 0;
    }
}

/* Is it this very process that has connected? */
static bool is_ours(const uv_pipe_t *pipe)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    uv_os_fd_t fd;

    return uv_fileno((const uv_handle_t *)pipe, &fd) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == getpid();
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct tunnel *t = listener->data;
    struct connection *c = status == 0 ? calloc(1, sizeof(*c)) : NULL;

    if (!c) {
        return;
    }
    c->tunnel = t;
    c->number = ++t->last;
    c->window = TUNNEL_WINDOW;
    uv_pipe_init(t->loop, &c->pipe, 0);
    c->pipe.data = c;
    c->next = t->connections;
    t->connections = c;
    t->handles++;
    t->count++;
    if (uv_accept(listener, (uv_stream_t *)&c->pipe) < 0 || !is_ours(&c->pipe) ||
        t->count > TUNNEL_CONNECTIONS || !t->stream || t->broken) {
        drop(c, false);
        return;
    }
    send_frame(t, TUNNEL_OPEN, c->number, NULL, 0);
    read_on(c);
}

/* ---- to the client ---- */

struct write_request {
    uv_write_t base;
    struct connection *connection;
    size_t size;
    char bytes[];
};

static void on_shut(uv_shutdown_t *request, int status)
{
    (void)status;
    finish(request->data);
}

static void shut_if_done(struct connection *c)
{
    if (!c->far_ended || c->held > 0 || c->shutting || c->closing) {
        return;
    }
    c->shutting = true;
    c->shutdown.data = c;
    if (uv_shutdown(&c->shutdown, (uv_stream_t *)&c->pipe, on_shut) < 0) {
        drop(c, true);
    }
}

static void was_taken(struct connection *c, size_t size)
{
    char payload[4];

    c->held -= size;
    c->taken += size;
    if (c->taken >= TUNNEL_GRANT) {
        put_u32(payload, (uint32_t)c->taken);
        c->taken = 0;
        send_frame(c->tunnel, TUNNEL_MORE, c->number, payload, sizeof(payload));
    }
    shut_if_done(c);
}

static void on_written(uv_write_t *base, int status)
{
    struct write_request *request = (struct write_request *)base;
    struct connection *c = request->connection;

    if (status < 0) {
        drop(c, true);
    } else {
        was_taken(c, request->size);
    }
    free(request);
}

static void write_rest(struct connection *c, const char *bytes, size_t size)
{
    struct write_request *request = malloc(sizeof(*request) + size);
    uv_buf_t buf;

    if (!request) {
        drop(c, true);
        return;
    }
    request->connection = c;
    request->size = size;
    memcpy(request->bytes, bytes, size);
    buf = uv_buf_init(request->bytes, (unsigned)size);
    if (uv_write(&request->base, (uv_stream_t *)&c->pipe, &buf, 1, on_written) < 0) {
        free(request);
        drop(c, true);
    }
}

static void give(struct connection *c, const char *bytes, size_t size)
{
    uv_buf_t buf = uv_buf_init((char *)bytes, (unsigned)size);
    int n = uv_try_write((uv_stream_t *)&c->pipe, &buf, 1);
    size_t done = n > 0 ? (size_t)n : 0;

    c->held += size;
    if (n < 0 && n != UV_EAGAIN) {
        drop(c, true);
        return;
    }
    if (done < size) {
        write_rest(c, bytes + done, size - done);
    }
    if (done > 0 && !c->closing) {
        was_taken(c, done);
    }
}

/* ---- from the far side ---- */

static struct connection *find(struct tunnel *t, uint32_t number)
{
    for (struct connection *c = t->connections; c; c = c->next) {
        if (c->number == number) {
            return c->closing ? NULL : c;
        }
    }
    return NULL;
}

static void take_data(struct connection *c, const char *payload, size_t size)
{
    if (c->far_ended || c->held + c->taken + size > TUNNEL_WINDOW) {
        break_off(c->tunnel, "it sent more than it was allowed to");
    } else if (size > 0) {
        give(c, payload, size);
    }
}

static void take_more(struct connection *c, const char *payload, size_t size)
{
    uint32_t more = size == 4 ? get_u32(payload) : 0;

    if (more == 0 || more > TUNNEL_WINDOW - c->window) {
        break_off(c->tunnel, "it took what it was not sent");
        return;
    }
    c->window += more;
    read_on(c);
}

static void take_frame(struct tunnel *t, unsigned char kind, uint32_t number, const char *payload,
                       size_t size)
{
    struct connection *c = find(t, number);

    if (kind == TUNNEL_READY) {
        t->events.on_ready(t->data);
    } else if (kind == TUNNEL_GONE) {
        t->events.on_gone(t->data);
    } else if (kind < TUNNEL_DATA || kind > TUNNEL_READY || number > t->last) {
        break_off(t, "it sent a frame that is none");
    } else if (!c) {
        return; /* it was closed here, and the far side did not know */
    } else if (kind == TUNNEL_DATA) {
        take_data(c, payload, size);
    } else if (kind == TUNNEL_MORE) {
        take_more(c, payload, size);
    } else if (kind == TUNNEL_END) {
        c->far_ended = true;
        shut_if_done(c);
    } else {
        drop(c, false);
    }
}

void tunnel_feed(struct tunnel *t, const char *bytes, size_t size)
{
    if (!t->stream || t->broken) {
        return;
    }
    if (buffer_append(&t->in, bytes, size) < 0) {
        break_off(t, "it sent too much at once");
    }
    while (t->stream && !t->broken && buffer_size(&t->in) >= HEAD_SIZE) {
        const char *head = buffer_data(&t->in);
        size_t length = get_u32(head);
        if (length > TUNNEL_PIECE) {
            break_off(t, "it sent a frame that is too long");
        } else if (buffer_size(&t->in) < HEAD_SIZE + length) {
            return;
        } else {
            take_frame(t, (unsigned char)head[4], get_u32(head + 5), head + HEAD_SIZE, length);
            buffer_consume(&t->in, HEAD_SIZE + length);
        }
    }
}

/* ---- the far command ---- */

/* Reads the keeper's source from stdin: "%08zu" bytes of it. */
static const char bootstrap[] = "import os\n"
                                "def r(n):\n"
                                " b=b''\n"
                                " while len(b)<n:\n"
                                "  c=os.read(0,n-len(b))\n"
                                "  if not c:os._exit(0)\n"
                                "  b+=c\n"
                                " return b\n"
                                "exec(compile(r(int(r(8))),'<cellblock>','exec'))";

void tunnel_command(const char *python, const char *argv[6])
{
    argv[0] = python;
    argv[1] = "-I";
    argv[2] = "-u";
    argv[3] = "-c";
    argv[4] = bootstrap;
    argv[5] = NULL;
}

int tunnel_open(struct tunnel *t, json_t *config)
{
    const struct embedded_file *keeper = embedded_find(embedded_gateway, "keeper.py");
    char *text = json_dumps(config, JSON_COMPACT);
    char head[HEAD_SIZE];
    char size[9];

    if (!text) {
        return -ENOMEM;
    }
    (void)snprintf(size, sizeof(size), "%08u", (unsigned)keeper->size % 100000000);
    send_bytes(t, size, 8);
    send_bytes(t, keeper->data, keeper->size);
    put_head(head, TUNNEL_CONFIG, 0, strlen(text));
    send_bytes(t, head, HEAD_SIZE);
    send_bytes(t, text, strlen(text));
    free(text);
    return 0;
}

void tunnel_kill(struct tunnel *t)
{
    send_frame(t, TUNNEL_KILL, 0, NULL, 0);
}

/* ---- life ---- */

/* The socket is made in a folder of our own, which goes as soon as the socket is held open: from
 * then on it is reached through the descriptor only. */
static int bind_nameless(struct tunnel *t)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    char folder[PATH_SIZE];
    char path[PATH_SIZE + 8];
    int r;

    if (!base || base[0] != '/' || strlen(base) > PATH_SIZE - 32) {
        base = "/tmp";
    }
    (void)snprintf(folder, sizeof(folder), "%s/cellblock-XXXXXX", base);
    if (!mkdtemp(folder)) {
        (void)snprintf(folder, sizeof(folder), "/tmp/cellblock-XXXXXX");
        if (!mkdtemp(folder)) {
            return -errno;
        }
    }
    (void)snprintf(path, sizeof(path), "%s/s", folder);
    r = uv_pipe_bind(&t->listener, path);
    if (r == 0) {
        t->socket_fd = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
        r = t->socket_fd < 0 ? -errno
                             : uv_listen((uv_stream_t *)&t->listener, BACKLOG, on_connection);
    }
    (void)unlink(path);
    (void)rmdir(folder);
    return r;
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct tunnel *t = handle->data;

    t->handles--;
    settle(t);
}

static void nobody(void *data)
{
    (void)data;
}

struct tunnel *tunnel_new(uv_loop_t *loop, struct byte_stream *stream,
                          const struct tunnel_events *events, void *data, struct error *err)
{
    struct tunnel *t = calloc(1, sizeof(*t));
    int r;

    if (!t) {
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    t->loop = loop;
    t->stream = stream;
    t->events = *events;
    t->data = data;
    t->socket_fd = -1;
    buffer_init(&t->in, IN_CAP);
    uv_pipe_init(loop, &t->listener, 0);
    t->listener.data = t;
    t->handles = 1;
    r = bind_nameless(t);
    if (r < 0) {
        error_set_code(err, ERROR_INTERNAL, r, "no socket for the kernels of a container");
        tunnel_close(t, nobody, NULL);
        return NULL;
    }
    (void)snprintf(t->path, sizeof(t->path), "/proc/self/fd/%d", t->socket_fd);
    return t;
}

const char *tunnel_path(const struct tunnel *t)
{
    return t->path;
}

void tunnel_ended(struct tunnel *t)
{
    t->stream = NULL;
    for (struct connection *c = t->connections; c; c = c->next) {
        drop(c, false);
    }
}

void tunnel_close(struct tunnel *t, void (*closed)(void *data), void *data)
{
    t->broken = true; /* nothing is told any more */
    t->closed = closed;
    t->closed_data = data;
    tunnel_ended(t);
    uv_close((uv_handle_t *)&t->listener, on_listener_closed);
}
