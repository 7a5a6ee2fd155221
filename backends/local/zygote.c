#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/local/cells.h"

/* The zygote's process and its control socket. */

static void maybe_absent(struct local_place *place)
{
    if (place->zygote.open_handles == 0) {
        place->zygote.state = ZYGOTE_ABSENT;
        place_zygote_gone(place, NULL);
    }
}

static void poll_closed(uv_handle_t *handle)
{
    struct local_place *place = handle->data;
    place->zygote.open_handles--;
    maybe_absent(place);
}

static void child_closed(struct child *child)
{
    struct local_place *place = child->data;
    place->zygote.open_handles--;
    maybe_absent(place);
}

static void close_control(struct zygote *zygote)
{
    if (zygote->control_fd >= 0) {
        uv_close((uv_handle_t *)&zygote->poll, poll_closed);
        close(zygote->control_fd);
        zygote->control_fd = -1;
    }
}

static void on_exited(struct child *child)
{
    struct local_place *place = child->data;
    struct zygote *zygote = &place->zygote;
    char why[CHILD_ERR_CAP + 64];
    const char *words = child_last_words(child);
    snprintf(why, sizeof(why), "the zygote ended%s%s", *words ? ": " : "", words);
    if (zygote->state != ZYGOTE_ENDING) {
        zygote->state = ZYGOTE_ENDING;
        place_zygote_gone(place, why);
    }
    close_control(zygote);
    child_close(child, child_closed);
}

static void on_control(uv_poll_t *poll, int status, int events)
{
    struct local_place *place = poll->data;
    struct zygote *zygote = &place->zygote;
    char word[64];
    (void)status;
    if (events & UV_WRITABLE) {
        uv_poll_start(poll, UV_READABLE, on_control);
        place_zygote_ready(place);
        return;
    }
    ssize_t n = recv(zygote->control_fd, word, sizeof(word), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n == 5 && memcmp(word, "ready", 5) == 0 && zygote->state == ZYGOTE_STARTING) {
        zygote->state = ZYGOTE_READY;
        place_zygote_ready(place);
    } else {
        uv_poll_stop(poll); /* its process is ending, or has to */
        child_kill(&zygote->child);
    }
}

void zygote_wait_for_room(struct local_place *place)
{
    uv_poll_start(&place->zygote.poll, UV_READABLE | UV_WRITABLE, on_control);
}

int zygote_start(struct local_place *place, struct error *err)
{
    struct zygote *zygote = &place->zygote;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return error_set_code(err, ERROR_INTERNAL, errno, "a control socket");
    }
    struct launch launch = {
        .env = place->base.env,
        .python = place->python,
        .user = &place->user,
        .mode = LAUNCH_ZYGOTE,
        .control_fd = pair[1],
    };
    int r = launch_start(place->base.loop, &zygote->child, &launch, on_exited, place, err);
    close(pair[1]);
    zygote->control_fd = pair[0];
    zygote->open_handles = zygote->child.open_handles > 0 ? 2 : 1;
    uv_poll_init(place->base.loop, &zygote->poll, pair[0]);
    zygote->poll.data = place;
    zygote->child.data = place;
    if (r < 0) {
        zygote->state = ZYGOTE_ENDING;
        close_control(zygote);
        if (zygote->open_handles == 2) {
            child_close(&zygote->child, child_closed);
        }
        return -1;
    }
    zygote->state = ZYGOTE_STARTING;
    uv_poll_start(&zygote->poll, UV_READABLE, on_control);
    return 0;
}

void zygote_end(struct local_place *place)
{
    struct zygote *zygote = &place->zygote;
    if (zygote->state == ZYGOTE_STARTING || zygote->state == ZYGOTE_READY) {
        zygote->state = ZYGOTE_ENDING;
        child_kill(&zygote->child);
    }
}
