#include "cmocka_all.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fake-executor.h"
#include "mcp/session.h"

/* Sessions over fake executors, a folder that may be shared with a file in it. */
struct world {
    uv_loop_t loop;
    uv_async_t alive;                   /* as the client's stream keeps a real loop alive */
    struct environment environments[3]; /* default, other, fresh (ephemeral) */
    struct environment *pointers[3];
    struct config config;
    struct sessions *sessions;
    char root[64];
    char file[80];
    char *roots[2];
    int closed;
};

struct answer {
    int count;
    char message[512];
};

static void on_answer(void *data, const struct error *err)
{
    struct answer *answer = data;

    answer->count++;
    snprintf(answer->message, sizeof(answer->message), "%s", err ? err->message : "ok");
}

static void on_closed(void *data)
{
    ((struct world *)data)->closed++;
}

static void write_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

static int set_up(void **state)
{
    static const char *const names[] = {"default", "other", "fresh"};
    struct world *w = calloc(1, sizeof(*w));

    memset(&fake_counts, 0, sizeof(fake_counts));
    uv_loop_init(&w->loop);
    uv_async_init(&w->loop, &w->alive, NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(environment_init(&w->environments[i], names[i], "local"), 0);
        w->pointers[i] = &w->environments[i];
    }
    w->environments[2].mode = MODE_EPHEMERAL;
    w->config.environments = w->pointers;
    w->config.environment_count = 3;
    w->config.default_environment = w->pointers[0];
    snprintf(w->root, sizeof(w->root), "/tmp/cellblock-session-XXXXXX");
    assert_non_null(mkdtemp(w->root));
    snprintf(w->file, sizeof(w->file), "%s/data.csv", w->root);
    write_file(w->file);
    w->roots[0] = w->root;
    w->config.share_roots = w->roots;
    w->sessions = sessions_new(&w->loop, &w->config, NULL);
    assert_non_null(w->sessions);
    *state = w;
    return 0;
}

