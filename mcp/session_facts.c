#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/registry.h"
#include "mcp/policy_ask.h"
#include "mcp/secrets.h"
#include "mcp/session.h"
#include "mcp/session_private.h"
#include "mcp/session_tags.h"

enum {
    LOG_LIMIT = 8 * 1000, /* bytes of the log's end in a result */
};

/* --- small values --- */

const struct environment *session_base(const struct session *s)
{
    return s->base;
}

json_t *session_moment_json(uint64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm parts;
    char text[32];

    if (!gmtime_r(&seconds, &parts) || !strftime(text, sizeof(text), "%FT%TZ", &parts)) {
        return json_null();
    }
    return json_string(text);
}

static const char *state_of(const struct session *s)
{
    bool busy = executor_busy(s->executor), started = executor_started(s->executor);

    if (s->finishing) {
        return "ending";
    }
    for (const struct ephemeral *e = s->owner->ephemerals; e; e = e->next) {
        if (e->session == s && executor_busy(e->executor)) {
            return "running";
        }
    }
    if (busy) {
        return executor_ready(s->executor) ? "running" : "starting";
    }
    return started ? "idle" : "new";
}

/* Milliseconds until `at`, by uv_now. */
static uint64_t left(const struct session *s, uint64_t at)
{
    uint64_t now = uv_now(s->owner->loop);

    return at > now ? at - now : 0;
}

/* When its lifetime is over, by the clock on the wall. */
static uint64_t end_ms(const struct session *s)
{
    return s->made_ms + (s->end_at - s->made_at);
}

/* --- one row, as in a list --- */

static json_t *row(const struct session *s)
{
    json_t *object =
        json_pack("{ss ss* ss ss so so sI}", "session", s->id, "name", s->name, "environment",
                  s->env->name, "state", state_of(s), "created_at", session_moment_json(s->made_ms),
                  "ends_at", session_moment_json(end_ms(s)), "runs", (json_int_t)s->runs);

    if (object && s->is_default) {
        json_object_set_new(object, "default", json_true());
    }
    if (object && json_object_size(s->tags) > 0) {
        json_object_set(object, "tags", s->tags);
    }
    return object;
}

static json_t *ended_row(const struct ended_session *ended)
{
    char *text = ended_session_text(ended);
    json_t *object = json_pack("{ss ss* ss ss so so ss* sO*}", "session", ended->id, "name",
                               ended->name, "environment", ended->env->name, "state", "ended",
                               "created_at", session_moment_json(ended->made_ms), "ended_at",
                               session_moment_json(ended->ended_ms), "why", text, "tags",
                               json_object_size(ended->tags) > 0 ? ended->tags : NULL);

    free(text);
    return object;
}

static int add_ended(const struct sessions *sessions, const json_t *tags, json_t *list)
{
    for (size_t i = 1; i <= SESSIONS_REMEMBERED; i++) {
        size_t at = (sessions->ended_next + SESSIONS_REMEMBERED - i) % SESSIONS_REMEMBERED;
        const struct ended_session *ended = &sessions->ended[at];

        if (ended->id[0] && session_tags_match(ended->tags, tags) &&
            json_array_append_new(list, ended_row(ended)) < 0) {
            return -1;
        }
    }
    return 0;
}

