#ifndef CELLBLOCK_EXECUTOR_H
#define CELLBLOCK_EXECUTOR_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "backends/base/error.h"
#include "backends/environment.h"
#include "backends/files.h"
#include "backends/outcome.h"
#include "backends/share.h"

/*
 * THE contract: one live sandbox behind a session, the same over every kind of backend.
 *
 * The caller
 *   1. opens a place for an environment (place_open in place.h), once; cheap, starts nothing;
 *   2. makes an executor in it: executor_new. Cheap, cannot block, starts nothing;
 *   3. adds shares: executor_add_share. Mounts before the first run only;
 *   4. runs code: executor_run, any number of times, also while another run is going: runs of one
 *      executor are done one at a time, in order. The first one starts the sandbox, and so does the
 *      first after a sandbox died (a kill, a crash, a time-out that had to kill): the shares are
 *      brought in again, the variables are gone, and the outcome of the run that died said so;
 *   5. may call run_cancel at any time before completion;
 *   6. ends with executor_close.
 *
 * What holds for every operation
 *   - A start function never completes synchronously: no callback is made before it has returned.
 *   - Each operation completes exactly once, and its completion is its last callback.
 *   - Output arrives in order and before completion. What a finished run's leftovers (threads,
 *     daemons) print later goes to on_idle_output, never to another run.
 *   - A cancel is an idempotent request; the result still comes through completion.
 *   - After executor_close no callback but its own and the cancelled operations' completions (runs,
 *     shares) is made.
 *   - Everything happens on the thread of the uv loop.
 *   - Strings and JSON given to callbacks are the caller's to read until the callback returns.
 *
 * An executor is a place × a kernel; a new backend's author writes a `struct place_ops` (place.h)
 * and one row of registry.c and gets all of this file for nothing: queueing, start limits, time
 * limits, cancel, restarts and long outputs are done here, once.
 */
struct executor;
struct place;
struct run;

/* What a backend can do. A missing capability is refused as ERROR_UNSUPPORTED with a message that
 * names the backends that have it. `cellblock backends` prints this table. */
enum capability {
    CAP_STATEFUL = 1u << 0,    /* variables live from run to run */
    CAP_EPHEMERAL = 1u << 1,   /* a fresh sandbox for each run */
    CAP_SHELL = 1u << 2,       /* language "shell" */
    CAP_COPY = 1u << 3,        /* copy shares, at any time */
    CAP_MOUNT = 1u << 4,       /* mount shares, before the first run: the source itself */
    CAP_MOUNT_WRITE = 1u << 5, /* read_only: false on a mount */
    CAP_CLOUD = 1u << 6,       /* bucket shares */
    CAP_STDIN = 1u << 7,       /* stdin of a run */
    CAP_NETWORK_NONE = 1u << 8,
    CAP_NETWORK_ALL = 1u << 9,
    CAP_MEMORY_LIMIT = 1u << 10,
    CAP_DISK_LIMIT = 1u << 11,
    CAP_PROCESS_LIMIT = 1u << 12,
    CAP_INTERRUPT = 1u << 13, /* a time-out keeps the variables when the code can be interrupted */
    CAP_EXIT_STATUS = 1u << 14,   /* how the interpreter's process ended is told: code, signal */
    CAP_KEEPS_FILES = 1u << 15,   /* files outlive an interpreter that was killed or crashed */
    CAP_KERNELSPECS = 1u << 16,   /* language may also name any kernelspec of the server */
    CAP_USAGE = 1u << 17,         /* cpu_ms and peak_rss_kib of a run */
    CAP_FILES = 1u << 18,         /* files.h */
    CAP_COMMANDS = 1u << 19,      /* run_request.argv and workdir */
    CAP_SIGNAL = 1u << 20,        /* run_signal to a command; SIGINT to any run */
    CAP_STDIN_STREAM = 1u << 21,  /* run_request.stdin_open and run_write, of a command */
    CAP_REATTACH = 1u << 22,      /* executor_keep: a sandbox outlives this process */
    CAP_NETWORK_HOSTS = 1u << 23, /* network may be a list of hosts */
    CAP_STDIN_CODE = 1u << 24,    /* run_request.stdin_open and run_write, of code */
    CAP_SNAPSHOT = 1u << 25,      /* executor_snapshot and environment.snapshot: files */
    CAP_MOUNT_COPY = 1u << 26,    /* instead of CAP_MOUNT: a mount is an uploaded, read-only copy of
                                   * what the source is when the sandbox is started */
    CAP_SNAPSHOT_MEMORY = 1u << 27, /* as CAP_SNAPSHOT, and variables: snapshot_request.memory */
};

