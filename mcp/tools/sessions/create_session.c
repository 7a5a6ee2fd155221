#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/place.h"
#include "mcp/consent.h"
#include "mcp/policy_ask.h"
#include "mcp/server.h"
#include "mcp/session_tags.h"
#include "mcp/snapshots.h"
#include "mcp/tools/result.h"
#include "mcp/tools/run_call.h"
#include "mcp/tools/sessions/session_tools.h"

enum {
    VARIABLES_CAP = 256,
    VARIABLES_BYTES = 64 * 1024, /* of all of them: each run takes them along */
};

static int check_variables(json_t *env, struct error *err)
{
    size_t bytes = env ? json_dumpb(env, NULL, 0, JSON_COMPACT) : 0;

    if (json_object_size(env) > VARIABLES_CAP || bytes > VARIABLES_BYTES) {
        return error_set(err, ERROR_INVALID,
                         "env has %zu variables in %zu bytes, at most %d in %d are allowed for a "
                         "session; pass more with a run",
                         json_object_size(env), bytes, VARIABLES_CAP, VARIABLES_BYTES);
    }
    return run_env_check(env, err);
}

/* The session's name and tags, checked. `tags` is the caller's. */
static int take_labels(const struct call *call, const char **name, json_t **tags, struct error *err)
{
    const json_t *wanted = json_object_get(call_arguments(call), "tags");

    if (argument_name(call, "name", name, err) < 0 ||
        (*name && session_name_check(*name, err) < 0)) {
        return -1;
    }
    return wanted ? session_tags_merge(NULL, wanted, tags, err) : 0;
}

/* What is asked for, with what a snapshot comes to; to be freed, NULL with an error. */
static json_t *find_wishes(struct call *call, struct error *err)
{
    struct server *server = call_server(call);
    const char *name;
    json_t *wishes = NULL;

    if (argument_name(call, "environment", &name, err) < 0 ||
        argument_name(call, "snapshot", &name, err) < 0) {
        return NULL;
    }
    (void)snapshots_wishes(server_snapshots(server), server_config(server), call_arguments(call),
                           &wishes, err);
    return wishes;
}

/* The configured environment that is meant, NULL with an error. */
static const struct environment *find_base(struct call *call, const json_t *wishes,
                                           struct error *err)
{
    const struct config *config = server_config(call_server(call));
    const char *name = json_string_value(json_object_get(wishes, "environment"));

    return name ? config_environment(config, name, err) : config->default_environment;
}

static const struct policy *policy_of(struct call *call)
{
    return &server_config(call_server(call))->policy;
}

/* An image that is none to anybody's knowledge. */
static void explain(const json_t *wishes, struct error *err)
{
    const json_t *snapshot = json_object_get(wishes, "snapshot");

    if (snapshot && err->kind == ERROR_REFUSED &&
        json_equal(snapshot, json_object_get(wishes, "image"))) {
        error_wrap(err, "the snapshot was not taken in this environment by this server, so it "
                        "counts as an image");
    }
}

static struct session *create(struct call *call, json_t *wishes, bool consented, struct error *err)
{
    const struct policy *policy = consented ? &policy_of(call)->ask->most : policy_of(call);
    struct server *server = call_server(call);
    struct derived derived = {0};
    struct session_options options = {
        .base = find_base(call, wishes, err),
        .derived = &derived,
        .variables = json_object_get(wishes, "env"),
        .wishes = wishes,
        .consented = consented,
    };
    struct session *s = NULL;

    if (options.base && check_variables(options.variables, err) == 0 &&
        take_labels(call, &options.name, &options.tags, err) == 0 &&
        policy_derive(policy, options.base, wishes, &derived, err) == 0) {
        s = sessions_create(server_sessions(server), &options, err);
    }
    explain(wishes, err);
    json_decref(options.tags);
    derived_deinit(&derived);
    return s;
}

static struct session *create_wished(struct call *call, bool consented, struct error *err)
{
    json_t *wishes = find_wishes(call, err);
    struct session *s = wishes ? create(call, wishes, consented, err) : NULL;

    json_decref(wishes);
    return s;
}

static void answer(struct call *call, struct session *s, bool started)
{
    json_t *facts = session_facts(s, 0);
    const char *name = json_string_value(json_object_get(facts, "name"));
    const char *snapshot = session_environment(s)->snapshot;
    char *ports = session_take_ports(s);
    char *text = string_format(
        "Session %s%s%s%s is made, in environment \"%s\": pass \"session\": \"%s\" to the other "
        "tools. %s%s%s%s It ends at %s, or after %g s without use.%s%s",
        session_id(s), name ? " (" : "", name ? name : "", name ? ")" : "",
        session_environment(s)->name, session_id(s),
        started ? "Its sandbox is started." : "Its sandbox is started by the first run.",
        snapshot ? " It begins with the files of snapshot " : "", snapshot ? snapshot : "",
        snapshot ? ", without variables." : "",
        json_string_value(json_object_get(facts, "ends_at")),
        session_environment(s)->idle_timeout_seconds, ports ? " " : "", ports ? ports : "");

    session_tool_say(call, session_id(s), text ? text : "The session is made.");
    free(text);
    free(ports);
    json_decref(facts);
}

/* --- its start, by a run of nothing --- */

struct create_call {
    struct call *call;
    struct session *session;
    struct run *run;
};

static void on_waiting(void *data, const char *what)
{
    struct create_call *cc = data;

    call_progress(cc->call, what);
}

