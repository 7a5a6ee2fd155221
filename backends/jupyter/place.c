#include "backends/jupyter/place.h"

#include <stdlib.h>
#include <string.h>

struct jupyter_machine {
    struct machine base;
    struct jupyter_machine *next;
    struct jupyter_session *session; /* NULL until there is a server */
    bool waiting;                    /* for our own server */
    bool closing;
    char *tag;       /* of one that may outlive us */
    json_t *where;   /* the one that is sought; NULL: a new one */
    unsigned to_end; /* … to be ended; seconds */
    uv_timer_t soon;
    struct error failure; /* of a start, until it is told */
    bool killed;
    void (*closed)(void *data);
    void *closed_data;
};

static struct jupyter_place *place_of(const struct jupyter_machine *m)
{
    return (struct jupyter_place *)m->base.place;
}

static struct jupyter_machine *machine_of(struct machine *base)
{
    return (struct jupyter_machine *)base;
}

static void maybe_closed(struct jupyter_place *place);

/* ---- a machine's life ---- */

static void on_started(void *data, struct link *link)
{
    struct jupyter_machine *m = data;
    m->base.events.on_started(m->base.data, link);
}

static void on_waiting(void *data, const char *what)
{
    struct jupyter_machine *m = data;
    m->base.events.on_waiting(m->base.data, what);
}

static void on_exit_event(void *data, const struct machine_exit *exit)
{
    struct jupyter_machine *m = data;
    m->base.events.on_exit(m->base.data, exit);
}

static void fail_soon(struct jupyter_machine *m, const struct error *err);

static void start_session(struct jupyter_machine *m)
{
    static const struct jupyter_session_events events = {on_started, on_waiting, on_exit_event};
    struct jupyter_place *place = place_of(m);
    const struct environment *env = place->base.env;
    struct jupyter_session_options options = {.kernel_id = env->kernel_id,
                                              .env = env->env,
                                              .tag = m->tag,
                                              .where = m->where,
                                              .to_end = m->to_end};
    struct error err = {0};

    m->waiting = false;
    if (place->websockets && !m->session) {
        m->session = jupyter_session_new(place->server, place->websockets, &options, &events, m);
    }
    if (m->session) {
        jupyter_session_start(m->session);
        return;
    }
    if (err.kind == ERROR_NONE) {
        (void)error_set(&err, ERROR_INTERNAL, "out of memory");
    }
    fail_soon(m, &err);
    error_clear(&err);
}

/* Kernels that a dead one has left go first. */
static void start_machine(struct jupyter_machine *m)
{
    struct jupyter_place *place = place_of(m);
    struct error err = {0};

    if (!place->websockets) {
        place->websockets = websocket_context_new(place->base.loop, &err);
    }
    if (!place->websockets) {
        fail_soon(m, &err);
    } else if (orphans_sweep(place)) {
        m->waiting = true;
        on_waiting(m, "removing kernels that a cellblock which is gone has left");
    } else {
        start_session(m);
    }
    error_clear(&err);
}

static void start_waiting(struct jupyter_place *place, void (*start)(struct jupyter_machine *m))
{
    struct jupyter_machine *next;

    for (struct jupyter_machine *m = place->machines; m; m = next) {
        next = m->next;
        if (m->waiting && !m->closing) {
            start(m);
        }
    }
}

void place_go_on(struct jupyter_place *place)
{
    start_waiting(place, start_session);
}

void place_orphans_swept(struct jupyter_place *place)
{
    place_go_on(place);
    maybe_closed(place);
}

static void on_soon(uv_timer_t *timer)
{
    struct jupyter_machine *m = timer->data;
    struct machine_exit exit = {
        .how = EXIT_LOST, .kind = m->failure.kind, .message = m->failure.message};
    struct error failure = m->failure;

    if (m->killed) {
        exit = (struct machine_exit){.how = EXIT_SIGNAL, .signal = 9};
    }
    m->failure = (struct error){0};
    m->killed = false;
    if (!m->closing) {
        m->base.events.on_exit(m->base.data, &exit);
    }
    error_clear(&failure);
}

/* on_exit comes from the loop. */
static void fail_soon(struct jupyter_machine *m, const struct error *err)
{
    error_clear(&m->failure);
    error_copy(&m->failure, err);
    m->waiting = false;
    uv_timer_start(&m->soon, on_soon, 0, 0);
}

static struct machine *machine_new(struct place *base, const struct machine_events *events,
                                   void *data)
{
    struct jupyter_place *place = (struct jupyter_place *)base;
    struct jupyter_machine *m = calloc(1, sizeof(*m));

    if (!m) {
        return NULL;
    }
    m->base = (struct machine){.place = base, .events = *events, .data = data};
    uv_timer_init(base->loop, &m->soon);
    m->soon.data = m;
    m->next = place->machines;
    place->machines = m;
    return &m->base;
}

