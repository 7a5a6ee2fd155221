#ifndef CELLBLOCK_TESTS_H2_SERVER_H
#define CELLBLOCK_TESTS_H2_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

/*
 * A server of HTTP/2 (without TLS) on the test's own loop, made of nghttp2, that does with each
 * request exactly what the script of its path says.
 */

enum h2_step_kind {
    H2_END,      /* of the script and of the stream (END_STREAM), without trailers */
    H2_HEAD,     /* text: "name: value" lines; ":status" is 200 unless it is among them */
    H2_ONLY,     /* the same with END_STREAM: nothing follows */
    H2_BYTES,    /* n bytes of text */
    H2_MESSAGES, /* n messages of gRPC of `size` bytes each: a counter, then the byte "x" */
    H2_ECHO,     /* the body of the request */
    H2_TRAILERS, /* text, as for H2_HEAD; ends the stream */
    H2_RESET,    /* n: the code of RST_STREAM */
    H2_GOAWAY,   /* n: the code; streams that were begun go on */
    H2_CUT,      /* closes the connection */
    H2_WAIT,     /* for ever */
    H2_UNTIL,    /* waits until h2_server_go_on */
    H2_EARLY,    /* as the first one: begins when the head of the request is in */
};

struct h2_step {
    enum h2_step_kind kind;
    const char *text;
    size_t n, size;
};

struct h2_route {
    const char *path;
    const struct h2_step *script;
};

enum { H2_FIELDS_SIZE = 4096 };

struct h2_server {
    uv_loop_t *loop;
    uv_tcp_t listener;
    char base[64]; /* "http://127.0.0.1:PORT" */
    int port;
    const struct h2_route *routes; /* ends with a path of NULL */
    unsigned max_streams;          /* SETTINGS_MAX_CONCURRENT_STREAMS; 0: no limit */
    unsigned window;               /* SETTINGS_INITIAL_WINDOW_SIZE; 0: 64 MiB */
    struct h2_peer *peers;
    bool gate; /* H2_UNTIL goes on */
    int connections, open, requests, resets, goaways, pings;
    int streams, most_streams;   /* at a time */
    unsigned reset_code;         /* of the newest */
    char fields[H2_FIELDS_SIZE]; /* "name: value\n" of the newest request */
    size_t body_size;            /* of the newest request */
    size_t sent;                 /* bytes of DATA, of all streams */
    bool closing;
};

struct h2_server *h2_server_new(uv_loop_t *loop, const struct h2_route *routes);
/* Streams at H2_UNTIL go on. */
void h2_server_go_on(struct h2_server *server);
/* Reads nothing more, as one that hangs. */
void h2_server_deaf(struct h2_server *server);
/* Cuts each connection. */
void h2_server_cut(struct h2_server *server);
/* Closes everything; freed by the loop. */
void h2_server_close(struct h2_server *server);

#endif
