#include "mcp/tools/run_call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/registry.h"
#include "mcp/content.h"
#include "mcp/run_record.h"
#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/session_secrets.h"
#include "mcp/text.h"
#include "mcp/tools/result.h"
#include "mcp/tools/run_page.h"
#include "mcp/toolsets.h"

enum {
    NEWEST = 1024,      /* bytes of output that a progress message is made of */
    ENV_NAME_CAP = 256, /* bytes of a variable's name */
    ENDS_SOON_MS = 3000 /* what a run that is about to be ended has to do it in the foreground */
};

/* One call that runs something, from its start to its answer. */
struct run_call {
    struct call *call;
    struct session *session; /* NULL: none could be made, which is answered at once */
    const struct environment *env;
    struct run_record *record;
    struct run_watcher watcher;
    struct secret_wait secrets; /* while they are read, before the run */
    struct run_ask *waiting;    /* what is asked for, until then */
    char *hint;
    double timeout_seconds;
    uv_timer_t limit; /* of the foreground */
    bool has_limit, waited_on;
    char newest[NEWEST]; /* the last of what was printed, for progress */
    size_t newest_size;
};

/* --- the answer --- */

static void on_limit_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* The hint of a run that began is its record's. */
static void run_call_free(struct run_call *rc)
{
    if (!rc->record) {
        free(rc->hint);
    }
    if (rc->has_limit) {
        uv_close((uv_handle_t *)&rc->limit, on_limit_closed);
    } else {
        free(rc);
    }
}

static void answer(struct run_call *rc, json_t *result)
{
    struct call *call = rc->call;
    struct error err = {0};

    if (result) {
        call_finish(call, result);
    } else {
        error_set_code(&err, ERROR_INTERNAL, ENOMEM, "the result of the run");
        call_fail(call, &err);
        error_clear(&err);
    }
    run_call_free(rc);
}

static json_t *result_of_refusal(const struct run_call *rc, const struct outcome *outcome)
{
    struct content *content = content_new(server_config(call_server(rc->call))->structured);
    char id[RUN_ID_SIZE];
    struct content_run run = {
        .session = rc->session ? session_id(rc->session) : NULL,
        .run = id,
        .environment = rc->env->name,
        .backend = rc->env->backend,
        .hint = rc->hint,
    };
    json_t *result;

    run_id_new(id);
    result = content ? content_finish(content, &run, outcome) : NULL;
    content_free(content);
    return result;
}

/* The answer to a run that was asked for and understood, and is not done. */
static void answer_refusal(struct run_call *rc, const struct error *err)
{
    struct outcome outcome;

    outcome_init(&outcome);
    outcome.cause = cause_of_error(err->kind);
    outcome.note = strdup(err->message ? err->message : "out of memory");
    answer(rc, result_of_refusal(rc, &outcome));
    outcome_deinit(&outcome);
}

/* The answer with which the run goes on in the background. */
static void answer_page(struct run_call *rc, const char *lead)
{
    struct run_view view;
    struct run_page page = {
        .view = &view,
        .lead = lead,
        .structured = server_config(call_server(rc->call))->structured,
    };

    run_record_view(rc->record, &view);
    page.hint = view.hint;
    answer(rc, run_page_result(&page));
}

/* --- while it runs --- */

static void on_waiting(void *data, const char *what)
{
    struct run_call *rc = data;

    call_progress(rc->call, what);
}

/* Keeps the end of what was printed, so that a message has whole lines though bursts end anywhere.
 */
static void remember_newest(struct run_call *rc, const char *bytes, size_t size)
{
    size_t keep;

    if (size >= NEWEST) {
        bytes += size - NEWEST;
        size = NEWEST;
    }
    keep = rc->newest_size + size > NEWEST ? NEWEST - size : rc->newest_size;
    memmove(rc->newest, rc->newest + rc->newest_size - keep, keep);
    memcpy(rc->newest + keep, bytes, size);
    for (size_t i = keep; i < keep + size; i++) {
        if (rc->newest[i] == '\0') {
            rc->newest[i] = ' '; /* a message is a C string */
        }
    }
    rc->newest_size = keep + size;
}

