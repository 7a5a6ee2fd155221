#include "backends/modal/grpc_frame.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

enum { PIECE_CAP = 1024 * 1024 /* more than one read of the HTTP layer */ };

void grpc_frames_init(struct grpc_frames *frames, size_t cap)
{
    frames->cap = cap < UINT32_MAX ? cap : UINT32_MAX;
    buffer_init(&frames->in, frames->cap + GRPC_FRAME_HEAD + PIECE_CAP);
}

void grpc_frames_deinit(struct grpc_frames *frames)
{
    buffer_deinit(&frames->in);
}

/* 1 when there is a whole message, whose size with its head is *ret_size; 0 when there is not. */
static int look(const struct grpc_frames *frames, size_t *ret_size)
{
    const unsigned char *head = (const unsigned char *)buffer_data(&frames->in);
    size_t have = buffer_size(&frames->in), size;

    if (have == 0) {
        return 0;
    }
    if (head[0] != 0) {
        return -EBADMSG;
    }
    if (have < GRPC_FRAME_HEAD) {
        return 0;
    }
    size = (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
    if (size > frames->cap) {
        return -EMSGSIZE;
    }
    *ret_size = GRPC_FRAME_HEAD + size;
    return have >= *ret_size;
}

static int append(struct grpc_frames *frames, const char *bytes, size_t size)
{
    int r = size > 0 ? buffer_append(&frames->in, bytes, size) : 0;
    return r == -ENOBUFS ? -EMSGSIZE : r;
}

int grpc_frames_feed(struct grpc_frames *frames, const void *bytes, size_t size,
                     bool (*take)(void *data, const void *message, size_t size), void *data)
{
    size_t whole = 0;
    int r = append(frames, bytes, size);

    while (r == 0 && (r = look(frames, &whole)) > 0) {
        bool more = take(data, buffer_data(&frames->in) + GRPC_FRAME_HEAD, whole - GRPC_FRAME_HEAD);
        buffer_consume(&frames->in, whole);
        if (buffer_size(&frames->in) == 0) {
            buffer_reset(&frames->in); /* what was needed for a large message is given back */
        }
        if (!more) {
            return 0;
        }
        r = 0;
    }
    return r;
}

bool grpc_frames_waiting(const struct grpc_frames *frames)
{
    size_t whole;
    return look(frames, &whole) > 0;
}

size_t grpc_frames_left(const struct grpc_frames *frames)
{
    return buffer_size(&frames->in);
}

void grpc_frame_head(unsigned char head[GRPC_FRAME_HEAD], size_t size)
{
    head[0] = 0;
    head[1] = (unsigned char)(size >> 24);
    head[2] = (unsigned char)(size >> 16);
    head[3] = (unsigned char)(size >> 8);
    head[4] = (unsigned char)size;
}
