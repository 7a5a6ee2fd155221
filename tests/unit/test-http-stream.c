#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/hostile-server.h"

#include "backends/base/net/http.h"

enum { GUARD_MS = 30000 };

#define UPGRADED                                                                                   \
    "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"                 \
    "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

/* A stream on a hostile server, and what was told of it. */
struct flow {
    uv_loop_t loop;
    struct hostile *server;
    struct http *http;
    struct http_options options;
    struct http_stream *stream;
    uv_timer_t guard;
    int opens, ends, closes, http_closes;
    long status;
    char bytes[256]; /* the first ones */
    size_t got, wrong;
    unsigned calls;
    struct error err;
    bool starting;
    const char *to_send; /* when it opens */
    bool close_in_open, close_in_bytes, close_in_end, pause_in_open;
};

static void on_guard(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("the test took longer than its limit");
}

static void on_closed(void *data)
{
    struct flow *f = data;
    assert_false(f->starting);
    f->closes++;
}

static void close_stream(struct flow *f)
{
    f->starting = true;
    http_stream_close(f->stream, on_closed, f);
    f->starting = false;
    f->stream = NULL;
}

static void on_open(void *data)
{
    struct flow *f = data;
    assert_false(f->starting);
    assert_int_equal(f->opens++, 0);
    assert_int_equal(f->got, 0);
    if (f->pause_in_open) {
        http_stream_pause(f->stream, true);
    }
    if (f->to_send) {
        assert_int_equal(http_stream_write(f->stream, f->to_send, strlen(f->to_send)), 0);
    }
    if (f->close_in_open) {
        close_stream(f);
    }
}

/* Bytes count up modulo 251 in the large transfers. */
static void on_bytes(void *data, const char *bytes, size_t size)
{
    struct flow *f = data;
    assert_int_equal(f->opens, 1);
    assert_int_equal(f->ends, 0);
    assert_non_null(f->stream);
    assert_true(size > 0);
    f->calls++;
    for (size_t i = 0; i < size; i++) {
        if (f->got + i < sizeof(f->bytes) - 1) {
            f->bytes[f->got + i] = bytes[i];
        }
        f->wrong += (unsigned char)bytes[i] != (f->got + i) % 251;
    }
    f->got += size;
    if (f->close_in_bytes) {
        close_stream(f);
    }
}

static void on_end(void *data, long status, const struct error *err)
{
    struct flow *f = data;
    assert_false(f->starting);
    assert_non_null(f->stream);
    assert_int_equal(f->ends++, 0);
    f->status = status;
    if (err) {
        error_copy(&f->err, err);
    }
    assert_int_equal(http_stream_write(f->stream, "x", 1), -EPIPE);
    if (f->close_in_end) {
        close_stream(f);
    }
}

static void on_http_closed(void *data)
{
    ((struct flow *)data)->http_closes++;
}

static const struct http_stream_events events = {on_open, on_bytes, on_end};

static void open_stream(struct flow *f, const char *body)
{
    struct error err = {0};
    f->starting = true;
    f->stream = http_stream_open(f->http, "POST", "/exec/1/start?t=SECRET", body, strlen(body),
                                 &events, f, &err);
    f->starting = false;
    assert_non_null(f->stream);
}

static void start(struct flow *f, bool tcp, int buffer, const struct hostile_step *script)
{
    const struct hostile_step *const scripts[] = {script, NULL};
    struct hostile_options options = {.tcp = tcp, .buffer = buffer, .scripts = scripts};
    struct error err = {0};

    assert_int_equal(uv_loop_init(&f->loop), 0);
    uv_timer_init(&f->loop, &f->guard);
    uv_timer_start(&f->guard, on_guard, GUARD_MS, 0);
    f->server = hostile_new(&f->loop, &options);
    f->options.base = f->server->base;
    f->options.unix_socket = tcp ? NULL : f->server->socket;
    f->options.quick_ack = true;
    f->http = http_new(&f->loop, &f->options, &err);
    assert_non_null(f->http);
    open_stream(f, "{\"Tty\":false}");
    /* Every script here begins with the request's body being in. */
    while (f->server->requests == 0 && f->ends == 0) {
        assert_int_not_equal(uv_run(&f->loop, UV_RUN_ONCE), 0);
    }
}

static void until(struct flow *f, const int *counter)
{
    while (*counter == 0) {
        assert_true(uv_run(&f->loop, UV_RUN_ONCE) != 0 || *counter > 0);
    }
}

