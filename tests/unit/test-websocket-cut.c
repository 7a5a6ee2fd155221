/* Websockets that do not open, are cut, or go silent. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/websocket-trial.h"

/* ---- refused and cut, phase by phase ---- */

static void assert_path_ends(struct server *server, const char *path, enum error_kind kind,
                             long status, const char *part)
{
    struct client c;
    begin(&c, server, path, (struct websocket_options){.message_cap = 1000000});
    wait_for(&c, &c.ended, 1);
    if (c.status != status) {
        fail_msg("%s: status %ld: %s", path, c.status, c.err.message);
    }
    assert_ends(&c, kind, part);
}

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    close(fd);
    return ntohs(at.sin_port);
}

static void test_nobody_listens(void **state)
{
    struct client c;
    char url[64];
    snprintf(url, sizeof(url), "ws://127.0.0.1:%d/", free_port());
    begin(&c, *state, NULL, (struct websocket_options){.url = url});
    assert_ends(&c, ERROR_LOST, "Connection refused");
    begin(&c, *state, NULL, (struct websocket_options){.url = url});
    c.close_in_end = true;
    assert_ends(&c, ERROR_LOST, "Connection refused");
    begin(&c, *state, NULL,
          (struct websocket_options){.url = "ws://docker/", .unix_socket = "/nonexistent/socket"});
    assert_ends(&c, ERROR_LOST, "/nonexistent/socket: No such file");
    begin(&c, *state, NULL, (struct websocket_options){.url = "ws://nowhere.invalid/"});
    wait_for(&c, &c.ended, 1);
    assert_non_null(strstr(c.err.message, "nowhere.invalid"));
    finish(&c);
}

/* A listener whose queue is full: the kernel answers no SYN. */
static void test_no_connection_in_time(void **state)
{
    enum { FILLERS = 4 };
    struct client c;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fillers[FILLERS];
    char url[64];
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    for (int i = 0; i < FILLERS; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fillers[i], (struct sockaddr *)&at, size);
    }
    usleep(20000);
    snprintf(url, sizeof(url), "ws://127.0.0.1:%d/", ntohs(at.sin_port));
    begin(&c, *state, NULL, (struct websocket_options){.url = url, .connect_timeout_ms = 200});
    assert_ends(&c, ERROR_TIMEOUT, "no connection within 200 ms");
    begin(&c, *state, NULL, (struct websocket_options){.url = url});
    rest(&c, 50);
    finish(&c); /* closed while it connects */
    assert_int_equal(c.ended, 0);
    for (int i = 0; i < FILLERS; i++) {
        close(fillers[i]);
    }
    close(fd);
}

static void test_no_handshake_in_time(void **state)
{
    struct server *server = *state;
    struct client c;
    char url[64];
    begin(&c, server, "no-answer", (struct websocket_options){.connect_timeout_ms = 200});
    assert_ends(&c, ERROR_TIMEOUT, "no answer to the WebSocket handshake within 200 ms");
    begin(&c, server, "no-answer", (struct websocket_options){.connect_timeout_ms = 200});
    c.close_in_end = true;
    assert_ends(&c, ERROR_TIMEOUT, "no answer to the WebSocket handshake within 200 ms");
    snprintf(url, sizeof(url), "wss://127.0.0.1:%d/", server->silent); /* in TLS */
    begin(&c, server, NULL, (struct websocket_options){.url = url, .connect_timeout_ms = 200});
    assert_ends(&c, ERROR_TIMEOUT, "no answer to the WebSocket handshake within 200 ms");
    begin(&c, server, "no-answer", (struct websocket_options){0});
    rest(&c, 50);
    finish(&c); /* closed while it waits */
    assert_int_equal(c.ended, 0);
}

static void test_refused(void **state)
{
    struct server *s = *state;
    assert_path_ends(s, "status?is=401+Unauthorized", ERROR_REFUSED, 401, "HTTP 401 Unauthorized");
    assert_path_ends(s, "status?is=403+Forbidden", ERROR_REFUSED, 403, "HTTP 403 Forbidden");
    assert_path_ends(s, "status?is=404+Not+Found", ERROR_NOT_FOUND, 404, "HTTP 404 Not Found");
    assert_path_ends(s, "status?is=503+Busy", ERROR_LOST, 503, "HTTP 503 Busy");
    assert_path_ends(s, "status?is=302+Found", ERROR_LOST, 302, "HTTP 302 Found");
    assert_path_ends(s, "status?is=200+OK", ERROR_LOST, 200, "HTTP 200 OK");
}

