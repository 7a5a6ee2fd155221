#include "backends/jupyter/own_server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "backends/base/embedded.h"
#include "backends/base/hex.h"
#include "backends/base/strings.h"
#include "backends/local/child.h"
#include "backends/local/launch.h"

extern const struct embedded_file embedded_launcher[];

enum {
    POLL_MS = 25,
    START_MS = 60 * 1000,
    END_MS = 3000, /* SIGTERM → SIGKILL */
    TOKEN_SIZE = 65,
};

enum own_state {
    OWN_IDLE,
    OWN_STARTING, /* its line is waited for, then its answers */
    OWN_READY,
    OWN_GONE,
};

struct own_server {
    uv_loop_t *loop;
    char *python;
    enum own_state state;
    char *folder;
    char token[TOKEN_SIZE];
    struct child child;
    struct sandbox_user user; /* who we are: nobody is changed to */
    struct jupyter_server *server;
    uv_timer_t timer;
    bool probing;
    bool spawned;
    bool child_there; /* to be closed */
    uint64_t deadline;
    char *words; /* the last ones, once it has ended */
    struct error failure;
    void (*ready)(void *data, struct jupyter_server *server);
    void (*ended)(void *data, const struct error *err);
    void *data;
    bool closing;
    bool term_sent;
    unsigned parts;
    void (*closed)(void *data);
    void *closed_data;
};

static void close_step(struct own_server *own);

struct own_server *own_server_new(uv_loop_t *loop, const char *python,
                                  void (*ready)(void *data, struct jupyter_server *server),
                                  void (*ended)(void *data, const struct error *err), void *data)
{
    struct own_server *own = calloc(1, sizeof(*own));

    if (!own || (python && !(own->python = strdup(python)))) {
        free(own);
        return NULL;
    }
    own->loop = loop;
    own->ready = ready;
    own->ended = ended;
    own->data = data;
    uv_timer_init(loop, &own->timer);
    own->timer.data = own;
    return own;
}

bool own_server_is_gone(const struct own_server *own)
{
    return own->state == OWN_GONE;
}

const char *own_server_last_words(struct own_server *own)
{
    return own->words && *own->words ? own->words : "it said nothing";
}

/* ---- starting ---- */

static void make_token(char token[TOKEN_SIZE])
{
    unsigned char bytes[TOKEN_SIZE / 2];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        abort();
    }
    hex_write(bytes, sizeof(bytes), token);
}

static void add_kept(struct strings *env, const char *name)
{
    const char *value = getenv(name);

    if (value) {
        strings_add_format(env, "%s=%s", name, value);
    }
}

/* Nothing of our own environment but what a program needs to run at all. */
static void make_environment(const struct own_server *own, struct strings *env)
{
    static const char *const kept[] = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", NULL};
    const char *home = getenv("HOME");

    for (const char *const *name = kept; *name; name++) {
        add_kept(env, *name);
    }
    strings_add_format(env, "HOME=%s/home", own->folder);
    strings_add_format(env, "TMPDIR=%s/tmp", own->folder);
    strings_add_format(env, "IPYTHONDIR=%s/ipython", own->folder);
    strings_add_format(env, "JUPYTER_RUNTIME_DIR=%s/runtime", own->folder);
    strings_add_format(env, "JUPYTER_CONFIG_DIR=%s/config", own->folder);
    if (home) { /* the user's own kernels */
        strings_add_format(env, "JUPYTER_DATA_DIR=%s/.local/share/jupyter", home);
    }
    strings_add_format(env, "JUPYTER_TOKEN=%s", own->token);
    strings_add_format(env, "KG_AUTH_TOKEN=%s", own->token);
}

static void fail(struct own_server *own)
{
    own->state = OWN_GONE;
    uv_timer_stop(&own->timer);
    if (!own->closing) {
        own->ended(own->data, &own->failure);
    }
}

static void keep_words(struct own_server *own)
{
    const char *words = child_last_words(&own->child);

    free(own->words);
    own->words = strdup(words);
}

static void on_child_exited(struct child *child)
{
    struct own_server *own = child->data;
    bool was_ready = own->state == OWN_READY;

    own->spawned = false;
    keep_words(own);
    if (own->folder) {
        launch_folder_remove(own->folder);
    }
    if (own->closing) {
        close_step(own);
        return;
    }
    if (own->failure.kind == ERROR_NONE) {
        (void)error_set(&own->failure, was_ready ? ERROR_LOST : ERROR_UNSUPPORTED,
                        "the Jupyter server that was started here %s (%s %d): %s",
                        was_ready ? "has ended" : "ended before it was ready",
                        child->term_signal ? "signal" : "exit status",
                        child->term_signal ? child->term_signal : (int)child->status,
                        own_server_last_words(own));
    }
    fail(own);
}

static int spawn(struct own_server *own, const char *python)
{
    const struct embedded_file *launcher = embedded_find(embedded_launcher, "own_server.py");
    char *argv[] = {(char *)python, "-c", (char *)launcher->data, own->folder, NULL};
    struct strings env = {0};
    int r;

    make_environment(own, &env);
    r = strings_ok(&env);
    if (r == 0) {
        struct child_options options = {.file = python,
                                        .argv = argv,
                                        .envp = env.list,
                                        .cwd = own->folder,
                                        .read_stdout = true,
                                        .user = &own->user};
        r = child_spawn(own->loop, &own->child, &options, on_child_exited, own);
        own->child_there = true;
        own->spawned = r == 0;
    }
    strings_free(&env);
    return r;
}

