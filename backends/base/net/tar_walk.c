#include "backends/base/net/tar_walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/net/source.h"

/* ---- errors, in the words of a local copy ---- */

static int fail(const struct tar_walk *walk, struct error *err, int code, const char *what,
                const char *name)
{
    return error_set_code(err, code == -EACCES || code == -EPERM ? ERROR_REFUSED : ERROR_INVALID,
                          code, "copying %s: %s %s", walk->share->source, what, name);
}

static int fail_kind(const struct tar_walk *walk, struct error *err, const char *name)
{
    return error_set(err, ERROR_INVALID,
                     "copying %s: %s is neither a file, a folder nor a link; only these can be "
                     "copied",
                     walk->share->source, name);
}

static int fail_changed(const struct tar_walk *walk, struct error *err, const char *name)
{
    return error_set(err, ERROR_INVALID,
                     "copying %s: the file %s changed while it was read; copy it when nothing "
                     "writes it any more",
                     walk->share->source, name);
}

static int fail_limit(const struct tar_walk *walk, struct error *err)
{
    return error_set(err, ERROR_LIMIT,
                     "the sandbox's disk limit was reached while copying %s (%llu MiB were "
                     "copied): raise disk_mib in the environment, or copy less",
                     walk->share->source, (unsigned long long)(walk->bytes >> 20));
}

/* libarchive does not want to go on: we told it to stop, or its own reason. */
static int fail_archive(const struct tar_walk *walk, struct error *err, const char *name)
{
    const char *reason = walk->library.error_string(walk->archive);
    if (walk->stop) {
        return error_set(err, ERROR_LOST, "copying %s: stopped", walk->share->source);
    }
    return error_set(err, ERROR_INTERNAL, "copying %s: %s: %s", walk->share->source, name,
                     reason ? reason : "cannot be written to the archive");
}

/* ---- one entry ---- */

/* A number that no link can be longer than is read at once: st_size is 0 on some file systems. */
static int read_link(int dir, const char *name, char target[PATH_MAX])
{
    ssize_t n = readlinkat(dir, name, target, PATH_MAX - 1);
    if (n < 0) {
        return -errno;
    }
    target[n] = '\0';
    return 0;
}

/* `link` is its target, or NULL. */
static int write_head(struct tar_walk *walk, const struct stat *st, const char *name,
                      const char *link, struct error *err)
{
    struct archive_entry *entry = walk->library.entry_new();
    if (!entry) {
        return error_set(err, ERROR_INTERNAL, "copying %s: out of memory", walk->share->source);
    }
    mode_t own = S_ISDIR(st->st_mode) ? 0700 : 0600;
    walk->library.entry_copy_pathname(entry, name);
    walk->library.entry_set_filetype(entry, st->st_mode & S_IFMT);
    walk->library.entry_set_perm(entry, link ? 0777 : (st->st_mode & 0777) | own);
    walk->library.entry_set_uid(entry, walk->options.uid);
    walk->library.entry_set_gid(entry, walk->options.gid);
    walk->library.entry_set_mtime(entry, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    walk->library.entry_set_size(entry, S_ISREG(st->st_mode) ? st->st_size : 0);
    if (link) {
        walk->library.entry_copy_symlink(entry, link);
    }
    int r = walk->library.write_header(walk->archive, entry);
    walk->library.entry_free(entry);
    /* ARCHIVE_WARN: an attribute is put down in another way. */
    return r < ARCHIVE_WARN ? fail_archive(walk, err, name) : 0;
}

static int write_bytes(struct tar_walk *walk, int fd, const struct stat *st, const char *name,
                       struct error *err)
{
    for (uint64_t left = (uint64_t)st->st_size; left > 0;) {
        size_t want = left < TAR_PIECE ? (size_t)left : TAR_PIECE;
        ssize_t n = walk->stop ? 0 : read(fd, walk->space, want);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail(walk, err, -errno, "the file", name);
        }
        if (n == 0 && !walk->stop) {
            return fail_changed(walk, err, name);
        }
        if (n == 0 || walk->library.write_data(walk->archive, walk->space, (size_t)n) != n) {
            return fail_archive(walk, err, name);
        }
        left -= (uint64_t)n;
        walk->bytes += (uint64_t)n;
    }
    return 0;
}

static int write_file(struct tar_walk *walk, int fd, const struct stat *st, const char *name,
                      struct error *err)
{
    struct stat after;
    if (walk->options.limit && (uint64_t)st->st_size > walk->options.limit - walk->bytes) {
        return fail_limit(walk, err);
    }
    if (write_head(walk, st, name, NULL, err) < 0 || write_bytes(walk, fd, st, name, err) < 0) {
        return -1;
    }
    if (fstat(fd, &after) < 0 || after.st_size != st->st_size ||
        memcmp(&after.st_mtim, &st->st_mtim, sizeof(after.st_mtim)) != 0) {
        return fail_changed(walk, err, name);
    }
    return 0;
}

