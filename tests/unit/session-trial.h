#ifndef CELLBLOCK_TESTS_SESSION_TRIAL_H
#define CELLBLOCK_TESTS_SESSION_TRIAL_H

#include "mcp/session.h"
#include "mcp/session_private.h"

/* Sessions of an environment "default", over executors that are none (fake-executor.h). */
struct world {
    uv_loop_t loop;
    uv_async_t alive;
    struct environment env;
    struct environment *pointers[1];
    struct config config;
    char *roots[1];
    struct sessions *sessions;
    int closed;
};

int set_up(void **state);
int tear_down(void **state);
/* Some turns of the loop. */
void turn(struct world *w);
/* Until `count` sessions have ended, for 5 s at most. */
void wait_for_ends(struct world *w, int count);
/* With `wishes` as create_session takes them, "tags" and "env" among them. */
struct session *try_create(struct world *w, const char *name, const char *wishes,
                           struct error *err);
struct session *create(struct world *w, const char *name, const char *wishes);
void assert_not_found(struct world *w, const char *name, const char *says);
/* Callbacks: count w->closed (`data` is the world), an int, and keep a run's cause. */
void on_closed(void *data);
void on_gone(void *data, const struct error *err);
void on_run_done(void *data, const struct outcome *outcome);
/* *gone is counted up when nothing of it is left. Returns the session. */
struct session *finish(struct session *s, bool kill, int *gone);

#endif
