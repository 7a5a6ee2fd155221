/* run_code over fake executors. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/tool-trial.h"

/* --- run_code --- */

static void answers_with_what_the_run_gave(void **state)
{
    json_t *result = run_legacy(*state, json_pack("{ss}", "code",
                                                  "out hello\nerr oh\nresult 42\n"
                                                  "note mind"));

    assert_string_equal(part(result, "stdout"), "hello\n");
    assert_string_equal(part(result, "stderr"), "oh\n");
    assert_string_equal(part(result, "result"), "42");
    assert_string_equal(part(result, "note"), "mind");
    assert_string_equal(outcome(result, "cause"), "ok");
    assert_string_equal(outcome(result, "environment"), "default");
    assert_string_equal(outcome(result, "backend"), "local");
    assert_string_equal(outcome(result, "session"), session_of(result));
    assert_int_equal(strncmp(outcome(result, "run"), "r-", 2), 0);
    assert_true(json_is_false(json_object_get(result, "isError")));
    json_decref(result);
}

static void passes_the_request_on(void **state)
{
    json_t *result =
        run_legacy(*state, json_pack("{ss ss ss s{ss} sf}", "code", "request", "language", "shell",
                                     "stdin", "in", "env", "A", "b", "timeout_seconds", 2.5));

    assert_string_equal(part(result, "stdout"), "shell in {\"A\":\"b\"} 2.5 keep\n");
    json_decref(result);
    result = run_legacy(*state, json_pack("{ss}", "code", "request"));
    assert_string_equal(part(result, "stdout"), "python - - 50 keep\n");
    json_decref(result);
}

static void an_exception_is_an_error(void **state)
{
    json_t *result = run_legacy(*state, json_pack("{ss}", "code", "fail no luck"));

    assert_true(json_is_true(json_object_get(result, "isError")));
    assert_string_equal(outcome(result, "cause"), "error");
    assert_string_equal(part(result, "error"), "Exception: no luck");
    json_decref(result);
}

static void legacy_stays_in_one_session_without_a_word(void **state)
{
    json_t *a = run_legacy(*state, json_pack("{ss}", "code", ""));
    json_t *b = run_legacy(*state, json_pack("{ss}", "code", ""));

    assert_string_equal(session_of(a), session_of(b));
    assert_null(part(a, "note"));
    assert_int_equal(fake_counts.executors, 1);
    json_decref(a);
    json_decref(b);
}

static void modern_names_the_session_that_was_made(void **state)
{
    json_t *a = answer_of(*state, ERA_MODERN, &run_code_tool, json_pack("{ss}", "code", "out 1"));
    json_t *b = answer_of(*state, ERA_MODERN, &run_code_tool,
                          json_pack("{ss ss}", "code", "out 1", "session", session_of(a)));

    assert_says(part(a, "note"), session_of(a));
    assert_says(part(a, "note"), "pass \"session\"");
    assert_null(part(b, "note"));
    assert_string_equal(session_of(a), session_of(b));
    assert_int_equal(fake_counts.executors, 1);
    json_decref(a);
    json_decref(b);
}

static void an_ephemeral_run_leaves_nothing(void **state)
{
    struct server *s = *state;

    for (int i = 0; i < 300; i++) {
        json_t *result = answer_of(s, ERA_MODERN, &run_code_tool,
                                   json_pack("{ss sb}", "code", "request", "ephemeral", 1));

        assert_string_equal(part(result, "stdout"), "python - - 50 drop\n");
        assert_null(part(result, "note"));
        json_decref(result);
    }
    assert_int_equal(fake_counts.executors, 301);
    assert_int_equal(fake_counts.executors_closed, 300);
}

static void an_ephemeral_environment_runs_afresh(void **state)
{
    struct server *s = *state;
    json_t *result;

    s->config.default_environment = s->pointers[1];
    result =
        answer_of(s, ERA_MODERN, &add_share_tool,
                  json_pack("{ss ss ss}", "type", "copy", "source", s->file, "dest", "/data/a"));
    assert_true(json_is_false(json_object_get(result, "isError")));
    json_decref(result);
    result = answer_of(s, ERA_MODERN, &run_code_tool, json_pack("{ss}", "code", "request"));
    assert_string_equal(part(result, "stdout"), "python - - 50 drop /data/a\n");
    assert_string_equal(outcome(result, "environment"), "fresh");
    json_decref(result);
    assert_int_equal(fake_counts.executors_closed, 1);
}

