#include "backends/local/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/local/cell/cell.h"

enum {
    CHUNK = 256 * 1024,
};

static const char temporary_name[] = ".cellblock-copy-in-progress";

/* Opens the folder `name`, one component, in `dir`. Each step is taken by itself and no link is
 * followed, so the way cannot lead out of where it began; a component is never "..". */
static int open_folder(int dir, const char *name, int flags)
{
    int fd = openat(dir, name, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* A new folder at the root is a spare one (cell.h), so that the code may write in it. What the code
 * has done to the spares is its own loss: the result is opened without following anything. */
static int use_spare(int root_fd, const char *name)
{
    char spare[32];
    for (int i = 0; i < CELL_SPARES; i++) {
        snprintf(spare, sizeof(spare), CELL_SPARE_FORMAT, i);
        if (renameat2(root_fd, spare, root_fd, name, RENAME_NOREPLACE) == 0) {
            return 0;
        }
        if (errno != ENOENT) {
            return -errno;
        }
    }
    return -ENOENT;
}

/* Opens the folder `name` in `dir`, made when missing. */
static int enter_folder(int dir, const char *name, bool at_root)
{
    int fd = open_folder(dir, name, O_PATH);
    if (fd != -ENOENT || (at_root && use_spare(dir, name) == 0)) {
        return fd != -ENOENT ? fd : open_folder(dir, name, O_PATH);
    }
    if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST) {
        return -errno;
    }
    return open_folder(dir, name, O_PATH);
}

int copy_open_parent(int root_fd, const char *path, int *ret_fd, const char **ret_name)
{
    char part[NAME_MAX + 1];
    int dir = open_folder(root_fd, ".", O_PATH);
    bool at_root = true;
    path += strspn(path, "/");
    for (const char *slash = strchr(path, '/'); dir >= 0 && slash; slash = strchr(path, '/')) {
        size_t size = (size_t)(slash - path);
        int next = -ENAMETOOLONG;
        if (size < sizeof(part)) {
            memcpy(part, path, size);
            part[size] = '\0';
            next = enter_folder(dir, part, at_root);
            at_root = false;
        }
        close(dir);
        dir = next;
        path = slash + 1;
    }
    if (dir < 0) {
        return dir;
    }
    *ret_fd = dir;
    *ret_name = path;
    return 0;
}

/* ---- one entry ---- */

static int fail(const struct copy *copy, struct error *err, int code, const char *what,
                const char *name)
{
    if (code == -ENOSPC || code == -EDQUOT) {
        return error_set(err, ERROR_LIMIT,
                         "the sandbox's disk limit was reached while copying %s (%llu MiB were "
                         "copied): raise disk_mib in the environment, or copy less",
                         copy->source, (unsigned long long)(copy->bytes >> 20));
    }
    return error_set_code(err, code == -EACCES || code == -EPERM ? ERROR_REFUSED : ERROR_INVALID,
                          code, "copying %s: %s %s", copy->source, what, name);
}

static int copy_bytes(struct copy *copy, int from, int to, char *space)
{
    for (;;) {
        if (copy->stop) {
            return -ECANCELED;
        }
        ssize_t n = read(from, space, CHUNK);
        if (n == 0) {
            return 0;
        }
        for (ssize_t done = 0; n > 0 && done < n;) {
            ssize_t wrote = write(to, space + done, (size_t)(n - done));
            if (wrote < 0 && errno != EINTR) {
                return -errno;
            }
            done += wrote > 0 ? wrote : 0;
        }
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        copy->bytes += n > 0 ? (uint64_t)n : 0;
        if (copy->limit && copy->bytes > copy->limit) {
            return -ENOSPC;
        }
    }
}

static void keep_facts(int fd, const struct stat *st)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    /* The owner can always write: it is the sandbox's own copy. Set-id bits mean nothing there. */
    fchmod(fd, (st->st_mode & 0777) | 0600);
    futimens(fd, times);
}

static int copy_file(struct copy *copy, int from, const struct stat *st, int dir, const char *name)
{
    int to = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0) {
        return -errno;
    }
    char *space = malloc(CHUNK);
    int r = space ? copy_bytes(copy, from, to, space) : -ENOMEM;
    free(space);
    keep_facts(to, st);
    close(to);
    return r;
}

/* A link is copied as a link: where it leads is the sandbox's matter. */
static int copy_link(int from_dir, const char *from_name, int dir, const char *name)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from_dir, from_name, target, sizeof(target) - 1);
    if (n < 0) {
        return -errno;
    }
    target[n] = '\0';
    return symlinkat(target, dir, name) < 0 ? -errno : 0;
}

static int copy_open(struct copy *copy, int from, int dir, const char *name, int depth,
                     struct error *err);

