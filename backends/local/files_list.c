#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/strings.h"
#include "backends/local/files_work.h"

/*
 * A folder's entries. However many there are, no more than about twice what was asked for is kept
 * at a time: when that is reached, they are sorted and the later ones are let go, and from then on
 * what comes after the last one is not even looked at.
 */
enum {
    SLACK = 1024,      /* entries beyond the limit before they are sorted */
    SEEN_CAP = 400000, /* entries of a tree that are looked at at all */
    START_ROOM = 64,
    BYTES_CAP = 2 * FILE_NAMES_CAP, /* of names and targets before they are sorted */
};

struct list {
    const struct file_job *job;
    struct file_entry *entries;
    size_t count, room, bytes;
    size_t seen;
    bool more;
    char *last; /* the last one that was kept when others were let go; NULL */
};

static void entry_clear(struct file_entry *entry)
{
    free(entry->name);
    free(entry->target);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct file_entry *)a)->name, ((const struct file_entry *)b)->name);
}

static size_t bytes_of(const struct file_entry *entry)
{
    return strlen(entry->name) + (entry->target ? strlen(entry->target) : 0);
}

/* Sorts, and keeps what fits into the caps. */
static void trim(struct list *list)
{
    size_t keep = 0;
    size_t bytes = 0;

    if (list->count > 0) {
        qsort(list->entries, list->count, sizeof(*list->entries), by_name);
    }
    while (keep < list->count && keep < list->job->request->limit &&
           bytes + bytes_of(&list->entries[keep]) <= FILE_NAMES_CAP) {
        bytes += bytes_of(&list->entries[keep++]);
    }
    if (keep == list->count) {
        return;
    }
    list->more = true;
    for (size_t i = keep; i < list->count; i++) {
        entry_clear(&list->entries[i]);
    }
    list->count = keep;
    list->bytes = bytes;
    free(list->last);
    list->last = strdup(keep > 0 ? list->entries[keep - 1].name : "");
}

/* Takes the entry's texts. */
static int append(struct list *list, const struct file_entry *entry)
{
    if (list->count == list->room) {
        size_t room = list->room > 0 ? 2 * list->room : START_ROOM;
        struct file_entry *longer = reallocarray(list->entries, room, sizeof(*longer));
        if (!longer) {
            return -ENOMEM;
        }
        list->entries = longer;
        list->room = room;
    }
    list->entries[list->count++] = *entry;
    list->bytes += bytes_of(entry);
    if (list->count >= 2 * list->job->request->limit + SLACK || list->bytes > BYTES_CAP) {
        trim(list);
    }
    return 0;
}

static char *join(const char *folder, const char *name)
{
    return *folder ? string_format("%s/%s", folder, name) : strdup(name);
}

/* What would be let go again is not looked at. */
static bool is_late(const struct list *list, const char *name)
{
    return list->last && strcmp(name, list->last) > 0;
}

static int add(struct list *list, int dir, const char *folder, const char *name, bool *ret_folder)
{
    struct file_entry entry = {0};
    char *path = join(folder, name);
    int r;

    *ret_folder = false;
    if (!path) {
        return -ENOMEM;
    }
    if (is_late(list, path) && !list->job->request->recursive) {
        list->more = true;
        free(path);
        return 0;
    }
    r = files_entry(dir, name, &entry);
    if (r < 0) {
        free(path);
        return r == -ENOENT ? 0 : r; /* gone meanwhile */
    }
    *ret_folder = entry.type == FILE_DIRECTORY;
    entry.name = path;
    r = append(list, &entry);
    if (r < 0) {
        entry_clear(&entry);
    }
    return r;
}

static int list_folder(struct list *list, int fd, const char *folder, int depth);

static int list_inside(struct list *list, int dir, const char *folder, const char *name, int depth)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    char *path;
    int r;

    if (fd < 0) {
        /* Gone or swapped meanwhile, or not for the code's eyes: it is listed, what is in it not.
         */
        return errno == EMFILE || errno == ENFILE ? -errno : 0;
    }
    path = join(folder, name);
    if (!path || depth == FILE_DEPTH_CAP || way_is_kernels(fd)) {
        list->more = list->more || depth == FILE_DEPTH_CAP;
        r = path ? 0 : -ENOMEM;
        close(fd);
    } else {
        r = list_folder(list, fd, path, depth + 1);
    }
    free(path);
    return r;
}

static int list_one(struct list *list, int fd, const char *folder, const char *name, int depth)
{
    bool is_folder;
    int r;

    if (list->job->stop) {
        return -ECANCELED;
    }
    r = add(list, fd, folder, name, &is_folder);
    return r == 0 && is_folder && list->job->request->recursive
               ? list_inside(list, fd, folder, name, depth)
               : r;
}

/* Takes the descriptor. */
static int list_folder(struct list *list, int fd, const char *folder, int depth)
{
    const struct dirent *entry;
    DIR *dir = fdopendir(fd);
    int r = dir ? 0 : -errno;

    if (!dir) {
        close(fd);
        return r;
    }
    while (r == 0 && (errno = 0, entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (++list->seen > SEEN_CAP) {
            list->more = true;
            break;
        }
        r = list_one(list, fd, folder, entry->d_name, depth);
    }
    r = r == 0 && !entry ? -errno : r;
    closedir(dir);
    return r;
}

int files_list(const struct file_job *job, int path_fd, struct file_reply *ret)
{
    struct list list = {.job = job};
    int fd = openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -errno : list_folder(&list, fd, "", 0);

    trim(&list);
    free(list.last);
    ret->entries = list.entries;
    ret->count = list.count;
    ret->more = list.more;
    if (r < 0) {
        file_reply_deinit(ret);
    }
    return r;
}
