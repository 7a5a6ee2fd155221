/* The executor over a fake place: sandboxes that die, do not start, and are closed. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/executor_internal.h"
#include "backends/kernels/runner/frame.h"
#include "executor-record.h"

/* ---- death ---- */

static void test_crash_tells_signal_and_keeps_output(void **state)
{
    struct context *c = *state;
    struct record r = {0}, next = {0};

    warm_up(c);
    c->place.on_run = does_crash;
    (void)run(c, &r);
    until(c, &r.done);
    assert_string_equal(r.log, "slast words.");
    assert_int_equal(r.cause, CAUSE_KILLED);
    assert_int_equal(r.signal, SIGSEGV);
    assert_true(r.state_lost);
    assert_non_null(strstr(r.note, "SIGSEGV"));
    c->place.on_run = does_ok;
    (void)run(c, &next);
    until(c, &next.done);
    assert_int_equal(next.cause, CAUSE_OK);
    assert_string_equal(next.note, ""); /* the run that died has said so */
}

static void test_os_exit_is_an_exit_though_the_stream_closed_first(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.on_run = does_os_exit;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_EXIT);
    assert_true(r.has_exit_code);
    assert_int_equal(r.exit_code, 3);
    assert_true(r.state_lost);
    assert_int_equal(c->place.kills, 0);
}

static void ends_with(struct context *c, struct machine_exit how, struct record *r)
{
    warm_up(c);
    c->place.on_run = does_nothing;
    (void)run(c, r);
    turns(c, 3);
    fake_exit(c->place.newest, how);
    until(c, &r->done);
    assert_true(r->state_lost);
}

static void test_out_of_memory_names_the_figures(void **state)
{
    struct record r = {0};

    ends_with(*state,
              (struct machine_exit){
                  .how = EXIT_OUT_OF_MEMORY, .used = 1100ull << 20, .limit = 1024ull << 20},
              &r);
    assert_int_equal(r.cause, CAUSE_OUT_OF_MEMORY);
    assert_non_null(strstr(r.note, "1100 MiB of its 1024 MiB"));
}

static void test_lost_and_disk_and_protocol(void **state)
{
    struct record lost = {0}, disk = {0}, protocol = {0};

    ends_with(*state, (struct machine_exit){.how = EXIT_LOST, .message = "power cut"}, &lost);
    assert_int_equal(lost.cause, CAUSE_LOST);
    assert_non_null(strstr(lost.note, "power cut"));
    ends_with(*state, (struct machine_exit){.how = EXIT_DISK, .used = 1, .limit = 1}, &disk);
    assert_int_equal(disk.cause, CAUSE_KILLED);
    assert_non_null(strstr(disk.note, "disk"));
    ends_with(*state, (struct machine_exit){.how = EXIT_PROTOCOL}, &protocol);
    assert_int_equal(protocol.cause, CAUSE_KILLED);
    assert_int_equal(protocol.signal, 0);
}

static void does_garbage(struct fake_machine *m, const char *id)
{
    (void)id;
    fake_bytes(m, "\xff\xff\xff\xff\xff garbage", 13);
}

static void does_close_its_stream(struct fake_machine *m, const char *id)
{
    (void)id;
    fake_end_stream(m);
}

static void test_broken_stream_ends_the_machine(void **state)
{
    struct context *c = *state;
    struct record garbage = {0}, closed = {0};

    warm_up(c);
    c->place.on_run = does_garbage;
    (void)run(c, &garbage);
    until(c, &garbage.done);
    assert_int_equal(garbage.cause, CAUSE_KILLED);
    assert_int_equal(c->place.kills, 1);
    assert_non_null(strstr(garbage.note, "not a frame"));
    c->place.on_run = does_close_its_stream;
    (void)run(c, &closed);
    until(c, &closed.done);
    assert_int_equal(closed.cause, CAUSE_KILLED);
    assert_non_null(strstr(closed.note, "closed its stream"));
    assert_int_equal(c->place.kills, 2);
}

static void does_forge(struct fake_machine *m, const char *id)
{
    (void)id;
    fake_done(m, "r-other", "\"status\":\"ok\"");
}

