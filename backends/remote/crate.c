#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/remote/crate.h"
#include "backends/remote/kept_word.h"

/* A crate while it lives: its owner, what lives in it, its worker; and who is told of its end. */

int crate_init(struct crate *c, const struct crate_ops *ops, struct crates *crates,
               const struct start_request *request, bool warm, const struct crate_events *events,
               void *owner)
{
    c->ops = ops;
    c->crates = crates;
    c->events = events;
    c->owner = owner;
    c->warm = warm;
    c->wanted = true;
    c->next = crates->first;
    crates->first = c;
    c->tag = request->tag ? strdup(request->tag) : NULL;
    c->where = request->where ? json_deep_copy(request->where) : NULL;
    return (request->tag && !c->tag) || (request->where && !c->where) ? -1 : 0;
}

void crate_deinit(struct crate *c)
{
    if (c->tag) {
        explicit_bzero(c->tag, strlen(c->tag));
    }
    free(c->tag);
    json_decref(c->where);
    free(c->reason);
    json_decref(c->held_changed);
    for (struct crate **at = &c->crates->first; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    crates_maybe_over(c->crates);
}

void crate_own(struct crate *c, const struct crate_events *events, void *owner)
{
    c->events = events;
    c->owner = owner;
}

/* ---- what lives in it ---- */

void crate_tell(struct crate *c, const char *what)
{
    if (c->events && c->events->on_waiting) {
        c->events->on_waiting(c->owner, what);
    }
}

void crate_on_waiting(void *data, const char *what)
{
    crate_tell(data, what);
}

void crate_up(struct crate *c)
{
    c->state = CRATE_UP;
    if (c->wanted) {
        c->occupant->ops->start_worker(c->occupant);
    }
}

void crate_start_worker(struct crate *c)
{
    c->wanted = true;
    c->used = c->warm = false;
    c->occupant->ops->start_worker(c->occupant);
}

void crate_on_worker(void *data, struct link *link)
{
    struct crate *c = data;

    if (c->state != CRATE_UP) {
        return;
    }
    c->wanted = false;
    c->left = false; /* reached, if it was sought */
    c->link = link;
    if (c->events) {
        c->events->on_worker(c->owner, link);
    }
}

struct occupant *crate_runner(struct crate *c, struct byte_stream *stream,
                              struct supervised_options options,
                              const struct occupant_events *events)
{
    const struct place *place = c->crates->place;
    char secret[MAC_SIZE], proof[MAC_SIZE];
    struct occupant *o;

    if (c->tag) {
        kept_word(c->tag, "relay", secret);
        kept_word(secret, "proof", proof);
        options.secret = c->where ? secret : NULL;
        options.proof = proof;
    }
    o = runner_occupant_new(place->loop, stream, &options, events, c);
    explicit_bzero(secret, sizeof(secret));
    return o;
}

struct occupant *crate_gateway(struct crate *c, struct byte_stream *stream,
                               struct gateway_options options, const struct occupant_events *events,
                               struct error *err)
{
    const struct place *place = c->crates->place;
    char token[MAC_SIZE];
    struct occupant *o;

    options.tag = c->tag;
    options.where = c->where;
    if (c->tag) {
        kept_word(c->tag, "token", token);
        options.token = token;
    }
    o = gateway_new(place->loop, stream, &options, events, c, err);
    explicit_bzero(token, sizeof(token));
    return o;
}

/* ---- the worker's end ---- */

bool crate_hold(struct crate *c, const struct machine_exit *exit)
{
    c->link = NULL;
    if (c->state != CRATE_UP) {
        return false;
    }
    c->held = *exit;
    c->held.message = NULL;
    json_decref(c->held_changed);
    c->held_changed = json_incref(exit->changed);
    c->has_held = true;
    return true;
}

bool crate_was_killed(const struct crate *c)
{
    return c->held.how == EXIT_SIGNAL && c->held.signal == SIGKILL && !c->killing;
}

void crate_tell_held(struct crate *c)
{
    struct machine_exit exit = c->held;
    json_t *changed = c->held_changed;

    c->held_changed = NULL;
    c->has_held = false;
    c->killing = false;
    exit.kept = true;
    if (c->events) {
        c->events->on_worker_exit(c->owner, &exit);
    }
    json_decref(changed);
}

/* ---- its own ---- */

void crate_gone(struct crate *c, const struct machine_exit *exit)
{
    const struct crate_events *events = c->events;
    void *owner = c->owner;

    c->state = CRATE_ENDED;
    c->events = NULL;
    if (c->occupant) {
        c->occupant->ops->ended(c->occupant, exit->message);
    }
    if (events) {
        events->on_gone(owner, exit);
    }
    c->ops->close(c);
}

void crate_vfail(struct crate *c, enum error_kind kind, const char *format, va_list args)
{
    struct machine_exit exit = {.how = EXIT_LOST, .kind = kind};
    char *message = NULL;

    if (c->state >= CRATE_ENDED) {
        return;
    }
    if (vasprintf(&message, format, args) < 0) {
        message = NULL;
    }
    exit.message = message;
    crate_gone(c, &exit);
    free(message);
}

void crate_fail(struct crate *c, enum error_kind kind, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    crate_vfail(c, kind, format, args);
    va_end(args);
}
