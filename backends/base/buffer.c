#include "backends/base/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_ROOM = 4096,
    KEPT_ROOM = 64 * 1024, /* an allocation up to this size survives buffer_reset */
};

void buffer_init(struct buffer *b, size_t cap)
{
    *b = (struct buffer){.cap = cap};
}

void buffer_deinit(struct buffer *b)
{
    free(b->base);
    *b = (struct buffer){.cap = b->cap};
}

static void move_to_front(struct buffer *b)
{
    size_t size = buffer_size(b);
    memmove(b->base, b->base + b->start, size);
    b->start = 0;
    b->end = size;
}

/* Twice as much until it fits, but never more than the cap. */
static int grow(struct buffer *b, size_t needed)
{
    size_t room = b->room ? b->room : FIRST_ROOM;
    char *base;

    while (room < needed) {
        room = room > b->cap / 2 ? b->cap : room * 2;
    }
    if (room > b->cap) {
        room = b->cap;
    }
    base = realloc(b->base, room);
    if (!base) {
        return -ENOMEM;
    }
    b->base = base;
    b->room = room;
    return 0;
}

int buffer_reserve(struct buffer *b, size_t want, char **ret_space)
{
    size_t size = buffer_size(b);

    if (want > b->cap - size) {
        return -ENOBUFS;
    }
    if (!b->base || b->room - b->end < want) {
        if (b->base && b->start > 0) {
            move_to_front(b);
        }
        if (!b->base || b->room - b->end < want) {
            int r = grow(b, size + want);
            if (r < 0) {
                return r;
            }
        }
    }
    *ret_space = b->base + b->end;
    return 0;
}

void buffer_commit(struct buffer *b, size_t n)
{
    b->end += n;
}

int buffer_append(struct buffer *b, const void *data, size_t n)
{
    char *space;
    int r;

    if (n == 0) {
        return 0;
    }
    r = buffer_reserve(b, n, &space);
    if (r < 0) {
        return r;
    }
    memcpy(space, data, n);
    buffer_commit(b, n);
    return 0;
}

void buffer_consume(struct buffer *b, size_t n)
{
    b->start += n;
    if (b->start == b->end) {
        b->start = b->end = 0;
    }
}

void buffer_reset(struct buffer *b)
{
    b->start = b->end = 0;
    if (b->room > KEPT_ROOM) {
        free(b->base);
        b->base = NULL;
        b->room = 0;
    }
}