static void until_got(struct flow *f, size_t size)
{
    while (f->got < size) {
        assert_int_not_equal(uv_run(&f->loop, UV_RUN_ONCE), 0);
    }
}

/* Everything is closed in one order or the other. */
static void finish(struct flow *f)
{
    int ends = f->ends;
    if (f->stream) {
        close_stream(f);
    }
    http_close(f->http, on_http_closed, f);
    hostile_close(f->server);
    uv_close((uv_handle_t *)&f->guard, NULL);
    assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(f->ends, ends); /* not after http_stream_close */
    assert_int_equal(f->closes, 1);
    assert_int_equal(f->http_closes, 1);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    error_clear(&f->err);
}

static void assert_says(const struct flow *f, enum error_kind kind, const char *words)
{
    assert_int_equal(f->ends, 1);
    assert_non_null(f->err.message);
    if (!strstr(f->err.message, words) || strstr(f->err.message, "SECRET")) {
        fail_msg("\"%s\" is not in: %s", words, f->err.message);
    }
    assert_int_equal(f->err.kind, kind);
}

/* --- agreed ------------------------------------------------------------------------------- */

static void test_upgrade_with_glued_bytes(void **state)
{
    static const char *const answers[] = {
        UPGRADED "glued",
        "HTTP/1.1 100 Continue\r\n\r\n" UPGRADED "glued",
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nglued",
        "HTTP/1.0 200\r\n\r\nglued",
    };
    (void)state;
    for (int i = 0; i < 8; i++) {
        const struct hostile_step script[] = {
            {HOSTILE_BODY}, {HOSTILE_SEND, answers[i / 2]}, {HOSTILE_ECHO}};
        struct flow f = {.to_send = "ping"};
        start(&f, i % 2, 0, script);
        until_got(&f, 9);
        assert_string_equal(f.bytes, "gluedping");
        assert_int_equal(f.ends, 0);
        http_stream_shutdown(f.stream);
        assert_int_equal(http_stream_write(f.stream, "x", 1), -EPIPE);
        until(&f, &f.ends);
        assert_null(f.err.message);
        assert_non_null(strstr(f.server->head, "POST /exec/1/start?t=SECRET HTTP/1.1\r\nHost: "));
        assert_non_null(strstr(f.server->head, "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"));
        assert_non_null(strstr(f.server->head, "\r\nContent-Type: application/json\r\n"));
        assert_memory_equal(f.server->body, "{\"Tty\":false}ping", 17);
        finish(&f);
    }
}

static void test_head_byte_by_byte(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_BODY}, {HOSTILE_DRIP, UPGRADED "ab", 0}, {HOSTILE_CUT}};
    struct flow f = {0};
    (void)state;
    start(&f, true, 0, script);
    until(&f, &f.ends);
    assert_string_equal(f.bytes, "ab");
    assert_int_equal(f.status, 101);
    assert_null(f.err.message);
    finish(&f);
}

/* What is written before the server has agreed goes out after it has, not before. */
static void test_early_write(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_BODY}, {HOSTILE_SLEEP, NULL, 30}, {HOSTILE_SEND, UPGRADED}, {HOSTILE_ECHO}};
    struct flow f = {0};
    (void)state;
    start(&f, false, 0, script);
    assert_int_equal(http_stream_write(f.stream, "early", 5), 0);
    assert_int_equal(http_stream_queued(f.stream), 5);
    while (f.opens == 0) {
        assert_true(f.server->body_size <= 13);
        uv_run(&f.loop, UV_RUN_ONCE);
    }
    http_stream_shutdown(f.stream);
    until(&f, &f.ends);
    assert_string_equal(f.bytes, "early");
    finish(&f);
}

static void test_half_close(void **state)
{
    static const struct hostile_step script[] = {{HOSTILE_BODY},
                                                 {HOSTILE_SEND, UPGRADED "last words"},
                                                 {HOSTILE_SHUT},
                                                 {HOSTILE_SLEEP, NULL, 60000}};
    struct flow f = {0};
    (void)state;
    start(&f, false, 0, script);
    until(&f, &f.ends);
    assert_string_equal(f.bytes, "last words");
    assert_null(f.err.message);
    finish(&f);
}

/* --- large -------------------------------------------------------------------------------- */

