#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "backends/base/strings.h"
#include "mcp/secrets.h"
#include "mcp/session.h"
#include "mcp/session_private.h"

/* --- the table --- */

struct sessions *sessions_new(uv_loop_t *loop, const struct config *config, struct log *log)
{
    struct sessions *sessions = calloc(1, sizeof(*sessions));

    if (!sessions) {
        return NULL;
    }
    sessions->slots = calloc(config->environment_count, sizeof(*sessions->slots));
    sessions->artifacts = artifacts_new(loop);
    if (!sessions->slots || !sessions->artifacts) {
        artifacts_free(sessions->artifacts);
        free(sessions->slots);
        free(sessions);
        return NULL;
    }
    for (size_t i = 0; i < config->environment_count; i++) {
        sessions->slots[i].env = config->environments[i];
    }
    sessions->loop = loop;
    sessions->config = config;
    sessions->log = log;
    sessions->finish_ms = SESSION_FINISH_MS;
    uv_timer_init(loop, &sessions->timer);
    uv_unref((uv_handle_t *)&sessions->timer);
    sessions->timer.data = sessions;
    return sessions;
}

struct artifacts *sessions_artifacts(struct sessions *sessions)
{
    return sessions->artifacts;
}

void sessions_on_idle_output(struct sessions *sessions,
                             void (*output)(void *data, const char *session_id, enum stream stream,
                                            const char *bytes, size_t size),
                             void *data)
{
    sessions->idle_output = output;
    sessions->idle_data = data;
}

/* The slot of an environment with its place opened. */
static struct place_slot *open_slot(struct sessions *sessions, const struct environment *env,
                                    struct error *err)
{
    struct place_slot *slot = sessions->slots;

    while (slot->env != env) {
        slot++;
    }
    if (!slot->place && place_open(sessions->loop, env, &slot->place, err) < 0) {
        slot->place = NULL;
        return NULL;
    }
    return slot;
}

struct place *sessions_place(struct sessions *sessions, const struct environment *env,
                             struct error *err)
{
    struct place_slot *slot = NULL;

    if (sessions->closing) {
        error_set(err, ERROR_LOST, "the server is stopping");
    } else {
        slot = open_slot(sessions, env, err);
    }
    return slot ? slot->place : NULL;
}

static void free_own_slot(struct place_slot *slot)
{
    environment_deinit(slot->own);
    free(slot->own);
    free(slot);
}

/* A place for one session, with a copy of the environment that was derived for it. */
static struct place_slot *open_own_slot(struct sessions *sessions, struct environment *env,
                                        struct error *err)
{
    struct place_slot *slot = calloc(1, sizeof(*slot));
    struct environment *own = malloc(sizeof(*own));

    if (!slot || !own || environment_copy(own, env) < 0) {
        free(slot);
        free(own);
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "a session's environment");
        return NULL;
    }
    *slot = (struct place_slot){.owner = sessions, .own = own, .env = own};
    if (place_open(sessions->loop, own, &slot->place, err) < 0) {
        free_own_slot(slot);
        return NULL;
    }
    slot->next = sessions->own_slots;
    sessions->own_slots = slot;
    return slot;
}

static void finish(struct sessions *sessions);

static void on_own_place_closed(void *data)
{
    struct place_slot *slot = data;
    struct sessions *sessions = slot->owner;

    free_own_slot(slot);
    sessions->places_closing--;
    finish(sessions);
}

static void close_own_slot(struct place_slot *slot)
{
    struct sessions *sessions = slot->owner;
    struct place_slot **link = &sessions->own_slots;

    while (*link != slot) {
        link = &(*link)->next;
    }
    *link = slot->next;
    sessions->places_closing++;
    place_close(slot->place, on_own_place_closed, slot);
}

void sessions_warm(struct sessions *sessions)
{
    struct error err = {0};
    struct place_slot *slot = open_slot(sessions, sessions->config->default_environment, &err);

    if (slot) {
        place_warm(slot->place);
    } else {
        log_write(sessions->log, LOG_LEVEL_WARNING, "cannot warm up: %s", err.message);
    }
    error_clear(&err);
}

/* --- which session --- */

static int unknown_session(const struct sessions *sessions, const char *name, struct error *err)
{
    char *text = sessions_tell_end(sessions, name);

    if (!text && kept_exists(name)) {
        return error_set(err, ERROR_NOT_FOUND,
                         "session \"%s\" was left by another server: attach it first, with "
                         "create_session (\"attach\": \"%s\") or `cellblock attach`",
                         name, name);
    }
    if (text) {
        error_set(err, ERROR_LOST,
                  "%s; its variables and files are gone. Call run_code without "
                  "\"session\" to go on in another one",
                  text);
        free(text);
        return -1;
    }
    return error_set(err, ERROR_NOT_FOUND,
                     "there is no session \"%.64s\" in this server. A session's id (\"s-\" and 8 "
                     "characters) is in the result of the call that made it; call run_code "
                     "without \"session\" to get one",
                     name);
}

