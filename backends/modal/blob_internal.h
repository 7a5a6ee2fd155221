#ifndef CELLBLOCK_MODAL_BLOB_INTERNAL_H
#define CELLBLOCK_MODAL_BLOB_INTERNAL_H

#include "backends/base/net/http.h"
#include "backends/modal/blob.h"

/* A put: one request of a blob, a stretch of a file to an address, tried several times
 * (blob_put.c); what a blob is put to, and in which order, is blob.c's. */
struct blob_put;

struct blob_put_order {
    uv_loop_t *loop;
    bool local;              /* http is allowed */
    const char *url;         /* copied */
    const char *content_md5; /* base64, of the whole file; NULL: it is a part of one, and neither
                              * this nor its type is said. Borrowed */
    int fd;
    uint64_t offset, size;
    /* Instead of a stretch of the file: the body of a POST, and what its answer must hold. Both are
     * borrowed. */
    const char *completion, *expected;
    void (*on_moved)(void *data, int64_t bytes);
    /* Once, from the loop. `md5` is of what was sent. */
    void (*done)(void *data, const unsigned char *md5, const struct error *err);
    void *data;
};

/* NULL with `err`: `done` is not called. */
struct blob_put *blob_put_start(const struct blob_put_order *order, struct error *err);
/* As modal_blob_free. */
void blob_put_free(struct blob_put *put, void (*freed)(void *data), void *data);

/* base64 with padding; `ret` has room for 4 * ((size + 2) / 3) + 1. */
void blob_base64(const unsigned char *bytes, size_t size, char *ret);

#endif
