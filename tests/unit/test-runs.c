/* Runs in the background, and the tools for them, over fake executors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mcp/schema.h"
#include "mcp/tools/run_page.h"
#include "mcp/tools/runs/runs.h"
#include "mcp/toolsets.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/tool-trial.h"

static int set_up_runs(void **state)
{
    set_up(state);
    ((struct server *)*state)->config.toolsets = TOOLSET_CORE | TOOLSET_RUNS;
    return 0;
}

static json_t *call_tool(struct server *s, const struct tool *tool, json_t *arguments)
{
    return answer_of(s, ERA_LEGACY, tool, arguments);
}

static const char *run_field(const json_t *result, const char *field)
{
    const json_t *meta = json_object_get(result, "_meta");

    return json_string_value(json_object_get(json_object_get(meta, "cellblock/run"), field));
}

/* The id of a run that was started in the background; to be freed. */
static char *begin(struct server *s, const char *code)
{
    json_t *result = run_legacy(s, json_pack("{ss sb}", "code", code, "background", 1));
    char *id;

    assert_true(json_is_false(json_object_get(result, "isError")));
    assert_null(outcome(result, "cause"));
    assert_non_null(session_of(result));
    assert_non_null(run_field(result, "run"));
    assert_says(part(result, "note"), "poll_run");
    assert_says(part(result, "note"), run_field(result, "cursor"));
    id = strdup(run_field(result, "run"));
    assert_says(part(result, "note"), id);
    json_decref(result);
    return id;
}

static json_t *poll(struct server *s, const char *id, const char *cursor)
{
    return call_tool(s, &poll_run_tool,
                     json_pack("{ss ss* si}", "run", id, "cursor", cursor, "wait_seconds", 0));
}

static void turn_server(struct server *s)
{
    struct call call = {.server = s};

    turn(&call);
}

/* --- a run and its result --- */

static void the_result_is_there_as_often_as_it_is_asked_for(void **state)
{
    char *id = begin(*state, "out one\nerr two\nout three\nresult 42\nnote mind");

    turn_server(*state);
    for (int i = 0; i < 2; i++) {
        json_t *result = poll(*state, id, NULL);

        assert_string_equal(part(result, "stdout"), "one\n");
        assert_string_equal(part(result, "stderr"), "two\n");
        assert_string_equal(part(result, "result"), "42");
        assert_string_equal(part(result, "note"), "mind");
        assert_string_equal(outcome(result, "cause"), "ok");
        assert_string_equal(outcome(result, "run"), id);
        assert_string_equal(run_field(result, "state"), "done");
        assert_int_equal(json_array_size(json_object_get(result, "content")), 6);
        json_decref(result);
    }
    free(id);
}

static void a_failure_is_an_error_of_the_poll(void **state)
{
    char *id = begin(*state, "fail no luck");
    json_t *result;

    turn_server(*state);
    result = poll(*state, id, NULL);
    assert_true(json_is_true(json_object_get(result, "isError")));
    assert_string_equal(outcome(result, "cause"), "error");
    assert_string_equal(part(result, "error"), "Exception: no luck");
    json_decref(result);
    free(id);
}

static void a_cursor_goes_on_where_the_last_answer_ended(void **state)
{
    char *id = begin(*state, "out one\nhang");
    json_t *first, *second;

    turn_server(*state);
    first = poll(*state, id, NULL);
    assert_string_equal(part(first, "stdout"), "one\n");
    assert_string_equal(run_field(first, "state"), "waiting"); /* the fake tells no start */
    assert_null(outcome(first, "cause"));
    second = poll(*state, id, run_field(first, "cursor"));
    assert_null(part(second, "stdout"));
    assert_string_equal(run_field(second, "cursor"), run_field(first, "cursor"));
    json_decref(first);
    json_decref(second);
    free(id);
}