struct session *sessions_live(const struct sessions *sessions, const char *name)
{
    for (struct session *s = sessions->list; s; s = s->next) {
        if (!s->ended && (strcmp(s->id, name) == 0 || (s->name && strcmp(s->name, name) == 0))) {
            return s;
        }
    }
    return NULL;
}

struct session *sessions_look_up(struct sessions *sessions, const char *name, struct error *err)
{
    struct session *s = sessions_live(sessions, name);

    if (!s) {
        unknown_session(sessions, name, err);
    }
    return s;
}

struct session *sessions_find(struct sessions *sessions, const char *name, struct error *err)
{
    struct session *s = sessions_look_up(sessions, name, err);

    if (s && s->finishing) {
        error_set(err, ERROR_LOST,
                  "session \"%s\" is ending, as end_session asked: what is going on in it may "
                  "finish, and nothing else begins. Use another session",
                  s->id);
        return NULL;
    }
    return s;
}

static bool id_is_taken(const struct sessions *sessions, const char *id)
{
    for (const struct session *s = sessions->list; s; s = s->next) {
        if (strcmp(s->id, id) == 0) {
            return true;
        }
    }
    return false;
}

static int new_id(const struct sessions *sessions, char id[SESSION_ID_SIZE], struct error *err)
{
    uint64_t bits;

    do {
        if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits)) {
            return error_set_code(err, ERROR_INTERNAL, errno, "a new session's id");
        }
        session_handle(id, 's', bits);
    } while (id_is_taken(sessions, id));
    return 0;
}

static int check_room(const struct sessions *sessions, struct error *err)
{
    unsigned most = sessions->config->policy.max_sessions;

    most = most && most < SESSIONS_CAP ? most : SESSIONS_CAP;
    if (sessions->closing) {
        return error_set(err, ERROR_LOST, "the server is stopping");
    }
    if (sessions->live >= most) {
        return error_set(
            err, ERROR_LIMIT,
            "there are %u sessions already, the most this server keeps: go on in one of them "
            "by passing its id as \"session\", end one, or use \"ephemeral\": true for runs "
            "that need no state",
            sessions->live);
    }
    return 0;
}

/* A session in a slot whose place is open. */
static struct session *make_in(struct sessions *sessions, struct place_slot *slot,
                               const struct session_options *options, struct error *err)
{
    char id[SESSION_ID_SIZE];
    struct session *s;

    if (options->id) {
        (void)snprintf(id, sizeof(id), "%s", options->id);
    } else if (new_id(sessions, id, err) < 0) {
        return NULL;
    }
    s = session_new(sessions, slot, id, options, err);
    if (!s) {
        return NULL;
    }
    s->next = sessions->list;
    sessions->list = s;
    sessions->live++;
    sessions_schedule(sessions);
    return s;
}

static struct session *make(struct sessions *sessions, const struct environment *env,
                            struct error *err)
{
    const struct session_options options = {.base = env};
    struct place_slot *slot;

    if (check_room(sessions, err) < 0) {
        return NULL;
    }
    slot = open_slot(sessions, env, err);
    return slot ? make_in(sessions, slot, &options, err) : NULL;
}

static int check_name(const struct sessions *sessions, const char *name, struct error *err)
{
    const struct session *s = name ? sessions_live(sessions, name) : NULL;

    return s ? error_set(err, ERROR_INVALID,
                         "the name \"%s\" is session %s's; choose another, or end that one first",
                         name, s->id)
             : 0;
}

/* Those that were asked for, together with the environment's own. */
static int check_secrets(const struct sessions *sessions, const struct session_options *options,
                         struct error *err)
{
    const struct environment *own = options->derived ? options->derived->env : NULL;

    return own ? secrets_check_names(sessions->config->secrets, own->secrets, err) : 0;
}

struct session *sessions_create(struct sessions *sessions, const struct session_options *options,
                                struct error *err)
{
    bool own = options->derived && options->derived->own_place;
    struct place_slot *slot;
    struct session *s;

    if (check_room(sessions, err) < 0 || check_name(sessions, options->name, err) < 0 ||
        check_secrets(sessions, options, err) < 0) {
        return NULL;
    }
    slot = own ? open_own_slot(sessions, options->derived->env, err)
               : open_slot(sessions, options->base, err);
    if (!slot) {
        return NULL;
    }
    s = make_in(sessions, slot, options, err);
    if (!s && own) {
        close_own_slot(slot);
    }
    return s;
}

/* Says in the new default session what became of the one before it. */
static void give_notice(struct sessions *sessions, struct session *s)
{
    for (size_t i = 0; i < SESSIONS_REMEMBERED; i++) {
        struct ended_session *ended = &sessions->ended[i];

        if (ended->was_default && ended->env == s->base) {
            char *text = ended_session_text(ended);

            ended->was_default = false;
            free(s->notice);
            s->notice = text ? string_format("The earlier %s; its variables, files and shares are "
                                             "gone, and this is a new one.",
                                             text)
                             : NULL;
            free(text);
        }
    }
}

