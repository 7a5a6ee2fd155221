/* The executor over a fake place: shares, and copies that stall. */
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

/* ---- shares ---- */

struct answer_record {
    int count;
    enum error_kind kind;
    char message[512];
};

static void on_answer(void *data, const struct error *err)
{
    struct answer_record *a = data;

    a->count++;
    a->kind = err ? err->kind : ERROR_NONE;
    (void)snprintf(a->message, sizeof(a->message), "%s", err ? err->message : "");
}

static void add(struct context *c, enum share_type type, const char *dest, struct answer_record *a)
{
    int fd = open("/", O_PATH | O_CLOEXEC);
    struct share *share = share_new(type, fd, "/src", dest, true);

    assert_non_null(share);
    *a = (struct answer_record){0};
    executor_add_share(c->e, share, NULL, on_answer, a);
    assert_int_equal(a->count, 0);
}

static void test_shares_before_the_first_run(void **state)
{
    struct context *c = *state;
    struct answer_record copy, mount, taken, inside, around;
    struct record r = {0};

    add(c, SHARE_COPY, "/workspace/data", &copy);
    add(c, SHARE_MOUNT, "/mnt/x", &mount);
    add(c, SHARE_COPY, "/workspace/data", &taken);
    add(c, SHARE_COPY, "/workspace/data/in", &inside);
    add(c, SHARE_COPY, "/mnt", &around);
    until(c, &around.count);
    assert_int_equal(copy.kind, ERROR_NONE);
    assert_int_equal(mount.kind, ERROR_NONE);
    assert_int_equal(taken.kind, ERROR_INVALID);
    assert_int_equal(inside.kind, ERROR_INVALID);
    assert_int_equal(around.kind, ERROR_INVALID);
    assert_string_equal(executor_share(c->e, 1)->dest, "/mnt/x");
    assert_null(executor_share(c->e, 2));
    assert_int_equal(c->place.starts, 0);
    c->place.on_run = does_ok;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(c->place.puts, 1);
    assert_int_equal(c->place.mount_count, 1);
}

static void test_shares_on_a_live_sandbox(void **state)
{
    struct context *c = *state;
    struct answer_record copy, mount, failing;
    struct record r = {0};

    warm_up(c);
    add(c, SHARE_COPY, "/workspace/data", &copy);
    until(c, &copy.count);
    assert_int_equal(copy.kind, ERROR_NONE);
    assert_int_equal(c->place.puts, 1);
    add(c, SHARE_MOUNT, "/mnt/x", &mount);
    until(c, &mount.count);
    assert_int_equal(mount.kind, ERROR_REFUSED);
    assert_non_null(strstr(mount.message, "reset_session"));
    c->place.put = FAKE_PUT_FAILS;
    add(c, SHARE_COPY, "/workspace/other", &failing);
    until(c, &failing.count);
    assert_int_equal(failing.kind, ERROR_REFUSED);
    assert_null(executor_share(c->e, 1));
    c->place.put = FAKE_PUT_OK;
    c->place.on_run = does_crash;
    (void)run(c, &r);
    until(c, &r.done);
    warm_up(c);
    assert_int_equal(c->place.puts, 3); /* put again after the restart */
}

static void test_copy_that_fails_again_makes_the_start_fail(void **state)
{
    struct context *c = *state;
    struct answer_record copy;
    struct record r = {0};

    add(c, SHARE_COPY, "/workspace/data", &copy);
    c->place.put = FAKE_PUT_FAILS;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_REFUSED);
    assert_non_null(strstr(r.note, "/src"));
    assert_non_null(strstr(r.note, "no leave to read it"));
    assert_int_equal(copy.count, 1);
}

static void test_death_in_the_middle_of_a_copy(void **state)
{
    struct context *c = *state;
    struct answer_record copy;

    warm_up(c);
    c->place.put = FAKE_PUT_NEVER;
    add(c, SHARE_COPY, "/workspace/data", &copy);
    turns(c, 3);
    assert_int_equal(copy.count, 0);
    fake_exit(c->place.newest, (struct machine_exit){.how = EXIT_CODE});
    until(c, &copy.count);
    assert_int_equal(copy.kind, ERROR_LOST);
    assert_null(executor_share(c->e, 0));
}

static void test_close_in_the_middle_of_a_copy(void **state)
{
    struct context *c = *state;
    struct answer_record copy;

    warm_up(c);
    c->place.put = FAKE_PUT_NEVER;
    add(c, SHARE_COPY, "/workspace/data", &copy);
    turns(c, 3);
    close_executor(c);
    assert_int_equal(copy.count, 1);
    assert_int_equal(copy.kind, ERROR_LOST);
}

