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
 * Nothing is made for short output: the first RUN_SPOOL_AFTER bytes wait in memory, and the file is
 * opened when one more comes. A write that fails (the sandbox's disk is full) ends the keeping,
 * never the run; `kept` against `total` tells it.
 */
struct spool {
    struct machine *machine; /* NULL: only count */
    struct buffer head;
    char *path;
    int fd;
    bool over; /* nothing more is kept */
    uint64_t total;
    uint64_t kept;
};

/* `machine` may be NULL, or have no files to write to: then bytes are only counted. */
void spool_init(struct spool *s, struct machine *machine);
void spool_deinit(struct spool *s);

/* Takes the bytes in; `run` and `stream` name the file, should one be needed. */
void spool_write(struct spool *s, const char *run, enum stream stream, const char *bytes,
                 size_t size);

/* Closes the file and says what became of the stream. With `gone` the session's files are lost, and
 * so nothing was kept. */
void spool_finish(struct spool *s, bool gone, struct full_output *ret);

#endif
