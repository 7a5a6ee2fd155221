#include "backends/base/net/http_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAIR_WITHIN = 1024 };

/* One socket that libcurl wants watched. */
struct watch {
    uv_poll_t poll;
    struct http_multi *multi;
    curl_socket_t fd;
    int events; /* UV_READABLE | UV_WRITABLE as libcurl asked */
};

void http_quick_ack(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

static void release(struct http_multi *multi)
{
    if (--multi->handles == 0 && multi->closing) {
        multi->closed(multi->data);
    }
}

static void watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    struct http_multi *multi = watch->multi;
    free(watch);
    release(multi);
}

void http_multi_drain(struct http_multi *multi)
{
    CURLMsg *message;
    int left;
    while (!multi->closing && (message = curl_multi_info_read(multi->curl, &left))) {
        if (message->msg == CURLMSG_DONE) {
            /* The message is gone once the handle is removed: nothing of it is used later. */
            multi->finished(multi->data, message->easy_handle, message->data.result);
        }
    }
}

static void act(struct http_multi *multi, curl_socket_t fd, int flags)
{
    int running;
    curl_multi_socket_action(multi->curl, fd, flags, &running);
    http_multi_drain(multi);
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    int flags = 0;

    if (status < 0) {
        /* libuv has stopped watching. What the far side sent before it broke off can still be read,
         * and libcurl only reads it when it is told to. */
        uv_poll_start(poll, watch->events, on_event);
        events = watch->events;
        flags = CURL_CSELECT_ERR;
    }
    if (events & UV_READABLE) {
        flags |= CURL_CSELECT_IN;
        if (watch->multi->quick_ack) {
            http_quick_ack(watch->fd);
        }
    }
    if (events & UV_WRITABLE) {
        flags |= CURL_CSELECT_OUT;
    }
    act(watch->multi, watch->fd, flags); /* `watch` may be gone after this */
}

static struct watch *watch_new(struct http_multi *multi, curl_socket_t fd)
{
    struct watch *watch = calloc(1, sizeof(*watch));
    if (!watch) {
        return NULL;
    }
    watch->multi = multi;
    watch->fd = fd;
    watch->poll.data = watch;
    if (uv_poll_init_socket(multi->loop, &watch->poll, fd) < 0) {
        free(watch);
        return NULL;
    }
    multi->handles++;
    curl_multi_assign(multi->curl, fd, watch);
    return watch;
}

static void watch_close(struct http_multi *multi, struct watch *watch)
{
    curl_multi_assign(multi->curl, watch->fd, NULL);
    uv_poll_stop(&watch->poll); /* now: the descriptor may be closed and used anew at once */
    uv_close((uv_handle_t *)&watch->poll, watch_closed);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *socket_data)
{
    struct http_multi *multi = data;
    struct watch *watch = socket_data;
    (void)easy;

    if (what == CURL_POLL_REMOVE) {
        if (watch) {
            watch_close(multi, watch);
        }
        return 0;
    }
    if (!watch) {
        watch = watch_new(multi, fd);
        if (!watch) {
            return -1;
        }
    }
    watch->events =
        (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&watch->poll, watch->events, on_event) < 0 ? -1 : 0;
}

static void on_timer(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

/* Called from inside libcurl, also when no socket is ready: only notes the time. */
static int on_timeout(CURLM *curl, long timeout_ms, void *data)
{
    struct http_multi *multi = data;
    (void)curl;
    if (multi->closing) {
        return 0;
    }
    if (timeout_ms < 0) {
        return uv_timer_stop(&multi->timer);
    }
    return uv_timer_start(&multi->timer, on_timer, (uint64_t)timeout_ms, 0);
}

static bool close_on_exec(int fd)
{
    int domain = 0;
    socklen_t size = sizeof(domain);
    int flags = fcntl(fd, F_GETFD);
    return flags >= 0 && !(flags & FD_CLOEXEC) &&
           getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
           fcntl(fd, F_SETFD, flags | FD_CLOEXEC) == 0;
}

/* A multi handle has a socket pair of its own (to be woken by other threads; not used here), which
 * libcurl 7.88 lets every program inherit that is started later, a sandbox's too. It was given the
 * two lowest free numbers. */
static CURLM *multi_new(void)
{
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CURLM *curl;

    if (lowest < 0) {
        return NULL;
    }
    close(lowest);
    curl = curl_multi_init();
    for (int fd = lowest, found = 0; found < 2 && fd < lowest + PAIR_WITHIN; fd++) {
        found += close_on_exec(fd);
    }
    return curl;
}

int http_multi_open(struct http_multi *multi)
{
    if (multi->curl) {
        return 0;
    }
    multi->curl = multi->closing ? NULL : multi_new();
    if (!multi->curl) {
        return -ENOMEM;
    }
    curl_multi_setopt(multi->curl, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi->curl, CURLMOPT_SOCKETDATA, multi);
    curl_multi_setopt(multi->curl, CURLMOPT_TIMERFUNCTION, on_timeout);
    curl_multi_setopt(multi->curl, CURLMOPT_TIMERDATA, multi);
    return 0;
}

void http_multi_init(struct http_multi *multi, uv_loop_t *loop, bool quick_ack,
                     void (*finished)(void *data, CURL *easy, CURLcode code), void *data)
{
    multi->loop = loop;
    multi->quick_ack = quick_ack;
    multi->finished = finished;
    multi->data = data;
    uv_timer_init(loop, &multi->timer);
    multi->timer.data = multi;
    multi->handles = 1;
}

static void timer_closed(uv_handle_t *handle)
{
    release(handle->data);
}

void http_multi_close(struct http_multi *multi, void (*closed)(void *data))
{
    multi->closing = true;
    multi->closed = closed;
    curl_multi_cleanup(multi->curl); /* closes idle connections, and their watches with them */
    multi->curl = NULL;
    uv_close((uv_handle_t *)&multi->timer, timer_closed);
}
