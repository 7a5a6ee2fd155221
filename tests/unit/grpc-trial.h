#ifndef CELLBLOCK_TESTS_GRPC_TRIAL_H
#define CELLBLOCK_TESTS_GRPC_TRIAL_H

#include "backends/modal/grpc.h"
#include "tests/unit/h2-server.h"

/* A loop with a server of HTTP/2 and a gRPC channel to it, and what was told of each call. */

enum { GRPC_TRIAL_CALLS = 128 };

#define SERVED_HEAD "content-type: application/grpc\n"
#define SERVED_OK "grpc-status: 0\n"

struct grpc_told {
    struct grpc_trial *trial;
    struct grpc_call *call;
    int messages, dones;
    size_t bytes;
    unsigned wrong;      /* messages that do not hold their number */
    char first[64];      /* the beginning of the first message */
    char metadata[4096]; /* "name: value\n", trailers with "> " before them */
    enum grpc_status status;
    char message[GRPC_TRIAL_CALLS * 20];
    char details[64];
    size_t details_size;
    bool local;
};

struct grpc_trial {
    uv_loop_t loop;
    struct h2_server *server;
    struct grpc_channel *channel;
    struct grpc_told told[GRPC_TRIAL_CALLS];
    int started, dones, closed;
    bool starting;    /* inside grpc_start: no callback may come */
    unsigned ping_ms; /* set before the start */
    uv_timer_t guard;
    uint64_t began;
    /* May be NULL; called besides what is noted. */
    void (*in_message)(struct grpc_told *told);
    void (*in_done)(struct grpc_told *told);
};

void grpc_trial_start(struct grpc_trial *t, const struct h2_route *routes);
/* The same with an address where something else listens, or nothing. */
void grpc_trial_start_at(struct grpc_trial *t, const char *url, const char *ca_file);
/* Starts a call; `request` (NULL: a unary one of "/a" with the message "ask") lends its method,
 * message, metadata, times and caps. */
struct grpc_told *grpc_trial_call(struct grpc_trial *t, const struct grpc_request *request);
/* Runs the loop until as many are done as were started; fails after 50 s. */
void grpc_trial_run(struct grpc_trial *t);
/* Runs the loop until *counter >= n. */
void grpc_trial_until(struct grpc_trial *t, const int *counter, int n);
/* Closes all and the loop: uv_loop_close must say 0. */
void grpc_trial_end(struct grpc_trial *t);
/* One unary call of a script. */
void grpc_trial_one(const struct h2_step *script, void (*look)(const struct grpc_told *told));

/* It ended so, and the words are in its message. */
void assert_ended(const struct grpc_told *told, enum grpc_status status, bool local,
                  const char *words);

#endif
