#ifndef CELLBLOCK_MODAL_BROUGHT_H
#define CELLBLOCK_MODAL_BROUGHT_H

#include "backends/modal/client.h"
#include "backends/modal/spec.h"

/*
 * Shares of type cloud, which a sandbox is made with: the secret that opens a bucket is one that
 * the service keeps, and is looked up by its name before the sandbox is made. Nothing is uploaded,
 * and no value of a secret is ever here.
 */
struct modal_bringing;

/* `done` never before this returned, once; `brought` is valid until modal_bringing_free. The shares
 * are borrowed until then. NULL when out of memory. */
struct modal_bringing *modal_bringing_start(
    struct modal_client *client, uv_loop_t *loop, struct share *const *shares, unsigned count,
    void (*done)(void *data, const struct modal_brought *brought, const struct error *err),
    void *data);
/* Nobody is told anything any more; what is going is given up. Also after `done`; NULL is taken. */
void modal_bringing_free(struct modal_bringing *b);

#endif