static void a_cursor_that_is_none_is_refused(void **state)
{
    static const char *const cursors[] = {"x", "c", "c0", "c0-00000000", "cffffffffffffffffff",
                                          "-1"};
    char *id = begin(*state, "out one"), *other = begin(*state, "out two");
    json_t *result = poll(*state, other, NULL);
    char *foreign;

    foreign = strdup(run_field(result, "cursor"));
    json_decref(result);
    for (size_t i = 0; i <= sizeof(cursors) / sizeof(cursors[0]); i++) {
        result = poll(*state, id, i == 0 ? foreign : cursors[i - 1]);
        assert_says(json_string_value(result), "is not one of run");
        json_decref(result);
    }
    free(foreign);
    free(id);
    free(other);
}

static void a_run_that_is_not_there_is_an_error(void **state)
{
    const struct tool *const tools[] = {&poll_run_tool, &cancel_run_tool};

    for (size_t i = 0; i < 2; i++) {
        json_t *result = call_tool(*state, tools[i], json_pack("{ss}", "run", "r-aaaaaaaa"));

        assert_says(json_string_value(result), "there is no run \"r-aaaaaaaa\"");
        json_decref(result);
    }
}

/* Pages joined are what was printed, though each is short; characters stay whole. */
static void long_output_comes_in_pages(void **state)
{
    enum { COUNT = 60 * 1000 };
    const size_t whole = (size_t)COUNT * 3;
    char *code = calloc(1, whole + 5), *got = calloc(1, whole + 2), *id;
    char *cursor = NULL;
    size_t size = 0;
    int pages = 0;
    bool more = true;

    snprintf(code, 5, "out ");
    for (size_t i = 4; i < whole + 4; i += 3) {
        snprintf(code + i, 4, "\xe2\x82\xac");
    }
    id = begin(*state, code);
    turn_server(*state);
    for (; more; pages++) {
        json_t *result = poll(*state, id, cursor);
        const json_t *meta = json_object_get(result, "_meta");
        const char *found = part(result, "stdout"), *text = found ? found : "";

        assert_true(size + strlen(text) <= whole + 1);
        snprintf(got + size, whole + 2 - size, "%s", text);
        size += strlen(text);
        assert_true(strlen(text) <= RUN_PAGE_TEXT);
        more = json_is_true(json_object_get(json_object_get(meta, "cellblock/run"), "more"));
        assert_int_equal(outcome(result, "cause") == NULL, more);
        free(cursor);
        cursor = strdup(run_field(result, "cursor"));
        json_decref(result);
    }
    assert_true(pages >= 5);
    assert_int_equal(size, whole + 1);
    assert_memory_equal(got, code + 4, whole);
    free(cursor);
    free(code);
    free(got);
    free(id);
}

/* --- waiting --- */

static void a_poll_waits_for_output_and_for_the_end(void **state)
{
    struct server *s = *state;
    char *id = begin(s, "hang");
    struct call first, second, cancel;

    turn_server(s);
    call_init(&first, s, ERA_LEGACY, json_pack("{ss}", "run", id));
    call_init(&second, s, ERA_MODERN, json_pack("{ss}", "run", id));
    call_init(&cancel, s, ERA_LEGACY, json_pack("{ss}", "run", id));
    poll_run_tool.start(&first);
    poll_run_tool.start(&second);
    turn(&first);
    assert_null(first.result);
    first.cancelled(first.cancelled_data); /* the client takes one of them back */
    assert_int_equal(first.answers, 1);
    turn(&second);
    assert_null(second.result);
    cancel_run_tool.start(&cancel);
    assert_null(cancel.result);
    turn(&cancel);
    assert_string_equal(outcome(second.result, "cause"), "cancelled");
    assert_says(part(cancel.result, "note"), "cancelled: true");
    call_deinit(&first);
    call_deinit(&second);
    call_deinit(&cancel);
    free(id);
}

static void new_output_ends_the_wait(void **state)
{
    struct server *s = *state;
    char *id = begin(s, "out one\nhang");
    struct call call;

    call_init(&call, s, ERA_LEGACY, json_pack("{ss si}", "run", id, "wait_seconds", 45));
    poll_run_tool.start(&call); /* before the fake has printed */
    for (int i = 0; i < 1000 && !call.result; i++) {
        usleep(10 * 1000);
        turn(&call);
    }
    assert_string_equal(part(call.result, "stdout"), "one\n");
    assert_null(outcome(call.result, "cause"));
    call_deinit(&call);
    free(id);
}

