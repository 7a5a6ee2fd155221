#include "mcp/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/buffer.h"
#include "mcp/jsonrpc.h"

/*
 * A descriptor that epoll takes is watched with uv_poll and read and written here; what epoll
 * refuses (files, /dev/null) never makes anybody wait: files are read through uv_fs_read and
 * written directly.
 *
 * O_NONBLOCK belongs to the open file description, which is often shared with the host or a shell.
 * So pipes and terminals are opened again through /proc for a description of our own; where that
 * is not possible (sockets) the flag is given back at the end.
 */
enum {
    READ_SIZE = 64 * 1024,
    FIRST_FREE_FD = 10,
};

struct channel {
    int fd; /* our own copy */
    uv_poll_t poll;
    bool pollable;
    bool shared;    /* the description is somebody else's too */
    int old_flags;  /* of a shared one */
    bool poll_open; /* the handle needs uv_close */
};

struct stdio {
    uv_loop_t *loop;
    struct stdio_events events;
    void *data;
    struct channel in, out;

    struct buffer lines;
    size_t scanned; /* bytes of `lines` known to hold no newline */
    bool skipping;  /* within a line that is too long */
    bool pumping, held, reading_stopped, ended, end_told;
    uv_fs_t file_read;
    bool file_reading;

    struct buffer queue;
    bool congested, gone, gone_told, watch_hangup;

    uv_timer_t later; /* what must not happen in the caller's stack; the lingering at the end */
    bool closing;
    unsigned open_handles;
    void (*closed)(void *data);
    void *closed_data;
};

static void pump(struct stdio *s);
static void update_reading(struct stdio *s);
static void close_handles(struct stdio *s);

/* ---- descriptors ---- */

static int claim_one(int fd, const char *name, int *ret, struct error *err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
    if (copy < 0) {
        return error_set_code(err, ERROR_INVALID, errno,
                              "standard %s cannot be used; an MCP host connects it to a pipe",
                              name);
    }
    *ret = copy;
    return 0;
}

static int redirect(int from_or_null, int to)
{
    int fd = from_or_null >= 0 ? from_or_null : open("/dev/null", O_RDWR | O_CLOEXEC);
    int rc = fd < 0 || dup2(fd, to) < 0 ? -errno : 0;
    if (from_or_null < 0 && fd >= 0 && fd != to) {
        close(fd);
    }
    return rc;
}

int stdio_claim(int *ret_in, int *ret_out, struct error *err)
{
    int in = -1;
    int out = -1;
    if (claim_one(STDIN_FILENO, "input", &in, err) < 0) {
        return -1;
    }
    if (claim_one(STDOUT_FILENO, "output", &out, err) < 0) {
        close(in);
        return -1;
    }
    int rc = fcntl(STDERR_FILENO, F_GETFD) < 0 ? redirect(-1, STDERR_FILENO) : 0;
    rc = rc < 0 ? rc : redirect(-1, STDIN_FILENO);
    rc = rc < 0 ? rc : redirect(STDERR_FILENO, STDOUT_FILENO);
    if (rc < 0) {
        close(in);
        close(out);
        return error_set_code(err, ERROR_INTERNAL, rc, "cannot move the protocol off fd 0 and 1");
    }
    *ret_in = in;
    *ret_out = out;
    return 0;
}

/* A copy with a description of its own where the system gives one. */
static int own_copy(int fd, int mode, bool *ret_shared)
{
    char path[64];
    struct stat st;
    int copy = -1;
    *ret_shared = false;
    if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(fd))) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        copy = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    if (copy < 0) {
        *ret_shared = true;
        copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
    }
    return copy < 0 ? -errno : copy;
}

static int channel_open(struct stdio *s, struct channel *c, int fd, int mode)
{
    c->fd = own_copy(fd, mode, &c->shared);
    if (c->fd < 0) {
        return c->fd;
    }
    int rc = uv_poll_init(s->loop, &c->poll, c->fd);
    if (rc < 0 && rc != UV_EPERM) {
        close(c->fd);
        c->fd = -1;
        return rc;
    }
    c->pollable = c->poll_open = rc == 0;
    c->poll.data = s;
    return 0;
}

static void channel_give_back(struct channel *c)
{
    if (c->fd >= 0) {
        if (c->shared && c->pollable && c->old_flags >= 0) {
            fcntl(c->fd, F_SETFL, c->old_flags);
        }
        close(c->fd);
    }
    c->fd = -1;
}

/* ---- output ---- */

static void on_later(uv_timer_t *timer);

static void soon(struct stdio *s)
{
    if (!s->closing) {
        uv_timer_start(&s->later, on_later, 0, 0);
    }
}

static void give_up_reader(struct stdio *s)
{
    s->gone = true;
    buffer_reset(&s->queue);
    if (s->out.pollable) {
        uv_poll_stop(&s->out.poll);
    }
    if (s->closing) {
        close_handles(s);
    } else {
        soon(s);
    }
}

