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

static const int families[] = {AF_UNIX, AF_INET, AF_INET6};

enum {
    NEW_NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                     CLONE_NEWPID | CLONE_NEWNET,
    PROGRAM_CAP = 256 * 1024,
    IO_PRIORITY_USER = 3,   /* ioprio_set(2), IOPRIO_WHO_USER: no header has it */
    SOCKET_TYPE_MASK = 0xf, /* of the kernel, net.h: the rest are flags */
};

static int add_names(scmp_filter_ctx ctx, uint32_t action, const char *const *names)
{
    for (; *names; names++) {
        int number = seccomp_syscall_resolve_name(*names);
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
        r = add_names(ctx, SCMP_ACT_ALLOW, cell_calls_allowed);
    }
    if (r == 0) {
        r = add_names(ctx, SCMP_ACT_ERRNO(EPERM), cell_calls_refused);
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
