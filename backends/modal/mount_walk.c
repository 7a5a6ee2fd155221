#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/base/net/source.h"
#include "backends/modal/mount_internal.h"

struct walk {
    const struct share *share;
    struct mount_list *list;
    char path[MOUNT_PATH_CAP]; /* where it is, below the source */
    size_t size;
    size_t room; /* for a path, with what dest takes of it */
    struct {
        dev_t dev;
        ino_t ino;
    } above[MOUNT_DEPTH_CAP];
    unsigned depth;
};

/* ---- opening ---- */

int mount_open_below(int root, const char *path, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long fd = -1;

    /* Somebody renamed something on the way: the kernel could not be sure, and is asked again. */
    for (int i = 0; i < 16; i++) {
        fd = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));
        if (fd >= 0 || errno != EAGAIN) {
            break;
        }
    }
    return fd < 0 ? -errno : (int)fd;
}

void mount_facts_of(const struct stat *st, struct mount_facts *ret)
{
    *ret = (struct mount_facts){
        .dev = st->st_dev,
        .ino = st->st_ino,
        .size = (uint64_t)st->st_size,
        .mtime = st->st_mtim,
        .ctime = st->st_ctim,
    };
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool mount_facts_equal(const struct mount_facts *a, const struct mount_facts *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           same_time(&a->mtime, &b->mtime) && same_time(&a->ctime, &b->ctime);
}

/* ---- refusals ---- */

static int fail_code(const struct walk *w, int code, const char *what, struct error *err)
{
    return error_set_code(err, code == -EACCES || code == -EPERM ? ERROR_REFUSED : ERROR_INVALID,
                          code, "mounting %s: %s %s", w->share->source, what,
                          *w->path ? w->path : "it");
}

static int fail_link(const struct walk *w, int code, struct error *err)
{
    return error_set(err, ERROR_INVALID,
                     "mounting %s: the link %s leads %s. A mount on Modal is uploaded, and made of "
                     "files: leave that link out, or use type \"copy\", which keeps links as links",
                     w->share->source, w->path,
                     code == -EXDEV    ? "out of what is shared"
                     : code == -ENOENT ? "nowhere"
                                       : "in a circle, or to what cannot be opened");
}

static int fail_limit(const struct walk *w, struct error *err)
{
    return error_set(err, ERROR_LIMIT,
                     "mounting %s: it holds more than %d files, %d MiB of names or %llu GiB, the "
                     "most that a mount on Modal is uploaded with; share a smaller folder, or keep "
                     "the data in a volume",
                     w->share->source, MOUNT_FILES_CAP, MOUNT_NAMES_CAP >> 20,
                     (unsigned long long)(MOUNT_BYTES_CAP >> 30));
}

/* ---- one entry ---- */

static struct mount_file *add_file(struct mount_list *list)
{
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 64;
        struct mount_file *files = reallocarray(list->files, room, sizeof(*files));

        if (!files) {
            return NULL;
        }
        list->files = files;
        list->room = room;
    }
    return &list->files[list->count];
}

static int take_file(struct walk *w, const struct stat *st, struct error *err)
{
    struct mount_list *list = w->list;
    struct mount_file *file;

    if (list->count == MOUNT_FILES_CAP || (uint64_t)st->st_size > MOUNT_BYTES_CAP - list->bytes) {
        return fail_limit(w, err);
    }
    file = add_file(list);
    if (!file) {
        return error_set(err, ERROR_INTERNAL, "mounting %s: out of memory", w->share->source);
    }
    *file = (struct mount_file){
        .path = strdup(w->path), .mode = (uint32_t)st->st_mode & 0777, .earlier = SIZE_MAX};
    if (!file->path) {
        return error_set(err, ERROR_INTERNAL, "mounting %s: out of memory", w->share->source);
    }
    mount_facts_of(st, &file->facts);
    list->bytes += file->facts.size;
    list->count++;
    return 0;
}

static int take_folder(struct walk *w, int fd_owned, const struct stat *st, struct error *err);

/* What the descriptor (O_PATH) is of. */
static int take(struct walk *w, int fd_owned, struct error *err)
{
    struct stat st;
    int r;

    if (fstat(fd_owned, &st) < 0) {
        r = fail_code(w, -errno, "reading", err);
    } else if (S_ISDIR(st.st_mode)) {
        return take_folder(w, fd_owned, &st, err);
    } else if (S_ISREG(st.st_mode)) {
        r = take_file(w, &st, err);
    } else {
        r = error_set(err, ERROR_INVALID,
                      "mounting %s: %s is neither a file, a folder nor a link; only these can be "
                      "shared",
                      w->share->source, w->path);
    }
    (void)close(fd_owned);
    return r;
}

static bool is_utf8(const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        unsigned more = *p < 0x80 ? 0 : *p < 0xc2 ? 9 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : 3;

        if (more == 9 || *p > 0xf4 || (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
            (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f)) {
            return false;
        }
        for (p++; more > 0; more--, p++) {
            if ((*p & 0xc0) != 0x80) {
                return false;
            }
        }
    }
    return true;
}

