#include <stdlib.h>
#include <string.h>

#include "backends/kernels/jupyter/session_internal.h"

enum {
    WATCH_MS = 200,
    START_CHECK_MS = 3000,
    BYE_MS = 5 * 1000,
    END_MS = 1500, /* the server may take 5 s to end a kernel that does not listen */
    CLOSE_MS = 30 * 1000,
};

/* ---- small things ---- */

struct session_kernel *session_python(const struct jupyter_session *s)
{
    for (struct session_kernel *k = s->kernels; k; k = k->next) {
        if (!k->closing && strcmp(k->language, "python") == 0) {
            return k;
        }
    }
    return NULL;
}

struct session_kernel *session_language(struct jupyter_session *s, const char *language)
{
    struct session_kernel *k;

    for (k = s->kernels; k; k = k->next) {
        if (!k->closing && strcmp(k->language, language) == 0) {
            return k;
        }
    }
    k = session_kernel_new(s, language);
    session_kernel_start(k);
    return k;
}

static void check_starts(struct jupyter_session *s, uint64_t now)
{
    struct session_kernel *late = NULL;
    struct error err = {0};

    for (struct session_kernel *k = s->kernels; k; k = k->next) {
        if (k->ready || k->closing) {
            continue;
        }
        if (k->start_deadline <= now) {
            late = k;
        } else if (k->remote && k->check_at <= now) {
            k->check_at = now + START_CHECK_MS;
            remote_check(k->remote); /* the handshake would wait for one that is dead */
        }
    }
    if (late) {
        if (late != session_python(s) || !session_gives_up(s, &err)) {
            (void)error_set(&err, ERROR_TIMEOUT,
                            "the kernel did not answer in time after its start");
        }
        session_kernel_failed(late, &err);
        error_clear(&err);
    }
}

static bool any_starting(const struct jupyter_session *s)
{
    for (const struct session_kernel *k = s->kernels; k; k = k->next) {
        if (!k->ready && !k->closing) {
            return true;
        }
    }
    return false;
}

static void on_watch(uv_timer_t *timer)
{
    struct jupyter_session *s = timer->data;
    uint64_t now = uv_now(s->server->loop);
    bool asks, waits;

    check_starts(s, now);
    asks = session_check_asks(s, now);
    waits = s->kernel && kernel_check(s->kernel, now);
    if (s->state == SESSION_ENDING && s->end_deadline <= now) {
        session_close_step(s);
    }
    if (s->closing && s->close_deadline <= now) {
        s->lost = true; /* no further step but ending */
        session_close_step(s);
    }
    if (!asks && !waits && !any_starting(s) && !s->closing && s->state != SESSION_ENDING) {
        uv_timer_stop(timer);
    }
}

void session_watch(struct jupyter_session *s)
{
    if (!uv_is_closing((uv_handle_t *)&s->watch) && !uv_is_active((uv_handle_t *)&s->watch)) {
        uv_timer_start(&s->watch, on_watch, WATCH_MS, WATCH_MS);
    }
}

static void on_soon(uv_timer_t *timer)
{
    struct jupyter_session *s = timer->data;

    if (s->state == SESSION_ENDING || s->closing) {
        session_close_step(s);
    } else if (s->state == SESSION_STARTING) {
        session_is_live(s, NULL);
    } else if (s->kernel) {
        kernel_soon(s->kernel);
    }
}

void session_soon(struct jupyter_session *s)
{
    if (!uv_is_closing((uv_handle_t *)&s->soon)) {
        uv_timer_start(&s->soon, on_soon, 0, 0);
    }
}

/* ---- making ---- */

static void session_free(struct jupyter_session *s)
{
    json_decref(s->env);
    free(s->kernel_id);
    free(s->tag);
    free(s->found);
    free(s->kernelspec);
    free(s->workspace);
    free(s->folder);
    free(s->exit_message);
    free(s);
}

static int copy_text(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return from && !*to ? -1 : 0;
}

