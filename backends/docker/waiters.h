#ifndef CELLBLOCK_DOCKER_WAITERS_H
#define CELLBLOCK_DOCKER_WAITERS_H

#include <stdbool.h>

#include "backends/docker/engine.h"

/* Those who wait for one thing that is done once for all of them: a connection, an image. A zeroed
 * one is empty. */
struct waiters {
    struct waiter *first;
};

/* Notes one more. False when there is no memory for it: then he has been told so already. */
bool waiters_add(struct waiters *list, engine_done done, void *data);
/* Tells all, in the order in which they came. Who is added meanwhile waits for the next time. */
void waiters_tell(struct waiters *list, const struct error *err);

#endif
