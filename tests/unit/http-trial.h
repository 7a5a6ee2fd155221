#ifndef CELLBLOCK_TESTS_HTTP_TRIAL_H
#define CELLBLOCK_TESTS_HTTP_TRIAL_H

#include "backends/base/net/http.h"
#include "tests/unit/hostile-server.h"

/* A loop with a hostile server and a client of it, and what was told of each request. */

enum { TRIAL_REQUESTS = 8 };

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"

struct trial_told {
    struct trial *trial;
    struct http_request *request;
    int heads, dones;
    long head_status, status;
    char type[64];
    char body[4096]; /* its beginning */
    size_t size, streamed;
    struct error err;
};

struct trial {
    uv_loop_t loop;
    struct hostile *server;
    struct http *http;
    struct http_options options; /* set before trial_start; base and unix_socket are filled in */
    struct trial_told told[TRIAL_REQUESTS];
    int started, dones, closed;
    bool starting; /* inside http_start: no callback may come */
    uv_timer_t guard;
    /* May be NULL; called besides what is noted. */
    void (*in_head)(struct trial_told *told);
    void (*in_body)(struct trial_told *told);
    void (*in_done)(struct trial_told *told);
};

/* The loop, the server with these scripts, and the client. */
void trial_start(struct trial *t, bool tcp, const struct hostile_step *const *scripts);
/* The same with an address where the test has something else listening, or nothing. */
void trial_start_at(struct trial *t, const char *base, const char *unix_socket);
/* Fills call->data, done and, where `streamed`, on_head and on_body. */
struct trial_told *trial_call(struct trial *t, struct http_call *call, bool streamed);
struct trial_told *trial_get(struct trial *t, const char *path);
/* Runs the loop until as many are done as were started; fails after 20 s. */
void trial_run(struct trial *t);
/* Runs the loop until *counter >= n. */
void trial_until(struct trial *t, const int *counter, int n);
/* Closes all and the loop: uv_loop_close must say 0. */
void trial_end(struct trial *t);

/* One request with one script, over a unix socket and again over TCP; look: at what was told. */
void trial_one(const struct hostile_step *script, struct http_call *call, bool streamed,
               void (*look)(struct trial_told *told));
/* The same with GET /a?token=SECRET. */
void trial_one_get(const struct hostile_step *script, void (*look)(struct trial_told *told));

/* Every socket of ours is closed by an exec. */
void assert_close_on_exec(void);

/* The request failed with this kind, and each of the words (NULL-terminated) is in its message. */
void assert_told_error(const struct trial_told *told, enum error_kind kind, ...);
/* An answer with this status and this whole body. */
void assert_told(const struct trial_told *told, long status, const char *body);

#endif
