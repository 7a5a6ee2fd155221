/* Machines that outlive their worker, output that is brought into them, and runs that are refused.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "executor-record.h"

static void ends_kept(struct context *c, struct record *r, struct machine_exit how)
{
    how.kept = true;
    warm_up(c);
    c->place.on_run = does_nothing;
    (void)run(c, r);
    turns(c, 3);
    fake_exit(c->place.newest, how);
    until(c, &r->done);
}

static void test_a_crash_leaves_the_files(void **state)
{
    struct context *c = *state;
    struct record r = {0}, next = {0};
    struct fake_machine *machine;

    ends_kept(c, &r, (struct machine_exit){.how = EXIT_SIGNAL, .signal = SIGSEGV});
    assert_int_equal(r.cause, CAUSE_KILLED);
    assert_int_equal(r.signal, SIGSEGV);
    assert_true(r.state_lost);
    assert_non_null(strstr(r.note, "files are kept"));
    assert_true(executor_started(c->e));
    machine = c->place.newest;
    c->place.on_run = does_ok;
    (void)run(c, &next);
    until(c, &next.done);
    assert_string_equal(next.log, "wshello.");
    assert_int_equal(next.cause, CAUSE_OK);
    assert_string_equal(next.note, "");
    assert_ptr_equal(c->place.newest, machine);
    assert_int_equal(c->place.starts, 2);
    assert_int_equal(c->place.live, 1);
}

/* With a word of what the run had made, one name of which leads out of the workspace. */
static unsigned named_after(struct context *c, bool kept)
{
    struct record r = {0};
    json_t *said = json_pack("{s:[[siib], [siib]], si}", "files", "../a", 1, 1, 0, "out/b", 1, 1, 0,
                             "more", 0);

    assert_non_null(said);
    warm_up(c);
    c->place.on_run = does_nothing;
    (void)run(c, &r);
    turns(c, 3);
    fake_exit(c->place.newest,
              (struct machine_exit){
                  .how = EXIT_SIGNAL, .signal = SIGKILL, .kept = kept, .changed = said});
    until(c, &r.done);
    json_decref(said);
    c->place.on_run = does_ok;
    return r.changed;
}

static void test_what_a_killed_run_had_made(void **state)
{
    assert_int_equal(named_after(*state, true), 1);
    assert_int_equal(named_after(*state, false), 0); /* it is gone */
}

static void test_an_end_of_which_nobody_knows_how(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    ends_kept(c, &r, (struct machine_exit){.how = EXIT_SIGNAL});
    assert_int_equal(r.cause, CAUSE_KILLED);
    assert_int_equal(r.signal, 0);
    assert_non_null(strstr(r.note, "does not tell how"));
}

/* A memory snapshot was taken: nothing is lost, and a run that had been sent too early goes again.
 */
static void test_a_worker_that_slept(void **state)
{
    struct context *c = *state;
    struct record r = {0}, next = {0};

    warm_up(c);
    c->place.on_run = does_nothing;
    (void)run(c, &r);
    turns(c, 3);
    c->place.on_run = does_ok;
    fake_exit(c->place.newest, (struct machine_exit){.how = EXIT_LOST,
                                                     .kept = true,
                                                     .resumes = true,
                                                     .unbegun = true,
                                                     .message = "it sleeps"});
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    fake_exit(c->place.newest,
              (struct machine_exit){.how = EXIT_LOST, .kept = true, .resumes = true});
    turns(c, 3);
    (void)run(c, &next);
    until(c, &next.done);
    assert_int_equal(next.cause, CAUSE_OK);
    assert_non_null(strstr(next.note, "its variables and files are as they were"));
    assert_int_equal(c->place.live, 1);
}

static void test_shares_are_not_brought_in_twice(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    int fd = open("/", O_PATH | O_CLOEXEC);

    executor_add_share(c->e, share_new(SHARE_COPY, fd, "/src", "/data/x", true), NULL, NULL, NULL);
    ends_kept(c, &r, (struct machine_exit){.how = EXIT_CODE, .code = 1});
    warm_up(c);
    assert_int_equal(c->place.puts, 1);
}

static void test_a_kept_machine_that_has_gone_is_replaced(void **state)
{
    struct context *c = *state;
    struct record r = {0}, next = {0};
    int fd = open("/", O_PATH | O_CLOEXEC);

    executor_add_share(c->e, share_new(SHARE_COPY, fd, "/src", "/data/x", true), NULL, NULL, NULL);
    ends_kept(c, &r, (struct machine_exit){.how = EXIT_CODE, .code = 1});
    c->place.on_run = does_ok;
    c->place.start = FAKE_START_NEVER;
    (void)run(c, &next);
    turns(c, 3);
    c->place.start = FAKE_START_OK;
    fake_exit(c->place.newest, (struct machine_exit){.how = EXIT_LOST, .message = "removed"});
    until(c, &next.done);
    assert_int_equal(next.cause, CAUSE_OK);
    assert_non_null(strstr(next.note, "was gone when this run came: removed; its files are gone"));
    assert_int_equal(c->place.starts, 3);
    assert_int_equal(c->place.puts, 2);
    turns(c, 3);
    assert_int_equal(c->place.live, 1);
}

