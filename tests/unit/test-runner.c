/* The runner kernel: what it makes of good and bad frames, and a run with the real worker. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/kernel.h"
#include "backends/kernels/runner/frame.h"
#include "backends/kernels/runner/runner_message.h"

#define GREETING                                                                                   \
    "{\"cellblock\":1,\"python\":\"3.11.2\",\"implementation\":\"CPython\",\"ipython\":\"8.5.0\"}"

struct host {
    struct link link;
    struct kernel *kernel;
    char ready[256], broken[256], log[4096], note[8192];
    char etype[512], *evalue, *traceback;
    int replies, drains, acks;
    struct kernel_reply reply;
    struct buffer sent;
    int send_result;
    bool detach_in_reply;
    int fd, out_fd, err_fd; /* of the real worker */
};

static struct host *host_of(struct link *link)
{
    return (struct host *)((char *)link - offsetof(struct host, link));
}

static int fake_send(struct link *link, const void *bytes, size_t size)
{
    struct host *h = host_of(link);

    if (h->send_result < 0) {
        return h->send_result;
    }
    h->acks += size == FRAME_HEADER && ((const unsigned char *)bytes)[4] == FRAME_ACK;
    return buffer_append(&h->sent, bytes, size);
}

static void fake_drain(struct link *link)
{
    host_of(link)->drains++;
}

static const struct link_ops fake_link = {fake_send, fake_drain};

static void on_ready(void *data, const char *description)
{
    struct host *h = data;
    (void)snprintf(h->ready, sizeof(h->ready), "%s", description);
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct host *h = data;
    size_t used = strlen(h->log);
    (void)snprintf(h->log + used, sizeof(h->log) - used, "%s%.*s", stream ? "!" : "", (int)size,
                   bytes);
}

static void on_display(void *data, const struct display *display)
{
    struct host *h = data;
    size_t used = strlen(h->log);
    assert_true(display->kind == DISPLAY_CLEAR || json_is_object(display->metadata));
    (void)snprintf(h->log + used, sizeof(h->log) - used, "<%d %s>", display->kind,
                   display->display_id ? display->display_id : "-");
}

static void on_note(void *data, const char *text)
{
    struct host *h = data;
    (void)snprintf(h->note, sizeof(h->note), "%s", text);
}

static void on_reply(void *data, const struct kernel_reply *reply)
{
    struct host *h = data;
    h->replies++;
    h->reply = *reply;
    (void)snprintf(h->etype, sizeof(h->etype), "%s", reply->etype ? reply->etype : "");
    free(h->evalue);
    free(h->traceback);
    h->evalue = reply->evalue ? strdup(reply->evalue) : NULL;
    h->traceback = reply->traceback ? strdup(reply->traceback) : NULL;
    if (h->detach_in_reply) {
        runner_kernel.detach(h->kernel);
        h->kernel = NULL;
    }
}

static void on_broken(void *data, const char *why)
{
    struct host *h = data;
    assert_string_equal(h->broken, ""); /* once */
    (void)snprintf(h->broken, sizeof(h->broken), "%s", why);
}

static const struct kernel_events events = {on_ready, on_output, on_display,
                                            on_note,  on_reply,  on_broken};

static int setup(void **state)
{
    struct host *h = calloc(1, sizeof(*h));

    assert_non_null(h);
    h->link.ops = &fake_link;
    buffer_init(&h->sent, FRAME_PAYLOAD_CAP + 100);
    h->kernel = runner_kernel.attach(&h->link, &events, h);
    assert_non_null(h->kernel);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct host *h = *state;

    if (h->kernel) {
        runner_kernel.detach(h->kernel);
    }
    buffer_deinit(&h->sent);
    free(h->evalue);
    free(h->traceback);
    free(h);
    return 0;
}

static void feed_n(struct host *h, int type, const char *payload, size_t size)
{
    char *bytes = malloc(FRAME_HEADER + size + 1);

    assert_non_null(bytes);
    frame_header((unsigned char *)bytes, (enum frame_type)type, size);
    memcpy(bytes + FRAME_HEADER, payload, size);
    h->link.events.on_frames(h->link.data, bytes, FRAME_HEADER + size);
    free(bytes);
}

static void feed(struct host *h, int type, const char *payload)
{
    feed_n(h, type, payload, strlen(payload));
}

static int start(struct host *h, const char *id)
{
    return runner_kernel.run(
        h->kernel,
        &(struct run_request){
            .id = id, .language = "python", .code = "a\0b", .code_size = 3, .timeout_seconds = 1});
}

static void greeted(struct host *h)
{
    feed(h, FRAME_GREETING, GREETING);
    assert_string_equal(h->broken, "");
}

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

/* ---- bad frames ---- */

struct bad_frame {
    int type;
    const char *payload;
};

