#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

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
    if (!sessions->slots) {
        free(sessions);
        return NULL;
    }
    for (size_t i = 0; i < config->environment_count; i++) {
        sessions->slots[i].env = config->environments[i];
    }
    sessions->loop = loop;
    sessions->config = config;
    sessions->log = log;
    uv_timer_init(loop, &sessions->timer);
    uv_unref((uv_handle_t *)&sessions->timer);
    sessions->timer.data = sessions;
    return sessions;
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

/* "30 min", "2 h", "45 s" */
static const char *duration(double seconds, char space[32])
{
    if (seconds >= 7200) {
        snprintf(space, 32, "%.3g h", seconds / 3600);
    } else if (seconds >= 120) {
        snprintf(space, 32, "%.3g min", seconds / 60);
    } else {
        snprintf(space, 32, "%.3g s", seconds);
    }
    return space;
}

static void explain_end(const struct ended_session *ended, char *text, size_t room)
{
    char space[32];

    if (ended->idle) {
        snprintf(text, room, "session \"%s\" ended after %s without use", ended->id,
                 duration(ended->env->idle_timeout_seconds, space));
    } else {
        snprintf(text, room, "session \"%s\" ended: it had lived for %s, the most a session may",
                 ended->id, duration(ended->env->max_lifetime_seconds, space));
    }
}

/* NULL: no session of that id has ended, as far as it is remembered. */
static const struct ended_session *find_ended(const struct sessions *sessions, const char *id)
{
    for (size_t i = 0; i < SESSIONS_REMEMBERED; i++) {
        const struct ended_session *ended = &sessions->ended[i];

        if (ended->id[0] && strcmp(ended->id, id) == 0) {
            return ended;
        }
    }
    return NULL;
}

static int unknown_session(const struct sessions *sessions, const char *id, struct error *err)
{
    const struct ended_session *ended = find_ended(sessions, id);
    char text[160];

    if (ended) {
        explain_end(ended, text, sizeof(text));
        return error_set(err, ERROR_LOST,
                         "%s; its variables and files are gone. Call run_code without "
                         "\"session\" to go on in another one",
                         text);
    }
    return error_set(err, ERROR_NOT_FOUND,
                     "there is no session \"%.64s\" in this server. A session's id (\"s-\" and 8 "
                     "characters) is in the result of the call that made it; call run_code "
                     "without \"session\" to get one",
                     id);
}

struct session *sessions_find(struct sessions *sessions, const char *id, struct error *err)
{
    for (struct session *s = sessions->list; s; s = s->next) {
        if (!s->ended && strcmp(s->id, id) == 0) {
            return s;
        }
    }
    unknown_session(sessions, id, err);
    return NULL;
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
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char random[8];

    do {
        if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
            return error_set_code(err, ERROR_INTERNAL, errno, "a new session's id");
        }
        id[0] = 's';
        id[1] = '-';
        for (size_t i = 0; i < sizeof(random); i++) {
            id[2 + i] = alphabet[random[i] & 31];
        }
        id[2 + sizeof(random)] = '\0';
    } while (id_is_taken(sessions, id));
    return 0;
}

static struct session *make(struct sessions *sessions, const struct environment *env,
                            struct error *err)
{
    struct place_slot *slot;
    char id[SESSION_ID_SIZE];
    struct session *s;

    if (sessions->closing) {
        error_set(err, ERROR_LOST, "the server is stopping");
        return NULL;
    }
    if (sessions->live >= SESSIONS_CAP) {
        error_set(err, ERROR_LIMIT,
                  "there are %d sessions already, the most this server keeps: go on in one of them "
                  "by passing its id as \"session\", or use \"ephemeral\": true for runs that need "
                  "no state",
                  SESSIONS_CAP);
        return NULL;
    }
    slot = open_slot(sessions, env, err);
    if (!slot || new_id(sessions, id, err) < 0) {
        return NULL;
    }
    s = session_new(sessions, slot, id, err);
    if (!s) {
        return NULL;
    }
    s->next = sessions->list;
    sessions->list = s;
    sessions->live++;
    sessions_schedule(sessions);
    return s;
}

