#ifndef CELLBLOCK_MODAL_ROUTER_INTERNAL_H
#define CELLBLOCK_MODAL_ROUTER_INTERNAL_H

#include "backends/modal/router.h"

/* A router's client, for the files router*.c only: calls are in router.c, where it is and its token
 * in router_access.c, what is tried again in router_attempts.c. */
struct modal_router {
    uv_loop_t *loop;
    struct modal_client *client;
    char *sandbox_id, *sandbox_token, *task_id;
    struct grpc_channel *channel; /* NULL: no address yet */
    char *bearer;                 /* "authorization: Bearer …"; NULL: no token yet */
    unsigned generation;          /* of the token */
    struct modal_rpc *renewal;
    struct modal_command *commands;
    unsigned holds; /* timers of commands that are gone, and ourselves */
    bool closing;
    bool channel_closing;
    void (*closed)(void *data);
    void *closed_data;
};

struct modal_command {
    struct modal_command *next;
    struct modal_router *router;
    struct modal_command_call call; /* `request` is not valid any more */
    char method[128];
    char *bytes;
    size_t size;
    struct grpc_call *grpc;
    uv_timer_t timer;
    bool has_timer;
    bool wants_token; /* waits for one */
    bool paused;
    bool cancelled;
    unsigned generation; /* of the token that it was sent with */
    uint64_t began;
    struct modal_attempts attempts;
    ProtobufCMessage *answer;
    bool bad_answer;
    unsigned bad_answers; /* of a unary call, since its start */
};

/* Sends a call, which has what it needs or waits for the token. */
void router_send(struct modal_command *c);
void router_finish(struct modal_command *c, enum grpc_status status, const struct error *err);
void router_finish_cancelled(struct modal_command *c);
void router_maybe_free(struct modal_router *r);

/* ---- router_access.c ---- */

int router_take_access(struct modal_router *r, const char *url, const char *jwt, struct error *err);
/* The call goes on when there is another token. -1: it cannot even be asked for. */
int router_want_token(struct modal_command *c, struct error *err);
void router_free_secret(char *text);

#endif
