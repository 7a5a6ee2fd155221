#ifndef CELLBLOCK_MCP_CLIENT_REQUEST_H
#define CELLBLOCK_MCP_CLIENT_REQUEST_H

#include <jansson.h>
#include <stdint.h>
#include <uv.h>

/*
 * Requests that the server sends to a legacy client (roots/list, elicitation/create), each with a
 * limit. An answer counts once, for the request whose id it carries, while that one waits: what is
 * late, doubled or made up does nothing.
 */
struct client_requests;
struct client_request;

enum client_answer {
    CLIENT_ANSWERED, /* with a result */
    CLIENT_ERROR,    /* with an error */
    CLIENT_LATE,     /* not within the limit; the client was told that nobody waits any more */
    CLIENT_GONE,     /* it answers nothing any more */
};

/* `result` is NULL but for CLIENT_ANSWERED; borrowed. */
typedef void client_answered(void *data, enum client_answer how, const json_t *result);

/* `send` is given messages to pass on. NULL when out of memory. */
struct client_requests *
client_requests_new(uv_loop_t *loop, void (*send)(void *data, json_t *message_owned), void *data);

/* Sends one, with the id "cellblock-WORD-NUMBER". `done` is called once, never before this returns,
 * unless it is forgotten. */
struct client_request *client_request(struct client_requests *all, const char *word,
                                      const char *method, json_t *params_owned, uint64_t limit_ms,
                                      client_answered *done, void *data);

/* It is not waited for any more, and the client is told so (notifications/cancelled). */
void client_request_forget(struct client_requests *all, struct client_request *request);

/* A response of the client; `result` is NULL for an error. */
void client_requests_take(struct client_requests *all, const json_t *id, const json_t *result);

/* The client answers nothing any more: who waits, and who asks from now on, is told CLIENT_GONE. */
void client_requests_stop(struct client_requests *all);

/* After client_requests_stop. Who still waits is not told any more. */
void client_requests_close(struct client_requests *all, void (*closed)(void *data), void *data);

#endif
