#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/base/strings.h"
#include "mcp/session.h"
#include "mcp/session_private.h"

/* --- what is remembered of those that have ended --- */

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

/* " at 2026-11-22 13:05:10 UTC" */
static const char *moment(uint64_t ms, char space[48])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm parts;

    if (!gmtime_r(&seconds, &parts) || !strftime(space, 48, "at %F %T UTC", &parts)) {
        space[0] = '\0';
    }
    return space;
}

char *ended_session_text(const struct ended_session *ended)
{
    char space[32], at[48];

    duration(ended->seconds, space);
    moment(ended->ended_ms, at);
    switch (ended->how) {
    case SESSION_END_IDLE:
        return string_format("session \"%s\" ended after %s without use, %s", ended->id, space, at);
    case SESSION_END_LIFETIME:
        return string_format("session \"%s\" ended %s: it had lived for %s, the most it may",
                             ended->id, at, space);
    case SESSION_END_ASKED:
        return string_format("session \"%s\" was ended by end_session %s", ended->id, at);
    case SESSION_END_KILLED:
        return string_format("session \"%s\" was ended by end_session %s, and what was going on in "
                             "it was cancelled",
                             ended->id, at);
    case SESSION_END_LATE:
        break;
    }
    return string_format("session \"%s\" was ended by end_session %s; what was going on in it had "
                         "not finished in time and was cancelled",
                         ended->id, at);
}

static bool is_called(const struct ended_session *ended, const char *name)
{
    return ended->id[0] &&
           (strcmp(ended->id, name) == 0 || (ended->name && strcmp(ended->name, name) == 0));
}

const struct ended_session *sessions_ended(const struct sessions *sessions, const char *name)
{
    for (size_t i = 1; i <= SESSIONS_REMEMBERED; i++) {
        size_t at = (sessions->ended_next + SESSIONS_REMEMBERED - i) % SESSIONS_REMEMBERED;

        if (is_called(&sessions->ended[at], name)) {
            return &sessions->ended[at];
        }
    }
    return NULL;
}

char *sessions_tell_end(const struct sessions *sessions, const char *name)
{
    const struct ended_session *ended = sessions_ended(sessions, name);

    return ended ? ended_session_text(ended) : NULL;
}

const char *sessions_ended_id(const struct sessions *sessions, const char *name)
{
    const struct ended_session *ended = sessions_ended(sessions, name);

    return ended ? ended->id : NULL;
}

void ended_session_deinit(struct ended_session *ended)
{
    free(ended->name);
    json_decref(ended->tags);
    *ended = (struct ended_session){0};
}

/* Takes the session's name and tags: nobody looks for them in it any more. */
static void remember_end(struct session *s, enum session_end how)
{
    struct sessions *sessions = s->owner;
    struct ended_session *ended = &sessions->ended[sessions->ended_next];

    sessions->ended_next = (sessions->ended_next + 1) % SESSIONS_REMEMBERED;
    ended_session_deinit(ended);
    *ended = (struct ended_session){
        .name = s->name,
        .tags = s->tags,
        .env = s->base,
        .how = how,
        .seconds = how == SESSION_END_IDLE ? s->env->idle_timeout_seconds
                                           : (double)(s->end_at - s->made_at) / 1000,
        .made_ms = s->made_ms,
        .ended_ms = session_wall_ms(),
        /* Who asked for the end need not be told of it. */
        .was_default = s->is_default && (how == SESSION_END_IDLE || how == SESSION_END_LIFETIME),
    };
    memcpy(ended->id, s->id, sizeof(ended->id));
    s->name = NULL;
    s->tags = NULL;
}

/* --- the end of one --- */

static void end_now(struct session *s, enum session_end how)
{
    remember_end(s, how);
    s->owner->live--;
    session_ephemerals_close(s);
    session_close(s);
}

int session_finish(struct session *s, bool kill, executor_done done, void *data, struct error *err)
{
    struct finish_op *op = calloc(1, sizeof(*op));
    struct sessions *sessions = s->owner;

    if (!op) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "the end of a session");
    }
    *op = (struct finish_op){s->finish_ops, done, data};
    s->finish_ops = op;
    if (kill || s->uses == 0) {
        end_now(s, s->uses == 0 ? SESSION_END_ASKED : SESSION_END_KILLED);
    } else if (!s->finishing) {
        s->finishing = true;
        uv_update_time(sessions->loop);
        s->give_up_at = uv_now(sessions->loop) + sessions->finish_ms;
    }
    sessions_schedule(sessions);
    return 0;
}

void session_finish_forget(struct session *s, const void *data)
{
    for (struct finish_op *op = s->finish_ops; op; op = op->next) {
        if (op->data == data) {
            op->done = NULL;
        }
    }
}

void session_unused(struct session *s)
{
    if (s->finishing && s->uses == 0) {
        end_now(s, SESSION_END_ASKED);
    }
    sessions_schedule(s->owner);
}

/* --- by time --- */

/* When the session ends if nobody uses it from now on, by uv_now; UINT64_MAX while a call does. */
static uint64_t deadline(const struct session *s, enum session_end *ret_how)
{
    uint64_t idle = s->used_at + (uint64_t)(s->env->idle_timeout_seconds * 1000);

    if (s->finishing) {
        *ret_how = SESSION_END_LATE;
        return s->give_up_at;
    }
    if (s->uses > s->background) {
        return UINT64_MAX;
    }
    *ret_how = s->uses == 0 && idle <= s->end_at ? SESSION_END_IDLE : SESSION_END_LIFETIME;
    return *ret_how == SESSION_END_IDLE ? idle : s->end_at;
}

static void on_timer(uv_timer_t *timer)
{
    struct sessions *sessions = timer->data;
    uint64_t now = uv_now(sessions->loop);
    struct session *next;
    enum session_end how = SESSION_END_LIFETIME;

    for (struct session *s = sessions->list; s; s = next) {
        next = s->next;
        if (!s->ended && deadline(s, &how) <= now) {
            end_now(s, how);
        }
    }
    sessions_schedule(sessions);
}

void sessions_schedule(struct sessions *sessions)
{
    uint64_t next = UINT64_MAX, now = uv_now(sessions->loop), at;
    enum session_end how;

    if (sessions->closing) {
        return;
    }
    for (const struct session *s = sessions->list; s; s = s->next) {
        at = s->ended ? UINT64_MAX : deadline(s, &how);
        next = at < next ? at : next;
    }
    if (next == UINT64_MAX) {
        uv_timer_stop(&sessions->timer);
    } else {
        uv_timer_start(&sessions->timer, on_timer, next > now ? next - now : 0, 0);
    }
}
