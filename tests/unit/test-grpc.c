#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/net/h2.h"
#include "backends/modal/grpc_status.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/grpc-trial.h"

/* gRPC on HTTP/2 with a server that does as it should: calls, streams, flow control, cancel. */

enum { MIB = 1024 * 1024, LARGE = 100 * MIB };

static const struct h2_step echo[] = {{H2_HEAD, SERVED_HEAD "x-server: here\n"},
                                      {H2_ECHO},
                                      {H2_TRAILERS, SERVED_OK "x-last: word\n"}};
static const struct h2_step many[] = {
    {H2_HEAD, SERVED_HEAD}, {H2_MESSAGES, NULL, 10000, 100}, {H2_TRAILERS, SERVED_OK}};
static const struct h2_step large[] = {
    {H2_HEAD, SERVED_HEAD}, {H2_MESSAGES, NULL, 1, LARGE}, {H2_TRAILERS, SERVED_OK}};
static const struct h2_step flood[] = {
    {H2_HEAD, SERVED_HEAD}, {H2_MESSAGES, NULL, 640, 100000}, {H2_TRAILERS, SERVED_OK}};
static const struct h2_step silent[] = {{H2_WAIT}};
static const struct h2_step talking[] = {
    {H2_HEAD, SERVED_HEAD}, {H2_MESSAGES, NULL, 1, 10}, {H2_WAIT}};
static const struct h2_step gated[] = {
    {H2_HEAD, SERVED_HEAD}, {H2_UNTIL}, {H2_ECHO}, {H2_TRAILERS, SERVED_OK}};
static const struct h2_step early[] = {
    {H2_EARLY}, {H2_ONLY, SERVED_HEAD "grpc-status: 8\ngrpc-message: too long\n"}};
static const struct h2_step late[] = {{H2_WAIT}};

static const struct h2_route routes[] = {
    {"/a", echo},       {"/many", many},
    {"/large", large},  {"/flood", flood},
    {"/quiet", silent}, {"/talking", talking},
    {"/gated", gated},  {"/early", early},
    {"/late", late},    {NULL},
};

static struct grpc_trial *start(void)
{
    struct grpc_trial *t = calloc(1, sizeof(*t));
    grpc_trial_start(t, routes);
    return t;
}

static void end(struct grpc_trial *t)
{
    grpc_trial_end(t);
    free(t);
}

/* --- calls -------------------------------------------------------------------------------- */

static void test_unary(void **state)
{
    struct grpc_trial *t = start();
    static const char *const metadata[] = {"X-Mine: 1, 2", "authorization: Bearer SECRET", NULL};
    struct grpc_request request = {.method = "/a",
                                   .message = "hello",
                                   .size = 5,
                                   .unary = true,
                                   .metadata = metadata,
                                   .timeout_ms = 15000};
    (void)state;
    struct grpc_told *told = grpc_trial_call(t, &request);
    grpc_trial_run(t);
    assert_ended(told, GRPC_OK, false, "");
    assert_string_equal(told->first, "hello");
    assert_int_equal(told->messages, 1);
    assert_string_equal(told->metadata, "content-type: application/grpc\nx-server: here\n"
                                        "> grpc-status: 0\n> x-last: word\n");
    static const char *const fields[] = {
        ":method: POST\n",       ":scheme: http\n",
        ":path: /a\n",           "te: trailers\n",
        "x-mine: 1, 2\n",        "authorization: Bearer SECRET\n",
        "x-client: cellblock\n", "content-type: application/grpc\n",
        "grpc-timeout: 15000m\n"};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (!strstr(t->server->fields, fields[i])) {
            fail_msg("no %s in %s", fields[i], t->server->fields);
        }
    }
    assert_int_equal(t->server->body_size, 10);
    end(t);
}

