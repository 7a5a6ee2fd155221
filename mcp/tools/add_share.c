#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/registry.h"
#include "mcp/cloud_share.h"
#include "mcp/consent.h"
#include "mcp/host_path.h"
#include "mcp/policy_ask.h"
#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/tools.h"
#include "mcp/tools/result.h"

struct share_call {
    struct call *call;
    struct session *session; /* NULL until it is resolved */
    struct share *share;     /* what a person is asked about */
    char *text;              /* the answer when it is there */
    char *hint;
    enum share_type type;
    const char *source; /* borrowed from the arguments */
    char *dest;
    bool read_only;
};

static void share_call_free(struct share_call *sc)
{
    if (sc->session) {
        session_end(sc->session);
    }
    share_free(sc->share);
    free(sc->text);
    free(sc->hint);
    free(sc->dest);
    free(sc);
}

/* Answers an error; with the session when there is one already. */
static void fail(struct share_call *sc, const struct error *err)
{
    if (sc->session) {
        call_fail_in(sc->call, sc->session, err, sc->hint);
    } else {
        call_fail(sc->call, err);
    }
    share_call_free(sc);
}

static void on_progress(void *data, const char *line)
{
    struct share_call *sc = data;

    call_progress(sc->call, line);
}

/* A mount is only noted, and a copy of before the start too: their answer is on its way. */
static void on_cancelled(void *data)
{
    struct share_call *sc = data;

    session_cancel_share(sc->session, sc);
}

static void on_added(void *data, const struct error *err)
{
    struct share_call *sc = data;

    if (err) {
        fail(sc, err);
        return;
    }
    call_finish_text(sc->call, sc->session, sc->text ? sc->text : "The share was added.", sc->hint);
    share_call_free(sc);
}

static int check_capabilities(const struct share_call *sc, const struct session *s,
                              struct error *err)
{
    return place_takes_share(session_place(s), sc->type, sc->read_only, err);
}

/* A mount that is not the source itself says so. */
static bool is_uploaded(const struct share_call *sc, const struct session *s)
{
    return sc->type == SHARE_MOUNT && place_copies_mounts(session_place(s));
}

/* The sentence that says what is where. */
static char *describe(const struct share_call *sc, const struct share *share)
{
    const char *kind = share->is_directory ? "directory" : "file";
    bool started = executor_started(session_executor(sc->session));
    char *text;
    int n;

    if (sc->type == SHARE_CLOUD) {
        n = asprintf(&text,
                     sc->read_only ? "The bucket %s is read-only at %s from the next run on."
                                   : "The bucket %s is at %s from the next run on; the code can "
                                     "change what is in it.",
                     share->source, share->dest);
    } else if (is_uploaded(sc, sc->session)) {
        n = asprintf(&text,
                     "The %s %s will be read-only at %s from the next run on: a copy that is "
                     "uploaded when the sandbox starts. Later changes on this machine are not "
                     "seen until reset_session, and empty folders are left out.",
                     kind, share->source, share->dest);
    } else if (sc->type == SHARE_MOUNT) {
        n = asprintf(&text,
                     sc->read_only
                         ? "The %s %s is mounted read-only at %s from the next run on."
                         : "The %s %s is mounted at %s from the next run on; the code can change "
                           "it on this machine.",
                     kind, share->source, share->dest);
    } else {
        n = asprintf(&text,
                     "A copy of the %s %s %s %s. The code may change the copy; the source is never "
                     "written.",
                     kind, share->source, started ? "is at" : "will be there for the next run, at",
                     share->dest);
    }
    return n < 0 ? NULL : text;
}

/* Takes the session that is meant; one is made only when all else is in order. */
static int enter_session(struct share_call *sc, struct error *err)
{
    struct call *call = sc->call;
    const char *name;
    bool made;

    if (argument_name(call, "session", &name, err) < 0) {
        return -1;
    }
    sc->session = sessions_resolve(server_sessions(call_server(call)), call_era(call), name, NULL,
                                   &made, err);
    if (!sc->session) {
        return -1;
    }
    session_begin(sc->session);
    sc->hint = session_hint(sc->session, made);
    return check_capabilities(sc, sc->session, err);
}