/* What the reader takes now; the rest is the caller's to keep. */
static size_t write_now(struct stdio *s, const char *bytes, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = write(s->out.fd, bytes + done, size - done);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN && s->out.pollable) {
            break;
        } else if (errno != EINTR) {
            give_up_reader(s);
            return size;
        }
    }
    return done;
}

/* Tells a peer that has gone from one that has only ended its sending half. */
static bool hung_up(const struct stdio *s)
{
    struct pollfd p = {.fd = s->out.fd};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP | POLLNVAL));
}

static void on_writable(uv_poll_t *poll, int status, int events);

static void watch_output(struct stdio *s)
{
    int events = (s->watch_hangup ? UV_DISCONNECT : 0) | (buffer_size(&s->queue) ? UV_WRITABLE : 0);
    if (!s->out.pollable || s->gone) {
        return;
    }
    if (events) {
        uv_poll_start(&s->out.poll, events, on_writable);
    } else {
        uv_poll_stop(&s->out.poll);
    }
}

static void flush(struct stdio *s)
{
    size_t n = write_now(s, buffer_data(&s->queue), buffer_size(&s->queue));
    if (s->gone) {
        return;
    }
    buffer_consume(&s->queue, n);
    if (buffer_size(&s->queue) == 0) {
        buffer_reset(&s->queue);
    }
    watch_output(s);
    if (s->congested && buffer_size(&s->queue) < STDIO_QUEUE_LOW) {
        s->congested = false;
        soon(s);
    }
    if (s->closing && buffer_size(&s->queue) == 0) {
        close_handles(s);
    }
}

static void on_writable(uv_poll_t *poll, int status, int events)
{
    struct stdio *s = poll->data;
    if (status < 0 || ((events & UV_DISCONNECT) && hung_up(s))) {
        give_up_reader(s);
        return;
    }
    if (events & UV_DISCONNECT) {
        s->watch_hangup = false;
        watch_output(s);
    }
    if (events & UV_WRITABLE) {
        flush(s);
    }
}

void stdio_write(struct stdio *s, const char *bytes, size_t size)
{
    if (s->gone || s->closing) {
        return;
    }
    bool waiting = buffer_size(&s->queue) > 0;
    size_t done = waiting ? 0 : write_now(s, bytes, size);
    if (done == size) {
        return;
    }
    if (buffer_append(&s->queue, bytes + done, size - done) < 0) {
        give_up_reader(s);
        return;
    }
    if (buffer_size(&s->queue) > STDIO_QUEUE_HIGH && !s->congested) {
        s->congested = true;
        update_reading(s);
    }
    if (!waiting) {
        watch_output(s);
    }
}

bool stdio_congested(const struct stdio *s)
{
    return s->congested;
}

/* ---- input ---- */

static void deliver(struct stdio *s, const char *line, size_t size)
{
    if (size > 0 && line[size - 1] == '\r') {
        size--;
    }
    if (size > MESSAGE_CAP) {
        s->events.on_too_long(s->data);
    } else if (size > 0) {
        s->events.on_line(s->data, line, size);
    }
}

static bool may_deliver(const struct stdio *s)
{
    return !s->held && !s->congested && !s->reading_stopped && !s->gone;
}

static void drop_unfinished(struct stdio *s)
{
    if (!s->skipping && buffer_size(&s->lines) > MESSAGE_CAP) {
        s->skipping = true;
        s->events.on_too_long(s->data);
    }
    if (s->skipping || buffer_size(&s->lines) == 0) {
        buffer_reset(&s->lines);
        s->scanned = 0;
    }
}

static void deliver_lines(struct stdio *s)
{
    while (may_deliver(s)) {
        const char *line = buffer_data(&s->lines);
        size_t size = buffer_size(&s->lines);
        const char *newline =
            size > s->scanned ? memchr(line + s->scanned, '\n', size - s->scanned) : NULL;
        if (!newline) {
            s->scanned = size;
            drop_unfinished(s);
            return;
        }
        size = (size_t)(newline - line);
        if (!s->skipping) {
            deliver(s, line, size);
        }
        s->skipping = false;
        s->scanned = 0;
        buffer_consume(&s->lines, size + 1);
    }
}

/* Lines, then the last unfinished one, then the end. */
static void pump(struct stdio *s)
{
    if (s->pumping || s->file_reading) {
        return;
    }
    s->pumping = true;
    deliver_lines(s);
    if (s->ended && !s->end_told && may_deliver(s)) {
        if (buffer_size(&s->lines) > 0) {
            deliver(s, buffer_data(&s->lines), buffer_size(&s->lines));
            buffer_reset(&s->lines);
        }
        s->end_told = true;
        s->events.on_end(s->data);
    }
    s->pumping = false;
    update_reading(s);
}

static void took(struct stdio *s, ssize_t n)
{
    if (n > 0) {
        buffer_commit(&s->lines, (size_t)n);
    } else if (n != UV_EAGAIN && n != UV_EINTR) {
        s->ended = true; /* a terminal or socket that broke gives nothing more either */
    }
    pump(s);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct stdio *s = poll->data;
    char *space;
    (void)events;
    if (status < 0 || buffer_reserve(&s->lines, READ_SIZE, &space) < 0) {
        took(s, 0);
        return;
    }
    ssize_t n = read(s->in.fd, space, READ_SIZE);
    took(s, n < 0 ? -errno : n);
}

