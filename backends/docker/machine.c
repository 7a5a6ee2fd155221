#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/net/tar.h"
#include "backends/docker/internal.h"
#include "backends/files_wire.h"

/* What the executor sees: a container of its own, from the pool or made for it. */

struct docker_machine {
    struct machine base;
    struct container *container; /* NULL: none yet, or it is gone */
    struct start_request request;
    bool starting;
    bool running; /* a worker is there and was told */
    char *lost;   /* the container went away while nobody looked */
    uv_timer_t soon;
    struct file_waiting *unasked; /* requests about files that nobody was there for */
    bool has_pending;
    struct machine_exit pending;
    char *pending_text;
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

static struct docker_place *place_of(const struct docker_machine *m)
{
    return (struct docker_place *)m->base.place;
}

/* ---- told from the loop ---- */

static void on_soon(uv_timer_t *timer)
{
    struct docker_machine *m = timer->data;

    file_waiting_lost(&m->unasked);
    if (m->has_pending) {
        m->has_pending = false;
        m->starting = m->running = false;
        m->base.events.on_exit(m->base.data, &m->pending);
    } else if (m->starting && m->container && m->container->link) {
        m->starting = false;
        m->running = true;
        m->base.events.on_started(m->base.data, m->container->link);
        container_attached(m->container);
        pool_fill_later(place_of(m));
    }
}

static void exit_soon(struct docker_machine *m, struct machine_exit exit)
{
    free(m->pending_text);
    m->pending_text = exit.message ? strdup(exit.message) : NULL;
    exit.message = m->pending_text;
    m->pending = exit;
    m->has_pending = true;
    uv_timer_start(&m->soon, on_soon, 0, 0);
}

/* ---- what the container tells ---- */

static void on_waiting(void *data, const char *what)
{
    struct docker_machine *m = data;

    if (m->starting) {
        m->base.events.on_waiting(m->base.data, what);
    }
}

static void on_worker(void *data, struct link *link)
{
    struct docker_machine *m = data;

    if (m->starting && !m->has_pending) {
        m->starting = false;
        m->running = true;
        m->base.events.on_started(m->base.data, link);
        pool_fill_later(place_of(m));
    }
}

static void tell_exit(struct docker_machine *m, const struct machine_exit *exit)
{
    m->starting = m->running = false;
    m->base.events.on_exit(m->base.data, exit);
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct docker_machine *m = data;

    if (m->starting || m->running) {
        tell_exit(m, exit);
    }
}

static void on_gone(void *data, const struct machine_exit *exit)
{
    struct docker_machine *m = data;

    m->container = NULL;
    if (m->has_pending) {
        return;
    }
    if (m->starting || m->running) {
        tell_exit(m, exit);
    } else {
        free(m->lost);
        m->lost = strdup(exit->message ? exit->message : "its container is gone");
    }
}

static const struct container_events machine_events = {on_waiting, on_worker, on_worker_exit,
                                                       on_gone};

/* ---- life ---- */

struct machine *docker_machine_new(struct place *base, const struct machine_events *events,
                                   void *data)
{
    struct docker_place *place = (struct docker_place *)base;
    struct docker_machine *m = calloc(1, sizeof(*m));

    if (!m) {
        return NULL;
    }
    m->base = (struct machine){.place = base, .events = *events, .data = data};
    uv_timer_init(base->loop, &m->soon);
    m->soon.data = m;
    place->machines++;
    place_touch(place);
    return &m->base;
}

static bool needs_own(const struct start_request *request)
{
    if (request->tag) {
        return true; /* its labels say so from the beginning */
    }
    for (unsigned i = 0; i < request->copy_count; i++) {
        if (!spec_dest_is_usual(request->copies[i]->dest)) {
            return true;
        }
    }
    return request->mount_count > 0;
}

static void find_container(struct docker_machine *m, const struct start_request *request)
{
    struct docker_place *place = place_of(m);

    place->pool_failed = false;
    m->container = needs_own(request) ? NULL : pool_take(place);
    if (m->container) {
        container_own(m->container, &machine_events, m);
        uv_timer_start(&m->soon, on_soon, 0, 0);
        return;
    }
    m->container = container_new(place, request, false, &machine_events, m);
    if (!m->container) {
        exit_soon(m, (struct machine_exit){
                         .how = EXIT_LOST, .kind = ERROR_INTERNAL, .message = "out of memory"});
    }
}

void docker_machine_start(struct machine *base, const struct start_request *request)
{
    struct docker_machine *m = (struct docker_machine *)base;

    m->starting = true;
    place_touch(place_of(m));
    if (m->lost) {
        exit_soon(m,
                  (struct machine_exit){.how = EXIT_LOST, .kind = ERROR_LOST, .message = m->lost});
    } else if (m->container) {
        container_start_worker(m->container);
    } else {
        find_container(m, request);
    }
}

void docker_machine_interrupt(struct machine *base)
{
    struct docker_machine *m = (struct docker_machine *)base;

    if (m->container) {
        container_interrupt(m->container);
    }
}

int docker_machine_signal(struct machine *base, int number)
{
    struct docker_machine *m = (struct docker_machine *)base;

    return m->container ? container_signal(m->container, number) : -ESRCH;
}

void docker_machine_kill(struct machine *base)
{
    struct docker_machine *m = (struct docker_machine *)base;

    if (m->container && m->running) {
        container_kill(m->container);
        return;
    }
    if (m->container) {
        container_close(m->container); /* nothing of it runs any code yet */
        m->container = NULL;
    }
    if (!m->has_pending) {
        exit_soon(m, (struct machine_exit){.how = EXIT_SIGNAL, .signal = SIGKILL});
    }
}

void docker_machine_busy(struct machine *base, bool busy)
{
    struct docker_machine *m = (struct docker_machine *)base;

    if (m->container && busy) {
        m->container->used = true;
    }
}

json_t *docker_machine_where(const struct machine *base)
{
    const struct docker_machine *m = (const struct docker_machine *)base;

    return m->container ? container_where(m->container) : NULL;
}

void docker_machine_leave(struct machine *base, bool interrupt)
{
    const struct docker_machine *m = (const struct docker_machine *)base;

    if (m->container) {
        container_leave(m->container, interrupt);
    }
}

static void on_soon_closed(uv_handle_t *handle)
{
    struct docker_machine *m = handle->data;
    struct docker_place *place = place_of(m);
    void (*closed)(void *data) = m->closed;
    void *data = m->closed_data;

    free(m->lost);
    free(m->pending_text);
    free(m);
    place->machines--;
    place_touch(place);
    if (closed) {
        closed(data);
    }
    place_maybe_closed(place);
}

void docker_machine_close(struct machine *base, void (*closed)(void *data), void *data)
{
    struct docker_machine *m = (struct docker_machine *)base;

    m->closing = true;
    m->closed = closed;
    m->closed_data = data;
    file_waiting_lost(&m->unasked);
    if (m->container) {
        container_close(m->container); /* the place waits for its removal */
        m->container = NULL;
    }
    uv_close((uv_handle_t *)&m->soon, on_soon_closed);
}

/* ---- shares ---- */

#define USUAL_FOLDERS "/workspace, /tmp, /data, /mnt, /input, /inputs, /output or /outputs"

void docker_machine_put(struct machine *base, const struct share *share, executor_progress progress,
                        executor_done done, void *data)
{
    struct docker_machine *m = (struct docker_machine *)base;
    struct error err = {0};

    if (!m->container) {
        error_set(&err, ERROR_LOST, "the container is gone");
    } else if (!container_has_folder_for(m->container, share->dest)) {
        error_set(&err, ERROR_REFUSED,
                  "dest %.200s: the root of a container is read-only, and folders are made in it "
                  "only when it is started. Choose a dest inside of " USUAL_FOLDERS
                  ", or call reset_session and add the share before the first run",
                  share->dest);
    } else {
        container_put(m->container, share, progress, done, data);
        return;
    }
    done(data, &err);
    error_clear(&err);
}

void docker_machine_put_cancel(struct machine *base)
{
    const struct docker_machine *m = (const struct docker_machine *)base;

    if (m->container) {
        container_put_cancel(m->container);
    }
}

void docker_machine_file(struct machine *base, const struct file_request *request, file_done done,
                         void *data)
{
    struct docker_machine *m = (struct docker_machine *)base;

    if (!m->container || !container_file(m->container, request, done, data)) {
        file_wait(&m->unasked, done, data);
        uv_timer_start(&m->soon, on_soon, 0, 0);
    }
}

/* The user of the container reads a mount with nobody's help: what its mode says about others
 * counts, as far as that can be seen from here. */
static int check_mount(const struct docker_place *place, const struct share *share,
                       struct error *err)
{
    struct stat st;
    mode_t needed = share->is_directory ? 05 : 04;
    struct spec_user user;

    if (spec_user(place->base.env, NULL, &user, err) < 0) {
        return -1;
    }
    if (fstat(share->fd, &st) < 0 || !user.known || user.uid == 0 || user.uid == st.st_uid ||
        user.gid == st.st_gid || (st.st_mode & needed) == needed) {
        return 0;
    }
    return error_set(err, ERROR_REFUSED,
                     "source %s: the container's user (%s) may not read it: its mode is %04o. Use "
                     "type \"copy\", make it readable for others, or set `user` to its owner, %u",
                     share->source, user.name, (unsigned)(st.st_mode & 07777), (unsigned)st.st_uid);
}

int docker_share_check(struct place *base, const struct share *share, struct error *err)
{
    const struct docker_place *place = (const struct docker_place *)base;

    if (share->type == SHARE_MOUNT) {
        return check_mount(place, share, err);
    }
    if (!spec_dest_is_possible(share->dest)) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "dest %s: the root of a container is read-only, so nothing can be copied "
                         "right below \"/\"; choose a dest inside of " USUAL_FOLDERS,
                         share->dest);
    }
    return tar_check(share, err);
}
