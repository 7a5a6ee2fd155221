#include "mcp/lifeline.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int ending_signals[] = {SIGTERM, SIGINT, SIGHUP};

enum { SIGNAL_COUNT = sizeof ending_signals / sizeof *ending_signals };

struct lifeline {
    uv_signal_t signals[SIGNAL_COUNT];
    uv_poll_t parent;
    int parent_fd; /* -1: not watched */
    unsigned open_handles;
    void (*cut)(void *data, const char *why);
    void *data;
    void (*closed)(void *data);
    void *closed_data;
};

static void on_signal(uv_signal_t *handle, int number)
{
    struct lifeline *l = handle->data;
    l->cut(l->data, number == SIGTERM ? "SIGTERM" : number == SIGINT ? "SIGINT" : "SIGHUP");
}

static void on_parent(uv_poll_t *handle, int status, int events)
{
    struct lifeline *l = handle->data;
    (void)status;
    (void)events;
    uv_poll_stop(handle);
    l->cut(l->data, "the host process ended");
}

static bool ignored(int number)
{
    struct sigaction now;
    return sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

/* A parent of 0 or 1 is outside our pid namespace or the init that we were handed to: no host. */
static void watch_parent(struct lifeline *l, uv_loop_t *loop)
{
    pid_t parent = getppid();
    if (parent <= 1) {
        return;
    }
    int fd = (int)syscall(SYS_pidfd_open, parent, 0);
    if (fd < 0) {
        return;
    }
    if (uv_poll_init(loop, &l->parent, fd) < 0) {
        close(fd);
        return;
    }
    l->parent_fd = fd;
    l->parent.data = l;
    uv_poll_start(&l->parent, UV_READABLE, on_parent);
}

struct lifeline *lifeline_new(uv_loop_t *loop, void (*cut)(void *data, const char *why), void *data)
{
    struct lifeline *l = calloc(1, sizeof *l);
    if (!l) {
        return NULL;
    }
    l->cut = cut;
    l->data = data;
    l->parent_fd = -1;
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        uv_signal_init(loop, &l->signals[i]);
        l->signals[i].data = l;
        if (ending_signals[i] != SIGHUP || !ignored(SIGHUP)) {
            uv_signal_start(&l->signals[i], on_signal, ending_signals[i]);
        }
    }
    watch_parent(l, loop);
    return l;
}

static void on_closed(uv_handle_t *handle)
{
    struct lifeline *l = handle->data;
    if (--l->open_handles > 0) {
        return;
    }
    void (*closed)(void *) = l->closed;
    void *data = l->closed_data;
    if (l->parent_fd >= 0) {
        close(l->parent_fd);
    }
    free(l);
    if (closed) {
        closed(data);
    }
}

void lifeline_close(struct lifeline *l, void (*closed)(void *data), void *data)
{
    l->closed = closed;
    l->closed_data = data;
    l->open_handles = SIGNAL_COUNT + (l->parent_fd >= 0);
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        uv_close((uv_handle_t *)&l->signals[i], on_closed);
    }
    if (l->parent_fd >= 0) {
        uv_close((uv_handle_t *)&l->parent, on_closed);
    }
}
