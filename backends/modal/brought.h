#ifndef CELLBLOCK_MODAL_BROUGHT_H
#define CELLBLOCK_MODAL_BROUGHT_H

#include "backends/modal/client.h"
#include "backends/modal/mount_store.h"
#include "backends/modal/spec.h"

/*
 * Shares that a sandbox is made with, one after the other. Of type cloud: the secret that opens a
 * bucket is one that the service keeps, and is looked up by its name; no value of a secret is ever
 * here. Of type mount: the files are uploaded (mounting.h).
 */
struct modal_bringing;

struct modal_bringing_order {
    struct modal_client *client;
    struct mount_store *store;
    const char *app_id;          /* which mounts belong to; copied */
    struct share *const *shares; /* borrowed until modal_bringing_free */
    unsigned count;
    void (*on_line)(void *data, const char *line); /* for people; may be NULL */
    /* Once, never before modal_bringing_start returned; `brought` is valid until
     * modal_bringing_free. */
    void (*done)(void *data, const struct modal_brought *brought, const struct error *err);
    void *data;
};

/* NULL when out of memory. */
struct modal_bringing *modal_bringing_start(const struct modal_bringing_order *order);
/* Nobody is told anything any more; what is going is given up. Also after `done`; NULL is taken. */
void modal_bringing_free(struct modal_bringing *b);

#endif
