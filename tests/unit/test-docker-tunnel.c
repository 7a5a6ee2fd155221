#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

#include "tests/unit/tunnel-trial.h"

static void both_directions_end_one_after_the_other(void **state)
{
    struct scene *s = *state;
    struct client *c = connect_client(s, 0, false);

    send_text(c, "hello", 5);
    spin(s, first_got_some, "an echo");
    assert_false(c->ended);
    shut(c);
    spin(s, first_ended, "the end");
    assert_int_equal(buffer_size(&c->got), 8);
    assert_memory_equal(buffer_data(&c->got), "helloEND", 8);
    assert_string_equal(s->broken, "");
}

/* Half a megabyte for each, all at the same time. */
enum { PART = 512 * 1024 };

static bool all_ended(struct scene *s)
{
    for (unsigned i = 0; i < TUNNEL_CONNECTIONS; i++) {
        if (!s->clients[i].ended) {
            return false;
        }
    }
    return true;
}

static void many_connections_do_not_mix(void **state)
{
    struct scene *s = *state;
    char *bytes = malloc(PART);

    for (unsigned i = 0; i < TUNNEL_CONNECTIONS; i++) {
        struct client *c = connect_client(s, i, false);
        memset(bytes, 'a' + (int)i, PART);
        send_text(c, bytes, PART);
        shut(c);
    }
    spin(s, all_ended, "all ends");
    for (unsigned i = 0; i < TUNNEL_CONNECTIONS; i++) {
        struct client *c = &s->clients[i];
        memset(bytes, 'a' + (int)i, PART);
        assert_int_equal(buffer_size(&c->got), PART + 3);
        assert_memory_equal(buffer_data(&c->got), bytes, PART);
    }
    free(bytes);
}

static bool first_open(struct scene *s)
{
    return s->clients[0].open;
}

static bool last_ended(struct scene *s)
{
    return s->clients[CLIENTS - 1].ended;
}

static void one_connection_too_many_is_closed(void **state)
{
    struct scene *s = *state;

    for (unsigned i = 0; i < CLIENTS; i++) {
        connect_client(s, i, false);
    }
    spin(s, last_ended, "the one too many is closed");
    assert_false(s->clients[0].ended);
    send_text(&s->clients[0], "x", 1);
    spin(s, first_got_some, "the others go on");
}

static bool second_ended(struct scene *s)
{
    return s->clients[1].ended;
}

/* What is left of what the client sent, once no more of it is taken: the pipes and sockets on the
 * way are full then. */
static size_t left_when_quiet(struct scene *s, struct client *c)
{
    enum { QUIET_MS = 400 };
    size_t left = SIZE_MAX, now = uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe);

    while (now > 0 && now != left) {
        left = now;
        spin_ms(s, QUIET_MS);
        now = uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe);
    }
    return now;
}

/* Who does not read is not written to without end, and loses nothing. */
static void a_slow_reader_holds_up_its_own_writer(void **state)
{
    enum { WHOLE = 24 * 1024 * 1024 };
    struct scene *s = *state;
    struct client *c = connect_client(s, 0, true);
    char *bytes = malloc(WHOLE);

    for (unsigned i = 0; i < WHOLE; i++) {
        bytes[i] = (char)(i * 2654435761U >> 13);
    }
    send_text(c, bytes, WHOLE);
    spin(s, first_open, "a connection");
    assert_true(left_when_quiet(s, c) > 0); /* the tunnel took some of it, and no more */
    connect_client(s, 1, false);
    send_text(&s->clients[1], "x", 1);
    shut(&s->clients[1]);
    spin(s, second_ended, "others go on meanwhile");
    read_on(c);
    shut(c);
    spin(s, first_ended, "all of it");
    assert_int_equal(buffer_size(&c->got), WHOLE + 3);
    assert_memory_equal(buffer_data(&c->got), bytes, WHOLE);
    free(bytes);
}

static void a_server_that_ends_ends_the_keeper_with_its_words(void **state)
{
    struct scene *s = scene_new();

    *state = s;
    begin(s, json_pack("[s, s, s]", "/usr/bin/python3", "-c",
                       "import sys; print('no such option'); sys.exit(3)"));
    spin(s, is_exited, "the keeper ends");
    assert_int_equal(s->status, 1);
    spin_ms(s, 100);
    assert_non_null(strstr(s->words, "no such option"));
    assert_non_null(strstr(s->words, "the Kernel Gateway ended with exit code 3"));
    assert_false(s->ready);
}

static bool is_gone(struct scene *s)
{
    return s->gone;
}

static void a_server_that_was_left_and_has_ended_is_told(void **state)
{
    struct scene *s = scene_new();

    *state = s;
    begin(s, NULL);
    spin(s, is_gone, "it is gone");
    assert_false(s->ready);
    assert_string_equal(s->broken, "");
}

static void a_server_that_is_not_there_is_named(void **state)
{
    struct scene *s = scene_new();

    *state = s;
    begin(s, json_pack("[s]", "/nonexistent/gateway"));
    spin(s, is_exited, "the keeper ends");
    spin_ms(s, 100);
    assert_non_null(strstr(s->words, "/nonexistent/gateway: No such file"));
}

#define WITH_KEEPER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_KEEPER(both_directions_end_one_after_the_other),
        WITH_KEEPER(many_connections_do_not_mix),
        WITH_KEEPER(one_connection_too_many_is_closed),
        WITH_KEEPER(a_slow_reader_holds_up_its_own_writer),
        cmocka_unit_test_teardown(a_server_that_ends_ends_the_keeper_with_its_words, tear_down),
        cmocka_unit_test_teardown(a_server_that_was_left_and_has_ended_is_told, tear_down),
        cmocka_unit_test_teardown(a_server_that_is_not_there_is_named, tear_down),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
