#ifndef CELLBLOCK_TESTS_TUNNEL_TRIAL_H
#define CELLBLOCK_TESTS_TUNNEL_TRIAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "backends/base/buffer.h"
#include "backends/kernels/jupyter/tunnel.h"

/* The near end of the tunnel and its clients; at the far end the real keeper with an echo server,
 * or nobody but the test itself. */

enum { LIMIT_MS = 20000, CLIENTS = TUNNEL_CONNECTIONS + 1, KEEP = 32 * 1024 * 1024 };

struct scene;

struct client {
    uv_pipe_t pipe;
    uv_connect_t connect;
    uv_shutdown_t shutdown;
    struct scene *scene;
    struct buffer got;
    uint64_t count; /* bytes that came */
    bool open, ended, hold, made;
};

struct scene {
    uv_loop_t loop;
    uv_timer_t limit;
    bool late;
    struct byte_stream stream;
    uv_process_t process;
    uv_pipe_t in, out, err;
    bool has_process, exited;
    int64_t status;
    char words[4096];
    struct buffer sent; /* of a stream without a process */
    struct tunnel *tunnel;
    bool ready, gone, closed;
    char broken[256];
    struct client clients[CLIENTS];
    char space[65536];
};

/* Until it is so; a failure after LIMIT_MS. */
void spin(struct scene *s, bool (*until)(struct scene *s), const char *what);
void spin_ms(struct scene *s, unsigned ms);

/* `hold`: it reads nothing until read_on(). */
struct client *connect_client(struct scene *s, unsigned index, bool hold);
void read_on(struct client *c);
void send_text(struct client *c, const char *bytes, size_t size);
void shut(struct client *c);

bool is_exited(struct scene *s);
bool first_ended(struct scene *s);
bool first_got_some(struct scene *s);

struct scene *scene_new(void);
/* The keeper with what `argv` (taken) starts; a port that is free is its last argument.
 * NULL: what was left there is sought. */
void begin(struct scene *s, json_t *argv);

int set_up(void **state); /* with an echo server at the far end, that listens */
int set_up_alone(void **state);
int tear_down(void **state);

#endif
