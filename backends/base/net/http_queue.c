#include "backends/base/net/http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_ROOM = 64 * 1024 };

struct http_piece {
    struct http_piece *next;
    size_t start, end, room;
    char bytes[];
};

static struct http_piece *piece_new(size_t room)
{
    struct http_piece *piece = malloc(sizeof(*piece) + room);
    if (piece) {
        piece->next = NULL;
        piece->start = piece->end = 0;
        piece->room = room;
    }
    return piece;
}

int http_queue_append(struct http_queue *queue, const void *bytes, size_t size)
{
    struct http_piece *last = queue->last, *more = NULL;
    size_t fits = last ? last->room - last->end : 0;

    if (size > queue->cap - queue->size) {
        return -ENOBUFS;
    }
    fits = fits < size ? fits : size;
    if (fits < size) {
        size_t rest = size - fits;
        more = piece_new(rest > PIECE_ROOM ? rest : PIECE_ROOM);
        if (!more) {
            return -ENOMEM;
        }
        memcpy(more->bytes, (const char *)bytes + fits, rest);
        more->end = rest;
        *(last ? &last->next : &queue->first) = more;
        queue->last = more;
    }
    if (fits > 0) {
        memcpy(last->bytes + last->end, bytes, fits);
        last->end += fits;
    }
    queue->size += size;
    return 0;
}

const char *http_queue_peek(const struct http_queue *queue, size_t *ret_size)
{
    const struct http_piece *piece = queue->first;
    if (!piece) {
        return NULL;
    }
    *ret_size = piece->end - piece->start;
    return piece->bytes + piece->start;
}

void http_queue_consume(struct http_queue *queue, size_t size)
{
    struct http_piece *piece = queue->first;
    piece->start += size;
    queue->size -= size;
    if (piece->start == piece->end) {
        queue->first = piece->next;
        if (!queue->first) {
            queue->last = NULL;
        }
        free(piece);
    }
}

void http_queue_clear(struct http_queue *queue)
{
    while (queue->first) {
        struct http_piece *piece = queue->first;
        queue->first = piece->next;
        free(piece);
    }
    queue->last = NULL;
    queue->size = 0;
}
