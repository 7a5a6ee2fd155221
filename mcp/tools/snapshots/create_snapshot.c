#include <errno.h>
#include <stdlib.h>

#include "backends/base/strings.h"
#include "backends/registry.h"
#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/snapshots.h"
#include "mcp/tools/result.h"
#include "mcp/tools/sessions/session_tools.h"
#include "mcp/tools/snapshots/snapshots_tools.h"

struct create_call {
    struct call *call;
    struct session *session;
    struct snapshot *snapshot;
    struct run *run;
};

static struct snapshots *snapshots_of(struct create_call *cc)
{
    return server_snapshots(call_server(cc->call));
}

static void on_waiting(void *data, const char *what)
{
    struct create_call *cc = data;

    call_progress(cc->call, what);
}

static void on_started(void *data)
{
    struct create_call *cc = data;

    call_progress(cc->call, "taking a snapshot of the session");
}

/* ---- the answer ---- */

static void answer(struct create_call *cc)
{
    static const char without_files[] = "Variables and processes are not in it, nor what is "
                                        "mounted (buckets, volumes); copies are.";
    static const char without_memory[] =
        "What is mounted (buckets, volumes) and connections are not in it. This session's next run "
        "goes on from it, in another sandbox.";
    json_t *facts = snapshot_facts(cc->snapshot);
    const char *name = json_string_value(json_object_get(facts, "name"));
    const char *id = snapshot_id(cc->snapshot);
    bool memory = json_is_true(json_object_get(facts, "memory"));
    char *text = string_format(
        "Snapshot %s%s%s%s has the %sfiles of session %s: create_session with \"snapshot\": \"%s\" "
        "makes sessions that begin with them. %s Backend %s keeps it until %s, also when this "
        "server has ended.",
        id, name ? " (" : "", name ? name : "", name ? ")" : "", memory ? "variables and " : "",
        session_id(cc->session), name ? name : id, memory ? without_memory : without_files,
        snapshot_base(cc->snapshot)->backend,
        json_string_value(json_object_get(facts, "expires_at")));

    session_tool_say(cc->call, session_id(cc->session), text ? text : id);
    free(text);
    json_decref(facts);
}

static void fail(struct create_call *cc, const struct outcome *outcome)
{
    struct error err = {0};

    snapshots_drop(snapshots_of(cc), cc->snapshot);
    error_set(&err, ERROR_LOST, "no snapshot of session \"%s\" was made (%s): %s",
              session_id(cc->session), cause_name(outcome->cause),
              outcome->note ? outcome->note : "the backend does not say why");
    call_fail_in(cc->call, cc->session, &err, NULL);
    error_clear(&err);
}

static void on_done(void *data, const struct outcome *outcome)
{
    struct create_call *cc = data;

    if (outcome->cause == CAUSE_OK && snapshots_made(cc->snapshot, outcome->snapshot) == 0) {
        log_write(server_log(call_server(cc->call)), LOG_LEVEL_INFO, "snapshot %s of session %s",
                  outcome->snapshot, session_id(cc->session));
        answer(cc);
    } else {
        fail(cc, outcome);
    }
    session_end(cc->session);
    free(cc);
}

static void on_cancelled(void *data)
{
    struct create_call *cc = data;

    run_cancel(cc->run);
}

/* ---- the call ---- */

static int check_session(struct session *s, struct error *err)
{
    if (!session_executor(s)) {
        return error_set(err, ERROR_LOST, "session \"%s\" has ended", session_id(s));
    }
    if (place_needs(session_place(s), CAP_SNAPSHOT, "a snapshot of a session", err) < 0) {
        return -1;
    }
    if (session_environment(s)->mode == MODE_EPHEMERAL) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "session \"%s\" is ephemeral: each of its runs has a sandbox of its own, "
                         "and nothing is there between them to be kept",
                         session_id(s));
    }
    return 0;
}

/* What the backend could do, and the environment's settings do not have it do, can be mended. */
static int check_memory(const struct call *call, struct session *s, struct error *err)
{
    const struct place *place = session_place(s);

    if (!argument_bool(call, "memory", false) || place_capabilities(place) & CAP_SNAPSHOT_MEMORY) {
        return 0;
    }
    if (place->ops->capabilities & CAP_SNAPSHOT_MEMORY) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "memory: the sandboxes of environment \"%s\" are not made so that their "
                         "variables can be kept; its setting \"memory_snapshots\": true does "
                         "that. Or leave memory out, and write what is needed to a file first, "
                         "with pickle say",
                         session_environment(s)->name);
    }
    return place_needs(place, CAP_SNAPSHOT_MEMORY, "a snapshot with variables", err);
}

static int begin(struct create_call *cc, struct error *err)
{
    static const struct run_events events = {
        .on_waiting = on_waiting, .on_started = on_started, .on_done = on_done};
    const struct snapshot_request request = {.ttl_seconds = SNAPSHOT_SECONDS,
                                             .memory = argument_bool(cc->call, "memory", false)};
    char id[RUN_ID_SIZE];

    run_id_new(id);
    cc->run = executor_snapshot(session_executor(cc->session), id, &request, SNAPSHOT_LIMIT_SECONDS,
                                &events, cc, err);
    if (!cc->run) {
        snapshots_drop(snapshots_of(cc), cc->snapshot);
        return -1;
    }
    session_begin(cc->session);
    call_on_cancel(cc->call, on_cancelled, cc);
    return 0;
}

static int create(struct call *call, struct error *err)
{
    struct session *s = session_argument(call, err);
    struct snapshot_source source = {0};
    struct create_call *cc;

    if (!s || check_session(s, err) < 0 || check_memory(call, s, err) < 0 ||
        argument_name(call, "name", &source.name, err) < 0) {
        return -1;
    }
    cc = calloc(1, sizeof(*cc));
    if (!cc) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "create_snapshot");
    }
    *cc = (struct create_call){.call = call, .session = s};
    source.session = session_id(s);
    source.base = session_base(s);
    source.env = session_environment(s);
    source.memory = argument_bool(call, "memory", false);
    cc->snapshot = snapshots_begin(snapshots_of(cc), &source, err);
    if (!cc->snapshot || begin(cc, err) < 0) {
        free(cc);
        return -1;
    }
    return 0;
}

static void start(struct call *call)
{
    struct error err = {0};

    if (create(call, &err) < 0) {
        call_fail(call, &err);
    }
    error_clear(&err);
}

const struct tool create_snapshot_tool = {
    .name = "create_snapshot",
    .title = "Create a snapshot",
    .description = "Keeps a session's files, for create_session.",
    .schema = "tools/create_snapshot",
    .read_only = false,
    .destructive = false,
    .idempotent = false,
    .open_world = true,
    .start = start,
};
