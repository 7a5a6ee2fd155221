/* A process in a sandbox through its router: its start, its streams, its end. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/modal/internal.h"
#include "exec-trial.h"

/* ---- its end ---- */

static void test_a_code_and_what_it_said(void **state)
{
    struct exec_trial t;
    char *said;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.code = 3;
    exec_trial_start(&t);
    exec_trial_run(&t);
    assert_string_equal(t.out, "all of it");
    assert_int_equal(t.started, 1);
    assert_int_equal(t.end.how, MODAL_EXEC_CODE);
    assert_int_equal(t.end.code, 3);
    assert_true(t.end.began);
    said = modal_exec_said(t.exec);
    assert_string_equal(said, "No module");
    free(said);
    exec_trial_end(&t);
}

static void test_a_signal_after_waits_that_came_to_nothing(void **state)
{
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.signal = 9;
    t.bad = exec_trial_failing(GRPC_DEADLINE_EXCEEDED);
    t.bad_waits = 3;
    exec_trial_start(&t);
    exec_trial_run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_SIGNAL);
    assert_int_equal(t.end.code, 9);
    assert_int_equal(fake_count("TaskExecWait"), 4);
    exec_trial_end(&t);
}

static void test_a_start_that_is_refused(void **state)
{
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.bad = exec_trial_failing(GRPC_NOT_FOUND);
    t.bad_starts = 1;
    exec_trial_start(&t);
    exec_trial_run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_LOST);
    assert_int_equal(t.end.status, GRPC_NOT_FOUND);
    assert_false(t.end.began);
    assert_non_null(strstr(t.message, "TaskExecStart"));
    assert_int_equal(t.started, 0);
    exec_trial_end(&t);
}

static void test_a_start_is_tried_again_with_its_id(void **state)
{
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.bad = exec_trial_failing(GRPC_UNAVAILABLE);
    t.bad_starts = 3;
    exec_trial_start(&t);
    exec_trial_run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_CODE);
    assert_int_equal(fake_count("TaskExecStart"), 4);
    assert_true(t.same_id);
    assert_int_equal(strlen(t.exec_id), 36);
    exec_trial_end(&t);
}

static void test_one_that_is_there_already_is_the_same(void **state)
{
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.bad = exec_trial_failing(GRPC_ALREADY_EXISTS);
    t.bad_starts = 1;
    exec_trial_start(&t);
    exec_trial_run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_CODE);
    exec_trial_end(&t);
}

