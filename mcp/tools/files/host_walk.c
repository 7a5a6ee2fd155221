#include "mcp/tools/files/host_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_FLAGS = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC };

static int push(struct host_walk *w, int fd)
{
    DIR *dir = fdopendir(fd);
    int code = errno;

    if (!dir) {
        close(fd);
        return -code;
    }
    w->ends[w->depth] = strlen(w->path);
    w->dirs[w->depth++] = dir;
    return 0;
}

int host_walk_init(struct host_walk *w, int fd)
{
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    w->depth = 0;
    w->left_out = 0;
    w->path[0] = '\0';
    return own < 0 ? -errno : push(w, own);
}

void host_walk_deinit(struct host_walk *w)
{
    while (w->depth > 0) {
        closedir(w->dirs[--w->depth]);
    }
}

/* The next name in the innermost folder, put at the end of the path; false at its end. */
static int next_name(struct host_walk *w, bool *ret_found)
{
    size_t end = w->ends[w->depth - 1];
    const struct dirent *entry;

    do {
        errno = 0;
        entry = readdir(w->dirs[w->depth - 1]);
    } while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    *ret_found = entry != NULL;
    if (!entry) {
        return -errno;
    }
    if (end + strlen(entry->d_name) + 2 > sizeof(w->path)) {
        return -ENAMETOOLONG;
    }
    snprintf(w->path + end, sizeof(w->path) - end, "%s%s", end > 0 ? "/" : "", entry->d_name);
    return 0;
}

static int open_entry(struct host_walk *w, const char *name, struct stat *st)
{
    int folder = dirfd(w->dirs[w->depth - 1]);
    int fd = openat(folder, name, OPEN_FLAGS), code;

    if (fd < 0) {
        return errno == ELOOP || errno == ENXIO ? -ELOOP : -errno; /* a link, a socket */
    }
    if (fstat(fd, st) < 0) {
        code = errno;
        close(fd);
        return -code;
    }
    return fd;
}

/* 1: *ret is an entry; 0: it is left out; a negative errno. */
static int take(struct host_walk *w, struct host_entry *ret)
{
    size_t end = w->ends[w->depth - 1];
    struct stat st = {0};
    int fd = open_entry(w, w->path + (end > 0 ? end + 1 : 0), &st);

    if (fd < 0) {
        return fd == -ELOOP ? 0 : fd;
    }
    *ret = (struct host_entry){.path = w->path, .is_directory = S_ISDIR(st.st_mode), .fd = -1};
    if (ret->is_directory) {
        if (w->depth == HOST_WALK_DEPTH) {
            close(fd);
            return -ENAMETOOLONG;
        }
        fd = push(w, fd);
        return fd < 0 ? fd : 1;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return 0;
    }
    ret->executable = (st.st_mode & 0111) != 0;
    ret->fd = fd;
    return 1;
}

int host_walk_next(struct host_walk *w, struct host_entry *ret, struct error *err)
{
    while (w->depth > 0) {
        bool found;
        int r = next_name(w, &found);

        if (r == 0 && !found) {
            closedir(w->dirs[--w->depth]);
            continue;
        }
        if (r == 0) {
            r = take(w, ret);
        }
        if (r < 0) {
            return error_set_code(err, ERROR_REFUSED, r, "%s in source cannot be read", w->path);
        }
        if (r > 0) {
            return 1;
        }
        w->left_out++;
    }
    return 0;
}

int host_reopen_file(int fd, const char *name, bool *ret_executable, uint64_t *ret_size,
                     struct error *err)
{
    char link[32];
    struct stat st;
    int own;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    own = open(link, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (own < 0) {
        return error_set_code(err, ERROR_REFUSED, errno, "source %s cannot be read", name);
    }
    if (fstat(own, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(own);
        return error_set(err, ERROR_INVALID, "source %s is not a regular file", name);
    }
    *ret_executable = (st.st_mode & 0111) != 0;
    *ret_size = (uint64_t)st.st_size;
    return own;
}