static void cancelling_twice_tells_how_it_had_ended(void **state)
{
    char *id = begin(*state, "hang"), *done = begin(*state, "out 1");
    json_t *result;

    for (int i = 0; i < 2; i++) {
        result = call_tool(*state, &cancel_run_tool, json_pack("{ss}", "run", id));
        assert_says(part(result, "note"), "cancelled: true");
        json_decref(result);
    }
    turn_server(*state);
    result = call_tool(*state, &cancel_run_tool, json_pack("{ss}", "run", done));
    assert_says(part(result, "note"), "cancelled: false");
    assert_says(part(result, "note"), "(ok");
    json_decref(result);
    free(id);
    free(done);
}

/* --- a call that takes too long --- */

static void a_long_call_leaves_its_run_in_the_background(void **state)
{
    struct server *s = *state;
    struct call call;
    char *id;
    json_t *result;

    s->config.max_foreground_seconds = 0.02;
    call_init(&call, s, ERA_LEGACY, json_pack("{ss}", "code", "out one\nhang"));
    run_code_tool.start(&call);
    usleep(30 * 1000);
    turn(&call);
    assert_int_equal(call.answers, 1);
    assert_string_equal(part(call.result, "stdout"), "one\n");
    assert_says(part(call.result, "note"), "goes on in the background");
    assert_null(outcome(call.result, "cause"));
    assert_true(json_is_false(json_object_get(call.result, "isError")));
    id = strdup(run_field(call.result, "run"));
    result = call_tool(s, &cancel_run_tool, json_pack("{ss}", "run", id));
    assert_says(part(result, "note"), "cancelled: true");
    json_decref(result);
    result = poll(s, id, NULL);
    assert_string_equal(part(result, "stdout"), "one\n");
    assert_string_equal(outcome(result, "cause"), "cancelled");
    json_decref(result);
    call_deinit(&call);
    free(id);
}

static void without_the_toolset_a_call_waits_as_long_as_it_takes(void **state)
{
    struct server *s = *state;
    struct call call;

    s->config.toolsets = TOOLSET_CORE;
    s->config.max_foreground_seconds = 0.01;
    call_init(&call, s, ERA_LEGACY, json_pack("{ss}", "code", "hang"));
    run_code_tool.start(&call);
    turn(&call);
    usleep(30 * 1000);
    turn(&call);
    assert_null(call.result);
    call.cancelled(call.cancelled_data);
    turn(&call);
    assert_string_equal(outcome(call.result, "cause"), "cancelled");
    call_deinit(&call);
    assert_call_fails(s, ERA_LEGACY, &run_code_tool,
                      json_pack("{ss sb}", "code", "1", "background", 1), "--toolsets runs");
}

static void a_run_that_is_about_to_end_is_waited_for(void **state)
{
    struct server *s = *state;
    struct call call;

    s->config.max_foreground_seconds = 0.02;
    call_init(&call, s, ERA_LEGACY,
              json_pack("{ss sf}", "code", "started\nhang", "timeout_seconds", 0.5));
    run_code_tool.start(&call);
    turn(&call);
    usleep(30 * 1000);
    turn(&call);
    assert_null(call.result);
    call.cancelled(call.cancelled_data);
    turn(&call);
    assert_string_equal(outcome(call.result, "cause"), "cancelled");
    call_deinit(&call);
}

/* --- sessions --- */

static void a_reset_ends_it(void **state)
{
    char *id = begin(*state, "hang");
    json_t *result;

    turn_server(*state);
    json_decref(call_tool(*state, &reset_session_tool, json_object()));
    result = poll(*state, id, NULL);
    assert_string_equal(outcome(result, "cause"), "cancelled");
    json_decref(result);
    free(id);
}

