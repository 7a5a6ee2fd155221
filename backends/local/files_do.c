#include "backends/local/files_do.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/local/files_work.h"

/* ---- entries ---- */

static enum file_type type_of(mode_t mode)
{
    if (S_ISREG(mode)) {
        return FILE_REGULAR;
    }
    if (S_ISDIR(mode)) {
        return FILE_DIRECTORY;
    }
    return S_ISLNK(mode) ? FILE_SYMLINK : FILE_OTHER;
}

void files_entry_set(struct file_entry *entry, const struct stat *st)
{
    entry->type = type_of(st->st_mode);
    entry->size =
        entry->type == FILE_REGULAR || entry->type == FILE_SYMLINK ? (uint64_t)st->st_size : 0;
    entry->mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    entry->mode = st->st_mode & 07777;
}

static int read_target(int dir, const char *name, struct file_entry *entry)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(dir, name, target, sizeof(target));

    if (n < 0) {
        return errno == EINVAL ? -ENOENT : -errno; /* no link any more: what was seen is gone */
    }
    entry->target = strndup(target, (size_t)n);
    entry->size = (uint64_t)n;
    return entry->target ? 0 : -ENOMEM;
}

int files_entry(int dir, const char *name, struct file_entry *ret)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    files_entry_set(ret, &st);
    return ret->type == FILE_SYMLINK ? read_target(dir, name, ret) : 0;
}

int files_find(const struct work *work, const char *path, unsigned flags, struct spot *ret)
{
    return way_find(&work->job->way, path, flags, ret);
}

/* ---- looking ---- */

static int do_stat(struct work *work)
{
    struct spot spot;
    int r = files_find(work, work->request->path, 0, &spot);

    if (r < 0) {
        return r;
    }
    r = files_entry(spot.dir, spot.name, &work->reply->entry);
    spot_close(&spot);
    return r;
}

static int do_list(struct work *work)
{
    struct stat st;
    struct spot spot;
    int r = files_find(work, work->request->path, WAY_FOLLOW, &spot);
    int fd = r < 0 ? r : spot_open(&spot, &st);

    if (r == 0) {
        spot_close(&spot);
    }
    if (fd < 0) {
        return fd;
    }
    if (!S_ISDIR(st.st_mode)) {
        r = -ENOTDIR;
    } else {
        r = way_is_kernels(fd) ? -ENOTSUP : files_list(work->job, fd, work->reply);
    }
    close(fd);
    return r;
}

int files_open_regular(const struct spot *spot, int flags)
{
    struct stat st;
    int path_fd = spot->folder ? -EISDIR : spot_open(spot, &st);
    int fd;

    if (path_fd < 0) {
        return path_fd;
    }
    if (S_ISREG(st.st_mode)) {
        fd = way_reopen(path_fd, flags);
    } else {
        fd = S_ISDIR(st.st_mode) ? -EISDIR : S_ISLNK(st.st_mode) ? -ELOOP : -ENXIO;
    }
    close(path_fd);
    return fd;
}

static size_t wanted(const struct file_request *request, const struct stat *st)
{
    uint64_t size = (uint64_t)st->st_size;
    uint64_t left = size > request->offset ? size - request->offset : 0;
    uint64_t most = request->length < FILE_READ_CAP ? request->length : FILE_READ_CAP;

    return (size_t)(left < most ? left : most);
}

/* What grows meanwhile is read as it was, what shrinks as far as it goes. */
static int read_part(const struct file_request *request, int fd, struct file_reply *reply)
{
    struct stat st;
    size_t size;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    size = wanted(request, &st);
    reply->bytes = malloc(size + 1);
    if (!reply->bytes) {
        return -ENOMEM;
    }
    while (reply->size < size) {
        ssize_t n = pread(fd, reply->bytes + reply->size, size - reply->size,
                          (off_t)(request->offset + reply->size));
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        reply->size += n > 0 ? (size_t)n : 0;
    }
    if (reply->size < size && fstat(fd, &st) < 0) {
        return -errno;
    }
    files_entry_set(&reply->entry, &st);
    return 0;
}

static int do_read(struct work *work)
{
    struct spot spot;
    int r = files_find(work, work->request->path, WAY_FOLLOW, &spot);
    int fd = r < 0 ? r : files_open_regular(&spot, O_RDONLY);

    if (r == 0) {
        spot_close(&spot);
    }
    if (fd < 0) {
        return fd;
    }
    r = read_part(work->request, fd, work->reply);
    close(fd);
    return r;
}

/* ---- what went wrong ---- */

struct meaning {
    int code;
    enum error_kind kind;
    const char *text;
};

