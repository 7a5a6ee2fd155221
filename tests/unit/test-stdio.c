#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/base/buffer.h"
#include "mcp/jsonrpc.h"
#include "mcp/stdio.h"
#include "tests/unit/cmocka_all.h"

enum { LIMIT_MS = 10000 };

/* stdio on two descriptors, and what it told. */
struct port {
    uv_loop_t loop;
    struct stdio *stdio;
    struct buffer lines; /* each ended by | */
    int line_count, too_long, ended, gone, closed;
};

static void on_line(void *data, const char *line, size_t size)
{
    struct port *p = data;
    p->line_count++;
    if (buffer_size(&p->lines) + size < p->lines.cap) {
        buffer_append(&p->lines, line, size);
        buffer_append(&p->lines, "|", 1);
    }
}

static void on_too_long(void *data)
{
    ((struct port *)data)->too_long++;
}

static void on_end(void *data)
{
    ((struct port *)data)->ended++;
}

static void on_gone(void *data)
{
    ((struct port *)data)->gone++;
}

static void on_closed(void *data)
{
    ((struct port *)data)->closed++;
}

static void port_open(struct port *p, int in, int out)
{
    static const struct stdio_events events = {on_line, on_too_long, on_end, on_gone};
    struct error err = {0};
    *p = (struct port){0};
    buffer_init(&p->lines, 4096);
    assert_int_equal(uv_loop_init(&p->loop), 0);
    p->stdio = stdio_open(&p->loop, in, out, &events, p, &err);
    assert_non_null(p->stdio);
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

/* Turns the loop until *count is `want`, or for LIMIT_MS. */
static void port_turn(struct port *p, const int *count, int want, unsigned limit_ms)
{
    uv_timer_t tick;
    uint64_t end = uv_hrtime() + limit_ms * 1000000ull;
    uv_timer_init(&p->loop, &tick);
    uv_update_time(&p->loop);
    uv_timer_start(&tick, on_tick, 1, 1);
    while ((!count || *count < want) && uv_hrtime() < end) {
        uv_run(&p->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&p->loop, UV_RUN_NOWAIT);
}

static void port_close(struct port *p, unsigned linger_ms)
{
    stdio_close(p->stdio, linger_ms, on_closed, p);
    assert_int_equal(p->closed, 0);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    assert_int_equal(p->closed, 1);
    assert_int_equal(uv_loop_close(&p->loop), 0);
    buffer_deinit(&p->lines);
}

static void assert_lines(struct port *p, const char *expected)
{
    buffer_append(&p->lines, "", 1);
    assert_string_equal(buffer_data(&p->lines), expected);
}

static void put(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static int null_out(void)
{
    return open("/dev/null", O_WRONLY | O_CLOEXEC);
}

static void lines_from_a_pipe(void **state)
{
    struct port p;
    int in[2];
    int out = null_out();
    (void)state;
    assert_int_equal(pipe(in), 0);
    port_open(&p, in[0], out);
    put(in[1], "one\ntw");
    port_turn(&p, &p.line_count, 1, LIMIT_MS);
    put(in[1], "o\r\n\n\r\nthree");
    port_turn(&p, &p.line_count, 2, LIMIT_MS);
    assert_int_equal(p.ended, 0);
    close(in[1]);
    port_turn(&p, &p.ended, 1, LIMIT_MS);
    assert_lines(&p, "one|two|three|");
    port_close(&p, 0);
    close(in[0]);
    close(out);
}

static void lines_from_a_file_and_from_nothing(void **state)
{
    struct port p;
    int out = null_out();
    int fd = memfd_create("lines", MFD_CLOEXEC);
    (void)state;
    put(fd, "a\nb\nc");
    lseek(fd, 0, SEEK_SET);
    port_open(&p, fd, out);
    assert_true(stdio_reads_file(p.stdio));
    port_turn(&p, &p.ended, 1, LIMIT_MS);
    assert_lines(&p, "a|b|c|");
    port_close(&p, 0);
    close(fd);
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    port_open(&p, fd, out);
    port_turn(&p, &p.ended, 1, LIMIT_MS);
    assert_int_equal(p.line_count, 0);
    port_close(&p, 0);
    close(fd);
    close(out);
}

static void closing_while_a_file_is_read(void **state)
{
    struct port p;
    int out = null_out();
    int fd = memfd_create("lines", MFD_CLOEXEC);
    (void)state;
    put(fd, "a\n");
    lseek(fd, 0, SEEK_SET);
    port_open(&p, fd, out);
    port_close(&p, 0);
    close(fd);
    close(out);
}

static void held_input_waits(void **state)
{
    struct port p;
    int in[2];
    int out = null_out();
    (void)state;
    assert_int_equal(pipe(in), 0);
    port_open(&p, in[0], out);
    stdio_hold(p.stdio, true);
    put(in[1], "one\ntwo\n");
    close(in[1]);
    port_turn(&p, NULL, 0, 20);
    assert_int_equal(p.line_count, 0);
    stdio_hold(p.stdio, false);
    port_turn(&p, &p.ended, 1, LIMIT_MS);
    assert_int_equal(p.line_count, 2);
    port_close(&p, 0);
    close(in[0]);
    close(out);
}

/* Sends `size` bytes without a newline while the loop turns. */
static void pour(struct port *p, int fd, size_t size)
{
    static char block[65536];
    memset(block, 'x', sizeof block);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (size > 0) {
        size_t part = size < sizeof block ? size : sizeof block;
        ssize_t n = write(fd, block, part);
        size -= n > 0 ? (size_t)n : 0;
        uv_run(&p->loop, UV_RUN_NOWAIT);
    }
}

static void a_line_past_the_cap_is_told_and_skipped(void **state)
{
    struct port p;
    int in[2];
    int out = null_out();
    struct rusage before;
    struct rusage after;
    (void)state;
    assert_int_equal(pipe(in), 0);
    port_open(&p, in[0], out);
    pour(&p, in[1], MESSAGE_CAP);
    put(in[1], "\n");
    port_turn(&p, &p.line_count, 1, LIMIT_MS);
    assert_int_equal(p.too_long, 0);
    getrusage(RUSAGE_SELF, &before);
    pour(&p, in[1], 5 * (size_t)MESSAGE_CAP);
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 64L * 1024);
    assert_int_equal(p.too_long, 1);
    put(in[1], "\nnext\n");
    port_turn(&p, &p.line_count, 2, LIMIT_MS);
    pour(&p, in[1], MESSAGE_CAP + 1);
    put(in[1], "\n");
    port_turn(&p, &p.too_long, 2, LIMIT_MS);
    assert_int_equal(p.line_count, 2);
    assert_lines(&p, "next|");
    close(in[1]);
    port_close(&p, 0);
    close(in[0]);
    close(out);
}

static void a_slow_reader_stops_the_reading(void **state)
{
    enum { BIG = 1024 * 1024, COUNT = 10 };
    struct port p;
    int in[2];
    int out[2];
    char *big = malloc(BIG);
    size_t got = 0;
    (void)state;
    memset(big, 'y', BIG);
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    port_open(&p, in[0], out[1]);
    for (int i = 0; i < COUNT; i++) {
        stdio_write(p.stdio, big, BIG);
    }
    assert_true(stdio_congested(p.stdio));
    put(in[1], "one\n");
    port_turn(&p, NULL, 0, 20);
    assert_int_equal(p.line_count, 0);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    while (got < (size_t)COUNT * BIG) {
        ssize_t n = read(out[0], big, BIG);
        got += n > 0 ? (size_t)n : 0;
        uv_run(&p.loop, UV_RUN_NOWAIT);
    }
    port_turn(&p, &p.line_count, 1, LIMIT_MS);
    assert_int_equal(p.line_count, 1);
    assert_false(stdio_congested(p.stdio));
    port_close(&p, 0);
    free(big);
    for (int i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
    }
}

static void the_last_bytes_are_written_within_the_linger(void **state)
{
    enum { BIG = 1024 * 1024 };
    struct port p;
    int out[2];
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char *big = malloc(BIG);
    (void)state;
    memset(big, 'z', BIG);
    assert_int_equal(pipe(out), 0);
    port_open(&p, in, out[1]);
    stdio_write(p.stdio, big, BIG);
    stdio_close(p.stdio, LIMIT_MS, on_closed, &p);
    size_t got = 0;
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    while (!p.closed) {
        ssize_t n = read(out[0], big, BIG);
        got += n > 0 ? (size_t)n : 0;
        uv_run(&p.loop, UV_RUN_NOWAIT);
    }
    for (ssize_t n; (n = read(out[0], big, BIG)) > 0;) {
        got += (size_t)n;
    }
    assert_int_equal(got, BIG);
    uv_run(&p.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&p.loop), 0);
    buffer_deinit(&p.lines);
    /* and a reader that never reads is not waited for longer than that */
    port_open(&p, in, out[1]);
    stdio_write(p.stdio, big, BIG);
    uint64_t start = uv_hrtime();
    port_close(&p, 50);
    assert_true(uv_hrtime() - start < 2000000000ull);
    free(big);
    close(in);
    close(out[0]);
    close(out[1]);
}

static void a_reader_that_goes_is_noticed_without_a_write(void **state)
{
    struct port p;
    int in[2];
    int out[2];
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        assert_int_equal(pipe(in), 0);
        assert_int_equal(kind ? socketpair(AF_UNIX, SOCK_STREAM, 0, out) : pipe(out), 0);
        port_open(&p, in[0], out[1]);
        port_turn(&p, NULL, 0, 5);
        assert_int_equal(p.gone, 0);
        close(out[0]);
        port_turn(&p, &p.gone, 1, LIMIT_MS);
        assert_int_equal(p.gone, 1);
        stdio_write(p.stdio, "x\n", 2);
        port_turn(&p, NULL, 0, 5);
        assert_int_equal(p.gone, 1);
        port_close(&p, 100);
        close(in[0]);
        close(in[1]);
        close(out[1]);
    }
}

