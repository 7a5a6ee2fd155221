#ifndef CELLBLOCK_MODAL_CLIENT_H
#define CELLBLOCK_MODAL_CLIENT_H

#include <protobuf-c/protobuf-c.h>
#include <uv.h>

#include "backends/base/error.h"
#include "backends/modal/credentials.h"
#include "backends/modal/grpc.h"

/*
 * Modal's control plane (service modal.client.ModalClient), as the official client speaks with it:
 * metadata, the auth token (AuthTokenGet, kept until shortly before its `exp`), idempotency keys,
 * retries (reference: modal-client's retry_transient_errors), and throttling by RPCRetryPolicy.
 *
 * No message of ours holds a token, a secret or a request's body.
 */
struct modal_client;

/* Copies the credentials; nothing is sent before the first call. NULL with `err`. */
struct modal_client *modal_client_new(uv_loop_t *loop, const struct modal_credentials *credentials,
                                      struct error *err);
/* Ends what is going (each `done` comes before `closed`) and frees it. */
void modal_client_close(struct modal_client *client, void (*closed)(void *data), void *data);

struct modal_rpc;

struct modal_rpc_call {
    const char *name;                         /* "SandboxCreateV2" */
    const ProtobufCMessage *request;          /* serialized before modal_rpc_start returns */
    const ProtobufCMessageDescriptor *answer; /* type of each answer message */
    unsigned timeout_ms;                      /* of one attempt; 0: 60 s */
    unsigned total_ms;                        /* of all attempts together; 0: 10 min */
    unsigned delay_ms;                        /* before the first attempt */
    bool stream;                              /* server streaming: not retried here, no limit of
                                               * its own when timeout_ms is 0 */
    bool once;                                /* not retried when it may have had its effect (the
                                               * caller looks what came of it) */
    const char *sandbox_token;                /* x-modal-sandbox-token; NULL: none */
    /* Streams only: each message; borrowed until it returns. */
    void (*on_message)(void *data, const ProtobufCMessage *message);
    /* Unary: `answer` is the message (borrowed), or NULL with `end` and `err`. Streams: `answer` is
     * NULL; `err` NULL when it ended well. `status` GRPC_OK or what it came to after the retries.
     */
    void (*done)(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                 const struct error *err);
    void *data;
};

/* NULL with `err` when it cannot be started: then `done` is not called. */
struct modal_rpc *modal_rpc_start(struct modal_client *client, const struct modal_rpc_call *call,
                                  struct error *err);
/* Idempotent; `done` follows from the loop with GRPC_CANCELLED. */
void modal_rpc_cancel(struct modal_rpc *rpc);

/* The kind of error that a gRPC status is, and its message for people: "SandboxCreateV2: the
 * service answered RESOURCE_EXHAUSTED: …". Returns -1. */
int modal_status_error(const char *rpc, const struct grpc_end *end, struct error *err);

/* Is the control plane on this machine (http://localhost…)? Then router addresses may be http too.
 */
bool modal_client_is_local(const struct modal_client *client);
/* The environment name of the credentials, "" for the account's default. */
const char *modal_client_environment(const struct modal_client *client);
uv_loop_t *modal_client_loop(const struct modal_client *client);
/* As they were given; valid as long as the client is. */
const struct modal_credentials *modal_client_credentials(const struct modal_client *client);

/* One of the service's messages from its bytes: NULL when it is broken, or holds a text that is not
 * UTF-8. To be freed with protobuf_c_message_free_unpacked(m, NULL). */
ProtobufCMessage *modal_unpack(const ProtobufCMessageDescriptor *type, const void *bytes,
                               size_t size);
/* And its bytes, to be wiped (they may hold secrets) and freed. NULL when out of memory. */
void *modal_pack(const ProtobufCMessage *message, size_t *ret_size);
/* An id as clients make them up, a random UUID. -errno. */
enum { MODAL_UUID_SIZE = 37 };
int modal_uuid(char ret[MODAL_UUID_SIZE]);

/* What retrying is made of, for the router's client too (pure functions, tested apart). */
bool modal_status_is_transient(enum grpc_status status);
/* After attempt number `attempt` (from 1): 100 ms, doubled each time, at most 1 s. */
unsigned modal_retry_delay_ms(unsigned attempt);
/* retry_after_secs of an RPCRetryPolicy among the details; 0 when there is none. */
unsigned modal_retry_after_ms(const void *details, size_t size);

#endif