static const struct meaning meanings[] = {
    {ENOENT, ERROR_NOT_FOUND,
     "there is no such file or directory in the sandbox (a relative path starts at /workspace)"},
    {ENOTDIR, ERROR_INVALID, "it, or a part of its path, is not a directory"},
    {EISDIR, ERROR_INVALID, "it is a directory, and a file is expected"},
    {EEXIST, ERROR_INVALID, "something is there already: choose another name, or remove it first"},
    {ENOTEMPTY, ERROR_INVALID, "the directory is not empty"},
    {ELOOP, ERROR_INVALID, "too many symbolic links"},
    {ENAMETOOLONG, ERROR_INVALID, "the name is too long"},
    {EINVAL, ERROR_INVALID, "it cannot be put into itself, nor onto itself"},
    {ENXIO, ERROR_INVALID,
     "it is neither a regular file, a directory nor a link (a FIFO, a device or a socket), and is "
     "not opened"},
    {EACCES, ERROR_REFUSED, "the sandbox's user has no permission"},
    {EPERM, ERROR_REFUSED, "the sandbox's user has no permission"},
    {EROFS, ERROR_REFUSED,
     "it is read-only: what can be written is below /workspace and /tmp, and in mounts with "
     "read_only false"},
    {ENOTSUP, ERROR_REFUSED,
     "it is of the kernel's own (proc, sysfs), which shows each reader something else: read it "
     "with run_code"},
    {EXDEV, ERROR_REFUSED,
     "without a mount namespace (this isolation) only /workspace and /tmp can be reached"},
    {EBUSY, ERROR_REFUSED, "something is mounted there"},
    {ETXTBSY, ERROR_REFUSED, "it is a program that is running"},
    {ENOSPC, ERROR_LIMIT,
     "no space is left in the sandbox: remove something, or raise disk_mib in the environment"},
    {EDQUOT, ERROR_LIMIT, "no space is left in the sandbox: remove something"},
    {EFBIG, ERROR_LIMIT, "a file may not become that large there"},
    {EOVERFLOW, ERROR_LIMIT, "directories are nested too deep (64 below it at most)"},
    {EMLINK, ERROR_LIMIT, "it holds too many files for one request (100000 at most)"},
    {EMFILE, ERROR_LIMIT, "no descriptors are left in the server: try again, or end a session"},
    {ENFILE, ERROR_LIMIT, "no descriptors are left in the server: try again, or end a session"},
    {ENOMEM, ERROR_LIMIT, "no memory is left in the server"},
    {ECANCELED, ERROR_LOST, "the session was closed before it was done"},
};

static const char *hint(const struct file_request *request, int code)
{
    if (code == EISDIR && request->op == FILE_COPY) {
        return "; it is copied with recursive true";
    }
    if (code == ENOTEMPTY && request->op == FILE_REMOVE) {
        return "; it is removed with recursive true";
    }
    return code == EEXIST && (request->op == FILE_COPY || request->op == FILE_MOVE) &&
                   !request->replace
               ? ", or say replace true"
               : "";
}

static int explain(const struct work *work, int code, struct error *err)
{
    const struct file_request *request = work->request;
    char *path = file_name_text(work->at_dest ? request->dest : request->path);
    char *inside = file_name_text(work->tree.what);
    const char *slash = inside && *inside ? "/" : "";
    const char *field = work->at_dest ? "dest" : "path";

    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (meanings[i].code == -code) {
            (void)error_set(err, meanings[i].kind, "%s \"%s%s%s\": %s%s", field, path ? path : "?",
                            slash, inside ? inside : "", meanings[i].text, hint(request, -code));
            free(path);
            free(inside);
            return -1;
        }
    }
    (void)error_set_code(err, ERROR_INTERNAL, code, "%s \"%s%s%s\"", field, path ? path : "?",
                         slash, inside ? inside : "");
    free(path);
    free(inside);
    return -1;
}

int files_do(const struct file_job *job, struct file_reply *ret, struct error *err)
{
    static int (*const ops[])(struct work * work) = {
        [FILE_STAT] = do_stat,      [FILE_LIST] = do_list,      [FILE_READ] = do_read,
        [FILE_WRITE] = files_write, [FILE_MKDIR] = files_mkdir, [FILE_REMOVE] = files_remove,
        [FILE_COPY] = files_copy,   [FILE_MOVE] = files_move,
    };
    struct file_reply reply = {0};
    struct work work = {
        .job = job,
        .request = job->request,
        .reply = &reply,
        .tree = {.stop = &job->stop, .recursive = job->request->recursive},
    };
    int r = ops[job->request->op](&work);

    if (r < 0) {
        (void)explain(&work, r, err);
        file_reply_deinit(&reply);
    } else {
        *ret = reply;
    }
    tree_deinit(&work.tree);
    return r < 0 ? -1 : 0;
}
