/* The runner kernel: what it makes of good frames, and a run with the real worker. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/runner-trial.h"

/* ---- good frames ---- */

static void test_greeting_describes(void **state)
{
    struct host *h = *state;

    greeted(h);
    assert_string_equal(h->ready, "Python 3.11.2, IPython 8.5.0");
}

static void test_run_frame_holds_everything(void **state)
{
    struct host *h = *state;
    json_t *env = json_pack("{s:s}", "A", "b");

    greeted(h);
    assert_int_equal(runner_kernel.run(h->kernel, &(struct run_request){.id = "r-1",
                                                                        .language = "shell",
                                                                        .code = "a\0\xc3\xbc",
                                                                        .code_size = 4,
                                                                        .stdin_text = "in",
                                                                        .stdin_size = 2,
                                                                        .env = env}),
                     0);
    json_decref(env);
    size_t size = buffer_size(&h->sent);
    assert_int_equal((unsigned char)buffer_data(&h->sent)[4], FRAME_RUN);
    json_t *run =
        json_loadb(buffer_data(&h->sent) + FRAME_HEADER, size - FRAME_HEADER, JSON_ALLOW_NUL, NULL);
    assert_non_null(run);
    assert_string_equal(json_string_value(json_object_get(run, "run")), "r-1");
    assert_string_equal(json_string_value(json_object_get(run, "language")), "shell");
    assert_int_equal(json_string_length(json_object_get(run, "code")), 4);
    assert_string_equal(json_string_value(json_object_get(run, "stdin")), "in");
    assert_int_equal(json_object_size(json_object_get(run, "env")), 1);
    json_decref(run);
}

static json_t *sent_run(struct host *h, const struct run_request *request)
{
    buffer_reset(&h->sent);
    assert_int_equal(runner_kernel.run(h->kernel, request), 0);
    json_t *run = json_loadb(buffer_data(&h->sent) + FRAME_HEADER,
                             buffer_size(&h->sent) - FRAME_HEADER, JSON_ALLOW_NUL, NULL);
    assert_non_null(run);
    return run;
}

static void test_run_frame_of_a_command(void **state)
{
    struct host *h = *state;
    const char *const argv[] = {"a b", "", "\xc3\xbc", NULL};
    struct run_request request = {
        .id = "r-1", .argv = argv, .workdir = "w", .folder = "/f", .stdin_open = true};

    greeted(h);
    json_t *run = sent_run(h, &request);
    assert_int_equal(json_array_size(json_object_get(run, "argv")), 3);
    assert_string_equal(json_string_value(json_array_get(json_object_get(run, "argv"), 2)),
                        "\xc3\xbc");
    assert_string_equal(json_string_value(json_object_get(run, "workdir")), "w");
    assert_string_equal(json_string_value(json_object_get(run, "folder")), "/f");
    assert_true(json_is_true(json_object_get(run, "stdin_open")));
    assert_null(json_object_get(run, "python"));
    assert_null(json_object_get(run, "code"));
    json_decref(run);
    feed(h, FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\"}");
    request = (struct run_request){.id = "r-2", .argv = argv, .python = true};
    run = sent_run(h, &request);
    assert_true(json_is_true(json_object_get(run, "python")));
    assert_null(json_object_get(run, "workdir"));
    assert_null(json_object_get(run, "folder"));
    assert_null(json_object_get(run, "stdin_open"));
    json_decref(run);
}