static void test_10_mb_each_way(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_BODY}, {HOSTILE_SEND, UPGRADED}, {HOSTILE_ECHO}};
    size_t size = 10 << 20, piece = 70001;
    char *bytes = malloc(size);
    (void)state;

    for (size_t i = 0; i < size; i++) {
        bytes[i] = (char)(i % 251);
    }
    for (int tcp = 0; tcp < 2; tcp++) {
        struct flow f = {0};
        /* TCP on loopback crawls with less: its segments are as large. */
        start(&f, tcp, tcp ? 128 * 1024 : 4096, script);
        for (size_t at = 0; at < size; at += piece) {
            size_t n = size - at < piece ? size - at : piece;
            assert_int_equal(http_stream_write(f.stream, bytes + at, n), 0);
        }
        assert_int_equal(http_stream_queued(f.stream), size);
        http_stream_shutdown(f.stream);
        until(&f, &f.ends);
        assert_null(f.err.message);
        assert_int_equal(f.got, size);
        assert_int_equal(f.wrong, 0);
        finish(&f);
    }
    free(bytes);
}

static void test_queue_cap(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_BODY}, {HOSTILE_SEND, UPGRADED}, {HOSTILE_DEAF}, {HOSTILE_SLEEP, NULL, 60000}};
    size_t piece = 8 << 20;
    char *bytes = calloc(1, piece);
    struct flow f = {0};
    int r;
    (void)state;

    start(&f, false, 4096, script);
    until(&f, &f.opens);
    while ((r = http_stream_write(f.stream, bytes, piece)) == 0) {
    }
    assert_int_equal(r, -ENOBUFS);
    assert_true(http_stream_queued(f.stream) <= HTTP_STREAM_QUEUE_CAP);
    assert_true(http_stream_queued(f.stream) > HTTP_STREAM_QUEUE_CAP - piece);
    assert_int_equal(f.ends, 0);
    free(bytes);
    finish(&f);
}

