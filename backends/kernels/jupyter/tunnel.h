#ifndef CELLBLOCK_JUPYTER_TUNNEL_H
#define CELLBLOCK_JUPYTER_TUNNEL_H

#include <jansson.h>
#include <uv.h>

#include "backends/base/error.h"
#include "backends/kernels/runner/supervised.h"

/*
 * A way to a port that only listens on the loopback of a container's own network: no port on the
 * host, no network in the container.
 *
 * At the near end is a unix socket of ours that no other process can connect to: it has no name in
 * the file system any more (nothing is left of it, however we end), and who is not this process is
 * turned away. At the far end is gateway_keeper.py, the container's first process, which starts the
 * server that listens there. Between them is the container's one byte stream, with any number of
 * connections in it; the frames are described in gateway_keeper.py.
 *
 * Of each connection at most TUNNEL_WINDOW bytes are on their way in each direction.
 */
struct tunnel;

enum {
    TUNNEL_WINDOW = 1024 * 1024,
    TUNNEL_GRANT = 128 * 1024, /* bytes taken before the far side is told */
    TUNNEL_PIECE = 64 * 1024,  /* of a frame's payload, in both directions */
    TUNNEL_CONNECTIONS = 24,   /* at a time; one more is closed at once */
};

struct tunnel_events {
    /* The server at the far end listens. */
    void (*on_ready)(void *data);
    /* It does not, though it is one that listened when it was left. */
    void (*on_gone)(void *data);
    /* The far side does not keep the protocol; the stream should be ended. Once. */
    void (*on_broken)(void *data, const char *why);
};

/* NULL with `err`. `stream` is borrowed until tunnel_ended or tunnel_close. */
struct tunnel *tunnel_new(uv_loop_t *loop, struct byte_stream *stream,
                          const struct tunnel_events *events, void *data, struct error *err);
/* The argv of the far command, NULL-terminated; static but for `python`, which is borrowed. */
void tunnel_command(const char *python, const char *argv[6]);
/* The stream is open: sends the keeper and its configuration ({argv, env, port}, borrowed). */
int tunnel_open(struct tunnel *tunnel, json_t *config);
/* Where to connect to: a path that is good in this process only. */
const char *tunnel_path(const struct tunnel *tunnel);
/* Every process of the container but the keeper and the server that it started is ended. */
void tunnel_kill(struct tunnel *tunnel);
/* Bytes that the far side sent. */
void tunnel_feed(struct tunnel *tunnel, const char *bytes, size_t size);
/* Closes all connections; who connects afterwards is turned away, and nothing is sent. */
void tunnel_ended(struct tunnel *tunnel);
/* No callback but `closed` afterwards. */
void tunnel_close(struct tunnel *tunnel, void (*closed)(void *data), void *data);

#endif
