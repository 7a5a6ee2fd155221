#include "backends/local/cell_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    UNSENT_CAP = 64 * 1024 * 1024,
};

static void handle_closed(uv_handle_t *handle);

/* The poll handle goes before its descriptor: closed later, it would take whatever has got the same
 * number meanwhile out of the loop (libuv's uv__platform_invalidate_fd). */
void cell_end_stream(struct cell_stream *stream)
{
    if (stream->watched) {
        stream->watched = false;
        uv_close((uv_handle_t *)&stream->poll, handle_closed);
    }
    if (stream->fd >= 0) {
        close(stream->fd);
        stream->fd = -1;
    }
}

/* ---- the end of a cell ---- */

static void free_cell(struct live_cell *cell)
{
    struct local_place *place = cell->place;
    if (cell->open_handles > 0 || (cell->child_used && !cell->child_gone)) {
        return;
    }
    place_remove_cell(place, cell);
    buffer_deinit(&cell->unsent);
    if (cell->root_fd >= 0) {
        close(cell->root_fd);
    }
    free(cell->folder);
    free(cell);
    place_maybe_closed(place);
}

static void handle_closed(uv_handle_t *handle)
{
    struct live_cell *cell = handle->data;
    cell->open_handles--;
    free_cell(cell);
}

struct removal {
    uv_work_t work;
    struct live_cell *cell;
};

static void remove_folder(uv_work_t *work)
{
    struct removal *removal = (struct removal *)work;
    launch_folder_remove(removal->cell->folder);
}

static void folder_removed(uv_work_t *work, int status)
{
    struct removal *removal = (struct removal *)work;
    struct live_cell *cell = removal->cell;
    (void)status;
    free(removal);
    cell->child_gone = true;
    free_cell(cell);
}

void cell_child_closed(struct child *child)
{
    struct live_cell *cell = child->data;
    struct removal *removal = cell->folder ? calloc(1, sizeof(*removal)) : NULL;
    if (removal) {
        removal->cell = cell;
        if (uv_queue_work(cell->place->base.loop, &removal->work, remove_folder, folder_removed) ==
            0) {
            return;
        }
        free(removal);
    }
    cell->child_gone = true;
    free_cell(cell);
}

/* Tells the owner or the pool once; later ends only mean that there is less to clean up. */
static void gone(struct live_cell *cell)
{
    if (cell->state == CELL_STATE_GONE) {
        return;
    }
    if (cell->state == CELL_STATE_READY) {
        cell_drain(cell);
    }
    cell->state = CELL_STATE_GONE;
    uv_timer_stop(&cell->timer);
    cell->exit.message = cell->message[0] ? cell->message : NULL;
    if (!cell->closing) {
        place_cell_gone(cell->place, cell);
    }
}

void cell_fail_start(struct live_cell *cell, enum error_kind kind, const char *message)
{
    cell->exit.how = EXIT_LOST;
    cell->exit.kind = kind;
    snprintf(cell->message, sizeof(cell->message), "%s", message);
    gone(cell);
}

static void lost(struct live_cell *cell, const char *message)
{
    cell_fail_start(cell, ERROR_LOST, message);
}

/* ---- the status socket ---- */

static bool is_host_root(int fd)
{
    struct stat here;
    struct stat there;
    return stat("/", &here) < 0 || fstat(fd, &there) < 0 ||
           (here.st_dev == there.st_dev && here.st_ino == there.st_ino);
}

/* The worker has not run anything yet, so its root is the cell's. The descriptor outlives it. The
 * pid cannot be another's: the process waits for us. Should it be all the same, the root would be
 * the host's, and that is refused. */
