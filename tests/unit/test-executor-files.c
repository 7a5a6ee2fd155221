/* The executor over a fake place: operations on a session's files. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "executor-record.h"

enum {
    SOON_MS = 40,
    BEFORE_THE_COPY_MS = 400, /* FAKE_PUT_SLOW takes longer */
};

struct filed {
    struct executor *close; /* when this is answered */
    int count;
    bool inside; /* executor_file has not returned */
    enum error_kind kind;
    char message[512];
    char bytes[64];
};

static void on_answer(void *data, const struct file_reply *reply, const struct error *err)
{
    struct filed *a = data;

    assert_false(a->inside);
    assert_true(!reply == !!err);
    a->count++;
    a->kind = err ? err->kind : ERROR_NONE;
    (void)snprintf(a->message, sizeof(a->message), "%s", err ? err->message : "");
    if (reply) {
        assert_true(reply->size < sizeof(a->bytes));
        memcpy(a->bytes, reply->bytes, reply->size);
        a->bytes[reply->size] = '\0';
    }
    if (a->close) {
        executor_close(a->close, NULL, NULL);
    }
}

static void ask_for(struct context *c, const struct file_request *request, struct filed *a)
{
    *a = (struct filed){.inside = true};
    executor_file(c->e, request, on_answer, a);
    a->inside = false;
    assert_int_equal(a->count, 0);
}

static void ask(struct context *c, const char *path, struct filed *a)
{
    struct file_request request = {.op = FILE_STAT, .path = path};

    ask_for(c, &request, a);
}

static void test_the_first_one_starts_the_sandbox(void **state)
{
    struct context *c = *state;
    struct filed a;
    char path[] = "a.txt";
    char bytes[] = "content";
    struct file_request request = {
        .op = FILE_WRITE, .path = path, .bytes = bytes, .size = sizeof(bytes), .mode = -1};

    assert_false(executor_started(c->e));
    ask_for(c, &request, &a);
    memset(path, 'x', sizeof(path) - 1); /* it keeps nothing of the request */
    memset(bytes, 'x', sizeof(bytes));
    until(c, &a.count);
    assert_int_equal(a.kind, ERROR_NONE);
    assert_string_equal(a.bytes, "a.txt");
    assert_int_equal(c->place.starts, 1);
    assert_true(executor_started(c->e));
    assert_false(executor_busy(c->e));
    ask(c, "b", &a);
    until(c, &a.count);
    assert_string_equal(a.bytes, "b");
    assert_int_equal(c->place.starts, 1);
}

static void on_added(void *data, const struct error *err)
{
    assert_null(err);
    ++*(int *)data;
}

static void add_share(struct context *c, int *count)
{
    int fd = open("/", O_PATH | O_CLOEXEC);
    struct share *share = share_new(SHARE_COPY, fd, "/src", "/workspace/data", true);

    assert_non_null(share);
    executor_add_share(c->e, share, NULL, on_added, count);
}

static void test_it_waits_until_the_shares_are_in(void **state)
{
    struct context *c = *state;
    struct filed a;
    int added = 0;

    c->place.put = FAKE_PUT_SLOW;
    c->e->limits.file = BEFORE_THE_COPY_MS; /* which begins when the machine is given it */
    add_share(c, &added);
    ask(c, "a", &a);
    while (c->place.puts == 0) {
        turns(c, 1);
    }
    turns(c, 5);
    assert_int_equal(c->place.files, 0);
    until(c, &a.count);
    assert_int_equal(a.kind, ERROR_NONE);
}

static void test_it_does_not_wait_for_a_copy_to_the_live_sandbox(void **state)
{
    struct context *c = *state;
    struct filed a;
    int added = 0;

    warm_up(c);
    c->place.put = FAKE_PUT_SLOW;
    add_share(c, &added);
    while (c->place.puts == 0) {
        turns(c, 1);
    }
    ask(c, "a", &a);
    until(c, &a.count);
    assert_int_equal(added, 0);
    until(c, &added);
}

static void test_it_does_not_wait_behind_a_run(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct filed a;

    warm_up(c);
    c->place.on_run = does_nothing;
    (void)run(c, &r);
    ask(c, "a", &a);
    until(c, &a.count);
    assert_int_equal(a.kind, ERROR_NONE);
    assert_int_equal(r.done, 0);
    close_executor(c);
    assert_int_equal(r.done, 1);
}

static void test_what_the_place_lacks(void **state)
{
    struct context *c = *state;
    struct filed a;

    c->place.base.lacks = CAP_FILES;
    ask(c, "a", &a);
    until(c, &a.count);
    assert_int_equal(a.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(a.message, "local"));
    assert_int_equal(c->place.starts, 0);
}

static void test_what_is_wrong_with_the_request(void **state)
{
    struct context *c = *state;
    struct filed a;

    ask(c, "", &a);
    until(c, &a.count);
    assert_int_equal(a.kind, ERROR_INVALID);
    assert_int_equal(c->place.starts, 0);
}