/* What did not start is not kept: nobody would know that it is there. */
static void give_up(struct create_call *cc, const struct outcome *outcome)
{
    struct session *s = cc->session;
    bool is_there = session_executor(s) != NULL;
    struct error err = {0};

    error_set(&err, ERROR_LOST, "no session was made, since its sandbox did not start: %s",
              outcome->note           ? outcome->note
              : outcome->error.evalue ? outcome->error.evalue
                                      : cause_name(outcome->cause));
    call_fail(cc->call, &err);
    error_clear(&err);
    session_end(s);
    if (is_there) {
        session_finish(s, true, NULL, NULL, NULL);
    }
}

static void on_done(void *data, const struct outcome *outcome)
{
    struct create_call *cc = data;

    /* How such a run ends says nothing, once it has begun. */
    if (outcome->cause == CAUSE_OK || outcome->cause == CAUSE_ERROR ||
        outcome->cause == CAUSE_EXIT) {
        answer(cc->call, cc->session, true);
        session_end(cc->session);
    } else {
        give_up(cc, outcome);
    }
    free(cc);
}

static void on_cancelled(void *data)
{
    struct create_call *cc = data;

    run_cancel(cc->run);
}

static const struct run_events events = {.on_waiting = on_waiting, .on_done = on_done};

static int start_session(struct call *call, struct session *s, struct error *err)
{
    struct create_call *cc = calloc(1, sizeof(*cc));
    char id[RUN_ID_SIZE];
    /* A command where there are any: it counts as no execution. */
    static const char *const nothing[] = {"true", NULL};
    struct run_request request = {
        .id = id,
        .argv = place_capabilities(session_place(s)) & CAP_COMMANDS ? nothing : NULL,
        .language = "python",
        .code = "",
        .timeout_seconds = session_environment(s)->max_timeout_seconds,
    };

    if (!cc) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "create_session");
    }
    run_id_new(id);
    *cc = (struct create_call){.call = call, .session = s};
    cc->run = executor_run(session_executor(s), &request, &events, cc, err);
    if (!cc->run) {
        free(cc);
        return -1;
    }
    session_begin(s);
    call_on_cancel(call, on_cancelled, cc);
    return 0;
}

static int check_start(const struct call *call, struct error *err)
{
    const json_t *mode = json_object_get(call_arguments(call), "mode");

    if (argument_bool(call, "start", false) && mode &&
        strcmp(json_string_value(mode), "ephemeral") == 0) {
        return error_set(err, ERROR_INVALID,
                         "start is true and mode is ephemeral, where each run has a sandbox of its "
                         "own and nothing can be started before; leave one of them out");
    }
    return 0;
}

/* Makes it and answers, or fails with what is in `err` when there is none. */
static void go_on(struct call *call, struct session *s, struct error *err)
{
    bool starts =
        s && argument_bool(call, "start", false) && session_environment(s)->mode == MODE_STATEFUL;

    if (s && !starts) {
        answer(call, s, false);
    } else if (!s || start_session(call, s, err) < 0) {
        call_fail(call, err);
        if (s) {
            session_finish(s, true, NULL, NULL, NULL);
        }
    }
}

/* --- what a person is asked about --- */

static void on_allowed(struct call *call, void *data)
{
    struct error err = {0};

    (void)data;
    go_on(call, create_wished(call, true, &err), &err);
    error_clear(&err);
}

static char *question_text(struct call *call, const struct environment *base, const char *wants)
{
    const char *name = json_string_value(json_object_get(call_arguments(call), "name"));

    return string_format(
        "The agent asks for more than it may have by itself, for a new session%s%s "
        "in environment %s:\n%s\n\nIt counts for that session. Say no if you did "
        "not expect this.",
        name ? " called " : "", name ? name : "", base->name, wants);
}

/* "\n- 4096 MiB of memory\n- …", to be freed; NULL when out of memory. */
static char *lines_of(const json_t *wants)
{
    char *text = strdup("");
    size_t index;
    json_t *line;

    json_array_foreach(wants, index, line)
    {
        char *more = text ? string_format("%s\n- %s", text, json_string_value(line)) : NULL;

        free(text);
        text = more;
    }
    return text;
}

/* False: it is not to be asked for, `err` stands. */
static bool ask(struct call *call, const struct error *err)
{
    json_t *wishes = err->kind == ERROR_REFUSED ? find_wishes(call, NULL) : NULL;
    const struct environment *base = wishes ? find_base(call, wishes, NULL) : NULL;
    json_t *wants = base ? policy_ask_wants(policy_of(call), base, wishes) : NULL;
    char *lines = wants ? lines_of(wants) : NULL;
    struct consent_question question = {.go_on = on_allowed};

    if (wants) {
        question.message = lines ? question_text(call, base, lines) : NULL;
        question.what =
            string_format("a session with %s%s", json_string_value(json_array_get(wants, 0)),
                          json_array_size(wants) > 1 ? " and more" : "");
        call_ask(call, &question, err);
    }
    free(lines);
    json_decref(wants);
    json_decref(wishes);
    return wants != NULL;
}

static void start(struct call *call)
{
    struct error err = {0};
    struct session *s;

    if (attach_session_start(call)) {
        return;
    }
    s = check_start(call, &err) == 0 ? create_wished(call, false, &err) : NULL;

    if (s || !ask(call, &err)) {
        go_on(call, s, &err);
    }
    error_clear(&err);
}

const struct tool create_session_tool = {
    .name = "create_session",
    .title = "Create a session",
    .description = "Within the owner's limits. Its name works as its id does.",
    .schema = "tools/create_session",
    .read_only = false,
    .destructive = false,
    .idempotent = false,
    .open_world = true,
    .start = start,
};
