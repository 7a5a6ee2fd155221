#include "tests/unit/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mcp/artifacts.h"
#include "mcp/run_record.h"
#include "mcp/session.h"
#include "mcp/session_secrets.h"
#include "mcp/snapshots.h"
#include "tests/unit/cmocka_all.h"

enum { RECEIVE_CAP = 64 * 1024 * 1024 };

/* ---- sessions that hold nothing ---- */

struct fake_sessions fake_sessions;

struct sessions {
    uv_timer_t timer;
    void (*closed)(void *data);
    void *data;
    struct artifacts *artifacts;
};

struct sessions *sessions_new(uv_loop_t *loop, const struct config *config, struct log *log)
{
    struct sessions *s = calloc(1, sizeof *s);
    (void)config;
    (void)log;
    s->artifacts = artifacts_new(loop);
    uv_timer_init(loop, &s->timer);
    s->timer.data = s;
    fake_sessions.opened++;
    return s;
}

/* Runs leave nothing here to be read. */
struct artifacts *sessions_artifacts(struct sessions *sessions)
{
    return sessions->artifacts;
}

static void on_sessions_closed(uv_handle_t *handle)
{
    struct sessions *s = handle->data;
    fake_sessions.closed++;
    s->closed(s->data);
    artifacts_free(s->artifacts);
    free(s);
}

void sessions_close(struct sessions *sessions, void (*closed)(void *data), void *data)
{
    sessions->closed = closed;
    sessions->data = data;
    uv_close((uv_handle_t *)&sessions->timer, on_sessions_closed);
}

struct mask *sessions_mask(const struct sessions *sessions)
{
    (void)sessions;
    return NULL;
}

struct snapshots *snapshots_new(void)
{
    return calloc(1, 1);
}

void snapshots_free(struct snapshots *snapshots)
{
    free(snapshots);
}

struct run_records *run_records_new(uv_loop_t *loop)
{
    (void)loop;
    return calloc(1, 1);
}

void run_records_free(struct run_records *records)
{
    free(records);
}

/* ---- turning ---- */

struct alarm {
    uv_timer_t timer;
    bool rang;
};

static void on_alarm(uv_timer_t *timer)
{
    ((struct alarm *)timer->data)->rang = true;
}

static void receive(struct wire *w)
{
    enum { PIECE = 65536 };
    char *space;
    assert_int_equal(buffer_reserve(&w->received, PIECE, &space), 0);
    ssize_t n = w->from >= 0 ? read(w->from, space, PIECE) : 0;
    if (n > 0) {
        buffer_commit(&w->received, (size_t)n);
    }
}

static bool has_line(struct wire *w)
{
    receive(w);
    size_t size = buffer_size(&w->received);
    return size > 0 && memchr(buffer_data(&w->received), '\n', size);
}

static bool has_stopped(struct wire *w)
{
    return w->stopped;
}

static bool never(struct wire *w)
{
    (void)w;
    return false;
}

/* Turns the loop until `done` or for `ms`; our own ends are no handles of it, so they are looked at
 * every millisecond. */
