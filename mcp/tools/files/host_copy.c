#include "mcp/tools/files/host_copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/strings.h"

enum {
    MODE_FOLDER = 0755,
    MODE_FILE = 0644,
    MODE_PROGRAM = 0755,
    MODE_WHILE_MADE = 0700,
};

/* ---- what is at the name ---- */

static int check_name(const struct host_copy *c, bool replace, struct error *err)
{
    struct stat st;

    if (fstatat(c->parent, c->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? 0 : error_set_code(err, ERROR_REFUSED, errno, "dest %s", c->path);
    }
    if (S_ISDIR(st.st_mode)) {
        return error_set(err, ERROR_INVALID,
                         "dest %s is a folder on the host, which is never replaced: give the new "
                         "file's or folder's own name",
                         c->path);
    }
    return replace
               ? 0
               : error_set(err, ERROR_INVALID,
                           "dest %s is there already: choose another name, or pass \"replace\": "
                           "true",
                           c->path);
}

int host_copy_init(struct host_copy *c, int parent_owned, const char *folder, const char *name,
                   bool replace, struct error *err)
{
    *c = (struct host_copy){
        .parent = parent_owned,
        .path = string_format("%s/%s", strcmp(folder, "/") == 0 ? "" : folder, name),
        .name = strdup(name),
        .tree = -1,
        .file = -1,
    };
    if (c->path && c->name) {
        if (check_name(c, replace, err) == 0) {
            return 0;
        }
    } else {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "download");
    }
    host_copy_deinit(c);
    return -1;
}

/* ---- removing ---- */

static void remove_entry(int folder, const char *name, unsigned depth);

static void remove_contents(int folder, unsigned depth)
{
    DIR *dir = fdopendir(folder);
    const struct dirent *entry;

    if (!dir) {
        close(folder);
        return;
    }
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            remove_entry(dirfd(dir), entry->d_name, depth + 1);
        }
    }
    closedir(dir);
}

static void remove_entry(int folder, const char *name, unsigned depth)
{
    int fd;

    if (unlinkat(folder, name, 0) == 0 || depth > HOST_DEPTH_CAP + 1) {
        return;
    }
    fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
        remove_contents(fd, depth);
        unlinkat(folder, name, AT_REMOVEDIR);
    }
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

void host_copy_deinit(struct host_copy *c)
{
    close_fd(&c->file);
    close_fd(&c->tree);
    if (c->temp[0]) {
        remove_entry(c->parent, c->temp, 0);
    }
    close_fd(&c->parent);
    free(c->path);
    free(c->name);
    *c = (struct host_copy){.parent = -1, .tree = -1, .file = -1};
}

/* ---- making ---- */

bool host_copy_is_relative(const char *rel)
{
    unsigned depth = 0;

    for (const char *part = rel;; part++) {
        size_t n = strcspn(part, "/");

        if (n == 0 || n > HOST_NAME_CAP || ++depth > HOST_DEPTH_CAP ||
            (n <= 2 && strncmp(part, "..", n) == 0)) {
            return false;
        }
        part += n;
        if (!*part) {
            return true;
        }
    }
}

static int fail(const struct host_copy *c, const char *rel, int code, struct error *err)
{
    bool room = code == ENOSPC || code == EDQUOT || code == EFBIG || code == EMFILE;
    char *shown = rel ? string_format("%s/%s", c->path, rel) : NULL;

    error_set_code(err, room ? ERROR_LIMIT : ERROR_REFUSED, code, "%s cannot be written",
                   shown ? shown : c->path);
    free(shown);
    return -1;
}

/* The folder that `rel` is in, one name after the other and never through a link; *ret_name is its
 * last part. A descriptor to be closed, or a negative errno. */
