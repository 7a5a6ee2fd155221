/* Websockets over TLS. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/websocket-trial.h"

/* ---- TLS ---- */

static void begin_tls(struct client *c, struct server *server, const char *host, int port, bool ca,
                      bool insecure)
{
    char url[128], file[128];
    snprintf(url, sizeof(url), "wss://%s:%d/echo", host, port);
    snprintf(file, sizeof(file), "%s/good.pem", server->folder);
    begin(
        c, server, NULL,
        (struct websocket_options){.url = url, .ca_file = ca ? file : NULL, .insecure = insecure});
}

static void assert_tls_works(struct server *server, const char *host, int port, bool ca,
                             bool insecure)
{
    struct client c;
    begin_tls(&c, server, host, port, ca, insecure);
    wait_for(&c, &c.opened, 1);
    send_text(&c, "secret");
    wait_for(&c, &c.messages, 1);
    assert_kept(&c, false, "secret", 6);
    finish(&c);
}

static void test_tls(void **state)
{
    struct server *server = *state;
    assert_tls_works(server, "localhost", server->tls, true, false);
    assert_tls_works(server, "127.0.0.1", server->tls, true, false);
    assert_tls_works(server, "localhost", server->wrong, false, true);
}

static void test_tls_refused(void **state)
{
    struct server *server = *state;
    struct client c;
    begin_tls(&c, server, "localhost", server->tls, false, false);
    assert_ends(&c, ERROR_LOST, "self-signed certificate");
    begin_tls(&c, server, "localhost", server->wrong, true, false);
    assert_ends(&c, ERROR_LOST, "certificate");
}

static void test_tls_with_a_wrong_name(void **state)
{
    struct server *server = *state;
    struct client c;
    char url[128], file[128];
    snprintf(url, sizeof(url), "wss://localhost:%d/echo", server->wrong);
    snprintf(file, sizeof(file), "%s/wrong.pem", server->folder);
    begin(&c, server, NULL, (struct websocket_options){.url = url, .ca_file = file});
    assert_ends(&c, ERROR_LOST, "hostname mismatch");
    snprintf(url, sizeof(url), "wss://127.0.0.1:%d/echo", server->wrong);
    begin(&c, server, NULL, (struct websocket_options){.url = url, .ca_file = file});
    assert_ends(&c, ERROR_LOST, "IP address mismatch");
}

static void test_tls_to_an_ipv6_address(void **state)
{
    struct server *server = *state;
    struct client c;
    char url[128], file[128];
    if (server->tls6 == 0) {
        skip();
    }
    assert_tls_works(server, "[::1]", server->tls6, true, false);
    snprintf(url, sizeof(url), "wss://[::1]:%d/echo", server->wrong6);
    snprintf(file, sizeof(file), "%s/wrong.pem", server->folder);
    begin(&c, server, NULL, (struct websocket_options){.url = url, .ca_file = file});
    assert_ends(&c, ERROR_LOST, "IP address mismatch");
}

static void test_tls_large_messages(void **state)
{
    struct server *server = *state;
    struct client c;
    char url[128];
    snprintf(url, sizeof(url), "wss://localhost:%d/big?size=3000000", server->tls);
    begin(&c, server, NULL, (struct websocket_options){.url = url, .insecure = true});
    wait_for(&c, &c.messages, 1);
    assert_pattern(buffer_data(&c.kept), 3000000);
    assert_int_equal(websocket_send(c.ws, true, buffer_data(&c.kept), 3000000), 0);
    wait_for(&c, &c.messages, 2);
    assert_int_equal(buffer_size(&c.kept), 3000000);
    assert_pattern(buffer_data(&c.kept), 3000000);
    finish(&c);
}

static void test_tls_where_there_is_none(void **state)
{
    struct server *server = *state;
    struct client c;
    begin_tls(&c, server, "localhost", server->plain, true, false);
    assert_ends(&c, ERROR_LOST, "handshake");
    begin_tls(&c, server, "localhost", server->tls, true, false);
    c.close_in_end = true;
    close_client(&c); /* in the middle of its own handshake */
    finish(&c);
}

static void test_a_ca_file_that_is_none(void **state)
{
    struct server *server = *state;
    struct client c;
    struct error err = {0};
    struct websocket_options options = {.url = "wss://localhost/", .ca_file = "/nonexistent.pem"};
    set_up(&c, server);
    assert_null(websocket_open(c.context, &options, &events, &c, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_non_null(strstr(err.message, "/nonexistent.pem"));
    error_clear(&err);
    c.closed = 1;
    finish(&c);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_tls_refused),
        cmocka_unit_test(test_tls_with_a_wrong_name),
        cmocka_unit_test(test_tls_to_an_ipv6_address),
        cmocka_unit_test(test_tls_large_messages),
        cmocka_unit_test(test_tls_where_there_is_none),
        cmocka_unit_test(test_a_ca_file_that_is_none),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
