#include "backends/local/files_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/local/files_way.h"

enum {
    CHUNK = 256 * 1024,
    BLOCK = 512,
};

int write_all(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;

    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        at += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* ---- both ---- */

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int open_folder(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Takes the descriptor. */
static int open_list(int fd, DIR **ret)
{
    *ret = fdopendir(fd);
    if (!*ret) {
        int r = -errno;
        close(fd);
        return r;
    }
    return 0;
}

/* The next entry's name; NULL at the end and on failure, which *ret_code tells. */
static const char *next_name(DIR *list, int *ret_code)
{
    const struct dirent *entry;

    do {
        errno = 0;
        entry = readdir(list);
    } while (entry && is_dots(entry->d_name));
    *ret_code = entry ? 0 : -errno;
    return entry ? entry->d_name : NULL;
}

/* A failure has left its path in `what`, from below `name` on. */
static int failed_in(struct tree *tree, const char *name, int code)
{
    size_t used = strlen(tree->what);
    size_t size = strlen(name);

    if (used + size + 2 <= sizeof(tree->what)) {
        memmove(tree->what + size + (used > 0), tree->what, used + 1);
        memcpy(tree->what, name, size);
        if (used > 0) {
            tree->what[size] = '/';
        }
    }
    return code;
}

static int count(struct tree *tree)
{
    if (tree->stop && *tree->stop) {
        return -ECANCELED;
    }
    return ++tree->files > FILE_COPY_FILES_CAP ? -EMLINK : 0;
}

/* ---- removing ---- */

static bool is_mounted(int fd)
{
    struct statx st;

    return statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) == 0 &&
           (st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static int remove_entry(struct tree *tree, int dir, const char *name, int depth);

/* Takes the descriptor, of a folder. */
static int empty_folder(struct tree *tree, int fd, int depth)
{
    const char *name;
    DIR *list;
    int r;

    if (depth > FILE_DEPTH_CAP || is_mounted(fd)) {
        r = is_mounted(fd) ? -EBUSY : -EOVERFLOW;
        close(fd);
        return r;
    }
    if (tree->ours) {
        fchmod(fd, 0700);
    }
    r = open_list(fd, &list);
    while (r == 0 && (name = next_name(list, &r))) {
        char part[NAME_MAX + 1];
        memcpy(part, name, strlen(name) + 1);
        r = remove_entry(tree, fd, part, depth + 1);
        if (r < 0) {
            (void)failed_in(tree, part, r);
        }
    }
    if (list) {
        closedir(list);
    }
    return r;
}

static int remove_folder(struct tree *tree, int dir, const char *name, int depth)
{
    int fd;
    int r;

    if (!tree->recursive) {
        return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
    }
    fd = open_folder(dir, name);
    r = fd < 0 ? fd : empty_folder(tree, fd, depth);
    return r == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : r;
}

static int remove_entry(struct tree *tree, int dir, const char *name, int depth)
{
    int r = count(tree);

    if (r < 0) {
        return r;
    }
    if (unlinkat(dir, name, 0) == 0) {
        return 0;
    }
    return errno == EISDIR ? remove_folder(tree, dir, name, depth) : -errno;
}

/* Before anything is removed: is there more in it than may be, or what cannot be removed? */
static int check_folder(struct tree *tree, int dir, const char *name, int depth)
{
    int fd = open_folder(dir, name);
    const char *entry;
    struct stat st;
    DIR *list = NULL;
    int r = fd < 0 ? fd : depth > FILE_DEPTH_CAP ? -EOVERFLOW : is_mounted(fd) ? -EBUSY : 0;

    if (r < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return r;
    }
    r = open_list(fd, &list);
    while (r == 0 && (entry = next_name(list, &r))) {
        char part[NAME_MAX + 1];
        memcpy(part, entry, strlen(entry) + 1);
        r = count(tree);
        if (r == 0 && fstatat(fd, part, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
            r = check_folder(tree, fd, part, depth + 1);
        }
        if (r < 0) {
            (void)failed_in(tree, part, r);
        }
    }
    if (list) {
        closedir(list);
    }
    return r;
}

int tree_remove(struct tree *tree, int dir, const char *name)
{
    struct stat st;
    int r = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;

    tree->what[0] = '\0';
    tree->files = 0;
    if (r == 0 && tree->recursive && !tree->ours && S_ISDIR(st.st_mode)) {
        r = check_folder(tree, dir, name, 0);
        tree->files = 0;
    }
    return r == 0 ? remove_entry(tree, dir, name, 0) : r;
}

/* ---- copying ---- */

static int take_room(struct tree *tree, uint64_t bytes)
{
    if (!tree->limited) {
        return 0;
    }
    if (bytes > tree->room) {
        return -ENOSPC;
    }
    tree->room -= bytes;
    return 0;
}

static int copy_bytes(struct tree *tree, int from, int to)
{
    int r = 0;

    if (!tree->space && !(tree->space = malloc(CHUNK))) {
        return -ENOMEM;
    }
    while (r == 0) {
        ssize_t n = read(from, tree->space, CHUNK);
        if (n == 0) {
            return 0;
        }
        if (n < 0) {
            r = errno == EINTR ? 0 : -errno;
            continue;
        }
        r = tree->stop && *tree->stop ? -ECANCELED : take_room(tree, (uint64_t)n);
        r = r == 0 ? write_all(to, tree->space, (size_t)n) : r;
    }
    return r;
}

static void keep_facts(int fd, const struct stat *st)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};

    fchmod(fd, st->st_mode & 01777);
    futimens(fd, times);
}

/* `path_fd` is of a regular file. */
static int copy_file(struct tree *tree, int path_fd, const struct stat *st, int dir,
                     const char *name)
{
    int from = way_reopen(path_fd, O_RDONLY);
    int to = from < 0
                 ? -1
                 : openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int r = from < 0 ? from : to < 0 ? -errno : copy_bytes(tree, from, to);

    if (to >= 0) {
        keep_facts(to, st);
        close(to);
    }
    if (from >= 0) {
        close(from);
    }
    return r;
}

static int copy_link(int path_fd, const struct stat *st, int dir, const char *name)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    char target[PATH_MAX];
    ssize_t n = readlinkat(path_fd, "", target, sizeof(target) - 1);

    if (n < 0) {
        return -errno;
    }
    target[n] = '\0';
    if (symlinkat(target, dir, name) < 0) {
        return -errno;
    }
    utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW);
    return 0;
}

