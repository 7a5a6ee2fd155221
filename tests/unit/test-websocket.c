/* What goes over a websocket. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/websocket-trial.h"

/* ---- what works ---- */

static void test_echo(void **state)
{
    struct client c;
    begin(&c, *state, "echo", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    assert_string_equal(c.subprotocol, "");
    send_text(&c, "hello");
    wait_for(&c, &c.messages, 1);
    assert_kept(&c, false, "hello", 5);
    assert_int_equal(websocket_send(c.ws, true, "\0\1\2", 3), 0);
    wait_for(&c, &c.messages, 2);
    assert_kept(&c, true, "\0\1\2", 3);
    assert_int_equal(websocket_send(c.ws, true, NULL, 0), 0);
    wait_for(&c, &c.messages, 3);
    assert_kept(&c, true, "", 0);
    finish(&c);
    assert_server_says(*state, "close 1000");
    assert_int_equal(c.ended, 0);
}

static void test_unix_socket(void **state)
{
    struct client c;
    struct server *server = *state;
    char path[128];
    snprintf(path, sizeof(path), "%s/socket", server->folder);
    begin(&c, server, NULL,
          (struct websocket_options){
              .url = "ws://docker/headers?a=b%20c", .unix_socket = path, .quick_ack = true});
    wait_for(&c, &c.messages, 1);
    assert_int_equal(buffer_append(&c.kept, "", 1), 0);
    assert_non_null(strstr(buffer_data(&c.kept), "host: docker\n"));
    finish(&c);
}

static void test_headers(void **state)
{
    const char *const headers[] = {"Authorization: token 1234", "Cookie: a=b", NULL};
    struct client c;
    char host[64];
    struct server *server = *state;
    begin(&c, server, "headers", (struct websocket_options){.headers = headers});
    wait_for(&c, &c.messages, 1);
    assert_int_equal(buffer_append(&c.kept, "", 1), 0);
    const char *text = buffer_data(&c.kept);
    snprintf(host, sizeof(host), "host: 127.0.0.1:%d\n", server->plain);
    assert_non_null(strstr(text, host));
    assert_non_null(strstr(text, "authorization: token 1234\n"));
    assert_non_null(strstr(text, "cookie: a=b"));
    assert_null(strstr(text, "origin"));
    finish(&c);
}

static void test_a_name_is_resolved(void **state)
{
    struct client c;
    struct server *server = *state;
    char url[64];
    snprintf(url, sizeof(url), "ws://localhost:%d/echo", server->plain);
    begin(&c, server, NULL, (struct websocket_options){.url = url});
    wait_for(&c, &c.opened, 1); /* also where the name has an IPv6 address that refuses */
    finish(&c);
}

static void test_subprotocols(void **state)
{
    const char *jupyter = "v1.kernel.websocket.jupyter.org";
    struct client c;
    begin(&c, *state, "subprotocol", (struct websocket_options){.subprotocol = jupyter});
    wait_for(&c, &c.opened, 1);
    assert_string_equal(c.subprotocol, jupyter);
    finish(&c);
    begin(&c, *state, "echo", (struct websocket_options){.subprotocol = jupyter});
    wait_for(&c, &c.opened, 1);
    assert_string_equal(c.subprotocol, "");
    finish(&c);
    begin(&c, *state, "subprotocol?choose=other",
          (struct websocket_options){.subprotocol = jupyter});
    wait_for(&c, &c.ended, 1);
    assert_int_equal(c.opened, 0);
    finish(&c);
}

/* Goes on to the next message, and pauses there. */
static void next_message(struct client *c)
{
    c->pause_at = c->messages + 1;
    websocket_pause(c->ws, false);
    wait_for(c, &c->messages, c->pause_at);
}

static void test_fragments(void **state)
{
    struct client c;
    begin(&c, *state, "fragments", (struct websocket_options){0});
    c.pause_at = 1;
    wait_for(&c, &c.messages, 1);
    assert_kept(&c, false, "one two drei \xf0\x9f\x90\x8d", 17);
    next_message(&c);
    assert_true(c.binary);
    assert_int_equal(buffer_size(&c.kept), 300003);
    assert_pattern(buffer_data(&c.kept), 300000);
    assert_memory_equal(buffer_data(&c.kept) + 300000, "end", 3);
    next_message(&c);
    assert_kept(&c, false, "", 0);
    websocket_pause(c.ws, false);
    assert_server_says(*state, "pong between");
    finish(&c);
}

static void test_byte_by_byte(void **state)
{
    struct client c;
    begin(&c, *state, "bytewise", (struct websocket_options){0});
    wait_for(&c, &c.messages, 1);
    assert_int_equal(buffer_size(&c.kept), 200);
    assert_pattern(buffer_data(&c.kept), 200);
    wait_for(&c, &c.messages, 2);
    assert_kept(&c, true, "x", 1);
    finish(&c);
}

static void test_answer_and_message_in_one_write(void **state)
{
    struct client c;
    begin(&c, *state, "coalesced", (struct websocket_options){0});
    wait_for(&c, &c.messages, 2);
    assert_kept(&c, false, "and again", 9);
    finish(&c);
}

static void test_slow_and_large_heads(void **state)
{
    struct client c;
    begin(&c, *state, "slow-head", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    finish(&c);
    begin(&c, *state, "large-head", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    finish(&c);
}

static void test_pings_are_answered(void **state)
{
    struct client c;
    begin(&c, *state, "ping", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    rest(&c, 100);
    assert_server_says(*state, "pong are you there");
    finish(&c);
}

static void test_ten_megabytes_in(void **state)
{
    struct client c;
    begin(&c, *state, "big?size=10000000&count=2", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    uint64_t began = uv_hrtime();
    wait_for(&c, &c.messages, 2);
    print_message("20 MB came in %llu ms\n", (unsigned long long)((uv_hrtime() - began) / 1000000));
    assert_int_equal(buffer_size(&c.kept), 10000000);
    assert_pattern(buffer_data(&c.kept), 10000000);
    finish(&c);
}

static void test_much_out_in_order(void **state)
{
    enum { SIZE = 5000000, COUNT = 100 };
    struct client c;
    char want[64];
    char *bytes = malloc(SIZE);
    begin(&c, *state, "sink", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = pattern_at(i);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%u", i % 10);
        send_text(&c, text);
    }
    assert_int_equal(websocket_send(c.ws, true, bytes, SIZE), 0);
    send_text(&c, "sum");
    wait_for(&c, &c.messages, 1);
    snprintf(want, sizeof(want), "%d %d ", COUNT + 1, COUNT + SIZE);
    assert_memory_equal(buffer_data(&c.kept), want, strlen(want));
    /* The digest of the ten digits, ten times, and the pattern. */
    assert_memory_equal(buffer_data(&c.kept) + strlen(want),
                        "b4f33022921c9819e059dbcb20b4df210c740aa5", 40);
    free(bytes);
    finish(&c);
}

static void test_the_queue_has_a_cap(void **state)
{
    enum { SIZE = 16 * 1024 * 1024 };
    struct client c;
    char *bytes = calloc(1, SIZE);
    unsigned sent = 0;
    begin(&c, *state, "deaf", (struct websocket_options){0});
    assert_int_equal(websocket_send(c.ws, false, "early", 5), -EPIPE);
    wait_for(&c, &c.opened, 1);
    int r = 0;
    while (sent < 100 && (r = websocket_send(c.ws, true, bytes, SIZE)) == 0) {
        sent++;
    }
    assert_int_equal(r, -ENOBUFS);
    assert_int_equal(sent, WEBSOCKET_QUEUE_CAP / SIZE);
    free(bytes);
    rest(&c, 50);
    uint64_t began = uv_hrtime();
    finish(&c); /* what the peer does not take does not hold us for ever */
    assert_true(uv_hrtime() - began < 4000000000ull);
}

static void test_pause(void **state)
{
    struct client c;
    begin(&c, *state, "big?size=1000&count=20000", (struct websocket_options){0});
    c.pause_at = 10;
    wait_for(&c, &c.messages, 10);
    rest(&c, 300);
    assert_int_equal(c.messages, 10);
    websocket_pause(c.ws, false);
    wait_for(&c, &c.messages, 20000);
    assert_int_equal(c.bytes, 20000 * 1000ull);
    finish(&c);
}

/* The peer feels it: it cannot have sent all when nothing is read. */
static void test_pause_holds_the_peer_back(void **state)
{
    struct client c;
    struct server *server = *state;
    hear(server, "");
    begin(&c, server, "big?size=1000000&count=30", (struct websocket_options){0});
    c.pause_at = 1;
    wait_for(&c, &c.messages, 1);
    rest(&c, 500);
    assert_false(hear(server, "sent"));
    websocket_pause(c.ws, false);
    wait_for(&c, &c.messages, 30);
    assert_server_says(server, "sent");
    finish(&c);
}

static void test_closed_while_paused(void **state)
{
    struct client c;
    begin(&c, *state, "big?size=1000&count=20000", (struct websocket_options){0});
    c.pause_at = 10;
    wait_for(&c, &c.messages, 10);
    uint64_t began = uv_hrtime();
    finish(&c);
    assert_true(uv_hrtime() - began < 4000000000ull);
    assert_int_equal(c.messages, 10);
}

/* Without TCP_QUICKACK each of the server's small writes waits 40 ms for our acknowledgement. */
static unsigned exchange_ms(struct server *server, bool quick)
{
    enum { TURNS = 10 };
    struct client c;
    begin(&c, server, "two-writes", (struct websocket_options){.quick_ack = quick});
    wait_for(&c, &c.opened, 1);
    uint64_t began = uv_hrtime();
    for (unsigned i = 1; i <= TURNS; i++) {
        send_text(&c, "ask");
        wait_for(&c, &c.messages, 2 * i);
    }
    uint64_t took = (uv_hrtime() - began) / 1000000 / TURNS;
    finish(&c);
    return (unsigned)took;
}

static void test_quick_acknowledgements(void **state)
{
    unsigned slow = exchange_ms(*state, false);
    unsigned quick = exchange_ms(*state, true);
    print_message("an exchange with small writes: %u ms, with quick_ack %u ms\n", slow, quick);
    assert_true(quick < 15);
    assert_true(slow > 2 * quick);
}

/* ---- closing ---- */

static void test_closed_at_once(void **state)
{
    struct client c;
    begin(&c, *state, "echo", (struct websocket_options){0});
    finish(&c);
    assert_int_equal(c.opened + c.ended, 0);
}

static void test_closed_in_callbacks(void **state)
{
    struct client c;
    begin(&c, *state, "echo", (struct websocket_options){0});
    c.close_in_open = true;
    wait_for(&c, &c.closed, 1);
    finish(&c);
    assert_server_says(*state, "close 1000");
    begin(&c, *state, "big?size=100&count=1000", (struct websocket_options){0});
    c.close_at = 3;
    wait_for(&c, &c.closed, 1);
    assert_int_equal(c.messages, 3);
    finish(&c);
    assert_server_says(*state, "close 1000");
    begin(&c, *state, "close?code=1001", (struct websocket_options){0});
    c.close_in_end = true;
    wait_for(&c, &c.closed, 1);
    finish(&c);
    assert_server_says(*state, "answered 8 03e9");
}

static void test_what_was_sent_goes_before_the_close(void **state)
{
    struct client c;
    begin(&c, *state, "sink", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    char *bytes = calloc(1, 5000000);
    assert_int_equal(websocket_send(c.ws, true, bytes, 5000000), 0);
    free(bytes);
    finish(&c);
    assert_server_says(*state, "close 1000");
}

static void test_a_peer_that_never_closes(void **state)
{
    struct client c;
    begin(&c, *state, "never-closes", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    uint64_t began = uv_hrtime();
    finish(&c);
    assert_true(uv_hrtime() - began < 4000000000ull);
    assert_server_says(*state, "got 8");
}

/* ---- several at once, and what is asked wrongly ---- */

static void test_several_on_one_context(void **state)
{
    enum { COUNT = 20 };
    struct server *server = *state;
    struct client c[COUNT];
    struct error err = {0};
    char url[128];
    set_up(&c[0], server);
    snprintf(url, sizeof(url), "ws://127.0.0.1:%d/big?size=10000&count=5", server->plain);
    const struct websocket_options options = {.url = url, .quick_ack = true};
    for (int i = 0; i < COUNT; i++) {
        if (i > 0) {
            c[i] = (struct client){0};
            buffer_init(&c[i].kept, KEEP_CAP);
        }
        c[i].ws = websocket_open(c[0].context, &options, &events, &c[i], &err);
        assert_non_null(c[i].ws);
    }
    for (int i = 0; i < COUNT; i++) {
        turn(&c[0], &c[i].messages, 5, LIMIT_MS);
        assert_int_equal(c[i].messages, 5);
    }
    for (int i = 1; i < COUNT; i++) {
        close_client(&c[i]);
        turn(&c[0], &c[i].closed, 1, LIMIT_MS);
        assert_int_equal(c[i].closed, 1);
        buffer_deinit(&c[i].kept);
    }
    finish(&c[0]);
}

static void assert_refused_options(struct client *c, struct websocket_options options,
                                   const char *part)
{
    struct error err = {0};
    assert_null(websocket_open(c->context, &options, &events, c, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    if (!strstr(err.message, part)) {
        fail_msg("\"%s\" is not in: %s", part, err.message);
    }
    error_clear(&err);
}

static void test_options_that_are_wrong(void **state)
{
    static const char *const urls[] = {
        "http://host/",
        "host/path",
        "ws://",
        "ws:///path",
        "ws://host:0/",
        "ws://host:x/",
        "ws://host:65536/",
        "ws://[::1/",
        "ws://ho st/",
        "ws://host/a\r\nb",
        "ws://u:p@host",
        "ws://host:/",
        "ws://host/#x",
        "",
        "ws://[::1]x/",
    };
    const char *const split[] = {"Name: a\r\nOther: b", NULL};
    const char *const no_colon[] = {"Name", NULL};
    struct client c;
    char *path = calloc(1, 3000);
    set_up(&c, *state);
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        assert_refused_options(&c, (struct websocket_options){.url = urls[i]}, "websocket URL");
    }
    snprintf(path, 3000, "ws://host/%02500d", 0);
    assert_refused_options(&c, (struct websocket_options){.url = path}, "longer than 2000");
    assert_refused_options(&c, (struct websocket_options){.url = "ws://h/", .headers = split},
                           "one line");
    assert_refused_options(&c, (struct websocket_options){.url = "ws://h/", .headers = no_colon},
                           "one line");
    assert_refused_options(&c, (struct websocket_options){.url = "ws://h/", .subprotocol = "a\nb"},
                           "subprotocol");
    free(path);
    c.closed = 1;
    finish(&c);
}

static void test_a_context_that_was_never_used(void **state)
{
    struct client c;
    set_up(&c, *state);
    c.closed = 1;
    finish(&c);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_a_name_is_resolved),
        cmocka_unit_test(test_subprotocols),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_answer_and_message_in_one_write),
        cmocka_unit_test(test_slow_and_large_heads),
        cmocka_unit_test(test_pings_are_answered),
        cmocka_unit_test(test_ten_megabytes_in),
        cmocka_unit_test(test_much_out_in_order),
        cmocka_unit_test(test_the_queue_has_a_cap),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_pause_holds_the_peer_back),
        cmocka_unit_test(test_closed_while_paused),
        cmocka_unit_test(test_quick_acknowledgements),
        cmocka_unit_test(test_closed_at_once),
        cmocka_unit_test(test_closed_in_callbacks),
        cmocka_unit_test(test_what_was_sent_goes_before_the_close),
        cmocka_unit_test(test_a_peer_that_never_closes),
        cmocka_unit_test(test_several_on_one_context),
        cmocka_unit_test(test_options_that_are_wrong),
        cmocka_unit_test(test_a_context_that_was_never_used),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
