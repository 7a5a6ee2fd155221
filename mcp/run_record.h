#ifndef CELLBLOCK_MCP_RUN_RECORD_H
#define CELLBLOCK_MCP_RUN_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "backends/executor.h"
#include "mcp/run_log.h"
#include "mcp/session.h"

/*
 * A run as its own object: it may outlive the call that asked for it, be watched by several calls
 * and be asked about after its end. (A tool that starts runs needs only mcp/tools/run_call.h.)
 *
 * A record holds its session in use while the run goes on, collects what it gives (content.h, and
 * the newest output in a log with a cursor), and makes its result when it is done. A foreground one
 * is freed then, after its watchers were told. A background one stays in the table: until the
 * server ends, or until newer ones need its place.
 */
enum {
    RUN_RECORDS_CAP = 256,                 /* background runs that are known, ended ones included */
    RUN_RECORDS_SESSION = 64,              /* ended ones of one session */
    RUN_RECORDS_BYTES = 128 * 1024 * 1024, /* about what the ended ones may take together */
    RUN_RECORDS_FORGOTTEN = 256,           /* ids that are known to have been forgotten */
    RUN_TITLE_SIZE = 64,                   /* of a run's first line */
};

struct run_records;
struct run_record;

struct run_records *run_records_new(uv_loop_t *loop);
/* When all runs are done (sessions_close has called back). NULL is allowed. */
void run_records_free(struct run_records *records);

struct run_plan {
    struct session *session;
    struct run_request request; /* id and keep_full_output are filled in */
    const char *tool;           /* "run_code"; static */
    const char *title;          /* for lists: its first line is taken; NULL: none */
    char *hint;                 /* a last note of the result; taken on success, may be NULL */
    const char *failure_note;   /* a note of a result that is not ok; NULL: none; static */
    bool ephemeral;             /* in a fresh executor of its own */
    bool structured;            /* content_new */
    bool background;            /* from the start */
    bool may_turn;              /* it may become one: its output is kept for cursors */
};

/* Queues the run. NULL with an error: then nothing has begun, and the hint is the caller's. */
struct run_record *run_record_start(struct run_records *records, struct run_plan *plan,
                                    struct error *err);

/* The run goes on without a call. Only with `may_turn`. */
void run_record_to_background(struct run_record *record);

/* Asks for its end; one that has ended stays as it is. */
void run_record_cancel(struct run_record *record);

/* The run of a record that is not done, for run_signal and run_write; NULL when it is. */
struct run *run_record_run(struct run_record *record);

/* --- looking at one --- */

enum run_state { RUN_WAITING, RUN_RUNNING, RUN_DONE };

struct run_view {
    const char *id, *session, *environment, *backend;
    const char *tool, *title;
    const char *waiting_for; /* what a waiting one was last said to wait for, NULL: nothing */
    enum run_state state;
    enum cause cause; /* when it is done */
    bool background;
    bool ephemeral;
    const char *hint;          /* what the plan had */
    double seconds;            /* since it began to wait, or to run; how long it ran */
    const json_t *result;      /* the CallToolResult of a done one; NULL: out of memory */
    const struct run_log *log; /* NULL: none is kept */
    const struct place *place; /* NULL when it is done */
};

/* "waiting", "running", "done" */
const char *run_state_name(enum run_state state);
/* "12 s", "0.3 s" */
const char *run_seconds(double seconds, char space[32]);

/* Borrowed until the loop turns. */
void run_record_view(const struct run_record *record, struct run_view *ret);

/* By id; NULL with an error: ERROR_NOT_FOUND, or ERROR_LOST for one that was forgotten. */
struct run_record *run_records_find(struct run_records *records, const char *id, struct error *err);
/* From the newest to the oldest; NULL begins and ends. */
struct run_record *run_records_next(struct run_records *records, struct run_record *record);

/* --- watching one --- */

/* Embedded by who watches. It may be taken out at any time, also from within its own callbacks;
 * after `done`, the last one, it is out already. What is NULL is not called. */
struct run_watcher {
    struct run_watcher *next;
    void (*waiting)(void *data, const char *what);
    void (*started)(void *data);
    void (*output)(void *data, const char *bytes, size_t size);
    void (*sample)(void *data, const char *bytes, size_t size); /* run_events.on_sample */
    void (*done)(void *data);
    void *data;
};

void run_record_watch(struct run_record *record, struct run_watcher *watcher);
void run_record_unwatch(struct run_record *record, struct run_watcher *watcher);

#endif
