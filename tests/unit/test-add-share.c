/* add_share and reset_session over fake executors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mcp/policy_ask.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/tool-trial.h"

/* --- add_share --- */

static json_t *share_arguments(const struct server *s, const char *type, const char *dest)
{
    return json_pack("{ss ss ss}", "type", type, "source", s->file, "dest", dest);
}

static void adds_copies_and_mounts(void **state)
{
    struct server *s = *state;
    json_t *result =
        answer_of(s, ERA_LEGACY, &add_share_tool, share_arguments(s, "copy", "/data//a.csv/"));

    assert_says(part(result, "note"), s->file);
    assert_says(part(result, "note"), "/data/a.csv.");
    assert_says(part(result, "note"), "never written");
    assert_null(json_object_get(json_object_get(result, "_meta"), "cellblock/outcome"));
    json_decref(result);
    result = answer_of(s, ERA_LEGACY, &add_share_tool, share_arguments(s, "mount", "/data/b.csv"));
    assert_says(part(result, "note"), "mounted read-only at /data/b.csv");
    json_decref(result);
    result = run_legacy(s, json_pack("{ss}", "code", "request"));
    assert_says(part(result, "stdout"), "keep /data/a.csv /data/b.csv");
    json_decref(result);
}

static void a_long_copy_tells_how_it_goes(void **state)
{
    struct server *s = *state;
    struct call call;

    call_init(&call, s, ERA_LEGACY, share_arguments(s, "copy", "/never"));
    add_share_tool.start(&call);
    turn(&call);
    assert_null(call.result); /* it goes on, and what the executor says of it is passed on */
    assert_string_equal(call.progress, "copying");
    json_decref(answer_of(s, ERA_LEGACY, &reset_session_tool, json_object()));
    assert_int_equal(call.answers, 1);
    assert_says(part(call.result, "note"), "reset or ended before the share was there");
    call_deinit(&call);
}

static void a_cancel_gives_the_copy_up(void **state)
{
    struct server *s = *state;
    struct call call;

    call_init(&call, s, ERA_LEGACY, share_arguments(s, "copy", "/never"));
    add_share_tool.start(&call);
    turn(&call);
    assert_null(call.result);
    assert_non_null(call.cancelled);
    call.cancelled(call.cancelled_data);
    assert_int_equal(call.answers, 0);
    turn(&call);
    assert_int_equal(call.answers, 1);
    assert_true(json_is_true(json_object_get(call.result, "isError")));
    call_deinit(&call);
}

static void add_share_makes_a_modern_session(void **state)
{
    struct server *s = *state;
    json_t *added =
        answer_of(s, ERA_MODERN, &add_share_tool, share_arguments(s, "copy", "/data/a.csv"));
    json_t *result =
        answer_of(s, ERA_MODERN, &run_code_tool,
                  json_pack("{ss ss}", "code", "request", "session", session_of(added)));

    assert_says(json_string_value(
                    json_object_get(json_array_get(json_object_get(added, "content"), 1), "text")),
                session_of(added));
    assert_says(part(result, "stdout"), "/data/a.csv");
    json_decref(added);
    json_decref(result);
}

static void add_share_says_what_is_wrong(void **state)
{
    struct server *s = *state;

    assert_call_fails(s, ERA_LEGACY, &add_share_tool,
                      json_pack("{ss ss ss}", "type", "cloud", "bucket", "b", "dest", "/data"),
                      "\"cloud\" is not supported");
    assert_call_fails(s, ERA_LEGACY, &add_share_tool,
                      json_pack("{ss ss}", "type", "copy", "dest", "/data"), "source is missing");
    assert_call_fails(
        s, ERA_LEGACY, &add_share_tool,
        json_pack("{ss ss ss}", "type", "copy", "source", "/etc/passwd", "dest", "/d"),
        "not under a folder that may be shared");
    assert_call_fails(s, ERA_LEGACY, &add_share_tool, share_arguments(s, "copy", "/etc/x"), "dest");
    assert_call_fails(s, ERA_LEGACY, &add_share_tool, share_arguments(s, "copy", "/refused"),
                      "this dest is refused");
    assert_call_fails(s, ERA_LEGACY, &add_share_tool,
                      json_pack("{ss ss ss sb}", "type", "mount", "source", s->file, "dest",
                                "/data/w", "read_only", 0),
                      "not supported by backend");
    assert_call_fails(
        s, ERA_LEGACY, &add_share_tool,
        json_pack("{ss so ss}", "type", "copy", "source", json_stringn("/a\0b", 4), "dest", "/d"),
        "source holds a NUL");
}

