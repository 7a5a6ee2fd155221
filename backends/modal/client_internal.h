#ifndef CELLBLOCK_MODAL_CLIENT_INTERNAL_H
#define CELLBLOCK_MODAL_CLIENT_INTERNAL_H

#include "backends/base/strings.h"
#include "backends/modal/client.h"

/* Parts of client.h: the client (client.c), its auth token (client_token.c), calls (client_rpc.c).
 */
enum {
    MODAL_SERVERS = 4,
    MODAL_ANSWER_CAP = 16 * 1024 * 1024,
};

/* The auth token: kept while it is good, fetched anew in the background when more than half of its
 * life is over. Its times are uv_now's, so that a wrong clock of ours does not matter. */
struct modal_token {
    char *header;    /* "x-modal-auth-token: …"; NULL: none */
    unsigned serial; /* which one it is: counts up */
    uint64_t ends, renew_at;
    uint64_t retry_at; /* after a failure, not before this */
    unsigned failures;
    struct modal_rpc *fetch; /* that is going; NULL */
};

struct modal_client {
    uv_loop_t *loop;
    struct modal_credentials credentials;
    struct grpc_channel *channels[MODAL_SERVERS]; /* of server_url, in its order */
    unsigned count, current;
    struct modal_token token;
    struct modal_rpc *rpcs; /* until their memory is gone */
    bool local;
    bool closing;
    unsigned channels_open;
    void (*closed)(void *data);
    void *closed_data;
};

enum rpc_state {
    RPC_TOKEN, /* waits for the auth token */
    RPC_GOING,
    RPC_PAUSED, /* the timer runs: then the next attempt, or the end */
    RPC_ENDED,  /* `done` was called */
};

struct modal_rpc {
    struct modal_client *client;
    struct modal_rpc *next, *prev;
    struct modal_rpc_call call; /* its name is ours, its request not kept */
    char *method;
    char *sandbox_token; /* the whole header; NULL */
    void *request;
    size_t request_size;
    bool is_fetch; /* of the auth token: goes without one */
    enum rpc_state state;
    uv_timer_t timer;
    uint64_t started, deadline; /* 0: none */
    struct grpc_call *grpc;
    char key[MODAL_UUID_SIZE];
    unsigned retries, throttled;
    unsigned serial; /* of the token that the attempt took */
    bool renewed;    /* a new token was tried */
    bool cancelled;
    size_t messages; /* of the attempt */
    ProtobufCMessage *answer;
    bool broken;          /* a message could not be read */
    struct error failure; /* set: the end, once the timer fires */
    enum grpc_status failure_status;
};

/* Is there a token to go with? Else one is being fetched, and modal_rpc_wake follows. */
bool modal_token_ready(struct modal_client *client);
/* The service did not take it. */
void modal_token_drop(struct modal_client *client, unsigned serial);
void modal_token_clear(struct modal_token *token);
/* Milliseconds that a JWT lives from when it was made (its iat, or our clock where it has none); 0
 * when it cannot be read. `now` is the wall clock's seconds. */
uint64_t modal_token_life(const char *jwt, double now);

/* Every call that waits for the token goes on, or (err) ends. */
void modal_rpcs_wake(struct modal_client *client, enum grpc_status status, const struct error *err);
struct modal_rpc *modal_rpc_fetch(struct modal_client *client, const struct modal_rpc_call *call,
                                  struct error *err);
/* The last of a closing client's calls is gone. */
void modal_client_check_closed(struct modal_client *client);
void modal_strings_wipe(struct strings *list);

#endif
