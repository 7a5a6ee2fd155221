#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/grpc-trial.h"
#include "tests/unit/hostile-server.h"

/* gRPC with a server that answers wrongly, goes away, or is none. */

#define MESSAGE "\0\0\0\0\5hello"
enum { MESSAGE_SIZE = sizeof(MESSAGE) - 1 };

/* --- what trailers say -------------------------------------------------------------------- */

struct wrong {
    const struct h2_step *script;
    enum grpc_status status;
    bool local;
    const char *words;
};

#define SCRIPT(...) ((const struct h2_step[]){__VA_ARGS__})
#define HEAD                                                                                       \
    {                                                                                              \
        H2_HEAD, SERVED_HEAD                                                                       \
    }
#define HELLO                                                                                      \
    {                                                                                              \
        H2_BYTES, MESSAGE, MESSAGE_SIZE                                                            \
    }
#define TRAILERS(text)                                                                             \
    {                                                                                              \
        H2_TRAILERS, text                                                                          \
    }
#define ONLY(text)                                                                                 \
    {                                                                                              \
        H2_ONLY, text                                                                              \
    }

static void check(const struct wrong *wrong, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct h2_route routes[] = {{"/a", wrong[i].script}, {NULL}};
        struct grpc_trial *t = calloc(1, sizeof(*t));
        grpc_trial_start(t, routes);
        grpc_trial_call(t, NULL);
        grpc_trial_run(t);
        assert_ended(&t->told[0], wrong[i].status, wrong[i].local, wrong[i].words);
        grpc_trial_end(t);
        free(t);
    }
}

static void test_statuses(void **state)
{
    const struct wrong wrong[] = {
        {SCRIPT(ONLY(SERVED_HEAD "grpc-status: 5\ngrpc-message: no %22sb-1%22%0A\n")),
         GRPC_NOT_FOUND, false, "no \"sb-1\" "},
        {SCRIPT(HEAD, HELLO, TRAILERS("grpc-status: 13\ngrpc-message: late\n")), GRPC_INTERNAL,
         false, "late"},
        {SCRIPT(ONLY(SERVED_HEAD "grpc-status: 99\ngrpc-message: x\n")), GRPC_UNKNOWN, false, "x"},
        {SCRIPT(ONLY(SERVED_HEAD "grpc-status: -1\n")), GRPC_UNKNOWN, false, ""},
        {SCRIPT(ONLY(SERVED_HEAD "grpc-status: 1 2\n")), GRPC_UNKNOWN, false, ""},
        /* The words of gRPC count more than those of HTTP. */
        {SCRIPT(ONLY(":status: 503\n" SERVED_HEAD "grpc-status: 16\n")), GRPC_UNAUTHENTICATED,
         false, ""},
    };
    (void)state;
    check(wrong, sizeof(wrong) / sizeof(wrong[0]));
}

static void look_at_details(const struct grpc_told *told)
{
    assert_ended(told, GRPC_RESOURCE_EXHAUSTED, false, "");
    assert_int_equal(told->details_size, 4);
    assert_memory_equal(told->details, "\x08\x08\x12\xff", 4);
}

static void look_at_none(const struct grpc_told *told)
{
    assert_ended(told, GRPC_RESOURCE_EXHAUSTED, false, "");
    assert_int_equal(told->details_size, 0);
}

static void test_details(void **state)
{
    (void)state;
    grpc_trial_one(SCRIPT(ONLY(SERVED_HEAD "grpc-status: 8\ngrpc-status-details-bin: CAgS/w\n")),
                   look_at_details);
    grpc_trial_one(SCRIPT(HEAD, TRAILERS("grpc-status: 8\ngrpc-status-details-bin: CAgS/w==\n")),
                   look_at_details);
    grpc_trial_one(SCRIPT(ONLY(SERVED_HEAD "grpc-status: 8\ngrpc-status-details-bin: C?gS\n")),
                   look_at_none);
}