json_t *sessions_list(const struct sessions *sessions, const json_t *tags, bool ended_too)
{
    json_t *list = json_array();
    int r = list ? 0 : -1;

    for (const struct session *s = sessions->list; r == 0 && s; s = s->next) {
        if (!s->ended && session_tags_match(s->tags, tags)) {
            r = json_array_append_new(list, row(s));
        }
    }
    r = r == 0 ? sessions_add_left(sessions, tags, list) : r;
    if (r == 0 && ended_too) {
        r = add_ended(sessions, tags, list);
    }
    if (r < 0) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* --- everything about one --- */

/* Those that its backend knows, and the times. */
static json_t *limits(const struct environment *env)
{
    const struct backend *backend = backend_find(env->backend, NULL);
    uint64_t knows = backend ? backend->settings : 0;
    char *network = environment_network(env);
    json_t *object = json_pack(
        "{sf sf sf sf ss}", "timeout_seconds", env->timeout_seconds, "max_timeout_seconds",
        env->max_timeout_seconds, "idle_timeout_seconds", env->idle_timeout_seconds,
        "max_lifetime_seconds", env->max_lifetime_seconds, "network", network ? network : "?");

    free(network);
    if (object && env->gpu) {
        json_object_set_new(object, "gpu", json_string(env->gpu));
    }
    if (object && knows & SETTING_MEMORY_MIB) {
        json_object_set_new(object, "memory_mib", json_integer((json_int_t)env->memory_mib));
    }
    if (object && knows & SETTING_DISK_MIB) {
        json_object_set_new(object, "disk_mib", json_integer((json_int_t)env->disk_mib));
    }
    if (object && knows & SETTING_PROCESSES) {
        json_object_set_new(object, "processes", json_integer(env->processes));
    }
    if (object && env->cpu > 0) {
        json_object_set_new(object, "cpu", json_real(env->cpu));
    }
    return object;
}

static json_t *shares(const struct session *s)
{
    static const char *const types[] = {
        [SHARE_COPY] = "copy", [SHARE_MOUNT] = "mount", [SHARE_CLOUD] = "cloud"};
    json_t *list = json_array();
    const struct share *share;

    for (unsigned i = 0; (share = executor_share(s->executor, i)); i++) {
        json_array_append_new(list, json_pack("{ss ss sb}", "type", types[share->type], "dest",
                                              share->dest, "read_only", (int)share->read_only));
    }
    return list;
}

/* Names only: values may be secrets. */
static json_t *variable_names(const struct session *s)
{
    json_t *names = json_array(), *value;
    const char *name;

    json_object_foreach(s->variables, name, value)
    {
        json_array_append_new(names, json_string(name));
    }
    return names;
}

/* What each is called and which variable it is. */
static json_t *secrets(const struct session *s)
{
    json_t *object = json_array_size(s->env->secrets) > 0 ? json_object() : NULL, *name;
    size_t index;

    json_array_foreach(s->env->secrets, index, name)
    {
        const char *text = json_string_value(name);
        const char *variable = secrets_variable(s->owner->config->secrets, text);

        if (object && variable) {
            json_object_set_new(object, text, json_string(variable));
        }
    }
    return object;
}

static json_t *last_run(const struct session *s)
{
    const struct last_run *last = &s->last_run;
    json_t *object;

    if (s->runs == 0) {
        return json_null();
    }
    object = json_pack("{ss sI}", "cause", cause_name(last->cause), "duration_ms",
                       (json_int_t)last->duration_ms);
    if (object && place_capabilities(s->slot->place) & CAP_USAGE) {
        json_object_set_new(object, "cpu_ms", json_integer((json_int_t)last->cpu_ms));
        json_object_set_new(object, "peak_rss_kib", json_integer((json_int_t)last->peak_rss_kib));
    }
    return object;
}

json_t *session_facts(struct session *s, size_t log_lines)
{
    json_t *object = row(s);
    json_t *more = json_pack(
        "{ss ss sI so so so so* so so* ss* ss* so}", "backend", s->env->backend, "mode",
        mode_name(s->env->mode), "remaining_seconds", (json_int_t)(left(s, s->end_at) / 1000),
        "limits", limits(s->env), "shares", shares(s), "env", variable_names(s), "secrets",
        secrets(s), "last_run", last_run(s), "packages",
        json_array_size(s->env->packages) ? json_incref(s->env->packages) : NULL, "image",
        s->env->image, "snapshot", s->env->snapshot, "log_tail",
        session_log_tail(&s->log, log_lines, LOG_LIMIT));
    uint64_t idle_at = s->used_at + (uint64_t)(s->env->idle_timeout_seconds * 1000);

    if (!object || !more || json_object_update(object, more) < 0) {
        json_decref(object);
        json_decref(more);
        return NULL;
    }
    json_decref(more);
    session_add_ports(s, object);
    if (s->uses == 0) {
        json_object_set_new(object, "idle_remaining_seconds",
                            json_integer((json_int_t)(left(s, idle_at) / 1000)));
    }
    return object;
}

/* --- what changes --- */

double session_may_live(const struct session *s, const struct policy *policy)
{
    double age = (double)(uv_now(s->owner->loop) - s->made_at) / 1000;

    return fmax(policy_lifetime(policy, s->base) - age, 0);
}

static int check_end(const struct session *s, const struct session_changes *changes,
                     struct error *err)
{
    const struct policy *policy = &s->owner->config->policy;
    const struct policy *most = changes->consented && policy->ask ? &policy->ask->most : policy;
    double seconds = changes->timeout_seconds;

    if (seconds <= session_may_live(s, most)) {
        return 0;
    }
    return error_set(err, ERROR_REFUSED,
                     "timeout_seconds %g is more than session \"%s\" may still live: %.0f at most, "
                     "for %g in all. Nothing was changed; ask for less, or have the owner of this "
                     "machine set policy.max_lifetime_seconds",
                     seconds, s->id, session_may_live(s, most), policy_lifetime(most, s->base));
}

static int check_name(const struct session *s, const char *name, struct error *err)
{
    const struct session *other = sessions_live(s->owner, name);

    if (other && other != s) {
        return error_set(err, ERROR_INVALID,
                         "the name \"%s\" is session %s's; nothing was changed. Choose another, or "
                         "end that one first",
                         name, other->id);
    }
    return session_name_check(name, err);
}

/* `ret_tags` may be NULL: they are only checked. */
static int check_changes(const struct session *s, const struct session_changes *changes,
                         json_t **ret_tags, struct error *err)
{
    json_t *tags = NULL;

    if ((changes->name && check_name(s, changes->name, err) < 0) ||
        (changes->tags && session_tags_merge(s->tags, changes->tags, &tags, err) < 0)) {
        return -1;
    }
    /* The last: a person is asked only about what would be done then. */
    int r = changes->timeout_seconds > 0 ? check_end(s, changes, err) : 0;
    if (r == 0 && ret_tags) {
        *ret_tags = tags;
    } else {
        json_decref(tags);
    }
    return r;
}

int session_change_check(const struct session *s, const struct session_changes *changes,
                         struct error *err)
{
    return check_changes(s, changes, NULL, err);
}

int session_change(struct session *s, const struct session_changes *changes, struct error *err)
{
    double seconds = changes->timeout_seconds;
    char *name = NULL;
    json_t *tags = NULL;

    if (check_changes(s, changes, &tags, err) < 0) {
        return -1;
    }
    if (changes->name && !(name = strdup(changes->name))) {
        json_decref(tags);
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "a session's name");
    }
    if (name) {
        free(s->name);
        s->name = name;
    }
    if (tags) {
        json_decref(s->tags);
        s->tags = tags;
    }
    if (seconds > 0) {
        s->end_at = uv_now(s->owner->loop) + (uint64_t)(seconds * 1000);
        sessions_schedule(s->owner);
    }
    session_record(s);
    return 0;
}

/* --- its runs --- */

json_t *session_run_env(const struct session *s, json_t *env)
{
    json_t *all;

    if (!s->variables && !s->secrets) {
        return json_incref(env);
    }
    all = s->variables ? json_copy(s->variables) : json_object();
    if (all && (secrets_to_env(s->owner->config->secrets, s->secrets, all) < 0 ||
                (env && json_object_update(all, env) < 0))) {
        json_decref(all);
        return NULL;
    }
    return all;
}

void session_note_run(struct session *s, const struct outcome *outcome)
{
    s->runs++;
    s->last_run = (struct last_run){outcome->cause, outcome->duration_ms, outcome->cpu_ms,
                                    outcome->peak_rss_kib};
}
