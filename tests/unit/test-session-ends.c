/* How sessions that were asked for end, and when. */
#include <stdio.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

#include "tests/unit/fake-executor.h"
#include "tests/unit/session-trial.h"

/* --- ends --- */

static void a_graceful_end_waits_for_its_users(void **state)
{
    struct world *w = *state;
    struct session *s = create(w, NULL, "{}");
    char id[16];
    int gone = 0;

    snprintf(id, sizeof(id), "%s", session_id(s));
    session_begin(s);
    finish(s, false, &gone);
    turn(w);
    assert_int_equal(gone, 0);
    assert_not_found(w, id, "is ending");
    assert_ptr_equal(sessions_look_up(w->sessions, id, NULL), s);
    session_end(s);
    turn(w);
    assert_int_equal(gone, 1);
    assert_not_found(w, id, "was ended by end_session");
}

static void a_graceful_end_has_a_limit(void **state)
{
    struct world *w = *state;
    struct session *s = create(w, NULL, "{}");
    char id[16];
    int gone = 0;

    snprintf(id, sizeof(id), "%s", session_id(s));
    w->sessions->finish_ms = 20;
    session_begin(s);
    finish(s, false, &gone);
    wait_for_ends(w, 1);
    turn(w);
    assert_int_equal(gone, 1);
    assert_null(session_executor(s)); /* still in use, and it says so */
    assert_null(session_place(s));
    session_end(s);
    assert_not_found(w, id, "not finished in time");
}

static void a_kill_cancels_what_goes_on(void **state)
{
    static const struct run_events events = {.on_done = on_run_done};
    struct world *w = *state;
    struct session *s = create(w, NULL, "{}");
    struct run_request request = {.language = "python", .code = "hang", .code_size = 4};
    enum cause causes[2] = {CAUSE_OK, CAUSE_OK};
    int graceful = 0, killed = 0;
    char id[16];

    snprintf(id, sizeof(id), "%s", session_id(s));
    session_begin(s);
    executor_run(session_executor(s), &request, &events, &causes[0], NULL);
    executor_run(session_ephemeral_executor(s, NULL), &request, &events, &causes[1], NULL);
    turn(w);
    finish(s, false, &graceful);
    finish(s, true, &killed);
    turn(w);
    assert_int_equal(causes[0], CAUSE_CANCELLED);
    assert_int_equal(causes[1], CAUSE_CANCELLED);
    assert_int_equal(graceful, 1);
    assert_int_equal(killed, 1);
    session_end(s);
    assert_not_found(w, id, "was cancelled");
}

static void who_forgot_is_not_told(void **state)
{
    struct world *w = *state;
    struct session *s = create(w, NULL, "{}");
    int gone = 0;

    session_begin(s);
    finish(s, false, &gone);
    session_finish_forget(s, &gone);
    session_end(s);
    turn(w);
    assert_int_equal(gone, 0);
    assert_int_equal(fake_counts.executors_closed, 1);
}

static void the_servers_end_answers_who_waits(void **state)
{
    struct world *w = *state;
    struct session *s = create(w, NULL, "{\"memory_mib\": 64}");
    static int gone;

    gone = 0;
    session_begin(s);
    finish(s, false, &gone);
    sessions_close(w->sessions, on_closed, w);
    turn(w);
    assert_int_equal(gone, 1);
    session_end(s);
    turn(w);
    assert_int_equal(w->closed, 1);
    /* What tear_down looks at. */
    w->closed = 0;
    w->sessions = sessions_new(&w->loop, &w->config, NULL);
}

static void a_new_end_counts_from_now(void **state)
{
    struct world *w = *state;
    struct session *s = create(w, NULL, "{}");
    struct session_changes changes = {.timeout_seconds = 0.02};
    char id[16];

    snprintf(id, sizeof(id), "%s", session_id(s));
    assert_int_equal(session_change(s, &changes, NULL), 0);
    wait_for_ends(w, 1);
    assert_not_found(w, id, "it had lived for");
}

static void a_longer_life_than_policy_is_refused(void **state)
{
    struct world *w = *state;
    struct session *s = create(w, "one", "{\"max_lifetime_seconds\": 100}");
    struct session_changes changes = {.timeout_seconds = 86400};
    struct error err = {0};

    assert_int_equal(session_change(s, &changes, NULL), 0); /* the environment's own is 24 h */
    changes.timeout_seconds = 86500;
    changes.name = "two";
    assert_int_equal(session_change(s, &changes, &err), -1);
    assert_non_null(strstr(err.message, "policy.max_lifetime_seconds"));
    assert_non_null(sessions_find(w->sessions, "one", NULL)); /* all or nothing */
    w->config.policy.max_lifetime_seconds = 90000;
    assert_int_equal(session_change(s, &changes, NULL), 0);
    assert_ptr_equal(sessions_find(w->sessions, "two", NULL), s);
    error_clear(&err);
}

static void a_session_may_keep_its_name_and_not_take_anothers(void **state)
{
    struct world *w = *state;
    struct session *s = create(w, "one", "{}");
    struct session_changes changes = {.name = "one"};

    assert_int_equal(session_change(s, &changes, NULL), 0);
    create(w, "two", "{}");
    changes.name = "two";
    assert_int_equal(session_change(s, &changes, NULL), -1);
    changes.name = "s-two";
    assert_int_equal(session_change(s, &changes, NULL), -1);
}

static void the_owner_may_allow_fewer_sessions(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    int gone = 0;

    w->config.policy.max_sessions = 2;
    create(w, "one", "{}");
    create(w, "two", "{}");
    assert_null(try_create(w, NULL, "{}", &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_non_null(strstr(err.message, "there are 2 sessions already"));
    finish(sessions_find(w->sessions, "one", NULL), true, &gone);
    create(w, NULL, "{}");
    turn(w);
    error_clear(&err);
}

static void a_default_that_was_ended_is_not_missed(void **state)
{
    struct world *w = *state;
    struct session *s;
    int gone = 0;
    bool made;

    s = sessions_resolve(w->sessions, ERA_LEGACY, NULL, NULL, &made, NULL);
    finish(s, true, &gone);
    turn(w);
    s = sessions_resolve(w->sessions, ERA_LEGACY, NULL, NULL, &made, NULL);
    assert_null(session_take_notice(s)); /* who asked for it knows */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_graceful_end_waits_for_its_users),
        TEST(a_graceful_end_has_a_limit),
        TEST(a_kill_cancels_what_goes_on),
        TEST(who_forgot_is_not_told),
        TEST(the_servers_end_answers_who_waits),
        TEST(a_new_end_counts_from_now),
        TEST(a_longer_life_than_policy_is_refused),
        TEST(a_session_may_keep_its_name_and_not_take_anothers),
        TEST(the_owner_may_allow_fewer_sessions),
        TEST(a_default_that_was_ended_is_not_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