struct jupyter_session *jupyter_session_new(struct jupyter_server *server,
                                            struct websocket_context *websockets,
                                            const struct jupyter_session_options *options,
                                            const struct jupyter_session_events *events, void *data)
{
    struct jupyter_session *s = calloc(1, sizeof(*s));

    if (!s || copy_text(&s->kernel_id, options->kernel_id) < 0 ||
        copy_text(&s->kernelspec, options->kernelspec) < 0 ||
        copy_text(&s->workspace, options->workspace) < 0 || copy_text(&s->tag, options->tag) < 0 ||
        session_take_where(s, options->where) < 0) {
        if (s) {
            session_free(s);
        }
        return NULL;
    }
    s->to_end = options->to_end;
    s->server = server;
    s->websockets = websockets;
    s->events = *events;
    s->data = data;
    s->env = json_incref(options->env);
    s->link.session = s;
    if (!s->found) {
        jupyter_make_id(s->name);
    }
    uv_timer_init(server->loop, &s->watch);
    uv_timer_init(server->loop, &s->soon);
    s->watch.data = s->soon.data = s;
    s->open_timers = 2;
    return s;
}

static void tell_exit(struct jupyter_session *s)
{
    struct machine_exit exit = s->exit;

    exit.message = s->exit_message;
    s->state = SESSION_IDLE;
    s->events.on_exit(s->data, &exit);
}

void session_is_live(struct jupyter_session *s, const char *begun)
{
    if (s->closing) {
        s->state = SESSION_LIVE;
        session_close_step(s);
    } else if (s->asking_begun) {
        s->asking_begun = false;
        s->exit.unbegun = begun && strcmp(begun, s->run) != 0;
        tell_exit(s); /* the next start finds this kernel */
    } else {
        s->state = SESSION_LIVE;
        s->events.on_started(s->data, &s->link.base);
    }
}

void jupyter_session_start(struct jupyter_session *s)
{
    const struct session_kernel *k = session_python(s);

    s->state = SESSION_STARTING;
    if (k && k->ready) {
        session_soon(s);
        return;
    }
    s->events.on_waiting(s->data, s->kernel_id || s->found
                                      ? "connecting to the kernel"
                                      : "starting a kernel on the Jupyter server");
    session_kernel_start(session_kernel_new(s, "python"));
}

const char *jupyter_session_folder(const struct jupyter_session *s)
{
    return s->folder;
}

void jupyter_session_interrupt(struct jupyter_session *s)
{
    if (s->kernel && s->state == SESSION_LIVE) {
        kernel_interrupt(s->kernel);
    }
}

/* ---- ending ---- */

static void close_kernels(struct jupyter_session *s)
{
    for (struct session_kernel *k = s->kernels; k; k = k->next) {
        session_kernel_close(k);
    }
}

void session_end(struct jupyter_session *s, enum exit_how how, int signal, bool kept,
                 const struct error *err)
{
    if (s->state == SESSION_ENDING) {
        s->asking_begun = false; /* the next one died too */
        close_kernels(s);
        session_soon(s);
        return;
    }
    if (s->closing) {
        s->lost = s->lost || how == EXIT_LOST;
        session_fail_asks(s, "the kernel has ended");
        close_kernels(s);
        session_soon(s);
        return;
    }
    if (s->state == SESSION_IDLE) {
        close_kernels(s); /* the next start makes a new one */
        return;
    }
    s->state = SESSION_ENDING;
    free(s->exit_message);
    s->exit_message = err ? strdup(err->message) : NULL;
    s->end_deadline = uv_now(s->server->loop) + END_MS;
    s->exit = (struct machine_exit){
        .how = how, .signal = signal, .kept = kept, .kind = err ? err->kind : ERROR_NONE};
    session_fail_asks(s, "the kernel has ended");
    session_put_fail(s, "the kernel has ended");
    close_kernels(s);
    session_watch(s);
    session_soon(s);
}

void jupyter_session_kill(struct jupyter_session *s)
{
    const struct session_kernel *k = session_python(s);

    if (s->kernel_id && k && k->remote) {
        remote_order(k->remote, "restart"); /* not ours to delete */
    }
    s->asking_begun = false;
    session_end(s, EXIT_SIGNAL, 9, true, NULL);
}

