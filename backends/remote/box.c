#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/remote/box.h"
#include "backends/remote/kept_word.h"

/* A box while it lives: its owner, what lives in it, its worker; and who is told of its end. */

int box_init(struct box *b, const struct box_ops *ops, struct boxes *boxes,
             const struct start_request *request, bool warm, const struct box_events *events,
             void *owner)
{
    b->ops = ops;
    b->boxes = boxes;
    b->events = events;
    b->owner = owner;
    b->warm = warm;
    b->wanted = true;
    b->next = boxes->first;
    boxes->first = b;
    b->tag = request->tag ? strdup(request->tag) : NULL;
    b->where = request->where ? json_deep_copy(request->where) : NULL;
    return (request->tag && !b->tag) || (request->where && !b->where) ? -1 : 0;
}

void box_deinit(struct box *b)
{
    if (b->tag) {
        explicit_bzero(b->tag, strlen(b->tag));
    }
    free(b->tag);
    json_decref(b->where);
    free(b->reason);
    json_decref(b->held_changed);
    for (struct box **at = &b->boxes->first; *at; at = &(*at)->next) {
        if (*at == b) {
            *at = b->next;
            break;
        }
    }
    boxes_maybe_over(b->boxes);
}

void box_own(struct box *b, const struct box_events *events, void *owner)
{
    b->events = events;
    b->owner = owner;
}

/* ---- what lives in it ---- */

void box_tell(struct box *b, const char *what)
{
    if (b->events && b->events->on_waiting) {
        b->events->on_waiting(b->owner, what);
    }
}

void box_on_waiting(void *data, const char *what)
{
    box_tell(data, what);
}

void box_up(struct box *b)
{
    b->state = BOX_UP;
    if (b->wanted) {
        b->occupant->ops->start_worker(b->occupant);
    }
}

void box_start_worker(struct box *b)
{
    b->wanted = true;
    b->used = b->warm = false;
    b->occupant->ops->start_worker(b->occupant);
}

void box_on_worker(void *data, struct link *link)
{
    struct box *b = data;

    if (b->state != BOX_UP) {
        return;
    }
    b->wanted = false;
    b->left = false; /* reached, if it was sought */
    b->link = link;
    if (b->events) {
        b->events->on_worker(b->owner, link);
    }
}

struct occupant *box_runner(struct box *b, struct byte_stream *stream,
                            struct supervised_options options, const struct occupant_events *events)
{
    const struct place *place = b->boxes->place;
    char secret[MAC_SIZE], proof[MAC_SIZE];
    struct occupant *o;

    if (b->tag) {
        kept_word(b->tag, "relay", secret);
        kept_word(secret, "proof", proof);
        options.secret = b->where ? secret : NULL;
        options.proof = proof;
    }
    o = runner_occupant_new(place->loop, stream, &options, events, b);
    explicit_bzero(secret, sizeof(secret));
    return o;
}

struct occupant *box_gateway(struct box *b, struct byte_stream *stream,
                             struct gateway_options options, const struct occupant_events *events,
                             struct error *err)
{
    const struct place *place = b->boxes->place;
    char token[MAC_SIZE];
    struct occupant *o;

    options.tag = b->tag;
    options.where = b->where;
    if (b->tag) {
        kept_word(b->tag, "token", token);
        options.token = token;
    }
    o = gateway_new(place->loop, stream, &options, events, b, err);
    explicit_bzero(token, sizeof(token));
    return o;
}

/* ---- the worker's end ---- */

bool box_hold(struct box *b, const struct machine_exit *exit)
{
    b->link = NULL;
    if (b->state != BOX_UP) {
        return false;
    }
    b->held = *exit;
    b->held.message = NULL;
    json_decref(b->held_changed);
    b->held_changed = json_incref(exit->changed);
    b->has_held = true;
    return true;
}

bool box_was_killed(const struct box *b)
{
    return b->held.how == EXIT_SIGNAL && b->held.signal == SIGKILL && !b->killing;
}

void box_tell_held(struct box *b)
{
    struct machine_exit exit = b->held;
    json_t *changed = b->held_changed;

    b->held_changed = NULL;
    b->has_held = false;
    b->killing = false;
    exit.kept = true;
    if (b->events) {
        b->events->on_worker_exit(b->owner, &exit);
    }
    json_decref(changed);
}

/* ---- its own ---- */

void box_gone(struct box *b, const struct machine_exit *exit)
{
    const struct box_events *events = b->events;
    void *owner = b->owner;

    b->state = BOX_ENDED;
    b->events = NULL;
    if (b->occupant) {
        b->occupant->ops->ended(b->occupant, exit->message);
    }
    if (events) {
        events->on_gone(owner, exit);
    }
    b->ops->close(b);
}

void box_vfail(struct box *b, enum error_kind kind, const char *format, va_list args)
{
    struct machine_exit exit = {.how = EXIT_LOST, .kind = kind};
    char *message = NULL;

    if (b->state >= BOX_ENDED) {
        return;
    }
    if (vasprintf(&message, format, args) < 0) {
        message = NULL;
    }
    exit.message = message;
    box_gone(b, &exit);
    free(message);
}

void box_fail(struct box *b, enum error_kind kind, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    box_vfail(b, kind, format, args);
    va_end(args);
}
