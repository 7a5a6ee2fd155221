#include "backends/kernels/runner/frame.h"

#include <errno.h>

void frame_header(unsigned char out[FRAME_HEADER], enum frame_type type, size_t size)
{
    out[0] = (unsigned char)(size & 0xff);
    out[1] = (unsigned char)(size >> 8 & 0xff);
    out[2] = (unsigned char)(size >> 16 & 0xff);
    out[3] = (unsigned char)(size >> 24 & 0xff);
    out[4] = (unsigned char)type;
}

/* Only what a worker may send: a RUN or an ACK from its side is as strange as any other byte. */
static bool to_server(uint8_t type)
{
    switch (type) {
    case FRAME_GREETING:
    case FRAME_STDOUT:
    case FRAME_STDERR:
    case FRAME_DISPLAY:
    case FRAME_CLEAR:
    case FRAME_NOTE:
    case FRAME_DELAYED:
    case FRAME_BEGIN:
    case FRAME_DONE:
        return true;
    default:
        return false;
    }
}

int frame_next(const struct buffer *in, struct frame *ret)
{
    const unsigned char *bytes = (const unsigned char *)buffer_data(in);
    size_t have = buffer_size(in);
    size_t size;

    if (have < FRAME_HEADER) {
        return 0;
    }
    /* Both are judged as soon as the header is there, so that nobody waits for 4 GiB of nonsense.
     */
    if (!to_server(bytes[4])) {
        return -EPROTO;
    }
    size =
        (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
    if (size > FRAME_PAYLOAD_CAP) {
        return -EMSGSIZE;
    }
    if (have - FRAME_HEADER < size) {
        return 0;
    }
    *ret = (struct frame){
        .type = bytes[4],
        .payload = (const char *)bytes + FRAME_HEADER,
        .size = size,
    };
    return 1;
}
