#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "tests/unit/tunnel-trial.h"

static void its_socket_has_no_name(void **state)
{
    struct scene *s = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof(address);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un to = {.sun_family = AF_UNIX};

    snprintf(to.sun_path, sizeof(to.sun_path), "%s", tunnel_path(s->tunnel));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(getpeername(fd, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(access(address.sun_path, F_OK), -1);
    *strrchr(address.sun_path, '/') = '\0';
    assert_int_equal(access(address.sun_path, F_OK), -1);
    close(fd);
}

static void another_process_is_turned_away(void **state)
{
    struct scene *s = *state;
    char command[256];

    snprintf(command, sizeof(command),
             "/usr/bin/python3 -c \"import socket,sys\n"
             "s=socket.socket(socket.AF_UNIX)\n"
             "s.settimeout(10)\n"
             "s.connect('/proc/%d/fd/%s')\n"
             "sys.exit(len(s.recv(1)))\"",
             (int)getpid(), strrchr(tunnel_path(s->tunnel), '/') + 1);
    FILE *other = popen(command, "r"); // NOLINT(cert-env33-c): a fixed command of our own
    assert_non_null(other);
    int out = fileno(other);
    assert_int_equal(fcntl(out, F_SETFL, O_NONBLOCK), 0);
    for (unsigned i = 0; i < LIMIT_MS / 20 && read(out, command, sizeof(command)) != 0; i++) {
        spin_ms(s, 20); /* until it has ended */
    }
    assert_int_equal(pclose(other), 0);
    assert_int_equal(buffer_size(&s->sent), 0);
}

/* ---- a far end that lies ---- */

static void feed(struct scene *s, unsigned kind, uint32_t number, const void *payload, size_t size)
{
    char *frame = malloc(9 + size);
    uint32_t words[2] = {(uint32_t)size, number};

    memcpy(frame, &words[0], 4);
    frame[4] = (char)kind;
    memcpy(frame + 5, &words[1], 4);
    if (size) {
        memcpy(frame + 9, payload, size);
    }
    tunnel_feed(s->tunnel, frame, 9 + size);
    free(frame);
}

static bool first_open(struct scene *s)
{
    return s->clients[0].open && buffer_size(&s->sent) >= 9;
}

enum { DATA = 3, END, CLOSE, MORE, READY };

static void a_frame_that_is_none_breaks_it_off(void **state)
{
    struct scene *s = *state;
    feed(s, 99, 0, NULL, 0);
    assert_string_equal(s->broken, "it sent a frame that is none");
    feed(s, 98, 0, NULL, 0); /* told once */
}

static void a_connection_that_never_was_breaks_it_off(void **state)
{
    struct scene *s = *state;
    feed(s, DATA, 7, "x", 1);
    assert_string_equal(s->broken, "it sent a frame that is none");
}

static void a_length_past_the_cap_breaks_it_off(void **state)
{
    struct scene *s = *state;
    tunnel_feed(s->tunnel, "\xff\xff\xff\xff\x03\0\0\0\0", 9);
    assert_string_equal(s->broken, "it sent a frame that is too long");
}

static void more_than_the_window_breaks_it_off(void **state)
{
    struct scene *s = *state;
    char *piece = calloc(1, TUNNEL_PIECE);

    connect_client(s, 0, true);
    spin(s, first_open, "a connection");
    for (unsigned i = 0; i < 200 && !s->broken[0]; i++) {
        feed(s, DATA, 1, piece, TUNNEL_PIECE);
    }
    assert_string_equal(s->broken, "it sent more than it was allowed to");
    free(piece);
}

static void a_grant_of_what_was_not_sent_breaks_it_off(void **state)
{
    struct scene *s = *state;
    connect_client(s, 0, false);
    spin(s, first_open, "a connection");
    feed(s, MORE, 1, "\1\0\0\0", 4);
    assert_string_equal(s->broken, "it took what it was not sent");
}

static void bytes_after_the_end_break_it_off(void **state)
{
    struct scene *s = *state;
    connect_client(s, 0, false);
    spin(s, first_open, "a connection");
    feed(s, END, 1, NULL, 0);
    feed(s, DATA, 1, "x", 1);
    assert_string_equal(s->broken, "it sent more than it was allowed to");
}

static void frames_for_a_connection_that_is_closed_are_passed_over(void **state)
{
    struct scene *s = *state;
    connect_client(s, 0, false);
    spin(s, first_open, "a connection");
    feed(s, CLOSE, 1, NULL, 0);
    feed(s, DATA, 1, "x", 1);
    feed(s, MORE, 1, "\1\0\0\0", 4);
    feed(s, CLOSE, 1, NULL, 0);
    spin(s, first_ended, "the end");
    feed(s, READY, 0, NULL, 0);
    assert_true(s->ready);
    assert_string_equal(s->broken, "");
}

static void a_frame_may_come_byte_by_byte(void **state)
{
    struct scene *s = *state;
    static const char frames[] = "\3\0\0\0\3\1\0\0\0abc\0\0\0\0\7\0\0\0\0";

    connect_client(s, 0, false);
    spin(s, first_open, "a connection");
    for (size_t i = 0; i < sizeof(frames) - 1; i++) {
        tunnel_feed(s->tunnel, frames + i, 1);
    }
    spin(s, first_got_some, "bytes");
    assert_memory_equal(buffer_data(&s->clients[0].got), "abc", 3);
    assert_true(s->ready);
}

static void nobody_is_let_in_when_the_stream_has_ended(void **state)
{
    struct scene *s = *state;
    tunnel_ended(s->tunnel);
    connect_client(s, 0, false);
    spin(s, first_ended, "the end");
    assert_int_equal(buffer_size(&s->sent), 0);
}

#define ALONE(test) cmocka_unit_test_setup_teardown(test, set_up_alone, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE(its_socket_has_no_name),
        ALONE(another_process_is_turned_away),
        ALONE(a_frame_that_is_none_breaks_it_off),
        ALONE(a_connection_that_never_was_breaks_it_off),
        ALONE(a_length_past_the_cap_breaks_it_off),
        ALONE(more_than_the_window_breaks_it_off),
        ALONE(a_grant_of_what_was_not_sent_breaks_it_off),
        ALONE(bytes_after_the_end_break_it_off),
        ALONE(frames_for_a_connection_that_is_closed_are_passed_over),
        ALONE(a_frame_may_come_byte_by_byte),
        ALONE(nobody_is_let_in_when_the_stream_has_ended),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
