#ifndef CELLBLOCK_LOCAL_CHILD_H
#define CELLBLOCK_LOCAL_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "backends/base/buffer.h"
#include "backends/local/user.h"

/*
 * A child process of the server: bwrap, an interpreter. Its stdin is /dev/null, its environment is
 * what is given here and nothing else, and its outputs are read (stdout on request) and kept up to
 * a cap, newest bytes of stderr winning, to be quoted when it fails. It leads a session and a
 * process group of its own: what a terminal sends to ours is not for it, and whatever is left of
 * the group is killed when it ends.
 *
 * The caller: child_spawn → `exited` exactly once, when the process is gone and its pipes are
 * drained (or a linger has passed: a grandchild may hold them) → child_close.
 */
struct child {
    uv_process_t process;
    uv_pipe_t out;
    uv_pipe_t err;
    uv_timer_t timer;
    struct buffer out_text;
    struct buffer err_text;
    void (*exited)(struct child *child);
    void (*closed)(struct child *child);
    void *data;
    int64_t status;  /* exit status, once gone */
    int term_signal; /* or the signal that ended it */
    bool timed_out;
    bool running;
    bool reads_out;
    bool reported;
    bool closing;
    int open_pipes;
    int open_handles;
};

struct child_options {
    const char *file;  /* absolute path */
    char *const *argv; /* NULL-terminated, with argv[0] */
    char *const *envp; /* NULL-terminated */
    const char *cwd;   /* NULL: "/" */
    const int *fds;    /* become 3, 4, … in the child */
    int fd_count;
    bool read_stdout; /* else /dev/null */
    const struct sandbox_user *user;
    uint64_t timeout_ms; /* SIGKILL after it; 0: none */
};

enum {
    CHILD_OUT_CAP = 64 * 1024,
    CHILD_ERR_CAP = 4 * 1024,
    CHILD_FDS_CAP = 64,
};

/* 0, or a negative UV_E* code; then only child_close may be called. `child` is zeroed here. */
int child_spawn(uv_loop_t *loop, struct child *child, const struct child_options *options,
                void (*exited)(struct child *child), void *data);

void child_kill(struct child *child); /* SIGKILL to its group, if it still runs */

/* After `exited` or a failed spawn. `closed` comes when the memory may be freed. */
void child_close(struct child *child, void (*closed)(struct child *child));

/* What it said last on stderr, trimmed, with control characters replaced; "" when nothing. The text
 * is the child's. */
const char *child_last_words(struct child *child);

#endif