/* One connection for calls that follow each other, and for 100 at once. */
static void test_one_connection(void **state)
{
    struct grpc_trial *t = start();
    struct grpc_request request = {.method = "/gated", .message = "x", .size = 1, .unary = true};
    (void)state;
    for (int i = 0; i < 10; i++) {
        grpc_trial_call(t, NULL);
        grpc_trial_run(t);
    }
    for (int i = 0; i < 100; i++) {
        grpc_trial_call(t, &request);
    }
    grpc_trial_until(t, &t->server->streams, 100);
    h2_server_go_on(t->server);
    grpc_trial_run(t);
    for (int i = 0; i < 110; i++) {
        assert_ended(&t->told[i], GRPC_OK, false, "");
        assert_int_equal(t->told[i].messages, 1);
    }
    assert_int_equal(t->server->connections, 1);
    assert_int_equal(t->server->most_streams, 100);
    end(t);
}

/* What the server does not take at a time waits here. */
static void test_streams_that_wait(void **state)
{
    struct grpc_trial *t = calloc(1, sizeof(*t));
    (void)state;
    grpc_trial_start(t, routes);
    t->server->max_streams = 3;
    for (int i = 0; i < 50; i++) {
        grpc_trial_call(t, NULL);
        if (i == 0) {
            grpc_trial_run(t); /* the server has told its limit */
        }
    }
    grpc_cancel(t->told[49].call); /* before it was begun */
    grpc_trial_run(t);
    for (int i = 0; i < 49; i++) {
        assert_ended(&t->told[i], GRPC_OK, false, "");
    }
    assert_ended(&t->told[49], GRPC_CANCELLED, true, "");
    assert_int_equal(t->server->connections, 1);
    assert_true(t->server->most_streams <= 3);
    end(t);
}

static void test_many_messages(void **state)
{
    struct grpc_trial *t = start();
    struct grpc_request request = {.method = "/many"};
    (void)state;
    struct grpc_told *told = grpc_trial_call(t, &request);
    grpc_trial_run(t);
    assert_ended(told, GRPC_OK, false, "");
    assert_int_equal(told->messages, 10000);
    assert_int_equal(told->wrong, 0);
    assert_int_equal(told->bytes, 1000000);
    end(t);
}

static void test_large_message(void **state)
{
    struct grpc_trial *t = start();
    struct grpc_request request = {.method = "/large", .unary = true};
    (void)state;
    struct grpc_told *told = grpc_trial_call(t, &request);
    grpc_trial_run(t);
    assert_ended(told, GRPC_OK, false, "");
    assert_int_equal(told->bytes, LARGE);
    end(t);
}

/* A request that is larger than every window, up and down again. */
static void test_large_request(void **state)
{
    struct grpc_trial *t = calloc(1, sizeof(*t));
    size_t size = (size_t)20 * MIB;
    char *bytes = calloc(1, size);
    struct grpc_request request = {.method = "/a", .message = bytes, .size = size, .unary = true};
    (void)state;
    grpc_trial_start(t, routes);
    t->server->window = 100000;
    struct grpc_told *told = grpc_trial_call(t, &request);
    free(bytes); /* it was copied */
    grpc_trial_run(t);
    assert_ended(told, GRPC_OK, false, "");
    assert_int_equal(told->bytes, size);
    end(t);
}

/* The server has said all before it has read all. */
static void test_answer_before_the_end_of_the_request(void **state)
{
    struct grpc_trial *t = calloc(1, sizeof(*t));
    char *bytes = calloc(1, MIB);
    struct grpc_request request = {
        .method = "/early", .message = bytes, .size = MIB, .unary = true};
    (void)state;
    grpc_trial_start(t, routes);
    t->server->window = 1000;
    struct grpc_told *told = grpc_trial_call(t, &request);
    grpc_trial_run(t);
    assert_ended(told, GRPC_RESOURCE_EXHAUSTED, false, "too long");
    grpc_trial_until(t, &t->server->resets, 1);
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    assert_ended(&t->told[1], GRPC_OK, false, "");
    assert_int_equal(t->server->connections, 1);
    free(bytes);
    end(t);
}

static void test_empty_messages(void **state)
{
    struct grpc_trial *t = start();
    struct grpc_request request = {.method = "/a", .unary = true};
    (void)state;
    struct grpc_told *told = grpc_trial_call(t, &request);
    grpc_trial_run(t);
    assert_ended(told, GRPC_OK, false, "");
    assert_int_equal(told->messages, 1);
    assert_int_equal(told->bytes, 0);
    end(t);
}

