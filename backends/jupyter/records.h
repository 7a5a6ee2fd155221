#ifndef CELLBLOCK_JUPYTER_RECORDS_H
#define CELLBLOCK_JUPYTER_RECORDS_H

#include <stdbool.h>

#include "backends/base/strings.h"

/*
 * Which kernels we have made on somebody's Jupyter server, so that another cellblock can remove
 * them when this one was killed.
 *
 * A record is a file of a living place, in $XDG_RUNTIME_DIR/cellblock or else
 * ~/.local/state/cellblock (0700, the user's own): host, address of the server (no user, password
 * or token in it) and the kernels' ids. It is held with flock, which ends with the process: a
 * record that can be locked is a dead one's, and is forgotten after 30 days when nobody has come
 * back to its server. There is no file while there is no kernel. Where no
 * such folder can be had nothing is recorded, and all else works.
 */
struct records;

enum {
    RECORD_KERNELS_CAP = 256, /* more are not recorded */
    RECORD_ID_CAP = 200,
    RECORD_SIZE_CAP = 64 * 1024,
    RECORDS_LEFT_CAP = 16, /* looked at in one go */
};

/* NULL when out of memory. */
struct records *records_new(const char *url);
/* The server's address without user, password and query. */
const char *records_url(const struct records *r);
void records_add(struct records *r, const char *id);
void records_remove(struct records *r, const char *id);
/* A record that still has kernels stays, for the next one. */
void records_free(struct records *r);

/* A dead one's, held until record_left_close. */
struct record_left {
    int folder, fd;
    char name[64];
    struct strings kernels;
};

/* Those for this server, on this host; the number of them. */
unsigned records_left(const char *url, struct record_left left[RECORDS_LEFT_CAP]);
/* With `gone` the record is removed. */
void record_left_close(struct record_left *left, bool gone);

#endif
