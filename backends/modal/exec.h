#ifndef CELLBLOCK_MODAL_EXEC_H
#define CELLBLOCK_MODAL_EXEC_H

#include "backends/kernels/runner/supervised.h"
#include "backends/modal/router.h"

/*
 * One process in a sandbox, started through its task command router: stdin is written, stdout is
 * given as it comes, the last words of stderr are kept for messages, and its end is told once.
 *
 *   start   TaskExecStart with an id that we make up: a second one with the same id starts nothing
 *   stdout  TaskExecStdioRead, a stream. After a cut it is opened again at the byte that was to
 *           come next; nothing is lost or given twice
 *   stdin   TaskExecStdinWrite{offset, data}: one at a time, what is written meanwhile goes with
 *           the next; an offset that was taken already is no harm, so each may be sent again
 *   end     TaskExecWait, asked again until it answers. It is told when stdout is over as well, or
 *           MODAL_EXEC_ENDING_MS after either of them: children may hold the streams open
 */
struct modal_exec;

enum {
    MODAL_EXEC_QUEUE_CAP = 80 * 1024 * 1024, /* bytes of stdin that wait */
    MODAL_EXEC_WRITE_CAP = 2 * 1024 * 1024,  /* of one TaskExecStdinWrite */
    MODAL_EXEC_SAID_CAP = 4096,              /* of stderr that are kept, the newest */
    MODAL_EXEC_ENDING_MS = 1000,
    MODAL_EXEC_LEAVE_MS = 3000,       /* for the end of stdin to get there, when it is left */
    MODAL_EXEC_START_MS = 310 * 1000, /* a sandbox that is scheduled may take long to listen */
};

enum modal_exec_how {
    MODAL_EXEC_CODE,
    MODAL_EXEC_SIGNAL,
    MODAL_EXEC_LOST, /* it could not be started, or nobody knows: `message` */
};

struct modal_exec_end {
    enum modal_exec_how how;
    int code;   /* of CODE, or the signal's number */
    bool began; /* the service took its start */
    enum grpc_status status;
    enum error_kind kind;
    const char *message;
};

struct modal_exec_events {
    void (*on_started)(void *data); /* the service has taken it; may be NULL */
    void (*on_output)(void *data, const char *bytes, size_t size);
    void (*on_end)(void *data, const struct modal_exec_end *end); /* once, last */
};

struct modal_exec_options {
    const char *task_id;
    const char *const *argv; /* NULL-terminated; less than 64 KiB in all */
    const char *workdir;     /* NULL: the sandbox's */
    unsigned timeout_secs;   /* 0: none */
};

/* Starts it; no event before this has returned. NULL with `err`. */
struct modal_exec *modal_exec_new(uv_loop_t *loop, struct modal_router *router,
                                  const struct modal_exec_options *options,
                                  const struct modal_exec_events *events, void *data,
                                  struct error *err);
/* Its stdin (write, queued) and the holding back of its stdout (pause). */
struct byte_stream *modal_exec_stream(struct modal_exec *e);
/* Its stdin ends after what was written. */
void modal_exec_eof(struct modal_exec *e);
/* The newest lines of its stderr, joined; to be freed, NULL when there are none. */
char *modal_exec_said(const struct modal_exec *e);
/* The id that we made up, by which others find it. */
const char *modal_exec_id(const struct modal_exec *e);
/* Closes it after its stdin has been ended, which is what tells a process that nobody is there. */
void modal_exec_leave(struct modal_exec *e, void (*closed)(void *data), void *data);
/* No event any more. Neither the process nor its stdin is ended by this. */
void modal_exec_close(struct modal_exec *e, void (*closed)(void *data), void *data);

#endif
