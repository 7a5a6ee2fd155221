#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/local/cell_parts.h"

/* What travels between the server and a worker: frames both ways, and the two outputs. */

/* A worker that ends closes its streams a moment before its init has reported why; only when
 * nothing comes is it the stream that was closed and not the process that ended. */
static void on_report_grace(uv_timer_t *timer)
{
    struct live_cell *cell = timer->data;
    if (cell->state == CELL_STATE_READY && cell->link.events.on_end) {
        cell->link.events.on_end(cell->link.data);
    }
}

/* Reads frames once; false when there is nothing (more) to read now. */
static bool read_frames(struct live_cell *cell)
{
    struct cell_stream *stream = &cell->streams[CELL_FD_FRAMES];
    struct local_place *place = cell->place;
    if (stream->fd < 0 || !cell->link.events.on_frames) {
        return false;
    }
    ssize_t n = recv(stream->fd, place->frame_space, sizeof(place->frame_space), MSG_DONTWAIT);
    if (n > 0) {
        cell->link.events.on_frames(cell->link.data, place->frame_space, (size_t)n);
        return !cell->closing && n == (ssize_t)sizeof(place->frame_space);
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    cell_end_stream(stream);
    if (cell->state == CELL_STATE_READY) {
        cell->watched = CELL_WATCH_CLOSE; /* the timer is not the watcher's any more */
        uv_timer_start(&cell->timer, on_report_grace, REPORT_GRACE_MS, 0);
    }
    return false;
}

static void send_unsent(struct live_cell *cell);

static void on_frames(uv_poll_t *poll, int status, int events)
{
    struct live_cell *cell = poll->data;
    (void)status;
    if (events & UV_WRITABLE) {
        send_unsent(cell);
    }
    if (events & (UV_READABLE | UV_DISCONNECT)) {
        read_frames(cell);
    }
}

/* Reads an output pipe once and delivers it; false when it is empty or closed. */
static bool read_output(struct live_cell *cell, enum cell_fd which)
{
    struct cell_stream *stream = &cell->streams[which];
    struct local_place *place = cell->place;
    if (stream->fd < 0 || cell->closing) {
        return false;
    }
    ssize_t n = read(stream->fd, place->space, sizeof(place->space));
    if (n > 0) {
        if (cell->link.events.on_output) {
            cell->link.events.on_output(cell->link.data,
                                        which == CELL_FD_STDOUT ? STREAM_STDOUT : STREAM_STDERR,
                                        place->space, (size_t)n);
        }
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        cell_end_stream(stream);
    }
    return false;
}

static void on_output(uv_poll_t *poll, int status, int events)
{
    struct live_cell *cell = poll->data;
    (void)status;
    (void)events;
    read_output(cell,
                poll == &cell->streams[CELL_FD_STDOUT].poll ? CELL_FD_STDOUT : CELL_FD_STDERR);
}

enum {
    /* What was in a pipe when we began, at the most: a writer that never stops must not hold us. */
    DRAIN_ROUNDS = 64,
};

static void link_drain(struct link *link)
{
    struct live_cell *cell = (struct live_cell *)((char *)link - offsetof(struct live_cell, link));
    for (int which = CELL_FD_STDOUT; which <= CELL_FD_STDERR; which++) {
        for (int i = 0; i < DRAIN_ROUNDS && read_output(cell, (enum cell_fd)which); i++) {
        }
    }
}

void cell_drain(struct live_cell *cell)
{
    for (int i = 0; i < DRAIN_ROUNDS && !cell->closing && read_frames(cell); i++) {
    }
    link_drain(&cell->link);
}

static void watch_frames(struct live_cell *cell)
{
    int events = UV_READABLE | (buffer_size(&cell->unsent) ? UV_WRITABLE : 0);
    uv_poll_start(&cell->streams[CELL_FD_FRAMES].poll, events, on_frames);
}

static void send_unsent(struct live_cell *cell)
{
    int fd = cell->streams[CELL_FD_FRAMES].fd;
    if (fd < 0) {
        return;
    }
    ssize_t n = send(fd, buffer_data(&cell->unsent), buffer_size(&cell->unsent),
                     MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
        buffer_consume(&cell->unsent, (size_t)n);
    }
    if (buffer_size(&cell->unsent) == 0) {
        buffer_reset(&cell->unsent);
        watch_frames(cell);
    }
}

static int link_send(struct link *link, const void *bytes, size_t size)
{
    struct live_cell *cell = (struct live_cell *)((char *)link - offsetof(struct live_cell, link));
    int fd = cell->streams[CELL_FD_FRAMES].fd;
    if (fd < 0 || cell->state != CELL_STATE_READY) {
        return -EPIPE;
    }
    ssize_t n = 0;
    if (buffer_size(&cell->unsent) == 0) {
        n = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return -errno;
        }
        n = n < 0 ? 0 : n;
    }
    if ((size_t)n == size) {
        return 0;
    }
    int r = buffer_append(&cell->unsent, (const char *)bytes + n, size - (size_t)n);
    if (r == 0) {
        watch_frames(cell);
    }
    return r;
}

const struct link_ops cell_link_ops = {
    .send = link_send,
    .drain = link_drain,
};

/* Called by the machine that takes the cell: nobody listens before. */
void cell_start_streams(struct live_cell *cell)
{
    watch_frames(cell);
    uv_poll_start(&cell->streams[CELL_FD_STDOUT].poll, UV_READABLE, on_output);
    uv_poll_start(&cell->streams[CELL_FD_STDERR].poll, UV_READABLE, on_output);
}