static void test_pause(void **state)
{
    static const struct hostile_step script[] = {{HOSTILE_BODY},
                                                 {HOSTILE_SEND, UPGRADED "glued"},
                                                 {HOSTILE_FILL, NULL, 300000},
                                                 {HOSTILE_CUT}};
    struct flow f = {.pause_in_open = true};
    (void)state;
    start(&f, false, 4096, script);
    until(&f, &f.opens);
    for (int i = 0; i < 20; i++) {
        uv_run(&f.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(f.got, 0);
    http_stream_pause(f.stream, false);
    assert_int_equal(f.got, 0); /* from the loop only */
    until_got(&f, 5);
    http_stream_pause(f.stream, true);
    size_t then = f.got;
    for (int i = 0; i < 20; i++) {
        uv_run(&f.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(f.got, then);
    http_stream_pause(f.stream, false);
    until(&f, &f.ends);
    assert_int_equal(f.got, 300005);
    assert_memory_equal(f.bytes, "gluedxxx", 8);
    finish(&f);
}

/* A server that reads nothing more, says its last words and goes: they are told. */
static void test_last_words_of_one_that_takes_nothing(void **state)
{
    static const struct hostile_step script[] = {{HOSTILE_BODY},
                                                 {HOSTILE_SEND, UPGRADED},
                                                 {HOSTILE_DEAF},
                                                 {HOSTILE_SLEEP, NULL, 30},
                                                 {HOSTILE_SEND, "last words"},
                                                 {HOSTILE_CUT}};
    size_t size = 4 << 20;
    char *bytes = calloc(1, size);
    (void)state;
    for (int tcp = 0; tcp < 2; tcp++) {
        struct flow f = {0};
        start(&f, tcp, 4096, script);
        until(&f, &f.opens);
        assert_int_equal(http_stream_write(f.stream, bytes, size), 0);
        until(&f, &f.ends);
        assert_int_equal(http_stream_queued(f.stream), 0);
        if (!tcp) { /* a RST may overtake them on TCP */
            assert_string_equal(f.bytes, "last words");
        }
        finish(&f);
    }
    free(bytes);
}

/* --- refused, cut, wrong ------------------------------------------------------------------ */

struct refusal {
    const char *answer, *words;
    long status;
    enum error_kind kind;
    bool stays; /* the server leaves the connection open */
};

static const struct refusal refusals[] = {
    {"HTTP/1.1 404 Not Found\r\nContent-Length: 34\r\n\r\n{\"message\":\"No such exec: abcdef\"}",
     "404: No such exec: abcdef", 404, ERROR_NOT_FOUND, true},
    {"HTTP/1.1 409 Conflict\r\nContent-Length: 33\r\n\r\n{\"message\":\"container is paused\"}",
     "409: container is paused", 409, ERROR_INVALID, true},
    {"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n"
     "9\r\n{\"message\r\n15\r\n\":\"stopped, is it?\"}  \r\n0\r\n\r\n",
     "409: stopped, is it?", 409, ERROR_INVALID, true},
    {"HTTP/1.1 500 Oh\r\n\r\nwords to the end", "500: words to the end", 500, ERROR_LOST, false},
    {"HTTP/1.1 503 Oh\r\nContent-Length: 99\r\n\r\nhalf of it", "503: half of it", 503, ERROR_LOST,
     false},
    {"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "answered 401", 401, ERROR_REFUSED, true},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "did not upgrade", 200, ERROR_UNSUPPORTED,
     true},
    {"HTTP/1.1 101 Go\r\nUpgrade: h2c\r\n\r\n", "did not upgrade", 101, ERROR_UNSUPPORTED, true},
    {"", "without an answer", 0, ERROR_LOST, false},
    {"HTTP/1.1 101 Swi", "in the middle of its answer", 0, ERROR_LOST, false},
    {"SSH-2.0-OpenSSH\r\n", "not HTTP/1.1", 0, ERROR_LOST, true},
    {"HTTP/1.1 abc\r\n\r\n", "not HTTP/1.1", 0, ERROR_LOST, true},
    {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "not HTTP/1.1", 0, ERROR_LOST, true},
    {"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "not HTTP/1.1", 0, ERROR_LOST, true},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct refusal *r = &refusals[i / 2];
        const struct hostile_step script[] = {
            {HOSTILE_BODY},
            {*r->answer ? HOSTILE_SEND : HOSTILE_SLEEP, r->answer, 0},
            {r->stays ? HOSTILE_SLEEP : HOSTILE_CUT, NULL, 60000}};
        struct flow f = {0};
        start(&f, i % 2, 0, script);
        until(&f, &f.ends);
        assert_says(&f, r->kind, r->words);
        assert_int_equal(f.status, r->status);
        assert_int_equal(f.opens, 0);
        finish(&f);
    }
}

/* A refusal whose body does not end is told with what there is of it. */
static void test_endless_refusals(void **state)
{
    static const struct hostile_step stops[] = {
        {HOSTILE_BODY},
        {HOSTILE_SEND, "HTTP/1.1 500 Oh\r\nContent-Length: 99\r\n\r\nhalf"},
        {HOSTILE_SLEEP, NULL, 60000}};
    static const struct hostile_step flood[] = {
        {HOSTILE_BODY}, {HOSTILE_SEND, "HTTP/1.1 500 Oh\r\n\r\nhalf\n"}, {HOSTILE_FLOOD, "more"}};
    const struct hostile_step *const scripts[] = {stops, flood};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct flow f = {0};
        start(&f, false, 0, scripts[i]);
        until(&f, &f.ends);
        assert_says(&f, ERROR_LOST, "500: half");
        finish(&f);
    }
}

static void test_limits(void **state)
{
    static const struct hostile_step silent[] = {{HOSTILE_BODY}, {HOSTILE_SLEEP, NULL, 60000}};
    static const struct hostile_step head[] = {
        {HOSTILE_BODY}, {HOSTILE_SEND, "HTTP/1.1 200 OK\r\nX: "}, {HOSTILE_FLOOD, "yyyyyyyyyyyyy"}};
    static const struct hostile_step hints[] = {{HOSTILE_BODY},
                                                {HOSTILE_FLOOD, "HTTP/1.1 103 Hint\r\n\r\n"}};
    const struct hostile_step *const scripts[] = {silent, head, hints};
    static const char *const words[] = {"did not answer within 90 ms", "head of the answer is too",
                                        "within 90 ms"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct flow f = {.options.answer_timeout_ms = i == 1 ? 0 : 90};
        start(&f, true, 0, scripts[i]);
        until(&f, &f.ends);
        assert_says(&f, i == 1 ? ERROR_LIMIT : ERROR_TIMEOUT, words[i]);
        finish(&f);
    }
}

static void test_reset(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_BODY}, {HOSTILE_SEND, UPGRADED "abc"}, {HOSTILE_SLEEP, NULL, 20}, {HOSTILE_RESET}};
    struct flow f = {0};
    (void)state;
    start(&f, true, 0, script);
    until(&f, &f.ends);
    assert_string_equal(f.bytes, "abc");
    assert_int_equal(f.err.kind, ERROR_LOST);
    finish(&f);
}

static void test_nothing_listens(void **state)
{
    struct flow f = {.options.unix_socket = "/nonexistent/s", .options.base = "http://docker"};
    struct error err = {0};
    (void)state;
    assert_int_equal(uv_loop_init(&f.loop), 0);
    f.http = http_new(&f.loop, &f.options, &err);
    open_stream(&f, "");
    until(&f, &f.ends);
    assert_says(&f, ERROR_LOST, "nothing listens at /nonexistent/s");
    close_stream(&f);
    http_close(f.http, on_http_closed, &f);
    assert_int_equal(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&f.loop), 0);
    error_clear(&f.err);
}

