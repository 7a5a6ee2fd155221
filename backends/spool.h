#ifndef CELLBLOCK_SPOOL_H
#define CELLBLOCK_SPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/base/buffer.h"
#include "backends/outcome.h"
#include "backends/place.h"

/*
 * The full output of one stream of one run, kept in the session's own files.
 *
 * Where the server cannot write the sandbox's files (place_ops.machine_spool_open is NULL) the file
 * is kept here while output comes, and executor_keep.c brings it in. Where the far side keeps it
 * (kernel_ops.keeps), bytes are only counted here, and it says in the end what it has kept.
 *
 * Nothing is made for short output: the first RUN_SPOOL_AFTER bytes wait in memory, and the file is
 * opened when one more comes. A write that fails (the sandbox's disk is full) ends the keeping,
 * never the run; `kept` against `total` tells it.
 */
struct spool {
    struct machine *machine; /* NULL: only count */
    bool there;              /* the far side keeps it */
    bool here; /* the file is a nameless one of ours, to be brought into the sandbox at the end */
    struct buffer head;
    char *path;
    int fd;
    bool over; /* nothing more is kept */
    uint64_t total;
    uint64_t kept;
};

/* With a NULL `machine` bytes are only counted. `there`: the far side keeps them. */
void spool_init(struct spool *s, struct machine *machine, bool there);
void spool_deinit(struct spool *s);

/* Takes the bytes in; `run` and `stream` name the file, should one be needed. */
void spool_write(struct spool *s, const char *run, enum stream stream, const char *bytes,
                 size_t size);

/* So many bytes were printed and do not come. */
void spool_skip(struct spool *s, uint64_t bytes);
/* What the far side says to have kept, after all else. What cannot be true is no word at all, and
 * only the first counts. */
void spool_kept_there(struct spool *s, const char *run, enum stream stream, uint64_t bytes);

/* Is there a file here that the sandbox is still to get? */
bool spool_is_here(const struct spool *s);
/* A descriptor of it (O_PATH, the caller's), or -errno. */
int spool_source(const struct spool *s);
/* It did not get there. */
void spool_was_lost(struct spool *s);

/* Closes the file and says what became of the stream. With `gone` the session's files are lost, and
 * so nothing was kept. */
void spool_finish(struct spool *s, bool gone, struct full_output *ret);

#endif