static int open_root(struct live_cell *cell, pid_t pid)
{
    char path[64];
    if (cell->folder) {
        cell->root_fd = open(cell->folder, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return cell->root_fd < 0 ? -errno : 0;
    }
    snprintf(path, sizeof(path), "/proc/%d/root", (int)pid);
    cell->root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (cell->root_fd < 0) {
        return -errno;
    }
    return is_host_root(cell->root_fd) ? -EXDEV : 0;
}

static void take_ready(struct live_cell *cell, pid_t pid)
{
    if (cell->state != CELL_STATE_ASKED) {
        return;
    }
    int r = open_root(cell, pid);
    if (r < 0) {
        snprintf(cell->message, sizeof(cell->message),
                 "the sandbox's files could not be reached: %s", strerror(-r));
        cell->exit.how = EXIT_LOST;
        cell->exit.kind = ERROR_INTERNAL;
        gone(cell);
        return;
    }
    uv_timer_stop(&cell->timer);
    cell->state = CELL_STATE_READY;
    place_cell_ready(cell->place, cell);
}

static void take_end(struct live_cell *cell, const struct cell_report *report)
{
    static const enum exit_how how[] = {
        [CELL_EXITED] = EXIT_CODE,
        [CELL_SIGNALED] = EXIT_SIGNAL,
        [CELL_OUT_OF_MEMORY] = EXIT_OUT_OF_MEMORY,
        [CELL_DISK_FULL] = EXIT_DISK,
    };
    struct machine_exit *e = &cell->exit;
    e->how = how[report->type];
    e->code = e->how == EXIT_CODE ? report->code : 0;
    e->signal = e->how == EXIT_SIGNAL ? report->code : 0;
    e->used = report->used;
    e->limit = report->limit;
    e->cpu_ms = report->cpu_ms;
    e->peak_rss_kib = report->peak_rss_kib;
    if (e->how == EXIT_DISK) {
        snprintf(cell->message, sizeof(cell->message), "%s", report->text);
    }
    gone(cell);
}

static void take_report(struct live_cell *cell, struct cell_report *report, pid_t pid)
{
    report->text[sizeof(report->text) - 1] = '\0';
    switch (report->type) {
    case CELL_READY:
        take_ready(cell, pid);
        break;
    case CELL_FAILED:
        cell->exit.how = EXIT_LOST;
        cell->exit.kind = ERROR_UNSUPPORTED;
        snprintf(cell->message, sizeof(cell->message), "the sandbox could not be made: %s: %s",
                 report->text, strerror(report->code));
        gone(cell);
        break;
    case CELL_EXITED:
    case CELL_SIGNALED:
    case CELL_OUT_OF_MEMORY:
    case CELL_DISK_FULL:
        take_end(cell, report);
        break;
    default:
        lost(cell, "the cell init said something unknown");
        break;
    }
}

static pid_t sender(struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS &&
            c->cmsg_len >= CMSG_LEN(sizeof(struct ucred))) {
            struct ucred creds;
            memcpy(&creds, CMSG_DATA(c), sizeof(creds));
            return creds.pid;
        }
    }
    return -1;
}

/* One report; false when there is none left. */
static bool read_report(struct live_cell *cell)
{
    struct cell_report report;
    char control[CMSG_SPACE(sizeof(struct ucred))];
    struct iovec part = {.iov_base = &report, .iov_len = sizeof(report)};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    ssize_t n =
        recvmsg(cell->streams[CELL_FD_STATUS].fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (n < 0 && errno == ECONNRESET) {
        return true; /* it ended before it had read an order; what it reported comes after this */
    }
    if (n == (ssize_t)sizeof(report)) {
        take_report(cell, &report, sender(&message));
        return cell->state != CELL_STATE_GONE;
    }
    cell_end_stream(&cell->streams[CELL_FD_STATUS]);
    if (cell->state == CELL_STATE_ASKED && cell->child_used) {
        return false; /* its process is ending, and its last words say more */
    }
    lost(cell, "the sandbox ended without a word");
    return false;
}

void cell_read_status(struct live_cell *cell)
{
    while (!cell->closing && cell->streams[CELL_FD_STATUS].fd >= 0 && read_report(cell)) {
    }
}

static void on_status(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    cell_read_status(poll->data);
}

/* ---- making one ---- */

static int make_pair(struct live_cell *cell, enum cell_fd which)
{
    int pair[2];
    int r;
    if (which == CELL_FD_STDOUT || which == CELL_FD_STDERR) {
        r = pipe2(pair, O_CLOEXEC);
    } else {
        int type = which == CELL_FD_STATUS ? SOCK_SEQPACKET : SOCK_STREAM;
        r = socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair);
    }
    if (r < 0) {
        return -errno;
    }
    cell->streams[which].fd = pair[0];
    cell->far[which] = pair[1];
    fcntl(pair[0], F_SETFL, fcntl(pair[0], F_GETFL) | O_NONBLOCK);
    if (which == CELL_FD_STATUS) {
        int on = 1;
        setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
    }
    r = uv_poll_init(cell->place->base.loop, &cell->streams[which].poll, pair[0]);
    if (r == 0) {
        cell->streams[which].poll.data = cell;
        cell->streams[which].watched = true;
        cell->open_handles++;
    }
    return r;
}

void cell_close_far(struct live_cell *cell)
{
    for (int i = 0; i < CELL_FD_COUNT; i++) {
        if (cell->far[i] >= 0) {
            close(cell->far[i]);
            cell->far[i] = -1;
        }
    }
}

static void start_watching(struct live_cell *cell)
{
    uv_poll_start(&cell->streams[CELL_FD_STATUS].poll, UV_READABLE, on_status);
}

