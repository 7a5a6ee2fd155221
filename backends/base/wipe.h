#ifndef CELLBLOCK_BASE_WIPE_H
#define CELLBLOCK_BASE_WIPE_H

#include <jansson.h>

/* Overwrites the texts of an object, which may be secrets, and gives up the reference.
 * NULL is allowed. */
void wipe_texts(json_t *object);

#endif