static void refuses_a_limit_past_the_most(void **state)
{
    json_t *result =
        run_legacy(*state, json_pack("{ss si}", "code", "out 1", "timeout_seconds", 3601));

    assert_string_equal(outcome(result, "cause"), "refused");
    assert_says(part(result, "note"), "3600 at most");
    assert_true(json_is_true(json_object_get(result, "isError")));
    assert_int_equal(fake_counts.runs, 0);
    json_decref(result);
}

static void an_unknown_language_is_unsupported(void **state)
{
    json_t *result = run_legacy(*state, json_pack("{ss ss}", "code", "1", "language", "r"));

    assert_string_equal(outcome(result, "cause"), "unsupported");
    assert_says(part(result, "note"), "language \"r\"");
    json_decref(result);
}

/* A run that was asked for and understood, and for which there is no session. */
static void assert_outcome_without_session(struct server *s, json_t *arguments, const char *cause,
                                           const char *environment, const char *says)
{
    json_t *result = answer_of(s, ERA_MODERN, &run_code_tool, arguments);
    const json_t *fields = json_object_get(json_object_get(result, "_meta"), "cellblock/outcome");

    assert_string_equal(outcome(result, "cause"), cause);
    assert_string_equal(outcome(result, "environment"), environment);
    assert_true(json_is_false(json_object_get(fields, "success")));
    assert_int_equal(strncmp(outcome(result, "run"), "r-", 2), 0);
    assert_null(outcome(result, "session"));
    assert_null(session_of(result));
    assert_true(json_is_true(json_object_get(result, "isError")));
    assert_says(part(result, "note"), says);
    json_decref(result);
}

static void a_place_that_does_not_open_has_an_outcome(void **state)
{
    struct server *s = *state;
    json_t *result, *structured;

    free(s->environments[1].backend);
    s->environments[1].backend = strdup("broken");
    assert_outcome_without_session(s, json_pack("{ss ss}", "code", "1", "environment", "fresh"),
                                   "unsupported", "fresh", "this backend is broken");
    s->config.structured = true;
    result = run_legacy(s, json_pack("{ss ss}", "code", "1", "environment", "fresh"));
    structured = json_object_get(result, "structuredContent");
    assert_string_equal(json_string_value(json_object_get(structured, "cause")), "unsupported");
    assert_string_equal(json_string_value(json_object_get(structured, "backend")), "broken");
    assert_string_equal(json_string_value(json_object_get(structured, "stdout")), "");
    assert_null(json_object_get(structured, "session"));
    json_decref(result);
    assert_int_equal(fake_counts.executors, 0);
}

static void one_session_too_many_is_refused(void **state)
{
    for (int i = 0; i < 256; i++) {
        json_decref(answer_of(*state, ERA_MODERN, &run_code_tool, json_pack("{ss}", "code", "")));
    }
    assert_outcome_without_session(*state, json_pack("{ss}", "code", "1"), "refused", "default",
                                   "256 sessions already");
}

static void a_share_of_the_environment_that_is_gone_is_refused(void **state)
{
    struct server *s = *state;

    json_array_append_new(
        s->environments[0].shares,
        json_pack("{ss ss ss}", "type", "copy", "source", "/not/there", "dest", "/data/b.csv"));
    assert_outcome_without_session(s, json_pack("{ss}", "code", "1"), "refused", "default",
                                   "/not/there does not exist");
}

static void a_session_that_has_ended_is_lost(void **state)
{
    struct server *s = *state;
    json_t *first;

    s->environments[0].idle_timeout_seconds = 0.01;
    first = answer_of(s, ERA_MODERN, &run_code_tool, json_pack("{ss}", "code", ""));
    usleep(20 * 1000);
    uv_run(&s->loop, UV_RUN_NOWAIT);
    assert_outcome_without_session(s,
                                   json_pack("{ss ss}", "code", "1", "session", session_of(first)),
                                   "lost", "default", "ended after 0.01 s without use");
    json_decref(first);
}