static int copy_entry(struct copy *copy, int from_dir, const char *from_name, int dir, int depth,
                      struct error *err)
{
    struct stat st;
    int r = fstatat(from_dir, from_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    if (r == 0 && S_ISLNK(st.st_mode)) {
        r = copy_link(from_dir, from_name, dir, from_name);
        return r < 0 ? fail(copy, err, r, "the link", from_name) : 0;
    }
    /* O_NONBLOCK: what has become a FIFO meanwhile must not hold us. */
    int from =
        r < 0 ? r : openat(from_dir, from_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (from < 0) {
        return fail(copy, err, r < 0 ? r : -errno, "opening", from_name);
    }
    r = copy_open(copy, from, dir, from_name, depth, err);
    close(from);
    return r;
}

static int copy_folder(struct copy *copy, int from, const struct stat *st, int dir,
                       const char *name, int depth, struct error *err)
{
    if (depth == COPY_DEPTH_CAP) {
        return error_set(err, ERROR_LIMIT, "copying %s: folders are nested deeper than %d",
                         copy->source, COPY_DEPTH_CAP);
    }
    /* At the top it may be a spare folder that stands ready. */
    if (mkdirat(dir, name, 0700) < 0 && (depth > 0 || errno != EEXIST)) {
        return fail(copy, err, -errno, "making the folder", name);
    }
    int to = open_folder(dir, name, O_RDONLY);
    DIR *list = to < 0 ? NULL : fdopendir(fcntl(from, F_DUPFD_CLOEXEC, 3));
    int r = list ? 0 : fail(copy, err, to < 0 ? to : -errno, "opening the folder", name);
    const struct dirent *entry;
    while (r == 0 && list && (entry = readdir(list))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            r = copy_entry(copy, from, entry->d_name, to, depth + 1, err);
        }
    }
    if (list) {
        closedir(list);
    }
    if (to >= 0) {
        keep_facts(to, st);
        fchmod(to, (st->st_mode & 0777) | 0700);
        close(to);
    }
    return r;
}

/* Copies what `from` is open on to the new entry `name` of `dir`. */
static int copy_open(struct copy *copy, int from, int dir, const char *name, int depth,
                     struct error *err)
{
    struct stat st;
    if (fstat(from, &st) < 0) {
        return fail(copy, err, -errno, "reading", name);
    }
    if (++copy->files > COPY_FILES_CAP) {
        return error_set(err, ERROR_LIMIT, "copying %s: it holds more than %d files", copy->source,
                         COPY_FILES_CAP);
    }
    if (S_ISDIR(st.st_mode)) {
        return copy_folder(copy, from, &st, dir, name, depth, err);
    }
    if (!S_ISREG(st.st_mode)) {
        return error_set(err, ERROR_INVALID,
                         "copying %s: %s is neither a file, a folder nor a link; only these can be "
                         "copied",
                         copy->source, name);
    }
    int r = copy_file(copy, from, &st, dir, name);
    return r < 0 ? fail(copy, err, r, "the file", name) : 0;
}

/* ---- all of it ---- */

static void remove_tree(int dir, const char *name, int depth)
{
    if (unlinkat(dir, name, 0) == 0 || depth > COPY_DEPTH_CAP + 1) {
        return;
    }
    int fd = open_folder(dir, name, O_RDONLY);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    while (list && (entry = readdir(list))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            remove_tree(fd, entry->d_name, depth + 1);
        }
    }
    if (list) {
        closedir(list);
    }
    unlinkat(dir, name, AT_REMOVEDIR);
}

/* The descriptor is of an O_PATH kind; reading needs a new one, and so the permission to read. */
static int open_source(const struct copy *copy)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", copy->source_fd);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int copy_to(struct copy *copy, int from, int dir, const char *name, struct error *err)
{
    struct stat st;
    remove_tree(dir, temporary_name, 0);
    if (!strchr(copy->dest + 1, '/') && fstat(from, &st) == 0 && S_ISDIR(st.st_mode)) {
        use_spare(dir, temporary_name);
    }
    int r = copy_open(copy, from, dir, temporary_name, 0, err);
    if (r == 0 && renameat2(dir, temporary_name, dir, name, RENAME_NOREPLACE) < 0) {
        r = errno == EEXIST ? error_set(err, ERROR_INVALID,
                                        "dest %s exists in the sandbox already: choose another "
                                        "dest, or remove it first",
                                        copy->dest)
                            : fail(copy, err, -errno, "putting it in place as", copy->dest);
    }
    if (r < 0) {
        remove_tree(dir, temporary_name, 0);
    }
    return r;
}

int copy_in(struct copy *copy, struct error *err)
{
    int dir = -1;
    const char *name = NULL;
    int from = open_source(copy);
    if (from == -EACCES || from == -EPERM) {
        return error_set(err, ERROR_REFUSED,
                         "the sandbox's user (uid %u) may not read %s: allow it (chmod), or copy "
                         "something else",
                         copy->uid, copy->source);
    }
    if (from < 0) {
        return fail(copy, err, from, "opening", "it");
    }
    int r = copy_open_parent(copy->root_fd, copy->dest, &dir, &name);
    if (r < 0) {
        r = error_set_code(err, r == -ENOSPC ? ERROR_LIMIT : ERROR_INVALID, r,
                           "making the folder of dest %s in the sandbox", copy->dest);
    } else {
        r = copy_to(copy, from, dir, name, err);
        close(dir);
    }
    close(from);
    return r;
}
