#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "backends/base/hex.h"
#include "backends/base/strings.h"
#include "mcp/session.h"
#include "mcp/session_again.h"
#include "mcp/session_private.h"
#include "mcp/session_tags.h"

enum {
    RECORD_VERSION = 1,
    LOG_LINES = 200, /* of what it printed between runs, in the record */
    LOG_BYTES = 16 * 1024,
    END_SECONDS = SESSION_FINISH_MS / 1000, /* for what goes on in one that is to end */
    KILL_SECONDS = 3,                       /* for one that answers */
};

/* --- one that is kept --- */

static int new_nonce(char nonce[SESSION_NONCE_SIZE], struct error *err)
{
    unsigned char bytes[(SESSION_NONCE_SIZE - 1) / 2];

    if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) {
        return error_set_code(err, ERROR_INTERNAL, errno, "a kept session");
    }
    hex_write(bytes, sizeof(bytes), nonce);
    return 0;
}

static json_int_t number(const json_t *record, const char *key)
{
    return json_integer_value(json_object_get(record, key));
}

/* It goes on with the age and the end that it had. */
static void take_record(struct session *s, const json_t *record)
{
    uint64_t now = session_wall_ms();
    const char *nonce = json_string_value(json_object_get(record, "nonce"));

    (void)snprintf(s->nonce, sizeof(s->nonce), "%s", nonce ? nonce : "");
    s->made_ms = (uint64_t)number(record, "made_ms");
    s->runs = (uint64_t)number(record, "runs");
    s->made_at -= now > s->made_ms ? now - s->made_ms : 0;
    s->end_at = s->made_at + ((uint64_t)number(record, "end_ms") - s->made_ms);
    s->where = json_incref(json_object_get(record, "where"));
    s->seeking = true;
}

/* What a session was asked to be; not what it is called, nor values that may be secrets. */
static json_t *wishes_of(const json_t *arguments)
{
    static const char *const others[] = {"attach", "env", "environment", "name", "start", "tags"};
    json_t *wishes = arguments ? json_deep_copy(arguments) : NULL;

    for (size_t i = 0; wishes && i < sizeof(others) / sizeof(*others); i++) {
        json_object_del(wishes, others[i]);
    }
    return wishes;
}

int session_take_kept(struct session *s, const struct session_options *options, struct error *err)
{
    struct kept_store *store;
    int r = 0;

    if (!options->record && !s->env->keep) {
        return 0;
    }
    store = kept_store_open(true, err);
    if (!store) {
        return error_wrap(err, "environment \"%s\" has \"keep\": true", s->env->name);
    }
    s->wishes = wishes_of(options->wishes);
    s->consented = options->consented;
    if (options->record) {
        s->kept = *options->hold;
        *options->hold = NULL;
        take_record(s, options->record);
        s->to_end = options->to_end;
    } else {
        r = new_nonce(s->nonce, err);
        s->kept = r == 0 ? kept_hold(store, s->id, err) : NULL;
    }
    kept_tag(store, s->id, s->nonce, s->tag);
    kept_store_free(store);
    return s->kept ? 0 : -1;
}

static json_t *names_of(const json_t *object)
{
    json_t *names = json_array(), *value;
    const char *name;

    json_object_foreach((json_t *)object, name, value)
    {
        json_array_append_new(names, json_string(name));
    }
    return names;
}

/* Values of variables may be secrets, and are not written anywhere. */
static json_t *record_of(const struct session *s)
{
    uint64_t end = s->made_ms + (s->end_at - s->made_at);

    return json_pack("{si ss ss* sO* ss ss sO* sb sO so sO ss sI sI sI}", "v", RECORD_VERSION, "id",
                     s->id, "name", s->name, "tags", s->tags, "environment", s->base->name,
                     "backend", s->base->backend, "wishes", s->wishes, "consented", s->consented,
                     "secrets", s->env->secrets, "variables", names_of(s->variables), "where",
                     s->where, "nonce", s->nonce, "made_ms", (json_int_t)s->made_ms, "end_ms",
                     (json_int_t)end, "runs", (json_int_t)s->runs);
}

