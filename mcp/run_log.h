#ifndef CELLBLOCK_MCP_RUN_LOG_H
#define CELLBLOCK_MCP_RUN_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "backends/outcome.h"

/*
 * The newest output of a run, both streams in the order of their arrival, in bounded memory. A byte
 * has an offset that never changes: the first one that was printed has 0. The oldest bytes go when
 * there is no room, and `begin` tells how many.
 */
enum {
    RUN_LOG_CAP = 1024 * 1024, /* bytes kept */
    RUN_LOG_SPANS = 8 * 1024,  /* changes from one stream to the other that are kept */
};

/* From `begin` to the next span's, all of one stream. */
struct run_span {
    uint64_t begin;
    enum stream stream;
};

struct run_log {
    char *bytes; /* a ring: the byte with offset n is bytes[n % room] */
    size_t room; /* a power of two */
    uint64_t begin, end;
    struct run_span *spans; /* a ring of span_room, a power of two */
    size_t span_room, span_first, span_count;
};

/* A log that is all zero is empty. */
void run_log_deinit(struct run_log *log);

/* Never fails: what finds no memory is gone as the oldest bytes are. */
void run_log_append(struct run_log *log, enum stream stream, const char *bytes, size_t size);

/* Copies what is there from `offset` on, of one stream and at most `room` bytes. The number of
 * bytes, 0 at the end. `offset` is not before log->begin. */
size_t run_log_read(const struct run_log *log, uint64_t offset, char *space, size_t room,
                    enum stream *ret_stream);

#endif