static void test_a_new_worker_that_does_not_greet_ends_the_machine(void **state)
{
    struct context *c = *state;
    struct record r = {0}, next = {0};

    ends_kept(c, &r, (struct machine_exit){.how = EXIT_CODE, .code = 1});
    c->place.no_greeting = true;
    (void)run(c, &next);
    until(c, &next.done);
    assert_int_equal(next.cause, CAUSE_LOST);
    assert_non_null(strstr(next.note, "did not greet"));
    c->place.no_greeting = false;
    warm_up(c);
}

static void test_a_death_while_idle_keeps_the_files(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    fake_exit(c->place.newest,
              (struct machine_exit){.how = EXIT_SIGNAL, .signal = SIGKILL, .kept = true});
    turns(c, 3);
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_non_null(strstr(r.note, "its files are kept"));
}

static void test_close_with_a_kept_machine(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    ends_kept(c, &r, (struct machine_exit){.how = EXIT_CODE, .code = 1});
    close_executor(c);
    assert_int_equal(c->place.live, 0);
}

/* ---- output that is brought in ---- */

static void test_long_output_is_brought_in_at_the_end(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    fake_place_without_spools(&c->place);
    c->place.on_run = does_flood;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_string_equal(r.path, "/workspace/.cellblock/r-1.stdout");
    assert_string_equal(c->place.put_dest, r.path);
    assert_int_equal(c->place.put_size, 20000);
    assert_int_equal(c->place.puts, 1);
    assert_int_equal(r.full[0].total, 20000);
    assert_int_equal(r.full[0].kept, 20000);
}

static void test_short_output_is_not_brought_in(void **state)
{
    struct context *c = *state;

    fake_place_without_spools(&c->place);
    warm_up(c);
    assert_int_equal(c->place.puts, 0);
}

static void test_output_that_does_not_get_there_is_counted(void **state)
{
    struct context *c = *state;
    struct record r = {0}, next = {0};

    fake_place_without_spools(&c->place);
    c->place.on_run = does_flood;
    c->place.put = FAKE_PUT_FAILS;
    (void)run(c, &r);
    (void)run(c, &next);
    until(c, &next.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_string_equal(r.path, "");
    assert_int_equal(r.full[0].total, 20000);
    assert_int_equal(r.full[0].kept, 0);
    assert_int_equal(c->place.puts, 2);
}

static void test_bringing_in_has_a_limit(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    fake_place_without_spools(&c->place);
    c->place.on_run = does_flood;
    c->place.put = FAKE_PUT_NEVER;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_int_equal(r.full[0].kept, 0);
}

static void test_output_of_a_run_that_crashed_is_brought_in(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    char lines[20001];

    memset(lines, 'x', 20000);
    lines[20000] = '\0';
    fake_place_without_spools(&c->place);
    warm_up(c);
    c->place.on_run = does_nothing;
    (void)run(c, &r);
    turns(c, 3);
    fake_print(c->place.newest, STREAM_STDERR, lines);
    fake_exit(c->place.newest,
              (struct machine_exit){.how = EXIT_SIGNAL, .signal = SIGKILL, .kept = true});
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_KILLED);
    assert_string_equal(c->place.put_dest, "/workspace/.cellblock/r-2.stderr");
    assert_int_equal(r.full[1].kept, 20000);
}

static void test_death_and_close_while_output_is_brought_in(void **state)
{
    struct context *c = *state;
    struct record r = {0}, queued = {0};

    fake_place_without_spools(&c->place);
    warm_up(c);
    c->place.on_run = does_flood;
    c->place.put = FAKE_PUT_NEVER;
    (void)run(c, &r);
    (void)run(c, &queued);
    turns(c, 40);
    assert_int_equal(c->place.puts, 1);
    assert_int_equal(r.done, 0);
    run_cancel(c->e->current); /* it has its outcome: nothing comes of this */
    fake_exit(c->place.newest, (struct machine_exit){.how = EXIT_LOST, .message = "gone"});
    turns(c, 3);
    close_executor(c);
    assert_int_equal(r.done, 1);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_int_equal(r.full[0].kept, 0);
    assert_int_equal(queued.cause, CAUSE_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, record_setup, record_teardown)
        TEST(test_a_crash_leaves_the_files),
        TEST(test_a_worker_that_slept),
        TEST(test_what_a_killed_run_had_made),
        TEST(test_an_end_of_which_nobody_knows_how),
        TEST(test_shares_are_not_brought_in_twice),
        TEST(test_a_kept_machine_that_has_gone_is_replaced),
        TEST(test_a_new_worker_that_does_not_greet_ends_the_machine),
        TEST(test_a_death_while_idle_keeps_the_files),
        TEST(test_close_with_a_kept_machine),
        TEST(test_long_output_is_brought_in_at_the_end),
        TEST(test_short_output_is_not_brought_in),
        TEST(test_output_that_does_not_get_there_is_counted),
        TEST(test_bringing_in_has_a_limit),
        TEST(test_output_of_a_run_that_crashed_is_brought_in),
        TEST(test_death_and_close_while_output_is_brought_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
