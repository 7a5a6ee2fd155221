#ifndef CELLBLOCK_NET_TAR_H
#define CELLBLOCK_NET_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "backends/base/error.h"
#include "backends/share.h"

/*
 * Makes a tar stream (pax, POSIX.1-2001) of a share's source, on libarchive, read by a thread so
 * that a slow disk never holds the loop up. The only owner of libarchive.
 *
 * Everything is read through the share's own descriptor: no name is looked up again, links are kept
 * as links and never followed, and what is neither file, directory nor link (a device, a socket, a
 * FIFO) is an error that names it. Owners are set to uid:gid, modes are kept (owner may always read
 * and write; set-uid, set-gid and sticky bits are dropped). Sources that change while they are read
 * are an error, never a short file.
 */
struct tar_writer;

struct tar_options {
    const char *name; /* what the top is called in the archive: "report.csv"; no leading "/" */
    uint32_t uid, gid;
    uint64_t limit; /* of bytes of content; more is ERROR_LIMIT. 0: none */
};

enum {
    TAR_PIECE = 128 * 1024, /* the most bytes that on_piece gets */
    TAR_DEPTH_CAP = 256,
    TAR_FILES_CAP = 1000000,
};

struct tar_events {
    /* A piece of the stream, in order. The next one comes after tar_writer_next: the taker sets the
     * pace. */
    void (*on_piece)(void *data, const char *bytes, size_t size);
    /* Once, last, unless closed first. NULL: all of it has been given. */
    void (*on_end)(void *data, const struct error *err);
};

/* Starts at once; the first piece comes by itself, from the loop. `share` is borrowed until
 * on_end or `closed`. NULL with `err`. */
struct tar_writer *tar_writer_new(uv_loop_t *loop, const struct share *share,
                                  const struct tar_options *options,
                                  const struct tar_events *events, void *data, struct error *err);
void tar_writer_next(struct tar_writer *writer);
/* Bytes of content and files so far, for progress. */
void tar_writer_progress(const struct tar_writer *writer, uint64_t *ret_bytes, uint64_t *ret_files);
/* Gives up if needed; `closed` (may be NULL) is called when the thread is gone and it is freed. */
void tar_writer_close(struct tar_writer *writer, void (*closed)(void *data), void *data);

/*
 * A tar of files made in memory (the context of an image build): whole, at once. `files` is an
 * array of name, bytes, size, mode. *ret is to be freed.
 */
struct tar_file {
    const char *name;
    const void *bytes;
    size_t size;
    unsigned mode;
};
int tar_of_files(const struct tar_file *files, size_t count, char **ret, size_t *ret_size,
                 struct error *err);

#endif