/* --- closing ------------------------------------------------------------------------------ */

static void test_close_in_each_phase(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_BODY},           {HOSTILE_SLEEP, NULL, 5}, {HOSTILE_SEND, UPGRADED "glued"},
        {HOSTILE_SLEEP, NULL, 5}, {HOSTILE_SEND, "HTTP"},   {HOSTILE_SLEEP, NULL, 60000}};
    (void)state;
    for (int turns = 0; turns < 16; turns++) {
        struct flow f = {.to_send = "ping"};
        start(&f, turns % 2, 0, script);
        for (int i = 0; i < turns && f.got < 9; i++) {
            uv_run(&f.loop, UV_RUN_ONCE);
        }
        finish(&f);
    }
}

static void test_close_at_once(void **state)
{
    static const struct hostile_step script[] = {{HOSTILE_BODY}, {HOSTILE_SLEEP, NULL, 60000}};
    struct flow f = {0};
    (void)state;
    start(&f, false, 0, script);
    close_stream(&f);
    until(&f, &f.closes);
    f.closes = 0;
    open_stream(&f, "{}"); /* not a turn of the loop */
    finish(&f);
}

static void test_close_inside_callbacks(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_BODY}, {HOSTILE_SEND, UPGRADED "glued"}, {HOSTILE_SLEEP, NULL, 5}, {HOSTILE_CUT}};
    (void)state;
    for (int where = 0; where < 3; where++) {
        struct flow f = {.close_in_open = where == 0,
                         .close_in_bytes = where == 1,
                         .close_in_end = where == 2,
                         .to_send = "ping"};
        start(&f, false, 0, script);
        until(&f, &f.closes);
        assert_int_equal(f.calls, where == 0 ? 0 : 1);
        assert_int_equal(f.ends, where == 2);
        finish(&f);
    }
}

/* The server's object goes first: its streams end, and are closed later. */
static void test_http_closed_first(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_BODY}, {HOSTILE_SEND, UPGRADED "glued"}, {HOSTILE_SLEEP, NULL, 60000}};
    struct flow f = {0};
    struct error err = {0};
    (void)state;
    start(&f, false, 0, script);
    until_got(&f, 5);
    http_close(f.http, on_http_closed, &f);
    assert_null(http_stream_open(f.http, "POST", "/", "", 0, &events, &f, &err));
    assert_int_equal(err.kind, ERROR_LOST);
    error_clear(&err);
    assert_int_equal(f.ends, 0);
    until(&f, &f.http_closes);
    assert_says(&f, ERROR_LOST, "cancelled");
    close_stream(&f);
    hostile_close(f.server);
    uv_close((uv_handle_t *)&f.guard, NULL);
    assert_int_equal(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(f.closes, 1);
    assert_int_equal(uv_loop_close(&f.loop), 0);
    error_clear(&f.err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upgrade_with_glued_bytes),
        cmocka_unit_test(test_head_byte_by_byte),
        cmocka_unit_test(test_early_write),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_10_mb_each_way),
        cmocka_unit_test(test_queue_cap),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_last_words_of_one_that_takes_nothing),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_endless_refusals),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_nothing_listens),
        cmocka_unit_test(test_close_in_each_phase),
        cmocka_unit_test(test_close_at_once),
        cmocka_unit_test(test_close_inside_callbacks),
        cmocka_unit_test(test_http_closed_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