/* The line that it says where it listens: one JSON object. */
static json_t *read_line(struct own_server *own)
{
    const char *text = buffer_data(&own->child.out_text);
    size_t size = buffer_size(&own->child.out_text);
    const char *end = text && size ? memchr(text, '\n', size) : NULL;

    return end ? json_loadb(text, (size_t)(end - text), 0, NULL) : NULL;
}

static void make_server(struct own_server *own, json_t *line)
{
    const char *path = json_string_value(json_object_get(line, "socket"));
    json_int_t port = json_integer_value(json_object_get(line, "port"));
    char url[64] = "http://localhost";
    struct jupyter_server_options options = {.url = url, .token = own->token, .unix_socket = path};

    if (!path) {
        (void)snprintf(url, sizeof(url), "http://127.0.0.1:%d", (int)(port & 0xffff));
    }
    own->server = jupyter_server_new(own->loop, &options, &own->failure);
}

static void on_probed(void *data, const struct error *err)
{
    struct own_server *own = data;

    own->probing = false;
    if (own->closing) {
        close_step(own);
    } else if (!err && own->state == OWN_STARTING) {
        own->state = OWN_READY;
        uv_timer_stop(&own->timer);
        own->ready(own->data, own->server);
    }
}

static void give_up(struct own_server *own)
{
    keep_words(own);
    (void)error_set(&own->failure, ERROR_TIMEOUT,
                    "the Jupyter server that was started here did not answer within %d s; it said "
                    "last: %s",
                    START_MS / 1000, own_server_last_words(own));
    child_kill(&own->child);
    fail(own);
}

static void on_poll(uv_timer_t *timer)
{
    struct own_server *own = timer->data;
    json_t *line;

    if (own->state != OWN_STARTING || own->probing) {
        return;
    }
    if (uv_now(own->loop) > own->deadline) {
        give_up(own);
        return;
    }
    line = own->server ? NULL : read_line(own);
    if (line) {
        make_server(own, line);
        json_decref(line);
    }
    if (own->server) {
        own->probing = true;
        jupyter_server_probe(own->server, on_probed, own);
    }
}

static void on_cannot(uv_timer_t *timer)
{
    fail(timer->data);
}

void own_server_start(struct own_server *own)
{
    char *python;
    int r;

    if (own->state != OWN_IDLE) {
        return;
    }
    own->state = OWN_STARTING;
    own->deadline = uv_now(own->loop) + START_MS;
    make_token(own->token);
    python = own_python_find(own->python);
    r = launch_folder_make(&own->user, &own->folder);
    if (r == 0 && python) {
        r = spawn(own, python);
    }
    if (!python || r < 0) {
        (void)error_set_code(&own->failure, ERROR_UNSUPPORTED, python ? r : -ENOENT,
                             "a Jupyter server could not be started with %s",
                             python ? python : "python3 (none on PATH)");
        uv_timer_start(&own->timer, on_cannot, 0, 0);
    } else {
        uv_timer_start(&own->timer, on_poll, POLL_MS, POLL_MS);
    }
    free(python);
}

/* ---- ending ---- */

static void part_closed(struct own_server *own)
{
    void (*closed)(void *data) = own->closed;
    void *data = own->closed_data;

    if (--own->parts > 0) {
        return;
    }
    error_clear(&own->failure);
    free(own->words);
    free(own->folder);
    free(own->python);
    free(own);
    closed(data);
}

static void on_server_closed(void *data)
{
    part_closed(data);
}

static void on_child_closed(struct child *child)
{
    part_closed(child->data);
}

static void on_timer_closed(uv_handle_t *handle)
{
    part_closed(handle->data);
}

static void on_patience_over(uv_timer_t *timer)
{
    struct own_server *own = timer->data;

    if (own->spawned) {
        child_kill(&own->child);
    }
}

/* One thing after the other: its end, then what we have of it. */
static void close_step(struct own_server *own)
{
    if (own->probing || own->parts > 0) {
        return;
    }
    if (own->spawned) {
        if (!own->term_sent) {
            own->term_sent = true;
            (void)uv_process_kill(&own->child.process, SIGTERM);
            uv_timer_start(&own->timer, on_patience_over, END_MS, 0);
        }
        return;
    }
    if (own->folder) {
        launch_folder_remove(own->folder);
    }
    own->parts = 1 + (own->server != NULL) + own->child_there;
    if (own->server) {
        jupyter_server_close(own->server, on_server_closed, own);
    }
    if (own->child_there) {
        child_close(&own->child, on_child_closed);
    }
    uv_close((uv_handle_t *)&own->timer, on_timer_closed);
}

void own_server_close(struct own_server *own, void (*closed)(void *data), void *data)
{
    own->closing = true;
    own->closed = closed;
    own->closed_data = data;
    uv_timer_stop(&own->timer);
    close_step(own);
}
