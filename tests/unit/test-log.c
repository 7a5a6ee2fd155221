#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/base/log.h"

static ssize_t read_some(int fd, char *text, size_t size)
{
    ssize_t n = read(fd, text, size - 1);

    text[n > 0 ? n : 0] = '\0';
    return n;
}

static void test_one_line_a_message_at_its_level(void **state)
{
    int fds[2];
    char text[4096];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    struct log *log = log_new(fds[1], LOG_LEVEL_WARNING);
    log_write(log, LOG_LEVEL_INFO, "unseen");
    log_write(log, LOG_LEVEL_ERROR, "two\nlines\x1b[31m and %d", 3);
    assert_true(read_some(fds[0], text, sizeof(text)) > 0);
    assert_string_equal(text, "cellblock: error: two lines [31m and 3\n");
    log_write(NULL, LOG_LEVEL_ERROR, "nobody hears this");
    log_free(log);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void test_long_messages_are_cut(void **state)
{
    int fds[2];
    char text[8192], message[5000];

    (void)state;
    memset(message, 'x', sizeof(message) - 1);
    message[sizeof(message) - 1] = '\0';
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    struct log *log = log_new(fds[1], LOG_LEVEL_DEBUG);
    log_write(log, LOG_LEVEL_DEBUG, "%s", message);
    ssize_t n = read_some(fds[0], text, sizeof(text));
    assert_true(n > 500 && n <= 1024);
    assert_int_equal(text[n - 1], '\n');
    assert_non_null(strstr(text, "…"));
    log_free(log);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* A host that never reads must not stop us: this test hangs when a write waits. */
static void never_waits(int in, int out)
{
    static char text[1 << 20];
    struct log *log = log_new(out, LOG_LEVEL_DEBUG);

    for (int i = 0; i < 5000; i++) {
        log_write(log, LOG_LEVEL_DEBUG, "line %d %0200d", i, 0);
    }
    assert_true(read_some(in, text, sizeof(text)) > 0);
    while (recv(in, text, 1, MSG_DONTWAIT) > 0) {
    }
    log_write(log, LOG_LEVEL_DEBUG, "after");
    text[0] = '\0';
    for (int i = 0; i < 100 && !strstr(text, "after"); i++) {
        (void)read_some(in, text, sizeof(text));
    }
    assert_non_null(strstr(text, "log lines were dropped"));
    assert_non_null(strstr(text, "debug: after"));
    log_free(log);
    (void)close(in);
    (void)close(out);
}

static void test_full_pipe_drops_and_tells(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    never_waits(fds[0], fds[1]);
}

static void test_full_socket_drops_and_tells(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    never_waits(fds[0], fds[1]);
}

static void test_closed_reader_is_survived(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    (void)close(fds[0]);
    struct log *log = log_new(fds[1], LOG_LEVEL_DEBUG);
    log_write(log, LOG_LEVEL_ERROR, "to nobody");
    log_free(log);
    (void)close(fds[1]);
}

static void test_levels_have_names(void **state)
{
    enum log_level level = LOG_LEVEL_INFO;

    (void)state;
    for (int i = LOG_LEVEL_DEBUG; i <= LOG_LEVEL_EMERGENCY; i++) {
        assert_int_equal(log_level_parse(log_level_name((enum log_level)i), &level), 0);
        assert_int_equal(level, i);
    }
    assert_int_equal(log_level_parse("loud", &level), -EINVAL);
    assert_int_equal(level, LOG_LEVEL_EMERGENCY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line_a_message_at_its_level),
        cmocka_unit_test(test_long_messages_are_cut),
        cmocka_unit_test(test_full_pipe_drops_and_tells),
        cmocka_unit_test(test_full_socket_drops_and_tells),
        cmocka_unit_test(test_closed_reader_is_survived),
        cmocka_unit_test(test_levels_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
