#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/local/cell/internal.h"

#define EXPORT __attribute__((visibility("default")))

static int check_spec(const struct cell_spec *spec, size_t size)
{
    if (size < sizeof(*spec) || spec->version != CELL_VERSION) {
        return -EPROTO;
    }
    if (spec->paths_size > CELL_PATHS_CAP || size != sizeof(*spec) + spec->paths_size) {
        return -EPROTO;
    }
    const char *paths = (const char *)(spec + 1);
    if (spec->paths_size && paths[spec->paths_size - 1] != '\0') {
        return -EPROTO;
    }
    return spec->files >= 16 ? 0 : -EINVAL;
}

int cell_each_path(const struct cell *cell, int (*each)(void *data, char kind, const char *path),
                   void *data)
{
    const char *end = cell->paths + cell->spec->paths_size;
    for (const char *entry = cell->paths; entry < end; entry += strlen(entry) + 1) {
        int r = each(data, entry[0], entry + 1);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* The three standard descriptors and the frames socket, and nothing else. The frames socket is the
 * last descriptor that the limit allows, out of the way of code that closes the low ones. */
static int arrange_fds(struct cell *cell)
{
    int last = (int)cell->spec->files - 1;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) {
        return -errno;
    }
    const int wanted[][2] = {
        {cell->fds[CELL_FD_FRAMES], last},
        {null, STDIN_FILENO},
        {cell->fds[CELL_FD_STDOUT], STDOUT_FILENO},
        {cell->fds[CELL_FD_STDERR], STDERR_FILENO},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        int flags = wanted[i][1] == last ? O_CLOEXEC : 0;
        if (dup3(wanted[i][0], wanted[i][1], flags) < 0 && errno != EINVAL) {
            return -errno;
        }
    }
    return 0;
}

/* The status socket goes last: until then a failing step can still be told. */
static int close_others(const struct cell *cell)
{
    unsigned last = cell->spec->files - 1;
    if (syscall(SYS_close_range, 3u, last - 1, 0u) < 0) {
        return -errno;
    }
    return syscall(SYS_close_range, last + 1, ~0u, 0u) < 0 ? -errno : 0;
}

static int reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0) {
        return -errno;
    }
    /* The zygote ignores SIGCHLD so that its cells are reaped by themselves; Python itself ignores
     * SIGPIPE and has its own SIGINT handler, which are as in any Python. */
    return signal(SIGCHLD, SIG_DFL) == SIG_ERR ? -errno : 0;
}

static int become_worker(struct cell *cell)
{
    cell->step = "setsid";
    if (setsid() < 0) {
        return -errno;
    }
    cell->step = "PR_SET_PDEATHSIG";
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        return -errno;
    }
    cell->step = "descriptors";
    int r = arrange_fds(cell);
    if (r < 0) {
        return r;
    }
    cell->step = "signals";
    r = reset_signals();
    return r < 0 ? r : cell_raise_walls(cell);
}

static int make_spares(struct cell *cell)
{
    char path[32];
    cell->step = "spare folders";
    if (mkdir("/" CELL_SPARE_FOLDER, 0755) < 0) {
        return -errno;
    }
    for (int i = 0; i < CELL_SPARES; i++) {
        snprintf(path, sizeof(path), "/" CELL_SPARE_FORMAT, i);
        if (mkdir(path, 0755) < 0) {
            return -errno;
        }
    }
    return 0;
}

/* In the worker 0; the init does not come back. */
static int split(struct cell *cell)
{
    /* Nobody in the cell may look into the init or trace it: not dumpable, and the flag is the
     * worker's copy as well until it is behind its walls. */
    if (prctl(PR_SET_DUMPABLE, 0) < 0) {
        cell->step = "PR_SET_DUMPABLE";
        cell_fail(cell, -errno);
    }
    int r = cell->spec->flags & CELL_PID1 ? make_spares(cell) : 0;
    if (r < 0) {
        cell_fail(cell, r);
    }
    pid_t parent = getpid();
    pid_t worker = fork();
    if (worker < 0) {
        cell->step = "fork of the worker";
        cell_fail(cell, -errno);
    }
    if (worker > 0) {
        cell_init_run(cell, worker);
    }
    r = become_worker(cell);
    if (r == 0 && getppid() != parent) {
        _exit(EXIT_FAILURE); /* the init died before PR_SET_PDEATHSIG was set */
    }
    if (r < 0) {
        cell_fail(cell, r);
    }
    struct cell_report ready = {.type = CELL_READY};
    cell_report(cell->fds[CELL_FD_STATUS], &ready);
    r = close_others(cell);
    if (r < 0) {
        _exit(EXIT_FAILURE);
    }
    return 0;
}

static int namespace_flags(const struct cell_spec *spec)
{
    int flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD;
    return spec->flags & CELL_HOST_NETWORK ? flags : flags | CLONE_NEWNET;
}

EXPORT int cell_prepare(void)
{
    signal(SIGCHLD, SIG_IGN);
    return cell_filter_prepare();
}

EXPORT int cell_spawn(const struct cell_spec *spec, size_t size, const int *fds)
{
    int r = check_spec(spec, size);
    if (r < 0) {
        return r;
    }
    struct cell cell = {.spec = spec, .paths = (const char *)(spec + 1), .step = "start"};
    memcpy(cell.fds, fds, sizeof(cell.fds));
    if (!(spec->flags & CELL_NAMESPACES)) {
        signal(SIGCHLD, SIG_DFL);
        return split(&cell);
    }
    /* One clone, not fork + unshare: the child is at once the first process of its own namespaces.
     * clone(2): a zero stack means a copy of ours, as fork does. */
    long pid = syscall(SYS_clone, namespace_flags(spec), 0, 0, 0, 0);
    if (pid < 0) {
        struct cell_report report = {.type = CELL_FAILED, .code = errno, .text = "clone"};
        cell_report(fds[CELL_FD_STATUS], &report);
        return -report.code;
    }
    if (pid > 0) {
        return (int)pid;
    }
    signal(SIGCHLD, SIG_DFL);
    r = cell_enter_namespaces(&cell);
    if (r < 0) {
        cell_fail(&cell, r);
    }
    return split(&cell);
}
