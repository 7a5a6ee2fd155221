#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "backends/local/cell/internal.h"

/*
 * The system calls that code in a cell may make: those named here, nothing else. What is left out
 * gives ENOSYS, as a kernel without it would, so that libraries take their other way; what is
 * refused on purpose and often probed gives EPERM.
 *
 * Left out on purpose, beside everything that manages the machine (mounts, modules, keys, clocks,
 * tracing, bpf, perf, io_uring, userfaultfd): memfd_create, shmget and msgget, since what they keep
 * belongs to no process and so escapes the memory watch; process_vm_*, ptrace, kcmp and
 * pidfd_getfd, which look into others.
 */
static const char *const allowed[] = {
    /* files */
    "access",
    "chdir",
    "chmod",
    "chown",
    "close",
    "close_range",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fadvise64_64",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "fcntl",
    "fcntl64",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstat64",
    "fstatat64",
    "newfstatat",
    "fstatfs",
    "fstatfs64",
    "fsync",
    "ftruncate",
    "ftruncate64",
    "futimesat",
    "getcwd",
    "getdents",
    "getdents64",
    "getxattr",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "lchown",
    "lgetxattr",
    "link",
    "linkat",
    "listxattr",
    "llistxattr",
    "lremovexattr",
    "lseek",
    "_llseek",
    "lsetxattr",
    "lstat",
    "lstat64",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "open",
    "openat",
    "openat2",
    "pipe",
    "pipe2",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendfile",
    "sendfile64",
    "setxattr",
    "splice",
    "stat",
    "stat64",
    "statfs",
    "statfs64",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "tee",
    "truncate",
    "truncate64",
    "umask",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimensat_time64",
    "utimes",
    "vmsplice",
    "write",
    "writev",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    /* memory */
    "brk",
    "madvise",
    "membarrier",
    "mincore",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mmap2",
    "mprotect",
    "mremap",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "remap_file_pages",
    /* processes, threads, signals */
    "arch_prctl",
    "capget",
    "capset",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "fork",
    "futex",
    "futex_time64",
    "futex_waitv",
    "get_robust_list",
    "get_thread_area",
    "getcpu",
    "getegid",
    "getegid32",
    "geteuid",
    "geteuid32",
    "getgid",
    "getgid32",
    "getgroups",
    "getgroups32",
    "getitimer",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getresgid",
    "getresgid32",
    "getresuid",
    "getresuid32",
    "getrlimit",
    "getrusage",
    "getsid",
    "gettid",
    "getuid",
    "getuid32",
    "kill",
    "nanosleep",
    "pause",
    "pidfd_open",
    "pidfd_send_signal",
    "prctl",
    "restart_syscall",
    "riscv_flush_icache",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setitimer",
    "setpgid",
    "setpriority",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setrlimit",
    "setsid",
    "setuid",
    "sigaltstack",
    "signalfd",
    "signalfd4",
    "sigprocmask",
    "sigreturn",
    "sysinfo",
    "tgkill",
    "time",
    "times",
    "tkill",
    "uname",
    "ugetrlimit",
    "vfork",
    "wait4",
    "waitid",
    "waitpid",
    /* time */
    "alarm",
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "clock_nanosleep",
    "clock_nanosleep_time64",
    "gettimeofday",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_gettime64",
    "timer_settime",
    "timer_settime64",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_gettime64",
    "timerfd_settime",
    "timerfd_settime64",
    /* waiting and messages */
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd",
    "eventfd2",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_setup",
    "io_submit",
    "ioprio_get",
    "ioprio_set",
    "poll",
    "ppoll",
    "ppoll_time64",
    "pselect6",
    "pselect6_time64",
    "select",
    "_newselect",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedsend",
    "mq_unlink",
    "getrandom",
    "ioctl",
    /* sockets, whose families are held below */
    "accept",
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "recv",
    "recvfrom",
    "recvmmsg",
    "recvmmsg_time64",
    "recvmsg",
    "send",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
};

/* Refused with EPERM, so that the error says what it is. */
static const char *const refused[] = {
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "ptrace",
    "unshare",
    "setns",
    "keyctl",
    "add_key",
    "request_key",
    "bpf",
    "perf_event_open",
    "reboot",
    "swapon",
    "swapoff",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "settimeofday",
    "clock_settime",
    "sethostname",
    "setdomainname",
    "process_vm_readv",
    "process_vm_writev",
    "open_by_handle_at",
};

static const int families[] = {AF_UNIX, AF_INET, AF_INET6};

