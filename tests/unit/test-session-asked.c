/* Sessions by request: places of their own, names, tags, what is told of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

#include "mcp/session_log.h"
#include "mcp/session_tags.h"
#include "tests/unit/fake-executor.h"
#include "tests/unit/session-trial.h"

/* --- places --- */

static void a_place_of_its_own_goes_with_the_session(void **state)
{
    struct world *w = *state;
    struct session *plain = create(w, NULL, "{}"), *small = create(w, NULL, "{\"memory_mib\": 64}");
    int gone = 0;

    assert_int_equal(fake_counts.places_opened, 2);
    assert_int_equal(session_environment(small)->memory_mib, 64);
    assert_int_equal(session_place(small)->env->memory_mib, 64);
    assert_int_equal(session_environment(plain)->memory_mib, 1024);
    assert_ptr_equal(session_place(plain), session_place(create(w, NULL, "{}")));
    finish(small, false, &gone);
    turn(w);
    assert_int_equal(gone, 1);
    assert_int_equal(fake_counts.places_closed, 1);
}

static void a_reset_keeps_the_place(void **state)
{
    struct world *w = *state;
    struct session *s = create(w, NULL, "{\"memory_mib\": 64}");
    const struct place *place = session_place(s);
    int reset = 0;

    assert_int_equal(session_reset(s, NULL, true, on_gone, &reset, NULL), 0);
    turn(w);
    assert_int_equal(reset, 1);
    assert_ptr_equal(session_place(s), place);
    assert_int_equal(fake_counts.places_closed, 0);
}

static void other_times_share_the_place(void **state)
{
    struct world *w = *state;
    struct session *a = create(w, NULL, "{\"timeout_seconds\": 3}");
    struct session *b = create(w, NULL, "{}");

    assert_ptr_equal(session_place(a), session_place(b));
    assert_true(session_environment(a)->timeout_seconds == 3);
    assert_true(session_environment(b)->timeout_seconds == 50);
}

static void a_place_that_does_not_open_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct error err = {0};

    free(w->env.backend);
    w->env.backend = strdup("broken");
    assert_null(try_create(w, NULL, "{\"memory_mib\": 64}", &err));
    assert_non_null(strstr(err.message, "this backend is broken"));
    error_clear(&err);
}

static void shares_that_are_gone_leave_no_place(void **state)
{
    struct world *w = *state;
    struct error err = {0};

    json_array_append_new(w->env.shares, json_pack("{ss ss ss}", "type", "copy", "source",
                                                   "/nonexistent/x", "dest", "/data/x"));
    assert_null(try_create(w, NULL, "{\"memory_mib\": 64}", &err));
    error_clear(&err);
    turn(w);
    assert_int_equal(fake_counts.places_opened, 1);
    assert_int_equal(fake_counts.places_closed, 1);
}

/* --- names, tags, variables --- */

static void a_name_works_as_the_id_does(void **state)
{
    struct world *w = *state;
    struct session *s = create(w, "work", "{}");
    struct error err = {0};
    bool made;

    assert_ptr_equal(sessions_find(w->sessions, "work", NULL), s);
    assert_ptr_equal(sessions_resolve(w->sessions, ERA_MODERN, "work", NULL, &made, NULL), s);
    assert_null(try_create(w, "work", "{}", &err));
    assert_non_null(strstr(err.message, session_id(s)));
    error_clear(&err);
}

static void a_name_is_free_again_and_its_end_is_told(void **state)
{
    struct world *w = *state;
    struct session *s = create(w, "work", "{}");
    char id[16];
    int gone = 0;

    snprintf(id, sizeof(id), "%s", session_id(s));
    finish(s, false, &gone);
    turn(w);
    assert_not_found(w, "work", "was ended by end_session at 20");
    assert_not_found(w, "work", id);
    s = create(w, "work", "{}");
    assert_ptr_equal(sessions_find(w->sessions, "work", NULL), s);
    assert_not_found(w, id, "was ended by end_session");
}

