#ifndef CELLBLOCK_RUNNER_SUPERVISED_H
#define CELLBLOCK_RUNNER_SUPERVISED_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "backends/place.h"

/*
 * The runner over a single byte stream, for any place with a python3 (3.8 or newer) at the far end:
 * an exec in a container, ssh, srun. Nothing is installed there.
 *
 * The far command is supervised_command(): `python3 -I -u -c BOOTSTRAP` (in a form that survives
 * being joined by spaces and read by a shell, as ssh does). It reads our package from its stdin,
 * greets, and is then the supervisor: a small parent that keeps the stream, and forks the worker
 * that runs the code. So a crash, a kill or a time-out of the worker ends the run and not the
 * machine: its files stay, and supervised_start_worker makes the next worker. Nothing is sent
 * before its bootstrap has answered, so that what is not our bootstrap never reads it.
 *
 * The supervisor watches its worker (exit status, signal, resource usage), holds it to the limits
 * (rlimits, and the whole tree's memory, files and processes by polling), ends all that it left
 * behind, takes files in (a tar stream), does what is asked about files, and cleans up after itself
 * when the stream closes. Its frames are in frame_supervisor.h, the worker's in frame.h.
 *
 * A stranger's bytes before the first greeting (a login banner) are skipped, up to BANNER_CAP; the
 * last lines of them are quoted when the stream ends before a greeting came.
 */
struct supervised;

enum {
    SUPERVISED_BANNER_CAP = 64 * 1024,
    SUPERVISED_GREETING_MS = 60 * 1000, /* stream open → the supervisor greets, if not told else */
};

/* What carries the bytes; the owner embeds or makes one. */
struct byte_stream {
    /* Sends all of it, in order; keeps a copy of what cannot be sent at once. -EPIPE, -ENOBUFS. */
    int (*write)(struct byte_stream *stream, const void *bytes, size_t size);
    /* Bytes accepted by write and not sent yet; may be NULL. */
    size_t (*queued)(const struct byte_stream *stream);
    void (*pause)(struct byte_stream *stream, bool paused); /* may be NULL */
};

struct supervised_options {
    const char *workspace; /* folder that is the working directory and HOME: "/workspace"; NULL: a
                            * private one is made in the far side's temporary folder, and removed at
                            * the end (supervised_folder says where) */
    uint64_t memory_mib, disk_mib; /* 0: held by the place itself (an engine), not watched here */
    unsigned processes;            /* 0: likewise */
    bool limits_per_process;       /* rlimits as well (not under a cgroup of the place's own) */
    unsigned greeting_ms;          /* 0: SUPERVISED_GREETING_MS */
    bool warm; /* get ready for a quick first run while there is time (a pool): takes longer */
    bool start_at_once; /* the first worker is asked for together with all else, which saves the
                         * time that words take there and back: on_greeting has to call
                         * supervised_start_worker */
    json_t *env;        /* of the worker, object of strings; may be NULL */
    /* One that outlives the stream (NULL: it ends with it): when nobody is there it ends so many
     * seconds after its start. A run that is going when the stream ends is interrupted. */
    const char *proof; /* of the secret that lets somebody in later: the HMAC-SHA256 of "proof"
                        * whose key it is, both as hexadecimal digits */
    double keep_seconds;
    const char *secret; /* it is there already, and the far command becomes a relay to it: all else
                         * of these but workspace means nothing then */
    bool restored; /* with `secret`: it has slept, and others may have woken of the same sleep: the
                    * worker draws other random numbers than they */
    int pid;       /* with `secret`: its process there; 0: the first of all, as in a container */
};

struct supervised_events {
    /* The supervisor has greeted; `python` is "3.11.2". A worker can be started. */
    void (*on_greeting)(void *data, const char *python);
    /* The worker's process is there and its link can be attached to. Whoever attaches later (a
     * pool's machine) calls supervised_attached then; until it does, what comes is kept. */
    void (*on_worker)(void *data, struct link *link);
    /* The worker ended; what it had sent has been delivered. EXIT_CODE, EXIT_SIGNAL,
     * EXIT_OUT_OF_MEMORY, EXIT_DISK. The supervisor is still there. */
    void (*on_worker_exit)(void *data, const struct machine_exit *exit);
    /* The supervisor broke the protocol, or did not greet in time: the place should end its stream.
     * `message` quotes the last lines of what a stranger printed instead. Once, last: a worker that
     * lived has been reported as EXIT_LOST before, puts are answered. */
    void (*on_broken)(void *data, const char *message);
};

struct supervised *supervised_new(uv_loop_t *loop, struct byte_stream *stream,
                                  const struct supervised_options *options,
                                  const struct supervised_events *events, void *data);
/* The argv of the far command, NULL-terminated, in memory that is to be freed. It means the same
 * whether it is given to a process as it is or joined by spaces and read by a shell; with
 * `shell_safe` a `python` of which that is not true (a space in it, say) gives NULL, as does a lack
 * of memory. */
const char *const *supervised_command(const char *python, bool shell_safe, char **ret_to_free);

/* The stream is open: the greeting is waited for. */
void supervised_open(struct supervised *s);
/* Bytes that the far side sent (on its stdout). */
void supervised_feed(struct supervised *s, const char *bytes, size_t size);
/* The stream has ended; a worker that lived is reported by on_worker_exit as EXIT_LOST with this
 * reason (may be NULL), a greeting that had not come by on_broken. */
void supervised_ended(struct supervised *s, const char *reason);

/* Once greeted, and when no worker is there; on_worker or on_worker_exit follows. */
void supervised_start_worker(struct supervised *s);
/* Somebody has attached to the link since on_worker: what has come is delivered. */
void supervised_attached(struct supervised *s);
void supervised_interrupt(struct supervised *s);         /* SIGINT to the worker's run */
int supervised_signal(struct supervised *s, int number); /* to the worker itself. 0 or -ESRCH */
/* SIGKILL to the worker and all it left; on_worker_exit follows if there was one. */
void supervised_kill(struct supervised *s);
/* Copies a share in at its dest (mapped into the private folder where there is one), also while a
 * run goes on; as place_ops.machine_put. */
void supervised_put(struct supervised *s, const struct share *share, executor_progress progress,
                    executor_done done, void *data);
void supervised_put_cancel(struct supervised *s); /* as place_ops.machine_put_cancel */
/* As place_ops.machine_file. With a private folder, /workspace, /tmp and dests of shares are those
 * in it. */
void supervised_file(struct supervised *s, const struct file_request *request, file_done done,
                     void *data);
/* Has the one that was there already lost the worker that it had? */
bool supervised_is_another(const struct supervised *s);
/* The process that the supervisor is, there: as it said before any code ran, or as it was sought.
 * 0: not known. */
int supervised_pid(const struct supervised *s);
/* See place_ops.machine_folder. */
const char *supervised_folder(const struct supervised *s);
/* The last lines that came before the greeting, or "" — for messages. */
const char *supervised_banner(const struct supervised *s);
/* A stranger's text for our messages: its last lines, joined, without control characters. To be
 * freed; NULL when out of memory. */
char *supervised_last_lines(const char *text, size_t size);
/* Puts and requests about files that wait are answered with ERROR_LOST; no callback but theirs
 * comes any more. */
void supervised_close(struct supervised *s, void (*closed)(void *data), void *data);

#endif
