#ifndef CELLBLOCK_DOCKER_DEMUX_H
#define CELLBLOCK_DOCKER_DEMUX_H

#include <stddef.h>
#include <stdint.h>

/*
 * An engine's stream of a container without a terminal: frames of
 *
 *   u8 stream (1 stdout, 2 stderr, 3 the engine's own words), u8 0, u8 0, u8 0, u32 BE size, bytes
 *
 * Nothing is collected: the bytes of a frame are passed on as they come, so its size needs no cap.
 */
enum demux_stream {
    DEMUX_STDOUT = 1,
    DEMUX_STDERR = 2,
    DEMUX_ENGINE = 3,
};

struct demux {
    unsigned char head[8];
    size_t have;   /* bytes of the head */
    uint32_t left; /* bytes of the frame that are still to come */
    int broken;
    void (*on_bytes)(void *data, enum demux_stream stream, const char *bytes, size_t size);
    void *data;
};

/* 0, or -EPROTO for bytes that are no frame: from then on always. on_bytes may set `broken` to stop
 * the rest. */
int demux_feed(struct demux *demux, const char *bytes, size_t size);

#endif
