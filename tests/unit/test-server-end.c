/* How a server ends, and what it does not begin with. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/server-trial.h"

static void calls_in_flight_are_answered_after_the_end_of_input(void **state)
{
    struct wire w;
    (void)state;
    shake_hands(&w);
    send_call(&w, "1", "hold", "");
    wire_end_input(&w);
    wire_turn(&w, 30);
    assert_false(w.stopped);
    finish_held("done");
    assert_string_equal(answer_text(&w, 1), "done");
    wire_close(&w);
}

static void a_stop_cancels_and_does_not_wait_long(void **state)
{
    struct wire w;
    (void)state;
    shake_hands(&w);
    send_call(&w, "1", "hold", "");
    send_call(&w, "2", "deaf", "");
    wire_turn(&w, 20);
    uint64_t start = uv_hrtime();
    server_stop(w.server);
    server_stop(w.server);
    assert_int_equal(held.cancelled, 1);
    assert_false(w.stopped);
    wire_wait_stopped(&w);
    assert_true(uv_hrtime() - start < 4000000000ull);
    held.count = 0; /* the deaf call goes with the server */
    wire_close(&w);
}

static void a_stop_with_nothing_to_do_is_quick(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    uint64_t start = uv_hrtime();
    server_stop(w.server);
    wire_wait_stopped(&w);
    assert_true(uv_hrtime() - start < 500000000ull);
    wire_close(&w);
}

static void a_reader_that_goes_away_ends_it(void **state)
{
    struct wire w;
    (void)state;
    shake_hands(&w);
    send_call(&w, "1", "hold", "");
    wire_turn(&w, 20);
    close(w.from);
    w.from = -1;
    wire_wait_stopped(&w);
    assert_int_equal(held.cancelled, 1);
    wire_close(&w);
}

static void a_signal_ends_it(void **state)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct wire w;
        signal(numbers[i], SIG_DFL); /* whatever started us may ignore SIGHUP */
        wire_open(&w, tools);
        wire_turn(&w, 5);
        raise(numbers[i]);
        wire_wait_stopped(&w);
        wire_close(&w);
    }
}

/* A file is read like a script: one call after the other, all answered. */
static void requests_from_a_file(void **state)
{
    static const char init[] = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":"
                               "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{}}}\n";
    static const char call[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":"
                               "{\"name\":\"run_code\",\"arguments\":{\"code\":\"hold\"}}}\n";
    static const char last[] = "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}";
    struct wire w;
    (void)state;
    int fd = memfd_create("requests", MFD_CLOEXEC);
    assert_int_equal(write(fd, init, strlen(init)), strlen(init));
    assert_int_equal(write(fd, call, strlen(call)), strlen(call));
    assert_int_equal(write(fd, last, strlen(last)), strlen(last));
    lseek(fd, 0, SEEK_SET);
    wire_open_input(&w, tools, fd);
    json_decref(wire_read(&w));
    wire_expect_silence(&w, 30);
    finish_held("first");
    assert_string_equal(answer_text(&w, 1), "first");
    wire_expect(&w, "{'jsonrpc':'2.0','id':2,'result':{}}");
    wire_close(&w);
}

static void input_from_dev_null_ends_at_once(void **state)
{
    struct wire w;
    (void)state;
    wire_open_input(&w, tools, open("/dev/null", O_RDONLY | O_CLOEXEC));
    wire_close(&w);
}

static void descriptors_that_are_none_are_refused(void **state)
{
    struct config config = {0};
    struct server_options options = {.config = &config, .tools = tools, .in_fd = -1, .out_fd = -1};
    struct error err = {0};
    uv_loop_t loop;
    (void)state;
    uv_loop_init(&loop);
    assert_null(server_new(&loop, &options, NULL, NULL, &err));
    assert_non_null(err.message);
    error_clear(&err);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_in_flight_are_answered_after_the_end_of_input),
        cmocka_unit_test(a_stop_cancels_and_does_not_wait_long),
        cmocka_unit_test(a_stop_with_nothing_to_do_is_quick),
        cmocka_unit_test(a_reader_that_goes_away_ends_it),
        cmocka_unit_test(a_signal_ends_it),
        cmocka_unit_test(requests_from_a_file),
        cmocka_unit_test(input_from_dev_null_ends_at_once),
        cmocka_unit_test(descriptors_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, forget_schemas);
}
