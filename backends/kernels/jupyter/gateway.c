#include "backends/kernels/jupyter/gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/hex.h"
#include "backends/base/strings.h"
#include "backends/kernels/jupyter/jupyter.h"
#include "backends/kernels/jupyter/server.h"
#include "backends/kernels/jupyter/tunnel.h"

enum { TOKEN_BYTES = 24, REASON_SIZE = 1024 };

/* In memory, and where no code looks for files. */
#define OWN_FOLDER "/dev/shm/.jupyter"

/* The gateway without what a checker of URIs in other languages costs, which it has as a dependency
 * of a dependency and never asks: two seconds of reading a grammar, at each start. Only its own
 * process lacks it; isolated, since the folder that it starts in may be the code's. */
static const char launcher[] = "import gc, sys\n"
                               "sys.modules['rfc3987_syntax'] = None\n"
                               "gc.disable()\n" /* a sixth of what the imports take */
                               "from kernel_gateway import launch_instance\n"
                               "gc.enable()\n"
                               "sys.exit(launch_instance())";

struct gateway {
    struct occupant base;
    uv_loop_t *loop;
    struct websocket_context *websockets;
    json_t *env;
    json_int_t data_limit, disk_limit, processes;
    struct occupant_events events;
    void *data;
    char token[2 * TOKEN_BYTES + 1];
    char *tag;
    char *python, *url, *ca_file; /* NULL: as in a container */
    char starting[64];            /* for people */
    json_t *where;
    json_int_t keep_seconds;
    bool own;       /* as in a container: its keeper is the first process */
    bool left;      /* the session and its gateway go on */
    unsigned looks; /* whether the one that was left still runs something */
    bool another;   /* what was sought is not there */
    struct tunnel *tunnel;
    struct jupyter_server *server;   /* NULL until it listens */
    struct jupyter_session *session; /* NULL until a worker was wanted */
    bool probing;
    bool live; /* a worker was asked for, and has not ended */
    bool over; /* the stream has ended, it was broken off, or it is being closed */
    char reason[REASON_SIZE];
    uint64_t opened_ms;
    uv_timer_t timer;
    void (*closed)(void *data);
    void *closed_data;
};

void gateway_command(const char *python, const char *argv[6])
{
    tunnel_command(python, argv);
}

/* ---- what went wrong ---- */

static void break_off(struct gateway *g, const char *why)
{
    if (!g->over) {
        g->over = true;
        uv_timer_stop(&g->timer);
        g->events.base.on_broken(g->data, why);
    }
}

static void on_reason(uv_timer_t *timer)
{
    struct gateway *g = timer->data;
    break_off(g, g->reason);
}

/* Unless something better is known by then. */
static void break_off_in(struct gateway *g, unsigned ms, const char *why)
{
    (void)snprintf(g->reason, sizeof(g->reason), "%s", why);
    uv_timer_start(&g->timer, on_reason, ms, 0);
}

static void on_tunnel_broken(void *data, const char *why)
{
    break_off(data, why);
}

static void on_gateway_gone(void *data)
{
    struct gateway *g = data;

    g->another = g->where != NULL;
    break_off(g, "the Kernel Gateway in it has ended");
}

/* ---- getting ready ---- */

static void probe(struct gateway *g);

static void on_probe_time(uv_timer_t *timer)
{
    probe(timer->data);
}

static void on_probed(void *data, const struct error *err)
{
    struct gateway *g = data;
    uint64_t age = uv_now(g->loop) - g->opened_ms;
    char why[REASON_SIZE];

    g->probing = false;
    if (g->over) {
        return;
    }
    if (!err) {
        uv_timer_stop(&g->timer);
        g->events.base.on_greeting(g->data, "");
    } else if (age < GATEWAY_READY_MS && err->kind == ERROR_LOST) {
        uv_timer_start(&g->timer, on_probe_time, GATEWAY_PROBE_MS, 0);
    } else {
        (void)snprintf(why, sizeof(why), "the Kernel Gateway does not answer: %.900s",
                       err->message);
        break_off(g, why);
    }
}

static void probe(struct gateway *g)
{
    g->probing = true;
    jupyter_server_probe(g->server, on_probed, g);
}

