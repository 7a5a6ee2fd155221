#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/content.h"
#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/text.h"
#include "mcp/tools.h"
#include "mcp/tools/result.h"

enum {
    NEWEST = 1024,      /* bytes of output that a progress message is made of */
    ENV_NAME_CAP = 256, /* bytes of a variable's name */
};

/* One call of run_code, from its start to its answer. */
struct run_call {
    struct call *call;
    struct session *session; /* NULL: none could be made, which is answered at once */
    const struct environment *env;
    struct executor *ephemeral; /* NULL: the run is the session's */
    struct run *run;
    struct content *content;
    char *hint;
    char id[RUN_ID_SIZE];
    char newest[NEWEST]; /* the last of what was printed, for progress */
    size_t newest_size;
    bool wants_progress;
};

/* --- the answer --- */

/* Lets go of everything but the ephemeral executor, which closes in the background. */
static void run_call_free(struct run_call *rc)
{
    if (rc->ephemeral) {
        session_ephemeral_close(rc->session, rc->ephemeral);
    }
    content_free(rc->content);
    free(rc->hint);
    if (rc->session) {
        session_end(rc->session);
    }
    free(rc);
}

static void answer(struct run_call *rc, const struct outcome *outcome)
{
    struct content_run run = {
        .session = rc->session ? session_id(rc->session) : NULL,
        .run = rc->id,
        .environment = rc->env->name,
        .backend = rc->env->backend,
        .hint = rc->hint,
        .files_kept = !rc->ephemeral,
    };
    json_t *result = content_finish(rc->content, &run, outcome);
    struct error err = {0};

    if (result) {
        call_finish(rc->call, result);
    } else {
        error_set_code(&err, ERROR_INTERNAL, ENOMEM, "the result of the run");
        call_fail(rc->call, &err);
        error_clear(&err);
    }
    run_call_free(rc);
}

/* The answer to a run that was asked for and understood, and is not done. */
static void answer_refusal(struct run_call *rc, const struct error *err)
{
    struct outcome outcome;

    outcome_init(&outcome);
    outcome.cause = cause_of_error(err->kind);
    outcome.note = strdup(err->message ? err->message : "out of memory");
    answer(rc, &outcome);
    outcome_deinit(&outcome);
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

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct run_call *rc = data;

    content_output(rc->content, stream, bytes, size);
    if (rc->wants_progress && size > 0) {
        remember_newest(rc, bytes, size);
        tell_newest(rc);
    }
}

static void on_display(void *data, const struct display *display)
{
    struct run_call *rc = data;

    content_display(rc->content, display);
}

static void on_note(void *data, const char *text)
{
    struct run_call *rc = data;

    content_note(rc->content, text);
}

static void on_done(void *data, const struct outcome *outcome)
{
    answer(data, outcome);
}

static void on_cancelled(void *data)
{
    struct run_call *rc = data;

    run_cancel(rc->run);
}

static const struct run_events events = {
    .on_waiting = on_waiting,
    .on_output = on_output,
    .on_display = on_display,
    .on_note = on_note,
    .on_done = on_done,
};

/* --- the arguments --- */

struct arguments {
    const json_t *code;
    const char *language;
    const char *session;
    const char *environment;
    bool ephemeral;
    const json_t *timeout; /* NULL: the environment's */
    const json_t *stdin_text;
    json_t *env;
};

