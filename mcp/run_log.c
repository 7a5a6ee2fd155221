#include "mcp/run_log.h"

#include <stdlib.h>
#include <string.h>

enum {
    FIRST_ROOM = 4 * 1024,
    FIRST_SPANS = 16,
};

void run_log_deinit(struct run_log *log)
{
    free(log->bytes);
    free(log->spans);
    *log = (struct run_log){0};
}

static struct run_span *span_at(const struct run_log *log, size_t index)
{
    return &log->spans[(log->span_first + index) & (log->span_room - 1)];
}

/* Where the span ends. */
static uint64_t span_end(const struct run_log *log, size_t index)
{
    return index + 1 < log->span_count ? span_at(log, index + 1)->begin : log->end;
}

/* Forgets what is before `begin`. */
static void forget(struct run_log *log, uint64_t begin)
{
    log->begin = begin;
    while (log->span_count > 0 && span_end(log, 0) <= begin) {
        log->span_first = (log->span_first + 1) & (log->span_room - 1);
        log->span_count--;
    }
}

static void copy_out(const struct run_log *log, uint64_t offset, char *space, size_t size)
{
    size_t at = offset & (log->room - 1), first = log->room - at;

    first = first < size ? first : size;
    memcpy(space, log->bytes + at, first);
    memcpy(space + first, log->bytes, size - first);
}

static void copy_in(struct run_log *log, const char *bytes, size_t size)
{
    size_t at = log->end & (log->room - 1), first = log->room - at;

    first = first < size ? first : size;
    memcpy(log->bytes + at, bytes, first);
    memcpy(log->bytes, bytes + first, size - first);
}

/* Makes the ring large enough for `size` more bytes, or as large as it may be. */
static void grow(struct run_log *log, size_t size)
{
    size_t held = log->end - log->begin, room = log->room ? log->room : FIRST_ROOM, at, first;
    char *bytes;

    while (room < RUN_LOG_CAP && room < held + size) {
        room *= 2;
    }
    bytes = room > log->room ? malloc(room) : NULL;
    if (!bytes) {
        return;
    }
    at = log->begin & (room - 1);
    first = room - at < held ? room - at : held;
    if (held > 0) {
        copy_out(log, log->begin, bytes + at, first);
        copy_out(log, log->begin + first, bytes, held - first);
    }
    free(log->bytes);
    log->bytes = bytes;
    log->room = room;
}

static void grow_spans(struct run_log *log)
{
    size_t room = log->span_room ? log->span_room * 2 : FIRST_SPANS;
    struct run_span *spans = room <= RUN_LOG_SPANS ? malloc(room * sizeof(*spans)) : NULL;

    if (!spans) {
        return;
    }
    for (size_t i = 0; i < log->span_count; i++) {
        spans[i] = *span_at(log, i);
    }
    free(log->spans);
    log->spans = spans;
    log->span_room = room;
    log->span_first = 0;
}

/* A span of this stream that starts at the end, or the last one when that is of it. */
static void open_span(struct run_log *log, enum stream stream)
{
    if (log->span_count > 0 && span_at(log, log->span_count - 1)->stream == stream) {
        return;
    }
    if (log->span_count == log->span_room) {
        grow_spans(log);
    }
    if (log->span_count == log->span_room) {
        forget(log, span_end(log, 0));
    }
    *span_at(log, log->span_count++) = (struct run_span){log->end, stream};
}

void run_log_append(struct run_log *log, enum stream stream, const char *bytes, size_t size)
{
    if (!log->spans) {
        grow_spans(log);
    }
    grow(log, size);
    if (!log->spans || log->room == 0) {
        log->end += size;
        log->begin = log->end;
        return;
    }
    if (size > log->room) {
        bytes += size - log->room;
        log->end += size - log->room;
        size = log->room;
        forget(log, log->end);
    }
    if (log->end + size - log->begin > log->room) {
        forget(log, log->end + size - log->room);
    }
    if (size > 0) {
        open_span(log, stream);
        copy_in(log, bytes, size);
        log->end += size;
    }
}

/* The span that holds the offset, which is one before the end. */
static size_t find_span(const struct run_log *log, uint64_t offset)
{
    size_t low = 0, high = log->span_count;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (span_at(log, middle)->begin <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

size_t run_log_read(const struct run_log *log, uint64_t offset, char *space, size_t room,
                    enum stream *ret_stream)
{
    size_t index;
    uint64_t left;

    if (offset >= log->end || log->span_count == 0) {
        return 0;
    }
    index = find_span(log, offset);
    left = span_end(log, index) - offset;
    room = left < room ? (size_t)left : room;
    copy_out(log, offset, space, room);
    *ret_stream = span_at(log, index)->stream;
    return room;
}
