#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/local/cell/cell.h"
#include "backends/local/launch.h"
#include "backends/local/system_paths.h"

enum {
    REMOVE_DEPTH = 64,
    REMOVE_MOVES = 1 << 20, /* no tree of the code's can need more; a bound all the same */
};

/* Appends entries (cell.h) until the cap. */
struct path_list {
    char *out;
    int size; /* or -ENOBUFS */
};

static void add(struct path_list *list, char kind, const char *prefix, const char *path)
{
    if (list->size < 0) {
        return;
    }
    size_t room = (size_t)(CELL_PATHS_CAP - list->size);
    int n = snprintf(list->out + list->size, room, "%c%s%s", kind, prefix, path);
    list->size = n < 0 || (size_t)n >= room ? -ENOBUFS : list->size + n + 1;
}

static void add_list(struct path_list *list, char kind, const char *const *paths)
{
    for (; *paths; paths++) {
        add(list, kind, "", *paths);
    }
}

/* With a root of its own the mounts decide what can be read; Landlock holds the writes. */
static void list_inside(struct path_list *list, const struct launch *launch)
{
    static const char *const writable[] = {
        "/workspace",  "/tmp",     "/dev/full", "/dev/null",    "/dev/ptmx", "/dev/pts",
        "/dev/random", "/dev/shm", "/dev/tty",  "/dev/urandom", "/dev/zero", NULL,
    };
    add(list, 'r', "", "/");
    add_list(list, 'w', writable);
    for (unsigned i = 0; i < launch->mount_count; i++) {
        if (!launch->mounts[i]->read_only) {
            add(list, 'w', "", launch->mounts[i]->dest);
        }
    }
    add(list, 'h', "", "/workspace");
}

/* On the host's own root Landlock is the wall for reads too. /proc, terminals and /dev/shm are left
 * out: they are shared with everything else on the machine. */
static void list_bare(struct path_list *list, const struct launch *launch)
{
    static const char *const devices[] = {"/dev/full",    "/dev/null", "/dev/random",
                                          "/dev/urandom", "/dev/zero", NULL};
    static const char *const accounts[] = {"/etc/group", "/etc/nsswitch.conf", "/etc/passwd", NULL};
    add(list, 'r', "", "/usr");
    add_list(list, 'r', system_folders);
    add_list(list, 'r', etc_entries);
    add_list(list, 'r', accounts);
    if (launch->env->network == NETWORK_ALL) {
        add_list(list, 'r', etc_network);
    }
    for (char **folder = launch->python->folders; *folder; folder++) {
        add(list, 'r', "", *folder);
    }
    add(list, 'r', launch->folder, "/run");
    add_list(list, 'w', devices);
    add(list, 'w', launch->folder, "/workspace");
    add(list, 'w', launch->folder, "/tmp");
    add(list, 'h', launch->folder, "/workspace");
}

int launch_paths(const struct launch *launch, char *out) // NOLINT(readability-non-const-parameter)
{
    struct path_list list = {.out = out};
    if (launch->folder) {
        list_bare(&list, launch);
    } else {
        list_inside(&list, launch);
    }
    return list.size;
}

static int make_inside(int dirfd, const struct sandbox_user *user, const char *name)
{
    if (mkdirat(dirfd, name, 0700) < 0) {
        return -errno;
    }
    return user->drop && fchownat(dirfd, name, user->uid, user->gid, AT_SYMLINK_NOFOLLOW) < 0
               ? -errno
               : 0;
}

int launch_folder_make(const struct sandbox_user *user, char **ret)
{
    char template[] = "/tmp/cellblock-XXXXXX";
    if (!mkdtemp(template)) {
        return -errno;
    }
    int r = user->drop && chown(template, user->uid, user->gid) < 0 ? -errno : 0;
    int fd = r == 0 ? open(template, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
    static const char *const names[] = {"workspace", "tmp", "run"};
    for (size_t i = 0; r == 0 && i < sizeof(names) / sizeof(names[0]); i++) {
        r = fd < 0 ? -errno : make_inside(fd, user, names[i]);
    }
    if (fd >= 0) {
        close(fd);
    }
    char *copy = r == 0 ? strdup(template) : NULL;
    if (!copy) {
        launch_folder_remove(template);
        return r < 0 ? r : -ENOMEM;
    }
    *ret = copy;
    return 0;
}

/* The code may have taken our own right to look into its folders away; what it owns we may change
 * back. */
static int open_to_remove(int dirfd, const char *name)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0) {
        fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd >= 0) {
        fchmod(fd, 0700);
    }
    return fd;
}

struct removal {
    int top_fd;     /* of the whole tree */
    unsigned moved; /* so many folders were too deep, and were moved to the top for another round */
};

/* Moves a folder to the top, so that no depth is too great for the descriptors that there are. */
static void move_to_top(struct removal *removal, int dirfd, const char *name)
{
    char other[32];
    snprintf(other, sizeof(other), ".deep-%u", removal->moved++);
    if (renameat(dirfd, name, removal->top_fd, other) < 0 && errno == EACCES) {
        fchmodat(dirfd, name, 0700, 0); /* its own ".." changes, which takes the right to write */
        renameat(dirfd, name, removal->top_fd, other);
    }
}

static void remove_inside(struct removal *removal, int dirfd, int depth)
{
    DIR *dir = fdopendir(dirfd);
    if (!dir) {
        close(dirfd);
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(dir))) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || unlinkat(dirfd, name, 0) == 0) {
            continue;
        }
        if (depth == 0) {
            move_to_top(removal, dirfd, name);
            continue;
        }
        int fd = open_to_remove(dirfd, name);
        if (fd >= 0) {
            remove_inside(removal, fd, depth - 1);
        }
        unlinkat(dirfd, name, AT_REMOVEDIR);
    }
    closedir(dir);
}

void launch_folder_remove(const char *folder)
{
    unsigned before;
    struct removal removal = {
        .top_fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
    };
    do {
        before = removal.moved;
        int fd = openat(removal.top_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
            remove_inside(&removal, fd, REMOVE_DEPTH);
        }
    } while (removal.moved > before && removal.moved < REMOVE_MOVES);
    if (removal.top_fd >= 0) {
        close(removal.top_fd);
    }
    rmdir(folder);
}