enum {
    NEW_NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                     CLONE_NEWPID | CLONE_NEWNET,
    PROGRAM_CAP = 256 * 1024,
    IO_PRIORITY_USER = 3,   /* ioprio_set(2), IOPRIO_WHO_USER: no header has it */
    SOCKET_TYPE_MASK = 0xf, /* of the kernel, net.h: the rest are flags */
};

static int add_names(scmp_filter_ctx ctx, uint32_t action, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int number = seccomp_syscall_resolve_name(names[i]);
        if (number == __NR_SCMP_ERROR || number < 0) {
            continue; /* not on this architecture */
        }
        int r = seccomp_rule_add(ctx, action, number, 0);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int hold_sockets(scmp_filter_ctx ctx, bool no_inet)
{
    size_t count = no_inet ? 1 : sizeof(families) / sizeof(families[0]);
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        struct scmp_arg_cmp family = SCMP_A0_64(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0);
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, family);
        if (r == 0) {
            r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, family);
        }
    }
    return r;
}

static int hold_arguments(scmp_filter_ctx ctx)
{
    /* clone without new namespaces; clone3 hides its flags in memory, so it does not exist here and
     * the C library falls back to clone. */
    int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             SCMP_A0_64(SCMP_CMP_MASKED_EQ, NEW_NAMESPACES, 0));
    /* prlimit of oneself: the init has the same user and must keep its limits. */
    if (r == 0) {
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
                             SCMP_A0_64(SCMP_CMP_EQ, 0, 0));
    }
    /* personality(2): only asking, and plain Linux. */
    const scmp_datum_t personalities[] = {0, 0xffffffffu};
    for (size_t i = 0; r == 0 && i < 2; i++) {
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(personality), 1,
                             SCMP_A0_64(SCMP_CMP_EQ, personalities[i], 0));
    }
    return r;
}

static int deny(scmp_filter_ctx ctx, int number, unsigned count, const struct scmp_arg_cmp *args)
{
    return seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), number, count, args);
}

/* Only the low half of such an argument counts in the kernel. */
static struct scmp_arg_cmp low_half_is(unsigned which, uint32_t value)
{
    return SCMP_CMP64(which, SCMP_CMP_MASKED_EQ, 0xffffffffu, value);
}

/* Another process, as far as it matters: pid 1 is the init. Where there is no pid namespace it may
 * be any of the machine, so there a process may name only itself, by 0. */
static struct scmp_arg_cmp is_another(unsigned which, bool bare)
{
    return bare ? SCMP_CMP64(which, SCMP_CMP_GT, 0, 0) : low_half_is(which, 1);
}

/* The init has the same user, so the kernel would let the code take the processor away from it, and
 * then nobody watches. */
static int deny_starving(scmp_filter_ctx ctx, bool bare)
{
    const int by_pid[] = {SCMP_SYS(sched_setaffinity), SCMP_SYS(sched_setscheduler),
                          SCMP_SYS(sched_setparam), SCMP_SYS(sched_setattr)};
    const struct scmp_arg_cmp first = is_another(0, bare);
    const struct scmp_arg_cmp second = is_another(1, bare);
    const struct scmp_arg_cmp all_nice = low_half_is(0, PRIO_USER);
    const struct scmp_arg_cmp all_io = low_half_is(0, IO_PRIORITY_USER);
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof(by_pid) / sizeof(by_pid[0]); i++) {
        r = deny(ctx, by_pid[i], 1, &first);
    }
    r = r < 0 ? r : deny(ctx, SCMP_SYS(setpriority), 1, &second);
    r = r < 0 ? r : deny(ctx, SCMP_SYS(setpriority), 1, &all_nice);
    r = r < 0 ? r : deny(ctx, SCMP_SYS(ioprio_set), 1, &second);
    return r < 0 ? r : deny(ctx, SCMP_SYS(ioprio_set), 1, &all_io);
}

/* What namespaces hold elsewhere: System V semaphores and message queues of the machine, and the
 * sockets that have a path, which Landlock does not hold. A pair of connected sockets stays; of
 * datagram sockets it could be sent elsewhere. */
static int deny_bare(scmp_filter_ctx ctx)
{
    const int calls[] = {SCMP_SYS(semget),     SCMP_SYS(semctl),  SCMP_SYS(semop),
                         SCMP_SYS(semtimedop), SCMP_SYS(mq_open), SCMP_SYS(mq_unlink)};
    const struct scmp_arg_cmp local = low_half_is(0, AF_UNIX);
    const int types[] = {SOCK_DGRAM, SOCK_RAW};
    int r = deny(ctx, SCMP_SYS(socket), 1, &local);
    for (size_t i = 0; r == 0 && i < sizeof(calls) / sizeof(calls[0]); i++) {
        r = deny(ctx, calls[i], 0, NULL);
    }
    for (size_t i = 0; r == 0 && i < sizeof(types) / sizeof(types[0]); i++) {
        const struct scmp_arg_cmp type =
            SCMP_CMP64(1, SCMP_CMP_MASKED_EQ, SOCKET_TYPE_MASK, (scmp_datum_t)types[i]);
        r = deny(ctx, SCMP_SYS(socketpair), 1, &type);
    }
    return r;
}

