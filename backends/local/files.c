#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/local/copy.h"
#include "backends/local/machine.h"

/* Files that the server itself puts into a cell, through the cell's root directory. */

enum {
    PROGRESS_MS = 500,
};

struct put {
    uv_work_t work;
    uv_timer_t timer;
    struct local_machine *machine;
    struct sandbox_user user;
    struct copy copy;
    struct share *share;
    struct error err;
    uint64_t told;  /* bytes and files, when progress was called last */
    int open_parts; /* the work and the timer */
    executor_progress progress;
    executor_done done;
    void *data;
};

static void free_put(struct put *put)
{
    if (--put->open_parts > 0) {
        return;
    }
    if (put->copy.root_fd >= 0) {
        close(put->copy.root_fd);
    }
    share_free(put->share);
    error_clear(&put->err);
    machine_release(put->machine);
    free(put);
}

static void timer_closed(uv_handle_t *handle)
{
    free_put(handle->data);
}

static void on_progress(uv_timer_t *timer)
{
    struct put *put = timer->data;
    char line[PATH_MAX + 96];
    uint64_t moved = put->copy.bytes + put->copy.files;
    if (put->machine->closing) {
        put->copy.stop = true;
        return;
    }
    if (put->progress && moved != put->told) {
        put->told = moved;
        snprintf(line, sizeof(line), "copying %s: %llu MiB in %llu files so far",
                 put->share->source, (unsigned long long)(put->copy.bytes >> 20),
                 (unsigned long long)put->copy.files);
        put->progress(put->data, line);
    }
}

static void work(uv_work_t *req)
{
    struct put *put = (struct put *)req;
    if (put->err.kind != ERROR_NONE) {
        return;
    }
    sandbox_user_enter(&put->user);
    copy_in(&put->copy, &put->err);
    sandbox_user_leave(&put->user);
}

static void worked(uv_work_t *req, int status)
{
    struct put *put = (struct put *)req;
    (void)status;
    uv_timer_stop(&put->timer);
    put->machine->put = NULL;
    if (put->done) {
        put->done(put->data, put->err.kind != ERROR_NONE ? &put->err : NULL);
    }
    uv_close((uv_handle_t *)&put->timer, timer_closed);
    free_put(put);
}

/* Without a root of its own a cell has only its two folders. */
static int check_dest(const struct local_place *place, const struct share *share, struct error *err)
{
    if (place->isolation == ISOLATION_BWRAP || strncmp(share->dest, "/workspace/", 11) == 0 ||
        strncmp(share->dest, "/tmp/", 5) == 0) {
        return 0;
    }
    return error_set(err, ERROR_UNSUPPORTED,
                     "dest %s: without a mount namespace (this isolation) only /workspace and /tmp "
                     "can be copied to",
                     share->dest);
}

/* A copy is read through its descriptor; bubblewrap has to find a mount by its way as well. */
static int open_as_user(const struct local_place *place, const struct share *share)
{
    char path[64];
    bool mount = share->type == SHARE_MOUNT;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", share->fd);
    sandbox_user_enter(&place->user);
    int fd =
        open(mount ? share->source : path, (mount ? O_PATH : O_RDONLY | O_NONBLOCK) | O_CLOEXEC);
    int r = fd < 0 ? -errno : 0;
    sandbox_user_leave(&place->user);
    if (fd >= 0) {
        close(fd);
    }
    return r;
}

int local_share_check(struct place *base, const struct share *share, struct error *err)
{
    const struct local_place *place = (const struct local_place *)base;
    if (check_dest(place, share, err) < 0) {
        return -1;
    }
    int r = open_as_user(place, share);
    if (r == -EACCES || r == -EPERM) {
        return error_set(err, ERROR_REFUSED,
                         "the sandbox's user (uid %u) may not %s %s: give it the right (chmod o+rX "
                         "of it%s), or share something else",
                         (unsigned)place->user.uid, share->type == SHARE_MOUNT ? "reach" : "read",
                         share->source,
                         share->type == SHARE_MOUNT ? " and of the folders above it" : "");
    }
    return r < 0 ? error_set_code(err, ERROR_NOT_FOUND, r, "source %s", share->source) : 0;
}

static void prepare(struct put *put, const struct live_cell *cell)
{
    put->copy.root_fd = cell && cell->root_fd >= 0 ? fcntl(cell->root_fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (!put->share) {
        error_set(&put->err, ERROR_LIMIT, "no descriptor or memory is left for the copy");
    } else if (put->copy.root_fd < 0) {
        error_set(&put->err, ERROR_LOST, "the sandbox has ended");
    } else {
        put->copy.source_fd = put->share->fd;
        put->copy.dest = put->share->dest;
        put->copy.source = put->share->source;
        put->copy.uid = put->user.uid;
        put->copy.limit = cell->folder ? cell->place->base.env->disk_mib << 20 : 0;
    }
}

void local_put(struct machine *base, const struct share *share, executor_progress progress,
               executor_done done, void *data)
{
    struct local_machine *m = (struct local_machine *)base;
    struct local_place *place = (struct local_place *)base->place;
    struct put *put = calloc(1, sizeof(*put));
    if (!put) {
        abort(); /* a few hundred bytes: nothing can be told any more */
    }
    put->machine = m;
    put->user = place->user;
    put->progress = progress;
    put->done = done;
    put->data = data;
    put->open_parts = 2;
    put->share = share_clone(share);
    prepare(put, m->cell);
    machine_hold(m);
    m->put = put;
    uv_timer_init(base->place->loop, &put->timer);
    put->timer.data = put;
    uv_timer_start(&put->timer, on_progress, PROGRESS_MS, PROGRESS_MS);
    uv_queue_work(base->place->loop, &put->work, work, worked);
}

void local_put_cancel(struct machine *base)
{
    struct local_machine *m = (struct local_machine *)base;
    if (m->put) {
        m->put->copy.stop = true;
    }
}

int local_spool_open(struct machine *base, const char *path, int *ret_fd)
{
    struct local_machine *m = (struct local_machine *)base;
    const struct local_place *place = (const struct local_place *)base->place;
    if (!m->cell || m->cell->root_fd < 0) {
        return -ENOENT;
    }
    int dir = -1;
    const char *name = NULL;
    sandbox_user_enter(&place->user);
    int r = copy_open_parent(m->cell->root_fd, path, &dir, &name);
    if (r == 0) {
        /* New and ours: nothing that the code has put there is written to. */
        int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        r = fd < 0 ? -errno : 0;
        close(dir);
        if (r == 0) {
            *ret_fd = fd;
        }
    }
    sandbox_user_leave(&place->user);
    return r;
}
