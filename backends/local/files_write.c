#include "backends/local/files_work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Writing files and making folders. */

enum {
    MODE_FILE = 0644,
    MODE_FOLDER = 0755,
    MODE_BITS = 0777,
};

int files_measure_room(struct work *work)
{
    const struct file_job *job = work->job;
    uint64_t used;

    if (job->disk_limit == 0) {
        return 0;
    }
    used = tree_size(job->way.root_fd, "workspace") + tree_size(job->way.root_fd, "tmp");
    work->tree.limited = true;
    work->tree.room = used < job->disk_limit ? job->disk_limit - used : 0;
    return work->request->size > work->tree.room ? -ENOSPC : 0;
}

/* The bytes, and what is there then. */
static int fill(struct work *work, int fd, int mode)
{
    struct stat st;
    int r = write_all(fd, work->request->bytes, work->request->size);

    if (r == 0 && mode >= 0 && fchmod(fd, (mode_t)mode) < 0) {
        r = -errno;
    }
    if (r == 0 && fstat(fd, &st) < 0) {
        r = -errno;
    }
    if (r == 0) {
        files_entry_set(&work->reply->entry, &st);
    }
    return r;
}

/* A file that cannot be replaced, but written: its folder belongs to others, or it is mounted. */
static int write_over(struct work *work, const struct spot *spot)
{
    int fd = files_open_regular(spot, O_WRONLY | O_TRUNC);
    int r = fd < 0 ? fd : fill(work, fd, work->request->mode);

    if (fd >= 0) {
        close(fd);
    }
    return r;
}

static int write_new(struct work *work, const struct spot *spot, const char *name, int mode)
{
    int fd = openat(spot->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int r;

    if (fd < 0) {
        return -errno;
    }
    r = fill(work, fd, mode);
    close(fd);
    if (r < 0) {
        unlinkat(spot->dir, name, 0);
    }
    return r;
}

static int write_beside(struct work *work, const struct spot *spot, int mode)
{
    char name[FILE_TEMPORARY_SIZE];
    int r = file_temporary_name(name);

    r = r == 0 ? write_new(work, spot, name, mode) : r;
    if (r == 0 && renameat(spot->dir, name, spot->dir, spot->name) < 0) {
        r = -errno;
        unlinkat(spot->dir, name, 0);
    }
    return r;
}

/* All of it at the end, or nothing: what was written is taken back, if nobody else has written. */
static int append_all(struct work *work, int fd)
{
    struct stat before, after;
    int r = fstat(fd, &before) < 0 ? -errno : fill(work, fd, work->request->mode);
    off_t most = r < 0 ? before.st_size + (off_t)work->request->size : 0;

    if (r < 0 && fstat(fd, &after) == 0 && after.st_size <= most) {
        (void)!ftruncate(fd, before.st_size);
    }
    return r;
}

static int write_append(struct work *work, const struct spot *spot)
{
    int fd = files_open_regular(spot, O_WRONLY | O_APPEND);
    int r;

    if (fd == -ENOENT) {
        int mode = work->request->mode;
        return write_new(work, spot, spot->name, mode < 0 ? MODE_FILE : mode);
    }
    r = fd < 0 ? fd : append_all(work, fd);
    if (fd >= 0) {
        close(fd);
    }
    return r;
}

/* As a shell's > has it, a file must be one that its user may write; then it is replaced. */
static int write_whole(struct work *work, const struct spot *spot)
{
    struct stat old;
    int mode = work->request->mode;
    int fd = files_open_regular(spot, O_WRONLY);
    int r;

    if (fd < 0 && fd != -ENOENT) {
        return fd;
    }
    if (fd < 0) {
        return write_beside(work, spot, mode < 0 ? MODE_FILE : mode);
    }
    r = fstat(fd, &old) < 0 ? -errno : 0;
    close(fd);
    if (r < 0) {
        return r;
    }
    r = write_beside(work, spot, mode < 0 ? (int)(old.st_mode & MODE_BITS) : mode);
    return r == -EACCES || r == -EPERM || r == -EBUSY ? write_over(work, spot) : r;
}

int files_write(struct work *work)
{
    const char *path = work->request->path;
    struct spot spot;
    int r = path[strlen(path) - 1] == '/' ? -EISDIR : files_measure_room(work);

    r = r == 0 ? files_find(work, path, WAY_FOLLOW | WAY_MAKE, &spot) : r;
    if (r < 0) {
        return r;
    }
    if (spot_is_fixed(&spot)) {
        r = -EROFS;
    } else {
        r = work->request->append ? write_append(work, &spot) : write_whole(work, &spot);
    }
    spot_close(&spot);
    return r;
}

/* Nothing but a folder may be there already. */
static int make_folder(struct work *work, const struct spot *spot)
{
    int mode = work->request->mode;
    struct file_entry *entry = &work->reply->entry;
    int r = files_entry(spot->dir, spot->name, entry);

    if (r == -ENOENT) {
        r = spot_is_fixed(spot)
                ? -EROFS
                : way_make_folder(spot->dir, spot->name, mode < 0 ? MODE_FOLDER : (unsigned)mode);
        r = r == 0 ? files_entry(spot->dir, spot->name, entry) : r;
    }
    return r == 0 && entry->type != FILE_DIRECTORY ? -EEXIST : r;
}

int files_mkdir(struct work *work)
{
    struct spot spot;
    int r = files_find(work, work->request->path, WAY_FOLLOW | WAY_SLASH | WAY_MAKE, &spot);

    if (r < 0) {
        return r;
    }
    r = make_folder(work, &spot);
    spot_close(&spot);
    return r;
}
