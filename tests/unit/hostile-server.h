#ifndef CELLBLOCK_TESTS_HOSTILE_SERVER_H
#define CELLBLOCK_TESTS_HOSTILE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

/*
 * A server on the test's own loop that does with each request exactly what a script says: answers
 * wrongly, slowly, for ever, or not at all. It listens on a unix socket in a folder of its own, or
 * on TCP at 127.0.0.1.
 */

enum hostile_kind {
    HOSTILE_END,   /* of the script: the connection's next request begins the next script */
    HOSTILE_SEND,  /* text */
    HOSTILE_DRIP,  /* text, byte by byte, `n` ms apart */
    HOSTILE_SLEEP, /* n ms */
    HOSTILE_BODY,  /* waits until the request's body is in */
    HOSTILE_COUNT, /* waits until n bytes after the head are in */
    HOSTILE_FLOOD, /* text again and again until the client goes */
    HOSTILE_FILL,  /* n bytes of "x" */
    HOSTILE_CUT,   /* closes the connection */
    HOSTILE_RESET, /* cuts it with a RST (TCP) */
    HOSTILE_SHUT,  /* shuts its direction, reads on */
    HOSTILE_ECHO,  /* sends back all that comes, until the client shuts its direction */
    HOSTILE_DEAF,  /* stops reading, for good */
};

struct hostile_step {
    enum hostile_kind kind;
    const char *text;
    size_t n;
};

struct hostile_options {
    bool tcp;
    int buffer; /* SO_SNDBUF and SO_RCVBUF of a connection; 0: the system's */
    /* One script a request, in the order that heads come in; the last one holds for all after. */
    const struct hostile_step *const *scripts; /* NULL-terminated */
};

struct hostile {
    uv_loop_t *loop;
    struct hostile_options options;
    union {
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } listener;
    char folder[64], socket[80]; /* socket: "" for TCP */
    char base[64];               /* "http://docker" or "http://127.0.0.1:PORT" */
    struct hostile_peer *peers;
    size_t scripts_used;
    unsigned connections, open, requests;
    char head[16384]; /* of the newest request */
    char body[65536]; /* the newest request's, as it came (chunks are left as they are) */
    size_t body_size; /* may be more than what is kept */
    bool closing;
};

/* Fails the test when it cannot listen. */
struct hostile *hostile_new(uv_loop_t *loop, const struct hostile_options *options);
/* Closes everything; freed by the loop. */
void hostile_close(struct hostile *hostile);

#endif
