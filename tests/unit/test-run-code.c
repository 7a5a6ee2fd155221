#include "cmocka_all.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake-executor.h"
#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/tools.h"

/*
 * The three core tools over fake executors. The calls are the test's own: this file has the
 * functions of mcp/call.h and the few of mcp/server.h that tools use.
 */
struct server {
    uv_loop_t loop;
    uv_async_t alive;                   /* as the client's stream keeps a real loop alive */
    struct environment environments[2]; /* default, fresh (ephemeral) */
    struct environment *pointers[2];
    struct config config;
    struct sessions *sessions;
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
    json_t *result; /* NULL until it is answered; a failed call's is its text */
    int answers;
};

struct server *call_server(struct call *call)
{
    return call->server;
}

enum era call_era(const struct call *call)
{
    return call->era;
}

const json_t *call_arguments(const struct call *call)
{
    return call->arguments;
}

void call_progress(struct call *call, const char *message)
{
    assert_null(call->result);
    call->progress_count++;
    snprintf(call->progress, sizeof(call->progress), "%s", message);
}

bool call_wants_progress(const struct call *call)
{
    return call->wants_progress;
}

void call_on_cancel(struct call *call, void (*cancelled)(void *data), void *data)
{
    assert_null(call->result);
    call->cancelled = cancelled;
    call->cancelled_data = data;
}

void call_finish(struct call *call, json_t *result_owned)
{
    call->answers++;
    call->result = result_owned;
}

void call_fail(struct call *call, const struct error *err)
{
    assert_int_not_equal(err->kind, ERROR_NONE);
    call->answers++;
    call->result = json_string(err->message);
}

void call_roots(struct call *call,
                void (*done)(void *data, const json_t *paths, const struct error *err), void *data)
{
    call->roots_done = done;
    call->roots_data = data;
}

const struct config *server_config(const struct server *server)
{
    return &server->config;
}

struct sessions *server_sessions(struct server *server)
{
    return server->sessions;
}

void server_log_message(struct server *server, enum log_level level, const char *logger,
                        json_t *data_owned)
{
    assert_int_equal(level, LOG_LEVEL_INFO);
    assert_string_equal(logger, "session");
    snprintf(server->logged, sizeof(server->logged), "%s",
             json_string_value(json_object_get(data_owned, "text")));
    json_decref(data_owned);
}

/* --- the world --- */

static void on_closed(void *data)
{
    ((struct server *)data)->closed++;
}

static int set_up(void **state)
{
    struct server *s = calloc(1, sizeof(*s));
    int fd;

    memset(&fake_counts, 0, sizeof(fake_counts));
    uv_loop_init(&s->loop);
    uv_async_init(&s->loop, &s->alive, NULL);
    assert_int_equal(environment_init(&s->environments[0], "default", "local"), 0);
    assert_int_equal(environment_init(&s->environments[1], "fresh", "local"), 0);
    s->environments[1].mode = MODE_EPHEMERAL;
    s->pointers[0] = &s->environments[0];
    s->pointers[1] = &s->environments[1];
    s->config.environments = s->pointers;
    s->config.environment_count = 2;
    s->config.default_environment = s->pointers[0];
    snprintf(s->root, sizeof(s->root), "/tmp/cellblock-run-code-XXXXXX");
    assert_non_null(mkdtemp(s->root));
    snprintf(s->file, sizeof(s->file), "%s/data.csv", s->root);
    fd = open(s->file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    s->roots[0] = s->root;
    s->config.share_roots = s->roots;
    s->sessions = sessions_new(&s->loop, &s->config, NULL);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct server *s = *state;

    uv_close((uv_handle_t *)&s->alive, NULL);
    sessions_close(s->sessions, on_closed, s);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_int_equal(s->closed, 1);
    assert_int_equal(fake_counts.runs, fake_counts.runs_done);
    assert_int_equal(fake_counts.executors, fake_counts.executors_closed);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    environment_deinit(&s->environments[0]);
    environment_deinit(&s->environments[1]);
    json_decref(s->client_roots);
    unlink(s->file);
    rmdir(s->root);
    free(s);
    return 0;
}

/* Turns the loop until nothing is due, and answers the tools' question for roots. */
static void turn(struct call *call)
{
    for (int i = 0; i < 10; i++) {
        if (call->roots_done) {
            void (*done)(void *data, const json_t *paths, const struct error *err) =
                call->roots_done;

            call->roots_done = NULL;
            done(call->roots_data, call->server->client_roots, NULL);
        }
        uv_run(&call->server->loop, UV_RUN_NOWAIT);
    }
}

static void call_init(struct call *call, struct server *server, enum era era, json_t *arguments)
{
    assert_non_null(arguments);
    *call = (struct call){.server = server, .era = era, .arguments = arguments};
}

static void call_deinit(struct call *call)
{
    json_decref(call->arguments);
    json_decref(call->result);
}

/* Calls a tool and expects exactly one answer; it is the caller's. */
static json_t *answer_of(struct server *server, enum era era, const struct tool *tool,
                         json_t *arguments)
{
    struct call call;
    json_t *result;

    call_init(&call, server, era, arguments);
    tool->start(&call);
    turn(&call);
    assert_int_equal(call.answers, 1);
    result = json_incref(call.result);
    call_deinit(&call);
    return result;
}

static json_t *run_legacy(struct server *server, json_t *arguments)
{
    return answer_of(server, ERA_LEGACY, &run_code_tool, arguments);
}

/* The text of the result's first block of that part; NULL when there is none. */
static const char *part(const json_t *result, const char *name)
{
    size_t index;
    json_t *block;

    json_array_foreach(json_object_get(result, "content"), index, block)
    {
        const json_t *meta = json_object_get(block, "_meta");

        if (strcmp(json_string_value(json_object_get(meta, "cellblock/part")), name) == 0) {
            return json_string_value(json_object_get(block, "text"));
        }
    }
    return NULL;
}

static const char *outcome(const json_t *result, const char *field)
{
    const json_t *meta = json_object_get(result, "_meta");

    return json_string_value(json_object_get(json_object_get(meta, "cellblock/outcome"), field));
}

static const char *session_of(const json_t *result)
{
    return json_string_value(
        json_object_get(json_object_get(result, "_meta"), "cellblock/session"));
}

static void assert_says(const char *text, const char *what)
{
    if (!text || !strstr(text, what)) {
        fail_msg("\"%s\" lacks \"%s\"", text ? text : "(nothing)", what);
    }
}

static void assert_call_fails(struct server *server, enum era era, const struct tool *tool,
                              json_t *arguments, const char *says)
{
    json_t *result = answer_of(server, era, tool, arguments);
    const char *text = json_is_string(result) ? json_string_value(result) : part(result, "note");

    assert_says(text, says);
    if (json_is_object(result)) {
        assert_true(json_is_true(json_object_get(result, "isError")));
        assert_non_null(session_of(result));
    }
    json_decref(result);
}

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
        TEST(adds_copies_and_mounts),
        TEST(a_long_copy_tells_how_it_goes),
        TEST(add_share_makes_a_modern_session),
        TEST(add_share_says_what_is_wrong),
        TEST(a_refused_path_makes_no_session),
        TEST(takes_the_clients_roots),
        TEST(shares_are_refused_where_the_backend_has_none),
        TEST(a_reset_cancels_the_run_and_keeps_the_id),
        TEST(a_reset_needs_a_session_in_the_modern_era),
        TEST(a_reset_without_its_source_resets_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
