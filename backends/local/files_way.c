#include "backends/local/files_way.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "backends/local/cell/cell.h"

enum {
    LINKS_MAX = 40, /* as the kernel has it */
    REST_SIZE = 2 * PATH_MAX,
    MODE_FOLDER = 0755,
};

struct walk {
    const struct way *way;
    unsigned flags;
    int dir;              /* where it is */
    char canon[PATH_MAX]; /* the path of that */
    char rest[REST_SIZE]; /* what is still to be walked */
    char *at;             /* in `rest` */
    char part[NAME_MAX + 1];
    bool last;  /* no component follows `part` */
    bool slash; /* … but a slash does */
    unsigned links;
};

/* ---- steps ---- */

static int open_folder(int dir, const char *name)
{
    int fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

bool way_is_kernels(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0) {
        return true;
    }
    switch ((unsigned long)fs.f_type) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case DEBUGFS_MAGIC:
    case TRACEFS_MAGIC:
    case SECURITYFS_MAGIC:
        return true;
    default:
        return false;
    }
}

int way_reopen(int path_fd, int flags)
{
    char path[64];
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", path_fd);
    fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int way_make_folder(int dir, const char *name, unsigned mode)
{
    int fd;
    int r;

    if (mkdirat(dir, name, 0700) < 0) {
        return -errno;
    }
    /* The mode is not left to the server's umask. By descriptor: the name may be a link by now. */
    fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    r = fd < 0 || fchmod(fd, mode) < 0 ? -errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    return r;
}

static void move_to(struct walk *walk, int fd)
{
    close(walk->dir);
    walk->dir = fd;
}

/* From the root along `canon`, in which no link was. */
static int walk_anew(struct walk *walk)
{
    char part[NAME_MAX + 1];
    const char *at = walk->canon;
    int dir = open_folder(walk->way->root_fd, ".");

    while (dir >= 0 && *at) {
        size_t size = strcspn(at, "/");
        int next;
        memcpy(part, at, size);
        part[size] = '\0';
        at += size + (at[size] == '/');
        next = open_folder(dir, part);
        close(dir);
        dir = next;
    }
    if (dir < 0) {
        return dir;
    }
    move_to(walk, dir);
    return 0;
}

static void cut_last(char *canon)
{
    char *slash = strrchr(canon, '/');
    *(slash ? slash : canon) = '\0';
}

static int to_root(struct walk *walk)
{
    walk->canon[0] = '\0';
    return walk_anew(walk);
}

static int to_parent(struct walk *walk)
{
    cut_last(walk->canon);
    return walk_anew(walk);
}

/* Takes the descriptor, of the folder `part`. */
static int enter(struct walk *walk, int fd)
{
    size_t used = strlen(walk->canon);
    size_t size = strlen(walk->part);

    if (way_is_kernels(fd) || used + size + 2 > sizeof(walk->canon)) {
        close(fd);
        return used + size + 2 > sizeof(walk->canon) ? -ENAMETOOLONG : -ENOTSUP;
    }
    if (used > 0) {
        walk->canon[used++] = '/';
    }
    memcpy(walk->canon + used, walk->part, size + 1);
    move_to(walk, fd);
    return 0;
}

/* ---- paths ---- */

/* Without a root of its own the code sees its folder where the host has it; where it may write as
 * well, /workspace and /tmp, is what everybody else calls it. */
static const char *strip_folder(const struct way *way, const char *path)
{
    size_t n = way->folder ? strlen(way->folder) : 0;
    bool under = n > 0 && strncmp(path, way->folder, n) == 0 && (path[n] == '/' || !path[n]);
    return under ? path + n : NULL;
}

static int set_rest(struct walk *walk, const char *before, const char *path)
{
    char rest[REST_SIZE];
    int n = snprintf(rest, sizeof(rest), "%s%s", before, path);

    if (n < 0 || n >= PATH_MAX) {
        return -ENAMETOOLONG;
    }
    memcpy(walk->rest, rest, (size_t)n + 1);
    walk->at = walk->rest;
    return 0;
}

static int begin(struct walk *walk, const char *path)
{
    const char *inner = strip_folder(walk->way, path);

    walk->dir = open_folder(walk->way->root_fd, ".");
    if (walk->dir < 0) {
        return walk->dir;
    }
    return path[0] == '/' ? set_rest(walk, "", inner ? inner : path)
                          : set_rest(walk, "workspace/", path);
}

/* `part` is a link: its target takes its place in what is still to be walked. */
static int follow(struct walk *walk, int link_fd)
{
    char target[REST_SIZE];
    ssize_t n = readlinkat(link_fd, "", target, PATH_MAX);
    const char *to = target;

    if (n < 0) {
        return -errno;
    }
    if (++walk->links > LINKS_MAX) {
        return -ELOOP;
    }
    if (n + strlen(walk->at) + 1 >= PATH_MAX) {
        return -ENAMETOOLONG;
    }
    target[n] = '\0';
    if (to[0] == '/' && walk->way->folder) {
        to = strip_folder(walk->way, target);
        if (!to) {
            return -EXDEV; /* for the code it leads to the host's own */
        }
    }
    bool absolute = target[0] == '/';
    size_t end = (size_t)n;
    /* What follows begins with its slash, if there is any. */
    memcpy(target + end, walk->at, strlen(walk->at) + 1);
    int r = set_rest(walk, "", to);
    return r == 0 && absolute ? to_root(walk) : r;
}

/* The next component into `part`; false when there is none. */
static int next_part(struct walk *walk)
{
    size_t size;

    walk->at += strspn(walk->at, "/");
    size = strcspn(walk->at, "/");
    if (size == 0) {
        return 0;
    }
    if (size > NAME_MAX) {
        return -ENAMETOOLONG;
    }
    memcpy(walk->part, walk->at, size);
    walk->part[size] = '\0';
    walk->at += size;
    walk->slash = *walk->at == '/';
    walk->last = walk->at[strspn(walk->at, "/")] == '\0';
    return 1;
}

static bool in_reach(const struct walk *walk)
{
    return !walk->way->folder || walk->canon[0] || strcmp(walk->part, "workspace") == 0 ||
           strcmp(walk->part, "tmp") == 0;
}

/* ---- walking ---- */

static bool is_or_under(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (path[n] == '/' || !path[n]);
}

/* Where no share can be either (share.c). The walls hold the code back there whatever the
 * permissions say, and what is done for it is not let through. */
static bool is_fixed(const char *folder)
{
    static const char *const system[] = {
        CELL_SPARE_FOLDER, "bin", "dev", "etc", "proc", "run", "sbin", "sys", "usr"};

    if (!*folder || strncmp(folder, "lib", 3) == 0) {
        return true;
    }
    for (size_t i = 0; i < sizeof(system) / sizeof(system[0]); i++) {
        if (is_or_under(folder, system[i])) {
            return !is_or_under(folder, "dev/shm");
        }
    }
    return false;
}

enum step { STEP_ON, STEP_THERE };

static int step_missing(struct walk *walk)
{
    int fd;
    int r;

    if (walk->last && (!walk->slash || walk->flags & WAY_SLASH)) {
        return STEP_THERE;
    }
    if (!(walk->flags & WAY_MAKE)) {
        return -ENOENT;
    }
    if (is_fixed(walk->canon)) {
        return -EROFS;
    }
    r = way_make_folder(walk->dir, walk->part, MODE_FOLDER);
    if (r < 0 && r != -EEXIST) {
        return r;
    }
    fd = open_folder(walk->dir, walk->part);
    return fd < 0 ? fd : enter(walk, fd);
}

static int step_into(struct walk *walk)
{
    struct stat st;
    int fd = openat(walk->dir, walk->part, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int r;

    if (fd < 0) {
        return errno == ENOENT ? step_missing(walk) : -errno;
    }
    r = fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && S_ISDIR(st.st_mode) && !(walk->last && !walk->slash)) {
        return enter(walk, fd);
    }
    if (r == 0 && S_ISLNK(st.st_mode)) {
        r = follow(walk, fd);
    } else if (r == 0) {
        r = walk->last && !walk->slash ? STEP_THERE : -ENOTDIR;
    }
    close(fd);
    return r;
}

static int step(struct walk *walk)
{
    if (strcmp(walk->part, ".") == 0) {
        return STEP_ON;
    }
    if (strcmp(walk->part, "..") == 0) {
        return to_parent(walk);
    }
    if (!in_reach(walk)) {
        return -EXDEV;
    }
    if (walk->last && !walk->slash && !(walk->flags & WAY_FOLLOW)) {
        return STEP_THERE;
    }
    return step_into(walk);
}

/* The folder where the walk ended, as something in its own folder. */
static int spot_here(struct walk *walk)
{
    const char *slash = strrchr(walk->canon, '/');
    const char *name = slash ? slash + 1 : walk->canon;

    name = *name ? name : ".";
    memcpy(walk->part, name, strlen(name) + 1); /* it was a part before */
    if (!walk->canon[0]) {
        return walk->way->folder ? -EXDEV : 0;
    }
    return to_parent(walk);
}

static int walk_all(struct walk *walk, const char *path, bool *ret_folder)
{
    int r = begin(walk, path);

    while (r == 0) {
        r = next_part(walk);
        if (r == 0) {
            *ret_folder = true;
            return spot_here(walk);
        }
        r = r < 0 ? r : step(walk);
    }
    *ret_folder = false;
    return r == STEP_THERE ? 0 : r;
}

int way_find(const struct way *way, const char *path, unsigned flags, struct spot *ret)
{
    struct walk walk = {.way = way, .flags = flags, .dir = -1};
    bool folder;
    int r = walk_all(&walk, path, &folder);

    if (r < 0) {
        if (walk.dir >= 0) {
            close(walk.dir);
        }
        return r;
    }
    ret->dir = walk.dir;
    ret->folder = folder;
    memcpy(ret->name, walk.part, strlen(walk.part) + 1);
    memcpy(ret->parent, walk.canon, strlen(walk.canon) + 1);
    return 0;
}

void spot_close(struct spot *spot)
{
    if (spot->dir >= 0) {
        close(spot->dir);
        spot->dir = -1;
    }
}

bool spot_is_fixed(const struct spot *spot)
{
    return is_fixed(spot->parent);
}

int spot_open(const struct spot *spot, struct stat *ret_stat)
{
    int fd = openat(spot->dir, spot->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, ret_stat) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}