/* Nothing may be left, however the test has left its sessions. */
static int tear_down(void **state)
{
    struct world *w = *state;

    uv_close((uv_handle_t *)&w->alive, NULL);
    sessions_close(w->sessions, on_closed, w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(w->closed, 1);
    assert_int_equal(fake_counts.executors, fake_counts.executors_closed);
    assert_int_equal(fake_counts.places_opened, fake_counts.places_closed);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    for (int i = 0; i < 3; i++) {
        environment_deinit(&w->environments[i]);
    }
    unlink(w->file);
    rmdir(w->root);
    free(w);
    return 0;
}

static struct session *resolve(struct world *w, enum era era, const char *name, const char *env,
                               bool made)
{
    struct error err = {0};
    bool really_made = !made;
    struct session *s = sessions_resolve(w->sessions, era, name, env, &really_made, &err);

    if (!s) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(really_made, made);
    return s;
}

static void assert_unresolved(struct world *w, const char *name, const char *env, const char *says)
{
    struct error err = {0};
    bool made;

    assert_null(sessions_resolve(w->sessions, ERA_MODERN, name, env, &made, &err));
    if (!strstr(err.message, says)) {
        fail_msg("\"%s\" lacks \"%s\"", err.message, says);
    }
    error_clear(&err);
}

static struct share *open_share(const struct world *w, enum share_type type, const char *dest)
{
    return share_new(type, open(w->file, O_PATH | O_CLOEXEC), w->file, dest, true);
}

static void run_for(struct world *w, uint64_t milliseconds)
{
    uint64_t end;

    uv_update_time(&w->loop);
    end = uv_now(&w->loop) + milliseconds;
    do {
        uv_run(&w->loop, UV_RUN_NOWAIT);
        usleep(1000);
    } while (uv_now(&w->loop) < end);
}

/* --- which session --- */

static void legacy_has_one_default_session(void **state)
{
    struct world *w = *state;
    struct session *s = resolve(w, ERA_LEGACY, NULL, NULL, false);

    assert_ptr_equal(resolve(w, ERA_LEGACY, NULL, NULL, false), s);
    assert_ptr_equal(resolve(w, ERA_LEGACY, session_id(s), NULL, false), s);
    assert_ptr_equal(resolve(w, ERA_LEGACY, NULL, "default", false), s);
    assert_ptr_not_equal(resolve(w, ERA_LEGACY, NULL, "other", false), s);
    assert_int_equal(fake_counts.executors, 2);
}

static void modern_makes_a_session_each_time(void **state)
{
    struct world *w = *state;
    struct session *a = resolve(w, ERA_MODERN, NULL, NULL, true);
    struct session *b = resolve(w, ERA_MODERN, NULL, "other", true);

    assert_ptr_not_equal(a, b);
    assert_int_equal(strlen(session_id(a)), 10);
    assert_int_equal(strncmp(session_id(a), "s-", 2), 0);
    assert_int_equal(strspn(session_id(a) + 2, "abcdefghijklmnopqrstuvwxyz234567"), 8);
    assert_string_equal(session_environment(b)->name, "other");
    assert_ptr_equal(resolve(w, ERA_MODERN, session_id(a), NULL, false), a);
    assert_ptr_equal(resolve(w, ERA_MODERN, session_id(b), "other", false), b);
}

static void ephemeral_environments_have_one_in_both_eras(void **state)
{
    struct world *w = *state;
    struct session *s = resolve(w, ERA_MODERN, NULL, "fresh", false);

    assert_ptr_equal(resolve(w, ERA_MODERN, NULL, "fresh", false), s);
    assert_ptr_equal(resolve(w, ERA_LEGACY, NULL, "fresh", false), s);
}

static void says_what_is_wrong_with_a_name(void **state)
{
    struct world *w = *state;
    struct session *s = resolve(w, ERA_MODERN, NULL, NULL, true);

    assert_unresolved(w, "s-nothere", NULL, "there is no session \"s-nothere\"");
    assert_unresolved(w, "", NULL, "there is no session");
    assert_unresolved(w, session_id(s), "other", "is in environment \"default\"");
    assert_unresolved(w, NULL, "othr", "did you mean \"other\"");
}

static void tells_why_a_place_cannot_be_opened(void **state)
{
    struct world *w = *state;

    free(w->environments[1].backend);
    w->environments[1].backend = strdup("broken");
    assert_unresolved(w, NULL, "other", "this backend is broken");
}

static void knows_which_environment_was_meant(void **state)
{
    struct world *w = *state;
    char id[16];

    assert_ptr_equal(sessions_meant(w->sessions, NULL, NULL), w->pointers[0]);
    assert_ptr_equal(sessions_meant(w->sessions, NULL, "other"), w->pointers[1]);
    assert_null(sessions_meant(w->sessions, NULL, "othr"));
    assert_null(sessions_meant(w->sessions, "s-nothere", NULL));
    assert_null(sessions_meant(w->sessions, "", NULL));
    w->environments[1].idle_timeout_seconds = 0.01;
    snprintf(id, sizeof(id), "%s", session_id(resolve(w, ERA_MODERN, NULL, "other", true)));
    assert_null(sessions_meant(w->sessions, id, "default"));
    run_for(w, 50);
    assert_ptr_equal(sessions_meant(w->sessions, id, NULL), w->pointers[1]);
    assert_ptr_equal(sessions_meant(w->sessions, id, "other"), w->pointers[1]);
    assert_null(sessions_meant(w->sessions, id, "default"));
}

static void has_a_cap_on_live_sessions(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 256; i++) {
        resolve(w, ERA_MODERN, NULL, NULL, true);
    }
    assert_unresolved(w, NULL, NULL, "256 sessions already");
    assert_int_equal(fake_counts.places_opened, 1);
}

static void opens_nothing_before_it_is_needed(void **state)
{
    struct world *w = *state;

    assert_int_equal(fake_counts.places_opened, 0);
    sessions_warm(w->sessions);
    assert_int_equal(fake_counts.places_opened, 1);
    assert_int_equal(fake_counts.warmed, 1);
    resolve(w, ERA_LEGACY, NULL, NULL, false);
    assert_int_equal(fake_counts.places_opened, 1);
}

