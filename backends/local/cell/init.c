#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backends/local/cell/internal.h"

/*
 * The cell init: reaps, takes orders, watches, and reports how the worker ended. It runs no code of
 * the user's, holds no capability after the cell is made, and is not dumpable.
 */

enum {
    WATCH_BUSY_MS = 50,
    WATCH_IDLE_MS = 1000,
    REAP_LIMIT_MS = 2000,
    FILES_PER_BYTE_SHIFT = 13, /* one file for each 8 KiB of the disk limit */
};

struct init {
    struct cell *cell;
    pid_t worker;
    int status_fd;
    int signal_fd;
    bool busy;
    bool worker_gone;
    int worker_status;
    struct rusage usage;
};

void cell_report(int status_fd, const struct cell_report *report)
{
    while (send(status_fd, report, sizeof(*report), MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

void cell_fail(const struct cell *cell, int code)
{
    struct cell_report report = {.type = CELL_FAILED, .code = -code};
    strncpy(report.text, cell->step, sizeof(report.text) - 1);
    cell_report(cell->fds[CELL_FD_STATUS], &report);
    _exit(EXIT_FAILURE);
}

static void reap(struct init *init)
{
    int status;
    struct rusage usage;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        if (pid == init->worker) {
            init->worker_gone = true;
            init->worker_status = status;
            init->usage = usage;
        }
    }
}

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* Ends whatever is left and waits for it, so that nothing of the cell runs (or holds a pipe) when
 * its end is reported. */
static void end_all(struct init *init)
{
    long long limit = now_ms() + REAP_LIMIT_MS;
    for (;;) {
        cell_kill_all(init->cell);
        reap(init);
        siginfo_t info;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD) {
            return;
        }
        if (now_ms() > limit) {
            return;
        }
        struct pollfd one = {.fd = init->signal_fd, .events = POLLIN};
        poll(&one, 1, 10);
    }
}

static void fill_usage(const struct init *init, struct cell_report *report)
{
    const struct rusage *u = &init->usage;
    report->cpu_ms = (uint64_t)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000 +
                     (uint64_t)(u->ru_utime.tv_usec + u->ru_stime.tv_usec) / 1000;
    report->peak_rss_kib = (uint64_t)u->ru_maxrss;
}

static _Noreturn void end(struct init *init, struct cell_report *report)
{
    end_all(init);
    fill_usage(init, report);
    cell_report(init->status_fd, report);
    _exit(EXIT_SUCCESS);
}

static _Noreturn void worker_ended(struct init *init)
{
    int status = init->worker_status;
    struct cell_report report = {.type = CELL_EXITED, .code = WEXITSTATUS(status)};
    if (WIFSIGNALED(status)) {
        report.type = CELL_SIGNALED;
        report.code = WTERMSIG(status);
    }
    end(init, &report);
}

static void take_order(struct init *init)
{
    struct cell_order order;
    ssize_t n = recv(init->status_fd, &order, sizeof(order), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    struct cell_report killed = {.type = CELL_SIGNALED, .code = SIGKILL};
    if (n != (ssize_t)sizeof(order)) {
        end(init, &killed); /* the server is gone */
    }
    switch (order.type) {
    case CELL_ORDER_INTERRUPT:
        kill(-init->worker, SIGINT);
        break;
    case CELL_ORDER_KILL:
        end(init, &killed);
    case CELL_ORDER_BUSY:
        init->busy = true;
        break;
    case CELL_ORDER_IDLE:
        init->busy = false;
        break;
    case CELL_ORDER_SIGNAL:
        kill(init->worker, (int)order.number);
        break;
    default:
        break;
    }
}

static void watch(struct init *init)
{
    const struct cell_spec *spec = init->cell->spec;
    struct cell_usage usage;
    cell_measure(init->cell, &usage);
    struct cell_report report = {0};
    if (usage.memory > spec->memory_bytes) {
        report.type = CELL_OUT_OF_MEMORY;
        report.used = usage.memory;
        report.limit = spec->memory_bytes;
        end(init, &report);
    }
    uint64_t files = (spec->disk_bytes >> FILES_PER_BYTE_SHIFT) + 4096;
    if (usage.disk > spec->disk_bytes || usage.files > files) {
        report.type = CELL_DISK_FULL;
        report.used = usage.disk > spec->disk_bytes ? usage.disk : usage.files;
        report.limit = usage.disk > spec->disk_bytes ? spec->disk_bytes : files;
        strncpy(report.text, usage.disk > spec->disk_bytes ? "bytes" : "files",
                sizeof(report.text) - 1);
        end(init, &report);
    }
}

static void keep_only_status(struct init *init)
{
    int fd = init->status_fd;
    init->status_fd = dup2(fd, STDIN_FILENO);
    if (init->status_fd < 0 || syscall(SYS_close_range, 1u, ~0u, 0u) < 0) {
        _exit(EXIT_FAILURE);
    }
    init->cell->fds[CELL_FD_STATUS] = init->status_fd;
}

static void open_signals(struct init *init)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    for (int number = 1; number < NSIG; number++) {
        if (number != SIGCHLD) {
            signal(number, number == SIGINT || number == SIGTERM ? SIG_IGN : SIG_DFL);
        }
    }
    sigprocmask(SIG_SETMASK, &set, NULL);
    init->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (init->signal_fd < 0) {
        _exit(EXIT_FAILURE);
    }
}

static void drain_signals(const struct init *init)
{
    struct signalfd_siginfo info;
    while (read(init->signal_fd, &info, sizeof(info)) > 0) {
    }
}

void cell_init_run(struct cell *cell, pid_t worker)
{
    struct init init = {.cell = cell, .worker = worker, .status_fd = cell->fds[CELL_FD_STATUS]};
    keep_only_status(&init);
    open_signals(&init);
    /* Orphans come to us also where we are not pid 1. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (cell->spec->flags & (CELL_SECCOMP | CELL_LANDLOCK)) {
        cell_drop_capabilities();
    }
    reap(&init); /* of a worker that ended before open_signals no signal comes */
    if (init.worker_gone) {
        worker_ended(&init);
    }
    long long next = now_ms() + WATCH_IDLE_MS;
    for (;;) {
        struct pollfd both[] = {{.fd = init.status_fd, .events = POLLIN},
                                {.fd = init.signal_fd, .events = POLLIN}};
        long long wait = next - now_ms();
        poll(both, 2, wait < 0 ? 0 : (int)wait);
        drain_signals(&init);
        reap(&init);
        if (init.worker_gone) {
            worker_ended(&init);
        }
        if (both[0].revents) {
            bool was_busy = init.busy;
            take_order(&init);
            next = init.busy && !was_busy ? now_ms() + WATCH_BUSY_MS : next;
        }
        if (now_ms() >= next) {
            watch(&init);
            next = now_ms() + (init.busy ? WATCH_BUSY_MS : WATCH_IDLE_MS);
        }
    }
}