static void a_refused_path_makes_no_session(void **state)
{
    assert_call_fails(
        *state, ERA_MODERN, &add_share_tool,
        json_pack("{ss ss ss}", "type", "copy", "source", "/etc/passwd", "dest", "/d"),
        "not under a folder that may be shared");
    assert_int_equal(fake_counts.executors, 0);
}

static void takes_the_clients_roots(void **state)
{
    struct server *s = *state;
    char *none[] = {NULL};
    json_t *result;

    s->config.share_roots = none;
    assert_call_fails(s, ERA_LEGACY, &add_share_tool, share_arguments(s, "copy", "/data/a"),
                      "--share-root DIR");
    s->client_roots = json_pack("[s]", s->root);
    result = answer_of(s, ERA_LEGACY, &add_share_tool, share_arguments(s, "copy", "/data/a"));
    assert_true(json_is_false(json_object_get(result, "isError")));
    json_decref(result);
    result = answer_of(s, ERA_LEGACY, &reset_session_tool, json_object());
    assert_true(json_is_false(json_object_get(result, "isError")));
    json_decref(result);
}

static void shares_are_refused_where_the_backend_has_none(void **state)
{
    struct server *s = *state;

    free(s->environments[0].backend);
    s->environments[0].backend = strdup("plain");
    assert_call_fails(s, ERA_LEGACY, &add_share_tool, share_arguments(s, "copy", "/data/a"),
                      "not supported by backend \"plain\"");
    assert_call_fails(s, ERA_LEGACY, &add_share_tool, share_arguments(s, "mount", "/data/a"),
                      "not supported by backend \"plain\"");
}

/* --- consent --- */

static struct policy_ask *allow_asking(struct server *s, char *nothing[1])
{
    struct policy_ask *asking = calloc(1, sizeof(*asking));

    nothing[0] = NULL;
    s->config.share_roots = nothing;
    asking->shares = json_pack("[s]", s->root);
    s->config.policy.ask = asking;
    return asking;
}

static void begin_asking(struct server *s, struct call *call, const char *dest)
{
    call_init(call, s, ERA_LEGACY, share_arguments(s, "mount", dest));
    call->can_ask = true;
    add_share_tool.start(call);
    turn(call);
}

static void a_person_may_allow_a_share(void **state)
{
    struct server *s = *state;
    struct policy_ask *asking;
    struct call call;
    json_t *result;
    char *nothing[1], moved[90];

    asking = allow_asking(s, nothing);
    begin_asking(s, &call, "/data/a");
    assert_int_equal(call.answers, 0);
    assert_says(call.question.message, s->file);
    assert_says(call.question.message, "\"/data/a\" in the default session");
    assert_says(call.question.message, "to be read and not changed");
    assert_says(call.question.what, s->file);
    assert_int_equal(fake_counts.executors, 0); /* no session is made for a question */
    /* What was opened is what is used, also by a reset, wherever its name leads by then. */
    snprintf(moved, sizeof(moved), "%s-moved", s->file);
    assert_int_equal(rename(s->file, moved), 0);
    call.question.go_on(&call, call.question.data);
    turn(&call);
    assert_says(part(call.result, "note"), "mounted read-only at /data/a");
    result = answer_of(s, ERA_LEGACY, &reset_session_tool, json_object());
    assert_true(json_is_false(json_object_get(result, "isError")));
    json_decref(result);
    unlink(moved);
    assert_call_fails(s, ERA_LEGACY, &reset_session_tool, json_object(), "was removed");
    free(call.question.message);
    free(call.question.what);
    call_deinit(&call);
    policy_ask_free(asking);
    s->config.policy.ask = NULL;
}