static void on_file_read(uv_fs_t *request)
{
    struct stdio *s = request->data;
    ssize_t n = request->result;
    uv_fs_req_cleanup(request);
    s->file_reading = false;
    if (!s->closing) {
        took(s, n);
    } else if (!uv_is_active((uv_handle_t *)&s->later)) {
        close_handles(s);
    }
}

static void read_file(struct stdio *s)
{
    char *space;
    if (s->file_reading || buffer_reserve(&s->lines, READ_SIZE, &space) < 0) {
        return;
    }
    uv_buf_t piece = uv_buf_init(space, READ_SIZE);
    s->file_read.data = s;
    s->file_reading =
        uv_fs_read(s->loop, &s->file_read, s->in.fd, &piece, 1, -1, on_file_read) == 0;
}

static void update_reading(struct stdio *s)
{
    bool want = may_deliver(s) && !s->ended && !s->closing;
    if (s->pumping) {
        return; /* pump calls again */
    }
    if (!s->in.pollable) {
        if (want) {
            read_file(s);
        }
    } else if (want && !uv_is_active((uv_handle_t *)&s->in.poll)) {
        uv_poll_start(&s->in.poll, UV_READABLE, on_readable);
    } else if (!want) {
        uv_poll_stop(&s->in.poll);
    }
}

void stdio_hold(struct stdio *s, bool hold)
{
    if (s->held != hold && !s->closing) {
        s->held = hold;
        soon(s);
    }
}

bool stdio_reads_file(const struct stdio *s)
{
    return !s->in.pollable;
}

void stdio_stop_reading(struct stdio *s)
{
    s->reading_stopped = true;
    if (!s->closing) {
        update_reading(s);
    }
}

static void on_later(uv_timer_t *timer)
{
    struct stdio *s = timer->data;
    if (s->closing) {
        close_handles(s);
        return;
    }
    if (s->gone && !s->gone_told) {
        s->gone_told = true;
        s->events.on_gone(s->data);
        return;
    }
    pump(s);
}

/* ---- life ---- */

static void free_stdio(struct stdio *s)
{
    channel_give_back(&s->in);
    channel_give_back(&s->out);
    buffer_deinit(&s->lines);
    buffer_deinit(&s->queue);
    free(s);
}

struct stdio *stdio_open(uv_loop_t *loop, int in_fd, int out_fd, const struct stdio_events *events,
                         void *data, struct error *err)
{
    struct stdio *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    s->loop = loop;
    s->events = *events;
    s->data = data;
    s->watch_hangup = true;
    s->in.fd = s->out.fd = -1;
    s->in.old_flags = fcntl(in_fd, F_GETFL); /* both, before uv changes what they may share */
    s->out.old_flags = fcntl(out_fd, F_GETFL);
    buffer_init(&s->lines, MESSAGE_CAP + 2 * READ_SIZE);
    buffer_init(&s->queue, STDIO_QUEUE_CAP);
    uv_timer_init(loop, &s->later);
    s->later.data = s;
    int rc = channel_open(s, &s->in, in_fd, O_RDONLY);
    rc = rc < 0 ? rc : channel_open(s, &s->out, out_fd, O_WRONLY);
    if (rc < 0) {
        error_set_code(err, ERROR_INVALID, rc, "standard input or output cannot be used");
        stdio_close(s, 0, NULL, NULL);
        return NULL;
    }
    update_reading(s);
    watch_output(s);
    return s;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct stdio *s = handle->data;
    if (--s->open_handles > 0) {
        return;
    }
    void (*closed)(void *) = s->closed;
    void *data = s->closed_data;
    free_stdio(s);
    if (closed) {
        closed(data);
    }
}

static void close_handle(struct stdio *s, uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) {
        s->open_handles++;
        uv_close(handle, on_handle_closed);
    }
}

/* A read of a file that is under way is waited for: it writes into our memory. */
static void close_handles(struct stdio *s)
{
    if (s->file_reading) {
        uv_timer_stop(&s->later);
        return;
    }
    if (s->in.poll_open) {
        close_handle(s, (uv_handle_t *)&s->in.poll);
    }
    if (s->out.poll_open) {
        close_handle(s, (uv_handle_t *)&s->out.poll);
    }
    close_handle(s, (uv_handle_t *)&s->later);
}

void stdio_close(struct stdio *s, unsigned linger_ms, void (*closed)(void *data), void *data)
{
    bool linger = linger_ms > 0 && !s->gone && buffer_size(&s->queue) > 0;
    stdio_stop_reading(s);
    s->closing = true;
    s->closed = closed;
    s->closed_data = data;
    if (s->file_reading) {
        uv_cancel((uv_req_t *)&s->file_read);
    }
    uv_timer_stop(&s->later);
    if (linger) {
        uv_timer_start(&s->later, on_later, linger_ms, 0);
    } else {
        close_handles(s);
    }
}
