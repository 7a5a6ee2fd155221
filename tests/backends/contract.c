/*
 * The executor's contract (backends/executor.h), checked on the real thing: the backend that
 * CELLBLOCK_BACKEND names ("local" when it is not set), with the settings of
 * CELLBLOCK_ENVIRONMENT_JSON. Capabilities decide what is expected and what must be refused;
 * nothing here knows a backend.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness.h"

#define IGNORE_INTERRUPT                                                                           \
    "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"                          \
    "while True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass\n"

/* ---- the ordinary way ---- */

static void test_nothing_is_started_before_the_first_run(void **state)
{
    struct bench *b = *state;
    struct record r;

    for_ms(b, 50);
    assert_false(executor_started(b->e));
    assert_false(executor_busy(b->e));
    (void)begin(b, b->e, &r, "print('hello')", NULL);
    assert_true(executor_busy(b->e));
    until(b, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_string_equal(r.out, "hello\n");
    assert_string_equal(r.order, "so.");
    assert_string_equal(r.note, "");
    assert_true(executor_started(b->e));
    assert_false(executor_busy(b->e));
}

static void test_state_lives_and_the_last_value_is_the_result(void **state)
{
    struct bench *b = *state;
    struct record r;

    if (!has(b, CAP_STATEFUL)) {
        skip();
    }
    expect(b, "x = 41", "");
    run(b, &r, "print('before'); x + 1");
    assert_string_equal(r.out, "before\n");
    assert_string_equal(r.result, "42");
    assert_string_equal(r.order, "sor.");
}

static void test_text_and_displays_keep_their_order(void **state)
{
    struct bench *b = *state;
    struct record r;

    run(b, &r,
        "import sys\n"
        "print('a'); display('one'); print('b'); display('two')\n"
        "print('c', file=sys.stderr); display('three'); 'end'");
    assert_int_equal(r.cause, CAUSE_OK);
    assert_string_equal(r.out, "a\nb\n");
    assert_string_equal(r.err, "c\n");
    assert_string_equal(r.order, "sododedr.");
}

static void test_output_streams_while_the_code_runs(void **state)
{
    struct bench *b = *state;
    struct record r;

    (void)begin(b, b->e, &r, "import time\nprint('early', flush=True)\ntime.sleep(4)", NULL);
    until(b, &r.started);
    for (int i = 0; i < 100 && !r.out[0]; i++) {
        for_ms(b, 10);
    }
    assert_int_equal(r.done, 0);
    assert_string_equal(r.out, "early\n");
    until(b, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_true(r.duration_ms >= 4000);
}

static void test_runs_are_done_one_at_a_time_in_order(void **state)
{
    struct bench *b = *state;
    struct record r[3];

    (void)begin(b, b->e, &r[0], "import time; time.sleep(0.2); print(1)", NULL);
    (void)begin(b, b->e, &r[1], "import time; time.sleep(0.2); print(2)", NULL);
    (void)begin(b, b->e, &r[2], "print(3)", NULL);
    until(b, &r[0].done);
    assert_int_equal(r[1].done + r[2].done, 0);
    until(b, &r[2].done);
    assert_int_equal(r[1].done, 1);
    assert_string_equal(r[0].out, "1\n");
    assert_string_equal(r[1].out, "2\n");
    assert_string_equal(r[2].out, "3\n");
}

static void test_executors_do_not_see_each_other(void **state)
{
    struct bench *b = *state;
    struct executor *other = bench_executor(b);
    struct record mine, theirs;

    (void)begin(b, b->e, &mine, "secret = 1; open('secret.txt', 'w').write('x')", NULL);
    (void)begin(b, other, &theirs,
                "import os\nprint('secret' in globals(), os.path.exists('secret.txt'))", NULL);
    until(b, &mine.done);
    until(b, &theirs.done);
    assert_string_equal(theirs.out, "False False\n");
    bench_close(b, other);
}

static void test_stdin_and_environment_are_the_runs_own(void **state)
{
    struct bench *b = *state;
    struct record r;

    if (has(b, CAP_STDIN)) {
        run_with(b, &r, "print(input() + input())", &(struct run_options){.input = "a\nb\n"});
        assert_string_equal(r.out, "ab\n");
    }
    run(b, &r, "input()");
    assert_int_equal(r.cause, CAUSE_ERROR);
    assert_string_equal(r.etype, "EOFError");
    run_with(b, &r, "import os; print(os.environ['CB_TEST'])",
             &(struct run_options){.env = json_pack("{s:s}", "CB_TEST", "ü")});
    assert_string_equal(r.out, "ü\n");
    expect(b, "import os; print(os.environ.get('CB_TEST'))", "None\n");
}

/* ---- how runs end ---- */

static void test_errors_and_exits(void **state)
{
    struct bench *b = *state;
    struct record r;

    run(b, &r, "y = 5\n1/0");
    assert_int_equal(r.cause, CAUSE_ERROR);
    assert_string_equal(r.etype, "ZeroDivisionError");
    assert_string_equal(r.evalue, "division by zero");
    run(b, &r, "import sys; sys.exit(3)");
    assert_int_equal(r.cause, CAUSE_EXIT);
    assert_int_equal(r.exit_code, 3);
    assert_false(r.state_lost);
    run(b, &r, "import sys; sys.exit()");
    assert_int_equal(r.cause, CAUSE_OK);
    assert_true(r.has_exit_code);
    assert_int_equal(r.exit_code, 0);
    run_with(b, &r, "a\0b", &(struct run_options){.code_size = 3});
    assert_int_equal(r.cause, CAUSE_ERROR);
    if (has(b, CAP_STATEFUL)) {
        expect(b, "print(y)", "5\n");
    }
}

static void starts_afresh(struct bench *b)
{
    struct record r;

    run(b, &r, "print('x' in globals())");
    assert_int_equal(r.cause, CAUSE_OK);
    assert_string_equal(r.out, "False\n");
    assert_string_equal(r.note, "");
}

static void test_own_exit_ends_the_sandbox_and_says_so(void **state)
{
    struct bench *b = *state;
    struct record r;

    expect(b, "x = 1", "");
    run(b, &r, "import os\nprint('last', flush=True)\nos._exit(4)");
    if (has(b, CAP_EXIT_STATUS)) {
        assert_int_equal(r.cause, CAUSE_EXIT);
        assert_int_equal(r.exit_code, 4);
    } else {
        assert_int_equal(r.cause, CAUSE_KILLED);
        assert_false(r.has_exit_code);
    }
    assert_true(r.state_lost);
    assert_string_equal(r.out, "last\n");
    starts_afresh(b);
}

static void test_crash_names_its_signal(void **state)
{
    struct bench *b = *state;
    struct record r;

    expect(b, "x = 1", "");
    run(b, &r, "import ctypes\nprint('last', flush=True)\nctypes.string_at(0)");
    assert_int_equal(r.cause, CAUSE_KILLED);
    assert_true(r.state_lost);
    if (has(b, CAP_EXIT_STATUS)) {
        assert_int_equal(r.signal, SIGSEGV);
        assert_non_null(strstr(r.note, "SIGSEGV"));
    } else {
        assert_int_equal(r.signal, 0);
    }
    assert_string_equal(r.out, "last\n");
    assert_true(r.duration_ms < 5000);
    starts_afresh(b);
}

static void test_death_between_runs_is_told_by_the_next(void **state)
{
    struct bench *b = *state;
    struct record r;

    if (!has(b, CAP_STATEFUL)) {
        skip();
    }
    expect(b, "import os, threading\nthreading.Timer(0.2, lambda: os._exit(9)).start()", "");
    if (has(b, CAP_KEEPS_FILES)) {
        for_ms(b, 1500); /* what is kept is still a sandbox: nothing to be seen from outside */
    } else {
        for (int i = 0; i < 200 && executor_started(b->e); i++) {
            for_ms(b, 20);
        }
        assert_false(executor_started(b->e));
    }
    run(b, &r, "print('back')");
    assert_int_equal(r.cause, CAUSE_OK);
    assert_string_equal(r.out, "back\n");
    assert_non_null(strstr(r.note, "restarted"));
}

static void test_leftover_output_is_nobodys_run(void **state)
{
    struct bench *b = *state;
    struct record r;

    if (!has(b, CAP_STATEFUL)) {
        skip();
    }
    expect(b, "import threading\nthreading.Timer(0.2, lambda: print('ghost', flush=True)).start()",
           "");
    for_ms(b, 600);
    run(b, &r, "print('mine')");
    assert_string_equal(r.out, "mine\n");
    assert_non_null(strstr(b->idle, "ghost"));
}

static void test_memory_has_a_limit(void **state)
{
    struct bench *b = *state;
    struct record r;

    if (!has(b, CAP_MEMORY_LIMIT)) {
        skip();
    }
    run(b, &r, "big = bytearray(64 << 30)");
    assert_true(r.cause == CAUSE_OUT_OF_MEMORY || strcmp(r.etype, "MemoryError") == 0);
    expect(b, "print('alive')", "alive\n");
}

static void test_no_network_means_none(void **state)
{
    struct bench *b = *state;

    if (!has(b, CAP_NETWORK_NONE) || b->env.network != NETWORK_NONE) {
        skip();
    }
    expect(b,
           "import socket\n"
           "try:\n    s = socket.socket(); s.settimeout(2); s.connect(('192.0.2.1', 80)); "
           "print('out')\n"
           "except OSError as e:\n    print('in' if not isinstance(e, TimeoutError) else 'late')",
           "in\n");
}

/* ---- time and cancel ---- */

static void test_time_out_keeps_what_can_be_kept(void **state)
{
    struct bench *b = *state;
    struct record r;

    expect(b, "x = 7", "");
    run_with(b, &r, "print('start', flush=True)\nwhile True: pass",
             &(struct run_options){.seconds = 0.5});
    assert_int_equal(r.cause, CAUSE_TIMEOUT);
    assert_string_equal(r.etype, "TimeoutError");
    assert_non_null(strstr(r.evalue, "0.5 s"));
    assert_string_equal(r.out, "start\n");
    assert_true(r.duration_ms >= 500 && r.duration_ms < 3000);
    if (has(b, CAP_INTERRUPT)) {
        assert_false(r.state_lost);
        expect(b, "print(x)", "7\n");
    }
}

static void test_time_out_of_code_that_prints_all_the_time(void **state)
{
    struct bench *b = *state;
    struct record r;

    run_with(b, &r, "while True: print('y' * 1000)", &(struct run_options){.seconds = 0.5});
    assert_int_equal(r.cause, CAUSE_TIMEOUT);
    assert_true(r.duration_ms < 4000);
    expect(b, "print('next')", "next\n");
}

static void test_time_out_of_stubborn_code_kills(void **state)
{
    struct bench *b = *state;
    struct record r;

    expect(b, "x = 7", "");
    run_with(b, &r, IGNORE_INTERRUPT, &(struct run_options){.seconds = 0.3});
    assert_int_equal(r.cause, CAUSE_TIMEOUT);
    assert_true(r.state_lost);
    assert_true(r.duration_ms < 5000);
    starts_afresh(b);
}

static void test_cancel_of_a_going_run_is_idempotent(void **state)
{
    struct bench *b = *state;
    struct record r;
    struct run *going;

    expect(b, "x = 7", "");
    going = begin(b, b->e, &r, "import time\ntime.sleep(60)", NULL);
    until(b, &r.started);
    for_ms(b, 100);
    run_cancel(going);
    run_cancel(going);
    assert_int_equal(r.done, 0);
    until(b, &r.done);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
    if (has(b, CAP_INTERRUPT) && has(b, CAP_STATEFUL)) {
        assert_false(r.state_lost);
        expect(b, "print(x)", "7\n");
    }
}

static void test_cancel_before_the_start_in_the_queue_and_in_output(void **state)
{
    struct bench *b = *state;
    struct record first, second, third;
    struct run *starting, *queued;

    starting = begin(b, b->e, &first, "print(1)", NULL);
    run_cancel(starting);
    until(b, &first.done);
    assert_int_equal(first.cause, CAUSE_CANCELLED);
    assert_string_equal(first.order, ".");
    starting = begin(b, b->e, &first, "print(1)", NULL);
    for_ms(b, 5); /* in the middle of the start, on most machines */
    if (!first.done) {
        run_cancel(starting);
        until(b, &first.done);
    }
    (void)begin(b, b->e, &second, "import time; time.sleep(0.3)", NULL);
    queued = begin(b, b->e, &third, "print(3)", NULL);
    until(b, &second.started);
    run_cancel(queued);
    until(b, &third.done);
    assert_int_equal(third.cause, CAUSE_CANCELLED);
    assert_string_equal(third.out, "");
    until(b, &second.done);
    assert_int_equal(second.cause, CAUSE_OK);
}

/* ---- closing ---- */

static void close_after(struct bench *b, unsigned ms, const char *code)
{
    struct executor *e = bench_executor(b);
    struct record going, queued;

    (void)begin(b, e, &going, code, NULL);
    (void)begin(b, e, &queued, "print(2)", NULL);
    if (ms > 0) {
        for_ms(b, ms);
    }
    bool ended = going.done;
    bench_close(b, e);
    assert_int_equal(going.done, 1);
    assert_int_equal(queued.done, 1);
    if (!ended) {
        assert_int_equal(going.cause, CAUSE_CANCELLED);
        assert_int_equal(queued.cause, CAUSE_CANCELLED);
    }
}

static void test_close_in_each_state(void **state)
{
    static const unsigned waits[] = {0, 1, 3, 10, 30, 100, 400, 1000};
    struct bench *b = *state;
    struct executor *unused = bench_executor(b);

    bench_close(b, unused);
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        close_after(b, waits[i], "while True: print('busy')");
    }
    close_after(b, 400, IGNORE_INTERRUPT);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, bench_setup, bench_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_nothing_is_started_before_the_first_run),
        CASE(test_state_lives_and_the_last_value_is_the_result),
        CASE(test_text_and_displays_keep_their_order),
        CASE(test_output_streams_while_the_code_runs),
        CASE(test_runs_are_done_one_at_a_time_in_order),
        CASE(test_executors_do_not_see_each_other),
        CASE(test_stdin_and_environment_are_the_runs_own),
        CASE(test_errors_and_exits),
        CASE(test_own_exit_ends_the_sandbox_and_says_so),
        CASE(test_crash_names_its_signal),
        CASE(test_death_between_runs_is_told_by_the_next),
        CASE(test_leftover_output_is_nobodys_run),
        CASE(test_memory_has_a_limit),
        CASE(test_no_network_means_none),
        CASE(test_time_out_keeps_what_can_be_kept),
        CASE(test_time_out_of_code_that_prints_all_the_time),
        CASE(test_time_out_of_stubborn_code_kills),
        CASE(test_cancel_of_a_going_run_is_idempotent),
        CASE(test_cancel_before_the_start_in_the_queue_and_in_output),
        CASE(test_close_in_each_state),
    };
    int failed = cmocka_run_group_tests_name("contract", tests, NULL, NULL);

    return failed + contract_of_files();
}