static void test_only_so_many_at_once(void **state)
{
    struct context *c = *state;
    struct filed many[FILES_CAP], more;

    warm_up(c);
    c->place.file = FAKE_FILE_NEVER;
    for (int i = 0; i < FILES_CAP; i++) {
        ask(c, "a", &many[i]);
    }
    ask(c, "a", &more);
    until(c, &more.count);
    assert_int_equal(more.kind, ERROR_LIMIT);
    assert_int_equal(c->place.files, FILES_CAP);
    close_executor(c);
    for (int i = 0; i < FILES_CAP; i++) {
        assert_int_equal(many[i].count, 1);
        assert_int_equal(many[i].kind, ERROR_LOST);
    }
}

/* The machine still has it: it counts, and its late answer goes nowhere. */
static void test_one_that_is_not_answered_is_given_up(void **state)
{
    struct context *c = *state;
    struct filed never, next;

    warm_up(c);
    c->e->limits.file = SOON_MS;
    c->place.file = FAKE_FILE_NEVER;
    ask(c, "never", &never);
    until(c, &never.count);
    assert_int_equal(never.kind, ERROR_TIMEOUT);
    assert_int_equal(c->e->file_count, 1);
    c->place.file = FAKE_FILE_OK;
    c->e->limits.file = 2000;
    ask(c, "next", &next);
    until(c, &next.count);
    assert_int_equal(next.kind, ERROR_NONE);
    close_executor(c);
    assert_int_equal(never.count, 1);
}

static void test_the_machine_ends_meanwhile(void **state)
{
    struct context *c = *state;
    struct filed a, next;

    warm_up(c);
    c->place.file = FAKE_FILE_NEVER;
    ask(c, "a", &a);
    fake_exit(c->place.newest, (struct machine_exit){.how = EXIT_SIGNAL, .signal = 9});
    until(c, &a.count);
    assert_int_equal(a.kind, ERROR_LOST);
    c->place.file = FAKE_FILE_OK;
    ask(c, "b", &next);
    until(c, &next.count);
    assert_int_equal(next.kind, ERROR_NONE);
    assert_int_equal(c->place.starts, 2);
    assert_int_equal(a.count, 1);
}

/* It was not given to the one that ended, so it is done in the next. */
static void test_it_waits_for_the_next_machine(void **state)
{
    struct context *c = *state;
    struct filed a;

    warm_up(c);
    fake_end_stream(c->place.newest);
    while (c->e->state != EXECUTOR_ENDING) {
        turns(c, 1);
    }
    ask(c, "a", &a);
    until(c, &a.count);
    assert_int_equal(a.kind, ERROR_NONE);
    assert_int_equal(c->place.starts, 2);
}

static void test_the_start_fails(void **state)
{
    struct context *c = *state;
    struct filed a;

    c->place.start = FAKE_START_FAILS;
    ask(c, "a", &a);
    until(c, &a.count);
    assert_int_equal(a.kind, ERROR_REFUSED);
    assert_non_null(strstr(a.message, "no bars here"));
    c->place.start = FAKE_START_NEVER;
    ask(c, "a", &a);
    until(c, &a.count);
    assert_int_equal(a.kind, ERROR_TIMEOUT);
}

static void test_close_answers_what_waits(void **state)
{
    struct context *c = *state;
    struct filed waits, late;

    c->place.start = FAKE_START_NEVER;
    ask(c, "a", &waits);
    turns(c, 3);
    executor_close(c->e, NULL, NULL);
    ask(c, "b", &late);
    until(c, &late.count);
    assert_int_equal(waits.count, 1);
    assert_int_equal(waits.kind, ERROR_LOST);
    assert_int_equal(late.kind, ERROR_LOST);
    c->e = executor_new(&c->place.base);
}

static void test_close_in_an_answer(void **state)
{
    struct context *c = *state;
    struct filed a, b, invalid;

    warm_up(c);
    ask(c, "", &invalid);
    ask(c, "a", &a);
    ask(c, "b", &b);
    invalid.close = a.close = c->e;
    until(c, &b.count);
    assert_int_equal(a.count, 1);
    assert_int_equal(b.count, 1);
    c->e = executor_new(&c->place.base);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, record_setup, record_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_the_first_one_starts_the_sandbox),
        CASE(test_it_waits_until_the_shares_are_in),
        CASE(test_it_does_not_wait_for_a_copy_to_the_live_sandbox),
        CASE(test_it_does_not_wait_behind_a_run),
        CASE(test_what_the_place_lacks),
        CASE(test_what_is_wrong_with_the_request),
        CASE(test_only_so_many_at_once),
        CASE(test_one_that_is_not_answered_is_given_up),
        CASE(test_the_machine_ends_meanwhile),
        CASE(test_it_waits_for_the_next_machine),
        CASE(test_the_start_fails),
        CASE(test_close_answers_what_waits),
        CASE(test_close_in_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
