#ifndef CELLBLOCK_LOCAL_COPY_H
#define CELLBLOCK_LOCAL_COPY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/base/error.h"

/*
 * Copies a file or a tree into a sandbox's files, from a thread that has become the sandbox's user.
 * Nothing that the code in the sandbox has put there is followed: no link, no mount of another
 * root.
 */
struct copy {
    int source_fd;      /* O_PATH */
    int root_fd;        /* O_PATH of the sandbox's root */
    const char *dest;   /* absolute in that root, normal form */
    const char *source; /* for messages */
    unsigned uid;       /* likewise: the sandbox's user on the host */
    uint64_t limit; /* of bytes, where no file system of the sandbox's own holds them; 0: none */
    _Atomic uint64_t bytes; /* so far, to be read by others */
    _Atomic uint64_t files;
    _Atomic bool stop; /* set by others: give up soon */
};

enum {
    COPY_DEPTH_CAP = 256,
    COPY_FILES_CAP = 1000000,
};

/* Blocking. 0, or -1 with `err`, and then nothing is left at dest. */
int copy_in(struct copy *copy, struct error *err);

/* Makes the folder of `path` under `root_fd` as far as it is missing and opens it (O_PATH);
 * *ret_name is the last part of `path`. -errno; a link on the way
 * gives -ENOTDIR. */
int copy_open_parent(int root_fd, const char *path, int *ret_fd, const char **ret_name);

#endif
