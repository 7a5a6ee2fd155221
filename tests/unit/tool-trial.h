#ifndef CELLBLOCK_TESTS_TOOL_TRIAL_H
#define CELLBLOCK_TESTS_TOOL_TRIAL_H

#include <jansson.h>
#include <stdbool.h>

#include "fake-executor.h"
#include "mcp/consent.h"
#include "mcp/run_record.h"
#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/snapshots.h"
#include "mcp/tools.h"

/*
 * The three core tools over fake executors. The calls are the test's own: tool-trial.c has the
 * functions of mcp/call.h and the few of mcp/server.h that tools use.
 */
struct server {
    uv_loop_t loop;
    uv_async_t alive;                   /* as the client's stream keeps a real loop alive */
    struct environment environments[2]; /* default, fresh (ephemeral) */
    struct environment *pointers[2];
    struct config config;
    struct sessions *sessions;
    struct run_records *runs;
    struct snapshots *snapshots;
    json_t *client_roots;
    char root[64];
    char file[80];
    char *roots[2];
    char logged[256];
    int closed;
};

struct call {
    struct server *server;
    enum era era;
    json_t *arguments;
    bool wants_progress;
    char progress[1024]; /* the newest message */
    int progress_count;
    void (*cancelled)(void *data);
    void *cancelled_data;
    void (*roots_done)(void *data, const json_t *paths, const struct error *err);
    void *roots_data;
    bool can_ask;
    struct consent_question question; /* what a person was asked; the test's */
    json_t *result;                   /* NULL until it is answered; a failed call's is its text */
    int answers;
};

int set_up(void **state);
int tear_down(void **state);

/* Turns the loop until nothing is due, and answers the tools' question for roots. */
void turn(struct call *call);
void call_init(struct call *call, struct server *server, enum era era, json_t *arguments);
void call_deinit(struct call *call);

/* The person who was asked (call.can_ask) said no. */
void question_drop(struct call *call);

/* Calls a tool and expects exactly one answer; it is the caller's. */
json_t *answer_of(struct server *server, enum era era, const struct tool *tool, json_t *arguments);
json_t *run_legacy(struct server *server, json_t *arguments);

/* The text of the result's first block of that part; NULL when there is none. */
const char *part(const json_t *result, const char *name);
const char *outcome(const json_t *result, const char *field);
const char *session_of(const json_t *result);
void assert_says(const char *text, const char *what);
void assert_call_fails(struct server *server, enum era era, const struct tool *tool,
                       json_t *arguments, const char *says);

#endif