static void on_listening(void *data)
{
    struct gateway *g = data;
    struct jupyter_server_options options;
    struct error err = {0};

    if (g->server || g->over) {
        return;
    }
    options = (struct jupyter_server_options){
        .url = g->url ? g->url : "http://127.0.0.1:8888",
        .token = g->token,
        .unix_socket = g->url ? NULL : tunnel_path(g->tunnel),
        .ca_file = g->ca_file,
    };
    g->server = jupyter_server_new(g->loop, &options, &err);
    if (g->server) {
        probe(g);
    } else {
        break_off(g, err.message);
    }
    error_clear(&err);
}

static json_t *configuration(const struct gateway *g)
{
    json_t *config;

    if (g->where) { /* its gateway listens already */
        return json_pack("{s:i, s:b}", "port", GATEWAY_PORT, "first", g->own);
    }
    config = json_pack(
        "{s:[s, s, s, s, s, s, s, s, s, s, s], s:{s:s, s:s, s:s, s:s, s:s, s:s, s:s}, s:i, s:I}",
        "argv", g->python, "-I", "-c", launcher,
        g->url ? "--KernelGatewayApp.ip=0.0.0.0" : "--KernelGatewayApp.ip=127.0.0.1",
        "--KernelGatewayApp.port=8888", "--KernelGatewayApp.port_retries=0",
        "--KernelGatewayApp.log_level=WARN", "--JupyterWebsocketPersonality.list_kernels=True",
        /* A server that drops output is one that lies about it. */
        "--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=0",
        "--ZMQChannelsWebsocketConnection.iopub_data_rate_limit=0", "env", "HOME", "/workspace",
        "IPYTHONDIR", OWN_FOLDER "/ipython", "JUPYTER_CONFIG_DIR", OWN_FOLDER "/config",
        "JUPYTER_DATA_DIR", OWN_FOLDER "/data", "JUPYTER_RUNTIME_DIR", OWN_FOLDER "/runtime",
        "KG_AUTH_TOKEN", g->token, "PIP_TARGET", "/workspace/.local/cellblock-packages", "port",
        GATEWAY_PORT, "data", g->data_limit);
    if (config && g->disk_limit > 0) {
        json_object_set_new(config, "disk", json_integer(g->disk_limit));
    }
    if (config && g->processes > 0) {
        json_object_set_new(config, "processes", json_integer(g->processes));
    }
    if (config && g->tag) {
        json_object_set_new(config, "keep", json_integer(g->keep_seconds));
    }
    return config;
}

/* ---- the session ---- */

static void on_started(void *data, struct link *link)
{
    struct gateway *g = data;

    if (!g->over) {
        g->events.base.on_worker(g->data, link);
    }
}

static void on_waiting(void *data, const char *what)
{
    struct gateway *g = data;

    (void)what; /* which server it is says nothing here */
    if (!g->over) {
        g->events.on_waiting(g->data, g->starting);
    }
}

static void on_exit_event(void *data, const struct machine_exit *exit)
{
    struct gateway *g = data;

    g->live = false;
    if (g->over) {
        return;
    }
    g->another = g->where && exit->kind == ERROR_NOT_FOUND;
    if (g->another) {
        break_off_in(g, 0, exit->message ? exit->message : "the kernel is gone");
    } else if (exit->kept) {
        g->events.base.on_worker_exit(g->data, exit);
    } else {
        break_off_in(g, GATEWAY_LOST_MS,
                     exit->message ? exit->message : "the Kernel Gateway does not answer");
    }
}

static void begin_session(struct gateway *g)
{
    static const struct jupyter_session_events events = {on_started, on_waiting, on_exit_event};
    struct jupyter_session_options options = {
        .workspace = "/workspace", .env = g->env, .tag = g->tag, .where = g->where};

    if (!g->session) {
        g->session = jupyter_session_new(g->server, g->websockets, &options, &events, g);
    }
    if (g->session) {
        g->live = true;
        jupyter_session_start(g->session);
    } else {
        break_off_in(g, 0, "out of memory");
    }
}

/* ---- a run that goes on since its server was killed: nobody would be told how it ends ---- */

static void look(struct gateway *g);

static void on_look_time(uv_timer_t *timer)
{
    look(timer->data);
}