/* ---- closing ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct jupyter_session *s = handle->data;
    void (*closed)(void *data) = s->closed;
    void *data = s->closed_data;

    if (--s->open_timers > 0) {
        return;
    }
    session_free(s);
    closed(data);
}

static void close_timers(struct jupyter_session *s)
{
    if (!uv_is_closing((uv_handle_t *)&s->watch)) {
        session_fail_asks(s, "the session is closed");
        uv_close((uv_handle_t *)&s->watch, on_timer_closed);
        uv_close((uv_handle_t *)&s->soon, on_timer_closed);
    }
}

static void on_bye(void *data, json_t *content, const struct error *err)
{
    struct jupyter_session *s = data;
    struct session_kernel *k = session_python(s);

    (void)content;
    if (err && !s->cleaning && k) {
        s->cleaning = true; /* it is gone, or deaf: another one, once, removes what is left */
        s->saying_bye = false;
        session_kernel_close(k);
    } else {
        s->bye_said = true;
    }
    session_soon(s);
}

/* The last thing that is asked of Python's kernel: to end the processes and remove the folder. */
static void say_bye(struct jupyter_session *s, struct session_kernel *k)
{
    s->saying_bye = true;
    remote_check(k->remote);
    session_ask(k, json_pack("{s:s}", "op", "bye"), NULL, 0, BYE_MS, on_bye, s);
}

static bool has_live_kernel(const struct jupyter_session *s)
{
    for (const struct session_kernel *k = s->kernels; k; k = k->next) {
        if (!k->closing) {
            return true;
        }
    }
    return false;
}

/* Is there something of ours on the server, which only a kernel can remove? */
static bool needs_kernel(const struct jupyter_session *s)
{
    return s->folder && !s->lost && !has_live_kernel(s);
}

static bool is_on_its_way(const struct session_kernel *k)
{
    return k && !k->ready && k->hello_sent;
}

/* One step after the other, each called when the one before is done. */
static void close_step(struct jupyter_session *s)
{
    struct session_kernel *python = session_python(s);
    bool asks_bye = !s->lost && !s->bye_said && !session_leaves_python(s);

    if (s->saying_bye && asks_bye) {
        return;
    }
    if (asks_bye && python && python->ready) {
        say_bye(s, python);
    } else if (asks_bye && is_on_its_way(python)) {
        return; /* what it makes is to be removed */
    } else if (asks_bye && needs_kernel(s)) {
        free(s->kernel_id); /* one that was given and is gone: ours removes what is left */
        s->kernel_id = NULL;
        session_kernel_start(session_kernel_new(s, "python"));
    } else if (s->kernels) {
        close_kernels(s);
    } else {
        close_timers(s);
    }
}

/* Whether the run had begun that the dead kernel was sent is what the next one can tell. */
static void after_end(struct jupyter_session *s)
{
    if (s->asking_begun && !s->kernel_id && !session_python(s)) {
        session_kernel_start(session_kernel_new(s, "python"));
    } else if (!s->asking_begun || s->kernel_id) {
        s->asking_begun = false;
        tell_exit(s);
    }
}

void session_close_step(struct jupyter_session *s)
{
    if (s->closing) {
        close_step(s);
    } else if (s->state == SESSION_ENDING &&
               (!s->kernels || s->end_deadline <= uv_now(s->server->loop))) {
        after_end(s);
    }
}

void jupyter_session_abandon(struct jupyter_session *s)
{
    s->lost = true;
}

void jupyter_session_close(struct jupyter_session *s, void (*closed)(void *data), void *data)
{
    s->closing = true;
    s->closed = closed;
    s->closed_data = data;
    s->kernel = NULL;
    s->close_deadline = uv_now(s->server->loop) + CLOSE_MS;
    session_fail_asks(s, "the session is being closed");
    session_put_fail(s, "the session is being closed");
    session_watch(s);
    session_soon(s);
}