static bool turn_until(struct wire *w, bool (*done)(struct wire *w), unsigned ms)
{
    struct alarm tick = {0};
    uint64_t end = uv_hrtime() + ms * 1000000ull;
    bool is_done;
    uv_timer_init(&w->loop, &tick.timer);
    tick.timer.data = &tick;
    uv_update_time(&w->loop);
    uv_timer_start(&tick.timer, on_alarm, 1, 1);
    while (!(is_done = done(w)) && uv_hrtime() < end) {
        uv_run(&w->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&tick.timer, NULL);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    return is_done;
}

void wire_turn(struct wire *w, unsigned ms)
{
    turn_until(w, never, ms);
}

void wire_wait_stopped(struct wire *w)
{
    assert_true(turn_until(w, has_stopped, WIRE_LIMIT_MS));
}

/* ---- life ---- */

static void on_stopped(void *data)
{
    struct wire *w = data;
    assert_false(w->stopped);
    w->stopped = true;
}

static void open_with(struct wire *w, const struct tool *const *tools)
{
    int from_server[2];
    struct error err = {0};
    fake_sessions = (struct fake_sessions){0};
    assert_int_equal(pipe2(from_server, O_CLOEXEC), 0);
    w->from = from_server[0];
    w->out_fd = from_server[1];
    fcntl(w->from, F_SETFL, O_NONBLOCK);
    buffer_init(&w->received, RECEIVE_CAP);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    struct server_options options = {
        .config = &w->config, .tools = tools, .in_fd = w->in_fd, .out_fd = w->out_fd};
    w->server = server_new(&w->loop, &options, on_stopped, w, &err);
    assert_non_null(w->server);
    assert_false(w->stopped);
}

void wire_open_input(struct wire *w, const struct tool *const *tools, int in_fd)
{
    *w = (struct wire){.to = -1, .in_fd = in_fd};
    open_with(w, tools);
}

void wire_open(struct wire *w, const struct tool *const *tools)
{
    int to_server[2];
    assert_int_equal(pipe2(to_server, O_CLOEXEC), 0);
    *w = (struct wire){.to = to_server[1], .in_fd = to_server[0]};
    fcntl(w->to, F_SETFL, O_NONBLOCK);
    open_with(w, tools);
}

void wire_end_input(struct wire *w)
{
    close(w->to);
    w->to = -1;
}

void wire_close(struct wire *w)
{
    if (w->to >= 0) {
        wire_end_input(w);
    }
    wire_wait_stopped(w);
    server_free(w->server);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    assert_int_equal(fake_sessions.opened, fake_sessions.closed);
    buffer_deinit(&w->received);
    close(w->in_fd);
    close(w->out_fd);
    if (w->from >= 0) {
        close(w->from);
    }
}

/* ---- messages ---- */

void wire_send_bytes(struct wire *w, const char *bytes, size_t size)
{
    uint64_t end = uv_hrtime() + WIRE_LIMIT_MS * 1000000ull;
    while (size > 0 && uv_hrtime() < end) {
        ssize_t n = write(w->to, bytes, size);
        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        } else {
            assert_int_equal(errno, EAGAIN);
            wire_turn(w, 1);
            receive(w);
        }
    }
    assert_int_equal(size, 0);
}

static char *double_quotes(const char *text)
{
    char *copy = strdup(text);
    for (char *p = copy; *p; p++) {
        if (*p == '\'') {
            *p = '"';
        }
    }
    return copy;
}

void wire_send(struct wire *w, const char *line)
{
    char *text = double_quotes(line);
    wire_send_bytes(w, text, strlen(text));
    wire_send_bytes(w, "\n", 1);
    free(text);
}

json_t *wire_read(struct wire *w)
{
    if (!turn_until(w, has_line, WIRE_LIMIT_MS)) {
        fail_msg("no message came");
    }
    const char *line = buffer_data(&w->received);
    size_t size = (size_t)((const char *)memchr(line, '\n', buffer_size(&w->received)) - line);
    json_t *value = json_loadb(line, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    assert_non_null(value);
    buffer_consume(&w->received, size + 1);
    return value;
}

void wire_expect(struct wire *w, const char *json)
{
    char *text = double_quotes(json);
    json_t *expected = json_loads(text, 0, NULL);
    json_t *got = wire_read(w);
    assert_non_null(expected);
    if (!json_equal(expected, got)) {
        fail_msg("expected %s\ngot      %s", text, json_dumps(got, JSON_COMPACT));
    }
    json_decref(expected);
    json_decref(got);
    free(text);
}

void wire_initialize(struct wire *w, const char *version, const char *capabilities)
{
    json_t *message = json_pack("{s:s, s:i, s:s, s:{s:s, s:o}}", "jsonrpc", "2.0", "id", 0,
                                "method", "initialize", "params", "protocolVersion", version,
                                "capabilities", json_loads(capabilities, 0, NULL));
    char *line = json_dumps(message, JSON_COMPACT);
    wire_send(w, line);
    free(line);
    json_decref(message);
    message = wire_read(w);
    assert_non_null(json_object_get(message, "result"));
    json_decref(message);
    wire_send(w, "{'jsonrpc':'2.0','method':'notifications/initialized'}");
}

void wire_expect_silence(struct wire *w, unsigned ms)
{
    if (turn_until(w, has_line, ms)) {
        json_t *got = wire_read(w);
        fail_msg("unexpected: %s", json_dumps(got, JSON_COMPACT));
    }
}