/* "copy", "mount", …; NULL past the last one. `index` counts from 0, *ret is the bit. */
const char *capability_name(unsigned index, enum capability *ret);

enum {
    RUN_ID_SIZE = 16,                 /* "r-" and 8 characters and NUL fit */
    RUN_SPOOL_AFTER = 8 * 1024,       /* bytes of a stream that are kept in memory only */
    RUN_SPOOL_CAP = 64 * 1024 * 1024, /* bytes of a stream that are kept in the session's file */
    RUN_WRITE_CAP = 16 * 1024 * 1024, /* bytes that run_write takes for one run, in all */
    RUN_ARGUMENTS_CAP = 1024,         /* of argv; what they may hold is the system's to say */
    FILES_CAP = 64,                   /* file operations at once in one executor */
    RUN_QUEUE_CAP = 64,               /* runs waiting in one executor; one more is ERROR_LIMIT */
    SNAPSHOT_ID_CAP = 100,            /* characters of a snapshot's id */
};

/* Of executor_snapshot. */
struct snapshot_request {
    uint64_t ttl_seconds; /* so long the backend keeps it; of memory it has a time of its own */
    bool memory; /* CAP_SNAPSHOT_MEMORY: the processes too, with the variables. The sandbox that it
                  * is taken of is gone then, and the session goes on in another one */
};

/*
 * Code in a language, or a command: with `argv` a program is started as it is named there, without
 * a shell (its name is looked up in PATH), with the session's environment and no part in its
 * variables. It ends as a command of language "shell" does: an exit code, or a signal. One that
 * cannot be started has exit code 127 (not found) or 126, as a shell has it, and says why on
 * stderr.
 */
struct run_request {
    const char *id;                          /* "r-…", unique in the executor */
    const struct snapshot_request *snapshot; /* executor_snapshot's to fill in; else NULL */
    const char *language;                    /* "python", "shell" */
    const char *code;                        /* UTF-8, code_size bytes, may hold NUL */
    size_t code_size;
    const char *const *argv; /* NULL-terminated, UTF-8: then language and code are not looked at */
    bool python;             /* argv are the arguments of the session's own Python */
    const char *folder;  /* where the session works, from its first run on; made when missing. The
                          * executor's to fill in, from the place's environment */
    const char *workdir; /* of a command (argv, or language shell): absolute, or from /workspace;
                          * NULL: the session's. One that is no folder is the run's error */
    bool stdin_open;     /* stdin goes on after stdin_text, by run_write */
    const char *stdin_text; /* UTF-8, stdin_size bytes; NULL: end of file at once, never a wait */
    size_t stdin_size;
    json_t *env;            /* object of strings for this run only, or NULL */
    double timeout_seconds; /* > 0: wall clock from the moment the code starts */
    bool keep_full_output;  /* long output is kept in the session's files (outcome.full) */
    /* How much of each stream is wanted: so many bytes from its beginning, and so many from its
     * end. What lies between may come all the same; else run_events.on_held, which must be set,
     * says how much it was. After a DISPLAY_CLEAR it begins anew. output_head 0: all of it. */
    size_t output_head, output_tail;
};

/* Where the files of long output are. */
#define RUN_OUTPUT_FOLDER "/workspace/.cellblock"

enum display_kind {
    DISPLAY_RESULT, /* the value of the last expression (execute_result) */
    DISPLAY_DATA,   /* display_data */
    DISPLAY_UPDATE, /* update_display_data: replaces those with this display_id in place */
    DISPLAY_CLEAR,  /* clear_output; `wait`: when the next output comes */
};

struct display {
    enum display_kind kind;
    json_t *data;     /* {mime: payload}; text as text, binary types as base64 text; borrowed */
    json_t *metadata; /* object; borrowed, never NULL for RESULT, DATA, UPDATE */
    const char *display_id; /* NULL when it has none */
    bool wait;
};