static int open_parent(const struct host_copy *c, const char *rel, const char **ret_name)
{
    int fd = openat(c->tree, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const char *slash;

    while (fd >= 0 && (slash = strchr(rel, '/'))) {
        char name[HOST_NAME_CAP + 1];
        int next;

        snprintf(name, sizeof(name), "%.*s", (int)(slash - rel), rel);
        next = openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        close(fd);
        fd = next;
        rel = slash + 1;
    }
    *ret_name = rel;
    return fd < 0 ? -errno : fd;
}

static int mkdir_below(const struct host_copy *c, const char *rel)
{
    const char *name;
    int fd = open_parent(c, rel, &name), r;

    if (fd < 0) {
        return fd;
    }
    r = mkdirat(fd, name, MODE_FOLDER) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static int create_below(const struct host_copy *c, const char *rel, int flags)
{
    const char *name;
    int folder = open_parent(c, rel, &name), fd;

    if (folder < 0) {
        return folder;
    }
    fd = openat(folder, name, flags, MODE_FILE);
    fd = fd < 0 ? -errno : fd;
    close(folder);
    return fd;
}

int host_copy_mkdir(struct host_copy *c, const char *rel, struct error *err)
{
    int r;

    if (rel) {
        r = mkdir_below(c, rel);
        return r < 0 ? fail(c, rel, r, err) : 0;
    }
    if (file_temporary_name(c->temp) < 0) {
        c->temp[0] = '\0';
        return fail(c, NULL, EIO, err);
    }
    if (mkdirat(c->parent, c->temp, MODE_WHILE_MADE) < 0) {
        r = errno;
        c->temp[0] = '\0';
        return fail(c, NULL, r, err);
    }
    c->tree = openat(c->parent, c->temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return c->tree < 0 ? fail(c, NULL, errno, err) : 0;
}

int host_copy_open(struct host_copy *c, const char *rel, bool executable, struct error *err)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, code;

    if (rel) {
        c->file = create_below(c, rel, flags);
        code = -c->file;
    } else {
        if (file_temporary_name(c->temp) < 0) {
            c->temp[0] = '\0';
            return fail(c, NULL, EIO, err);
        }
        c->file = openat(c->parent, c->temp, flags, MODE_FILE);
        code = errno;
    }
    if (c->file < 0) {
        c->file = -1;
        if (!rel) {
            c->temp[0] = '\0';
        }
        return fail(c, rel, code, err);
    }
    /* Whatever the umask is. */
    return fchmod(c->file, executable ? MODE_PROGRAM : MODE_FILE) < 0 ? fail(c, rel, errno, err)
                                                                      : 0;
}

int host_copy_write(struct host_copy *c, const void *bytes, size_t size, struct error *err)
{
    const char *at = bytes;

    while (size > 0) {
        ssize_t n = write(c->file, at, size);

        if (n < 0 && errno != EINTR) {
            return fail(c, NULL, errno, err);
        }
        if (n > 0) {
            at += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

int host_copy_close(struct host_copy *c, struct error *err)
{
    int fd = c->file;

    c->file = -1;
    return close(fd) < 0 && errno != EINTR ? fail(c, NULL, errno, err) : 0;
}

/* ---- the end ---- */

/* Not every file system can rename and replace nothing: there it is looked at just before. */
static int rename_to_nothing(struct host_copy *c, struct error *err)
{
    if (renameat2(c->parent, c->temp, c->parent, c->name, RENAME_NOREPLACE) == 0) {
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS && errno != EEXIST) {
        return fail(c, NULL, errno, err);
    }
    if (check_name(c, false, err) < 0) {
        return -1;
    }
    return renameat(c->parent, c->temp, c->parent, c->name) < 0 ? fail(c, NULL, errno, err) : 0;
}

int host_copy_commit(struct host_copy *c, bool replace, struct error *err)
{
    if (c->tree >= 0 && fchmod(c->tree, MODE_FOLDER) < 0) {
        return fail(c, NULL, errno, err);
    }
    if (!replace) {
        if (rename_to_nothing(c, err) < 0) {
            return -1;
        }
    } else if (check_name(c, true, err) < 0) {
        return -1;
    } else if (renameat(c->parent, c->temp, c->parent, c->name) < 0) {
        return fail(c, NULL, errno, err);
    }
    c->temp[0] = '\0';
    return 0;
}