static void some_names_are_none(void **state)
{
    static const char *const bad[] = {"", "s-7k2m9q4d", "a b", "a/b", "é", "a\n"};
    char longer[66] = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(session_name_check(bad[i], NULL), -1);
    }
    memset(longer, 'a', 65);
    assert_int_equal(session_name_check(longer, NULL), -1);
    longer[64] = '\0';
    assert_int_equal(session_name_check(longer, NULL), 0);
    assert_int_equal(session_name_check("s", NULL), 0);
    assert_int_equal(session_name_check("A_b.c-9", NULL), 0);
}

static json_t *merge(const char *tags, const char *changes)
{
    json_t *from = json_loads(tags, 0, NULL), *over = json_loads(changes, 0, NULL), *ret = NULL;

    if (session_tags_merge(from, over, &ret, NULL) < 0) {
        assert_null(ret);
    }
    json_decref(from);
    json_decref(over);
    return ret;
}

static void tags_merge_and_null_removes(void **state)
{
    json_t *tags =
        merge("{\"a\": \"1\", \"b\": \"2\"}", "{\"a\": null, \"c\": \"3\", \"d\": null}");
    json_t *expected = json_loads("{\"b\": \"2\", \"c\": \"3\"}", 0, NULL);
    json_t *wanted = json_loads("{\"c\": \"3\"}", 0, NULL);

    (void)state;
    assert_true(json_equal(tags, expected));
    assert_true(session_tags_match(tags, NULL));
    assert_true(session_tags_match(tags, wanted));
    json_object_set_new(wanted, "b", json_string("3"));
    assert_false(session_tags_match(tags, wanted));
    assert_false(session_tags_match(NULL, wanted));
    json_decref(tags);
    json_decref(expected);
    json_decref(wanted);
}

static void tags_have_caps(void **state)
{
    json_t *many = json_object(), *tags = NULL;
    char name[16];

    (void)state;
    assert_null(merge("{}", "{\"a b\": \"1\"}"));
    assert_null(merge("{}", "{\"\": \"1\"}"));
    assert_null(merge("{}", "{\"a\": 1}"));
    assert_null(merge("{}", "{\"a\": \"x\\ny\"}"));
    for (int i = 0; i < 33; i++) {
        snprintf(name, sizeof(name), "t%d", i);
        json_object_set_new(many, name, json_string("x"));
    }
    assert_int_equal(session_tags_merge(NULL, many, &tags, NULL), -1);
    json_object_del(many, "t0");
    assert_int_equal(session_tags_merge(NULL, many, &tags, NULL), 0);
    json_decref(tags);
    json_decref(many);
}

static void variables_are_beneath_those_of_a_run(void **state)
{
    struct world *w = *state;
    struct session *s = create(w, NULL, "{\"env\": {\"A\": \"1\", \"B\": \"2\"}}");
    json_t *own = json_loads("{\"B\": \"3\"}", 0, NULL);
    json_t *all = session_run_env(s, own), *alone = session_run_env(s, NULL);

    assert_string_equal(json_string_value(json_object_get(all, "A")), "1");
    assert_string_equal(json_string_value(json_object_get(all, "B")), "3");
    assert_string_equal(json_string_value(json_object_get(alone, "B")), "2");
    assert_null(session_run_env(create(w, NULL, "{}"), NULL));
    json_decref(all);
    json_decref(alone);
    json_decref(own);
}

/* --- what is told --- */

