#ifndef CELLBLOCK_MODAL_MOUNTING_INTERNAL_H
#define CELLBLOCK_MODAL_MOUNTING_INTERNAL_H

#include "api.pb-c.h"
#include "backends/modal/blob.h"
#include "backends/modal/mounting.h"

/* Parts of mounting.h: the way from the folder to the id (mounting.c), what the service has of it
 * (mounting_ask.c), and the files that it has not (mounting_put.c). */

/* A question for a batch of files. */
struct mounting_ask {
    struct modal_mounting *m;
    struct modal_rpc *rpc; /* NULL: free */
    size_t first, count;   /* of m->needed */
};

/* One file on its way. */
struct mounting_put {
    struct modal_mounting *m;
    size_t file; /* of the list */
    bool busy;
    bool working; /* a thread opens or reads it */
    bool leaving; /* it waits for its blob's end only */
    uv_work_t work;
    struct error failure; /* of the thread */
    void *bytes;          /* of a small one */
    int fd;               /* of a blob's; -1 */
    struct modal_blob *blob;
    char *blob_id;
    struct modal_rpc *rpc;
    unsigned again;
};

struct modal_mounting {
    struct modal_mounting_order order;
    struct share *share;
    char *app_id;
    struct mount_kept *earlier; /* NULL: none */
    unsigned forgotten;         /* of the store, when it began */
    struct mount_list *list;
    struct mount_hashing hashing;
    uv_work_t work;
    bool working;
    int worked;           /* what the thread answered */
    struct error failure; /* and why */
    size_t *needed;       /* of the list: one of each hash that the service may lack */
    size_t needed_count, next;
    bool recalled; /* of some it was known before that the service has them */
    struct mounting_ask asks[MODAL_MOUNT_ASKS];
    struct mounting_put puts[MODAL_MOUNT_PUTS];
    unsigned busy, blobs;
    uint64_t in_memory;
    uint64_t to_send, sent;
    size_t files_sent;
    struct modal_rpc *rpc; /* MountGetOrCreate */
    uint64_t told;         /* when */
    uv_timer_t life;       /* its handle is closed last: nothing is freed inside of a callback's
                            * caller */
    bool life_over;
    bool over; /* `done` was called */
    bool gone;
};

/* `done`, with the error; what is going is given up. */
void mounting_fail(struct modal_mounting *m, const struct error *err);
/* "mounting /data: ", and the rest; at most every MODAL_MOUNT_TELL_MS. */
void mounting_tell(struct modal_mounting *m, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Something of it has ended: it is freed if it was the last, and nobody waits for it. True: it has
 * ended for its owner, and nothing more is to be done. */
bool mounting_ended(struct modal_mounting *m);

/* Fills `needed`. -1: out of memory. */
int mounting_list_needed(struct modal_mounting *m);
void mounting_ask(struct modal_mounting *m); /* mounting_send follows */
void mounting_cancel_asks(struct modal_mounting *m);
bool mounting_asks(const struct modal_mounting *m); /* are there any? */

void mounting_send(struct modal_mounting *m); /* mounting_make follows */
void mounting_cancel_puts(struct modal_mounting *m);

void mounting_make(struct modal_mounting *m);

#endif