void session_record(struct session *s)
{
    struct error err = {0};
    json_t *record;

    if (!s->kept || !s->where || s->seeking) {
        return;
    }
    record = record_of(s);
    if (record) {
        json_object_set_new(record, "log", session_log_tail(&s->log, LOG_LINES, LOG_BYTES));
    }
    if (!record || kept_write(s->kept, record, &err) < 0) {
        log_write(s->owner->log, LOG_LEVEL_WARNING, "session %s cannot be attached later: %s",
                  s->id, err.message ? err.message : "out of memory");
    }
    json_decref(record);
    error_clear(&err);
}

/* Its sandbox is there, or is gone. */
static void on_where(void *data, json_t *where)
{
    struct session *s = data;

    if (s->ended && !s->seeking) {
        return;
    }
    s->seeking = false;
    json_decref(s->where);
    s->where = json_incref(where);
    if (where) {
        session_record(s);
    } else {
        kept_forget(s->kept);
    }
}

void session_keep_executor(struct session *s, struct executor *e)
{
    const struct executor_kept kept = {s->tag, s->seeking ? s->where : NULL, s->to_end, on_where,
                                       s};

    if (s->kept && executor_keep_sandbox(e, &kept) < 0) {
        abort(); /* so few bytes */
    }
}

void session_forget_where(struct session *s)
{
    if (s->kept && !s->seeking) {
        json_decref(s->where);
        s->where = NULL;
        kept_forget(s->kept);
    }
}

void session_stop_executor(struct session *s, struct executor *e, executor_done done, void *data)
{
    if (s->kept && s->ended && s->owner->closing && !s->finishing) {
        session_record(s);
        s->left = executor_leave(e, done, data);
    } else {
        executor_close(e, done, data);
    }
}

void session_free_kept(struct session *s)
{
    kept_release(s->kept, !s->left && !s->seeking);
    s->kept = NULL;
    json_decref(s->where);
    json_decref(s->wishes);
    explicit_bzero(s->tag, sizeof(s->tag));
}

/* --- its start, by a run of nothing --- */

struct start {
    struct session *session;
    struct session_start how;
    void *data;
};

static void on_start_waiting(void *data, const char *what)
{
    struct start *start = data;

    if (start->how.on_waiting) {
        start->how.on_waiting(start->data, what);
    }
}

static void on_start_done(void *data, const struct outcome *outcome)
{
    struct start start = *(struct start *)data;

    free(data);
    start.how.done(start.data, outcome);
    session_end(start.session);
}

struct run *session_start(struct session *s, const struct session_start *how, void *data,
                          struct error *err)
{
    static const struct run_events events = {.on_waiting = on_start_waiting,
                                             .on_done = on_start_done};
    static const char *const nothing[] = {"true", NULL};
    struct start *start = malloc(sizeof(*start));
    char id[RUN_ID_SIZE];
    struct run *run;
    struct run_request request = {
        .id = id,
        .argv = place_capabilities(session_place(s)) & CAP_COMMANDS ? nothing : NULL,
        .language = "python",
        .code = "",
        .timeout_seconds = s->env->max_timeout_seconds,
    };

    if (!start) {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "the start of a session");
        return NULL;
    }
    *start = (struct start){s, *how, data};
    run_id_new(id);
    run = executor_run(s->executor, &request, &events, start, err);
    if (!run) {
        free(start);
        return NULL;
    }
    session_begin(s);
    return run;
}

/* --- attaching --- */

static int not_left(const char *id, struct error *err)
{
    return error_set(
        err, ERROR_NOT_FOUND,
        "there is no session \"%.64s\" to be attached. A session outlives its server "
        "where its environment says \"keep\": true (backend docker, backend modal, a "
        "Jupyter server at a url); all others, local ones too, end with the server that "
        "made them",
        id);
}