/* A run's callbacks. Only on_done must be set. `data` is what executor_run was given. */
struct run_events {
    /* While a place is started or the run waits in the queue: one line for people saying what is
     * waited for ("starting the sandbox (python3 3.11)"). */
    void (*on_waiting)(void *data, const char *what);
    /* The code has started: the clock runs. */
    void (*on_started)(void *data);
    /* Bytes as printed; may end within a character. */
    void (*on_output)(void *data, enum stream stream, const char *bytes, size_t size);
    /* So much was printed at this point and does not come; of the two this is the far side's word.
     * What follows of this stream is its end, or its end so far. */
    void (*on_held)(void *data, enum stream stream, uint64_t bytes, uint64_t lines);
    /* The newest lines of what has not come, to be shown while it runs; no part of the output. May
     * be NULL. */
    void (*on_sample)(void *data, enum stream stream, const char *bytes, size_t size);
    void (*on_display)(void *data, const struct display *display);
    /* Something the user should know though the run goes on (a raising _repr_html_, say). */
    void (*on_note)(void *data, const char *text);
    /* Last, exactly once. The outcome is the caller's to read until it returns; the run is freed.
     */
    void (*on_done)(void *data, const struct outcome *outcome);
};

/* `place` outlives the executor. Never NULL but out of memory. */
struct executor *executor_new(struct place *place);

/* Called with what is printed while no run is going (a background thread, a daemon), also from
 * inside executor_run, which takes in what is there before the code starts. May be NULL. */
void executor_set_idle_output(struct executor *e,
                              void (*on_idle_output)(void *data, enum stream stream,
                                                     const char *bytes, size_t size),
                              void *data);

/*
 * Takes the share (always, also on failure: it is freed then). Before the first run it is only
 * noted and `done` is called soon; on a live sandbox a copy is made at once, also while a run is
 * going, and `done` is called when it is there, with an error that left nothing half made at dest,
 * or with NULL. A mount after the start is ERROR_REFUSED and says to call reset_session first. A
 * dest that is taken is ERROR_INVALID. `progress` (may be NULL) gets lines for people while a long
 * copy goes on. A copy may take as long as it needs while something of it moves; when nothing has
 * moved for a minute it is given up (ERROR_TIMEOUT), and the session goes on without the share.
 */
typedef void (*executor_done)(void *data, const struct error *err);
typedef void (*executor_progress)(void *data, const char *line);
void executor_add_share(struct executor *e, struct share *share_owned, executor_progress progress,
                        executor_done done, void *data);
/* A request: the copy whose `data` this is, and whose `done` was not called yet, is given up.
 * `done` is called with the error that says so, unless the copy was there first; nothing is left at
 * dest. */
void executor_cancel_share(struct executor *e, const void *data);

/* Would a new executor of this place take these shares, in this order? 0, or -1 with the reason of
 * the first that it would not. For shares that nobody is there to be told about when they are
 * added. */
int executor_check_shares(struct place *place, struct share *const *shares, unsigned count,
                          struct error *err);

/* The executor's share number `index`, NULL past the last. Borrowed. */
const struct share *executor_share(const struct executor *e, unsigned index);

/* Copies everything it needs out of `request`. Returns NULL with `err` when the run cannot even be
 * queued (ERROR_LIMIT, ERROR_UNSUPPORTED: a language the place lacks); then no callback is made. */
struct run *executor_run(struct executor *e, const struct run_request *request,
                         const struct run_events *events, void *data, struct error *err);

/*
 * Keeps the sandbox's files as they are between two runs, at the backend, beyond the executor's end
 * (CAP_SNAPSHOT). It is queued as a run is: it waits for those that came before, and those that
 * come after wait for it; it starts the sandbox if need be, and has a run's events and end. `id` is
 * unique among the executor's runs. An outcome of CAUSE_OK has outcome.snapshot. Nothing that runs
 * is disturbed, and with any other outcome the session is as it was, unless that says that it was
 * lost. One that is cancelled, or past `timeout_seconds`, is answered at once; what it still comes
 * to is deleted.
 *
 * What is mounted (buckets, volumes, mount shares) is not in it. NULL with `err` as executor_run.
 */
