#ifndef CELLBLOCK_JUPYTER_REMOTE_H
#define CELLBLOCK_JUPYTER_REMOTE_H

#include "backends/kernels/jupyter/message.h"
#include "backends/kernels/jupyter/server.h"

/*
 * One kernel on the server and our WebSocket to it.
 *
 *   remote_new → remote_start → on_open … on_message … on_end → remote_close
 *
 * A connection that is cut is made again with the same session id, so that the server replays what
 * came meanwhile; tries go on with growing pauses until a limit. What is sent while there is no
 * connection waits for the next one. Whether what was on its way at the cut has arrived is the
 * caller's to find out: on_open says that it is `again`.
 */
struct remote;

struct remote_events {
    void (*on_open)(void *data, bool again);
    void (*on_message)(void *data, struct jupyter_message *message);
    /* The kernel is not there, or cannot be reached any more. Once; only remote_close follows. */
    void (*on_end)(void *data, const struct error *err);
};

enum remote_fate {
    REMOTE_LEAVE,  /* the kernel lives on: it was not ours */
    REMOTE_DELETE, /* the kernel is ended */
};

struct remote *remote_new(struct jupyter_server *server, struct websocket_context *websockets,
                          const struct remote_events *events, void *data);
/* A new kernel of this spec, or (`kernel_id`) one that is there. */
void remote_start(struct remote *r, const char *spec, const char *kernel_id);
/* One that was seen a moment ago: connects at once. */
void remote_start_known(struct remote *r, const char *kernel_id);
/* "" until the server has said it. */
const char *remote_id(const struct remote *r);
bool remote_is_open(const struct remote *r);

/* Sends a message; `id` gets its id. `content` is borrowed. 0 or -errno. */
int remote_send(struct remote *r, enum jupyter_channel channel, const char *type, json_t *content,
                const void *buffer, size_t buffer_size, char id[JUPYTER_ID_SIZE]);
/* A message once more, under the id that it had: after a cut. */
int remote_send_again(struct remote *r, enum jupyter_channel channel, const char *type,
                      json_t *content, const char *id);
/* POST …/interrupt or …/restart; nobody waits for the answer. */
void remote_order(struct remote *r, const char *verb);

/* Asks the server whether the kernel is there still; on_end comes when it is not. */
void remote_check(struct remote *r);

/* No callback but `closed` afterwards, when nothing of it is left here, and the server has said
 * that the kernel is gone (or has not, within a limit: then `err` says so). */
void remote_close(struct remote *r, enum remote_fate fate,
                  void (*closed)(void *data, const struct error *err), void *data);

#endif
