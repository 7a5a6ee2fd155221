#ifndef CELLBLOCK_MCP_SERVER_INTERNAL_H
#define CELLBLOCK_MCP_SERVER_INTERNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "mcp/call.h"
#include "mcp/client_request.h"
#include "mcp/consent.h"
#include "mcp/jsonrpc.h"
#include "mcp/lifeline.h"
#include "mcp/progress.h"
#include "mcp/protocol.h"
#include "mcp/roots.h"
#include "mcp/run_record.h"
#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/snapshots.h"
#include "mcp/stdio.h"

/*
 * What server.c (life, sending), dispatch.c (messages and methods) and call.c (tools/call) share.
 * Nobody else includes this.
 */
enum {
    CALLS_CAP = 256, /* tools/call in flight */
    /* Input from a file is held while this many are in flight: its requests follow each other, as
     * the lines of a script do. */
    CALLS_FROM_FILE = 1,
    SUBSCRIPTIONS_CAP = 64, /* subscriptions/listen that are open */
    BATCH_CAP = 1024,       /* messages in a batch */
    STOP_LIMIT_MS = 1500,   /* for tools to answer after a stop */
    LINGER_MS = 2000,       /* for the client to take the last answers */
};

enum server_state {
    SERVER_SERVING,
    SERVER_DRAINING, /* no more input; calls in flight are answered */
    SERVER_STOPPING, /* cancelled; waiting for the tools, but not long */
    SERVER_CLOSING,  /* sessions, then the rest */
    SERVER_STOPPED,
};

/* A batch (2025-03-26) is answered with one array when the last of its requests is done. */
struct batch {
    json_t *answers;
    size_t pending; /* requests without an answer, and 1 while the batch is being read */
};

struct call {
    struct call *previous, *next; /* in server->calls */
    struct server *server;
    enum protocol version;
    const struct tool *tool;
    json_t *id;
    struct batch *batch; /* NULL: answered by itself */
    json_t *arguments;
    json_t *progress_token; /* NULL: none wanted */
    struct progress *progress;
    bool can_ask;             /* the client asks a person when it is told to */
    bool wants_log;           /* modern: the request carried a level */
    enum log_level log_level; /* that level */
    bool cancelled, cancel_told;
    void (*on_cancel)(void *data);
    void *on_cancel_data;
};

struct server {
    uv_loop_t *loop;
    const struct config *config;
    const struct tool *const *tools;
    struct log *log;
    struct stdio *stdio; /* NULL once it is closed */
    struct lifeline *lifeline;
    struct client_requests *requests;
    struct roots *roots;
    struct consent *consent;
    struct sessions *sessions;
    struct run_records *runs; /* outlives the sessions, as do: */
    struct snapshots *snapshots;

    enum protocol version;    /* of the connection; PROTOCOL_NONE before initialize */
    bool can_ask;             /* as it said at initialize */
    enum log_level log_level; /* of legacy notifications/message */
    struct call *calls;
    size_t call_count;
    json_t *subscriptions; /* open subscriptions/listen: {"id": …, "resources": is it told of
                            * resources/list_changed?} */
    struct buffer scratch; /* a message being written */

    enum server_state state;
    bool linger;      /* the client still reads: give it the last answers */
    uv_timer_t timer; /* the next step of the end: at once when idle, or the limit of a stop */
    uv_timer_t late_cancel; /* tells tools that set call_on_cancel after the cancel */
    unsigned closing;       /* parts that are not closed yet */
    void (*stopped)(void *data);
    void *data;
};

/* Sends a message at once (taken; NULL when memory ran out is logged). */
void server_send(struct server *s, json_t *message_owned);
/* notifications/message, unless the client is slow. Takes the data. */
void server_send_log(struct server *s, enum log_level level, const char *logger,
                     json_t *data_owned);
/* The value without the secrets of any session (taken; mcp/mask.h): each result and each text that
 * a session has a part in goes through it. */
json_t *server_masked(const struct server *s, json_t *value_owned);
/* Answers a request, by itself or in its batch. A NULL message counts as answered with nothing. */
void server_reply(struct server *s, struct batch *batch, json_t *message_owned);
/* One request of the batch has been answered, or its reading is over. Frees it with the last. */
void server_batch_done(struct server *s, struct batch *batch);
/* A call has ended: may have been the last one that the end waits for. */
void server_call_ended(struct server *s);

/* One line from the client. */
void dispatch_line(struct server *s, const char *line, size_t size);

/* tools/call. 0 when the call has been started (it answers by itself), -1 with the fault. */
int call_begin(struct server *s, enum protocol version, const struct message *m,
               struct batch *batch, struct fault *fault);
/* Another request that is answered later, in the ways of a tools/call: it can be cancelled, and the
 * end waits for it. Takes the arguments. NULL with the fault. */
struct call *call_open(struct server *s, enum protocol version, const struct message *m,
                       struct batch *batch, json_t *arguments_owned, struct fault *fault);
/* Answers such a one with a fault, whose data are taken. */
void call_finish_fault(struct call *call, struct fault *fault);
/* The call with this id, NULL when none is in flight. */
struct call *call_find(const struct server *s, const json_t *id);
/* The client takes it back: tells the tool, and nothing is sent. Idempotent. */
void call_cancel(struct call *call);
/* Timer callback of server->late_cancel. */
void call_tell_late(uv_timer_t *timer);
/* Without telling anybody; for what is left when the server is freed. */
void call_free(struct call *call);

#endif
