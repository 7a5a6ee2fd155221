#ifndef CELLBLOCK_MODAL_GRPC_INTERNAL_H
#define CELLBLOCK_MODAL_GRPC_INTERNAL_H

#include "backends/base/net/h2.h"
#include "backends/modal/grpc.h"
#include "backends/modal/grpc_frame.h"
#include "backends/modal/grpc_status.h"

/*
 * Between the files of the gRPC client:
 *   grpc_channel.c  the server, closing
 *   grpc.c          the life of a call
 *   grpc_end.c      how it ended
 *   grpc_frame.c    messages in the bytes of a body
 *   grpc_status.c, grpc_text.c  what trailers say
 */
struct grpc_channel {
    uv_loop_t *loop;
    struct h2 *h2;
    struct grpc_call *calls; /* all that `done` was not called for */
    unsigned users;          /* `h2`, and calls whose memory is not given back yet */
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

/* Of each call that is not ended. */
void grpc_cancel_all(struct grpc_channel *channel);
/* One user less; frees a closed channel with the last one. */
void grpc_channel_release(struct grpc_channel *channel);

/* What the end of a call is made of. */
struct grpc_outcome {
    struct grpc_trailers trailers;
    bool is_grpc;     /* the content type says so */
    char *other_type; /* else it; NULL: none was said */
    bool cancelled;   /* by the user */
    bool found;       /* `finding` is the end, whatever else comes */
    enum grpc_status finding;
    char *words; /* of the finding; may be NULL */
    unsigned messages;
};

/* Notes our own finding, unless there is one already. */
void grpc_outcome_find(struct grpc_outcome *outcome, enum grpc_status status, const char *format,
                       ...) __attribute__((format(printf, 3, 4)));
/* Notes what the answer or its absence says; `left`: bytes of a message that did not come whole. */
void grpc_outcome_settle(struct grpc_outcome *outcome, const struct http_reply *reply,
                         const struct error *err, size_t left, bool unary);
/* The end for the user; borrows from the outcome. */
struct grpc_end grpc_outcome_end(const struct grpc_outcome *outcome);
void grpc_outcome_clear(struct grpc_outcome *outcome);

#endif