/* --- the end --- */

static void an_unused_session_ends(void **state)
{
    struct world *w = *state;
    struct session *s, *busy;
    char id[16], *notice;

    w->environments[0].idle_timeout_seconds = 0.03;
    s = resolve(w, ERA_LEGACY, NULL, NULL, false);
    snprintf(id, sizeof(id), "%s", session_id(s));
    busy = resolve(w, ERA_MODERN, NULL, NULL, true);
    session_begin(busy);
    run_for(w, 100);
    assert_unresolved(w, id, NULL, "ended after 0.03 s without use, at 20");
    assert_ptr_equal(resolve(w, ERA_MODERN, session_id(busy), NULL, false), busy);
    s = resolve(w, ERA_LEGACY, NULL, NULL, false);
    notice = session_take_notice(s);
    assert_non_null(strstr(notice, id));
    free(notice);
    assert_null(session_take_notice(s));
    session_end(busy);
    run_for(w, 100);
    assert_int_equal(fake_counts.executors_closed, 3);
    assert_int_equal(fake_counts.places_closed, 1);
}

static void a_session_lives_no_longer_than_allowed(void **state)
{
    struct world *w = *state;
    struct session *s;
    char id[16];

    w->environments[0].max_lifetime_seconds = 0.05;
    s = resolve(w, ERA_MODERN, NULL, NULL, true);
    snprintf(id, sizeof(id), "%s", session_id(s));
    session_begin(s);
    run_for(w, 100);
    assert_ptr_equal(resolve(w, ERA_MODERN, id, NULL, false), s); /* never in the middle of a run */
    session_end(s);
    run_for(w, 20);
    assert_unresolved(w, id, NULL, "had lived for 0.05 s");
}

/* --- shares and reset --- */

static void the_environments_shares_come_with_each_session(void **state)
{
    struct world *w = *state;
    struct session *s;
    struct error err = {0};
    char *none[] = {NULL};
    bool made;

    w->config.share_roots = none; /* the owner's word needs no root */
    json_array_append_new(
        w->environments[0].shares,
        json_pack("{ss ss ss}", "type", "mount", "source", w->file, "dest", "/data/a.csv"));
    s = resolve(w, ERA_MODERN, NULL, NULL, true);
    assert_string_equal(executor_share(session_executor(s), 0)->dest, "/data/a.csv");
    assert_true(executor_share(session_executor(s), 0)->read_only);
    assert_int_equal(executor_share(session_executor(s), 0)->type, SHARE_MOUNT);
    json_array_append_new(
        w->environments[0].shares,
        json_pack("{ss ss ss}", "type", "copy", "source", "/not/there", "dest", "/data/b.csv"));
    assert_null(sessions_resolve(w->sessions, ERA_MODERN, NULL, NULL, &made, &err));
    assert_non_null(strstr(err.message, "environment \"default\", shares[1]"));
    error_clear(&err);
    w->config.share_roots = w->roots;
}

static void a_reset_brings_the_shares_back(void **state)
{
    struct world *w = *state;
    struct session *s = resolve(w, ERA_MODERN, NULL, NULL, true);
    struct executor *before = session_executor(s);
    struct answer added = {0}, reset = {0};

    session_add_share(s, open_share(w, SHARE_COPY, "/data/one.csv"), NULL, on_answer, &added);
    assert_int_equal(added.count, 0);
    run_for(w, 1);
    assert_string_equal(added.message, "ok");
    session_begin(s);
    assert_int_equal(session_reset(s, NULL, true, on_answer, &reset, NULL), 0);
    assert_int_equal(reset.count, 0);
    run_for(w, 1);
    session_end(s);
    assert_string_equal(reset.message, "ok");
    assert_int_equal(reset.count, 1);
    assert_ptr_not_equal(session_executor(s), before);
    assert_string_equal(executor_share(session_executor(s), 0)->dest, "/data/one.csv");
    assert_int_equal(session_reset(s, NULL, false, on_answer, &reset, NULL), 0);
    run_for(w, 1);
    assert_null(executor_share(session_executor(s), 0));
}

