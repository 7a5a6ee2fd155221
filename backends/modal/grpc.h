#ifndef CELLBLOCK_MODAL_GRPC_H
#define CELLBLOCK_MODAL_GRPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "backends/base/error.h"

/*
 * gRPC over HTTP/2 (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), client side, on
 * base/net/h2.h. Calls with one request message and one or more answer messages (unary, server
 * streaming). Knows nothing of any service: messages are bytes.
 *
 * What holds for every call: no callback before grpc_start has returned; `done` exactly once, last,
 * also after grpc_cancel; what a server sends has a cap (one message, the trailers, the time).
 */
struct grpc_channel;
struct grpc_call;

/* As in grpc/status.h. */
enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};

enum {
    GRPC_MESSAGE_CAP = 128 * 1024 * 1024, /* of one answer message, when message_cap is 0 */
    GRPC_DETAILS_CAP = 64 * 1024,         /* of grpc-status-details-bin, decoded */
};

struct grpc_channel_options {
    /* "https://host[:port]", or "http://host:port": HTTP/2 with prior knowledge (h2c). */
    const char *url;
    const char *ca_file;         /* PEM; NULL: the system's */
    const char *const *metadata; /* "name: value" of every call; NULL-terminated, or NULL */
    unsigned connect_timeout_ms; /* 0: 10 s */
    unsigned ping_ms; /* a connection that is silent so long is asked whether it is there, and given
                       * up without an answer; 0: 30 s */
};

/* Copies what it needs; connects at the first call, and again when a connection was lost. Calls of
 * one channel share a connection. NULL with `err`. */
struct grpc_channel *grpc_channel_new(uv_loop_t *loop, const struct grpc_channel_options *options,
                                      struct error *err);
/* Cancels what is going (each `done` comes before `closed`) and frees it. */
void grpc_channel_close(struct grpc_channel *channel, void (*closed)(void *data), void *data);

/* How a call ended. */
struct grpc_end {
    enum grpc_status status; /* of the trailers; GRPC_UNAVAILABLE when nothing or no gRPC came,
                              * GRPC_DEADLINE_EXCEEDED past our own deadline, GRPC_CANCELLED after
                              * grpc_cancel, GRPC_INTERNAL for a broken frame or missing trailers,
                              * GRPC_RESOURCE_EXHAUSTED for a message past its cap */
    const char *message;     /* grpc-message, percent-decoded, without control characters, at most
                              * 2 KB; or our own words. Never NULL */
    const void *details;     /* grpc-status-details-bin (google.rpc.Status), decoded; NULL: none */
    size_t details_size;
    bool local; /* the end is our own finding, the server has not said it */
};

struct grpc_request {
    const char *method;  /* "/package.Service/Method" */
    const void *message; /* serialized; copied */
    size_t size;
    const char *const *metadata; /* of this call, "name: value"; NULL-terminated, or NULL */
    unsigned timeout_ms;         /* the deadline: sent as grpc-timeout, and kept here; 0: none */
    size_t message_cap;          /* 0: GRPC_MESSAGE_CAP */
    /* One answer message, no more and no less (otherwise GRPC_INTERNAL). */
    bool unary;
    /* Each field of the answer's head and of its trailers, grpc-status too; names in small letters.
     * May be NULL. */
    void (*on_metadata)(void *data, const char *name, const char *value, bool trailer);
    /* Each message of the answer, in order, borrowed until it returns; at any alignment. None after
     * grpc_cancel. A unary call's comes before it is known that the call ended well: only `done`
     * says so. */
    void (*on_message)(void *data, const void *bytes, size_t size);
    void (*done)(void *data, const struct grpc_end *end);
    void *data;
};

/* NULL with `err` when it cannot even be started; then `done` is not called. */
struct grpc_call *grpc_start(struct grpc_channel *channel, const struct grpc_request *request,
                             struct error *err);
/* Idempotent; `done` follows from the loop with GRPC_CANCELLED. The stream is reset. */
void grpc_cancel(struct grpc_call *call);
/* Reading is held back / goes on: HTTP/2's flow control then holds the server back, after at most
 * H2_WINDOW bytes (base/net/h2.h), and no other call. `done` waits for messages that have come and
 * were not taken. */
void grpc_pause(struct grpc_call *call, bool paused);

/* "UNAVAILABLE"; "status 99" is NULL. */
const char *grpc_status_name(enum grpc_status status);

#endif