static const char *text_of_key(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void facts_follow_the_session(void **state)
{
    static const struct run_events events = {.on_done = on_run_done};
    struct world *w = *state;
    struct session *s = create(w, "work", "{\"env\": {\"KEY\": \"value\"}}");
    struct run_request request = {.language = "python", .code = "idle late\n", .code_size = 9};
    struct outcome outcome;
    enum cause cause;
    json_t *facts = session_facts(s, 10);
    char *text;

    assert_string_equal(text_of_key(facts, "state"), "new");
    assert_string_equal(text_of_key(facts, "name"), "work");
    assert_true(json_is_null(json_object_get(facts, "last_run")));
    assert_int_equal(strlen(text_of_key(facts, "created_at")), 20);
    text = json_dumps(facts, 0);
    assert_non_null(strstr(text, "\"KEY\""));
    assert_null(strstr(text, "value")); /* it may be a secret */
    free(text);
    json_decref(facts);

    executor_run(session_executor(s), &request, &events, &cause, NULL);
    facts = session_facts(s, 0);
    assert_string_equal(text_of_key(facts, "state"), "running");
    json_decref(facts);
    turn(w);
    outcome_init(&outcome);
    outcome.cause = CAUSE_ERROR;
    outcome.duration_ms = 12;
    session_note_run(s, &outcome);
    outcome_deinit(&outcome);
    facts = session_facts(s, 10);
    assert_string_equal(text_of_key(facts, "state"), "idle");
    assert_string_equal(text_of_key(facts, "log_tail"), "late");
    assert_int_equal(json_integer_value(json_object_get(facts, "runs")), 1);
    assert_string_equal(text_of_key(json_object_get(facts, "last_run"), "cause"), "error");
    json_decref(facts);
}

static void lists_have_the_newest_first_and_the_ended_last(void **state)
{
    struct world *w = *state;
    json_t *wanted = json_loads("{\"k\": \"v\"}", 0, NULL), *list;
    int gone = 0;

    create(w, "one", "{\"tags\": {\"k\": \"v\"}}");
    create(w, "two", "{}");
    create(w, "three", "{\"tags\": {\"k\": \"v\", \"l\": \"w\"}}");
    finish(sessions_find(w->sessions, "one", NULL), true, &gone);
    turn(w);
    list = sessions_list(w->sessions, NULL, false);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(text_of_key(json_array_get(list, 0), "name"), "three");
    json_decref(list);
    list = sessions_list(w->sessions, wanted, true);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(text_of_key(json_array_get(list, 1), "name"), "one");
    assert_string_equal(text_of_key(json_array_get(list, 1), "state"), "ended");
    assert_non_null(strstr(text_of_key(json_array_get(list, 1), "why"), "end_session"));
    json_decref(list);
    json_decref(wanted);
}

static void assert_tail(const struct session_log *log, size_t lines, const char *expected)
{
    json_t *tail = session_log_tail(log, lines, 1000);

    assert_string_equal(json_string_value(tail), expected);
    json_decref(tail);
}

static void the_log_keeps_the_last(void **state)
{
    struct session_log log = {0};
    char line[32];
    json_t *tail;

    (void)state;
    assert_tail(&log, 5, "");
    session_log_append(&log, "a\nb\nc", 5);
    assert_tail(&log, 0, "");
    assert_tail(&log, 1, "c");
    assert_tail(&log, 2, "b\nc");
    assert_tail(&log, 9, "a\nb\nc");
    session_log_append(&log, "\n", 1);
    assert_tail(&log, 1, "c\n");
    for (int i = 0; i < 20000; i++) {
        session_log_append(&log, line, (size_t)snprintf(line, sizeof(line), "line %d\n", i));
    }
    assert_int_equal(log.count, SESSION_LOG_CAP);
    assert_tail(&log, 2, "line 19998\nline 19999\n");
    tail = session_log_tail(&log, 1000000, 100000);
    assert_true(json_string_length(tail) <= SESSION_LOG_CAP);
    json_decref(tail);
    session_log_deinit(&log);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_place_of_its_own_goes_with_the_session),
        TEST(a_reset_keeps_the_place),
        TEST(other_times_share_the_place),
        TEST(a_place_that_does_not_open_leaves_nothing),
        TEST(shares_that_are_gone_leave_no_place),
        TEST(a_name_works_as_the_id_does),
        TEST(a_name_is_free_again_and_its_end_is_told),
        cmocka_unit_test(some_names_are_none),
        cmocka_unit_test(tags_merge_and_null_removes),
        cmocka_unit_test(tags_have_caps),
        TEST(variables_are_beneath_those_of_a_run),
        TEST(facts_follow_the_session),
        TEST(lists_have_the_newest_first_and_the_ended_last),
        cmocka_unit_test(the_log_keeps_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