static void nothing_is_reset_when_a_source_is_gone(void **state)
{
    struct world *w = *state;
    struct session *s = resolve(w, ERA_MODERN, NULL, NULL, true);
    struct executor *before = session_executor(s);
    struct answer added = {0}, reset = {0};
    struct error err = {0};
    char *none[] = {NULL};

    session_add_share(s, open_share(w, SHARE_COPY, "/data/one.csv"), NULL, on_answer, &added);
    run_for(w, 1);
    unlink(w->file);
    assert_int_equal(session_reset(s, NULL, true, on_answer, &reset, &err), -1);
    assert_non_null(strstr(err.message, "nothing was reset"));
    assert_non_null(strstr(err.message, "does not exist"));
    assert_ptr_equal(session_executor(s), before);
    write_file(w->file);
    w->config.share_roots = none; /* no longer allowed */
    assert_int_equal(session_reset(s, NULL, true, on_answer, &reset, &err), -1);
    assert_non_null(strstr(err.message, "--share-root"));
    w->config.share_roots = w->roots;
    error_clear(&err);
    run_for(w, 1);
    assert_int_equal(reset.count, 0);
}

static void a_reset_answers_shares_that_were_on_their_way(void **state)
{
    struct world *w = *state;
    struct session *s = resolve(w, ERA_MODERN, NULL, NULL, true);
    struct answer added = {0}, reset = {0};

    session_add_share(s, open_share(w, SHARE_COPY, "/never"), NULL, on_answer, &added);
    run_for(w, 1);
    assert_int_equal(added.count, 0);
    assert_int_equal(session_reset(s, NULL, true, on_answer, &reset, NULL), 0);
    run_for(w, 1);
    assert_int_equal(added.count, 1);
    assert_non_null(strstr(added.message, "reset or ended"));
    assert_int_equal(reset.count, 1);
}

static void an_ephemeral_executor_has_the_sessions_shares(void **state)
{
    struct world *w = *state;
    struct session *s = resolve(w, ERA_MODERN, NULL, NULL, true);
    struct answer added = {0};
    struct executor *e;

    session_add_share(s, open_share(w, SHARE_COPY, "/data/one.csv"), NULL, on_answer, &added);
    run_for(w, 1);
    e = session_ephemeral_executor(s, NULL);
    assert_ptr_not_equal(e, session_executor(s));
    assert_string_equal(executor_share(e, 0)->dest, "/data/one.csv");
    assert_int_not_equal(executor_share(e, 0)->fd, executor_share(session_executor(s), 0)->fd);
    session_ephemeral_close(s, e);
    session_ephemeral_close(s, e);
    run_for(w, 1);
    assert_int_equal(fake_counts.executors_closed, 1);
    /* One that is still open is closed with the rest. */
    assert_non_null(session_ephemeral_executor(s, NULL));
}

static void run_ids_differ(void **state)
{
    char ids[1000][RUN_ID_SIZE];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        run_id_new(ids[i]);
        assert_int_equal(strlen(ids[i]), 10);
        usleep(2);
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(ids[i], ids[k]);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(legacy_has_one_default_session),
        TEST(modern_makes_a_session_each_time),
        TEST(ephemeral_environments_have_one_in_both_eras),
        TEST(says_what_is_wrong_with_a_name),
        TEST(tells_why_a_place_cannot_be_opened),
        TEST(knows_which_environment_was_meant),
        TEST(has_a_cap_on_live_sessions),
        TEST(opens_nothing_before_it_is_needed),
        TEST(an_unused_session_ends),
        TEST(a_session_lives_no_longer_than_allowed),
        TEST(the_environments_shares_come_with_each_session),
        TEST(a_reset_brings_the_shares_back),
        TEST(nothing_is_reset_when_a_source_is_gone),
        TEST(a_reset_answers_shares_that_were_on_their_way),
        TEST(an_ephemeral_executor_has_the_sessions_shares),
        cmocka_unit_test(run_ids_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