static const struct bad_frame bad_frames[] = {
    {FRAME_GREETING, GREETING}, /* a second one */
    {FRAME_RUN, "{}"},
    {0x77, ""},
    {FRAME_NOTE, ""},
    {FRAME_NOTE, "nonsense"},
    {FRAME_NOTE, "[]"},
    {FRAME_NOTE, "{}"},
    {FRAME_NOTE, "{\"text\":1}"},
    {FRAME_NOTE, "{\"text\":\"\xff\"}"},
    {FRAME_CLEAR, "{}"},
    {FRAME_CLEAR, "{\"wait\":1}"},
    {FRAME_DISPLAY, "{}"},
    {FRAME_DISPLAY, "{\"kind\":\"picture\",\"data\":{},\"metadata\":{}}"},
    {FRAME_DISPLAY, "{\"kind\":\"display\",\"data\":[],\"metadata\":{}}"},
    {FRAME_DISPLAY, "{\"kind\":\"display\",\"data\":{},\"metadata\":1}"},
    {FRAME_DISPLAY, "{\"kind\":\"display\",\"data\":{},\"metadata\":{},\"display_id\":1}"},
    {FRAME_DISPLAY, "{\"kind\":\"display\",\"data\":{},\"metadata\":{},\"sync\":1}"},
    {FRAME_DONE, "{}"},
    {FRAME_DONE, "{\"run\":1,\"status\":\"ok\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"fine\"}"},
    {FRAME_DONE, "{\"run\":\"r-2\",\"status\":\"ok\"}"},
    {FRAME_DONE, "{\"run\":\"r-1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"status\":\"ok\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\",\"exit_code\":1.5}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\",\"exit_code\":99999999999}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"exit\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"signal\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"signal\",\"signal\":-1}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"error\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"error\",\"error\":{}}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"error\",\"error\":\"E\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\",\"cpu_ms\":-1}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\",\"cpu_ms\":1e3}"},
};

static void test_every_bad_frame_breaks_off(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_frames) / sizeof(bad_frames[0]); i++) {
        void *own;
        assert_int_equal(setup(&own), 0);
        struct host *h = own;
        greeted(h);
        assert_int_equal(start(h, "r-1"), 0);
        feed(h, bad_frames[i].type, bad_frames[i].payload);
        if (!h->broken[0] || h->replies > 0) {
            fail_msg("taken: %d %s", bad_frames[i].type, bad_frames[i].payload);
        }
        /* Nothing is listened to afterwards, and nothing is sent. */
        feed(h, FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\"}");
        feed(h, FRAME_STDOUT, "more");
        assert_int_equal(h->replies, 0);
        assert_string_equal(h->log, "");
        assert_int_equal(start(h, "r-2"), -EPIPE);
        assert_int_equal(teardown(&own), 0);
    }
}

static void first_frame_breaks(int type, const char *payload)
{
    void *own;

    assert_int_equal(setup(&own), 0);
    struct host *h = own;
    feed(h, type, payload);
    assert_true(h->broken[0]);
    assert_string_equal(h->ready, "");
    assert_int_equal(teardown(&own), 0);
}

static void test_greeting_comes_first_and_is_checked(void **state)
{
    (void)state;
    first_frame_breaks(FRAME_STDOUT, "x");
    first_frame_breaks(FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\"}");
    first_frame_breaks(FRAME_GREETING, "{}");
    first_frame_breaks(FRAME_GREETING,
                       "{\"cellblock\":2,\"python\":\"3\",\"implementation\":\"CPython\"}");
    first_frame_breaks(FRAME_GREETING, "{\"cellblock\":1,\"python\":3}");
}

static void test_deep_json_is_refused(void **state)
{
    struct host *h = *state;
    char frame[4096] = "{\"kind\":\"display\",\"metadata\":{},\"data\":{\"application/json\":";
    size_t n = strlen(frame);

    memset(frame + n, '[', 150);
    memset(frame + n + 150, ']', 150);
    (void)snprintf(frame + n + 300, 10, "}}");
    greeted(h);
    assert_int_equal(start(h, "r-1"), 0);
    feed(h, FRAME_DISPLAY, frame);
    assert_non_null(strstr(h->broken, "deep"));
}

static void test_end_of_stream(void **state)
{
    struct host *h = *state;

    h->link.events.on_end(h->link.data);
    assert_non_null(strstr(h->broken, "greeted"));
    h->link.events.on_end(h->link.data); /* told once: on_broken asserts it */
}

static void test_send_errors_come_back(void **state)
{
    struct host *h = *state;

    greeted(h);
    h->send_result = -EPIPE;
    assert_int_equal(start(h, "r-1"), -EPIPE);
    assert_int_equal(runner_kernel.run(h->kernel, &(struct run_request){.id = "r-1",
                                                                        .language = "python",
                                                                        .code = "\xff",
                                                                        .code_size = 1}),
                     -EILSEQ);
}

static void test_run_past_the_cap(void **state)
{
    struct host *h = *state;
    size_t size = (size_t)6 * 1024 * 1024; /* of NULs: six bytes each on the wire */
    char *code = calloc(1, size);

    greeted(h);
    assert_int_equal(runner_kernel.run(h->kernel, &(struct run_request){.id = "r-1",
                                                                        .language = "python",
                                                                        .code = code,
                                                                        .code_size = size}),
                     -EMSGSIZE);
    assert_int_equal(buffer_size(&h->sent), 0);
    assert_int_equal(start(h, "r-2"), 0);
    free(code);
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
        CASE(test_output_display_and_end_in_order),
        CASE(test_any_cut_of_the_stream_is_the_same),
        CASE(test_long_texts_are_cut_in_the_middle),
        CASE(test_between_runs_everything_but_output_is_dropped),
        CASE(test_detach_from_inside_an_event),
        cmocka_unit_test(test_every_bad_frame_breaks_off),
        cmocka_unit_test(test_greeting_comes_first_and_is_checked),
        CASE(test_deep_json_is_refused),
        CASE(test_end_of_stream),
        CASE(test_send_errors_come_back),
        CASE(test_run_past_the_cap),
        CASE(test_with_the_real_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
