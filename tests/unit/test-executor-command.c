/* The executor over a fake place: commands, their stdin while they go on, signals. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "executor-record.h"

static const char *const echo[] = {"echo", "a b", NULL};

static struct run_request request_of(const char *id)
{
    return (struct run_request){.id = id, .argv = echo, .timeout_seconds = 2};
}

static struct run *begin(struct context *c, struct record *r, const struct run_request *request)
{
    struct error err = {0};
    struct run *run = executor_run(c->e, request, &record_events, r, &err);

    assert_non_null(run);
    assert_int_equal(err.kind, ERROR_NONE);
    return run;
}

/* A command with its stdin open, which goes on. */
static struct run *begin_open(struct context *c, struct record *r, const char *id)
{
    struct run_request request = request_of(id);

    request.stdin_open = true;
    c->place.on_run = does_nothing;
    return begin(c, r, &request);
}

static void refused(struct context *c, const struct run_request *request, enum error_kind kind,
                    const char *says)
{
    struct record r = {.inside = true};
    struct error err = {0};

    assert_null(executor_run(c->e, request, &record_events, &r, &err));
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, says)) {
        fail_msg("\"%s\" is not in: %s", says, err.message);
    }
    error_clear(&err);
}

static void not_written(struct run *run, size_t size, enum error_kind kind, const char *says)
{
    static char bytes[RUN_WRITE_CAP + 1];
    struct error err = {0};

    assert_int_equal(run_write(run, bytes, size, false, &err), -1);
    assert_int_equal(err.kind, kind);
    assert_non_null(strstr(err.message, says));
    error_clear(&err);
}

static void not_signalled(struct run *run, int number, enum error_kind kind)
{
    struct error err = {0};

    assert_int_equal(run_signal(run, number, &err), -1);
    assert_int_equal(err.kind, kind);
    error_clear(&err);
}

static void finish(struct context *c, struct record *r, const char *id)
{
    fake_done(c->place.newest, id, "\"status\":\"exit\",\"exit_code\":3");
    until(c, &r->done);
}

static void test_a_command_ends_with_its_exit_code(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct run_request request = request_of("r-1");

    c->place.on_run = does_nothing;
    (void)begin(c, &r, &request);
    turns(c, 5);
    finish(c, &r, "r-1");
    assert_int_equal(r.cause, CAUSE_EXIT);
    assert_int_equal(r.exit_code, 3);
    assert_string_equal(r.note, "The command exited with code 3.");
}

static void test_a_time_out_has_the_code_of_timeout(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct run_request request = request_of("r-1");

    request.timeout_seconds = 0.03;
    warm_up(c);
    c->place.on_run = does_print_and_hang;
    c->place.interrupt = FAKE_INTERRUPT_OBEYED;
    (void)begin(c, &r, &request);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_TIMEOUT);
    assert_true(r.has_exit_code);
    assert_int_equal(r.exit_code, 124);
}

static void test_wrong_requests(void **state)
{
    struct context *c = *state;
    const char *const none[] = {NULL}, *const empty[] = {"", NULL};
    const char *const bad[] = {"a", "\xff", NULL};
    const char **many = calloc(RUN_ARGUMENTS_CAP + 2, sizeof(*many));
    struct run_request request = request_of("r-1");

    request.argv = none;
    refused(c, &request, ERROR_INVALID, "first item");
    request.argv = empty;
    refused(c, &request, ERROR_INVALID, "first item");
    request.argv = bad;
    refused(c, &request, ERROR_INVALID, "item 1");
    for (int i = 0; i <= RUN_ARGUMENTS_CAP; i++) {
        many[i] = "x";
    }
    request.argv = many;
    refused(c, &request, ERROR_LIMIT, "1024");
    free(many);
    request = request_of("r-1");
    request.workdir = "";
    refused(c, &request, ERROR_INVALID, "workdir");
    request.workdir = "/\xff";
    refused(c, &request, ERROR_INVALID, "workdir");
    request = (struct run_request){
        .id = "r-1", .language = "python", .code = "", .timeout_seconds = 1, .workdir = "/"};
    refused(c, &request, ERROR_UNSUPPORTED, "os.chdir");
    assert_int_equal(c->place.starts, 0);
}

static void test_where_there_are_no_commands(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct run_request request = request_of("r-1");

    c->place.base.lacks = CAP_COMMANDS;
    refused(c, &request, ERROR_UNSUPPORTED, "command");
    c->place.base.lacks = CAP_STDIN_STREAM | CAP_SIGNAL;
    request.stdin_open = true;
    refused(c, &request, ERROR_UNSUPPORTED, "while a command is going");
    request.stdin_open = false;
    c->place.on_run = does_nothing;
    struct run *run = begin(c, &r, &request);
    turns(c, 5);
    not_signalled(run, SIGTERM, ERROR_UNSUPPORTED);
    not_written(run, 1, ERROR_UNSUPPORTED, "while a command is going");
    finish(c, &r, "r-1");
}

