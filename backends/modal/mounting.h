#ifndef CELLBLOCK_MODAL_MOUNTING_H
#define CELLBLOCK_MODAL_MOUNTING_H

#include "backends/modal/client.h"
#include "backends/modal/mount_store.h"

/*
 * A share of type mount on its way to the service, as the official client does it:
 *
 *   walk ─ hash ─► MountBatchedCheckExistence ─ what is missing ─► MountPutFile, a large file after
 *   its blob (blob.h) ─► MountGetOrCreate of the list ─► the id that a sandbox is made with
 *
 * It is an uploaded, read-only copy of the moment: what changes on this machine afterwards is not
 * seen. A file that changes while it is hashed or sent is an error and never half of both. Nothing
 * is hashed again that this process has hashed and that has not changed since (mount_store.h), and
 * nothing is sent that the service has. Memory: MODAL_MOUNT_MEMORY of small files, and a piece of
 * each blob.
 */
enum {
    MODAL_MOUNT_ASKS = 4, /* at once, of MODAL_MOUNT_BATCH files each */
    MODAL_MOUNT_BATCH = 64,
    MODAL_MOUNT_PUTS = 32,                 /* files at once, */
    MODAL_MOUNT_BLOBS = 4,                 /* of which so many are blobs, */
    MODAL_MOUNT_MEMORY = 16 * 1024 * 1024, /* and the others at most so many bytes */
    MODAL_MOUNT_TELL_MS = 500,             /* between two lines of progress */
    MODAL_MOUNT_PUT_MS = 300 * 1000,       /* one attempt to send a file */
    MODAL_MOUNT_AGAIN_MS = 1000,           /* the service took it and does not have it yet */
    MODAL_MOUNT_AGAIN = 60,
};

struct modal_mounting;

struct modal_mounting_order {
    struct modal_client *client;
    struct mount_store *store; /* both outlive it, or modal_mounting_free comes first */
    const char *app_id;        /* which the mount belongs to; copied */
    const struct share *share; /* copied */
    /* Lines for people. May be NULL. */
    void (*on_line)(void *data, const char *line);
    /* Once, from the loop. */
    void (*done)(void *data, const char *mount_id, const struct error *err);
    void *data;
};

/* NULL when out of memory or descriptors. */
struct modal_mounting *modal_mounting_start(const struct modal_mounting_order *order);
/* Nobody is told anything any more; what is going is given up. Also after `done`, and in it; NULL
 * is taken. Threads end by themselves, and the loop waits for them. */
void modal_mounting_free(struct modal_mounting *m);

#endif