/* --- a slow reader ------------------------------------------------------------------------ */

static void pause_now(struct grpc_told *told)
{
    if (told->trial->started > 0 && told == &told->trial->told[0]) {
        grpc_pause(told->call, true);
    }
}

/* Runs until the server sends no more for the time. */
static void run_until_still(struct grpc_trial *t)
{
    int still = 0;
    while (still < 50) {
        size_t then = t->server->sent;
        uv_run(&t->loop, UV_RUN_NOWAIT);
        still = t->server->sent == then ? still + 1 : 0;
        uv_sleep(1);
    }
}

static void test_slow_reader(void **state)
{
    struct grpc_trial *t = start();
    struct grpc_request request = {.method = "/flood"};
    (void)state;
    t->in_message = pause_now;
    struct grpc_told *told = grpc_trial_call(t, &request);
    grpc_trial_until(t, &told->messages, 1);
    run_until_still(t);
    assert_int_equal(told->messages, 1);
    assert_true(t->server->sent > H2_WINDOW / 2);
    assert_true(t->server->sent <= H2_WINDOW + 4 * MIB); /* what was taken before the pause */
    /* Others go on, on the same connection. */
    grpc_trial_call(t, NULL);
    grpc_trial_until(t, &t->dones, 1);
    assert_ended(&t->told[1], GRPC_OK, false, "");
    assert_int_equal(t->server->connections, 1);
    /* Message by message. */
    for (int i = 2; i < 50; i++) {
        grpc_pause(told->call, false);
        grpc_trial_until(t, &told->messages, i);
        assert_int_equal(told->messages, i);
    }
    t->in_message = NULL;
    grpc_pause(told->call, false);
    grpc_trial_run(t);
    assert_ended(told, GRPC_OK, false, "");
    assert_int_equal(told->messages, 640);
    assert_int_equal(told->wrong, 0);
    end(t);
}

/* `done` waits for the last message, also where the server went meanwhile. */
static void test_end_while_paused(void **state)
{
    (void)state;
    for (int cut = 0; cut < 2; cut++) {
        struct grpc_trial *t = start();
        struct grpc_request request = {.method = cut ? "/talking" : "/many"};
        t->in_message = pause_now;
        struct grpc_told *told = grpc_trial_call(t, &request);
        grpc_pause(told->call, true);
        run_until_still(t);
        if (cut) {
            h2_server_cut(t->server);
            run_until_still(t);
        }
        assert_int_equal(told->messages, 0);
        assert_int_equal(told->dones, 0);
        t->in_message = NULL;
        grpc_pause(told->call, false);
        grpc_trial_run(t);
        assert_int_equal(told->messages, cut ? 1 : 10000);
        assert_int_equal(told->wrong, 0);
        assert_ended(told, cut ? GRPC_UNAVAILABLE : GRPC_OK, cut, "");
        end(t);
    }
}

static void test_cancel_while_paused(void **state)
{
    struct grpc_trial *t = start();
    struct grpc_request request = {.method = "/many"};
    (void)state;
    struct grpc_told *told = grpc_trial_call(t, &request);
    t->in_message = pause_now;
    grpc_trial_until(t, &told->messages, 1);
    run_until_still(t); /* the server has ended long ago */
    grpc_cancel(told->call);
    grpc_trial_run(t);
    assert_ended(told, GRPC_CANCELLED, true, "cancelled");
    assert_int_equal(told->messages, 1);
    end(t);
}

/* --- cancel, deadline, close -------------------------------------------------------------- */

static void test_cancel(void **state)
{
    struct grpc_trial *t = start();
    struct grpc_request request = {.method = "/talking"};
    (void)state;
    struct grpc_told *told = grpc_trial_call(t, &request);
    grpc_trial_until(t, &told->messages, 1);
    grpc_cancel(told->call);
    grpc_cancel(told->call);
    assert_int_equal(told->dones, 0); /* from the loop only */
    grpc_trial_run(t);
    assert_ended(told, GRPC_CANCELLED, true, "cancelled");
    grpc_trial_until(t, &t->server->resets, 1);
    assert_int_equal(t->server->reset_code, 8);
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    assert_ended(&t->told[1], GRPC_OK, false, "");
    assert_int_equal(t->server->connections, 1);
    end(t);
}