static void test_closed_while_it_goes_on(void **state)
{
    static const struct exec_piece quiet[] = {{"", GRPC_OK}, {NULL, 0}};
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.no_end = true;
    t.pieces = quiet;
    exec_trial_start(&t);
    while (t.started == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    exec_trial_end(&t);
    assert_int_equal(t.ended, 0);
}

/* What waited is written, and that nobody is there. */
static void test_left_its_stdin_is_ended(void **state)
{
    static const struct exec_piece quiet[] = {{"", GRPC_OK}, {NULL, 0}};
    struct exec_trial t;
    struct byte_stream *in;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.no_end = true;
    t.pieces = quiet;
    exec_trial_start(&t);
    in = modal_exec_stream(t.exec);
    while (t.started == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    assert_string_equal(modal_exec_id(t.exec), t.exec_id);
    assert_int_equal(in->write(in, "last", 4), 0);
    modal_exec_leave(t.exec, exec_trial_closed, &t);
    while (t.closed == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    t.exec = NULL;
    assert_int_equal(t.writes, 1);
    assert_string_equal(t.written[0], "last");
    assert_true(t.write_eofs[0]);
    t.closed = 0;
    exec_trial_end(&t);
    assert_int_equal(t.ended, 0);
}

static void test_closed_before_it_has_started(void **state)
{
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    exec_trial_start(&t);
    exec_trial_end(&t);
    assert_int_equal(t.started + t.ended, 0);
}

/* ---- streams ---- */

static void test_output_goes_on_where_it_was_cut(void **state)
{
    static const struct exec_piece pieces[] = {{"abc", GRPC_UNAVAILABLE},
                                               {"", GRPC_INTERNAL},
                                               {"de", GRPC_UNAUTHENTICATED},
                                               {"f", GRPC_OK},
                                               {NULL, 0}};
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.pieces = pieces;
    exec_trial_start(&t);
    exec_trial_run(&t);
    assert_string_equal(t.out, "abcdef");
    assert_int_equal(t.reads, 4);
    assert_int_equal(t.offsets[1], 3);
    assert_int_equal(t.offsets[2], 3);
    assert_int_equal(t.offsets[3], 5);
    assert_int_equal(fake_count("SandboxGetCommandRouterAccess"), 1);
    assert_int_equal(t.end.how, MODAL_EXEC_CODE);
    exec_trial_end(&t);
}

static void test_output_that_is_lost(void **state)
{
    static const struct exec_piece pieces[] = {{"abc", GRPC_NOT_FOUND}, {NULL, 0}};
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.pieces = pieces;
    t.bad = exec_trial_failing(GRPC_NOT_FOUND);
    t.bad_waits = 1;
    exec_trial_start(&t);
    exec_trial_run(&t);
    assert_string_equal(t.out, "abc");
    assert_int_equal(t.end.how, MODAL_EXEC_LOST);
    assert_true(t.end.began);
    assert_non_null(strstr(t.message, "NOT_FOUND"));
    exec_trial_end(&t);
}

static void test_input_is_gathered_and_sent_again_by_offset(void **state)
{
    static const struct exec_piece quiet[] = {{"", GRPC_OK}, {NULL, 0}};
    struct exec_trial t;
    struct byte_stream *in;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.no_end = true;
    t.pieces = quiet;
    t.bad = exec_trial_failing(GRPC_UNAVAILABLE);
    t.bad_writes = 1;
    exec_trial_start(&t);
    in = modal_exec_stream(t.exec);
    assert_int_equal(in->write(in, "he", 2), 0); /* before it has started */
    assert_int_equal(in->write(in, "ad", 2), 0);
    assert_int_equal(in->queued(in), 4);
    while (t.writes < 2 || in->queued(in) > 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    assert_string_equal(t.written[0], "head");
    assert_string_equal(t.written[1], "head");
    assert_int_equal(t.write_offsets[1], 0);
    assert_int_equal(in->write(in, "t", 1), 0);
    assert_int_equal(in->write(in, "ail", 3), 0);
    modal_exec_eof(t.exec);
    assert_int_equal(in->write(in, "x", 1), -EPIPE);
    while (t.writes < 3 || in->queued(in) > 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    assert_string_equal(t.written[2], "tail");
    assert_int_equal(t.write_offsets[2], 4);
    assert_true(t.write_eofs[2]);
    assert_false(t.write_eofs[0]);
    exec_trial_end(&t);
}

static void test_input_that_is_not_taken(void **state)
{
    static const struct exec_piece quiet[] = {{"", GRPC_OK}, {NULL, 0}};
    struct exec_trial t;
    struct byte_stream *in;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.no_end = true;
    t.pieces = quiet;
    t.bad = exec_trial_failing(GRPC_FAILED_PRECONDITION);
    t.bad_writes = 1;
    exec_trial_start(&t);
    in = modal_exec_stream(t.exec);
    assert_int_equal(in->write(in, "word", 4), 0);
    exec_trial_run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_LOST);
    assert_non_null(strstr(t.message, "TaskExecStdinWrite"));
    assert_int_equal(in->write(in, "x", 1), -EPIPE);
    exec_trial_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_code_and_what_it_said),
        cmocka_unit_test(test_a_signal_after_waits_that_came_to_nothing),
        cmocka_unit_test(test_a_start_that_is_refused),
        cmocka_unit_test(test_a_start_is_tried_again_with_its_id),
        cmocka_unit_test(test_one_that_is_there_already_is_the_same),
        cmocka_unit_test(test_closed_while_it_goes_on),
        cmocka_unit_test(test_left_its_stdin_is_ended),
        cmocka_unit_test(test_closed_before_it_has_started),
        cmocka_unit_test(test_output_goes_on_where_it_was_cut),
        cmocka_unit_test(test_output_that_is_lost),
        cmocka_unit_test(test_input_is_gathered_and_sent_again_by_offset),
        cmocka_unit_test(test_input_that_is_not_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
