#ifndef CELLBLOCK_OUTCOME_H
#define CELLBLOCK_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/base/error.h"
#include "backends/changed.h"

/*
 * The typed end of a run. The cause is decided by us from what the system reports (an exit status,
 * a signal, our own timer, our memory watcher), never from what the code printed. Only the
 * difference between `ok`, `error` and `exit` is the worker's word, and a worker that lies about
 * that can only belittle or praise its own run.
 */
enum cause {
    CAUSE_OK,
    CAUSE_ERROR,         /* an uncaught exception; `error` says which */
    CAUSE_EXIT,          /* SystemExit with a code other than 0, os._exit, a command that failed */
    CAUSE_TIMEOUT,       /* past timeout_seconds; error.etype is "TimeoutError" */
    CAUSE_CANCELLED,     /* the caller took it back, or the session was reset */
    CAUSE_OUT_OF_MEMORY, /* the kernel's or our watcher's word, never an uncaught MemoryError */
    CAUSE_KILLED,        /* a signal: a crash, a kill from inside, a broken worker */
    CAUSE_LOST,          /* the place went away, or it could not be started */
    CAUSE_REFUSED,       /* policy */
    CAUSE_UNSUPPORTED,   /* the backend lacks what was asked */
};

/* "ok", "error", … "out_of_memory", … as in the results' schema. */
const char *cause_name(enum cause cause);

/* The cause of a run that was asked for and understood and could not begin for such an error. */
enum cause cause_of_error(enum error_kind kind);

enum stream {
    STREAM_STDOUT = 0,
    STREAM_STDERR = 1,
};

/* Where all of a stream's output was kept when it was long. */
struct full_output {
    char *path;     /* absolute, in the session; NULL when nothing was kept */
    uint64_t total; /* bytes the run wrote to this stream, kept or not */
    uint64_t kept;  /* bytes in the file; less than total when a cap or the disk's limit was met */
};

struct run_error {
    char *etype;     /* "ZeroDivisionError"; NULL when there is no error */
    char *evalue;    /* str() of it */
    char *traceback; /* text without ANSI codes, user's frames only; NULL when there is none */
};

struct outcome {
    enum cause cause;
    bool has_exit_code;
    int exit_code;
    int signal; /* number, 0 when none; signal_name() gives "SIGSEGV" */
    struct run_error error;
    char *note;      /* a sentence for people: how it ended, what was kept; NULL when ok */
    bool state_lost; /* the session's variables are gone; the next run starts afresh */
    bool files_lost; /* its files too */
    int execution_count;
    uint64_t duration_ms; /* from the moment the code started, by our monotonic clock */
    uint64_t cpu_ms;
    uint64_t peak_rss_kib;
    struct full_output full[2]; /* by enum stream */
    struct changed changed;     /* files of the workspace that it made or changed */
    char *snapshot;             /* the id of what executor_snapshot has made; NULL */
};

/* "SIGSEGV" for 11; "SIG<number>" for one without a name. The text is static or in `space`. */
const char *signal_name(int number, char space[16]);

void outcome_init(struct outcome *o);
void outcome_deinit(struct outcome *o);

#endif