static void test_frames_for_a_command(void **state)
{
    struct host *h = *state;

    greeted(h);
    assert_int_equal(runner_kernel.write(h->kernel, "r-1", "a\0b", 3, true), 0);
    assert_int_equal(buffer_size(&h->sent), FRAME_HEADER + 8);
    assert_memory_equal(buffer_data(&h->sent), "\x08\0\0\0\x03\x01\x03r-1a\0b", FRAME_HEADER + 8);
    buffer_reset(&h->sent);
    assert_int_equal(runner_kernel.write(h->kernel, "r-1", NULL, 0, false), 0);
    assert_memory_equal(buffer_data(&h->sent), "\x05\0\0\0\x03\0\x03r-1", FRAME_HEADER + 5);
    buffer_reset(&h->sent);
    assert_int_equal(runner_kernel.write(h->kernel, "r-1", "", FRAME_PAYLOAD_CAP, false),
                     -EMSGSIZE);
    assert_int_equal(buffer_size(&h->sent), 0);
    assert_int_equal(runner_kernel.signal(h->kernel, "r-1", 15), 0);
    assert_int_equal(buffer_data(&h->sent)[4], FRAME_SIGNAL);
    assert_memory_equal(buffer_data(&h->sent) + FRAME_HEADER, "{\"run\":\"r-1\",\"signal\":15}",
                        buffer_size(&h->sent) - FRAME_HEADER);
    h->link.events.on_end(h->link.data);
    assert_int_equal(runner_kernel.signal(h->kernel, "r-1", 15), -EPIPE);
    assert_int_equal(runner_kernel.write(h->kernel, "r-1", "x", 1, false), -EPIPE);
}

static void test_output_display_and_end_in_order(void **state)
{
    struct host *h = *state;

    greeted(h);
    assert_int_equal(start(h, "r-1"), 0);
    feed(h, FRAME_STDOUT, "out");
    feed(h, FRAME_STDERR, "err");
    feed(h, FRAME_DISPLAY,
         "{\"kind\":\"update\",\"data\":{\"text/plain\":\"x\",\"application/json\":{\"a\":[1]}},"
         "\"metadata\":{},\"display_id\":\"d1\",\"sync\":true}");
    assert_int_equal(h->acks, 1);
    feed(h, FRAME_CLEAR, "{\"wait\":false,\"sync\":false}");
    feed(h, FRAME_NOTE, "{\"text\":\"hm\"}");
    feed(h, FRAME_DONE,
         "{\"run\":\"r-1\",\"status\":\"error\",\"exit_code\":null,\"signal\":null,\"error\":"
         "{\"etype\":\"E\",\"evalue\":\"v\\u0000w\",\"traceback\":null},"
         "\"execution_count\":3,\"cpu_ms\":4,\"peak_rss_kib\":5}");
    assert_string_equal(h->broken, "");
    assert_string_equal(h->log, "out!err<2 d1><3 ->");
    assert_string_equal(h->note, "hm");
    assert_int_equal(h->acks, 1);
    assert_int_equal(h->drains, 4); /* before each of them */
    assert_int_equal(h->replies, 1);
    assert_int_equal(h->reply.status, KERNEL_ERROR);
    assert_string_equal(h->etype, "E");
    assert_string_equal(h->evalue, "v\xef\xbf\xbdw");
    assert_null(h->traceback);
    assert_int_equal(h->reply.execution_count, 3);
    assert_int_equal(h->reply.cpu_ms, 4);
    assert_int_equal(h->reply.peak_rss_kib, 5);
}

static void on_delayed(void *data, const char *what)
{
    assert_null(what);
    on_output(data, STREAM_STDOUT, "[", 1);
}

static void on_begun(void *data)
{
    on_output(data, STREAM_STDOUT, "]", 1);
}

/* The code that is run can send these frames too: the clock stands once, where it may. */
static void test_the_clock_stands_once(void **state)
{
    struct host *h = *state;
    struct link_ops late = *h->link.ops;
    struct kernel_events clock = events;

    late.may_delay = true;
    clock.on_delayed = on_delayed;
    clock.on_begun = on_begun;
    clock.on_output = on_output;
    runner_kernel.detach(h->kernel);
    h->kernel = runner_kernel.attach(&h->link, &clock, h);
    greeted(h);
    assert_int_equal(start(h, "r-1"), 0);
    feed(h, FRAME_DELAYED, ""); /* not by this link */
    feed(h, FRAME_BEGIN, "");
    assert_string_equal(h->log, "");
    h->link.ops = &late;
    feed(h, FRAME_BEGIN, "");
    feed(h, FRAME_DELAYED, "");
    feed(h, FRAME_DELAYED, "");
    feed(h, FRAME_BEGIN, "");
    feed(h, FRAME_DELAYED, "");
    feed(h, FRAME_BEGIN, "");
    assert_string_equal(h->log, "[]");
    feed(h, FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\"}");
    assert_int_equal(start(h, "r-2"), 0);
    feed(h, FRAME_DELAYED, "");
    assert_string_equal(h->log, "[]");
    assert_string_equal(h->broken, "");
}

