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
 * FIFO) is an error that names it. Owners are set to uid:gid, modes and times of change are kept
 * (owner may always read and write; set-uid, set-gid and sticky bits are dropped). Sources that
 * change while they are read are an error, never a short file. Holes of a sparse file are sent as
 * zeros.
 *
 * Root's power to pass over permissions is not used for reading: what a file's mode keeps from the
 * server's user does not get into a sandbox, whoever runs the server.
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
     * pace. The bytes stay as they are until then. */
    void (*on_piece)(void *data, const char *bytes, size_t size);
    /* Once, last, unless closed first. NULL: all of it has been given and taken. An error may come
     * while the taker still has a piece. */
    void (*on_end)(void *data, const struct error *err);
};

/* Starts at once; the first piece comes by itself, from the loop. `share` is borrowed until
 * on_end or `closed`; the options are copied. NULL with `err`. */
struct tar_writer *tar_writer_new(uv_loop_t *loop, const struct share *share,
                                  const struct tar_options *options,
                                  const struct tar_events *events, void *data, struct error *err);
/* The taker is done with its piece. May be called in on_piece itself. */
void tar_writer_next(struct tar_writer *writer);
/* Bytes of content and files so far, for progress. */
void tar_writer_progress(const struct tar_writer *writer, uint64_t *ret_bytes, uint64_t *ret_files);
/* Gives up if needed; `closed` (may be NULL) is called when the thread is gone and it is freed.
 * Must be called after on_end too; may be called in a callback. */
void tar_writer_close(struct tar_writer *writer, void (*closed)(void *data), void *data);

/* May this share's source be read, and is it something that can be copied? As the thread will find
 * it; for place_ops.share_check. Looks at the top only; 0, or -1 with the reason. */
int tar_check(const struct share *share, struct error *err);

enum { TAR_MEMORY_CAP = 64 * 1024 * 1024 };

/*
 * A tar of files made in memory (the context of an image build): whole, at once, the same bytes for
 * the same files. `files` is an array of name, bytes, size, mode. *ret is to be freed. Past
 * TAR_MEMORY_CAP it is an ERROR_LIMIT.
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
