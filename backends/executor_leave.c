#include <stdlib.h>
#include <string.h>

#include "backends/executor_internal.h"

/*
 * A sandbox that outlives this process: it has a tag from its start, whoever kept the executor is
 * told where it is while it is there, and at the end it is let go of instead of being stopped.
 */
int executor_keep_sandbox(struct executor *e, const struct executor_kept *kept)
{
    char *tag = strdup(kept->tag);
    json_t *where = kept->where ? json_deep_copy(kept->where) : NULL;

    if (!tag || (kept->where && !where)) {
        free(tag);
        json_decref(where);
        return -1;
    }
    executor_free_kept(e);
    e->tag = tag;
    e->where = where;
    e->to_end = kept->to_end;
    e->on_where = kept->on_where;
    e->where_data = kept->data;
    return 0;
}

void executor_free_kept(struct executor *e)
{
    free(e->tag);
    json_decref(e->where);
    e->tag = NULL;
    e->where = NULL;
}

void executor_tell_where(struct executor *e)
{
    json_t *where = e->tag ? e->place->ops->machine_where(e->box->machine) : NULL;

    if (!where) {
        return;
    }
    json_decref(e->where);
    e->where = NULL; /* it was found: after its end a new one may be made */
    e->on_where(e->where_data, where);
    json_decref(where);
}

void executor_where_ended(struct executor *e, const struct box *box,
                          const struct machine_exit *exit)
{
    bool sought = e->where && !box->ready;
    /* A place that cannot be reached may hold it still. */
    bool is_gone = sought ? exit->kind == ERROR_NOT_FOUND && exit->how == EXIT_LOST
                          : box->ready && !exit->kept && exit->how != EXIT_LOST;

    if (e->tag && is_gone && !e->closing) {
        e->on_where(e->where_data, NULL);
    }
}

void executor_let_machine_be(struct executor *e)
{
    if (e->leaving && e->box) {
        e->place->ops->machine_leave(e->box->machine, e->left_busy);
    }
}

bool executor_leave(struct executor *e, executor_done done, void *data)
{
    if (!e->closing) {
        e->leaving = e->tag && e->box && e->state == EXECUTOR_READY;
        e->left_busy = e->current && !e->current->ending && !e->current->request.snapshot;
    }
    executor_close(e, done, data);
    return e->leaving;
}