/* Its sessions ended with it: they are told by their own connections. */
static void own_server_ended(struct jupyter_place *place, const struct error *err)
{
    struct jupyter_machine *next;

    for (struct jupyter_machine *m = place->machines; m; m = next) {
        next = m->next;
        if (m->waiting) {
            fail_soon(m, err);
        }
    }
}

static void on_own_ready(void *data, struct jupyter_server *server)
{
    struct jupyter_place *place = data;

    place->server = server;
    start_waiting(place, start_machine);
}

static void on_own_ended(void *data, const struct error *err)
{
    own_server_ended(data, err);
}

/* One that was left is on the server that it was left on. No mounts: they are refused before. */
static int take_request(struct jupyter_machine *m, const struct start_request *request,
                        struct error *err)
{
    const char *url = json_string_value(json_object_get(request->where, "url"));
    const struct jupyter_place *place = place_of(m);

    if (request->where &&
        (!url || !place->records || strcmp(url, records_url(place->records)) != 0)) {
        return error_set(err, ERROR_REFUSED,
                         "it was left on the Jupyter server at %.200s, and environment \"%s\" has "
                         "another url now",
                         url ? url : "another place", place->base.env->name);
    }
    if (request->tag && !m->tag) {
        m->tag = strdup(request->tag);
        m->where = request->where ? json_deep_copy(request->where) : NULL;
        m->to_end = request->to_end;
        if (!m->tag || (request->where && !m->where)) {
            return error_set(err, ERROR_INTERNAL, "out of memory");
        }
    }
    return 0;
}

static void machine_start(struct machine *base, const struct start_request *request)
{
    struct jupyter_machine *m = machine_of(base);
    struct jupyter_place *place = place_of(m);
    struct error err = {0};

    if (take_request(m, request, &err) < 0) {
        fail_soon(m, &err);
        error_clear(&err);
        return;
    }
    if (place->own && own_server_is_gone(place->own)) {
        (void)error_set(&err, ERROR_LOST, "the Jupyter server that was started here has ended: %s",
                        own_server_last_words(place->own));
        fail_soon(m, &err);
        error_clear(&err);
    } else if (place->server) {
        start_machine(m);
    } else {
        m->waiting = true;
        base->events.on_waiting(base->data, "starting a Jupyter server");
        own_server_start(place->own);
    }
}

static void machine_put(struct machine *base, const struct share *share, executor_progress progress,
                        executor_done done, void *data)
{
    jupyter_session_put(machine_of(base)->session, share, progress, done, data);
}

static void machine_put_cancel(struct machine *base)
{
    const struct jupyter_machine *m = machine_of(base);

    if (m->session) {
        jupyter_session_put_cancel(m->session);
    }
}

static void machine_file(struct machine *base, const struct file_request *request, file_done done,
                         void *data)
{
    jupyter_session_file(machine_of(base)->session, request, done, data);
}

static void machine_interrupt(struct machine *base)
{
    jupyter_session_interrupt(machine_of(base)->session);
}

