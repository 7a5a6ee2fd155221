/* The executor over a fake place: runs, refusals, time and cancel, long output; with the limits
 * made short. */
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

/* ---- the ordinary way ---- */

static void test_first_run_starts_and_output_is_in_order(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.on_run = does_ok;
    assert_false(executor_started(c->e));
    (void)run(c, &r);
    assert_true(executor_busy(c->e));
    until(c, &r.done);
    assert_string_equal(r.log, "wshello.");
    assert_int_equal(r.cause, CAUSE_OK);
    assert_string_equal(r.note, "");
    assert_false(r.state_lost);
    assert_true(executor_started(c->e));
    assert_false(executor_busy(c->e));
    assert_int_equal(c->place.busy, 0);
    assert_int_equal(r.full[0].total, 5);
    assert_int_equal(r.full[1].total, 0);
}

static void test_warm_run_never_completes_synchronously(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    (void)run(c, &r);
    assert_int_equal(c->place.runs, 2); /* the frame went out at once */
    assert_string_equal(r.log, "");
    until(c, &r.done);
    assert_string_equal(r.log, "shello.");
    assert_int_equal(c->place.starts, 1);
}

static void test_runs_queue_in_order(void **state)
{
    struct context *c = *state;
    struct record r[3] = {0};

    c->place.on_run = does_ok;
    for (int i = 0; i < 3; i++) {
        (void)run(c, &r[i]);
    }
    until(c, &r[0].done);
    assert_int_equal(r[1].done, 0);
    until(c, &r[2].done);
    assert_int_equal(r[1].done, 1);
    assert_int_equal(c->place.runs, 3);
    assert_int_equal(c->place.starts, 1);
}

static void does_displays(struct fake_machine *m, const char *id)
{
    fake_print(m, STREAM_STDOUT, "a");
    fake_frame(m, FRAME_DISPLAY,
               "{\"kind\":\"display\",\"data\":{\"text/plain\":\"x\"},\"metadata\":{},"
               "\"display_id\":null,\"sync\":true}");
    fake_frame(m, FRAME_CLEAR, "{\"wait\":true,\"sync\":false}");
    fake_frame(m, FRAME_NOTE, "{\"text\":\"n\"}");
    fake_done(m, id, "\"status\":\"ok\"");
}

static void test_text_stays_before_a_display(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.on_run = does_displays;
    (void)run(c, &r);
    until(c, &r.done);
    assert_string_equal(r.log, "wsadcn.");
    assert_int_equal(c->place.acks, 1);
}

static void test_leftovers_are_idle_output(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    fake_print(c->place.newest, STREAM_STDOUT, "ghost");
    (void)run(c, &r);
    until(c, &r.done);
    assert_string_equal(c->idle, "ghost");
    assert_string_equal(r.log, "shello.");
}

static void test_frames_between_runs_are_nobodys(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    fake_frame(c->place.newest, FRAME_NOTE, "{\"text\":\"ghost\"}");
    fake_done(c->place.newest, "r-1", "\"status\":\"ok\"");
    turns(c, 5);
    (void)run(c, &r);
    until(c, &r.done);
    assert_string_equal(r.log, "shello.");
    assert_int_equal(c->place.starts, 1);
}

/* ---- refusals ---- */