static void test_any_cut_of_the_stream_is_the_same(void **state)
{
    struct host *h = *state;
    unsigned char header[FRAME_HEADER];
    struct buffer all;
    static const char *const payloads[] = {GREETING, "{\"run\":\"r-1\",\"status\":\"ok\"}"};

    buffer_init(&all, 1000);
    frame_header(header, FRAME_GREETING, strlen(payloads[0]));
    assert_int_equal(buffer_append(&all, header, FRAME_HEADER), 0);
    assert_int_equal(buffer_append(&all, payloads[0], strlen(payloads[0])), 0);
    for (size_t i = 0; i < buffer_size(&all); i++) {
        h->link.events.on_frames(h->link.data, buffer_data(&all) + i, 1);
    }
    assert_true(h->ready[0]);
    assert_int_equal(start(h, "r-1"), 0);
    feed(h, FRAME_DONE, payloads[1]);
    assert_int_equal(h->replies, 1);
    buffer_deinit(&all);
}

static void test_long_texts_are_cut_in_the_middle(void **state)
{
    struct host *h = *state;
    size_t size = 200000;
    char *long_text = malloc(size + 1), *frame = malloc(size + 200);

    for (size_t i = 0; i < size; i += 2) {
        memcpy(long_text + i, "\xc3\xa4", 2);
    }
    long_text[size] = '\0';
    (void)snprintf(frame, size + 200,
                   "{\"run\":\"r-1\",\"status\":\"error\",\"error\":{\"etype\":\"E\","
                   "\"evalue\":\"begin%send\",\"traceback\":\"\"}}",
                   long_text);
    greeted(h);
    assert_int_equal(start(h, "r-1"), 0);
    feed(h, FRAME_DONE, frame);
    assert_int_equal(h->replies, 1);
    size_t length = strlen(h->evalue);
    assert_true(length > 60000 && length < 66000);
    assert_memory_equal(h->evalue, "begin", 5);
    assert_string_equal(h->evalue + length - 3, "end");
    assert_non_null(strstr(h->evalue, "bytes left out"));
    json_t *utf8 = json_stringn(h->evalue, length);
    assert_non_null(utf8);
    json_decref(utf8);
    free(long_text);
    free(frame);
}

static void test_between_runs_everything_but_output_is_dropped(void **state)
{
    struct host *h = *state;

    greeted(h);
    feed(h, FRAME_STDOUT, "idle");
    feed(h, FRAME_NOTE, "{\"text\":\"ghost\"}");
    feed(h, FRAME_CLEAR, "{\"wait\":false,\"sync\":true}");
    feed(h, FRAME_DONE, "{\"run\":\"r-0\",\"status\":\"ok\"}");
    assert_string_equal(h->log, "idle");
    assert_string_equal(h->note, "");
    assert_int_equal(h->replies, 0);
    assert_int_equal(h->acks, 1); /* nobody is left waiting */
    assert_string_equal(h->broken, "");
}

static void test_detach_from_inside_an_event(void **state)
{
    struct host *h = *state;

    h->detach_in_reply = true;
    greeted(h);
    assert_int_equal(start(h, "r-1"), 0);
    feed(h, FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\"}");
    assert_null(h->kernel);
    feed(h, FRAME_STDOUT, "to nobody");
    h->link.events.on_end(h->link.data);
    assert_string_equal(h->log, "");
    assert_string_equal(h->broken, "");
}

/* ---- the real worker ---- */

static int real_send(struct link *link, const void *bytes, size_t size)
{
    return write(host_of(link)->fd, bytes, size) == (ssize_t)size ? 0 : -EPIPE;
}