static bool is_variable_name(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
    size_t n = strlen(name);

    return n > 0 && n <= ENV_NAME_CAP && strchr(letters, name[0]) &&
           strspn(name + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789") ==
               n - 1;
}

static int check_env(json_t *env, struct error *err)
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

static int take_arguments(struct call *call, struct arguments *args, struct error *err)
{
    const json_t *object = call_arguments(call);

    args->code = json_object_get(object, "code");
    args->timeout = json_object_get(object, "timeout_seconds");
    args->stdin_text = json_object_get(object, "stdin");
    args->env = json_object_get(object, "env");
    args->ephemeral = argument_bool(call, "ephemeral", false);
    if (argument_name(call, "language", &args->language, err) < 0 ||
        argument_name(call, "session", &args->session, err) < 0 ||
        argument_name(call, "environment", &args->environment, err) < 0 ||
        check_env(args->env, err) < 0) {
        return -1;
    }
    args->language = args->language ? args->language : "python";
    return 0;
}

static int check_timeout(const struct environment *env, const struct arguments *args,
                         double *ret_seconds, struct error *err)
{
    double seconds = args->timeout ? json_number_value(args->timeout) : env->timeout_seconds;

    if (seconds > env->max_timeout_seconds) {
        return error_set(err, ERROR_REFUSED,
                         "timeout_seconds %g is more than environment \"%s\" allows: %g at most. "
                         "Nothing was run; ask for less, and split longer work into several runs",
                         seconds, env->name, env->max_timeout_seconds);
    }
    *ret_seconds = seconds;
    return 0;
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
 * enters. */
static struct session *resolve(struct call *call, const struct arguments *args, bool *ret_made,
                               struct error *err)
{
    struct server *server = call_server(call);
    struct sessions *sessions = server_sessions(server);
    enum era era = args->ephemeral ? ERA_LEGACY : call_era(call);

    sessions_on_idle_output(sessions, tell_idle_output, server);
    return sessions_resolve(sessions, era, args->session, args->environment, ret_made, err);
}

static int start_run(struct run_call *rc, const struct arguments *args, struct error *err)
{
    const struct environment *env = rc->env;
    struct run_request request = {
        .id = rc->id,
        .language = args->language,
        .code = json_string_value(args->code),
        .code_size = json_string_length(args->code),
        .stdin_text = json_string_value(args->stdin_text),
        .stdin_size = json_string_length(args->stdin_text),
        .env = args->env,
    };

    if (check_timeout(env, args, &request.timeout_seconds, err) < 0) {
        return -1;
    }
    if (args->ephemeral || env->mode == MODE_EPHEMERAL) {
        rc->ephemeral = session_ephemeral_executor(rc->session, err);
        if (!rc->ephemeral) {
            return -1;
        }
    }
    request.keep_full_output = !rc->ephemeral;
    rc->run = executor_run(rc->ephemeral ? rc->ephemeral : session_executor(rc->session), &request,
                           &events, rc, err);
    return rc->run ? 0 : -1;
}

static struct run_call *run_call_new(struct call *call, struct error *err)
{
    struct run_call *rc = calloc(1, sizeof(*rc));

    if (!rc || !(rc->content = content_new(server_config(call_server(call))->structured))) {
        free(rc);
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "run_code");
        return NULL;
    }
    rc->call = call;
    rc->wants_progress = call_wants_progress(call);
    run_id_new(rc->id);
    return rc;
}

/* On failure rc->env is set all the same when it is known which one was meant. */
static int enter_session(struct run_call *rc, const struct arguments *args, struct error *err)
{
    bool made = false;

    rc->session = resolve(rc->call, args, &made, err);
    if (!rc->session) {
        rc->env = sessions_meant(server_sessions(call_server(rc->call)), args->session,
                                 args->environment);
        return -1;
    }
    session_begin(rc->session);
    rc->env = session_environment(rc->session);
    rc->hint = session_hint(rc->session, made);
    return 0;
}

static void start(struct call *call)
{
    struct arguments args = {0};
    struct error err = {0};
    struct run_call *rc;

    if (take_arguments(call, &args, &err) < 0 || !(rc = run_call_new(call, &err))) {
        call_fail(call, &err);
    } else if (enter_session(rc, &args, &err) == 0 && start_run(rc, &args, &err) == 0) {
        call_on_cancel(call, on_cancelled, rc);
    } else if (rc->env) {
        answer_refusal(rc, &err);
    } else {
        run_call_free(rc);
        call_fail(call, &err);
    }
    error_clear(&err);
}

const struct tool run_code_tool = {
    .name = "run_code",
    .title = "Run code",
    .description =
        "Runs Python (or a shell script, with language \"shell\") in an isolated sandbox and "
        "returns what it printed, the value of the last expression, figures and other rich "
        "output, and how it ended.\n"
        "- Variables, imports and files stay from call to call within a session; \"ephemeral\": "
        "true runs in a fresh sandbox that is thrown away.\n"
        "- End with an expression to see its value (a DataFrame, say); matplotlib figures are "
        "returned as images without a show().\n"
        "- Top-level await, %pip install and !command work. input() reads \"stdin\", or ends at "
        "once.\n"
        "- The working directory is /workspace; bring files in with add_share.\n"
        "- A run past timeout_seconds is interrupted; its variables are kept if it stops by "
        "itself.\n"
        "- Long output is cut in the middle; the note says which file has all of it.",
    .schema = "tools/run_code",
    .output_schema = "results/run_code",
    .read_only = false,
    .destructive = true,
    .idempotent = false,
    .open_world = true,
    .start = start,
};
