#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "backends/local/cell/internal.h"

/*
 * How much the cell has, measured from its init. Anonymous and shared memory count, pages of files
 * do not: they are the kernel's to drop, and most of them are the interpreter's, shared with
 * everybody.
 */

enum {
    PIDS_CAP = 4096,
    DISK_ENTRIES_CAP = 200000, /* past so many files the walk ends: the count itself is the news */
    DISK_DEPTH_CAP = 256,      /* a descriptor each */
    TOO_MANY_FILES = 1 << 30,  /* more than any limit: also for what cannot be counted */
};

struct pids {
    pid_t list[PIDS_CAP];
    int count;
};

static void add_pid(struct pids *pids, pid_t pid)
{
    if (pids->count < PIDS_CAP) {
        pids->list[pids->count++] = pid;
    }
}

/* As pid 1 everything in /proc is the cell's. */
static void pids_of_namespace(struct pids *pids)
{
    DIR *proc = opendir("/proc");
    const struct dirent *entry;
    while (proc && (entry = readdir(proc))) {
        if (isdigit((unsigned char)entry->d_name[0])) {
            pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
            if (pid != getpid()) {
                add_pid(pids, pid);
            }
        }
    }
    if (proc) {
        closedir(proc);
    }
}

/* proc(5), /proc/PID/task/TID/children: enough here, since what is missed now is seen next time. */
static void add_children(struct pids *pids, pid_t parent)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *file = fopen(path, "re");
    int pid;
    while (file && fscanf(file, "%d", &pid) == 1) { // NOLINT(cert-err34-c): the kernel's numbers
        add_pid(pids, pid);
    }
    if (file) {
        fclose(file);
    }
}

static void pids_of_family(struct pids *pids)
{
    add_children(pids, getpid());
    for (int i = 0; i < pids->count; i++) {
        add_children(pids, pids->list[i]);
    }
}

static void find_pids(const struct cell *cell, struct pids *pids)
{
    pids->count = 0;
    if (cell->spec->flags & CELL_PID1) {
        pids_of_namespace(pids);
    } else {
        pids_of_family(pids);
    }
}

/* Resident pages that are not a file's, from statm: counts what is shared between processes once
 * for each, so it can only be too much. */
static unsigned long long quick_memory(pid_t pid)
{
    char path[32];
    char text[128];
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0) {
        close(fd);
    }
    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    char *rest = text;
    strtoull(rest, &rest, 10);
    return strtoull(rest, NULL, 10) * (unsigned long long)sysconf(_SC_PAGESIZE);
}

/* Its fair share (PSS) of anonymous and shared memory. A process that made itself unreadable is
 * counted at its full size. */
static unsigned long long fair_memory(pid_t pid)
{
    char path[40];
    char line[128];
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) {
        return quick_memory(pid);
    }
    unsigned long long sum = 0;
    bool any = false;
    while (fgets(line, sizeof(line), file)) {
        if (strncmp(line, "Pss_Anon:", 9) == 0 || strncmp(line, "Pss_Shmem:", 10) == 0) {
            sum += strtoull(strchr(line, ':') + 1, NULL, 10) * 1024;
            any = true;
        }
    }
    fclose(file);
    return any ? sum : quick_memory(pid);
}

static unsigned long long add_up(const struct pids *pids, unsigned long long (*measure)(pid_t))
{
    unsigned long long sum = 0;
    for (int i = 0; i < pids->count; i++) {
        sum += measure(pids->list[i]);
    }
    return sum;
}

struct disk_walk {
    unsigned long long bytes;
    unsigned long long files;
};

/* Opens a folder of the cell. One whose rights the code took away, so that nobody sees what is in
 * it, gets them back. No path is used for that: the code may put something else in its place. */
static int open_folder(int dirfd, const char *name)
{
    char path[64];
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 || errno != EACCES) {
        return fd;
    }
    int found = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (found < 0) {
        return -1;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", found);
    fd = chmod(path, 0700) == 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    close(found);
    return fd;
}

static void walk(int dirfd, struct disk_walk *sum, int depth);

static void walk_folder(int dirfd, const char *name, struct disk_walk *sum, int depth)
{
    int fd = open_folder(dirfd, name);
    if (fd >= 0 && depth > 0) {
        walk(fd, sum, depth - 1);
        return;
    }
    if (fd >= 0) {
        close(fd);
    }
    /* Too deep, or closed to us: it could hold anything. One that is gone meanwhile holds nothing.
     */
    if (fd >= 0 || errno == EACCES || errno == EPERM) {
        sum->files = TOO_MANY_FILES;
    }
}

/* The cell's folder is walked without following links; nftw has no place for a context, so the walk
 * is written out. Depth is bounded by the descriptors it takes. */
static void walk(int dirfd, struct disk_walk *sum, int depth)
{
    DIR *dir = fdopendir(dirfd);
    if (!dir) {
        close(dirfd);
        return;
    }
    const struct dirent *entry;
    while (sum->files < DISK_ENTRIES_CAP && (entry = readdir(dir))) {
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        sum->files++;
        sum->bytes += (unsigned long long)st.st_blocks * 512;
        if (S_ISDIR(st.st_mode)) {
            walk_folder(dirfd, entry->d_name, sum, depth);
        }
    }
    closedir(dir);
}

static int walk_home(void *data, char kind, const char *path)
{
    if (kind == 'w' && path[0] == '/' && strncmp(path, "/dev", 4) != 0) {
        walk_folder(AT_FDCWD, path, data, DISK_DEPTH_CAP);
    }
    return 0;
}

static void measure_disk(const struct cell *cell, struct cell_usage *ret)
{
    if (cell->spec->flags & CELL_WATCH_DISK) {
        struct disk_walk sum = {0};
        cell_each_path(cell, walk_home, &sum);
        ret->disk = sum.bytes;
        ret->files = sum.files < DISK_ENTRIES_CAP ? sum.files : TOO_MANY_FILES;
        return;
    }
    /* A tmpfs of our own: its size holds the bytes; a solo cell's has no limit on the number of
     * files, each of which costs kernel memory. */
    struct statfs fs;
    if (statfs("/workspace", &fs) == 0) {
        ret->files = fs.f_files - fs.f_ffree;
    }
}

void cell_measure(const struct cell *cell, struct cell_usage *ret)
{
    struct pids pids;
    memset(ret, 0, sizeof(*ret));
    find_pids(cell, &pids);
    ret->memory = add_up(&pids, quick_memory);
    if (ret->memory > cell->spec->memory_bytes) {
        ret->memory = add_up(&pids, fair_memory);
    }
    measure_disk(cell, ret);
}

void cell_kill_all(const struct cell *cell)
{
    if (cell->spec->flags & CELL_PID1) {
        kill(-1, SIGKILL);
        return;
    }
    struct pids pids;
    find_pids(cell, &pids);
    for (int i = 0; i < pids.count; i++) {
        kill(pids.list[i], SIGKILL);
    }
}