static void test_cancel_in_each_phase(void **state)
{
    (void)state;
    for (int turns = 0; turns < 12; turns++) {
        struct grpc_trial *t = start();
        struct grpc_request request = {.method = "/flood"};
        grpc_trial_call(t, &request);
        for (int i = 0; i < turns; i++) {
            uv_run(&t->loop, UV_RUN_ONCE);
        }
        grpc_cancel(t->told[0].call);
        int messages = t->told[0].messages;
        grpc_trial_run(t);
        assert_ended(&t->told[0], GRPC_CANCELLED, true, "cancelled");
        assert_int_equal(t->told[0].messages, messages);
        end(t);
    }
}

static void cancel_it(struct grpc_told *told)
{
    grpc_cancel(told->call);
}

static void start_more(struct grpc_told *told)
{
    if (told->trial->started < 4) {
        grpc_trial_call(told->trial, NULL);
    }
}

static void test_inside_callbacks(void **state)
{
    struct grpc_request request = {.method = "/many"};
    (void)state;
    struct grpc_trial *t = start();
    t->in_message = cancel_it;
    t->in_done = cancel_it;
    grpc_trial_call(t, &request);
    grpc_trial_run(t);
    assert_int_equal(t->told[0].messages, 1);
    assert_ended(&t->told[0], GRPC_CANCELLED, true, "");
    end(t);

    t = start();
    t->in_message = start_more;
    t->in_done = start_more;
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    assert_int_equal(t->started, 4);
    for (int i = 0; i < 4; i++) {
        assert_ended(&t->told[i], GRPC_OK, false, "");
    }
    end(t);
}

static void test_deadline(void **state)
{
    struct grpc_trial *t = start();
    struct grpc_request request = {.method = "/late", .unary = true, .timeout_ms = 30};
    (void)state;
    struct grpc_told *told = grpc_trial_call(t, &request);
    grpc_trial_run(t);
    assert_ended(told, GRPC_DEADLINE_EXCEEDED, true, "30 ms");
    grpc_trial_until(t, &t->server->resets, 1);
    end(t);
}

/* A stream on which nothing goes may last; one whose server hangs may not. */
static void test_silence(void **state)
{
    struct grpc_trial *t = calloc(1, sizeof(*t));
    struct grpc_request request = {.method = "/quiet"};
    (void)state;
    t->ping_ms = 300;
    grpc_trial_start(t, routes);
    struct grpc_told *told = grpc_trial_call(t, &request);
    grpc_trial_until(t, &t->server->pings, 3);
    assert_int_equal(told->dones, 0);
    h2_server_deaf(t->server);
    grpc_trial_run(t);
    assert_ended(told, GRPC_UNAVAILABLE, true, "not even the answer to a PING");
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    assert_ended(&t->told[1], GRPC_OK, false, "");
    assert_int_equal(t->server->connections, 2);
    end(t);
}

static void test_close_with_calls_going(void **state)
{
    static const char *const methods[] = {"/flood", "/quiet", "/many", "/a"};
    (void)state;
    for (int turns = 0; turns < 10; turns++) {
        struct grpc_trial *t = start();
        for (int i = 0; i < 4; i++) {
            struct grpc_request request = {.method = methods[i]};
            grpc_trial_call(t, &request);
        }
        for (int i = 0; i < turns; i++) {
            uv_run(&t->loop, UV_RUN_ONCE);
        }
        end(t);
    }
}

static void closed(void *data)
{
    ((struct grpc_trial *)data)->closed++;
}

static void close_channel(struct grpc_told *told)
{
    struct grpc_trial *t = told->trial;
    struct grpc_request request = {.method = "/a"};
    struct error err = {0};
    if (t->channel) {
        struct grpc_channel *channel = t->channel;
        t->channel = NULL;
        grpc_channel_close(channel, closed, t);
        assert_null(grpc_start(channel, &request, &err));
        assert_int_equal(err.kind, ERROR_LOST);
        error_clear(&err);
    }
}

