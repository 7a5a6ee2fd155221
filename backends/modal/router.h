#ifndef CELLBLOCK_MODAL_ROUTER_H
#define CELLBLOCK_MODAL_ROUTER_H

#include <protobuf-c/protobuf-c.h>
#include <uv.h>

#include "backends/base/error.h"
#include "backends/modal/client.h"
#include "backends/modal/grpc.h"

/*
 * The task command router of one sandbox (service modal.task_command_router.TaskCommandRouter): it
 * stands beside the sandbox, at an address and with a token (JWT) that the control plane gives.
 *
 * What comes with a new sandbox is good for a first connection; whenever the router says
 * UNAUTHENTICATED (the token is over, or was never good: clocks are not asked), the control plane
 * is asked for another, once for all calls that wait, and each call is sent again once. Transient
 * ends are tried again as the official client does: MODAL_ROUTER_TRIES times, from 10 ms, doubled;
 * RESOURCE_EXHAUSTED only when the router says when to come back, which does not count.
 *
 * An address that is not https is refused, unless the control plane itself is on this machine.
 */
struct modal_router;

enum {
    MODAL_ROUTER_TRIES = 10,
    MODAL_ROUTER_BAD_ANSWERS = 3, /* of a unary call, that cannot be read: then it has failed */
    MODAL_ROUTER_DELAY_MS = 10,
    MODAL_ROUTER_DELAY_MAX_MS = 2000,
    MODAL_ROUTER_SLOW_MS = 1000, /* between the attempts of a call that is tried for long */
    MODAL_ROUTER_WAIT_MAX_MS = 60 * 1000, /* a router that says when to come back may ask for */
};

struct modal_router_options {
    struct modal_client *client;
    const char *sandbox_id;    /* V2: whose router this is */
    const char *sandbox_token; /* NULL: none */
    const char *task_id;       /* V1 (sandbox_id is NULL) */
    const char *url, *jwt;     /* what came with the sandbox; NULL: asked for at the first call */
};

/* Copies what it needs; nothing is sent. NULL with `err` (ERROR_REFUSED: an address without TLS).
 */
struct modal_router *modal_router_new(uv_loop_t *loop, const struct modal_router_options *options,
                                      struct error *err);
/* Ends what is going (each `done` comes before `closed`) and frees it. */
void modal_router_close(struct modal_router *router, void (*closed)(void *data), void *data);

struct modal_command; /* a call that is under way */

struct modal_command_call {
    const char *name;                         /* "TaskExecStart" */
    const ProtobufCMessage *request;          /* serialized before modal_command_start returns */
    const ProtobufCMessageDescriptor *answer; /* type of each answer message */
    unsigned timeout_ms;                      /* of one attempt; 0: 60 s, of a stream none */
    unsigned patience_ms; /* 0: MODAL_ROUTER_TRIES attempts; else transient ends are tried again
                           * for so long, UINT_MAX: for ever */
    bool stream;          /* server streaming */
    /* Streams: what is asked for when it was cut and is opened again; valid until it is called the
     * next time. A message that came begins the count of attempts anew. */
    const ProtobufCMessage *(*again)(void *data);
    void (*on_message)(void *data, const ProtobufCMessage *message); /* streams; borrowed */
    /* Unary: `answer` is the message (borrowed), or NULL with `status` and `err`. Streams: `answer`
     * is NULL; `err` NULL when it ended well. Exactly once, never before the start returned. */
    void (*done)(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                 const struct error *err);
    void *data;
};

/* NULL with `err` when it cannot be started: then `done` is not called. */
struct modal_command *modal_command_start(struct modal_router *router,
                                          const struct modal_command_call *call, struct error *err);
/* Idempotent; `done` follows from the loop with GRPC_CANCELLED. */
void modal_command_cancel(struct modal_command *command);
/* A stream's reading is held back / goes on. */
void modal_command_pause(struct modal_command *command, bool paused);

/* What is done after an attempt that did not end well: pure, for the tests. */
enum modal_again {
    MODAL_AGAIN_NO,
    MODAL_AGAIN_LATER, /* after *ret_ms */
    MODAL_AGAIN_RENEW, /* with another token */
};

struct modal_attempts {
    unsigned transient; /* attempts that ended so, one after another */
    unsigned throttled; /* that the router sent away */
    bool renewed;       /* the token was, since something last went well */
};

/* `left_ms` of the call's patience; ignored where it has none (`patient` false). */
enum modal_again modal_attempts_next(struct modal_attempts *a, const struct grpc_end *end,
                                     bool patient, uint64_t left_ms, unsigned *ret_ms);

#endif