static void test_a_handshake_that_is_wrong(void **state)
{
    struct server *s = *state;
    assert_path_ends(s, "wrong-accept", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "no-accept", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "no-http", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "endless-head", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "cut-head?at=0", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "cut-head?at=7", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "cut-head?at=60", ERROR_LOST, 0, "handshake");
}

static void test_cut(void **state)
{
    struct server *s = *state;
    assert_path_ends(s, "cut?at=first", ERROR_LOST, 0, "was lost");
    assert_path_ends(s, "cut?at=head", ERROR_LOST, 0, "was lost");
    assert_path_ends(s, "cut?at=length", ERROR_LOST, 0, "was lost");
    assert_path_ends(s, "cut?at=payload", ERROR_LOST, 0, "was lost");
    assert_path_ends(s, "cut?at=payload&reset=1", ERROR_LOST, 0, "was lost");
    assert_path_ends(s, "cut?at=first&joined=1", ERROR_LOST, 0, "in the middle of a message");
}

static void test_closed_by_the_peer(void **state)
{
    struct server *s = *state;
    assert_path_ends(s, "close?code=1000", ERROR_LOST, 0, "code 1000");
    assert_server_says(s, "answered 8 03e8");
    assert_path_ends(s, "close?code=4001&reason=kernel+gone", ERROR_LOST, 0,
                     "code 4001, kernel gone");
    assert_server_says(s, "answered 8 0fa16b65726e656c20676f6e65");
    assert_path_ends(s, "close", ERROR_LOST, 0, "code 1005");
}

static void test_too_long(void **state)
{
    struct server *s = *state;
    assert_path_ends(s, "too-long", ERROR_LIMIT, 0, "more than 1000000 bytes");
    assert_server_says(s, "close 1009");
    assert_path_ends(s, "too-long?size=1000001", ERROR_LIMIT, 0, "more than 1000000 bytes");
    assert_path_ends(s, "long-fragments", ERROR_LIMIT, 0, "more than 1000000 bytes");
}

static void test_frames_that_are_invalid(void **state)
{
    static const char *const what[] = {"opcode",    "rsv",       "continuation", "long-ping",
                                       "half-ping", "half-text", "length"};
    char path[64];
    for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
        snprintf(path, sizeof(path), "invalid?what=%s", what[i]);
        assert_path_ends(*state, path, ERROR_LOST, 0, "no valid frame");
    }
}

static void test_garbage(void **state)
{
    struct client c;
    for (int i = 0; i < 20; i++) {
        begin(&c, *state, "garbage", (struct websocket_options){.message_cap = 100000});
        turn(&c, &c.ended, 1, 50); /* what looks like a long frame is waited for */
        finish(&c);
    }
}

/* ---- silence ---- */

static void test_a_silent_peer_is_given_up(void **state)
{
    struct client c;
    begin(&c, *state, "pings-unanswered", (struct websocket_options){.ping_seconds = 1});
    wait_for(&c, &c.opened, 1);
    uint64_t began = uv_hrtime();
    assert_ends(&c, ERROR_LOST, "a ping was not answered");
    assert_true(uv_hrtime() - began > 1900000000ull);
    assert_server_says(*state, "got 9");
}

static void test_a_quiet_peer_is_kept(void **state)
{
    struct client c;
    begin(&c, *state, "counts-pings", (struct websocket_options){.ping_seconds = 1});
    wait_for(&c, &c.opened, 1);
    rest(&c, 2500);
    assert_int_equal(c.ended, 0);
    assert_server_says(*state, "ping");
    assert_server_says(*state, "ping");
    finish(&c);
}

static void test_a_slow_frame_is_no_silence(void **state)
{
    struct client c;
    begin(&c, *state, "drip", (struct websocket_options){.ping_seconds = 1});
    wait_for(&c, &c.messages, 1);
    assert_int_equal(buffer_size(&c.kept), 60);
    finish(&c);
}

static void test_a_pause_is_no_silence(void **state)
{
    struct client c;
    begin(&c, *state, "big?size=1000&count=10", (struct websocket_options){.ping_seconds = 1});
    c.pause_at = 5;
    wait_for(&c, &c.messages, 5);
    rest(&c, 2500);
    assert_int_equal(c.ended, 0);
    websocket_pause(c.ws, false);
    wait_for(&c, &c.messages, 10);
    finish(&c);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_no_connection_in_time),
        cmocka_unit_test(test_no_handshake_in_time),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_a_handshake_that_is_wrong),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_closed_by_the_peer),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_frames_that_are_invalid),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_a_silent_peer_is_given_up),
        cmocka_unit_test(test_a_quiet_peer_is_kept),
        cmocka_unit_test(test_a_slow_frame_is_no_silence),
        cmocka_unit_test(test_a_pause_is_no_silence),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
