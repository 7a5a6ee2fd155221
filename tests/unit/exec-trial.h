#ifndef CELLBLOCK_TESTS_EXEC_TRIAL_H
#define CELLBLOCK_TESTS_EXEC_TRIAL_H

#include "cmocka_all.h"

#include "backends/modal/exec.h"
#include "fake-grpc.h"

/* A loop with a client, a sandbox's router and a process in it, which a fake service answers (gRPC
 * is fake-grpc.c), and what was seen of both sides. */

enum { EXEC_TRIAL_WRITES = 8 };

/* What one attempt to read stdout is answered: these bytes, and then that end. */
struct exec_piece {
    const char *text;
    enum grpc_status status;
};

struct exec_trial {
    uv_loop_t loop;
    struct modal_client *client;
    struct modal_router *router;
    struct modal_exec *exec;
    unsigned closed;
    /* How the server behaves. */
    const struct exec_piece *pieces; /* the last one stays */
    unsigned bad_starts, bad_writes, bad_waits;
    struct fake_reply bad;
    const char *good_bearer; /* NULL: any */
    bool renewals_fail;
    bool no_end;
    int code, signal;
    /* What was seen. */
    unsigned reads;
    uint64_t offsets[EXEC_TRIAL_WRITES];
    unsigned writes;
    uint64_t write_offsets[EXEC_TRIAL_WRITES];
    char written[EXEC_TRIAL_WRITES][32];
    bool write_eofs[EXEC_TRIAL_WRITES];
    char throttled[8];
    char exec_id[64];
    bool same_id;
    /* What came of it. */
    char out[64];
    unsigned started, ended;
    struct modal_exec_end end;
    char *message;
};

/* `server` is the control plane's address; the process is not started. */
void exec_trial_begin(struct exec_trial *t, const char *server);
void exec_trial_start(struct exec_trial *t);
void exec_trial_run(struct exec_trial *t); /* until the process has ended */
/* Closes all of it; nothing is left on the loop. */
void exec_trial_end(struct exec_trial *t);
/* For modal_exec_close and its like: counts. */
void exec_trial_closed(void *data);
struct modal_router *exec_trial_router(struct exec_trial *t, const char *url, struct error *err);
struct fake_reply exec_trial_failing(enum grpc_status status);

#endif