static void test_stdin_goes_where_the_run_is(void **state)
{
    struct context *c = *state;
    struct record r[2] = {0};
    struct error err = {0};
    struct run *first = begin_open(c, &r[0], "r-1"), *second = begin_open(c, &r[1], "r-2");

    /* Nothing is started yet: it is kept, also for the one that waits. */
    assert_int_equal(run_write(first, "one ", 4, false, &err), 0);
    assert_int_equal(run_write(second, "other", 5, true, &err), 0);
    not_signalled(second, SIGTERM, ERROR_INVALID);
    assert_string_equal(c->place.commands, "");
    turns(c, 10);
    assert_string_equal(c->place.commands, "r-1:one  ");
    assert_int_equal(run_write(first, "two", 3, true, &err), 0);
    assert_string_equal(c->place.commands, "r-1:one  r-1.two ");
    not_written(first, 1, ERROR_INVALID, "had its end");
    not_written(second, 1, ERROR_INVALID, "had its end");
    finish(c, &r[0], "r-1");
    turns(c, 5);
    assert_string_equal(c->place.commands, "r-1:one  r-1.two r-2.other ");
    finish(c, &r[1], "r-2");
}

static void test_stdin_has_a_cap(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct error err = {0};
    struct run *run = begin_open(c, &r, "r-1");

    not_written(run, RUN_WRITE_CAP + 1, ERROR_LIMIT, "write a file");
    assert_int_equal(run_write(run, "x", 1, false, &err), 0);
    not_written(run, RUN_WRITE_CAP, ERROR_LIMIT, "has had 1");
    turns(c, 10);
    not_written(run, RUN_WRITE_CAP, ERROR_LIMIT, "has had 1");
    finish(c, &r, "r-1");
}

static void test_stdin_of_code(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct error err = {0};
    struct run_request request = {
        .id = "r-1", .language = "python", .code = "", .timeout_seconds = 2, .stdin_open = true};

    c->place.on_run = does_nothing;
    struct run *run = begin(c, &r, &request);
    assert_int_equal(run_write(run, "one", 3, false, &err), 0);
    turns(c, 10);
    assert_int_equal(run_write(run, "two", 3, true, &err), 0);
    assert_string_equal(c->place.commands, "r-1:one r-1.two ");
    not_written(run, 1, ERROR_INVALID, "had its end");
    finish(c, &r, "r-1");
}

static void test_where_code_has_no_open_stdin(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct run_request request = {
        .id = "r-1", .language = "python", .code = "", .timeout_seconds = 2, .stdin_open = true};

    c->place.base.lacks = CAP_STDIN_CODE;
    refused(c, &request, ERROR_UNSUPPORTED, "while code is going");
    request.stdin_open = false;
    c->place.on_run = does_nothing;
    struct run *run = begin(c, &r, &request);
    not_written(run, 1, ERROR_UNSUPPORTED, "while code is going");
    turns(c, 10);
    not_written(run, 1, ERROR_UNSUPPORTED, "while code is going");
    finish(c, &r, "r-1");
}

static void test_signals(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct error err = {0};
    struct run *run = begin_open(c, &r, "r-1");

    not_signalled(run, SIGTERM, ERROR_INVALID); /* it waits */
    turns(c, 10);
    not_signalled(run, 0, ERROR_INVALID);
    not_signalled(run, NSIG, ERROR_INVALID);
    assert_int_equal(run_signal(run, SIGTERM, &err), 0);
    assert_string_equal(c->place.commands, "{\"run\":\"r-1\",\"signal\":15} ");
    assert_int_equal(c->place.interrupts, 0);
    finish(c, &r, "r-1");
}

static void test_signals_to_code(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct error err = {0};

    warm_up(c);
    c->place.on_run = does_nothing;
    c->place.interrupt = FAKE_INTERRUPT_IGNORED;
    struct run *code = run(c, &r);
    turns(c, 3);
    c->place.signal_answer = -ENOTSUP;
    not_signalled(code, SIGTERM, ERROR_UNSUPPORTED);
    c->place.signal_answer = -ESRCH;
    not_signalled(code, SIGHUP, ERROR_LOST);
    c->place.signal_answer = 0;
    assert_int_equal(run_signal(code, SIGUSR1, &err), 0);
    assert_int_equal(c->place.signal, SIGUSR1);
    assert_int_equal(c->place.interrupts, 0);
    assert_int_equal(run_signal(code, SIGINT, &err), 0);
    assert_int_equal(c->place.interrupts, 1);
    not_written(code, 1, ERROR_INVALID, "not open");
    fake_done(c->place.newest, "r-2", "\"status\":\"ok\"");
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK); /* nobody stopped it: it was only signalled */
}

static void test_a_run_whose_sandbox_ended(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct run *run = begin_open(c, &r, "r-1");

    turns(c, 10);
    fake_end_stream(c->place.newest);
    turns(c, 2);
    not_signalled(run, SIGTERM, ERROR_LOST);
    not_written(run, 1, ERROR_LOST, "ending");
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_KILLED);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, record_setup, record_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_command_ends_with_its_exit_code),
        CASE(test_a_time_out_has_the_code_of_timeout),
        CASE(test_wrong_requests),
        CASE(test_where_there_are_no_commands),
        CASE(test_stdin_goes_where_the_run_is),
        CASE(test_stdin_has_a_cap),
        CASE(test_stdin_of_code),
        CASE(test_where_code_has_no_open_stdin),
        CASE(test_signals),
        CASE(test_signals_to_code),
        CASE(test_a_run_whose_sandbox_ended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