static int write_open(struct tar_walk *walk, int fd_owned, const char *name, int depth,
                      struct error *err);

/* A link is copied as a link: where it leads is the sandbox's matter. */
static int write_link(struct tar_walk *walk, int dir, const char *base, const struct stat *st,
                      const char *name, struct error *err)
{
    char target[PATH_MAX];
    int r = read_link(dir, base, target);
    return r < 0 ? fail(walk, err, r, "the link", name) : write_head(walk, st, name, target, err);
}

/* The entry `base` of `dir`, called `name` in the archive. */
static int write_entry(struct tar_walk *walk, int dir, const char *base, const char *name,
                       int depth, struct error *err)
{
    struct stat st;
    if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return fail(walk, err, -errno, "opening", name);
    }
    if (S_ISLNK(st.st_mode)) {
        return write_link(walk, dir, base, &st, name, err);
    }
    /* Opening a device can already do something. */
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        return fail_kind(walk, err, name);
    }
    /* O_NONBLOCK: what has become a FIFO meanwhile must not hold us. */
    int fd = openat(dir, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? fail(walk, err, -errno, "opening", name)
                  : write_open(walk, fd, name, depth, err);
}

static int write_folder(struct tar_walk *walk, DIR *list, const char *name, int depth,
                        struct error *err)
{
    int r = 0;
    errno = 0;
    for (const struct dirent *entry; r == 0 && (entry = readdir(list)); errno = 0) {
        char *path = NULL;
        if (walk->stop) {
            return fail_archive(walk, err, name);
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (asprintf(&path, "%s/%s", name, entry->d_name) < 0) {
            return error_set(err, ERROR_INTERNAL, "copying %s: out of memory", walk->share->source);
        }
        r = write_entry(walk, dirfd(list), entry->d_name, path, depth + 1, err);
        free(path);
    }
    return r == 0 && errno != 0 ? fail(walk, err, -errno, "reading the folder", name) : r;
}

static int open_folder(struct tar_walk *walk, int fd_owned, const struct stat *st, const char *name,
                       int depth, struct error *err)
{
    int r = -1;
    DIR *list = fdopendir(fd_owned);
    if (!list) {
        fail(walk, err, -errno, "opening the folder", name);
        close(fd_owned);
        return -1;
    }
    if (depth == TAR_DEPTH_CAP) {
        error_set(err, ERROR_LIMIT, "copying %s: folders are nested deeper than %d",
                  walk->share->source, TAR_DEPTH_CAP);
    } else if (write_head(walk, st, name, NULL, err) == 0) {
        r = write_folder(walk, list, name, depth, err);
    }
    closedir(list);
    return r;
}

static int write_open(struct tar_walk *walk, int fd_owned, const char *name, int depth,
                      struct error *err)
{
    struct stat st;
    int r = fstat(fd_owned, &st) < 0 ? fail(walk, err, -errno, "reading", name) : 0;
    if (r == 0 && ++walk->files > TAR_FILES_CAP) {
        r = error_set(err, ERROR_LIMIT, "copying %s: it holds more than %d files",
                      walk->share->source, TAR_FILES_CAP);
    }
    if (r == 0 && S_ISDIR(st.st_mode)) {
        return open_folder(walk, fd_owned, &st, name, depth, err);
    }
    if (r == 0 && !S_ISREG(st.st_mode)) {
        r = fail_kind(walk, err, name);
    }
    if (r == 0) {
        r = write_file(walk, fd_owned, &st, name, err);
    }
    close(fd_owned);
    return r;
}

int tar_walk(struct tar_walk *walk, struct error *err)
{
    struct source_rights before;
    source_lay_down(&before);
    int fd = source_open(walk->share, err);
    int r = fd < 0 ? -1 : write_open(walk, fd, walk->options.name, 0, err);
    source_take_up(&before);
    if (r == 0 && walk->library.write_close(walk->archive) < ARCHIVE_WARN) {
        r = fail_archive(walk, err, "the end");
    }
    walk->abandoned = r < 0;
    return r;
}

struct archive *tar_archive_new(const struct tar_library *library, archive_write_callback *write,
                                void *data)
{
    struct archive *archive = library->write_new();
    /* Names are bytes here: none is converted from one character set to another. */
    if (archive && library->write_set_format_pax(archive) == ARCHIVE_OK &&
        library->write_set_format_option(archive, "pax", "hdrcharset", "BINARY") == ARCHIVE_OK &&
        library->write_set_bytes_per_block(archive, 0) == ARCHIVE_OK &&
        library->write_set_bytes_in_last_block(archive, 1) == ARCHIVE_OK &&
        library->write_open(archive, data, NULL, write, NULL) == ARCHIVE_OK) {
        return archive;
    }
    if (archive) {
        library->write_free(archive);
    }
    return NULL;
}
