#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/local/cell_parts.h"

/* Asking for a cell: of the zygote, or by starting zygote.py for this one alone. */

static void on_start_limit(uv_timer_t *timer)
{
    struct live_cell *cell = timer->data;
    cell->exit.kind = ERROR_TIMEOUT;
    cell_fail_start(cell, ERROR_TIMEOUT, "the sandbox was not ready within 30 s");
}

static uint32_t spec_flags(const struct live_cell *cell)
{
    const struct local_place *place = cell->place;
    bool own_network = place->base.env->network == NETWORK_NONE;
    switch (place->isolation) {
    case ISOLATION_NONE:
        return CELL_WATCH_DISK;
    case ISOLATION_LANDLOCK:
        return CELL_LANDLOCK | CELL_LANDLOCK_READ | CELL_SECCOMP | CELL_WATCH_DISK |
               (own_network ? CELL_NO_INET : 0u);
    default:
        return CELL_LANDLOCK | CELL_SECCOMP | CELL_PID1 | (cell->solo ? 0u : CELL_NAMESPACES) |
               (own_network ? 0u : CELL_HOST_NETWORK);
    }
}

struct request {
    struct cell_spec spec;
    char paths[CELL_PATHS_CAP];
};

static int fill_request(const struct live_cell *cell, const struct launch *launch,
                        struct request *request)
{
    const struct environment *env = cell->place->base.env;
    int size = launch_paths(launch, request->paths);
    if (size < 0) {
        return size;
    }
    request->spec = (struct cell_spec){
        .version = CELL_VERSION,
        .flags = spec_flags(cell),
        .memory_bytes = env->memory_mib << 20,
        .disk_bytes = env->disk_mib << 20,
        .processes = env->processes,
        .files = cell->place->cell_files,
        .paths_size = (uint32_t)size,
    };
    return 0;
}

static void child_exited(struct child *child)
{
    struct live_cell *cell = child->data;
    char why[CHILD_ERR_CAP];
    snprintf(why, sizeof(why), "the sandbox's first process ended before it was ready: %s",
             child_last_words(child));
    if (cell->state == CELL_STATE_ASKED) {
        cell->exit.kind = ERROR_UNSUPPORTED;
        cell_fail_start(cell, ERROR_UNSUPPORTED, why);
    } else {
        cell_read_status(cell);
    }
    child_close(child, cell_child_closed);
}

static int send_request(int fd, const struct request *request, size_t size, const int *far)
{
    char control[CMSG_SPACE(CELL_FD_COUNT * sizeof(int))] = {0};
    struct iovec part = {.iov_base = (void *)request, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(CELL_FD_COUNT * sizeof(int));
    memcpy(CMSG_DATA(c), far, CELL_FD_COUNT * sizeof(int));
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Starts zygote.py for this cell alone; its one request waits in the socket. */
static int ask_alone(struct live_cell *cell, struct launch *launch, struct request *request,
                     struct error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return error_set_code(err, ERROR_INTERNAL, errno, "a control socket");
    }
    launch->control_fd = pair[1];
    int r = launch_start(cell->place->base.loop, &cell->child, launch, child_exited, cell, err);
    cell->child_used = r == 0 || cell->child.open_handles > 0;
    if (r < 0 && cell->child_used) {
        cell->child.data = cell;
        child_close(&cell->child, cell_child_closed);
    }
    if (r == 0) {
        size_t size = sizeof(request->spec) + request->spec.paths_size;
        r = send_request(pair[0], request, size, cell->far);
        if (r < 0) {
            error_set_code(err, ERROR_INTERNAL, r, "asking for a sandbox");
        }
    }
    close(pair[0]);
    close(pair[1]);
    return r;
}

static int ask(struct live_cell *cell, struct share *const *mounts, unsigned mount_count,
               struct error *err)
{
    struct local_place *place = cell->place;
    bool bare = place->isolation == ISOLATION_LANDLOCK || place->isolation == ISOLATION_NONE;
    int r = bare ? launch_folder_make(&place->user, &cell->folder) : 0;
    if (r < 0) {
        return error_set_code(err, ERROR_INTERNAL, r, "a folder for the sandbox in /tmp");
    }
    struct launch launch = {
        .env = place->base.env,
        .python = place->python,
        .user = &place->user,
        .mode = cell->solo ? LAUNCH_SOLO : LAUNCH_ZYGOTE,
        .folder = cell->folder,
        .mounts = mounts,
        .mount_count = mount_count,
    };
    struct request request;
    r = fill_request(cell, &launch, &request);
    if (r < 0) {
        return error_set_code(err, ERROR_INTERNAL, r, "the sandbox's paths");
    }
    if (cell->solo) {
        return ask_alone(cell, &launch, &request, err);
    }
    size_t size = sizeof(request.spec) + request.spec.paths_size;
    r = send_request(place->zygote.control_fd, &request, size, cell->far);
    if (r == -EAGAIN) {
        return r;
    }
    return r < 0 ? error_set_code(err, ERROR_LIMIT, r, "asking the zygote for a sandbox") : 0;
}

bool cell_ask(struct live_cell *cell, struct share *const *mounts, unsigned mount_count)
{
    struct error err = {0};
    cell->state = CELL_STATE_ASKED;
    uv_timer_start(&cell->timer, on_start_limit, START_LIMIT_MS, 0);
    int r = ask(cell, mounts, mount_count, &err);
    if (r == -EAGAIN) {
        uv_timer_stop(&cell->timer);
        cell->state = CELL_STATE_WAITING;
        return false;
    }
    if (r < 0) {
        cell_fail_start(cell, err.kind, err.message);
    }
    error_clear(&err);
    cell_close_far(cell);
    return true;
}
