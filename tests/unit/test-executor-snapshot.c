/* The executor over a fake place: snapshots, which are queued as runs are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "executor-record.h"

static struct run *take(struct context *c, struct record *r, double seconds)
{
    const struct snapshot_request request = {.ttl_seconds = 60};
    struct error err = {0};
    char id[RUN_ID_SIZE];
    struct run *run;

    (void)snprintf(id, sizeof(id), "r-%d", ++c->next_id);
    r->inside = true;
    run = executor_snapshot(c->e, id, &request, seconds, &record_events, r, &err);
    r->inside = false;
    assert_non_null(run);
    return run;
}

/* The variables are there: nothing was started anew, interrupted or killed. */
static void goes_on(struct context *c)
{
    struct record r = {0};

    c->place.on_run = does_ok;
    run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_int_equal(c->place.starts, 1);
    assert_int_equal(c->place.interrupts + c->place.kills, 0);
}

static void test_the_first_one_starts_the_sandbox(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    take(c, &r, 5);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_string_equal(r.snapshot, "im-1");
    assert_string_equal(r.log, "ws.");
    assert_int_equal(c->place.ttl_seconds, 60);
    assert_int_equal(c->place.runs, 0);
    goes_on(c);
}

static void test_it_waits_for_runs_and_they_for_it(void **state)
{
    struct context *c = *state;
    struct record before = {0}, made = {0}, after = {0};

    warm_up(c);
    c->place.on_run = does_nothing;
    run(c, &before);
    take(c, &made, 5);
    run(c, &after);
    turns(c, 10);
    assert_int_equal(c->place.snapshots, 0);
    fake_done(c->place.newest, "r-2", "\"status\":\"ok\"");
    c->place.on_run = does_ok;
    until(c, &made.done);
    assert_int_equal(before.done, 1);
    assert_int_equal(after.done, 0);
    assert_string_equal(made.snapshot, "im-1");
    until(c, &after.done);
}

static void test_one_that_fails(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.snapshot = FAKE_SNAPSHOT_FAILS;
    take(c, &r, 5);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_REFUSED);
    assert_string_equal(r.note, "no film");
    assert_string_equal(r.snapshot, "");
    goes_on(c);
}

static void test_a_cancel_leaves_the_session_as_it_was(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct run *run;

    c->place.snapshot = FAKE_SNAPSHOT_NEVER;
    run = take(c, &r, 5);
    while (c->place.snapshots == 0) {
        turns(c, 1);
    }
    r.inside = true; /* not from inside of the cancel */
    run_cancel(run);
    run_cancel(run);
    r.inside = false;
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
    assert_non_null(strstr(r.note, "goes on"));
    assert_int_equal(c->place.snapshot_drops, 1);
    goes_on(c);
}

static void test_its_limit_does_as_well(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.snapshot = FAKE_SNAPSHOT_NEVER;
    take(c, &r, 0.05);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_TIMEOUT);
    assert_int_equal(c->place.snapshot_drops, 1);
    goes_on(c);
}

static void test_one_whose_sandbox_ends(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.snapshot = FAKE_SNAPSHOT_NEVER;
    take(c, &r, 5);
    while (c->place.snapshots == 0) {
        turns(c, 1);
    }
    fake_exit(c->place.newest, (struct machine_exit){.how = EXIT_LOST, .message = "unplugged"});
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_LOST);
    assert_true(r.state_lost);
    assert_int_equal(c->place.snapshot_drops, 0);
    turns(c, 10); /* the machine is closed, and answers */
}

/* Only the worker is gone: its machine is told that nobody waits. */
static void test_one_whose_worker_ends(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.snapshot = FAKE_SNAPSHOT_NEVER;
    take(c, &r, 5);
    while (c->place.snapshots == 0) {
        turns(c, 1);
    }
    fake_exit(c->place.newest,
              (struct machine_exit){.how = EXIT_SIGNAL, .signal = 11, .kept = true});
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_KILLED);
    assert_int_equal(c->place.snapshot_drops, 1);
}

static void test_one_that_is_going_at_the_end(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.snapshot = FAKE_SNAPSHOT_NEVER;
    take(c, &r, 5);
    while (c->place.snapshots == 0) {
        turns(c, 1);
    }
    close_executor(c);
    assert_int_equal(r.done, 1);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
}

static void test_where_there_are_none(void **state)
{
    const struct snapshot_request request = {.ttl_seconds = 60};
    struct context *c = *state;
    struct record r = {.inside = true};
    struct error err = {0};

    c->place.base.lacks = CAP_SNAPSHOT;
    assert_null(executor_snapshot(c->e, "r-1", &request, 5, &record_events, &r, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "modal"));
    error_clear(&err);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, record_setup, record_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_the_first_one_starts_the_sandbox),
        CASE(test_it_waits_for_runs_and_they_for_it),
        CASE(test_one_that_fails),
        CASE(test_a_cancel_leaves_the_session_as_it_was),
        CASE(test_its_limit_does_as_well),
        CASE(test_one_whose_sandbox_ends),
        CASE(test_one_whose_worker_ends),
        CASE(test_one_that_is_going_at_the_end),
        CASE(test_where_there_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