static void test_close_inside_callbacks(void **state)
{
    (void)state;
    for (int where = 0; where < 2; where++) {
        struct grpc_trial *t = start();
        struct grpc_request request = {.method = "/many"};
        t->in_message = where == 0 ? close_channel : NULL;
        t->in_done = where == 1 ? close_channel : NULL;
        grpc_trial_call(t, &request);
        grpc_trial_call(t, NULL);
        grpc_trial_until(t, &t->closed, 1);
        assert_int_equal(t->dones, 2);
        h2_server_close(t->server);
        uv_close((uv_handle_t *)&t->guard, NULL);
        assert_int_equal(uv_run(&t->loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(uv_loop_close(&t->loop), 0);
        free(t);
    }
}

/* --- small things ------------------------------------------------------------------------- */

static void test_texts(void **state)
{
    static const char *const pairs[][2] = {
        {"plain", "plain"},     {"a%20b", "a b"},
        {"%C3%A4", "\xc3\xa4"}, {"100%", "100%"},
        {"%zz%4", "%zz%4"},     {"%0a%1b[0m", "  [0m"},
        {"%ff\xc3", "??"},      {"%ed%a0%80", "???"},
        {"%00x", " x"},         {"\xf0\x9f\x90\x8d", "\xf0\x9f\x90\x8d"},
    };
    char *text, *long_one = calloc(1, 5001);
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        text = grpc_message_decode(pairs[i][0]);
        assert_string_equal(text, pairs[i][1]);
        free(text);
    }
    memset(long_one, 'y', 5000);
    text = grpc_message_decode(long_one);
    assert_int_equal(strlen(text), GRPC_MESSAGE_TEXT_CAP);
    free(text);
    free(long_one);
}

static void test_base64(void **state)
{
    static const char *const good[][2] = {{"aGVsbG8", "hello"}, {"aGVsbG8=", "hello"},
                                          {"aGVsbA==", "hell"}, {"aGVsbA", "hell"},
                                          {"aGVs", "hel"},      {"++//", "\xfb\xef\xff"}};
    static const char *const bad[] = {"",          "a",        "=",
                                      "aGVsbG8==", "aGVsb",    "aG Vs",
                                      "a-_b",      "aGVs====", "aGVsbG8gd29ybGQgd2l0aCBtb3Jl"};
    size_t size = 0;
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char *bytes = grpc_base64_decode(good[i][0], 10, &size);
        assert_non_null(bytes);
        assert_int_equal(size, strlen(good[i][1]));
        assert_memory_equal(bytes, good[i][1], size);
        free(bytes);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(grpc_base64_decode(bad[i], 10, &size));
    }
}

static void test_timeouts(void **state)
{
    char text[GRPC_TIMEOUT_SIZE];
    (void)state;
    grpc_timeout_header(1, text);
    assert_string_equal(text, "grpc-timeout: 1m");
    grpc_timeout_header(99999999, text);
    assert_string_equal(text, "grpc-timeout: 99999999m");
    grpc_timeout_header(100000000, text);
    assert_string_equal(text, "grpc-timeout: 100001S");
    grpc_timeout_header(4294967295U, text);
    assert_string_equal(text, "grpc-timeout: 4294968S");
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(grpc_status_name(GRPC_OK), "OK");
    assert_string_equal(grpc_status_name(GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
    assert_null(grpc_status_name((enum grpc_status)17));
    assert_null(grpc_status_name((enum grpc_status) - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_one_connection),
        cmocka_unit_test(test_streams_that_wait),
        cmocka_unit_test(test_many_messages),
        cmocka_unit_test(test_large_message),
        cmocka_unit_test(test_large_request),
        cmocka_unit_test(test_answer_before_the_end_of_the_request),
        cmocka_unit_test(test_empty_messages),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_end_while_paused),
        cmocka_unit_test(test_cancel_while_paused),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_in_each_phase),
        cmocka_unit_test(test_inside_callbacks),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_close_with_calls_going),
        cmocka_unit_test(test_close_inside_callbacks),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