/* Says in the new default session what became of the one before it. */
static void give_notice(struct sessions *sessions, struct session *s)
{
    for (size_t i = 0; i < SESSIONS_REMEMBERED; i++) {
        struct ended_session *ended = &sessions->ended[i];
        char text[160];

        if (ended->was_default && ended->env == s->slot->env) {
            ended->was_default = false;
            explain_end(ended, text, sizeof(text));
            free(s->notice);
            if (asprintf(&s->notice,
                         "The earlier %s; its variables, files and shares are gone, and this is a "
                         "new one.",
                         text) < 0) {
                s->notice = NULL;
            }
        }
    }
}

static struct session *default_session(struct sessions *sessions, const struct environment *env,
                                       struct error *err)
{
    struct session *s = sessions->list;

    while (s && (s->ended || !s->is_default || s->slot->env != env)) {
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

    if (s && environment && strcmp(s->slot->env->name, environment) != 0) {
        error_set(
            err, ERROR_INVALID,
            "session \"%s\" is in environment \"%s\", and a session stays in its "
            "environment. Leave out \"environment\", or leave out \"session\" to use \"%.64s\"",
            s->id, s->slot->env->name, environment);
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
    const struct ended_session *ended = name ? find_ended(sessions, name) : NULL;

    if (name) {
        return ended && (!environment || strcmp(ended->env->name, environment) == 0) ? ended->env
                                                                                     : NULL;
    }
    return environment ? config_environment(sessions->config, environment, NULL)
                       : sessions->config->default_environment;
}

/* --- the end of sessions, by time --- */

static uint64_t milliseconds(double seconds)
{
    return (uint64_t)(seconds * 1000);
}

/* When the session ends if nobody uses it from now on, by uv_now; UINT64_MAX while a call does. */
static uint64_t deadline(const struct session *s, bool *ret_idle)
{
    uint64_t idle = s->used_at + milliseconds(s->slot->env->idle_timeout_seconds);
    uint64_t life = s->made_at + milliseconds(s->slot->env->max_lifetime_seconds);

    if (s->uses > s->background) {
        return UINT64_MAX;
    }
    *ret_idle = s->uses == 0 && idle <= life;
    return *ret_idle ? idle : life;
}

static void remember_end(struct sessions *sessions, const struct session *s, bool idle)
{
    struct ended_session *ended = &sessions->ended[sessions->ended_next];

    sessions->ended_next = (sessions->ended_next + 1) % SESSIONS_REMEMBERED;
    *ended =
        (struct ended_session){.env = s->slot->env, .idle = idle, .was_default = s->is_default};
    memcpy(ended->id, s->id, sizeof(ended->id));
}

static void on_timer(uv_timer_t *timer)
{
    struct sessions *sessions = timer->data;
    uint64_t now = uv_now(sessions->loop);
    struct session *next;
    bool idle;

    for (struct session *s = sessions->list; s; s = next) {
        next = s->next;
        if (!s->ended && deadline(s, &idle) <= now) {
            remember_end(sessions, s, idle);
            sessions->live--;
            session_close(s);
        }
    }
    sessions_schedule(sessions);
}

void sessions_schedule(struct sessions *sessions)
{
    uint64_t next = UINT64_MAX, now = uv_now(sessions->loop), at;
    bool idle;

    if (sessions->closing) {
        return;
    }
    for (const struct session *s = sessions->list; s; s = s->next) {
        at = s->ended ? UINT64_MAX : deadline(s, &idle);
        next = at < next ? at : next;
    }
    if (next == UINT64_MAX) {
        uv_timer_stop(&sessions->timer);
    } else {
        uv_timer_start(&sessions->timer, on_timer, next > now ? next - now : 0, 0);
    }
}

/* --- the end of everything --- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct sessions *sessions = handle->data;
    void (*closed)(void *data) = sessions->closed;
    void *data = sessions->closed_data;

    free(sessions->slots);
    free(sessions);
    closed(data);
}

static void finish(struct sessions *sessions);

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
    return true;
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
    if (slot->users == 0 && !owner->closing && slot->place) {
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
