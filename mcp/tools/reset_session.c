#include <errno.h>
#include <stdlib.h>

#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/tools.h"
#include "mcp/tools/result.h"

struct reset_call {
    struct call *call;
    struct session *session; /* NULL until the reset has begun */
    bool keep_shares;
    bool shares_unknown;
};

static struct session *find(struct call *call, struct error *err)
{
    struct sessions *sessions = server_sessions(call_server(call));
    const char *name;
    bool made;

    if (argument_name(call, "session", &name, err) < 0) {
        return NULL;
    }
    if (!name && call_era(call) == ERA_MODERN) {
        error_set(err, ERROR_INVALID,
                  "session is missing: say which one to reset (\"s-\" and 8 characters, from the "
                  "result of the call that made it)");
        return NULL;
    }
    return sessions_resolve(sessions, call_era(call), name, NULL, &made, err);
}

static const char *what_was_done(const struct reset_call *rc)
{
    if (!rc->keep_shares) {
        return "The session is as new: variables, files and shares are gone, a run that was going "
               "was cancelled. Mounts may be added until the next run.";
    }
    if (rc->shares_unknown) {
        return "The session is as new: variables and files are gone, a run that was going was "
               "cancelled. Shares of its environment, and those added since it was attached, come "
               "back with the next run; what was added before is not known to this server: bring "
               "it in again with add_share. Mounts may be added until the next run.";
    }
    return "The session is as new: variables and files are gone, a run that was going was "
           "cancelled. Its shares come back with the next run; mounts may be added until then.";
}

static void on_reset(void *data, const struct error *err)
{
    struct reset_call *rc = data;
    struct session *s = rc->session;
    struct call *call = rc->call;

    if (err) {
        call_fail_in(call, s, err, NULL);
    } else {
        call_finish_text(call, s, what_was_done(rc), NULL);
    }
    free(rc);
    session_end(s);
}

static void on_roots(void *data, const json_t *paths, const struct error *roots_err)
{
    struct reset_call *rc = data;
    struct call *call = rc->call;
    struct error err = {0};
    struct session *s = find(call, &err);

    (void)roots_err; /* a client without an answer offers no roots */
    if (!s) {
        call_fail(call, &err);
        free(rc);
    } else {
        rc->session = s;
        rc->shares_unknown = session_shares_unknown(s);
        session_begin(s);
        if (session_reset(s, paths, rc->keep_shares, on_reset, rc, &err) < 0) {
            on_reset(rc, &err);
        }
    }
    error_clear(&err);
}

static void start(struct call *call)
{
    struct reset_call *rc = calloc(1, sizeof(*rc));
    struct error err = {0};

    if (!rc) {
        error_set_code(&err, ERROR_INTERNAL, ENOMEM, "reset_session");
        call_fail(call, &err);
    } else if (!find(call, &err)) {
        free(rc);
        call_fail(call, &err);
    } else {
        rc->call = call;
        rc->keep_shares = argument_bool(call, "keep_shares", true);
        call_roots(call, on_roots, rc);
    }
    error_clear(&err);
}

const struct tool reset_session_tool = {
    .name = "reset_session",
    .title = "Reset a session",
    .description =
        "A fresh sandbox under the same id: variables, files and processes are gone, and a run "
        "that is going is cancelled. Shares are brought in again; if a source is gone, nothing is "
        "reset.",
    .schema = "tools/reset_session",
    .read_only = false,
    .destructive = true,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