/* The record, and the hold on its session. -1 with an error. */
static int take(const char *id, json_t **ret_record, struct kept_hold **ret_hold, struct error *err)
{
    struct kept_store *store = kept_is_id(id) ? kept_store_open(false, err) : NULL;
    json_t *record = store ? kept_read(store, id, err) : NULL;
    struct kept_hold *hold = record ? kept_hold(store, id, err) : NULL;

    json_decref(record);
    record = hold ? kept_read(store, id, err) : NULL; /* as it is now that it is ours */
    kept_store_free(store);
    if (record) {
        *ret_record = record;
        *ret_hold = hold;
        return 0;
    }
    kept_release(hold, false);
    if (!kept_is_id(id) || !err || err->kind == ERROR_NOT_FOUND) {
        not_left(id, err);
    }
    return -1;
}

static const struct environment *environment_of(const struct sessions *sessions,
                                                const json_t *record, struct error *err)
{
    const char *name = json_string_value(json_object_get(record, "environment"));
    const char *backend = json_string_value(json_object_get(record, "backend"));
    const struct environment *env = config_environment(sessions->config, name ? name : "", err);

    if (!env) {
        error_wrap(err, "the session was made in an environment that is not here");
    } else if (!backend || strcmp(backend, env->backend) != 0) {
        error_set(err, ERROR_INVALID,
                  "the session was made in environment \"%s\" with backend \"%s\", and here that "
                  "is \"%s\": start cellblock with the configuration that it had",
                  env->name, backend ? backend : "?", env->backend);
        env = NULL;
    }
    return env;
}

/* Takes the hold, whatever comes of it. */
static struct session *create(struct sessions *sessions, json_t *record, struct kept_hold *hold,
                              json_t *variables, unsigned to_end, struct error *err)
{
    const json_t *wishes = json_object_get(record, "wishes");
    const char *name = json_string_value(json_object_get(record, "name"));
    struct derived derived = {0};
    struct session_options options = {
        .base = environment_of(sessions, record, err),
        .derived = &derived,
        .name = name && !sessions_live(sessions, name) ? name : NULL,
        .tags = json_object_get(record, "tags"),
        .variables = variables,
        .id = json_string_value(json_object_get(record, "id")),
        .record = record,
        .hold = &hold,
        .wishes = (json_t *)wishes,
        .consented = json_is_true(json_object_get(record, "consented")),
        .to_end = to_end,
    };
    struct session *s = NULL;

    if (options.base && session_derive_again(sessions->config, options.base, record, to_end > 0,
                                             &derived, err) == 0) {
        s = sessions_create(sessions, &options, err);
    }
    if (s) {
        s->shares_unknown = true;
    }
    derived_deinit(&derived);
    kept_release(hold, false);
    return s;
}

static struct session *attach(struct sessions *sessions, const char *id, json_t *variables,
                              unsigned to_end, struct error *err)
{
    struct kept_hold *hold = NULL;
    struct session *s = NULL;
    json_t *record = NULL;

    if (take(id, &record, &hold, err) < 0) {
        return NULL;
    }
    if (!to_end && (uint64_t)number(record, "end_ms") <= session_wall_ms()) {
        error_set(err, ERROR_LOST,
                  "session \"%s\" had lived as long as it may, and is being ended; make another "
                  "one",
                  id);
        kept_release(hold, false);
    } else {
        s = create(sessions, record, hold, variables, to_end, err);
    }
    json_decref(record);
    return s;
}

struct session *sessions_attach(struct sessions *sessions, const char *id, json_t *variables,
                                struct error *err)
{
    struct session *s;

    if (sessions_live(sessions, id)) {
        error_set(err, ERROR_INVALID,
                  "session \"%s\" is in this server already: pass it as \"session\"", id);
        return NULL;
    }
    s = attach(sessions, id, variables, 0, err);
    sessions_sweep(sessions);
    return s;
}

bool session_shares_unknown(const struct session *s)
{
    return s->shares_unknown;
}

bool session_is_sought(const struct session *s)
{
    return s->seeking;
}

/* --- ending one that was left --- */

struct end_left {
    struct session *session;
    executor_done done;
    void *data;
};

