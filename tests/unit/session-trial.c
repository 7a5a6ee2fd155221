#include "tests/unit/session-trial.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "tests/unit/fake-executor.h"

void on_closed(void *data)
{
    ((struct world *)data)->closed++;
}

int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    memset(&fake_counts, 0, sizeof(fake_counts));
    uv_loop_init(&w->loop);
    uv_async_init(&w->loop, &w->alive, NULL);
    assert_int_equal(environment_init(&w->env, "default", "local"), 0);
    w->pointers[0] = &w->env;
    w->config.environments = w->pointers;
    w->config.environment_count = 1;
    w->config.default_environment = &w->env;
    w->config.share_roots = w->roots;
    w->sessions = sessions_new(&w->loop, &w->config, NULL);
    *state = w;
    return 0;
}

int tear_down(void **state)
{
    struct world *w = *state;

    uv_close((uv_handle_t *)&w->alive, NULL);
    sessions_close(w->sessions, on_closed, w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(w->closed, 1);
    assert_int_equal(fake_counts.executors, fake_counts.executors_closed);
    assert_int_equal(fake_counts.places_opened, fake_counts.places_closed);
    assert_int_equal(fake_counts.runs, fake_counts.runs_done);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    environment_deinit(&w->env);
    policy_deinit(&w->config.policy);
    free(w);
    return 0;
}

void turn(struct world *w)
{
    for (int i = 0; i < 10; i++) {
        uv_run(&w->loop, UV_RUN_NOWAIT);
    }
}

void wait_for_ends(struct world *w, int count)
{
    for (int i = 0; i < 5000 && fake_counts.executors_closed < count; i++) {
        usleep(1000);
        uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(fake_counts.executors_closed, count);
}

struct session *try_create(struct world *w, const char *name, const char *wishes, struct error *err)
{
    json_t *object = json_loads(wishes, 0, NULL);
    struct derived derived = {0};
    struct session_options options = {.base = &w->env, .derived = &derived, .name = name};
    struct session *s = NULL;

    assert_non_null(object);
    options.tags = json_object_get(object, "tags");
    options.variables = json_object_get(object, "env");
    if (policy_derive(&w->config.policy, &w->env, object, &derived, err) == 0) {
        s = sessions_create(w->sessions, &options, err);
    }
    derived_deinit(&derived);
    json_decref(object);
    return s;
}

struct session *create(struct world *w, const char *name, const char *wishes)
{
    struct error err = {0};
    struct session *s = try_create(w, name, wishes, &err);

    if (!s) {
        fail_msg("%s", err.message);
    }
    return s;
}

void assert_not_found(struct world *w, const char *name, const char *says)
{
    struct error err = {0};

    assert_null(sessions_find(w->sessions, name, &err));
    if (!strstr(err.message, says)) {
        fail_msg("\"%s\" lacks \"%s\"", err.message, says);
    }
    error_clear(&err);
}

void on_gone(void *data, const struct error *err)
{
    assert_null(err);
    ++*(int *)data;
}

struct session *finish(struct session *s, bool kill, int *gone)
{
    assert_int_equal(session_finish(s, kill, on_gone, gone, NULL), 0);
    assert_int_equal(*gone, 0); /* never before it returned */
    return s;
}

void on_run_done(void *data, const struct outcome *outcome)
{
    *(enum cause *)data = outcome->cause;
}