struct run *executor_snapshot(struct executor *e, const char *id,
                              const struct snapshot_request *request, double timeout_seconds,
                              const struct run_events *events, void *data, struct error *err);

/* Interrupts a run that is going (and kills it after a grace), drops one that waits. Its outcome is
 * CAUSE_CANCELLED. `run` must not have completed. */
void run_cancel(struct run *run);

/*
 * A signal for a run that has not completed: to the command's process group. For code SIGINT, which
 * it sees as KeyboardInterrupt, and where the place can (machine_signal) any other, to the
 * interpreter's process: one that code has no handler for ends it. 0 when it was sent, which says
 * nothing about what came of it. -1: ERROR_UNSUPPORTED (the backend, or the signal for this kind of
 * run), ERROR_INVALID (no such signal; the run waits and has no process yet).
 */
int run_signal(struct run *run, int number, struct error *err);

/*
 * More of the stdin of a run with `stdin_open`, and its end with `eof`; any bytes. What a run that
 * waits is given is kept for it. 0 when it was taken: a program that does not read it leaves it in
 * the sandbox's memory. -1: ERROR_INVALID (its stdin is not open, or has ended), ERROR_LIMIT past
 * RUN_WRITE_CAP, ERROR_UNSUPPORTED, ERROR_LOST.
 */
int run_write(struct run *run, const char *bytes, size_t size, bool eof, struct error *err);

/*
 * One operation on the sandbox's files (files.h), also while a run is going; several at once are
 * allowed, up to FILES_CAP, and nothing is said about their order. Copies everything it needs out
 * of `request`. The first one starts the sandbox as a run does, and waits until its shares are in.
 * `done` is called once, never before this returned, also with what file_request_check finds;
 * ERROR_UNSUPPORTED where the place lacks CAP_FILES; ERROR_TIMEOUT after a minute without an
 * answer.
 */
void executor_file(struct executor *e, const struct file_request *request, file_done done,
                   void *data);

/* Has the sandbox been started (a mount comes too late)? */
bool executor_started(const struct executor *e);
/* Has it been, and could a run begin now or go on? Not while a start is under way. */
bool executor_ready(const struct executor *e);
/*
 * Where the ports of its sandbox are reached from outside: a new object such as {"8080":
 * "https://HOST[:PORT]", "22": "tcp://HOST:PORT"}, the latter of a port without TLS. Who made the
 * sandbox says so, never what runs in it, and each is checked to be an address. json_null() as long
 * as that is not known; nothing waits for it. *ret_note (borrowed until the loop turns) is a
 * sentence for people on ports that have no address there, or NULL. NULL without ports, and while
 * no sandbox is ready.
 */
json_t *executor_ports(const struct executor *e, const char **ret_note);
/* Is a run going, starting or queued? */
bool executor_busy(const struct executor *e);

/* Cancels what is going, stops the sandbox and frees the executor; `done` (may be NULL) is called
 * when nothing of it is left. */
void executor_close(struct executor *e, executor_done done, void *data);

/*
 * A sandbox that outlives this process (CAP_REATTACH). Before the first run; `tag` and `where` are
 * copied.
 *   tag       what the sandbox shows when it is found again; nobody can guess it
 *   where     what on_where told once, of a sandbox with this tag: the first start finds that one,
 *             as it is, and makes no other. What is found there and does not show the tag is let
 *             go untouched. NULL: a new one is made
 *   to_end    with where: it is found only to be ended, and what is going on in it may go on for so
 *             many seconds; a place may do it without reaching what is in it, and at once. Then it
 *             is gone, and its start fails with that. 0: it is not only found for that
 *   on_where  called when a sandbox with the tag is there and ready: what leads to it, an object of
 *             texts; with NULL when it is known to be gone. It may be called from inside any
 *             function of the executor
 */
struct executor_kept {
    const char *tag;
    json_t *where;
    unsigned to_end;
    void (*on_where)(void *data, json_t *where);
    void *data;
};
/* -1 when out of memory. */
int executor_keep_sandbox(struct executor *e, const struct executor_kept *kept);
/* As executor_close, but the sandbox goes on, for another process to find: true. Or false, when
 * there is none that is ready: then it was executor_close. */
bool executor_leave(struct executor *e, executor_done done, void *data);

#endif