static void checks_what_a_schema_cannot(void **state)
{
    static const char *const names[] = {"", "1A", "A B", "A=B", "\xc3\xa4"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_call_fails(*state, ERA_MODERN, &run_code_tool,
                          json_pack("{ss s{ss}}", "code", "1", "env", names[i], "x"),
                          "no name of a variable");
    }
    assert_call_fails(*state, ERA_MODERN, &run_code_tool,
                      json_pack("{ss s{so}}", "code", "1", "env", "A", json_stringn("a\0b", 3)),
                      "env.A holds a NUL");
    assert_call_fails(*state, ERA_MODERN, &run_code_tool,
                      json_pack("{ss so}", "code", "1", "session", json_stringn("s\0b", 3)),
                      "session holds a NUL");
    assert_call_fails(*state, ERA_MODERN, &run_code_tool,
                      json_pack("{ss ss}", "code", "1", "session", "s-unknown1"),
                      "there is no session \"s-unknown1\"");
    assert_int_equal(fake_counts.executors, 0); /* no session was made on the way */
}

static void keeps_nul_characters_in_code(void **state)
{
    json_t *result = run_legacy(*state, json_pack("{so}", "code", json_stringn("out a\0b", 7)));

    assert_string_equal(part(result, "stdout"), "a\n"); /* the fake reads a C string */
    json_decref(result);
}

static void streams_what_is_printed(void **state)
{
    struct call call;

    call_init(&call, *state, ERA_LEGACY,
              json_pack("{ss}", "code", "waiting starting\nout one\nout two\nhang"));
    call.wants_progress = true;
    run_code_tool.start(&call);
    turn(&call);
    assert_null(call.result);
    assert_string_equal(call.progress, "one\ntwo\n");
    call.cancelled(call.cancelled_data);
    turn(&call);
    assert_int_equal(call.answers, 1);
    assert_string_equal(outcome(call.result, "cause"), "cancelled");
    assert_string_equal(part(call.result, "stdout"), "one\ntwo\n");
    call_deinit(&call);
}

static void the_end_of_the_server_ends_runs(void **state)
{
    struct server *s = *state;
    struct call stateful, fresh;

    call_init(&stateful, s, ERA_LEGACY, json_pack("{ss}", "code", "hang"));
    call_init(&fresh, s, ERA_LEGACY, json_pack("{ss sb}", "code", "hang", "ephemeral", 1));
    run_code_tool.start(&stateful);
    run_code_tool.start(&fresh);
    turn(&fresh);
    assert_null(stateful.result);
    tear_down(state);
    assert_string_equal(outcome(stateful.result, "cause"), "cancelled");
    assert_string_equal(outcome(fresh.result, "cause"), "cancelled");
    call_deinit(&stateful);
    call_deinit(&fresh);
    set_up(state);
}

static void what_is_printed_between_runs_goes_to_the_log(void **state)
{
    struct server *s = *state;
    json_t *result = run_legacy(s, json_pack("{ss}", "code", "out in\nidle from a thread"));

    assert_string_equal(part(result, "stdout"), "in\n");
    assert_string_equal(s->logged, "from a thread");
    json_decref(result);
}

static void structured_only_when_asked(void **state)
{
    struct server *s = *state;
    json_t *result = run_legacy(s, json_pack("{ss}", "code", "out 1"));

    assert_null(json_object_get(result, "structuredContent"));
    json_decref(result);
    s->config.structured = true;
    result = run_legacy(s, json_pack("{ss}", "code", "out 1"));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(result, "structuredContent"), "stdout")),
        "1\n");
    json_decref(result);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_with_what_the_run_gave),
        TEST(passes_the_request_on),
        TEST(an_exception_is_an_error),
        TEST(legacy_stays_in_one_session_without_a_word),
        TEST(modern_names_the_session_that_was_made),
        TEST(an_ephemeral_run_leaves_nothing),
        TEST(an_ephemeral_environment_runs_afresh),
        TEST(refuses_a_limit_past_the_most),
        TEST(an_unknown_language_is_unsupported),
        TEST(a_place_that_does_not_open_has_an_outcome),
        TEST(one_session_too_many_is_refused),
        TEST(a_share_of_the_environment_that_is_gone_is_refused),
        TEST(a_session_that_has_ended_is_lost),
        TEST(checks_what_a_schema_cannot),
        TEST(keeps_nul_characters_in_code),
        TEST(streams_what_is_printed),
        TEST(the_end_of_the_server_ends_runs),
        TEST(what_is_printed_between_runs_goes_to_the_log),
        TEST(structured_only_when_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
