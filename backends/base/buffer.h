#ifndef CELLBLOCK_BASE_BUFFER_H
#define CELLBLOCK_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A growable byte buffer with a mandatory cap: nothing that comes from outside can make it larger
 * than `cap`. Bytes are taken from the front with buffer_consume, cheaply (an offset moves; memory
 * moves only when room is needed at the end).
 */
struct buffer {
    char *base;
    size_t start; /* first unread byte */
    size_t end;   /* one past the last byte */
    size_t room;  /* bytes allocated */
    size_t cap;   /* the most that end - start may be */
};

/* `cap` in bytes, > 0. Allocates nothing yet. */
void buffer_init(struct buffer *b, size_t cap);
void buffer_deinit(struct buffer *b);

static inline size_t buffer_size(const struct buffer *b)
{
    return b->end - b->start;
}

static inline char *buffer_data(const struct buffer *b)
{
    return b->base ? b->base + b->start : NULL;
}

/* Makes room for at least `want` more bytes at the end; *ret_space points at it. -ENOBUFS when the
 * cap would be passed (the buffer is unchanged), -ENOMEM. After writing n bytes, buffer_commit(n).
 */
int buffer_reserve(struct buffer *b, size_t want, char **ret_space);
void buffer_commit(struct buffer *b, size_t n);

/* Appends all of it or, on -ENOBUFS / -ENOMEM, nothing. */
int buffer_append(struct buffer *b, const void *data, size_t n);

/* Drops n bytes from the front; n <= buffer_size. */
void buffer_consume(struct buffer *b, size_t n);

/* Empties it; keeps a small allocation and gives a large one back. */
void buffer_reset(struct buffer *b);

#endif