static void machine_kill(struct machine *base)
{
    struct jupyter_machine *m = machine_of(base);

    if (m->session && !m->waiting) {
        jupyter_session_kill(m->session);
    } else {
        m->killed = true;
        m->waiting = false;
        uv_timer_start(&m->soon, on_soon, 0, 0);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct jupyter_machine *m = handle->data;
    struct jupyter_place *place = place_of(m);
    void (*closed)(void *data) = m->closed;
    void *data = m->closed_data;

    for (struct jupyter_machine **at = &place->machines; *at; at = &(*at)->next) {
        if (*at == m) {
            *at = m->next;
            break;
        }
    }
    error_clear(&m->failure);
    free(m->tag);
    json_decref(m->where);
    free(m);
    closed(data);
    maybe_closed(place);
}

static void on_session_closed(void *data)
{
    struct jupyter_machine *m = data;
    uv_close((uv_handle_t *)&m->soon, on_timer_closed);
}

static void machine_close(struct machine *base, void (*closed)(void *data), void *data)
{
    struct jupyter_machine *m = machine_of(base);

    m->closing = true;
    m->waiting = false;
    m->closed = closed;
    m->closed_data = data;
    if (m->session) {
        jupyter_session_close(m->session, on_session_closed, m);
    } else {
        on_session_closed(m);
    }
}

static json_t *machine_where(const struct machine *base)
{
    const struct jupyter_machine *m = (const struct jupyter_machine *)base;
    const struct jupyter_place *place = place_of(m);
    json_t *where = m->session ? jupyter_session_where(m->session) : NULL;

    if (where && place->records) {
        json_object_set_new(where, "url", json_string(records_url(place->records)));
        /* From now on another record leads to it, and it is no orphan when we are gone. */
        records_remove(place->records, json_string_value(json_object_get(where, "kernel")));
    }
    return where;
}

static void machine_leave(struct machine *base, bool interrupt)
{
    const struct jupyter_machine *m = machine_of(base);

    if (m->session) {
        jupyter_session_leave(m->session, interrupt);
    }
}

static const char *machine_folder(const struct machine *base)
{
    const struct jupyter_machine *m = (const struct jupyter_machine *)base;
    return m->session ? jupyter_session_folder(m->session) : NULL;
}

/* ---- the place ---- */

static void on_kernel(void *data, const char *id, bool there)
{
    const struct jupyter_place *place = data;

    if (there) {
        records_add(place->records, id);
    } else {
        records_remove(place->records, id);
    }
}

static int open_server(struct jupyter_place *place, struct error *err)
{
    const struct environment *env = place->base.env;
    struct jupyter_address address;
    int r;

    if (env->own_server) {
        place->own =
            own_server_new(place->base.loop, env->python, on_own_ready, on_own_ended, place);
        return place->own ? 0 : error_set(err, ERROR_INTERNAL, "out of memory");
    }
    if (jupyter_address_parse(env, &address, err) < 0) {
        return -1;
    }
    place->records = records_new(address.url);
    if (!place->records) {
        jupyter_address_deinit(&address);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    place->server = jupyter_server_new(place->base.loop,
                                       &(struct jupyter_server_options){
                                           .url = address.url,
                                           .token = address.token,
                                           .headers = (const char *const *)address.headers,
                                           .on_kernel = on_kernel,
                                           .data = place,
                                       },
                                       err);
    r = place->server ? 0 : -1;
    if (r == 0) {
        place->url = address.url;
        address.url = NULL;
    }
    jupyter_address_deinit(&address);
    return r;
}

static void place_free(struct jupyter_place *place)
{
    records_free(place->records);
    free(place->orphans.failed);
    free(place->url);
    free(place);
}

static int open_place(uv_loop_t *loop, const struct environment *env, struct place **ret,
                      struct error *err)
{
    struct jupyter_place *place;

    if (jupyter_check_settings(env, err) < 0) {
        return -1;
    }
    place = calloc(1, sizeof(*place));
    if (!place) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    place->base = (struct place){
        .ops = &jupyter_module_ops, .loop = loop, .env = env, .kernel = &jupyter_kernel};
    if (env->kernel_id) {
        place->base.lacks = CAP_EPHEMERAL | CAP_REATTACH;
    } else if (env->own_server) {
        place->base.lacks = CAP_REATTACH;
    }
    if (open_server(place, err) < 0) {
        place_free(place);
        return -1;
    }
    *ret = &place->base;
    return 0;
}

static void warm(struct place *base)
{
    const struct jupyter_place *place = (const struct jupyter_place *)base;

    if (place->own) {
        own_server_start(place->own);
    }
}

static void part_closed(void *data)
{
    struct jupyter_place *place = data;
    void (*closed)(void *data) = place->closed;
    void *closed_data = place->closed_data;

    if (--place->closing_parts > 0) {
        return;
    }
    place_free(place);
    closed(closed_data);
}

static void never_used_closed(uv_handle_t *handle)
{
    struct jupyter_place *place = handle->data;

    free(handle);
    part_closed(place);
}

/* `closed` never comes before close has returned, also when there is nothing to close. */
static void close_later(struct jupyter_place *place)
{
    uv_timer_t *timer = calloc(1, sizeof(*timer));

    if (!timer) {
        abort();
    }
    uv_timer_init(place->base.loop, timer);
    timer->data = place;
    uv_close((uv_handle_t *)timer, never_used_closed);
}

static void maybe_closed(struct jupyter_place *place)
{
    if (!place->closing || place->machines || place->orphans.running || place->closing_parts > 0) {
        return;
    }
    place->closing_parts = 1;
    if (place->websockets) {
        place->closing_parts++;
        websocket_context_close(place->websockets, part_closed, place);
    }
    if (place->own) {
        place->closing_parts++;
        own_server_close(place->own, part_closed, place); /* with its struct jupyter_server */
    } else if (place->server) {
        place->closing_parts++;
        jupyter_server_close(place->server, part_closed, place);
    }
    close_later(place);
}

static void close_place(struct place *base, void (*closed)(void *data), void *data)
{
    struct jupyter_place *place = (struct jupyter_place *)base;

    place->closing = true;
    place->closed = closed;
    place->closed_data = data;
    maybe_closed(place);
}

static const char *const languages[] = {"python", "shell", NULL};

const struct place_ops jupyter_module_ops = {
    .name = "jupyter",
    .capabilities = JUPYTER_CAPABILITIES,
    .languages = languages,
    .open = open_place,
    .warm = warm,
    .check = jupyter_check,
    .close = close_place,
    .share_check = jupyter_check_share,
    .machine_new = machine_new,
    .machine_start = machine_start,
    .machine_put = machine_put,
    .machine_put_cancel = machine_put_cancel,
    .machine_file = machine_file,
    .machine_interrupt = machine_interrupt,
    .machine_kill = machine_kill,
    .machine_close = machine_close,
    .machine_folder = machine_folder,
    .machine_where = machine_where,
    .machine_leave = machine_leave,
};
