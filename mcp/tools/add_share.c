#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/registry.h"
#include "mcp/host_path.h"
#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/tools.h"
#include "mcp/tools/result.h"

struct share_call {
    struct call *call;
    struct session *session; /* NULL until it is resolved */
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

static int check_capabilities(const struct share_call *sc, struct error *err)
{
    const struct place *place = session_place(sc->session);

    if (sc->type == SHARE_COPY) {
        return place_needs(place, CAP_COPY, "a share of type copy", err);
    }
    if (place_needs(place, CAP_MOUNT, "a mount instead of a copy", err) < 0) {
        return -1;
    }
    return sc->read_only ? 0
                         : place_needs(place, CAP_MOUNT_WRITE, "a mount with read_only false", err);
}

/* The sentence that says what is where. */
static char *describe(const struct share_call *sc, const struct share *share)
{
    const char *kind = share->is_directory ? "directory" : "file";
    bool started = executor_started(session_executor(sc->session));
    char *text;
    int n;

    if (sc->type == SHARE_MOUNT) {
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
    return check_capabilities(sc, err);
}

static int add(struct share_call *sc, const json_t *roots, struct error *err)
{
    const struct config *config = server_config(call_server(sc->call));
    struct share *share;
    bool is_directory;
    char *path;
    int fd;

    if (host_path_open(config, roots, sc->source, &fd, &path, &is_directory, err) < 0) {
        return -1;
    }
    share = share_new(sc->type, fd, path, sc->dest, sc->read_only);
    free(path);
    if (!share) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "share %s", sc->dest);
    }
    if (enter_session(sc, err) < 0) {
        share_free(share);
        return -1;
    }
    sc->text = describe(sc, share);
    call_on_cancel(sc->call, on_cancelled, sc);
    session_add_share(sc->session, share, on_progress, on_added, sc);
    return 0;
}

static void on_roots(void *data, const json_t *paths, const struct error *roots_err)
{
    struct share_call *sc = data;
    struct error err = {0};

    (void)roots_err; /* a client without an answer offers no roots */
    if (add(sc, paths, &err) < 0) {
        fail(sc, &err);
    }
    error_clear(&err);
}

static int refuse_cloud(struct error *err)
{
    char *others = backends_with(CAP_CLOUD);

    error_set(err, ERROR_UNSUPPORTED,
              "type \"cloud\" is not supported here. Backends that have it: %s. Use \"copy\" or "
              "\"mount\" with a path of this machine",
              others ? others : "?");
    free(others);
    return -1;
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
    if (strcmp(type, "cloud") == 0) {
        return refuse_cloud(err);
    }
    if (!source) {
        return error_set(err, ERROR_INVALID,
                         "source is missing: a share of type \"%s\" needs the absolute path of a "
                         "file or directory on this machine",
                         type);
    }
    sc->type = strcmp(type, "mount") == 0 ? SHARE_MOUNT : SHARE_COPY;
    sc->source = source;
    sc->read_only = argument_bool(call, "read_only", true);
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
        if (take_arguments(sc, &err) < 0) {
            fail(sc, &err);
        } else {
            call_roots(call, on_roots, sc);
        }
    }
    error_clear(&err);
}

const struct tool add_share_tool = {
    .name = "add_share",
    .title = "Add a share",
    .description =
        "Brings a file or directory of this machine into a session's sandbox, at dest. It must lie "
        "where the owner or the client allows.",
    .schema = "tools/add_share",
    .read_only = false,
    .destructive = false,
    .idempotent = false,
    .open_world = false,
    .start = start,
};