/* Takes the share, in either case. */
static int add(struct share_call *sc, struct share *share, struct error *err)
{
    if (enter_session(sc, err) < 0) {
        share_free(share);
        return -1;
    }
    sc->text = describe(sc, share);
    call_on_cancel(sc->call, on_cancelled, sc);
    session_add_share(sc->session, share, on_progress, on_added, sc);
    return 0;
}

/* Opens the source under the roots. NULL with an error. */
static struct share *open_source(const struct share_call *sc, const json_t *roots,
                                 struct error *err)
{
    struct share *share;
    bool is_directory;
    char *path;
    int fd;

    if (host_path_open(server_config(call_server(sc->call)), roots, sc->source, &fd, &path,
                       &is_directory, err) < 0) {
        return NULL;
    }
    share = share_new(sc->type, fd, path, sc->dest, sc->read_only);
    free(path);
    if (!share) {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "share %s", sc->dest);
    }
    return share;
}

/* --- a source that a person is asked about --- */

static void on_allowed(struct call *call, void *data)
{
    struct share_call *sc = data;
    struct share *share = sc->share;
    struct error err = {0};

    sc->call = call;
    sc->share = NULL;
    share->consented = true;
    if (add(sc, share, &err) < 0) {
        fail(sc, &err);
    }
    error_clear(&err);
}

static void on_refused(void *data)
{
    share_call_free(data);
}

/* "session s-7k2m9q4d"; to be freed. NULL with an error when the one that is named is not there, or
 * cannot have such a share: nobody is asked for nothing. */
static char *name_session(const struct share_call *sc, struct error *err)
{
    struct call *call = sc->call;
    struct session *s;
    const char *name;
    char *text;

    if (argument_name(call, "session", &name, err) < 0) {
        return NULL;
    }
    if (!name) {
        text = strdup(call_era(call) == ERA_LEGACY ? "the default session" : "a new session");
    } else {
        s = sessions_find(server_sessions(call_server(call)), name, err);
        if (!s || check_capabilities(sc, s, err) < 0) {
            return NULL;
        }
        text = string_format("session %s", session_id(s));
    }
    if (!text) {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "add_share");
    }
    return text;
}

/* The backend of the session that is meant, which need not be there yet; NULL: none is known. */
static int find_meant(const struct share_call *sc, const struct backend **ret, struct error *err)
{
    struct sessions *sessions = server_sessions(call_server(sc->call));
    const struct environment *env;
    const struct session *s;
    const char *name;

    if (argument_name(sc->call, "session", &name, err) < 0) {
        return -1;
    }
    s = name ? sessions_find(sessions, name, err) : NULL;
    if (name && !s) {
        return -1;
    }
    env = s ? session_environment(s) : sessions_meant(sessions, NULL, NULL);
    *ret = env ? backend_find(env->backend, NULL) : NULL;
    return 0;
}

static const char *how(const struct share_call *sc)
{
    const struct backend *backend = NULL;

    if (sc->type == SHARE_COPY) {
        return "a copy; the original stays as it is";
    }
    if (find_meant(sc, &backend, NULL) == 0 && backend &&
        !(backend->ops->capabilities & CAP_MOUNT)) {
        return "a copy that is uploaded; the original stays as it is";
    }
    return sc->read_only ? "the original itself, to be read and not changed"
                         : "the original itself, which the code MAY CHANGE AND DELETE";
}

static void ask(struct share_call *sc, const char *session, const struct error *refusal)
{
    char *path = consent_quote(sc->share->source), *dest = consent_quote(sc->dest);
    const char *kind = sc->share->is_directory ? "folder" : "file";
    struct consent_question question = {
        .what = path ? string_format("source %s", path) : NULL,
        .go_on = on_allowed,
        .drop = on_refused,
        .data = sc,
    };

    if (path && dest) {
        question.message = string_format(
            "The agent asks for a %s of this computer that is not shared.\n\n%s: %s\nWhat it "
            "gets: %s\nWhere: %s in %s\n\nIt counts for this one time. Say no if you did not "
            "expect this.",
            kind, sc->share->is_directory ? "Folder" : "File", path, how(sc), dest, session);
    }
    free(path);
    free(dest);
    call_ask(sc->call, &question, refusal);
}

/* When the owner lets it be asked for: opens the source, which is used as it was opened if a person
 * agrees, whatever its path leads to by then. 0: it is asked; -1: `err`, the refusal, may be a
 * better one. */
