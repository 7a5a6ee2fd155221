#include "backends/docker/waiters.h"

#include <stdlib.h>

struct waiter {
    struct waiter *next;
    engine_done done;
    void *data;
};

bool waiters_add(struct waiters *list, engine_done done, void *data)
{
    static const struct error no_memory = {.kind = ERROR_INTERNAL,
                                           .message = (char *)"out of memory"};
    struct waiter *w = calloc(1, sizeof(*w));
    struct waiter **end = &list->first;

    if (!w) {
        done(data, &no_memory); /* too early, but never is worse */
        return false;
    }
    w->done = done;
    w->data = data;
    while (*end) {
        end = &(*end)->next;
    }
    *end = w;
    return true;
}

void waiters_tell(struct waiters *list, const struct error *err)
{
    struct waiter *w = list->first;

    list->first = NULL;
    while (w) {
        struct waiter *next = w->next;
        w->done(w->data, err);
        free(w);
        w = next;
    }
}