static void call_kernel(struct gateway *g, const char *method, const char *what,
                        jupyter_answered answered)
{
    const char *kernel = json_string_value(json_object_get(g->where, "kernel"));
    char *id = http_escape(kernel ? kernel : "");
    char *path = id ? string_format("/api/kernels/%s%s", id, what) : NULL;

    if (path) {
        jupyter_server_call(g->server, method, path, NULL, GATEWAY_ASK_MS, answered, g);
    } else {
        break_off_in(g, 0, "out of memory");
    }
    free(path);
    free(id);
}

static void on_interrupted(void *data, long status, json_t *body, const struct error *err)
{
    struct gateway *g = data;

    (void)status;
    (void)body;
    (void)err; /* the next look tells */
    if (!g->over) {
        uv_timer_start(&g->timer, on_look_time, GATEWAY_LOOK_MS, 0);
    }
}

/* What does not end is waited for as long as any start is. */
static void on_looked(void *data, long status, json_t *body, const struct error *err)
{
    struct gateway *g = data;
    const char *state = json_string_value(json_object_get(body, "execution_state"));

    (void)status;
    if (g->over) {
        return;
    }
    if (err || !state || strcmp(state, "busy") != 0 || g->looks == GATEWAY_LOOKS) {
        begin_session(g); /* which finds out what is wrong */
    } else if (g->looks++ == 0) {
        call_kernel(g, "POST", "/interrupt", on_interrupted);
    } else {
        uv_timer_start(&g->timer, on_look_time, GATEWAY_LOOK_MS, 0);
    }
}

static void look(struct gateway *g)
{
    call_kernel(g, "GET", "", on_looked);
}

static void start_worker(struct occupant *o)
{
    struct gateway *g = (struct gateway *)o;

    if (g->where && !g->session) {
        look(g);
    } else {
        begin_session(g);
    }
}

static void attached(struct occupant *o)
{
    (void)o; /* nothing comes on its link before somebody has attached */
}

static void interrupt(struct occupant *o)
{
    struct gateway *g = (struct gateway *)o;

    if (g->live) {
        jupyter_session_interrupt(g->session);
    }
}

/* A kernel that is stuck is not asked: its processes are ended, then the server told. */
static void kill_worker(struct occupant *o)
{
    struct gateway *g = (struct gateway *)o;

    if (g->live) {
        tunnel_kill(g->tunnel);
        jupyter_session_kill(g->session);
    }
}

static void put(struct occupant *o, const struct share *share, executor_progress progress,
                executor_done done, void *data)
{
    struct gateway *g = (struct gateway *)o;

    jupyter_session_put(g->session, share, progress, done, data);
}

static void put_cancel(struct occupant *o)
{
    struct gateway *g = (struct gateway *)o;

    if (g->session) {
        jupyter_session_put_cancel(g->session);
    }
}

static void file(struct occupant *o, const struct file_request *request, file_done done, void *data)
{
    jupyter_session_file(((struct gateway *)o)->session, request, done, data);
}

static void feed(struct occupant *o, const char *bytes, size_t size)
{
    tunnel_feed(((struct gateway *)o)->tunnel, bytes, size);
}

static void ended(struct occupant *o, const char *reason)
{
    struct gateway *g = (struct gateway *)o;

    (void)reason;
    g->over = true;
    uv_timer_stop(&g->timer);
    tunnel_ended(g->tunnel);
}

/* ---- closing: session, server, tunnel, timer ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct gateway *g = handle->data;
    void (*closed)(void *data) = g->closed;
    void *data = g->closed_data;

    json_decref(g->env);
    json_decref(g->where);
    free(g->tag);
    free(g->python);
    free(g->url);
    free(g->ca_file);
    explicit_bzero(g->token, sizeof(g->token));
    free(g);
    closed(data);
}

static void on_tunnel_closed(void *data)
{
    struct gateway *g = data;
    uv_close((uv_handle_t *)&g->timer, on_timer_closed);
}

static void on_server_closed(void *data)
{
    struct gateway *g = data;
    tunnel_close(g->tunnel, on_tunnel_closed, g);
}

static void on_session_closed(void *data)
{
    struct gateway *g = data;

    if (g->server) {
        jupyter_server_close(g->server, on_server_closed, g);
    } else {
        on_server_closed(g);
    }
}

/* The container goes with all that is in it: nobody has to be asked to leave. */
static void close_it(struct occupant *o, void (*closed)(void *data), void *data)
{
    struct gateway *g = (struct gateway *)o;

    if (!g->left) {
        ended(o, NULL);
    }
    g->over = true;
    uv_timer_stop(&g->timer);
    g->closed = closed;
    g->closed_data = data;
    if (g->session) {
        jupyter_session_abandon(g->session);
        jupyter_session_close(g->session, on_session_closed, g);
    } else {
        on_session_closed(g);
    }
}