static void test_no_grpc(void **state)
{
    const struct wrong wrong[] = {
        {SCRIPT({H2_HEAD, ":status: 503\ncontent-type: text/html\n"}, {H2_BYTES, "busy\nnow", 8},
                {H2_END}),
         GRPC_UNAVAILABLE, true, "503: busy"},
        {SCRIPT(ONLY(":status: 400\n")), GRPC_INTERNAL, true, "400"},
        {SCRIPT(ONLY(":status: 401\n")), GRPC_UNAUTHENTICATED, true, "401"},
        {SCRIPT(ONLY(":status: 403\n")), GRPC_PERMISSION_DENIED, true, "403"},
        {SCRIPT(ONLY(":status: 404\n")), GRPC_UNIMPLEMENTED, true, "404"},
        {SCRIPT(ONLY(":status: 429\n")), GRPC_UNAVAILABLE, true, "429"},
        {SCRIPT(ONLY(":status: 500\n")), GRPC_UNKNOWN, true, "500"},
        {SCRIPT(ONLY(":status: 302\nlocation: /b\n")), GRPC_UNKNOWN, true, "302"},
        {SCRIPT({H2_HEAD, "content-type: text/html\n"}, {H2_BYTES, "<html>", 6}, {H2_END}),
         GRPC_UNAVAILABLE, true, "\"text/html\", which is not gRPC"},
        {SCRIPT({H2_HEAD, "content-type: application/grpc-web\n"}, HELLO, TRAILERS(SERVED_OK)),
         GRPC_UNAVAILABLE, true, "not gRPC"},
    };
    (void)state;
    check(wrong, sizeof(wrong) / sizeof(wrong[0]));
}

static void test_broken_answers(void **state)
{
    const struct wrong wrong[] = {
        {SCRIPT(HEAD, HELLO, {H2_END}), GRPC_INTERNAL, true, "without a status"},
        {SCRIPT(ONLY(SERVED_HEAD)), GRPC_INTERNAL, true, "without a status"},
        /* A status in the head of an answer with a body is none. */
        {SCRIPT({H2_HEAD, SERVED_HEAD SERVED_OK}, HELLO, {H2_END}), GRPC_INTERNAL, true,
         "without a status"},
        {SCRIPT(HEAD, {H2_BYTES, MESSAGE, MESSAGE_SIZE - 1}, TRAILERS(SERVED_OK)), GRPC_INTERNAL,
         true, "in the middle of a message"},
        {SCRIPT(HEAD, {H2_BYTES, MESSAGE, 3}, {H2_END}), GRPC_INTERNAL, true, "in the middle"},
        /* The server's word counts more than what is missing. */
        {SCRIPT(HEAD, {H2_BYTES, MESSAGE, 7}, TRAILERS("grpc-status: 10\n")), GRPC_ABORTED, false,
         ""},
        {SCRIPT(HEAD, {H2_BYTES, "\1\0\0\0\1x", 6}, TRAILERS(SERVED_OK)), GRPC_INTERNAL, true,
         "compressed"},
        {SCRIPT(HEAD, {H2_BYTES, "\xff", 1}, {H2_WAIT}), GRPC_INTERNAL, true, "compressed"},
        {SCRIPT(HEAD, {H2_BYTES, "\0\xff\xff\xff\xff", 5}, {H2_WAIT}), GRPC_RESOURCE_EXHAUSTED,
         true, "longer than the 134217728 bytes"},
        {SCRIPT(HEAD, HELLO, HELLO, {H2_WAIT}), GRPC_INTERNAL, true, "more than one message"},
        {SCRIPT(HEAD, TRAILERS(SERVED_OK)), GRPC_INTERNAL, true, "without the answer's message"},
    };
    (void)state;
    check(wrong, sizeof(wrong) / sizeof(wrong[0]));
}

static void test_message_cap(void **state)
{
    static const struct h2_step script[] = {
        {H2_HEAD, SERVED_HEAD}, {H2_MESSAGES, NULL, 1, 1001}, {H2_TRAILERS, SERVED_OK}};
    static const struct h2_route routes[] = {{"/a", script}, {NULL}};
    (void)state;
    for (size_t cap = 1000; cap <= 1001; cap++) {
        struct grpc_trial *t = calloc(1, sizeof(*t));
        struct grpc_request request = {.method = "/a", .message_cap = cap};
        grpc_trial_start(t, routes);
        grpc_trial_call(t, &request);
        grpc_trial_run(t);
        assert_ended(&t->told[0], cap == 1000 ? GRPC_RESOURCE_EXHAUSTED : GRPC_OK, cap == 1000,
                     cap == 1000 ? "longer than the 1000 bytes" : "");
        assert_int_equal(t->told[0].messages, cap == 1001);
        grpc_trial_end(t);
        free(t);
    }
}

/* `count` fields with a value of `size` bytes each. */
static char *long_fields(const char *first, int count, size_t size)
{
    size_t room = strlen(first) + (size_t)count * (size + 5) + 1, n;
    char *text = malloc(room);
    n = (size_t)snprintf(text, room, "%s", first);
    for (int i = 0; i < count; i++) {
        n += (size_t)snprintf(text + n, room - n, "%c: ", 'a' + i);
        memset(text + n, 'x', size);
        n += size;
        n += (size_t)snprintf(text + n, room - n, "\n");
    }
    return text;
}