static void on_found_to_end(void *data, const struct outcome *outcome)
{
    struct end_left end = *(struct end_left *)data;
    struct error err = {0};

    free(data);
    if (end.session->seeking) {
        error_set(&err, ERROR_LOST,
                  "session \"%s\" was not ended, since it could not be reached: %s",
                  end.session->id, outcome->note ? outcome->note : cause_name(outcome->cause));
        if (end.done) {
            end.done(end.data, &err);
        }
        error_clear(&err);
        end.done = NULL;
    }
    if (end.session->executor) {
        session_finish(end.session, true, end.done, end.data, NULL);
    } else if (end.done) {
        error_set(&err, ERROR_LOST, "the server is stopping");
        end.done(end.data, &err);
        error_clear(&err);
    }
}

int sessions_end_left(struct sessions *sessions, const char *id, bool kill, executor_done done,
                      void *data, struct error *err)
{
    struct session *s = attach(sessions, id, NULL, kill ? KILL_SECONDS : END_SECONDS, err);
    struct end_left *end = s ? malloc(sizeof(*end)) : NULL;
    static const struct session_start how = {.done = on_found_to_end};

    if (end) {
        *end = (struct end_left){s, done, data};
    }
    if (!end || !session_start(s, &how, end, err)) {
        free(end);
        if (s) {
            session_finish(s, true, NULL, NULL, NULL);
        }
        return -1;
    }
    return 0;
}

void sessions_sweep(struct sessions *sessions)
{
    struct kept_store *store;
    json_t *list, *record;
    size_t index;
    uint64_t now = session_wall_ms();

    if (sessions->swept || sessions->closing) {
        return;
    }
    sessions->swept = true;
    store = kept_store_open(false, NULL);
    list = store ? kept_list(store) : NULL;
    json_array_foreach(list, index, record)
    {
        if (number(record, "pid") == 0 && (uint64_t)number(record, "end_ms") <= now) {
            const char *id = json_string_value(json_object_get(record, "id"));
            struct error err = {0};

            if (sessions_end_left(sessions, id, true, NULL, NULL, &err) < 0) {
                log_write(sessions->log, LOG_LEVEL_INFO, "session %s is past its end: %s", id,
                          err.message);
            }
            error_clear(&err);
        }
    }
    json_decref(list);
    kept_store_free(store);
}

/* --- what is told of them --- */

json_t *session_left_row(const json_t *record)
{
    json_int_t pid = number(record, "pid");
    json_t *tags = json_object_get(record, "tags");

    return json_pack("{sO sO* sO ss so so sI sO* sO*}", "session", json_object_get(record, "id"),
                     "name", json_object_get(record, "name"), "environment",
                     json_object_get(record, "environment"), "state",
                     pid ? "attached elsewhere" : "detached", "created_at",
                     session_moment_json((uint64_t)number(record, "made_ms")), "ends_at",
                     session_moment_json((uint64_t)number(record, "end_ms")), "runs",
                     number(record, "runs"), "pid", pid ? json_object_get(record, "pid") : NULL,
                     "tags", json_object_size(tags) > 0 ? tags : NULL);
}

int sessions_add_left(const struct sessions *sessions, const json_t *tags, json_t *list)
{
    struct kept_store *store = kept_store_open(false, NULL);
    json_t *records = store ? kept_list(store) : NULL, *record;
    size_t index;
    int r = 0;

    json_array_foreach(records, index, record)
    {
        const char *id = json_string_value(json_object_get(record, "id"));

        if (r == 0 && !sessions_live(sessions, id) && number(record, "pid") != getpid() &&
            session_tags_match(json_object_get(record, "tags"), tags)) {
            r = json_array_append_new(list, session_left_row(record));
        }
    }
    json_decref(records);
    kept_store_free(store);
    return r;
}

json_t *sessions_left_facts(const char *id)
{
    struct kept_store *store = kept_is_id(id) ? kept_store_open(false, NULL) : NULL;
    json_t *record = store ? kept_look(store, id) : NULL;
    json_t *row = record ? session_left_row(record) : NULL;

    json_object_set(row, "backend", json_object_get(record, "backend"));
    json_object_set(row, "env", json_object_get(record, "variables"));
    json_decref(record);
    kept_store_free(store);
    return row;
}