static void test_copies_go_one_at_a_time(void **state)
{
    struct context *c = *state;
    struct answer_record first, second;

    warm_up(c);
    add(c, SHARE_COPY, "/workspace/a", &first);
    add(c, SHARE_COPY, "/workspace/b", &second);
    until(c, &second.count);
    assert_int_equal(first.count, 1);
    assert_int_equal(second.kind, ERROR_NONE);
    c->place.put = FAKE_PUT_NEVER;
    add(c, SHARE_COPY, "/workspace/c", &first);
    add(c, SHARE_COPY, "/workspace/d", &second);
    turns(c, 5);
    assert_int_equal(c->place.puts, 3);
    close_executor(c);
    assert_int_equal(first.kind, ERROR_LOST);
    assert_int_equal(second.kind, ERROR_LOST);
    assert_int_equal(first.count + second.count, 2);
}

/* ---- copies that stall ---- */

/* A copy on a live sandbox, as the place does it, to its answer. */
static void copy_as(struct context *c, enum fake_put how, struct answer_record *copy)
{
    c->place.put = how;
    add(c, SHARE_COPY, "/workspace/data", copy);
    until(c, &copy->count);
}

static void test_a_copy_that_stalls_is_given_up(void **state)
{
    struct context *c = *state;
    struct answer_record copy;

    warm_up(c);
    copy_as(c, FAKE_PUT_STALLS, &copy);
    assert_int_equal(copy.kind, ERROR_TIMEOUT);
    assert_non_null(strstr(copy.message, "copying /src to /workspace/data was given up"));
    assert_non_null(strstr(copy.message, "nothing of it moved for 0.05 s"));
    assert_non_null(strstr(copy.message, "(the last word was \"copying\")"));
    assert_non_null(strstr(copy.message, "add the share again"));
    assert_int_equal(c->place.cancels, 1);
    assert_null(executor_share(c->e, 0));
    turns(c, 3); /* the place has answered by now */
    warm_up(c);
    copy_as(c, FAKE_PUT_OK, &copy);
    assert_int_equal(copy.kind, ERROR_NONE);
    assert_int_equal(copy.count, 1);
    assert_int_equal(c->place.kills, 0);
}

static void test_a_copy_that_moves_is_waited_for(void **state)
{
    struct context *c = *state;
    struct answer_record copy;

    c->e->limits.stall = 300; /* it takes 500 */
    warm_up(c);
    copy_as(c, FAKE_PUT_SLOW, &copy);
    assert_int_equal(copy.kind, ERROR_NONE);
    assert_int_equal(c->place.cancels, 0);
}

static void test_a_copy_that_is_cancelled_is_given_up(void **state)
{
    struct context *c = *state;
    struct answer_record going, waiting;

    c->e->limits.stall = 60000;
    warm_up(c);
    c->place.put = FAKE_PUT_STALLS;
    add(c, SHARE_COPY, "/workspace/a", &going);
    add(c, SHARE_COPY, "/workspace/b", &waiting);
    turns(c, 3);
    executor_cancel_share(c->e, &waiting);
    executor_cancel_share(c->e, &waiting);
    assert_int_equal(waiting.count, 0);
    until(c, &waiting.count);
    assert_non_null(strstr(waiting.message, "copying /src to /workspace/b was cancelled"));
    assert_int_equal(going.count, 0);
    executor_cancel_share(c->e, &going);
    assert_int_equal(going.count, 0);
    until(c, &going.count);
    assert_int_equal(going.kind, ERROR_LOST);
    assert_non_null(strstr(going.message, "copying /src to /workspace/a was cancelled"));
    assert_int_equal(c->place.puts, 1);
    assert_int_equal(c->place.cancels, 1);
    assert_null(executor_share(c->e, 0));
    turns(c, 3); /* the place has answered by now */
    copy_as(c, FAKE_PUT_OK, &going);
    executor_cancel_share(c->e, &going); /* too late */
    turns(c, 3);
    assert_int_equal(going.count, 1);
    assert_int_equal(going.kind, ERROR_NONE);
    assert_non_null(executor_share(c->e, 0));
}

static void test_the_dest_of_a_cancelled_copy_is_free(void **state)
{
    struct context *c = *state;
    struct answer_record first, second;

    warm_up(c);
    c->place.put = FAKE_PUT_STALLS;
    add(c, SHARE_COPY, "/workspace/a", &first);
    turns(c, 3);
    executor_cancel_share(c->e, &first);
    c->e->limits.stall = 60000;
    add(c, SHARE_COPY, "/workspace/a", &second); /* before the place has undone the first */
    until(c, &first.count);
    turns(c, 3);
    assert_int_equal(second.count, 0);
    assert_int_equal(c->place.puts, 2);
    executor_cancel_share(c->e, &second);
    until(c, &second.count);
    assert_non_null(strstr(second.message, "was cancelled"));
}

