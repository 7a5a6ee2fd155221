#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/local/cell/internal.h"

/* Landlock rights that headers of Debian 12 (ABI 2) do not name yet; Documentation/userspace-api/
 * landlock.rst. */
enum {
    FS_TRUNCATE = 1u << 14,               /* ABI 3 */
    FS_IOCTL_DEV = 1u << 15,              /* ABI 5 */
    SCOPE_ABSTRACT_UNIX_SOCKET = 1u << 0, /* ABI 6 */
    SCOPE_SIGNAL = 1u << 1,               /* ABI 6 */
};

struct ruleset_attr {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

enum {
    FS_READ =
        LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
    FS_WRITE_FILE = LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
    FS_WRITE = FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
               LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
               LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
               LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER |
               LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK,
    /* What a rule on something that is not a folder may name. */
    FS_FILE_ONLY = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | FS_WRITE_FILE,
};

int cell_drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
    memset(none, 0, sizeof(none));
    /* The bounding set first: dropping from it needs a capability. Without one (a solo cell) the
     * set is of no use to anyone, since no_new_privs forbids gaining any by exec. */
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM) {
            return -errno;
        }
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) {
        return -errno;
    }
    if (syscall(SYS_capset, &header, none) < 0) {
        return -errno;
    }
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static int limit(int resource, uint64_t value)
{
    struct rlimit now;
    if (getrlimit(resource, &now) < 0) {
        return -errno;
    }
    if (now.rlim_max != RLIM_INFINITY && value > now.rlim_max) {
        value = now.rlim_max; /* the host's own limit is lower; it cannot be raised */
    }
    struct rlimit both = {.rlim_cur = value, .rlim_max = value};
    return setrlimit(resource, &both) < 0 ? -errno : 0;
}

static int set_limits(const struct cell_spec *spec)
{
    const struct {
        int resource;
        uint64_t value;
    } limits[] = {
        {RLIMIT_CORE, 0},
        {RLIMIT_DATA, spec->memory_bytes},
        /* A root of the cell's own holds the bytes by its size, and says so with ENOSPC. */
        {RLIMIT_FSIZE, spec->flags & CELL_WATCH_DISK ? spec->disk_bytes : RLIM_INFINITY},
        {RLIMIT_NPROC, spec->processes},
        {RLIMIT_NOFILE, spec->files},
        {RLIMIT_MEMLOCK, UINT64_C(64) * 1024},
    };
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        int r = limit(limits[i].resource, limits[i].value);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

struct landlock {
    int fd;
    uint64_t handled;
};

static int allow_path(void *data, char kind, const char *path)
{
    const struct landlock *ruleset = data;
    if (kind != 'r' && kind != 'w') {
        return 0;
    }
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    struct stat st;
    int r = fstat(fd, &st) < 0 ? -errno : 0;
    struct landlock_path_beneath_attr rule = {
        .allowed_access = ruleset->handled & (uint64_t)(kind == 'w' ? FS_READ | FS_WRITE : FS_READ),
        .parent_fd = fd,
    };
    if (r == 0 && !S_ISDIR(st.st_mode)) {
        rule.allowed_access &= (uint64_t)FS_FILE_ONLY;
    }
    if (r == 0 && rule.allowed_access &&
        syscall(SYS_landlock_add_rule, ruleset->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0) {
        r = -errno;
    }
    close(fd);
    return r;
}

static uint64_t handled_rights(long abi, bool reads)
{
    uint64_t handled = (uint64_t)FS_WRITE & ~(uint64_t)(FS_TRUNCATE | FS_IOCTL_DEV);
    if (abi < 2) {
        handled &= ~(uint64_t)LANDLOCK_ACCESS_FS_REFER;
    }
    if (abi >= 3) {
        handled |= FS_TRUNCATE;
    }
    if (abi >= 5) {
        handled |= FS_IOCTL_DEV;
    }
    return reads ? handled | (uint64_t)FS_READ : handled;
}

/* A kernel without Landlock: nothing to do where it is the second wall (the server's probe says so
 * in `doctor`); where it is the first one the server never gets here. */
static int restrict_files(const struct cell *cell)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    bool reads = cell->spec->flags & CELL_LANDLOCK_READ;
    if (abi < 1) {
        return reads ? -ENOSYS : 0;
    }
    struct ruleset_attr attr = {
        .handled_access_fs = handled_rights(abi, reads),
        .scoped = abi >= 6 ? SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL : 0,
    };
    size_t size = abi >= 6 ? sizeof(attr) : sizeof(attr.handled_access_fs);
    struct landlock ruleset = {.handled = attr.handled_access_fs};
    ruleset.fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset.fd < 0) {
        return -errno;
    }
    int r = cell_each_path(cell, allow_path, &ruleset);
    for (int i = 0; r == 0 && !reads && i < CELL_SPARES; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/" CELL_SPARE_FORMAT, i);
        r = allow_path(&ruleset, 'w', path);
    }
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset.fd, 0) < 0) {
        r = -errno;
    }
    close(ruleset.fd);
    return r;
}

static int change_home(void *data, char kind, const char *path)
{
    (void)data;
    return kind == 'h' && chdir(path) < 0 ? -errno : 0;
}

int cell_raise_walls(struct cell *cell)
{
    unsigned flags = cell->spec->flags;
    cell->step = "the working directory";
    int r = cell_each_path(cell, change_home, NULL);
    if (r < 0) {
        return r;
    }
    cell->step = "resource limits";
    r = set_limits(cell->spec);
    if (r < 0) {
        return r;
    }
    if (flags & (CELL_SECCOMP | CELL_LANDLOCK)) {
        cell->step = "capabilities";
        r = cell_drop_capabilities();
        if (r < 0) {
            return r;
        }
    }
    if (flags & CELL_LANDLOCK) {
        cell->step = "Landlock";
        r = restrict_files(cell);
        if (r < 0) {
            return r;
        }
    }
    /* Its own /proc/self belongs to it again; from here on there is nothing left to look into. */
    cell->step = "PR_SET_DUMPABLE";
    if (prctl(PR_SET_DUMPABLE, 1) < 0) {
        return -errno;
    }
    cell->step = "the system call filter";
    return flags & CELL_SECCOMP ? cell_filter_load(flags) : 0;
}
