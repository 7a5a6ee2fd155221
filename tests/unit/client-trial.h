#ifndef CELLBLOCK_TESTS_CLIENT_TRIAL_H
#define CELLBLOCK_TESTS_CLIENT_TRIAL_H

#include "cmocka_all.h"

#include "backends/modal/client.h"
#include "fake-grpc.h"

/* A loop with a client of Modal's control plane, which a fake service answers (gRPC is
 * fake-grpc.c), and what was seen of its calls. */

/* {"iat":1000,"exp":2200}; {"iat":1000,"exp":1000.05} */
#define CLIENT_TRIAL_TOKEN "h.eyJpYXQiOjEwMDAsImV4cCI6MjIwMH0.s"
#define CLIENT_TRIAL_SHORT_TOKEN "h.eyJpYXQiOjEwMDAsImV4cCI6MTAwMC4wNX0.s"

enum { CLIENT_TRIAL_KEYS = 16 };

struct client_trial {
    uv_loop_t loop;
    struct modal_client *client;
    bool closed;
    const char *token; /* what AuthTokenGet gives */
    /* The first `bad` answers are these. */
    struct fake_reply bad_reply;
    unsigned bad;
    bool hold;
    /* What was seen of the calls other than AuthTokenGet. */
    unsigned calls, tokens_seen;
    char keys[CLIENT_TRIAL_KEYS][64];
    char retries[CLIENT_TRIAL_KEYS][8], throttled[CLIENT_TRIAL_KEYS][8];
    char urls[CLIENT_TRIAL_KEYS][64];
    /* What came of them. */
    unsigned ended, messages;
    enum grpc_status status;
    struct error err;
    char app[32];
};

void client_trial_begin(struct client_trial *t, const char *url);
/* Closes the client; nothing is left on the loop. */
void client_trial_end(struct client_trial *t);
/* Starts AppGetOrCreate, or the stream ImageJoinStreaming, with these options. */
struct modal_rpc *client_trial_call(struct client_trial *t, struct modal_rpc_call call);
void client_trial_run(struct client_trial *t, unsigned ended); /* until so many calls have */
struct fake_reply client_trial_failing(enum grpc_status status);

#endif