static void test_end_of_another_run_is_broken(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.on_run = does_forge;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_KILLED);
    assert_true(r.state_lost);
}

static void test_death_while_idle_is_told_by_the_next_run(void **state)
{
    struct context *c = *state;
    struct record r = {0}, later = {0};

    warm_up(c);
    fake_exit(c->place.newest, (struct machine_exit){.how = EXIT_SIGNAL, .signal = SIGKILL});
    turns(c, 5);
    assert_false(executor_started(c->e));
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_non_null(strstr(r.note, "restarted"));
    assert_non_null(strstr(r.note, "SIGKILL"));
    (void)run(c, &later);
    until(c, &later.done);
    assert_string_equal(later.note, "");
}

static void test_run_given_to_a_dead_machine_goes_to_the_next(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    c->place.send_fails = true;
    (void)run(c, &r);
    c->place.send_fails = false;
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_int_equal(c->place.starts, 2);
}

/* ---- starts that fail ---- */

static void test_refused_start(void **state)
{
    struct context *c = *state;
    struct record r = {0}, second = {0};

    c->place.start = FAKE_START_FAILS;
    (void)run(c, &r);
    (void)run(c, &second);
    until(c, &second.done);
    assert_int_equal(r.done, 1);
    assert_int_equal(r.cause, CAUSE_REFUSED);
    assert_non_null(strstr(r.note, "no bars here"));
    assert_int_equal(c->place.starts, 1);
    c->place.start = FAKE_START_OK;
    warm_up(c);
}

static void test_start_and_greeting_have_limits(void **state)
{
    struct context *c = *state;
    struct record start = {0}, greeting = {0};

    c->place.start = FAKE_START_NEVER;
    (void)run(c, &start);
    until(c, &start.done);
    assert_int_equal(start.cause, CAUSE_LOST);
    assert_non_null(strstr(start.note, "did not start"));
    c->place.start = FAKE_START_OK;
    c->place.no_greeting = true;
    (void)run(c, &greeting);
    until(c, &greeting.done);
    assert_int_equal(greeting.cause, CAUSE_LOST);
    assert_non_null(strstr(greeting.note, "greet"));
    assert_int_equal(c->place.kills, 2);
    assert_false(executor_started(c->e));
}

/* ---- closing ---- */

static void test_close_in_each_state(void **state)
{
    struct context *c = *state;

    for (int turns_before = 0; turns_before < 8; turns_before++) {
        struct record r = {0}, queued = {0};
        c->closed = false;
        c->place.on_run = does_nothing;
        if (!c->e) {
            c->e = executor_new(&c->place.base);
        }
        (void)run(c, &r);
        (void)run(c, &queued);
        turns(c, turns_before);
        close_executor(c);
        assert_int_equal(r.done, 1);
        assert_int_equal(queued.done, 1);
        assert_int_equal(r.cause, CAUSE_CANCELLED);
        assert_int_equal(queued.cause, CAUSE_CANCELLED);
        assert_int_equal(c->place.live, 0);
    }
}

static void test_close_from_completion(void **state)
{
    struct context *c = *state;
    struct record r = {.close_in_done = true, .executor = c->e}, queued = {0};

    c->place.on_run = does_ok;
    (void)run(c, &r);
    (void)run(c, &queued);
    c->e = NULL;
    uv_run(&c->place.loop, UV_RUN_DEFAULT);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_int_equal(queued.done, 1);
    assert_int_equal(queued.cause, CAUSE_CANCELLED);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, record_setup, record_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_crash_tells_signal_and_keeps_output),
        CASE(test_os_exit_is_an_exit_though_the_stream_closed_first),
        CASE(test_out_of_memory_names_the_figures),
        CASE(test_lost_and_disk_and_protocol),
        CASE(test_broken_stream_ends_the_machine),
        CASE(test_end_of_another_run_is_broken),
        CASE(test_death_while_idle_is_told_by_the_next_run),
        CASE(test_run_given_to_a_dead_machine_goes_to_the_next),
        CASE(test_refused_start),
        CASE(test_start_and_greeting_have_limits),
        CASE(test_close_in_each_state),
        CASE(test_close_from_completion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
