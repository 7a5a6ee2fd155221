#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "mcp/server.h"
#include "mcp/session_secrets.h"
#include "mcp/tools/result.h"
#include "mcp/tools/run_call.h"
#include "mcp/tools/sessions/session_tools.h"

/* create_session with `attach`: a session that another server has left goes on in this one. */
struct attach_call {
    struct call *call;
    struct session *session;
    struct run *run;
    struct secret_wait secrets; /* before that: it may print them as soon as it is reached */
};

static void on_waiting(void *data, const char *what)
{
    struct attach_call *ac = data;

    call_progress(ac->call, what);
}

static void on_cancelled(void *data)
{
    struct attach_call *ac = data;

    run_cancel(ac->run);
}

static void answer(struct call *call, struct session *s)
{
    json_t *facts = session_facts(s, 0);
    char *ports = session_take_ports(s);
    char *text = string_format(
        "Session %s is attached, in environment \"%s\": its variables and files are as they were "
        "left. Pass \"session\": \"%s\" to the other tools. It ends at %s, or after %g s without "
        "use; variables of env count when they are given with attach.%s%s",
        session_id(s), session_environment(s)->name, session_id(s),
        json_string_value(json_object_get(facts, "ends_at")),
        session_environment(s)->idle_timeout_seconds, ports ? " " : "", ports ? ports : "");

    session_tool_say(call, session_id(s), text ? text : "The session is attached.");
    free(text);
    free(ports);
    json_decref(facts);
}

/* One that cannot be reached now may be there still; it stays listed. */
static void give_up(struct call *call, struct session *s, const struct outcome *outcome)
{
    const char *why = outcome->note           ? outcome->note
                      : outcome->error.evalue ? outcome->error.evalue
                                              : cause_name(outcome->cause);
    struct error err = {0};

    error_set(&err, ERROR_LOST,
              session_is_sought(s)
                  ? "session \"%s\" could not be attached: %s. It was left as it is; try again"
                  : "session \"%s\" is gone, and its state with it: %s. Make another one with "
                    "create_session",
              session_id(s), why);
    call_fail(call, &err);
    error_clear(&err);
    if (session_executor(s)) {
        session_finish(s, true, NULL, NULL, NULL);
    }
}

static void on_done(void *data, const struct outcome *outcome)
{
    struct attach_call *ac = data;
    bool began =
        outcome->cause == CAUSE_OK || outcome->cause == CAUSE_ERROR || outcome->cause == CAUSE_EXIT;

    if (began && session_executor(ac->session)) {
        answer(ac->call, ac->session);
    } else {
        give_up(ac->call, ac->session, outcome);
    }
    free(ac);
}

static int check_alone(const struct call *call, struct error *err)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)call_arguments(call), key, value)
    {
        if (strcmp(key, "attach") != 0 && strcmp(key, "env") != 0 && strcmp(key, "start") != 0) {
            return error_set(
                err, ERROR_INVALID,
                "%s: a session that is attached is what it was made as; only env goes "
                "with attach. Leave out one of them (update_session changes name, tags "
                "and timeout)",
                key);
        }
    }
    return run_env_check(json_object_get(call_arguments(call), "env"), err);
}

static void fail(struct call *call, struct session *s, const struct error *err)
{
    call_fail(call, err);
    if (s && session_executor(s)) {
        session_finish(s, true, NULL, NULL, NULL);
    }
}

static int reach(struct attach_call *ac, struct error *err)
{
    static const struct session_start how = {on_waiting, on_done};

    ac->run = session_start(ac->session, &how, ac, err);
    if (!ac->run) {
        return -1;
    }
    call_on_cancel(ac->call, on_cancelled, ac);
    return 0;
}

static int wrap_secrets(const struct session *s, struct error *err)
{
    return error_wrap(err,
                      "session \"%s\" was not attached and is left as it is, since what it prints "
                      "could not be masked",
                      session_id(s));
}

static void on_secrets(void *data, const struct error *failed)
{
    struct attach_call *ac = data;
    struct session *s = ac->session;
    struct error err = {0};

    call_on_cancel(ac->call, NULL, NULL);
    if (failed) {
        error_copy(&err, failed);
        wrap_secrets(s, &err);
    } else if (session_executor(s)) {
        reach(ac, &err);
    } else {
        error_set(&err, ERROR_LOST, "session \"%s\" was ended meanwhile", session_id(s));
    }
    if (err.kind != ERROR_NONE) {
        fail(ac->call, s, &err);
        free(ac);
    }
    error_clear(&err);
    session_end(s);
}

static void on_cancelled_waiting(void *data)
{
    struct attach_call *ac = data;
    struct error err = {0};

    session_forget_secrets(ac->session, &ac->secrets);
    error_set(&err, ERROR_LOST, "the call was taken back");
    on_secrets(ac, &err);
    error_clear(&err);
}

/* Its secrets first, and then the sandbox. */
static int begin(struct call *call, struct session *s, struct error *err)
{
    struct attach_call *ac = malloc(sizeof(*ac));
    int r;

    if (!ac) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "create_session");
    }
    *ac = (struct attach_call){.call = call, .session = s};
    ac->secrets = (struct secret_wait){.ready = on_secrets, .data = ac};
    r = session_need_secrets(s, &ac->secrets, err);
    if (r == 1) {
        session_begin(s);
        call_progress(call, "reading the session's secrets");
        call_on_cancel(call, on_cancelled_waiting, ac);
        return 0;
    }
    r = r < 0 ? wrap_secrets(s, err) : reach(ac, err);
    if (r < 0) {
        free(ac);
    }
    return r;
}

bool attach_session_start(struct call *call)
{
    const json_t *arguments = call_arguments(call);
    struct error err = {0};
    struct session *s = NULL;
    const char *id;

    if (!json_object_get(arguments, "attach")) {
        return false;
    }
    if (argument_name(call, "attach", &id, &err) == 0 && check_alone(call, &err) == 0) {
        s = sessions_attach(server_sessions(call_server(call)), id,
                            json_object_get(arguments, "env"), &err);
    }
    if (!s || begin(call, s, &err) < 0) {
        fail(call, s, &err);
    }
    error_clear(&err);
    return true;
}