/* The second filter, for what is refused out of an allowed call. TIOCSTI and TIOCLINUX put words
 * into a terminal's mouth. */
static int fill_denials(scmp_filter_ctx ctx, bool bare)
{
    const uint32_t requests[] = {TIOCSTI, TIOCLINUX};
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof(requests) / sizeof(requests[0]); i++) {
        const struct scmp_arg_cmp request = low_half_is(1, requests[i]);
        r = deny(ctx, SCMP_SYS(ioctl), 1, &request);
    }
    r = r < 0 ? r : deny_starving(ctx, bare);
    return r == 0 && bare ? deny_bare(ctx) : r;
}

static int fill(scmp_filter_ctx ctx, bool no_inet)
{
    /* A binary tree over the numbers: a few comparisons a call and not three hundred. */
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (r == 0) {
        r = add_names(ctx, SCMP_ACT_ALLOW, allowed, sizeof(allowed) / sizeof(allowed[0]));
    }
    if (r == 0) {
        r = add_names(ctx, SCMP_ACT_ERRNO(EPERM), refused, sizeof(refused) / sizeof(refused[0]));
    }
    if (r == 0) {
        r = hold_arguments(ctx);
    }
    return r == 0 ? hold_sockets(ctx, no_inet) : r;
}

struct program {
    char *bytes;
    size_t size;
};

static int export_program(scmp_filter_ctx ctx, struct program *ret)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    struct stat st = {0};
    int r = seccomp_export_bpf(ctx, fd);
    if (r == 0) {
        r = fstat(fd, &st) < 0 ? -errno : 0;
    }
    if (r == 0 && (st.st_size <= 0 || st.st_size > PROGRAM_CAP)) {
        r = -E2BIG;
    }
    char *bytes = r == 0 ? malloc((size_t)st.st_size) : NULL;
    if (r == 0 && (!bytes || pread(fd, bytes, (size_t)st.st_size, 0) != st.st_size)) {
        r = -ENOMEM;
    }
    close(fd);
    if (r < 0) {
        free(bytes);
        return r;
    }
    ret->bytes = bytes;
    ret->size = (size_t)st.st_size;
    return 0;
}

enum filter {
    FILTER_CALLS,         /* the table above */
    FILTER_CALLS_NO_INET, /* likewise, without AF_INET and AF_INET6 */
    FILTER_DENIALS,
    FILTER_DENIALS_BARE, /* likewise, where the machine's processes and sockets are in sight */
    FILTER_COUNT,
};

/* Made once in the zygote: libseccomp takes milliseconds, loading takes microseconds. This is the
 * one piece of state that a library without a context has to keep: cells are forks of the process
 * that prepared. */
static struct program programs[FILTER_COUNT];

static int prepare(enum filter which)
{
    bool denials = which == FILTER_DENIALS || which == FILTER_DENIALS_BARE;
    scmp_filter_ctx ctx = seccomp_init(denials ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(ENOSYS));
    if (!ctx) {
        return -ENOMEM;
    }
    int r = denials ? fill_denials(ctx, which == FILTER_DENIALS_BARE)
                    : fill(ctx, which == FILTER_CALLS_NO_INET);
    if (r == 0) {
        r = export_program(ctx, &programs[which]);
    }
    seccomp_release(ctx);
    return r;
}

int cell_filter_prepare(void)
{
    int r = 0;
    for (int which = 0; r == 0 && which < FILTER_COUNT; which++) {
        r = prepare((enum filter)which);
    }
    return r;
}

static int load(enum filter which)
{
    const struct program *program = &programs[which];
    if (!program->bytes) {
        return -EINVAL;
    }
    struct sock_fprog filter = {
        .len = (unsigned short)(program->size / sizeof(struct sock_filter)),
        .filter = (struct sock_filter *)(void *)program->bytes,
    };
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) < 0 ? -errno : 0;
}

int cell_filter_load(unsigned flags)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return -errno;
    }
    /* The denials first: the table has no seccomp(2), so it has to be the last. */
    int r = load(flags & CELL_PID1 ? FILTER_DENIALS : FILTER_DENIALS_BARE);
    return r < 0 ? r : load(flags & CELL_NO_INET ? FILTER_CALLS_NO_INET : FILTER_CALLS);
}