static int try_asking(struct share_call *sc, struct error *err)
{
    const struct policy_ask *asking = server_config(call_server(sc->call))->policy.ask;
    struct error other = {0};
    char *session;

    if (err->kind != ERROR_REFUSED || !asking || json_array_size(asking->shares) == 0) {
        return -1;
    }
    sc->share = open_source(sc, asking->shares, &other);
    session = sc->share ? name_session(sc, &other) : NULL;
    if (session) {
        ask(sc, session, err);
        free(session);
        return 0;
    }
    if (sc->share || other.kind != ERROR_REFUSED) {
        error_clear(err);
        *err = other;
    } else {
        error_clear(&other);
    }
    return -1;
}

static void on_roots(void *data, const json_t *paths, const struct error *roots_err)
{
    struct share_call *sc = data;
    struct error err = {0};
    struct share *share;
    int r;

    (void)roots_err; /* a client without an answer offers no roots */
    share = open_source(sc, paths, &err);
    r = share ? add(sc, share, &err) : try_asking(sc, &err);
    if (r < 0) {
        fail(sc, &err);
    }
    error_clear(&err);
}

/* Before policy is asked, and before a session is made: can the one that is meant have buckets? */
static int check_cloud(const struct share_call *sc, struct error *err)
{
    const struct backend *backend;
    char *others;

    if (find_meant(sc, &backend, err) < 0) {
        return -1;
    }
    if (backend && backend->ops->capabilities & CAP_CLOUD) {
        return 0;
    }
    others = backends_with(CAP_CLOUD);
    error_set(err, ERROR_UNSUPPORTED,
              "type \"cloud\" is not supported here. Backends that have it: %s. Use \"copy\" or "
              "\"mount\" with a path of this machine",
              others ? others : "?");
    free(others);
    return -1;
}

/* A bucket that the owner allows. */
static int add_bucket(struct share_call *sc, struct error *err)
{
    const struct policy *policy = &server_config(call_server(sc->call))->policy;
    json_t *allowed = check_cloud(sc, err) < 0
                          ? NULL
                          : cloud_share_allow(policy, call_arguments(sc->call), sc->read_only, err);
    struct share *share = allowed ? cloud_share_new(allowed, sc->dest, sc->read_only, err) : NULL;

    json_decref(allowed);
    return share ? add(sc, share, err) : -1;
}

/* The arguments that a schema cannot check by themselves. */
static int take_arguments(struct share_call *sc, struct error *err)
{
    const char *type = NULL, *source = NULL, *dest = NULL, *session = NULL;
    struct call *call = sc->call;

    if (argument_name(call, "type", &type, err) < 0 ||
        argument_name(call, "source", &source, err) < 0 ||
        argument_name(call, "dest", &dest, err) < 0 ||
        argument_name(call, "session", &session, err) < 0) {
        return -1;
    }
    sc->read_only = argument_bool(call, "read_only", true);
    if (strcmp(type, "cloud") == 0) {
        sc->type = SHARE_CLOUD;
        return share_check_dest(dest, &sc->dest, err);
    }
    if (!source) {
        return error_set(err, ERROR_INVALID,
                         "source is missing: a share of type \"%s\" needs the absolute path of a "
                         "file or directory on this machine",
                         type);
    }
    sc->type = strcmp(type, "mount") == 0 ? SHARE_MOUNT : SHARE_COPY;
    sc->source = source;
    return share_check_dest(dest, &sc->dest, err);
}

static void start(struct call *call)
{
    struct share_call *sc = calloc(1, sizeof(*sc));
    struct error err = {0};

    if (!sc) {
        error_set_code(&err, ERROR_INTERNAL, ENOMEM, "add_share");
        call_fail(call, &err);
    } else {
        sc->call = call;
        if (take_arguments(sc, &err) < 0 || (sc->type == SHARE_CLOUD && add_bucket(sc, &err) < 0)) {
            fail(sc, &err);
        } else if (sc->type != SHARE_CLOUD) {
            call_roots(call, on_roots, sc);
        }
    }
    error_clear(&err);
}

const struct tool add_share_tool = {
    .name = "add_share",
    .title = "Add a share",
    .description =
        "Brings a file or directory of this machine, or a bucket, into a session's sandbox.",
    .schema = "tools/add_share",
    .read_only = false,
    .destructive = false,
    .idempotent = false,
    .open_world = false,
    .start = start,
};