static void a_share_that_is_not_allowed_leaves_nothing(void **state)
{
    struct server *s = *state;
    struct policy_ask *asking;
    struct call call;
    char *nothing[1];

    asking = allow_asking(s, nothing);
    begin_asking(s, &call, "/data/a");
    question_drop(&call); /* valgrind sees the rest */
    assert_int_equal(fake_counts.executors, 0);
    call_deinit(&call);
    assert_call_fails(s, ERA_LEGACY, &add_share_tool, share_arguments(s, "copy", "/d"),
                      "not shared");
    /* What could not be done anyhow is not asked. */
    call_init(&call, s, ERA_LEGACY,
              json_pack("{ss ss ss ss}", "type", "copy", "source", s->file, "dest", "/d", "session",
                        "s-unknown1"));
    call.can_ask = true;
    add_share_tool.start(&call);
    turn(&call);
    assert_null(call.question.message);
    assert_says(json_string_value(call.result), "no session");
    call_deinit(&call);
    policy_ask_free(asking);
    s->config.policy.ask = NULL;
}

/* --- reset_session --- */

static void a_reset_cancels_the_run_and_keeps_the_id(void **state)
{
    struct server *s = *state;
    struct call call;
    json_t *result;

    call_init(&call, s, ERA_LEGACY, json_pack("{ss}", "code", "hang"));
    run_code_tool.start(&call);
    turn(&call);
    assert_null(call.result);
    result = answer_of(s, ERA_LEGACY, &reset_session_tool, json_object());
    assert_int_equal(call.answers, 1);
    assert_string_equal(outcome(call.result, "cause"), "cancelled");
    assert_string_equal(session_of(result), session_of(call.result));
    assert_says(part(result, "note"), "as new");
    json_decref(result);
    call_deinit(&call);
    assert_int_equal(fake_counts.executors_closed, 1);
}

static void a_reset_needs_a_session_in_the_modern_era(void **state)
{
    assert_call_fails(*state, ERA_MODERN, &reset_session_tool, json_object(), "session is missing");
    assert_call_fails(*state, ERA_MODERN, &reset_session_tool,
                      json_pack("{ss}", "session", "s-unknown1"), "there is no session");
}

static void a_reset_without_its_source_resets_nothing(void **state)
{
    struct server *s = *state;
    json_t *result =
        answer_of(s, ERA_LEGACY, &add_share_tool, share_arguments(s, "copy", "/data/a"));

    json_decref(result);
    unlink(s->file);
    assert_call_fails(s, ERA_LEGACY, &reset_session_tool, json_object(), "nothing was reset");
    assert_int_equal(fake_counts.executors, 1);
    result = answer_of(s, ERA_LEGACY, &reset_session_tool, json_pack("{sb}", "keep_shares", 0));
    assert_true(json_is_false(json_object_get(result, "isError")));
    json_decref(result);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(adds_copies_and_mounts),
        TEST(a_long_copy_tells_how_it_goes),
        TEST(a_cancel_gives_the_copy_up),
        TEST(add_share_makes_a_modern_session),
        TEST(add_share_says_what_is_wrong),
        TEST(a_refused_path_makes_no_session),
        TEST(takes_the_clients_roots),
        TEST(shares_are_refused_where_the_backend_has_none),
        TEST(a_person_may_allow_a_share),
        TEST(a_share_that_is_not_allowed_leaves_nothing),
        TEST(a_reset_cancels_the_run_and_keeps_the_id),
        TEST(a_reset_needs_a_session_in_the_modern_era),
        TEST(a_reset_without_its_source_resets_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