/* One socket both ways: its peer may end its sending half and still read. */
static void a_half_closed_socket_is_only_the_end_of_input(void **state)
{
    struct port p;
    int pair[2];
    char got[16] = "";
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    int flags = fcntl(pair[1], F_GETFL);
    port_open(&p, pair[1], pair[1]);
    put(pair[0], "one\n");
    shutdown(pair[0], SHUT_WR);
    port_turn(&p, &p.ended, 1, LIMIT_MS);
    port_turn(&p, NULL, 0, 10);
    assert_int_equal(p.line_count, 1);
    assert_int_equal(p.gone, 0);
    stdio_write(p.stdio, "answer\n", 7);
    assert_int_equal(read(pair[0], got, sizeof got), 7);
    close(pair[0]);
    port_turn(&p, NULL, 0, 10);
    port_close(&p, 0);
    assert_int_equal(fcntl(pair[1], F_GETFL), flags); /* as we found it */
    close(pair[1]);
}

static void a_shared_pipe_keeps_its_flags(void **state)
{
    struct port p;
    int in[2];
    int out[2];
    (void)state;
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    port_open(&p, in[0], out[1]);
    assert_int_equal(fcntl(in[0], F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
    port_close(&p, 0);
    for (int i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
    }
}

/* In a child: 0 and 1 are ours no more, and the copies work. */
static int claim_in_child(void)
{
    struct error err = {0};
    int in;
    int out;
    char byte = 0;
    if (stdio_claim(&in, &out, &err) < 0) {
        return 1;
    }
    if (read(STDIN_FILENO, &byte, 1) != 0 || read(in, &byte, 1) != 1 || byte != 'q') {
        return 2;
    }
    if (!(fcntl(in, F_GETFD) & FD_CLOEXEC) || !(fcntl(out, F_GETFD) & FD_CLOEXEC)) {
        return 3;
    }
    return write(STDOUT_FILENO, "stray", 5) == 5 && write(out, "proto", 5) == 5 ? 0 : 4;
}

static void the_protocol_moves_off_0_and_1(void **state)
{
    int in[2];
    int out[2];
    int stray[2];
    char got[16] = "";
    int status;
    (void)state;
    assert_int_equal(pipe(in) | pipe(out) | pipe(stray), 0);
    put(in[1], "q");
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(stray[1], 2);
        _exit(claim_in_child());
    }
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(read(out[0], got, sizeof got), 5);
    assert_memory_equal(got, "proto", 5);
    assert_int_equal(read(stray[0], got, sizeof got), 5);
    assert_memory_equal(got, "stray", 5);
    for (int i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
        close(stray[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_from_a_pipe),
        cmocka_unit_test(lines_from_a_file_and_from_nothing),
        cmocka_unit_test(closing_while_a_file_is_read),
        cmocka_unit_test(held_input_waits),
        cmocka_unit_test(a_line_past_the_cap_is_told_and_skipped),
        cmocka_unit_test(a_slow_reader_stops_the_reading),
        cmocka_unit_test(the_last_bytes_are_written_within_the_linger),
        cmocka_unit_test(a_reader_that_goes_is_noticed_without_a_write),
        cmocka_unit_test(a_half_closed_socket_is_only_the_end_of_input),
        cmocka_unit_test(a_shared_pipe_keeps_its_flags),
        cmocka_unit_test(the_protocol_moves_off_0_and_1),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