static void test_long_heads(void **state)
{
    char *part = long_fields(SERVED_HEAD, 10, 14000), *rest = long_fields(SERVED_OK, 10, 14000);
    char *flood = long_fields(SERVED_HEAD, 10, 30000);
    const struct wrong wrong[] = {
        /* Head and trailers together are more than we keep. */
        {SCRIPT({H2_HEAD, part}, HELLO, TRAILERS(rest)), GRPC_RESOURCE_EXHAUSTED, true,
         "longer than 256 KiB"},
        /* One that does not fit into so many frames ends the connection. */
        {SCRIPT({H2_HEAD, flood}, HELLO, TRAILERS(SERVED_OK)), GRPC_UNAVAILABLE, true,
         "not HTTP/2 as it should be"},
    };
    (void)state;
    check(wrong, sizeof(wrong) / sizeof(wrong[0]));
    free(part);
    free(rest);
    free(flood);
}

/* --- resets and connections --------------------------------------------------------------- */

static void test_resets(void **state)
{
    const struct wrong wrong[] = {
        {SCRIPT({H2_RESET, NULL, 7}), GRPC_UNAVAILABLE, true, "did not begin with it"},
        {SCRIPT({H2_RESET, NULL, 2}), GRPC_INTERNAL, true, "INTERNAL_ERROR (2)"},
        {SCRIPT(HEAD, HELLO, {H2_RESET, NULL, 8}), GRPC_CANCELLED, true, "CANCEL (8)"},
        {SCRIPT(HEAD, HELLO, {H2_RESET, NULL, 11}), GRPC_RESOURCE_EXHAUSTED, true,
         "ENHANCE_YOUR_CALM (11)"},
        {SCRIPT(HEAD, {H2_BYTES, MESSAGE, 7}, {H2_RESET, NULL, 0}), GRPC_INTERNAL, true,
         "NO_ERROR (0)"},
        {SCRIPT(HEAD, {H2_RESET, NULL, 12}), GRPC_PERMISSION_DENIED, true, "(12)"},
        {SCRIPT({H2_CUT}), GRPC_UNAVAILABLE, true, "closed the connection"},
        {SCRIPT(HEAD, HELLO, {H2_CUT}), GRPC_UNAVAILABLE, true, ""},
    };
    (void)state;
    check(wrong, sizeof(wrong) / sizeof(wrong[0]));
}

static const struct h2_step leaving[] = {
    {H2_HEAD, SERVED_HEAD}, {H2_GOAWAY, NULL, 0}, {H2_UNTIL}, {H2_ECHO}, {H2_TRAILERS, SERVED_OK}};
static const struct h2_step echo[] = {{H2_HEAD, SERVED_HEAD}, {H2_ECHO}, {H2_TRAILERS, SERVED_OK}};
static const struct h2_route leaving_routes[] = {{"/a", echo}, {"/leaving", leaving}, {NULL}};

/* What was begun ends as it would have; the next call makes a new connection. */
static void test_goaway(void **state)
{
    struct grpc_trial *t = calloc(1, sizeof(*t));
    struct grpc_request request = {.method = "/leaving", .message = "x", .size = 1, .unary = true};
    (void)state;
    grpc_trial_start(t, leaving_routes);
    struct grpc_told *first = grpc_trial_call(t, &request);
    while (!strstr(first->metadata, "content-type")) {
        uv_run(&t->loop, UV_RUN_ONCE);
    }
    for (int i = 0; i < 20 && t->server->connections == 1; i++) {
        grpc_trial_call(t, NULL); /* on the old one until the frame is read */
        grpc_trial_until(t, &t->dones, t->dones + 1);
    }
    assert_int_equal(t->server->connections, 2);
    assert_ended(&t->told[t->started - 1], GRPC_OK, false, "");
    assert_int_equal(first->dones, 0);
    h2_server_go_on(t->server);
    grpc_trial_run(t);
    assert_ended(first, GRPC_OK, false, "");
    while (t->server->open > 1) { /* nothing is left on the first one */
        uv_run(&t->loop, UV_RUN_ONCE);
    }
    grpc_trial_end(t);
    free(t);
}

/* A connection that was cut between two calls, or in the middle of several. */
static void test_new_connection(void **state)
{
    struct grpc_trial *t = calloc(1, sizeof(*t));
    struct grpc_request request = {.method = "/leaving", .message = "x", .size = 1, .unary = true};
    (void)state;
    grpc_trial_start(t, leaving_routes);
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    h2_server_cut(t->server);
    while (t->server->open > 0) {
        uv_run(&t->loop, UV_RUN_ONCE);
    }
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    /* That it is gone may be read after the call was written to it. */
    if (t->told[1].status != GRPC_OK) {
        assert_ended(&t->told[1], GRPC_UNAVAILABLE, true, "");
        grpc_trial_call(t, NULL);
        grpc_trial_run(t);
    }
    assert_ended(&t->told[t->started - 1], GRPC_OK, false, "");
    int before = t->started, requests = t->server->requests;
    for (int i = 0; i < 3; i++) {
        grpc_trial_call(t, &request);
    }
    grpc_trial_until(t, &t->server->requests, requests + 1);
    h2_server_cut(t->server);
    grpc_trial_run(t);
    for (int i = before; i < before + 3; i++) {
        assert_ended(&t->told[i], GRPC_UNAVAILABLE, true, "");
    }
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    assert_ended(&t->told[t->started - 1], GRPC_OK, false, "");
    grpc_trial_end(t);
    free(t);
}