static void test_a_cancel_that_comes_too_late_for_the_place(void **state)
{
    struct context *c = *state;
    struct answer_record copy;

    warm_up(c);
    c->place.put = FAKE_PUT_SLOW; /* it does not hear of a cancel, and ends well */
    add(c, SHARE_COPY, "/workspace/a", &copy);
    turns(c, 3);
    executor_cancel_share(c->e, &copy);
    c->e->limits.undo = 60000;
    until(c, &copy.count);
    assert_int_equal(copy.kind, ERROR_NONE);
    assert_int_equal(c->place.cancels, 1);
    assert_non_null(executor_share(c->e, 0));
}

static void test_a_run_goes_on_while_a_copy_stalls(void **state)
{
    struct context *c = *state;
    struct answer_record copy;
    struct record r = {0};

    warm_up(c);
    c->place.on_run = does_nothing;
    (void)run(c, &r);
    turns(c, 3);
    copy_as(c, FAKE_PUT_STALLS, &copy);
    assert_int_equal(copy.kind, ERROR_TIMEOUT);
    assert_int_equal(r.done, 0);
    fake_done(c->place.newest, "r-2", "\"status\":\"ok\",\"execution_count\":2");
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
}

static void test_a_place_that_answers_nothing_fails_what_waits(void **state)
{
    struct context *c = *state;
    struct answer_record first, second, third;
    struct record r = {0};

    warm_up(c);
    c->place.put = FAKE_PUT_NEVER;
    add(c, SHARE_COPY, "/workspace/a", &first);
    add(c, SHARE_COPY, "/workspace/b", &second);
    until(c, &first.count);
    assert_int_equal(second.count, 0);
    until(c, &second.count);
    assert_int_equal(c->place.puts, 1);
    assert_int_equal(second.kind, ERROR_TIMEOUT);
    assert_non_null(strstr(second.message, "a copy to /workspace/a stalled"));
    assert_non_null(strstr(second.message, "reset_session"));
    add(c, SHARE_COPY, "/workspace/c", &third); /* at once */
    turns(c, 5);
    assert_int_equal(third.kind, ERROR_TIMEOUT);
    assert_null(executor_share(c->e, 0));
    warm_up(c); /* runs go on */
    c->place.on_run = does_crash;
    (void)run(c, &r);
    until(c, &r.done);
    c->place.put = FAKE_PUT_OK;
    warm_up(c); /* a new sandbox, to which it does not matter */
    add(c, SHARE_COPY, "/workspace/a", &first);
    until(c, &first.count);
    assert_int_equal(first.kind, ERROR_NONE);
}

static void test_a_copy_that_stalls_makes_the_start_fail(void **state)
{
    struct context *c = *state;
    struct answer_record copy;
    struct record r = {0};

    add(c, SHARE_COPY, "/workspace/data", &copy);
    c->place.put = FAKE_PUT_NEVER;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_LOST);
    assert_non_null(strstr(r.note, "nothing of it moved"));
    assert_non_null(strstr(r.note, "The next run tries it again"));
    c->place.put = FAKE_PUT_OK;
    warm_up(c);
    assert_int_equal(c->place.puts, 2);
}

static void test_a_start_with_a_slow_copy_is_waited_for(void **state)
{
    struct context *c = *state;
    struct answer_record copy;
    struct record r = {0};

    c->e->limits.stall = 300;
    add(c, SHARE_COPY, "/workspace/data", &copy);
    c->place.put = FAKE_PUT_SLOW;
    c->place.on_run = does_ok;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_true(strlen(r.log) > strlen("wshello.") + 20); /* the run was told what it waits for */
}

static void test_close_while_a_copy_is_given_up(void **state)
{
    struct context *c = *state;
    struct answer_record first, second;

    warm_up(c);
    c->place.put = FAKE_PUT_NEVER;
    add(c, SHARE_COPY, "/workspace/a", &first);
    add(c, SHARE_COPY, "/workspace/b", &second);
    until(c, &first.count);
    close_executor(c);
    assert_int_equal(first.count, 1);
    assert_int_equal(second.count, 1);
    assert_int_equal(second.kind, ERROR_LOST);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, record_setup, record_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_shares_before_the_first_run),
        CASE(test_shares_on_a_live_sandbox),
        CASE(test_copy_that_fails_again_makes_the_start_fail),
        CASE(test_death_in_the_middle_of_a_copy),
        CASE(test_close_in_the_middle_of_a_copy),
        CASE(test_copies_go_one_at_a_time),
        CASE(test_a_copy_that_stalls_is_given_up),
        CASE(test_a_copy_that_moves_is_waited_for),
        CASE(test_a_copy_that_is_cancelled_is_given_up),
        CASE(test_the_dest_of_a_cancelled_copy_is_free),
        CASE(test_a_cancel_that_comes_too_late_for_the_place),
        CASE(test_a_run_goes_on_while_a_copy_stalls),
        CASE(test_a_place_that_answers_nothing_fails_what_waits),
        CASE(test_a_copy_that_stalls_makes_the_start_fail),
        CASE(test_a_start_with_a_slow_copy_is_waited_for),
        CASE(test_close_while_a_copy_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
