#ifndef CELLBLOCK_TESTS_WEBSOCKET_TRIAL_H
#define CELLBLOCK_TESTS_WEBSOCKET_TRIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "backends/base/buffer.h"
#include "backends/base/net/websocket.h"

/* A websocket on a loop of its own, and a server that does what it is asked for:
 * websocket_server.py, one for all tests of a program. */

enum { LIMIT_MS = 20000, KEEP_CAP = 64 * 1024 * 1024, LINE = 256 };

/* The server of websocket_server.py, one for all tests. */
struct server {
    char folder[64];
    pid_t pid;
    int in, out;
    int plain, tls, wrong, silent; /* ports */
    int tls6, wrong6;              /* of ::1; 0 where there is no IPv6 */
};

/* A websocket on a loop of its own, and what it told. */
struct client {
    struct server *server;
    uv_loop_t loop;
    struct websocket_context *context;
    struct websocket *ws;
    struct buffer kept; /* the newest message */
    uint64_t bytes;     /* of all messages */
    long status;
    struct error err;
    unsigned opened, messages, ended, closed, context_closed;
    unsigned close_at; /* after so many messages it is closed within on_message */
    unsigned pause_at; /* likewise paused */
    bool binary;       /* the newest message */
    bool close_in_open, close_in_end;
    char subprotocol[64];
};

int start_server(void **state);
int stop_server(void **state);

/* The server has to say this line; others before it are skipped. */
void assert_server_says(struct server *s, const char *want);

/* Has the server said this by now? All that it has said is read. */
bool hear(struct server *s, const char *what);
void close_client(struct client *c);

extern const struct websocket_events events;

void set_up(struct client *c, struct server *server);

/* Opens to ws://127.0.0.1:PORT/PATH, the plain port unless the options have a URL. */
void begin(struct client *c, struct server *server, const char *path,
           struct websocket_options options);

/* Turns the loop until *count is `want`, or for `limit_ms`. */
void turn(struct client *c, const unsigned *count, unsigned want, unsigned limit_ms);
void wait_for(struct client *c, const unsigned *count, unsigned want);
void rest(struct client *c, unsigned ms);

/* Closes all of it; nothing may be left in the loop. */
void finish(struct client *c);
void send_text(struct client *c, const char *text);
void assert_kept(struct client *c, bool binary, const char *bytes, size_t size);
char pattern_at(size_t i);

/* The server's pattern() of this size. */
void assert_pattern(const char *bytes, size_t size);
void assert_ends(struct client *c, enum error_kind kind, const char *part);

#endif
