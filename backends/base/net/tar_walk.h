#ifndef CELLBLOCK_NET_TAR_WALK_H
#define CELLBLOCK_NET_TAR_WALK_H

#include <stdatomic.h>
#include <stdint.h>

#include "backends/base/net/tar.h"
#include "backends/base/net/tar_library.h"

/*
 * Between tar.c (threads and pace) and tar_files.c: what knows libarchive and the file system. All
 * of it blocks.
 */
struct tar_walk {
    struct tar_library library;
    struct archive *archive; /* of tar_archive_new, for tar_walk to write to */
    const struct share *share;
    struct tar_options options;
    _Atomic uint64_t bytes; /* so far, to be read by others */
    _Atomic uint64_t files;
    _Atomic bool stop; /* set by others: give up soon */
    char *space;       /* TAR_PIECE bytes, what files are read into */
    bool abandoned;    /* set by tar_walk when it has failed */
};

/* Writes the whole source and the archive's end. 0, or -1 with `err`. */
int tar_walk(struct tar_walk *walk, struct error *err);

/*
 * A pax archive whose bytes go to `write`, as many at a time as there are. NULL without memory.
 *
 * `write` must answer with the size it was given, also when it can keep nothing any more: after a
 * failed write libarchive 3.6 does not free all of its memory. Only when the archive has been
 * abandoned it answers -1, so that freeing it does not fill up the entry that was being written.
 */
struct archive *tar_archive_new(const struct tar_library *library, archive_write_callback *write,
                                void *data);

#endif