static void a_session_with_a_run_is_not_idle(void **state)
{
    struct server *s = *state;
    json_t *result;
    char *id;

    s->environments[0].idle_timeout_seconds = 0.01;
    id = begin(s, "hang");
    turn_server(s);
    usleep(30 * 1000);
    turn_server(s);
    result = poll(s, id, NULL);
    assert_null(outcome(result, "cause"));
    json_decref(result);
    free(id);
}

static void the_end_of_its_sessions_lifetime_ends_it(void **state)
{
    struct server *s = *state;
    json_t *result, *content;
    char *id;

    s->environments[0].max_lifetime_seconds = 0.05;
    id = begin(s, "hang");
    usleep(60 * 1000);
    turn_server(s);
    result = poll(s, id, NULL);
    assert_string_equal(outcome(result, "cause"), "cancelled");
    content = json_object_get(result, "content"); /* the run's end, and why */
    assert_int_equal(json_array_size(content), 2);
    assert_says(json_string_value(json_object_get(json_array_get(content, 1), "text")), "ended");
    json_decref(result);
    free(id);
}

static void an_ephemeral_one_has_its_executor_to_its_end(void **state)
{
    json_t *result = run_legacy(
        *state, json_pack("{ss sb sb}", "code", "request\nhang", "background", 1, "ephemeral", 1));
    char *id = strdup(run_field(result, "run"));

    json_decref(result);
    turn_server(*state);
    assert_int_equal(fake_counts.executors_closed, 0);
    result = call_tool(*state, &cancel_run_tool, json_pack("{ss}", "run", id));
    json_decref(result);
    assert_int_equal(fake_counts.executors_closed, 1);
    result = poll(*state, id, NULL);
    assert_string_equal(part(result, "stdout"), "python - - 50 drop\n");
    json_decref(result);
    free(id);
}

static void old_ones_are_forgotten_and_that_is_told(void **state)
{
    char *first = begin(*state, "out first"), *second, *id;
    json_t *result;

    turn_server(*state);
    second = begin(*state, "out second");
    turn_server(*state);
    for (int i = 0; i < RUN_RECORDS_SESSION - 1; i++) {
        free(begin(*state, "out x"));
        turn_server(*state);
    }
    result = poll(*state, first, NULL);
    assert_says(json_string_value(result), "was dropped for newer ones");
    json_decref(result);
    result = poll(*state, second, NULL);
    assert_string_equal(part(result, "stdout"), "second\n");
    json_decref(result);
    id = begin(*state, "hang");
    free(id);
    free(first);
    free(second);
}

static void foreground_runs_are_not_kept(void **state)
{
    json_t *result = run_legacy(*state, json_pack("{ss}", "code", "out 1"));
    const char *id = outcome(result, "run");
    json_t *answer = poll(*state, id, NULL);

    assert_says(json_string_value(answer), "there is no run");
    json_decref(answer);
    json_decref(result);
}

/* --- the other tools --- */

static size_t listed(struct server *s, json_t *filter, const char *says)
{
    json_t *result = call_tool(s, &list_runs_tool, filter);
    const char *text = json_string_value(
        json_object_get(json_array_get(json_object_get(result, "content"), 0), "text"));
    json_t *parsed = json_loads(text, 0, NULL);
    size_t count = json_array_size(json_object_get(parsed, "runs"));

    assert_non_null(parsed);
    assert_says(text, says);
    json_decref(parsed);
    json_decref(result);
    return count;
}

static void runs_are_listed(void **state)
{
    char *done = begin(*state, "\n  out \xe2\x82\xac\t\"\nout 2"), *going;

    turn_server(*state);
    going = begin(*state, "hang");
    turn_server(*state);
    assert_int_equal(listed(*state, json_object(), done), 2);
    assert_int_equal(listed(*state, json_pack("{ss}", "state", "done"), "out \xe2\x82\xac\\t\\\""),
                     1);
    assert_int_equal(listed(*state, json_pack("{ss}", "state", "waiting"), going), 1);
    assert_int_equal(listed(*state, json_pack("{ss}", "session", "s-unknown1"), "[]"), 0);
    free(begin(*state,
               "out 1234567890123456789012345678901234567890123456789012345678\xe2\x82\xac"));
    assert_int_equal(listed(*state, json_object(), "45678\"}"), 3);
    free(done);
    free(going);
}

