#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/local/cell/internal.h"

/*
 * The cell's root is a tmpfs of its own whose size is the disk limit, with the zygote's read-only
 * folders bound into it: so everything that the code can write, wherever it is, counts against one
 * limit, and a share may have any destination.
 */

#define NEW_ROOT "/run/cellroot"

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    ssize_t n = write(fd, text, strlen(text));
    int r = n < 0 ? -errno : 0;
    close(fd);
    return r;
}

/* user_namespaces(7): a process may map its own effective ids by itself, one line each, and the
 * group only after setgroups has been given up. */
static int map_ids(uid_t uid, gid_t gid)
{
    char line[64];
    int r = write_text("/proc/self/setgroups", "deny");
    if (r < 0) {
        return r;
    }
    snprintf(line, sizeof(line), "%u %u 1\n", (unsigned)uid, (unsigned)uid);
    r = write_text("/proc/self/uid_map", line);
    if (r < 0) {
        return r;
    }
    snprintf(line, sizeof(line), "%u %u 1\n", (unsigned)gid, (unsigned)gid);
    return write_text("/proc/self/gid_map", line);
}

/* A new network namespace has a loopback that is down; servers of the code's own need it. */
static int loopback_up(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int r = ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static bool own_entry(const char *name)
{
    static const char *const own[] = {".", "..", "proc", "tmp", "workspace"};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (strcmp(name, own[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Brings one entry of the zygote's root over: a folder as a bind of it and all below (the mounts
 * there are locked together, so it must be recursive), a symlink as itself. */
static int bring_entry(const char *name)
{
    char from[288];
    char to[320];
    char target[288];
    struct stat st;
    snprintf(from, sizeof(from), "/%s", name);
    snprintf(to, sizeof(to), NEW_ROOT "/%s", name);
    if (lstat(from, &st) < 0) {
        return -errno;
    }
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlink(from, target, sizeof(target) - 1);
        if (n < 0) {
            return -errno;
        }
        target[n] = '\0';
        return symlink(target, to) < 0 ? -errno : 0;
    }
    if (!S_ISDIR(st.st_mode)) {
        return 0;
    }
    if (mkdir(to, 0755) < 0) {
        return -errno;
    }
    return mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

/* Everything in the zygote's `folder` ("" or "tmp") but what a cell has of its own. */
static int bring_folder(const char *folder)
{
    char name[280];
    snprintf(name, sizeof(name), "/%s", folder);
    DIR *dir = opendir(name);
    if (!dir) {
        return -errno;
    }
    int r = 0;
    const struct dirent *entry;
    while (r == 0 && (entry = readdir(dir))) {
        if (!own_entry(entry->d_name)) {
            snprintf(name, sizeof(name), "%s%s%s", folder, *folder ? "/" : "", entry->d_name);
            r = bring_entry(name);
        }
    }
    closedir(dir);
    return r;
}

static int mount_tmpfs(const char *path, unsigned long long bytes, unsigned long long files)
{
    char options[96];
    snprintf(options, sizeof(options), "mode=0755,size=%llu,nr_inodes=%llu", bytes, files);
    return mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0 ? -errno : 0;
}

static int own_folders(void)
{
    /* Private to the cell, so the usual sticky bit of /tmp has nobody to guard against. */
    if (mkdir(NEW_ROOT "/workspace", 0755) < 0 || mkdir(NEW_ROOT "/tmp", 0777) < 0 ||
        mkdir(NEW_ROOT "/proc", 0555) < 0) {
        return -errno;
    }
    return 0;
}

/* Terminals and shared memory of its own: those of the zygote would be shared by all cells. */
static int own_devices(void)
{
    if (mount("devpts", NEW_ROOT "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
              "newinstance,ptmxmode=0666,mode=0620") < 0) {
        return -errno;
    }
    return mount_tmpfs(NEW_ROOT "/dev/shm", CELL_SHM_BYTES, CELL_SHM_BYTES / 4096);
}

/* pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one and is let go.
 */
static int change_root(void)
{
    if (chdir(NEW_ROOT) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
        umount2(".", MNT_DETACH) < 0 || chdir("/workspace") < 0) {
        return -errno;
    }
    return 0;
}

static int build_root(struct cell *cell)
{
    const struct cell_spec *spec = cell->spec;
    cell->step = "a private mount namespace";
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        return -errno;
    }
    cell->step = "the root tmpfs";
    int r = mount_tmpfs(NEW_ROOT, spec->disk_bytes, spec->disk_bytes / 8192 + 1024);
    if (r < 0) {
        return r;
    }
    cell->step = "the read-only folders";
    r = bring_folder("");
    if (r < 0) {
        return r;
    }
    cell->step = "the cell's own folders";
    r = own_folders();
    if (r < 0) {
        return r;
    }
    cell->step = "an interpreter in /tmp"; /* the zygote's /tmp has nothing else: it is sealed */
    r = bring_folder("tmp");
    if (r < 0) {
        return r;
    }
    cell->step = "terminals and shared memory";
    r = own_devices();
    if (r < 0) {
        return r;
    }
    cell->step = "/proc";
    if (mount("proc", NEW_ROOT "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
        return -errno;
    }
    cell->step = "pivot_root";
    return change_root();
}

int cell_enter_namespaces(struct cell *cell)
{
    cell->step = "the user map";
    int r = map_ids(CELL_UID, CELL_UID);
    if (r < 0) {
        return r;
    }
    cell->step = "the host name";
    if (sethostname("cell", 4) < 0) {
        return -errno;
    }
    if (!(cell->spec->flags & CELL_HOST_NETWORK)) {
        cell->step = "the loopback interface";
        r = loopback_up();
        if (r < 0) {
            return r;
        }
    }
    return build_root(cell);
}