static void tell_newest(struct run_call *rc)
{
    struct text text = text_of(rc->newest, rc->newest_size);
    bool cut = false;
    json_t *message;

    /* The first bytes may belong to a character whose beginning is gone. */
    while (text.head_size > 0 && ((unsigned char)*text.head & 0xc0) == 0x80) {
        text.head++;
        text.head_size--;
    }
    message = text_render(&text, (size_t)6 * NEWEST, TEXT_TAIL_HALF, &cut);
    if (message && json_string_length(message) > 0) {
        call_progress(rc->call, json_string_value(message));
    }
    json_decref(message);
}

static void on_output(void *data, const char *bytes, size_t size)
{
    struct run_call *rc = data;

    if (size > 0) {
        remember_newest(rc, bytes, size);
        tell_newest(rc);
    }
}

/* It does not follow on what came before. */
static void on_sample(void *data, const char *bytes, size_t size)
{
    struct run_call *rc = data;

    rc->newest_size = 0;
    on_output(rc, bytes, size);
}

static void on_done(void *data)
{
    struct run_call *rc = data;
    struct run_view view;

    run_record_view(rc->record, &view);
    answer(rc, json_incref((json_t *)view.result));
}

static void on_cancelled(void *data)
{
    struct run_call *rc = data;

    run_record_cancel(rc->record);
}

/* A run that its own limit ends in a moment is not worth a second call; it is waited for once. */
static bool ends_soon(struct run_call *rc)
{
    struct run_view view;

    run_record_view(rc->record, &view);
    if (rc->waited_on || view.state != RUN_RUNNING ||
        (rc->timeout_seconds - view.seconds) * 1000 > ENDS_SOON_MS / 2.0) {
        return false;
    }
    rc->waited_on = true;
    return true;
}

static void on_limit(uv_timer_t *timer)
{
    struct run_call *rc = timer->data;
    char lead[200];

    if (ends_soon(rc)) {
        uv_timer_start(timer, on_limit, ENDS_SOON_MS, 0);
        return;
    }
    snprintf(lead, sizeof(lead),
             "The run goes on in the background: it has taken %g s, as long as a call waits "
             "(max_foreground_seconds).",
             server_config(call_server(rc->call))->max_foreground_seconds);
    run_record_unwatch(rc->record, &rc->watcher);
    run_record_to_background(rc->record);
    answer_page(rc, lead);
}

/* --- the start --- */

static void tell_idle_output(void *data, const char *session, enum stream stream, const char *bytes,
                             size_t size)
{
    struct text text = text_of(bytes, size);
    bool cut = false;
    json_t *message = json_pack("{ss ss so}", "session", session, "stream",
                                stream == STREAM_STDOUT ? "stdout" : "stderr", "text",
                                text_render(&text, CONTENT_TEXT_LIMIT, TEXT_TAIL_HALF, &cut));

    if (message) {
        server_log_message(data, LOG_LEVEL_INFO, "session", message);
    }
}

/* Without a session a run that is ephemeral needs none of its own: the connection's is what it
 * enters. On failure rc->env is set all the same when it is known which one was meant. */
static int enter_session(struct run_call *rc, const struct run_ask *ask, struct error *err)
{
    struct server *server = call_server(rc->call);
    struct sessions *sessions = server_sessions(server);
    enum era era = ask->ephemeral ? ERA_LEGACY : call_era(rc->call);
    bool made = false;

    sessions_on_idle_output(sessions, tell_idle_output, server);
    rc->session = sessions_resolve(sessions, era, ask->session, ask->environment, &made, err);
    if (!rc->session) {
        rc->env = sessions_meant(sessions, ask->session, ask->environment);
        return -1;
    }
    rc->env = session_environment(rc->session);
    rc->hint = session_hint(rc->session, made);
    return 0;
}