static void what_a_backend_lacks_is_refused(void **state)
{
    char *id = begin(*state, "hang"), *done = begin(*state, "");

    turn_server(*state);
    assert_call_fails(*state, ERA_LEGACY, &signal_run_tool,
                      json_pack("{ss ss}", "run", id, "signal", "SIGUSR1"), "signal 10");
    assert_call_fails(*state, ERA_LEGACY, &write_run_tool,
                      json_pack("{ss ss}", "run", id, "text", "four"), "4 bytes");
    assert_call_fails(*state, ERA_LEGACY, &write_run_tool,
                      json_pack("{ss ss}", "run", id, "base64", "AAEC"), "3 bytes");
    assert_call_fails(*state, ERA_LEGACY, &write_run_tool,
                      json_pack("{ss ss ss}", "run", id, "base64", "AAEC", "text", "x"), "both");
    assert_call_fails(*state, ERA_LEGACY, &write_run_tool,
                      json_pack("{ss ss}", "run", id, "base64", "A*EC"), "at character 1");
    assert_call_fails(*state, ERA_LEGACY, &write_run_tool, json_pack("{ss}", "run", id),
                      "nothing to write");
    json_decref(call_tool(*state, &cancel_run_tool, json_pack("{ss}", "run", id)));
    turn_server(*state);
    assert_call_fails(*state, ERA_LEGACY, &write_run_tool,
                      json_pack("{ss sb}", "run", done, "eof", 1), "has ended (ok");
    free(id);
    free(done);
}

static void structured_answers_fit_their_schema(void **state)
{
    struct server *s = *state;
    const struct tool *tool = run_code_tool.with_runs;
    struct error err = {0};
    json_t *result, *structured;
    char *id;

    s->config.structured = true;
    result = answer_of(s, ERA_LEGACY, tool, json_pack("{ss sb}", "code", "out 1", "background", 1));
    structured = json_object_get(result, "structuredContent");
    assert_int_equal(schema_check(schema_get(tool->output_schema), structured, true, &err), 0);
    assert_string_equal(json_string_value(json_object_get(structured, "state")), "waiting");
    id = strdup(run_field(result, "run"));
    json_decref(result);
    turn_server(s);
    result = poll(s, id, NULL);
    structured = json_object_get(result, "structuredContent");
    assert_int_equal(schema_check(schema_get("results/run_code"), structured, true, &err), 0);
    assert_string_equal(json_string_value(json_object_get(structured, "stdout")), "1\n");
    json_decref(result);
    schema_unload();
    free(id);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_runs, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_result_is_there_as_often_as_it_is_asked_for),
        TEST(a_failure_is_an_error_of_the_poll),
        TEST(a_cursor_goes_on_where_the_last_answer_ended),
        TEST(a_cursor_that_is_none_is_refused),
        TEST(a_run_that_is_not_there_is_an_error),
        TEST(long_output_comes_in_pages),
        TEST(a_poll_waits_for_output_and_for_the_end),
        TEST(new_output_ends_the_wait),
        TEST(cancelling_twice_tells_how_it_had_ended),
        TEST(a_long_call_leaves_its_run_in_the_background),
        TEST(without_the_toolset_a_call_waits_as_long_as_it_takes),
        TEST(a_run_that_is_about_to_end_is_waited_for),
        TEST(a_reset_ends_it),
        TEST(a_session_with_a_run_is_not_idle),
        TEST(the_end_of_its_sessions_lifetime_ends_it),
        TEST(an_ephemeral_one_has_its_executor_to_its_end),
        TEST(old_ones_are_forgotten_and_that_is_told),
        TEST(foreground_runs_are_not_kept),
        TEST(runs_are_listed),
        TEST(what_a_backend_lacks_is_refused),
        TEST(structured_answers_fit_their_schema),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
