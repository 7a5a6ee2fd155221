#include "tests/unit/websocket-trial.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

static void read_line(int fd, char line[LINE])
{
    size_t size = 0;
    while (size < LINE - 1 && read(fd, line + size, 1) == 1 && line[size] != '\n') {
        size++;
    }
    line[size] = '\0';
}

int start_server(void **state)
{
    struct server *s = calloc(1, sizeof(*s));
    char script[512], line[LINE];
    int in[2], out[2];
    strcpy(s->folder, "/tmp/test-websocket-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    const char *root = getenv("CELLBLOCK_SOURCE_ROOT");
    snprintf(script, sizeof(script), "%s/tests/unit/websocket_server.py", root ? root : ".");
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    s->pid = fork();
    if (s->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execlp("python3", "python3", "-S", "-E", script, s->folder, NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    s->in = in[1];
    s->out = out[0];
    read_line(s->out, line);
    char *at = line;
    s->plain = (int)strtol(at, &at, 10);
    s->tls = (int)strtol(at, &at, 10);
    s->wrong = (int)strtol(at, &at, 10);
    s->silent = (int)strtol(at, &at, 10);
    s->tls6 = (int)strtol(at, &at, 10);
    s->wrong6 = (int)strtol(at, &at, 10);
    *state = s;
    return s->silent > 0 ? 0 : -1;
}

int stop_server(void **state)
{
    struct server *s = *state;
    char command[256];
    close(s->in);
    close(s->out);
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    snprintf(command, sizeof(command), "rm -rf %s", s->folder);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a fixed name of our own
    free(s);
    return 0;
}

void assert_server_says(struct server *s, const char *want)
{
    char line[LINE] = "?";
    while (line[0] && strcmp(line, want) != 0) {
        read_line(s->out, line);
    }
    assert_string_equal(line, want);
}

bool hear(struct server *s, const char *what)
{
    char space[4096] = "";
    bool said = false;
    fcntl(s->out, F_SETFL, O_NONBLOCK);
    for (ssize_t n; (n = read(s->out, space, sizeof(space))) > 0;) {
        said = said || memmem(space, (size_t)n, what, strlen(what));
    }
    fcntl(s->out, F_SETFL, 0);
    return said;
}

/* ---- the client ---- */

static void on_closed(void *data)
{
    ((struct client *)data)->closed++;
}

static void on_context_closed(void *data)
{
    ((struct client *)data)->context_closed++;
}

void close_client(struct client *c)
{
    websocket_close(c->ws, on_closed, c);
    c->ws = NULL;
}

static void on_open(void *data, const char *subprotocol)
{
    struct client *c = data;
    assert_int_equal(c->opened + c->messages + c->ended + c->closed, 0);
    c->opened++;
    snprintf(c->subprotocol, sizeof(c->subprotocol), "%s", subprotocol);
    if (c->close_in_open) {
        close_client(c);
    }
}

static void on_message(void *data, bool binary, const char *bytes, size_t size)
{
    struct client *c = data;
    assert_non_null(c->ws);
    assert_int_equal(c->opened, 1);
    assert_int_equal(c->ended + c->closed, 0);
    c->messages++;
    c->bytes += size;
    c->binary = binary;
    buffer_reset(&c->kept);
    assert_int_equal(buffer_append(&c->kept, bytes, size), 0);
    if (c->messages == c->pause_at) {
        websocket_pause(c->ws, true);
    }
    if (c->messages == c->close_at) {
        close_client(c);
    }
}

static void on_end(void *data, long status, const struct error *err)
{
    struct client *c = data;
    assert_non_null(c->ws);
    assert_int_equal(c->ended + c->closed, 0);
    assert_non_null(err);
    assert_int_not_equal(err->kind, ERROR_NONE);
    c->ended++;
    c->status = status;
    error_copy(&c->err, err);
    if (c->close_in_end) {
        close_client(c);
    }
}

const struct websocket_events events = {on_open, on_message, on_end};

void set_up(struct client *c, struct server *server)
{
    struct error err = {0};
    *c = (struct client){.server = server};
    assert_int_equal(uv_loop_init(&c->loop), 0);
    buffer_init(&c->kept, KEEP_CAP);
    c->context = websocket_context_new(&c->loop, &err);
    if (!c->context) {
        fail_msg("%s", err.message);
    }
}

void begin(struct client *c, struct server *server, const char *path,
           struct websocket_options options)
{
    char url[4096];
    struct error err = {0};
    set_up(c, server);
    if (!options.url) {
        snprintf(url, sizeof(url), "ws://127.0.0.1:%d/%s", server->plain, path);
        options.url = url;
    }
    c->ws = websocket_open(c->context, &options, &events, c, &err);
    if (!c->ws) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(c->opened + c->ended, 0); /* nothing before it has returned */
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void free_tick(uv_handle_t *handle)
{
    free(handle);
}

void turn(struct client *c, const unsigned *count, unsigned want, unsigned limit_ms)
{
    uv_timer_t *tick = malloc(sizeof(*tick));
    const char *preload = getenv("LD_PRELOAD");
    bool valgrind = preload && strstr(preload, "vgpreload");
    unsigned patience = valgrind && limit_ms == LIMIT_MS ? 10 : 1;
    uint64_t end = uv_hrtime() + limit_ms * 1000000ull * patience;
    uv_timer_init(&c->loop, tick);
    uv_timer_start(tick, on_tick, 5, 5);
    while (*count < want && uv_hrtime() < end) {
        uv_run(&c->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)tick, free_tick);
}

void wait_for(struct client *c, const unsigned *count, unsigned want)
{
    turn(c, count, want, LIMIT_MS);
    if (*count != want) {
        fail_msg("%u instead of %u; the end: %s", *count, want,
                 c->err.message ? c->err.message : "none");
    }
}

void rest(struct client *c, unsigned ms)
{
    unsigned never = 0;
    turn(c, &never, 1, ms);
}

void finish(struct client *c)
{
    if (c->ws) {
        close_client(c);
    }
    wait_for(c, &c->closed, 1);
    websocket_context_close(c->context, on_context_closed, c);
    uint64_t began = uv_hrtime();
    uv_run(&c->loop, UV_RUN_DEFAULT);
    assert_true(uv_hrtime() - began < LIMIT_MS * 1000000ull);
    assert_int_equal(c->context_closed, 1);
    assert_int_equal(uv_loop_close(&c->loop), 0);
    buffer_deinit(&c->kept);
    error_clear(&c->err);
}

void send_text(struct client *c, const char *text)
{
    assert_int_equal(websocket_send(c->ws, false, text, strlen(text)), 0);
}

void assert_kept(struct client *c, bool binary, const char *bytes, size_t size)
{
    assert_int_equal(c->binary, binary);
    assert_int_equal(buffer_size(&c->kept), size);
    if (size > 0) {
        assert_memory_equal(buffer_data(&c->kept), bytes, size);
    }
}

char pattern_at(size_t i)
{
    return (char)(i % 251);
}

void assert_pattern(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != pattern_at(i)) {
            fail_msg("byte %zu of %zu is wrong", i, size);
        }
    }
}

void assert_ends(struct client *c, enum error_kind kind, const char *part)
{
    wait_for(c, &c->ended, 1);
    assert_int_equal(c->err.kind, kind);
    if (!strstr(c->err.message, part)) {
        fail_msg("\"%s\" is not in: %s", part, c->err.message);
    }
    finish(c);
}
