/* Output that the far side keeps: what a run is told of it, and what is not believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "executor-record.h"

enum { HEAD = 100 };

static void print(struct fake_machine *m, enum stream stream, const char *text)
{
    struct link *link = fake_link(m);

    link->events.on_output(link->data, stream, text, strlen(text));
}

static void hold(struct fake_machine *m, enum stream stream, uint64_t bytes, uint64_t lines)
{
    fake_link(m)->events.on_held(fake_link(m)->data, stream, bytes, lines);
}

static void keep(struct fake_machine *m, enum stream stream, uint64_t bytes)
{
    fake_link(m)->events.on_kept(fake_link(m)->data, stream, bytes);
}

static void done(struct fake_machine *m, const char *id)
{
    fake_done(m, id, "\"status\":\"ok\"");
}

static void does_all(struct fake_machine *m, const char *id)
{
    struct link *link = fake_link(m);

    print(m, STREAM_STDOUT, "head");
    hold(m, STREAM_STDOUT, 20000, 10);
    link->events.on_sample(link->data, STREAM_STDERR, "newest", 6);
    print(m, STREAM_STDOUT, "tail");
    keep(m, STREAM_STDOUT, 20008);
    done(m, id);
}

static void go(struct context *c, struct record *r,
               void (*on_run)(struct fake_machine *m, const char *id))
{
    c->place.keeps = true;
    c->place.on_run = on_run;
    (void)run(c, r);
    until(c, &r->done);
}

static void test_it_is_told_in_order(void **state)
{
    struct context *c = *state;
    struct record r = {.head = HEAD};

    go(c, &r, does_all);
    assert_string_equal(r.log, "wshead[20000:10]!(newest)tail.");
    assert_string_equal(r.path, "/workspace/.cellblock/r-1.stdout");
    assert_int_equal(r.full[0].total, 20008);
    assert_int_equal(r.full[0].kept, 20008);
    assert_int_equal(r.full[1].total, 0);
    assert_int_equal(c->place.puts, 0);
    assert_non_null(c->place.plan.path);
    assert_int_equal(c->place.plan.head, HEAD);
    assert_int_equal(c->place.plan.tail, HEAD);
}

/* Of a run that wants everything, what is said to be held or shown is no word at all: a secret is
 * only found in what is whole. */
static void test_one_that_wants_everything(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    go(c, &r, does_all);
    assert_string_equal(r.log, "wsheadtail.");
    assert_int_equal(r.full[0].total, 8);
    assert_string_equal(r.path, ""); /* more than there was is not kept */
    assert_int_equal(c->place.plan.head, 0);
}

static void keeps_more(struct fake_machine *m, const char *id)
{
    hold(m, STREAM_STDOUT, 20000, 0);
    keep(m, STREAM_STDOUT, 20001);
    done(m, id);
}

static void keeps_past_the_cap(struct fake_machine *m, const char *id)
{
    hold(m, STREAM_STDOUT, (uint64_t)RUN_SPOOL_CAP * 2, 0);
    keep(m, STREAM_STDOUT, (uint64_t)RUN_SPOOL_CAP + 1);
    done(m, id);
}

static void keeps_what_is_short(struct fake_machine *m, const char *id)
{
    hold(m, STREAM_STDOUT, RUN_SPOOL_AFTER, 0);
    keep(m, STREAM_STDOUT, RUN_SPOOL_AFTER);
    done(m, id);
}

static void keeps_of_the_other(struct fake_machine *m, const char *id)
{
    hold(m, STREAM_STDERR, 20000, 0);
    keep(m, STREAM_STDOUT, 20000);
    done(m, id);
}

static void test_what_cannot_be_kept(void **state)
{
    void (*const lies[])(struct fake_machine * m, const char *id) = {
        keeps_more, keeps_past_the_cap, keeps_what_is_short, keeps_of_the_other};
    struct context *c = *state;

    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct record r = {.head = HEAD};

        go(c, &r, lies[i]);
        assert_int_equal(r.cause, CAUSE_OK);
        assert_string_equal(r.path, "");
        assert_int_equal(r.full[0].kept, 0);
    }
}

static void keeps_twice(struct fake_machine *m, const char *id)
{
    hold(m, STREAM_STDOUT, 20000, 0);
    keep(m, STREAM_STDOUT, 15000);
    keep(m, STREAM_STDOUT, 20000);
    keep(m, STREAM_STDOUT, 1);
    done(m, id);
}

static void test_only_the_first_word_counts(void **state)
{
    struct context *c = *state;
    struct record r = {.head = HEAD};

    go(c, &r, keeps_twice);
    assert_int_equal(r.full[0].kept, 15000);
    assert_int_equal(r.full[0].total, 20000);
}

static void dies_with_its_files(struct fake_machine *m, const char *id)
{
    (void)id;
    hold(m, STREAM_STDOUT, 20000, 0);
    keep(m, STREAM_STDOUT, 20000);
    fake_exit(m, (struct machine_exit){.how = EXIT_SIGNAL, .signal = 9, .kept = false});
}

static void dies_alone(struct fake_machine *m, const char *id)
{
    (void)id;
    hold(m, STREAM_STDOUT, 20000, 0);
    keep(m, STREAM_STDOUT, 20000);
    fake_exit(m, (struct machine_exit){.how = EXIT_SIGNAL, .signal = 9, .kept = true});
}

static void test_ends(void **state)
{
    struct context *c = *state;
    struct record r = {.head = HEAD}, kept = {.head = HEAD};

    go(c, &r, dies_with_its_files);
    assert_int_equal(r.cause, CAUSE_KILLED);
    assert_string_equal(r.path, "");
    go(c, &kept, dies_alone);
    assert_int_equal(kept.cause, CAUSE_KILLED);
    assert_int_equal(kept.full[0].kept, 20000);
}

/* A far side that cannot: all is as it was, the file is kept here and brought in. */
static void test_one_that_does_not_keep(void **state)
{
    struct context *c = *state;
    struct record r = {.head = HEAD};

    fake_place_without_spools(&c->place);
    c->place.on_run = does_flood;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(c->place.puts, 1);
    assert_int_equal(r.full[0].kept, 20000);
    assert_null(c->place.plan.path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, record_setup, record_teardown)
        TEST(test_it_is_told_in_order),
        TEST(test_one_that_wants_everything),
        TEST(test_what_cannot_be_kept),
        TEST(test_only_the_first_word_counts),
        TEST(test_ends),
        TEST(test_one_that_does_not_keep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