static void test_refusals_make_no_callback(void **state)
{
    struct context *c = *state;
    struct record r = {.inside = true};
    struct error err = {0};
    struct run_request request = {
        .id = "r-1", .language = "cobol", .code = "x", .code_size = 1, .timeout_seconds = 1};

    assert_null(executor_run(c->e, &request, &record_events, &r, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "python, shell"));
    request.language = "python";
    request.timeout_seconds = 0;
    assert_null(executor_run(c->e, &request, &record_events, &r, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    request.timeout_seconds = 1;
    request.code = "\xff";
    assert_null(executor_run(c->e, &request, &record_events, &r, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    request.code = "x";
    request.id = "../up";
    assert_null(executor_run(c->e, &request, &record_events, &r, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    error_clear(&err);
}

static void test_queue_has_a_cap(void **state)
{
    struct context *c = *state;
    struct record r[RUN_QUEUE_CAP + 1] = {0};
    struct error err = {0};

    c->place.on_run = does_nothing;
    for (int i = 0; i < RUN_QUEUE_CAP; i++) {
        (void)run(c, &r[i]);
    }
    assert_null(executor_run(
        c->e,
        &(struct run_request){.id = "r-x", .language = "python", .code = "", .timeout_seconds = 1},
        &record_events, &r[RUN_QUEUE_CAP], &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    error_clear(&err);
    close_executor(c);
    for (int i = 0; i < RUN_QUEUE_CAP; i++) {
        assert_int_equal(r[i].done, 1);
        assert_int_equal(r[i].cause, CAUSE_CANCELLED);
    }
}

/* A kernel that finds out only at the far side that it cannot run "shell". */
static int run_python_only(struct kernel *k, const struct run_request *request)
{
    return strcmp(request->language, "shell") == 0 ? 0 : runner_kernel.run(k, request);
}

static const struct kernel_ops *picky_kernel(void)
{
    static struct kernel_ops ops;

    ops = runner_kernel;
    ops.run = run_python_only;
    return &ops;
}

static void refuse(struct context *c, enum error_kind kind)
{
    struct error err = {0};

    (void)error_set(&err, kind, "no kernel here runs shell");
    executor_kernel_events.on_refused(c->e, &err);
    error_clear(&err);
}

static void test_a_run_that_the_kernel_refuses_leaves_the_session_alone(void **state)
{
    struct context *c = *state;
    struct record refused = {0}, next = {0};

    c->place.base.kernel = picky_kernel();
    warm_up(c);
    (void)run_as(c, &refused, "shell", 2);
    (void)run(c, &next);
    turns(c, 3);
    assert_int_equal(refused.done, 0);
    refuse(c, ERROR_UNSUPPORTED);
    until(c, &next.done);
    assert_int_equal(refused.done, 1);
    assert_int_equal(refused.cause, CAUSE_UNSUPPORTED);
    assert_string_equal(refused.note, "The run was not started: no kernel here runs shell.");
    assert_false(refused.state_lost);
    assert_false(refused.has_exit_code);
    assert_int_equal(next.cause, CAUSE_OK);
    assert_string_equal(next.note, "");
    assert_int_equal(c->place.starts, 1);
    assert_int_equal(c->place.kills + c->place.interrupts, 0);
    assert_int_equal(c->place.busy, 0);
}

static void test_a_refusal_of_no_run_is_ignored(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.base.kernel = picky_kernel();
    warm_up(c);
    refuse(c, ERROR_REFUSED);
    (void)run_as(c, &r, "shell", 2);
    turns(c, 3);
    executor_close(c->e, NULL, NULL);
    refuse(c, ERROR_REFUSED); /* too late: it is cancelled */
    c->e = NULL;
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
    turns(c, 5);
}

/* ---- time and cancel ---- */

static void timed_out(struct context *c, struct record *r, enum fake_interrupt interrupt,
                      const char *language)
{
    warm_up(c);
    c->place.on_run = does_print_and_hang;
    c->place.interrupt = interrupt;
    (void)run_as(c, r, language, 0.03);
    until(c, &r->done);
    assert_int_equal(r->cause, CAUSE_TIMEOUT);
    assert_string_equal(r->etype, "TimeoutError");
    assert_string_equal(r->evalue, "the run passed its limit of 0.03 s");
    assert_string_equal(r->log, "sbeforen.");
    assert_int_equal(c->place.interrupts, 1);
}

static void test_timeout_interrupts_and_keeps(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    timed_out(c, &r, FAKE_INTERRUPT_OBEYED, "python");
    assert_false(r.state_lost);
    assert_false(r.has_exit_code);
    assert_non_null(strstr(r.note, "variables are kept"));
    assert_int_equal(c->place.kills, 0);
}

static void test_swallowed_interrupt_is_still_a_timeout(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    timed_out(c, &r, FAKE_INTERRUPT_SWALLOWED, "shell");
    assert_false(r.state_lost);
    assert_true(r.has_exit_code);
    assert_int_equal(r.exit_code, 124);
}

static void test_ignored_interrupt_kills_and_restarts(void **state)
{
    struct context *c = *state;
    struct record r = {0}, again = {0};

    timed_out(c, &r, FAKE_INTERRUPT_IGNORED, "python");
    assert_true(r.state_lost);
    assert_int_equal(r.signal, 0);
    assert_non_null(strstr(r.note, "next run starts afresh"));
    assert_int_equal(c->place.kills, 1);
    c->place.on_run = does_ok;
    (void)run(c, &again);
    until(c, &again.done);
    assert_int_equal(again.cause, CAUSE_OK);
    assert_string_equal(again.note, "");
    assert_int_equal(c->place.starts, 2);
}

static void test_machine_that_cannot_be_killed_is_given_up(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.kill_never = true;
    timed_out(c, &r, FAKE_INTERRUPT_IGNORED, "python");
    assert_true(r.state_lost);
    assert_false(executor_busy(c->e));
}

static void test_cancel_of_a_going_run(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct run *going;

    warm_up(c);
    c->place.on_run = does_print_and_hang;
    c->place.interrupt = FAKE_INTERRUPT_OBEYED;
    going = run(c, &r);
    turns(c, 3);
    run_cancel(going);
    run_cancel(going);
    assert_int_equal(r.done, 0);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
    assert_false(r.state_lost);
    assert_int_equal(c->place.interrupts, 1);
}

static void test_cancel_that_has_to_kill(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    c->place.on_run = does_nothing;
    run_cancel(run(c, &r));
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
    assert_true(r.state_lost);
}

static void test_cancel_while_queued_and_while_starting(void **state)
{
    struct context *c = *state;
    struct record first = {0}, second = {0}, third = {0};
    struct run *waiting;

    c->place.on_run = does_ok;
    (void)run(c, &first);
    waiting = run(c, &second);
    run_cancel(waiting); /* before anything has started */
    assert_int_equal(second.done, 0);
    until(c, &second.done);
    assert_int_equal(second.cause, CAUSE_CANCELLED);
    assert_string_equal(second.log, ".");
    until(c, &first.done);
    assert_int_equal(first.cause, CAUSE_OK);
    c->place.on_run = does_nothing;
    run_cancel(run(c, &third));
    until(c, &third.done);
    assert_int_equal(third.cause, CAUSE_CANCELLED);
}

static void test_cancel_during_the_start(void **state)
{
    struct context *c = *state;
    struct record r = {0}, next = {0};
    struct run *starting;

    c->place.on_run = does_ok;
    starting = run(c, &r);
    turns(c, 1);
    assert_int_equal(c->place.starts, 1);
    run_cancel(starting);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
    (void)run(c, &next);
    until(c, &next.done);
    assert_int_equal(next.cause, CAUSE_OK);
    assert_int_equal(c->place.starts, 1);
}

static void test_cancel_from_the_runs_own_output(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    c->place.on_run = does_print_and_hang;
    c->place.interrupt = FAKE_INTERRUPT_OBEYED;
    r.cancel_in_output = run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
}

/* ---- long output ---- */

static void test_long_output_is_kept_in_a_file(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    char real[256];

    (void)snprintf(c->place.spool_dir, sizeof(c->place.spool_dir), "/tmp/cellblock-test-XXXXXX");
    assert_non_null(mkdtemp(c->place.spool_dir));
    c->place.on_run = does_flood;
    (void)run(c, &r);
    until(c, &r.done);
    assert_string_equal(r.path, "/workspace/.cellblock/r-1.stdout");
    assert_int_equal(r.full[0].total, 20000);
    assert_int_equal(r.full[0].kept, 20000);
    (void)snprintf(real, sizeof(real), "%s/r-1.stdout", c->place.spool_dir);
    int fd = open(real, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 20000);
    (void)close(fd);
    (void)unlink(real);
    (void)rmdir(c->place.spool_dir);
}

static void test_output_that_cannot_be_kept_is_counted(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.on_run = does_flood;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_string_equal(r.path, "");
    assert_int_equal(r.full[0].total, 20000);
    assert_int_equal(r.full[0].kept, 0);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, record_setup, record_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_first_run_starts_and_output_is_in_order),
        CASE(test_warm_run_never_completes_synchronously),
        CASE(test_runs_queue_in_order),
        CASE(test_text_stays_before_a_display),
        CASE(test_leftovers_are_idle_output),
        CASE(test_frames_between_runs_are_nobodys),
        CASE(test_refusals_make_no_callback),
        CASE(test_queue_has_a_cap),
        CASE(test_a_run_that_the_kernel_refuses_leaves_the_session_alone),
        CASE(test_a_refusal_of_no_run_is_ignored),
        CASE(test_timeout_interrupts_and_keeps),
        CASE(test_swallowed_interrupt_is_still_a_timeout),
        CASE(test_ignored_interrupt_kills_and_restarts),
        CASE(test_machine_that_cannot_be_killed_is_given_up),
        CASE(test_cancel_of_a_going_run),
        CASE(test_cancel_that_has_to_kill),
        CASE(test_cancel_while_queued_and_while_starting),
        CASE(test_cancel_during_the_start),
        CASE(test_cancel_from_the_runs_own_output),
        CASE(test_long_output_is_kept_in_a_file),
        CASE(test_output_that_cannot_be_kept_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