/* --- servers that are none ---------------------------------------------------------------- */

static void test_nobody(void **state)
{
    struct grpc_trial *t = calloc(1, sizeof(*t));
    (void)state;
    assert_int_equal(uv_loop_init(&t->loop), 0);
    grpc_trial_start_at(t, "http://127.0.0.1:1", NULL);
    for (int i = 0; i < 2; i++) {
        grpc_trial_call(t, NULL);
        grpc_trial_run(t);
        assert_ended(&t->told[i], GRPC_UNAVAILABLE, true, "nothing listens at 127.0.0.1:1");
    }
    grpc_trial_end(t);
    free(t);
}

/* One unary call to a server on TCP that does as the script says. */
static void with_hostile(const struct hostile_step *script, unsigned timeout_ms,
                         enum grpc_status status, const char *words)
{
    const struct hostile_step *const scripts[] = {script, NULL};
    struct hostile_options options = {.tcp = true, .scripts = scripts};
    struct grpc_request request = {.method = "/a", .unary = true, .timeout_ms = timeout_ms};
    struct grpc_trial *t = calloc(1, sizeof(*t));

    assert_int_equal(uv_loop_init(&t->loop), 0);
    struct hostile *server = hostile_new(&t->loop, &options);
    grpc_trial_start_at(t, server->base, NULL);
    grpc_trial_call(t, &request);
    grpc_trial_run(t);
    assert_ended(&t->told[0], status, true, words);
    hostile_close(server);
    grpc_trial_end(t);
    free(t);
}

static void test_other_servers(void **state)
{
    static const struct hostile_step http1[] = {
        {HOSTILE_SEND, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"},
        {HOSTILE_CUT},
        {HOSTILE_END}};
    static const struct hostile_step ssh[] = {{HOSTILE_SEND, "SSH-2.0-OpenSSH_9.2p1 Debian\r\n"},
                                              {HOSTILE_DEAF},
                                              {HOSTILE_SLEEP, NULL, 60000}};
    static const struct hostile_step mute[] = {{HOSTILE_DEAF}, {HOSTILE_SLEEP, NULL, 60000}};
    static const struct hostile_step cut[] = {{HOSTILE_RESET}, {HOSTILE_END}};
    (void)state;
    with_hostile(http1, 0, GRPC_UNAVAILABLE, "answers in HTTP/1, and HTTP/2 is needed");
    with_hostile(ssh, 0, GRPC_UNAVAILABLE, "not HTTP/2");
    with_hostile(mute, 50, GRPC_DEADLINE_EXCEEDED, "50 ms");
    with_hostile(cut, 0, GRPC_UNAVAILABLE, "");
}

static void test_refused_at_the_start(void **state)
{
    static const char *const bad_metadata[] = {"no colon SECRET\n", NULL};
    static const char *const urls[] = {"modal.com", "http://u:SECRET@h", "ftp://h", "https://h?q"};
    struct grpc_channel_options options = {.url = "http://127.0.0.1:1"};
    struct grpc_request request = {.method = "no slash"};
    struct error err = {0};
    uv_loop_t loop;
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct grpc_channel_options bad = {.url = urls[i]};
        assert_null(grpc_channel_new(&loop, &bad, &err));
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_null(strstr(err.message, "SECRET"));
    }
    struct grpc_channel *channel = grpc_channel_new(&loop, &options, &err);
    assert_null(grpc_start(channel, &request, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    request = (struct grpc_request){.method = "/a", .metadata = bad_metadata};
    assert_null(grpc_start(channel, &request, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    error_clear(&err);
    grpc_channel_close(channel, NULL, NULL);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statuses),       cmocka_unit_test(test_details),
        cmocka_unit_test(test_no_grpc),        cmocka_unit_test(test_broken_answers),
        cmocka_unit_test(test_message_cap),    cmocka_unit_test(test_long_heads),
        cmocka_unit_test(test_resets),         cmocka_unit_test(test_goaway),
        cmocka_unit_test(test_new_connection), cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_other_servers),  cmocka_unit_test(test_refused_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
