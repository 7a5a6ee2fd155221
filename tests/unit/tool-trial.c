#include "tests/unit/tool-trial.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

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

void call_ask(struct call *call, const struct consent_question *question,
              const struct error *refusal)
{
    call->question = *question;
    if (!call->can_ask) {
        question_drop(call);
        call_fail(call, refusal);
    }
}

void question_drop(struct call *call)
{
    if (call->question.drop) {
        call->question.drop(call->question.data);
    }
    free(call->question.message);
    free(call->question.what);
    call->question = (struct consent_question){0};
}

const struct config *server_config(const struct server *server)
{
    return &server->config;
}

struct sessions *server_sessions(struct server *server)
{
    return server->sessions;
}

struct log *server_log(struct server *server)
{
    (void)server;
    return NULL;
}

struct snapshots *server_snapshots(struct server *server)
{
    return server->snapshots;
}

struct run_records *server_runs(struct server *server)
{
    return server->runs;
}

uv_loop_t *server_loop(struct server *server)
{
    return &server->loop;
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

int set_up(void **state)
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
    s->runs = run_records_new(&s->loop);
    s->snapshots = snapshots_new();
    *state = s;
    return 0;
}

int tear_down(void **state)
{
    struct server *s = *state;

    uv_close((uv_handle_t *)&s->alive, NULL);
    sessions_close(s->sessions, on_closed, s);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_int_equal(s->closed, 1);
    assert_int_equal(fake_counts.runs, fake_counts.runs_done);
    assert_int_equal(fake_counts.executors, fake_counts.executors_closed);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    run_records_free(s->runs);
    snapshots_free(s->snapshots);
    environment_deinit(&s->environments[0]);
    environment_deinit(&s->environments[1]);
    json_decref(s->client_roots);
    unlink(s->file);
    rmdir(s->root);
    free(s);
    return 0;
}

void turn(struct call *call)
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

void call_init(struct call *call, struct server *server, enum era era, json_t *arguments)
{
    assert_non_null(arguments);
    *call = (struct call){.server = server, .era = era, .arguments = arguments};
}

void call_deinit(struct call *call)
{
    json_decref(call->arguments);
    json_decref(call->result);
}

json_t *answer_of(struct server *server, enum era era, const struct tool *tool, json_t *arguments)
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

json_t *run_legacy(struct server *server, json_t *arguments)
{
    return answer_of(server, ERA_LEGACY, &run_code_tool, arguments);
}

const char *part(const json_t *result, const char *name)
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

const char *outcome(const json_t *result, const char *field)
{
    const json_t *meta = json_object_get(result, "_meta");

    return json_string_value(json_object_get(json_object_get(meta, "cellblock/outcome"), field));
}

const char *session_of(const json_t *result)
{
    return json_string_value(
        json_object_get(json_object_get(result, "_meta"), "cellblock/session"));
}

void assert_says(const char *text, const char *what)
{
    if (!text || !strstr(text, what)) {
        fail_msg("\"%s\" lacks \"%s\"", text ? text : "(nothing)", what);
    }
}

void assert_call_fails(struct server *server, enum era era, const struct tool *tool,
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