static struct session *default_session(struct sessions *sessions, const struct environment *env,
                                       struct error *err)
{
    struct session *s = sessions->list;

    while (s && (s->ended || s->finishing || !s->is_default || s->base != env)) {
        s = s->next;
    }
    if (!s && (s = make(sessions, env, err))) {
        s->is_default = true;
        give_notice(sessions, s);
    }
    return s;
}

static struct session *named_session(struct sessions *sessions, const char *name,
                                     const char *environment, struct error *err)
{
    struct session *s = sessions_find(sessions, name, err);

    if (s && environment && strcmp(s->env->name, environment) != 0) {
        error_set(
            err, ERROR_INVALID,
            "session \"%s\" is in environment \"%s\", and a session stays in its "
            "environment. Leave out \"environment\", or leave out \"session\" to use \"%.64s\"",
            s->id, s->env->name, environment);
        return NULL;
    }
    return s;
}

struct session *sessions_resolve(struct sessions *sessions, enum era era, const char *name,
                                 const char *environment, bool *ret_made, struct error *err)
{
    const struct environment *env = sessions->config->default_environment;
    struct session *s;

    if (name) {
        *ret_made = false;
        return named_session(sessions, name, environment, err);
    }
    if (environment && !(env = config_environment(sessions->config, environment, err))) {
        return NULL;
    }
    if (era == ERA_LEGACY || env->mode == MODE_EPHEMERAL) {
        *ret_made = false;
        return default_session(sessions, env, err);
    }
    s = make(sessions, env, err);
    *ret_made = s != NULL;
    return s;
}

const struct environment *sessions_meant(const struct sessions *sessions, const char *name,
                                         const char *environment)
{
    const struct ended_session *ended = name ? sessions_ended(sessions, name) : NULL;

    if (name) {
        return ended && (!environment || strcmp(ended->env->name, environment) == 0) ? ended->env
                                                                                     : NULL;
    }
    return environment ? config_environment(sessions->config, environment, NULL)
                       : sessions->config->default_environment;
}

/* --- the end of everything --- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct sessions *sessions = handle->data;
    void (*closed)(void *data) = sessions->closed;
    void *data = sessions->closed_data;

    for (size_t i = 0; i < SESSIONS_REMEMBERED; i++) {
        ended_session_deinit(&sessions->ended[i]);
    }
    mask_unref(sessions->mask);
    artifacts_free(sessions->artifacts);
    free(sessions->slots);
    free(sessions);
    closed(data);
}

static void on_place_closed(void *data)
{
    struct sessions *sessions = data;

    sessions->places_closing--;
    finish(sessions);
}

static void close_place(struct sessions *sessions, struct place_slot *slot)
{
    struct place *place = slot->place;

    slot->place = NULL;
    sessions->places_closing++;
    place_close(place, on_place_closed, sessions);
}

static bool slots_are_free(const struct sessions *sessions)
{
    for (size_t i = 0; i < sessions->config->environment_count; i++) {
        if (sessions->slots[i].users > 0) {
            return false;
        }
    }
    return !sessions->own_slots;
}

/* One step further towards the end, when it is time for it. */
static void finish(struct sessions *sessions)
{
    if (!sessions->closing || sessions->finishing || sessions->list || !slots_are_free(sessions)) {
        return;
    }
    for (size_t i = 0; i < sessions->config->environment_count; i++) {
        if (sessions->slots[i].place) {
            close_place(sessions, &sessions->slots[i]);
        }
    }
    if (sessions->places_closing == 0 && !sessions->finishing) {
        sessions->finishing = true;
        uv_close((uv_handle_t *)&sessions->timer, on_timer_closed);
    }
}

void place_slot_release(struct sessions *owner, struct place_slot *slot)
{
    slot->users--;
    if (slot->users == 0 && slot->own) {
        close_own_slot(slot);
    } else if (slot->users == 0 && !owner->closing && slot->place) {
        close_place(owner, slot); /* its last session has ended: nothing is kept warm for nobody */
    }
    finish(owner);
}

void sessions_drop(struct session *s)
{
    struct sessions *sessions = s->owner;
    struct session **link = &sessions->list;

    if (s->uses > 0 || s->closing > 0) {
        return;
    }
    while (*link != s) {
        link = &(*link)->next;
    }
    *link = s->next;
    session_free(s);
    finish(sessions);
}

void sessions_close(struct sessions *sessions, void (*closed)(void *data), void *data)
{
    struct session *next;

    sessions->closing = true;
    sessions->closed = closed;
    sessions->closed_data = data;
    artifacts_stop(sessions->artifacts);
    uv_timer_stop(&sessions->timer);
    for (struct session *s = sessions->list; s; s = next) {
        next = s->next;
        if (!s->ended) {
            session_close(s);
        }
    }
    for (struct ephemeral *e = sessions->ephemerals; e; e = e->next) {
        ephemeral_close(e);
    }
    finish(sessions);
}
