#ifndef CELLBLOCK_MODAL_GRPC_FRAME_H
#define CELLBLOCK_MODAL_GRPC_FRAME_H

#include "backends/base/buffer.h"

/*
 * gRPC's messages in the bytes of a body: each has one byte of flags (1: compressed) and four of
 * its size, the highest first, before it. Bytes come in pieces of any size; a message is given when
 * it is whole.
 */
struct grpc_frames {
    struct buffer in;
    size_t cap; /* of one message */
};

enum { GRPC_FRAME_HEAD = 5 };

void grpc_frames_init(struct grpc_frames *frames, size_t cap);
void grpc_frames_deinit(struct grpc_frames *frames);

/* Takes the bytes in, then gives each whole message to `take` until it says that it wants no more
 * for now: the rest is kept for the next time (which may come with no bytes). `take` may not use
 * the frames. -EBADMSG (a flag that was not agreed on), -EMSGSIZE (a message past the cap, as soon
 * as its head says so), -ENOMEM: nothing more can be read then. */
int grpc_frames_feed(struct grpc_frames *frames, const void *bytes, size_t size,
                     bool (*take)(void *data, const void *message, size_t size), void *data);

/* Is a message whole, and only not taken yet? */
bool grpc_frames_waiting(const struct grpc_frames *frames);
/* Bytes that were not taken: at the end of a body, not 0 means that it was cut. */
size_t grpc_frames_left(const struct grpc_frames *frames);

/* Writes the head of a message, which is not compressed. */
void grpc_frame_head(unsigned char head[GRPC_FRAME_HEAD], size_t size);

#endif
