#ifndef CELLBLOCK_NET_WEBSOCKET_INTERNAL_H
#define CELLBLOCK_NET_WEBSOCKET_INTERNAL_H

#include <libwebsockets.h>
#include <netinet/in.h>

#include "backends/base/buffer.h"
#include "backends/base/net/websocket.h"

/*
 * Theory of operation
 *
 * libwebsockets 4.1 has its own uv support (a plug-in, loaded by lws_create_context) that drives
 * sockets, TLS, handshake and frames. Three things it does not do well there, and they are done
 * here: it resolves names blocking; it tells no more of a failed connection than "Unable to
 * connect"; and after one it frees its object but leaves its poll handle in the loop for ever. So
 * websocket_connect.c resolves and connects by itself, and libwebsockets gets a connection that
 * cannot fail (to a socket of ours in the abstract namespace, for a moment), in whose place
 * the real one is put before a byte is sent.
 *
 * A websocket goes through these phases; only forward. In each of them it may be closed.
 */
enum websocket_phase {
    PHASE_CONNECTING, /* name and connection, ours */
    PHASE_HANDSHAKE,  /* TLS and HTTP, libwebsockets' */
    PHASE_OPEN,
    PHASE_ENDED, /* on_end has been called, or never will be */
};

enum {
    RX_SIZE = 128 * 1024, /* read at once, and given to us at once */
    HEAD_CAP = 16 * 1024, /* of the answer to the handshake */
    REQUEST_HEADERS_CAP = 32 * 1024,
    PATH_CAP = 2000,        /* libwebsockets cuts a request line at 2048 */
    HOST_CAP = 110,         /* and the Host header at 128 */
    CONNECTIONS_CAP = 1000, /* of a context */
    CLOSE_REASON_CAP = 123, /* RFC 6455 5.5 */
    DEFAULT_CONNECT_MS = 10000,
    DEFAULT_PING_S = 30,
    DEFAULT_MESSAGE_CAP = 64 * 1024 * 1024,
    CLOSING_MS = 2000,  /* to send what is queued and to hear the peer's closing frame */
    BREAK_OFF_MS = 100, /* from our closing frame to the end, where the peer did wrong */
    QUICK_MS = 1000,    /* after the last sign of life acknowledgements go out at once */
};

/* A message on its way out. */
struct outgoing {
    struct outgoing *next;
    size_t size;
    bool binary;
    unsigned char bytes[]; /* LWS_PRE, then the message */
};

struct websocket_url {
    bool tls;
    int port;
    char *name;      /* what is resolved: without the brackets of an IPv6 address */
    char *authority; /* for the Host header: the port only when it is not the usual one */
    char *path;      /* with query; begins with "/" */
};

struct websocket {
    struct websocket_context *context;
    struct websocket *next; /* of the context's */
    struct websocket_events events;
    void *data;
    enum websocket_phase phase;
    unsigned holds; /* the timer, a lookup, a poll, libwebsockets: each still uses this memory */
    bool closing;   /* websocket_close was called */
    bool paused;
    void (*closed)(void *data);
    void *closed_data;

    /* What was asked for. */
    struct websocket_url url;
    char *unix_socket;
    char *subprotocol;
    char *headers; /* as they are sent, each with CR LF */
    char *ca_file;
    bool insecure, quick_ack;
    unsigned connect_ms, ping_ms;
    size_t message_cap;

    /* Of websocket_connect.c. */
    uv_timer_t timer; /* the start, then the limit of connecting, then pings, then of closing */
    uv_getaddrinfo_t lookup;
    struct addrinfo *addresses, *address; /* all of them; the one that is tried */
    uv_poll_t poll;
    int fd; /* the connection until libwebsockets has it, -1 otherwise */
    int connect_error;

    /* Of websocket_lws.c. */
    struct lws *wsi;
    char chosen[128]; /* subprotocol */
    char tls_error[160];
    struct buffer incoming; /* fragments of a message that has begun */
    struct outgoing *first, **last;
    size_t queued;
    unsigned close_code; /* that the peer is to be told, 0: none */
    bool close_sent;
    bool ping_due;           /* to be sent */
    bool pinged;             /* and not answered */
    uint64_t heard_ms;       /* when the peer was last heard */
    uint64_t quick_until_ms; /* see QUICK_MS; 0: not now */
};

/* TLS settings belong to a "vhost" in libwebsockets: one for each CA file, kept. */
struct vhost_row {
    struct vhost_row *next;
    struct lws_vhost *vhost;
    bool tls;
    char *ca_file;
};

struct websocket_context {
    uv_loop_t *loop;
    struct lws_context *lws; /* set to NULL by libwebsockets when it is gone */
    struct vhost_row *vhosts;
    struct websocket *first;
    unsigned count;
    uv_check_t check; /* after each poll: acknowledgements */
    uv_idle_t idle;   /* turns the loop while libwebsockets is taken down */
    unsigned turns, handles;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- websocket_context.c ---- */

/* The vhost for such connections, made when missing. NULL with `err`. */
struct lws_vhost *websocket_context_vhost(struct websocket_context *context, bool tls,
                                          const char *ca_file, struct error *err);
/* The peer was heard or is about to be answered: its small writes are acknowledged at once. */
void websocket_context_quick(struct websocket *ws);

/* ---- websocket.c ---- */

void websocket_hold(struct websocket *ws);
void websocket_release(struct websocket *ws);
/* Tells the end, once, and lets go of the connection. The error is freed. */
void websocket_end(struct websocket *ws, long status, struct error *err);
/* libwebsockets has the connection: from here on silence is limited instead of connecting. */
void websocket_opened(struct websocket *ws);
void websocket_drop_queue(struct websocket *ws);

/* ---- websocket_url.c ---- */

int websocket_url_parse(const char *text, struct websocket_url *ret, struct error *err);
void websocket_url_deinit(struct websocket_url *url);

/* ---- websocket_connect.c ---- */

/* Goes on by itself to libwebsockets' handshake or to websocket_end. */
void websocket_connect_start(struct websocket *ws);
/* Lets go of what is under way. */
void websocket_connect_stop(struct websocket *ws);

/* ---- websocket_lws.c ---- */

extern const struct lws_protocols websocket_protocols[];

/* Hands ws->fd over. */
void websocket_handshake_start(struct websocket *ws);
/* Ends libwebsockets' side at once; its last callback may come from within. */
void websocket_kill(struct websocket *ws);

#endif