static int check_timeout(struct run_call *rc, const json_t *timeout, struct error *err)
{
    const struct environment *env = rc->env;
    double seconds = timeout ? json_number_value(timeout) : env->timeout_seconds;

    if (seconds > env->max_timeout_seconds) {
        return error_set(err, ERROR_REFUSED,
                         "timeout_seconds %g is more than environment \"%s\" allows: %g at most. "
                         "Nothing was run; ask for less, and split longer work into several runs",
                         seconds, env->name, env->max_timeout_seconds);
    }
    rc->timeout_seconds = seconds;
    return 0;
}

static bool runs_are_on(const struct config *config)
{
    return config->toolsets & TOOLSET_RUNS;
}

static int start_run(struct run_call *rc, const struct run_ask *ask, struct error *err)
{
    struct server *server = call_server(rc->call);
    const struct config *config = server_config(server);
    struct run_plan plan = {
        .session = rc->session,
        .request = ask->request,
        .tool = ask->tool,
        .title = ask->title,
        .failure_note = ask->failure_note,
        .hint = rc->hint,
        .ephemeral = ask->ephemeral || rc->env->mode == MODE_EPHEMERAL,
        .structured = config->structured,
        .background = ask->background,
        .may_turn = runs_are_on(config),
    };

    if (check_timeout(rc, ask->timeout, err) < 0) {
        return -1;
    }
    plan.request.timeout_seconds = rc->timeout_seconds;
    if (ask->may_write && place_capabilities(session_place(rc->session)) & CAP_STDIN_CODE) {
        plan.request.stdin_open = true;
    }
    rc->record = run_record_start(server_runs(server), &plan, err);
    return rc->record ? 0 : -1;
}

/* Waits for the end, or until the call has taken too long. */
static void stay(struct run_call *rc)
{
    struct server *server = call_server(rc->call);
    const struct config *config = server_config(server);

    rc->watcher = (struct run_watcher){
        .waiting = on_waiting,
        .output = call_wants_progress(rc->call) ? on_output : NULL,
        .sample = call_wants_progress(rc->call) ? on_sample : NULL,
        .done = on_done,
        .data = rc,
    };
    run_record_watch(rc->record, &rc->watcher);
    if (runs_are_on(config) && config->max_foreground_seconds > 0) {
        uv_timer_init(server_loop(server), &rc->limit);
        rc->limit.data = rc;
        rc->has_limit = true;
        uv_timer_start(&rc->limit, on_limit, (uint64_t)(config->max_foreground_seconds * 1000), 0);
    }
    call_on_cancel(rc->call, on_cancelled, rc);
}

static struct run_call *run_call_new(struct call *call, const struct run_ask *ask,
                                     struct error *err)
{
    struct run_call *rc;

    if (ask->background && !runs_are_on(server_config(call_server(call)))) {
        error_set(err, ERROR_INVALID,
                  "background is not there: runs in the background need the toolset \"runs\"; "
                  "start the server with --toolsets runs, or leave background out");
        return NULL;
    }
    rc = calloc(1, sizeof(*rc));
    if (!rc) {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "%s", ask->tool);
        return NULL;
    }
    rc->call = call;
    return rc;
}

static void begin(struct run_call *rc, const struct run_ask *ask)
{
    struct error err = {0};

    if (start_run(rc, ask, &err) < 0) {
        answer_refusal(rc, &err);
    } else if (ask->background) {
        answer_page(rc, "The run was started in the background.");
    } else {
        stay(rc);
    }
    error_clear(&err);
}

/* --- a start that waits for the session's secrets --- */

static void ask_free(struct run_ask *ask)
{
    if (ask) {
        free((char *)ask->title);
        for (char **word = (char **)ask->request.argv; word && *word; word++) {
            free(*word);
        }
        free((void *)ask->request.argv);
        free(ask);
    }
}