static void read_stream(struct host *h, int fd, enum stream stream)
{
    char text[4096];
    ssize_t n;

    while ((n = read(fd, text, sizeof(text))) > 0) {
        h->link.events.on_output(h->link.data, stream, text, (size_t)n);
    }
}

static void real_drain(struct link *link)
{
    struct host *h = host_of(link);

    read_stream(h, h->out_fd, STREAM_STDOUT);
    read_stream(h, h->err_fd, STREAM_STDERR);
}

static const struct link_ops real_link = {real_send, real_drain};

static pid_t spawn_worker(struct host *h, const char *root)
{
    int pair[2], out[2], err[2];
    char path[4096], number[16];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    (void)snprintf(path, sizeof(path), "%s/backends/kernels/runner/worker", root);
    (void)snprintf(number, sizeof(number), "%d", 9);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setenv("PYTHONPATH", path, 1);
        (void)setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
        (void)dup2(out[1], 1);
        (void)dup2(err[1], 2);
        (void)dup2(pair[1], 9);
        (void)execlp("python3", "python3", "-m", "cellblock_worker", number, (char *)NULL);
        _exit(127);
    }
    (void)close(pair[1]);
    (void)close(out[1]);
    (void)close(err[1]);
    h->fd = pair[0];
    h->out_fd = out[0];
    h->err_fd = err[0];
    (void)fcntl(h->out_fd, F_SETFL, O_NONBLOCK);
    (void)fcntl(h->err_fd, F_SETFL, O_NONBLOCK);
    return pid;
}

static void read_until(struct host *h, const int *count, int wanted)
{
    char bytes[65536];
    struct timeval limit = {.tv_sec = 30};

    assert_int_equal(setsockopt(h->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    while (*count < wanted && !h->broken[0]) {
        ssize_t n = read(h->fd, bytes, sizeof(bytes));
        assert_true(n > 0);
        h->link.events.on_frames(h->link.data, bytes, (size_t)n);
    }
}

static void real_run(struct host *h, const char *code, int nth)
{
    h->log[0] = '\0';
    assert_int_equal(runner_kernel.run(h->kernel, &(struct run_request){.id = "r-1",
                                                                        .language = "python",
                                                                        .code = code,
                                                                        .code_size = strlen(code)}),
                     0);
    read_until(h, &h->replies, nth);
    assert_string_equal(h->broken, "");
}

static void test_with_the_real_worker(void **state)
{
    struct host *h = *state;
    const char *root = getenv("CELLBLOCK_SOURCE_ROOT");
    int status;

    if (!root) {
        skip(); /* meson sets it */
    }
    h->link.ops = &real_link;
    pid_t pid = spawn_worker(h, root);
    real_run(h, "import sys\nx = 41\nprint('out'); print('err', file=sys.stderr)\nx + 1", 1);
    assert_memory_equal(h->ready, "Python 3.", 9);
    assert_int_equal(h->reply.status, KERNEL_OK);
    assert_string_equal(h->log, "out\n!err\n<0 ->");
    real_run(h, "x", 2);
    assert_string_equal(h->log, "<0 ->");
    real_run(h, "1/0", 3);
    assert_int_equal(h->reply.status, KERNEL_ERROR);
    assert_string_equal(h->etype, "ZeroDivisionError");
    assert_non_null(strstr(h->traceback, "1/0"));
    real_run(h, "raise SystemExit(7)", 4);
    assert_int_equal(h->reply.status, KERNEL_EXIT);
    assert_int_equal(h->reply.exit_code, 7);
    (void)close(h->fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    (void)close(h->out_fd);
    (void)close(h->err_fd);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_greeting_describes),
        CASE(test_run_frame_holds_everything),
        CASE(test_run_frame_of_a_command),
        CASE(test_frames_for_a_command),
        CASE(test_output_display_and_end_in_order),
        CASE(test_the_clock_stands_once),
        CASE(test_any_cut_of_the_stream_is_the_same),
        CASE(test_long_texts_are_cut_in_the_middle),
        CASE(test_between_runs_everything_but_output_is_dropped),
        CASE(test_detach_from_inside_an_event),
        CASE(test_with_the_real_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