/* ---- life ---- */

static int make_token(char token[2 * TOKEN_BYTES + 1])
{
    unsigned char bytes[TOKEN_BYTES];

    if (getentropy(bytes, sizeof(bytes)) < 0) {
        return -1;
    }
    hex_write(bytes, sizeof(bytes), token);
    return 0;
}

static int open_tunnel(struct gateway *g, struct byte_stream *stream, struct error *err)
{
    static const struct tunnel_events events = {on_listening, on_gateway_gone, on_tunnel_broken};
    json_t *config;
    int r = -1;

    g->tunnel = tunnel_new(g->loop, stream, &events, g, err);
    if (!g->tunnel) {
        return -1;
    }
    config = configuration(g);
    if (config) {
        r = tunnel_open(g->tunnel, config);
    }
    json_decref(config);
    return r < 0 ? error_set(err, ERROR_INTERNAL, "out of memory") : 0;
}

static json_t *where_of(const struct occupant *o)
{
    const struct gateway *g = (const struct gateway *)o;

    return g->session ? jupyter_session_where(g->session) : NULL;
}

static void leave(struct occupant *o, bool interrupt)
{
    struct gateway *g = (struct gateway *)o;

    if (g->session && !g->over) {
        g->left = true;
        jupyter_session_leave(g->session, interrupt);
    }
}

static bool is_another(const struct occupant *o)
{
    return ((const struct gateway *)o)->another;
}

static void nobody(void *data)
{
    (void)data;
}

struct occupant *gateway_new(uv_loop_t *loop, struct byte_stream *stream,
                             const struct gateway_options *options,
                             const struct occupant_events *events, void *data, struct error *err)
{
    static const struct occupant_ops ops = {
        feed,     ended,      start_worker, attached, interrupt, kill_worker, put,
        close_it, put_cancel, file,         NULL,     where_of,  leave,       is_another};
    struct gateway *g = calloc(1, sizeof(*g));

    if (!g || make_token(g->token) < 0) {
        free(g);
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    g->base.ops = &ops;
    g->loop = loop;
    g->websockets = options->websockets;
    g->env = json_incref(options->env);
    g->data_limit = (json_int_t)(options->memory_mib + GATEWAY_STACKS_MIB) * 1024 * 1024;
    g->disk_limit = (json_int_t)options->disk_mib * 1024 * 1024;
    g->processes = (json_int_t)options->processes;
    g->tag = options->tag ? strdup(options->tag) : NULL;
    g->where = json_incref(options->where);
    g->keep_seconds = (json_int_t)options->keep_seconds;
    if (options->token) {
        (void)snprintf(g->token, sizeof(g->token), "%.*s", 2 * TOKEN_BYTES, options->token);
    }
    (void)snprintf(g->starting, sizeof(g->starting), "starting a kernel in the %.30s",
                   options->where_it_is ? options->where_it_is : "container");
    g->own = options->where_it_is == NULL;
    g->python = strdup(options->python);
    g->url = options->url ? strdup(options->url) : NULL;
    g->ca_file = options->ca_file ? strdup(options->ca_file) : NULL;
    g->events = *events;
    g->data = data;
    g->opened_ms = uv_now(loop);
    uv_timer_init(loop, &g->timer);
    g->timer.data = g;
    g->closed = nobody;
    if (open_tunnel(g, stream, err) < 0) {
        g->over = true;
        if (g->tunnel) {
            tunnel_close(g->tunnel, on_tunnel_closed, g);
        } else {
            on_tunnel_closed(g);
        }
        return NULL;
    }
    break_off_in(g, GATEWAY_READY_MS, "the Kernel Gateway was not ready in time");
    return &g->base;
}