/* What is not the call's own is copied: titles and argv. NULL when out of memory. */
static struct run_ask *ask_copy(const struct run_ask *from)
{
    struct run_ask *ask = malloc(sizeof(*ask));
    struct strings argv = {0};

    if (!ask) {
        return NULL;
    }
    *ask = *from;
    ask->title = from->title ? strdup(from->title) : NULL;
    if (from->request.argv) {
        strings_add_all(&argv, from->request.argv);
        ask->request.argv = (const char *const *)argv.list;
    }
    if ((from->title && !ask->title) || (from->request.argv && strings_ok(&argv) < 0)) {
        strings_free(&argv);
        ask->request.argv = NULL;
        ask_free(ask);
        return NULL;
    }
    return ask;
}

static void on_secrets(void *data, const struct error *failed)
{
    struct run_call *rc = data;
    struct run_ask *ask = rc->waiting;
    struct session *s = rc->session;

    call_on_cancel(rc->call, NULL, NULL);
    if (failed) {
        answer_refusal(rc, failed);
    } else {
        begin(rc, ask);
    }
    ask_free(ask);
    session_end(s);
}

static void on_cancelled_waiting(void *data)
{
    struct run_call *rc = data;
    struct error err = {0};

    session_forget_secrets(rc->session, &rc->secrets);
    error_set(&err, ERROR_LOST, "the call was taken back before the run began");
    on_secrets(rc, &err);
    error_clear(&err);
}

/* Until then the session is in use. */
static int wait_for_secrets(struct run_call *rc, const struct run_ask *ask, struct error *err)
{
    rc->waiting = ask_copy(ask);
    if (!rc->waiting) {
        session_forget_secrets(rc->session, &rc->secrets);
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "%s", ask->tool);
    }
    session_begin(rc->session);
    call_progress(rc->call, "reading the session's secrets");
    call_on_cancel(rc->call, on_cancelled_waiting, rc);
    return 1;
}

/* 0: the run may begin. 1: it begins by itself, later. */
static int enter(struct run_call *rc, const struct run_ask *ask, struct error *err)
{
    int r;

    if (enter_session(rc, ask, err) < 0) {
        return -1;
    }
    rc->secrets = (struct secret_wait){.ready = on_secrets, .data = rc};
    r = session_need_secrets(rc->session, &rc->secrets, err);
    return r == 1 ? wait_for_secrets(rc, ask, err) : r;
}

void run_call_start(struct call *call, const struct run_ask *ask)
{
    struct error err = {0};
    struct run_call *rc = run_call_new(call, ask, &err);
    int r = rc ? enter(rc, ask, &err) : -1;

    if (!rc) {
        call_fail(call, &err);
    } else if (r == 0) {
        begin(rc, ask);
    } else if (r < 0 && rc->env) {
        answer_refusal(rc, &err);
    } else if (r < 0) {
        run_call_free(rc);
        call_fail(call, &err);
    }
    error_clear(&err);
}

/* --- an argument --- */

static bool is_variable_name(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
    size_t n = strlen(name);

    return n > 0 && n <= ENV_NAME_CAP && strchr(letters, name[0]) &&
           strspn(name + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789") ==
               n - 1;
}

int run_env_check(json_t *env, struct error *err)
{
    const char *name;
    json_t *value;

    json_object_foreach(env, name, value)
    {
        if (!is_variable_name(name)) {
            return error_set(err, ERROR_INVALID,
                             "env: \"%.64s\" is no name of a variable: letters, digits and _ are "
                             "allowed, not starting with a digit, %d at most",
                             name, ENV_NAME_CAP);
        }
        if (!json_is_string(value)) {
            return error_set(err, ERROR_INVALID, "env.%.64s is not a string", name);
        }
        if (strlen(json_string_value(value)) != json_string_length(value)) {
            return error_set(err, ERROR_INVALID, "env.%.64s holds a NUL character", name);
        }
    }
    return 0;
}