static int copy_entry(struct tree *tree, int from_dir, const char *from_name, int dir,
                      const char *name, int depth);

static int copy_entries(struct tree *tree, int from, int to, int depth)
{
    const char *name;
    DIR *list = NULL;
    int r = open_list(from, &list);

    while (r == 0 && (name = next_name(list, &r))) {
        char part[NAME_MAX + 1];
        memcpy(part, name, strlen(name) + 1);
        r = copy_entry(tree, from, part, to, part, depth + 1);
        if (r < 0) {
            (void)failed_in(tree, part, r);
        }
    }
    if (list) {
        closedir(list);
    }
    return r;
}

static int copy_folder(struct tree *tree, int path_fd, const struct stat *st, int dir,
                       const char *name, int depth)
{
    int from, to, r;

    if (!tree->recursive || depth > FILE_DEPTH_CAP) {
        return tree->recursive ? -EOVERFLOW : -EISDIR;
    }
    if (way_is_kernels(path_fd)) {
        return -ENOTSUP;
    }
    from = open_folder(path_fd, ".");
    if (from < 0) {
        return from;
    }
    to = mkdirat(dir, name, 0700) < 0 ? -errno : open_folder(dir, name);
    if (to < 0) {
        close(from);
        return to;
    }
    r = copy_entries(tree, from, to, depth);
    keep_facts(to, st);
    close(to);
    return r;
}

static int copy_entry(struct tree *tree, int from_dir, const char *from_name, int dir,
                      const char *name, int depth)
{
    struct stat st;
    int r = count(tree);
    int fd = r < 0 ? r : openat(from_dir, from_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0) {
        return r < 0 ? r : -errno;
    }
    if (fstat(fd, &st) < 0) {
        r = -errno;
    } else if (S_ISDIR(st.st_mode)) {
        r = copy_folder(tree, fd, &st, dir, name, depth);
    } else if (S_ISLNK(st.st_mode)) {
        r = copy_link(fd, &st, dir, name);
    } else {
        r = S_ISREG(st.st_mode) ? copy_file(tree, fd, &st, dir, name) : -ENXIO;
    }
    close(fd);
    return r;
}

int tree_copy(struct tree *tree, int from_dir, const char *from_name, int dir, const char *name)
{
    tree->what[0] = '\0';
    tree->files = 0;
    return copy_entry(tree, from_dir, from_name, dir, name, 0);
}

void tree_deinit(struct tree *tree)
{
    free(tree->space);
    tree->space = NULL;
}

/* ---- measuring ---- */

static uint64_t size_of(int dir, const char *name, int depth)
{
    int fd = depth > FILE_DEPTH_CAP ? -1 : open_folder(dir, name);
    uint64_t sum = 0;
    const char *entry;
    DIR *list = NULL;
    struct stat st;
    int r = fd < 0 ? fd : open_list(fd, &list);

    while (r == 0 && (entry = next_name(list, &r))) {
        if (fstatat(fd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        sum += (uint64_t)st.st_blocks * BLOCK;
        if (S_ISDIR(st.st_mode)) {
            sum += size_of(fd, entry, depth + 1);
        }
    }
    if (list) {
        closedir(list);
    }
    return sum;
}

uint64_t tree_size(int dir, const char *name)
{
    return size_of(dir, name, 0);
}