void cell_own(struct live_cell *cell, struct local_machine *owner)
{
    cell->owner = owner;
    if (cell->state == CELL_STATE_READY) {
        cell_start_streams(cell);
    }
}

void cell_disown(struct live_cell *cell)
{
    cell->owner = NULL;
    cell->link.events = (struct link_events){0};
    for (int i = 0; i < CELL_FD_STATUS; i++) {
        if (cell->streams[i].watched) {
            uv_poll_stop(&cell->streams[i].poll);
        }
    }
}

struct live_cell *cell_new(struct local_place *place, unsigned mount_count)
{
    struct live_cell *cell = calloc(1, sizeof(*cell));
    if (!cell) {
        return NULL;
    }
    cell->place = place;
    cell->solo = mount_count > 0 || !place->forked;
    cell->root_fd = -1;
    cell->link.ops = &cell_link_ops;
    cell->exit.how = EXIT_LOST;
    buffer_init(&cell->unsent, UNSENT_CAP);
    for (int i = 0; i < CELL_FD_COUNT; i++) {
        cell->streams[i].fd = cell->far[i] = -1;
    }
    cell->next = place->cells;
    place->cells = cell;
    uv_timer_init(place->base.loop, &cell->timer);
    cell->timer.data = cell;
    cell->open_handles = 1;
    for (int i = 0; i < CELL_FD_COUNT; i++) {
        if (make_pair(cell, (enum cell_fd)i) < 0) {
            cell_close(cell);
            return NULL;
        }
    }
    start_watching(cell);
    return cell;
}

/* ---- orders and closing ---- */

void cell_order(struct live_cell *cell, enum cell_order_type type)
{
    struct cell_order order = {.type = type};
    int fd = cell->streams[CELL_FD_STATUS].fd;
    if (fd >= 0 && send(fd, &order, sizeof(order), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
        type == CELL_ORDER_KILL) {
        cell_end_stream(&cell->streams[CELL_FD_STATUS]); /* the end of file says it as well */
        cell->exit.how = EXIT_SIGNAL;
        cell->exit.signal = SIGKILL;
        gone(cell);
    }
}

int cell_signal(struct live_cell *cell, int number)
{
    struct cell_order order = {.type = CELL_ORDER_SIGNAL, .number = (uint32_t)number};
    int fd = cell->streams[CELL_FD_STATUS].fd;

    return fd >= 0 && send(fd, &order, sizeof(order), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ? 0
                                                                                        : -ESRCH;
}

static void on_busy(uv_timer_t *timer)
{
    struct live_cell *cell = timer->data;
    cell->watched = CELL_WATCH_CLOSE;
    cell_order(cell, CELL_ORDER_BUSY);
}

/* Most runs are over long before the watcher would look: they cost it nothing. */
void cell_busy(struct live_cell *cell, bool busy)
{
    if (busy && cell->watched == CELL_WATCH_SELDOM) {
        cell->watched = CELL_WATCH_SOON;
        uv_timer_start(&cell->timer, on_busy, BUSY_AFTER_MS, 0);
    } else if (!busy && cell->watched == CELL_WATCH_SOON) {
        cell->watched = CELL_WATCH_SELDOM;
        uv_timer_stop(&cell->timer);
    } else if (!busy && cell->watched == CELL_WATCH_CLOSE) {
        cell->watched = CELL_WATCH_SELDOM;
        cell_order(cell, CELL_ORDER_IDLE);
    }
}

static void on_kill_limit(uv_timer_t *timer)
{
    struct live_cell *cell = timer->data;
    if (cell->child_used) {
        child_kill(&cell->child);
    }
    cell->exit.how = EXIT_SIGNAL;
    cell->exit.signal = SIGKILL;
    gone(cell);
}

void cell_kill(struct live_cell *cell)
{
    cell->watched = CELL_WATCH_CLOSE; /* the timer is not the watcher's any more */
    uv_timer_start(&cell->timer, on_kill_limit, KILL_LIMIT_MS, 0);
    cell_order(cell, CELL_ORDER_KILL);
}

void cell_close(struct live_cell *cell)
{
    if (cell->closing) {
        return;
    }
    bool ready = cell->state == CELL_STATE_READY;
    cell->closing = true;
    cell->owner = NULL;
    /* The init ends the cell at the end of its status socket. A bubblewrap of its own is ended as a
     * whole; a bare init must not be killed, since it is the one that knows what to end. */
    cell_order(cell, CELL_ORDER_KILL);
    if (cell->child_used && !(cell->folder && ready)) {
        child_kill(&cell->child);
    }
    cell_close_far(cell);
    for (int i = 0; i < CELL_FD_COUNT; i++) {
        cell_end_stream(&cell->streams[i]);
    }
    uv_close((uv_handle_t *)&cell->timer, handle_closed);
}
