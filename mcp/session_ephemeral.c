#include <errno.h>
#include <stdlib.h>

#include "mcp/session_private.h"

/* A fresh executor for one run, with the shares of a session. */

struct executor *session_ephemeral_executor(struct session *s, struct error *err)
{
    struct ephemeral *e = calloc(1, sizeof(*e));
    const struct share *share;

    if (e) {
        e->executor = executor_new(s->slot->place);
    }
    if (!e || !e->executor) {
        free(e);
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "session");
        return NULL;
    }
    e->owner = s->owner;
    e->session = s;
    e->slot = s->slot;
    e->slot->users++;
    e->next = s->owner->ephemerals;
    s->owner->ephemerals = e;
    for (unsigned i = 0; (share = executor_share(s->executor, i)); i++) {
        struct share *clone = share_clone(share);

        if (!clone) {
            ephemeral_close(e);
            error_set_code(err, ERROR_INTERNAL, errno, "share %s", share->source);
            return NULL;
        }
        executor_add_share(e->executor, clone, NULL, session_share_noted, NULL);
    }
    return e->executor;
}

static void on_ephemeral_closed(void *data, const struct error *err)
{
    struct ephemeral *e = data, **link;
    struct sessions *owner = e->owner;
    struct place_slot *slot = e->slot;

    (void)err;
    for (link = &owner->ephemerals; *link != e; link = &(*link)->next) {
    }
    *link = e->next;
    free(e);
    place_slot_release(owner, slot);
}

static void ephemeral_close_now(void *data)
{
    struct ephemeral *e = data;

    executor_close(e->executor, on_ephemeral_closed, e);
}

void ephemeral_close(struct ephemeral *e)
{
    if (!e->closing) {
        e->closing = true;
        e->session = NULL;
        if (!artifacts_rescue(e->owner->artifacts, e->executor, ephemeral_close_now, e)) {
            ephemeral_close_now(e);
        }
    }
}

void session_ephemerals_close(struct session *s)
{
    for (struct ephemeral *e = s->owner->ephemerals; e; e = e->next) {
        if (e->session == s) {
            ephemeral_close(e);
        }
    }
}

void session_ephemeral_close(struct session *s, struct executor *executor)
{
    for (struct ephemeral *e = s->owner->ephemerals; e; e = e->next) {
        if (e->executor == executor) {
            ephemeral_close(e);
            return;
        }
    }
}
