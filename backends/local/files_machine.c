#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/local/files_do.h"
#include "backends/local/machine.h"

/* Operations on a cell's files (files.h): each on a thread of the pool that is the sandbox's user
 * meanwhile, through the cell's root directory. The code in the cell has no part in them, so they
 * are answered whatever it does. */
struct local_file {
    uv_work_t work;
    struct local_file *next; /* of the machine */
    struct local_machine *machine;
    struct sandbox_user user;
    struct file_request request; /* its texts are owned */
    struct file_job job;
    struct file_reply reply;
    struct error err;
    file_done done;
    void *data;
};

static void unlink_file(struct local_file *file)
{
    struct local_file **at = &file->machine->files;

    while (*at != file) {
        at = &(*at)->next;
    }
    *at = file->next;
}

static void free_file(struct local_file *file)
{
    if (file->job.way.root_fd >= 0) {
        close(file->job.way.root_fd);
    }
    free((char *)file->job.way.folder);
    free((char *)file->request.path);
    free((char *)file->request.dest);
    free((void *)file->request.bytes);
    file_reply_deinit(&file->reply);
    error_clear(&file->err);
    free(file);
}

static void work(uv_work_t *req)
{
    struct local_file *file = (struct local_file *)req;

    if (file->err.kind != ERROR_NONE) {
        return;
    }
    sandbox_user_enter(&file->user);
    files_do(&file->job, &file->reply, &file->err);
    sandbox_user_leave(&file->user);
}

static void worked(uv_work_t *req, int status)
{
    struct local_file *file = (struct local_file *)req;
    struct local_machine *m = file->machine;

    (void)status;
    unlink_file(file);
    if (!m->cell) {
        (void)error_set(&file->err, ERROR_LOST,
                        "the sandbox ended while this was done to its files");
    }
    if (file->err.kind != ERROR_NONE) {
        file->done(file->data, NULL, &file->err);
    } else {
        file->done(file->data, &file->reply, NULL);
    }
    free_file(file);
    machine_release(m);
}

static void *copy_bytes(const void *bytes, size_t size)
{
    void *copy = malloc(size + 1);

    if (copy && size > 0) {
        memcpy(copy, bytes, size);
    }
    return copy;
}

static void copy_request(struct local_file *file, const struct file_request *from)
{
    struct file_request *to = &file->request;

    *to = *from;
    to->path = strdup(from->path);
    to->dest = from->dest ? strdup(from->dest) : NULL;
    to->bytes = copy_bytes(from->bytes, from->size);
    if (!to->path || (from->dest && !to->dest) || !to->bytes) {
        (void)error_set(&file->err, ERROR_LIMIT, "no memory is left in the server");
    }
}

static void prepare(struct local_file *file, const struct live_cell *cell)
{
    const struct environment *env = file->machine->base.place->env;
    struct file_job *job = &file->job;

    job->request = &file->request;
    job->way.root_fd = -1;
    if (!cell || cell->root_fd < 0) {
        (void)error_set(&file->err, ERROR_LOST, "the sandbox has ended");
        return;
    }
    job->way.root_fd = fcntl(cell->root_fd, F_DUPFD_CLOEXEC, 3);
    job->way.folder = cell->folder ? strdup(cell->folder) : NULL;
    job->disk_limit = cell->folder ? env->disk_mib << 20 : 0;
    if (job->way.root_fd < 0 || (cell->folder && !job->way.folder)) {
        (void)error_set(&file->err, ERROR_LIMIT,
                        "no descriptors or memory are left in the server: end a session");
    }
}

void local_file(struct machine *base, const struct file_request *request, file_done done,
                void *data)
{
    struct local_machine *m = (struct local_machine *)base;
    const struct local_place *place = (const struct local_place *)base->place;
    struct local_file *file = calloc(1, sizeof(*file));

    if (!file) {
        abort(); /* as in local_put: nothing can be told any more */
    }
    file->machine = m;
    file->user = place->user;
    file->done = done;
    file->data = data;
    copy_request(file, request);
    prepare(file, m->cell);
    file->next = m->files;
    m->files = file;
    machine_hold(m);
    uv_queue_work(base->place->loop, &file->work, work, worked);
}

void local_files_stop(struct local_machine *m)
{
    for (struct local_file *file = m->files; file; file = file->next) {
        file->job.stop = true;
    }
}
