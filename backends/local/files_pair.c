#include "backends/local/files_work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Removing, copying and moving. */

int files_remove(struct work *work)
{
    struct spot spot;
    int r = files_find(work, work->request->path, 0, &spot);

    if (r < 0) {
        return r;
    }
    r = spot_is_fixed(&spot) ? -EROFS : tree_remove(&work->tree, spot.dir, spot.name);
    spot_close(&spot);
    return r;
}

static void drop(int dir, const char *name)
{
    struct tree tree = {.recursive = true, .ours = true};

    (void)tree_remove(&tree, dir, name);
}

static bool is_in_the_way(int code)
{
    return code == ENOTEMPTY || code == EEXIST || code == EISDIR || code == ENOTDIR;
}

/* A tree, or something of another kind: they change places, and then it is removed. */
static int replace(int dir, const char *name, const struct spot *to)
{
    struct tree old = {.recursive = true, .ours = true};

    if (renameat2(dir, name, to->dir, to->name, RENAME_EXCHANGE) < 0) {
        return -errno;
    }
    return tree_remove(&old, dir, name);
}

static int put_in_place(struct work *work, int dir, const char *name, const struct spot *to)
{
    unsigned flags = work->request->replace ? 0 : RENAME_NOREPLACE;
    int r = renameat2(dir, name, to->dir, to->name, flags) < 0 ? -errno : 0;

    if (work->request->replace && is_in_the_way(-r)) {
        r = replace(dir, name, to);
    }
    work->at_dest = r < 0 && r != -EXDEV && r != -ENOENT && r != -EBUSY && r != -EINVAL;
    return r;
}

static int copy_beside(struct work *work, const struct spot *from, const struct spot *to)
{
    char name[FILE_TEMPORARY_SIZE];
    int r = file_temporary_name(name);

    if (r < 0) {
        return r;
    }
    r = tree_copy(&work->tree, from->dir, from->name, to->dir, name);
    r = r == 0 ? put_in_place(work, to->dir, name, to) : r;
    if (r < 0) {
        drop(to->dir, name);
    }
    return r;
}

static int copy_spots(struct work *work, const struct spot *from, const struct spot *to)
{
    int r = files_measure_room(work);

    return r == 0 ? copy_beside(work, from, to) : r;
}

static int move_spots(struct work *work, const struct spot *from, const struct spot *to)
{
    int r;

    if (spot_is_fixed(from)) {
        return -EROFS;
    }
    r = put_in_place(work, from->dir, from->name, to);
    if (r != -EXDEV) {
        return r;
    }
    work->tree.recursive = true;
    r = copy_spots(work, from, to);
    return r == 0 ? tree_remove(&work->tree, from->dir, from->name) : r;
}

static bool is_inside(const struct spot *from, const struct spot *to)
{
    size_t n = strlen(from->parent);
    size_t m = strlen(from->name);
    const char *rest = to->parent;

    if (n > 0) {
        if (strncmp(rest, from->parent, n) != 0 || rest[n] != '/') {
            return false;
        }
        rest += n + 1;
    }
    return strcmp(from->name, ".") == 0 ||
           (strncmp(rest, from->name, m) == 0 && (rest[m] == '/' || !rest[m]));
}

static int check_dest(const struct work *work, const struct stat *from, const struct spot *to)
{
    const char *dest = work->request->dest;
    struct stat st;

    if (spot_is_fixed(to)) {
        return -EROFS;
    }
    if (!S_ISDIR(from->st_mode) && dest[strlen(dest) - 1] == '/') {
        return -ENOTDIR;
    }
    if (fstatat(to->dir, to->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (st.st_dev == from->st_dev && st.st_ino == from->st_ino) {
        return -EINVAL;
    }
    return work->request->replace ? 0 : -EEXIST;
}

static int check_ends(struct work *work, const struct spot *from, const struct spot *to)
{
    struct stat st;
    int r;

    if (fstatat(from->dir, from->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    if (S_ISDIR(st.st_mode) && is_inside(from, to)) {
        return -EINVAL;
    }
    r = check_dest(work, &st, to);
    work->at_dest = r < 0;
    return r;
}

typedef int (*pair_op)(struct work *work, const struct spot *from, const struct spot *to);

static int do_pair(struct work *work, pair_op op)
{
    struct spot from, to;
    int r = files_find(work, work->request->path, 0, &from);

    if (r < 0) {
        return r;
    }
    r = files_find(work, work->request->dest, WAY_SLASH, &to);
    if (r < 0) {
        work->at_dest = true;
        spot_close(&from);
        return r;
    }
    r = check_ends(work, &from, &to);
    r = r == 0 ? op(work, &from, &to) : r;
    r = r == 0 ? files_entry(to.dir, to.name, &work->reply->entry) : r;
    spot_close(&from);
    spot_close(&to);
    return r;
}

int files_copy(struct work *work)
{
    return do_pair(work, copy_spots);
}

int files_move(struct work *work)
{
    return do_pair(work, move_spots);
}
