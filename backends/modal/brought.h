#ifndef CELLBLOCK_MODAL_BROUGHT_H
#define CELLBLOCK_MODAL_BROUGHT_H

#include "backends/modal/client.h"
#include "backends/modal/spec.h"

/*
 * Shares that a sandbox is made with, brought to the service before it is made:
 *
 *   mount   a read-only copy: its files are uploaded (those that the service does not have yet, by
 *           their SHA-256) and tied together to a Mount object, which the sandbox then shows
 *   cloud   nothing is uploaded: the secret that opens the bucket is looked up by its name
 *
 * Links that lead out of a share are refused, as in every other copy; so is more than
 * MODAL_MOUNT_MAX_BYTES or MODAL_MOUNT_MAX_FILES of one share.
 */
enum {
    MODAL_MOUNT_MAX_FILES = 20 * 1000,
    MODAL_MOUNT_INLINE = 4 * 1024 * 1024, /* bytes of a file that travel in the call itself */
};

struct modal_bringing;

/* `done` never before this returned, once; `brought` is valid until modal_bringing_free. `waiting`
 * may be NULL. The shares are borrowed until `done`. NULL when out of memory. */
struct modal_bringing *modal_bringing_start(
    struct modal_client *client, uv_loop_t *loop, const char *app_id, struct share *const *shares,
    unsigned count, void (*waiting)(void *data, const char *what),
    void (*done)(void *data, const struct modal_brought *brought, const struct error *err),
    void *data);
/* Nobody is told anything any more; what is going is given up. Also after `done`; NULL is taken. */
void modal_bringing_free(struct modal_bringing *b);

#endif
