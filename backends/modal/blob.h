#ifndef CELLBLOCK_MODAL_BLOB_H
#define CELLBLOCK_MODAL_BLOB_H

#include <md5.h>
#include <sha256.h>

#include "backends/modal/client.h"

/*
 * A blob: bytes of a file that are too many for a message. BlobCreate says where they go, and they
 * are put there over HTTP, as one request or in parts, with their length said ahead; what the store
 * answers (ETag) is held against the MD5 of what was read for it. Each request is tried MODAL_BLOB_
 * TRIES times, and where the service names several stores, the next one follows.
 *
 * The addresses are the service's and hold the right to write there: no message of ours quotes more
 * of them than the host. They are https, or http where the control plane is on this machine. The
 * file is read by threads, a piece at a time.
 */
enum {
    MODAL_BLOB_TRIES = 3,
    MODAL_BLOB_AGAIN_MS = 300, /* doubled each time */
    MODAL_BLOB_PIECE = 1024 * 1024,
    MODAL_BLOB_PARTS = 10000,
    MODAL_BLOB_URL_CAP = 16 * 1024,
};

struct modal_blob;

struct modal_blob_order {
    int fd; /* borrowed until modal_blob_free */
    uint64_t size;
    const unsigned char *sha256, *md5; /* copied */
    /* Something of it has moved: so many bytes more; fewer (negative) when it begins anew. */
    void (*on_moved)(void *data, int64_t bytes);
    /* Once, from the loop. */
    void (*done)(void *data, const char *blob_id, const struct error *err);
    void *data;
};

/* NULL with `err`: `done` is not called. */
struct modal_blob *modal_blob_start(struct modal_client *client,
                                    const struct modal_blob_order *order, struct error *err);
/* Also after `done`, and in it. What is going is given up, and nothing is called any more but
 * `freed` (may be NULL), when `fd` may be closed. */
void modal_blob_free(struct modal_blob *blob, void (*freed)(void *data), void *data);

/* "https://host:1/a?b" into "https://host:1" (to be freed) and "/a?b" (points into it). -1 for what
 * is no such address, or is http and not `local`. */
int modal_blob_split(const char *url, bool local, char **ret_base, const char **ret_path);

#endif