/* Steps down to `name`. -1: that is no path that can be uploaded. */
static int step(struct walk *w, const char *name, struct error *err)
{
    size_t n = strlen(name), slash = w->size > 0;

    if (!is_utf8(name)) {
        return error_set(err, ERROR_INVALID,
                         "mounting %s: in %s is a name that is not UTF-8, which Modal does not "
                         "take; rename it, or use type \"copy\"",
                         w->share->source, w->size > 0 ? w->path : "it");
    }
    if (w->size + slash + n >= w->room) {
        return error_set(err, ERROR_LIMIT, "mounting %s: a path in it is longer than %d bytes",
                         w->share->source, MOUNT_PATH_CAP);
    }
    if (slash) {
        w->path[w->size++] = '/';
    }
    memcpy(w->path + w->size, name, n + 1);
    w->size += n;
    return 0;
}

static int take_name(struct walk *w, const char *name, struct error *err)
{
    size_t before = w->size;
    struct stat st;
    int r, fd;

    if (step(w, name, err) < 0) {
        return -1;
    }
    fd = mount_open_below(w->share->fd, w->path, O_PATH);
    if (fd >= 0) {
        r = take(w, fd, err);
    } else {
        int link = mount_open_below(w->share->fd, w->path, O_PATH | O_NOFOLLOW);

        r = link >= 0 && fstat(link, &st) == 0 && S_ISLNK(st.st_mode)
                ? fail_link(w, fd, err)
                : fail_code(w, fd, "opening", err);
        if (link >= 0) {
            (void)close(link);
        }
    }
    w->path[w->size = before] = '\0';
    return r;
}

/* ---- a folder ---- */

static int take_names(struct walk *w, DIR *names, struct error *err)
{
    bool empty = true;
    int r = 0;

    errno = 0;
    for (const struct dirent *entry; r == 0 && (entry = readdir(names)); errno = 0) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            empty = false;
            r = take_name(w, entry->d_name, err);
        }
    }
    if (r == 0 && errno != 0) {
        r = fail_code(w, -errno, "reading the folder", err);
    }
    w->list->empty_folders += empty;
    return r;
}

/* A link to a folder is walked as that folder: one that holds itself has no end. */
static int enter(struct walk *w, const struct stat *st, struct error *err)
{
    for (unsigned i = 0; i < w->depth; i++) {
        if (w->above[i].dev == st->st_dev && w->above[i].ino == st->st_ino) {
            return fail_link(w, -ELOOP, err);
        }
    }
    if (w->depth == MOUNT_DEPTH_CAP) {
        return error_set(err, ERROR_LIMIT, "mounting %s: folders are nested deeper than %d",
                         w->share->source, MOUNT_DEPTH_CAP);
    }
    w->above[w->depth].dev = st->st_dev;
    w->above[w->depth++].ino = st->st_ino;
    return 0;
}

static int take_folder(struct walk *w, int fd_owned, const struct stat *st, struct error *err)
{
    DIR *names;
    int fd, r;

    if (enter(w, st, err) < 0) {
        (void)close(fd_owned);
        return -1;
    }
    fd = openat(fd_owned, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)close(fd_owned);
    names = fd < 0 ? NULL : fdopendir(fd);
    if (!names) {
        r = fail_code(w, -errno, "opening the folder", err);
        if (fd >= 0) {
            (void)close(fd);
        }
    } else {
        r = take_names(w, names, err);
        (void)closedir(names);
    }
    w->depth--;
    return r;
}

/* ---- all of it ---- */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct mount_file *)a)->path, ((const struct mount_file *)b)->path);
}

static void recall(struct mount_list *list, const struct mount_list *earlier)
{
    for (size_t i = 0; i < list->count; i++) {
        struct mount_file *file = &list->files[i];
        const struct mount_file *was =
            bsearch(file, earlier->files, earlier->count, sizeof(*file), by_path);

        if (was && was->hashed && was->settled && mount_facts_equal(&file->facts, &was->facts)) {
            memcpy(file->sha256, was->sha256, sizeof(file->sha256));
            memcpy(file->md5, was->md5, sizeof(file->md5));
            file->hashed = file->settled = true;
            file->earlier = (size_t)(was - earlier->files);
        }
    }
}

static int walk(struct walk *w, struct error *err)
{
    struct source_rights before;
    struct stat st;
    int fd, r = -1;

    source_lay_down(&before);
    fd = source_open(w->share, err); /* the permission to read it, too */
    if (fd >= 0 && fstat(fd, &st) == 0) {
        w->list->dev = st.st_dev;
        w->list->ino = st.st_ino;
        r = take(w, fd, err);
    } else if (fd >= 0) {
        r = fail_code(w, -errno, "reading", err);
        (void)close(fd);
    }
    source_take_up(&before);
    return r;
}

int mount_list_walk(struct mount_list *list, const struct share *share,
                    const struct mount_list *earlier, struct error *err)
{
    struct walk *w = calloc(1, sizeof(*w));
    int r;

    if (!w) {
        return error_set(err, ERROR_INTERNAL, "mounting %s: out of memory", share->source);
    }
    w->share = share;
    w->list = list;
    w->room = sizeof(w->path) - strlen(share->dest) - 1;
    r = strlen(share->dest) + 1 >= sizeof(w->path) ? fail_limit(w, err) : walk(w, err);
    free(w);
    if (r == 0 && list->count == 0) {
        r = error_set(err, ERROR_INVALID,
                      "mounting %s: it holds no file, and a mount on Modal is made of files: use "
                      "type \"copy\"",
                      share->source);
    }
    if (r == 0) {
        qsort(list->files, list->count, sizeof(*list->files), by_path);
        if (earlier) {
            recall(list, earlier);
        }
    }
    return r;
}
