#ifndef CELLBLOCK_JUPYTER_MESSAGE_H
#define CELLBLOCK_JUPYTER_MESSAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "backends/base/buffer.h"

/*
 * Messages of jupyter-client's protocol as they travel in a WebSocket, in both formats:
 *
 *   v1       binary: u64 LE count of offsets, the offsets, then channel | header | parent_header |
 *            metadata | content | buffers, each part from its offset to the next one
 *   legacy   text: one JSON object; with buffers binary: u32 BE count, u32 BE offsets, JSON,
 * buffers
 *
 * Nothing from outside is believed: counts, offsets, types and sizes are checked here.
 */
enum jupyter_channel {
    JUPYTER_SHELL,
    JUPYTER_IOPUB,
    JUPYTER_STDIN,
    JUPYTER_CONTROL,
};

enum {
    JUPYTER_ID_SIZE = 40,    /* of the ids that we make: 32 hexadecimal digits */
    JUPYTER_PARTS_CAP = 256, /* of one message */
};

#define JUPYTER_SUBPROTOCOL "v1.kernel.websocket.jupyter.org"

/* A message from the server. Its texts live until deinit; the bytes it was parsed from must too. */
struct jupyter_message {
    enum jupyter_channel channel;
    const char *type;   /* header.msg_type */
    const char *parent; /* parent_header.msg_id, "" when it has none */
    json_t *header, *parent_header;
    json_t *content; /* NULL until jupyter_message_content */
    const char *content_text;
    size_t content_size;
};

/* 0, or -EPROTO with *ret_why ("has an offset past its end"). The content is not looked at yet: a
 * stranger's messages cost little. */
int jupyter_message_parse(bool v1, bool binary, const char *bytes, size_t size,
                          struct jupyter_message *ret, const char **ret_why);
/* The content, an object; NULL when it is none. Borrowed. */
json_t *jupyter_message_content(struct jupyter_message *m);
void jupyter_message_deinit(struct jupyter_message *m);

/* A message of ours. */
struct jupyter_outgoing {
    enum jupyter_channel channel;
    const char *type;
    const char *id;
    const char *session;
    json_t *content;    /* object, borrowed */
    const void *buffer; /* one binary part, or NULL */
    size_t buffer_size;
};

/* Appends it to `to`. 0 or -errno; *ret_binary says how the WebSocket has to send it. */
int jupyter_message_build(bool v1, const struct jupyter_outgoing *m, struct buffer *to,
                          bool *ret_binary);

/* Fills `id` with 32 random hexadecimal digits. */
void jupyter_make_id(char id[JUPYTER_ID_SIZE]);

#endif
