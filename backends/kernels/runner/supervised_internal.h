#ifndef CELLBLOCK_RUNNER_SUPERVISED_INTERNAL_H
#define CELLBLOCK_RUNNER_SUPERVISED_INTERNAL_H

#include "backends/base/buffer.h"
#include "backends/base/embedded.h"
#include "backends/base/net/tar.h"
#include "backends/kernels/runner/frame_supervisor.h"
#include "backends/kernels/runner/supervised.h"

/*
 * Theory of operation (for the files supervised*.c only; callers read supervised.h).
 *
 *   NEW ── open ──► BANNER ── marker: the package and SETUP go out ──► HELLO ──► UP ──► OVER
 *
 * supervised.c takes the stream apart. Frames of the worker are handed to the link piece by piece
 * as they come, never collected (the kernel does that); the supervisor's own are small, collected,
 * and given to supervised_take_frame. Callbacks may lead back here, and may make it be OVER: all
 * that follows one looks at the phase again. supervised_put.c sends shares, one at a time;
 * supervised_files.c asks about files, all at once.
 */
enum supervised_phase {
    PHASE_NEW,
    PHASE_BANNER,
    PHASE_HELLO,
    PHASE_UP,
    PHASE_OVER,
};

enum worker_state {
    WORKER_NONE,
    WORKER_STARTING,
    WORKER_LIVE,
};

/* Where the payload that is coming in goes. */
enum route {
    ROUTE_OWN,      /* collected in `frame` */
    ROUTE_LINK,     /* to the kernel, with its header */
    ROUTE_LEFTOVER, /* text that was printed before the run that has been asked for */
    ROUTE_NOBODY,
};

/* Where one that outlives its stream listens: in memory, and where no code looks for files. */
#define SUPERVISED_DOOR "/dev/shm/.cellblock"

enum {
    SUPERVISED_FIRST_PID = 1,           /* it is the first process where it can be left */
    SUPERVISED_EARLY_CAP = 1024 * 1024, /* of what a worker sends before somebody has attached */
};

/* Bytes that a worker in its whole life may have printed and not sent: what is past any doubt a
 * lie, and small enough that no sum of counts runs over. */
#define SUPERVISED_HELD_CAP ((uint64_t)1 << 50)

/* The package as bytecode (tools/compile_worker.py), by the magic number of the Python that built
 * us. */
extern const struct embedded_file embedded_worker[];

struct put;
struct errand;

struct supervised {
    uv_loop_t *loop;
    struct byte_stream *stream;
    struct supervised_options options; /* all that it leads to is owned */
    struct supervised_events events;
    void *data;
    enum supervised_phase phase;
    uv_timer_t greeting;
    uv_timer_t progress; /* of a put */
    uv_idle_t soon;      /* what must not happen inside of a call: an exit, the next put */
    unsigned open_handles;

    struct buffer banner; /* what came before the marker */
    char *banner_end;     /* its last lines, for messages */
    char *folder;
    int pid; /* of the supervisor, as it said; 0: it did not */

    unsigned char header[FRAME_HEADER];
    size_t header_size; /* bytes of it that are there */
    size_t left;        /* of the payload, to come */
    enum route route;
    struct buffer frame;
    struct buffer early;

    struct link link;
    enum worker_state worker;
    bool kill_sent;
    bool lost;          /* an exit is due: the start came when all was over */
    bool keeps;         /* it keeps the output of runs: */
    struct buffer plan; /* … the OUTPUT frame that goes with the next one */
    uint64_t held;      /* bytes of the worker's that were not sent */
    unsigned runs_due;  /* runs sent that the supervisor has not taken in yet */

    struct put *puts;   /* the first is the one that is going */
    unsigned number;    /* of the last put or errand */
    unsigned open_puts; /* also those that are answered and not freed yet */
    struct errand *errands;
    bool choked;  /* a frame about files could not be sent whole: the stream is over */
    bool another; /* its worker is not the one that was left */
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

/* A parsed EXIT; its message is owned. */
struct exit_frame {
    struct machine_exit exit;
    char *text;
};

/* supervised_command.c. Copies also what they lead to: 0 or -ENOMEM, and what is there is freed by
 * the other. */
int supervised_copy_options(struct supervised *s, const struct supervised_options *options);
void supervised_free_options(struct supervised *s);
/* The package and SETUP, in answer to the marker. 0 or -errno. */
int supervised_send_package(struct supervised *s, const char *magic);

/* supervised.c */
struct supervised *supervised_of_link(const struct link *link);
int supervised_send(struct supervised *s, enum supervisor_frame type, const void *payload,
                    size_t size);
int supervised_send_json(struct supervised *s, enum supervisor_frame type, json_t *json_owned);
void supervised_break(struct supervised *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void supervised_maybe_free(struct supervised *s);
void supervised_soon(
    struct supervised *s); /* lets supervised_puts_go_on be called, from the loop */
void supervised_show_progress(struct supervised *s, bool show);

/* supervised_frames.c: a whole frame of the supervisor's own. */
void supervised_take_frame(struct supervised *s, const struct frame *frame);

/* supervised_output.c: what the far side keeps of the output; `link` has the ops. */
bool supervised_keeps(const struct link *link);
int supervised_plan(struct link *link, const struct output_plan *plan);
/* Sends a RUN, with the plan for its output before it in one piece: on a stream with Nagle's
 * algorithm on (RFC 896) the second of two small ones would wait. 0 or -errno. */
int supervised_send_run(struct supervised *s, const void *bytes, size_t size);
void supervised_held(struct supervised *s, const json_t *json);
void supervised_sample(struct supervised *s, const char *bytes, size_t size);
void supervised_kept(struct supervised *s, const json_t *json);

/* supervised_put.c */
void supervised_puts_go_on(struct supervised *s); /* starts the next one if one is due */
void supervised_puts_lost(struct supervised *s);  /* answers all of them */
void supervised_put_taken(struct supervised *s, json_int_t id, json_int_t bytes);
/* `kind` NULL: it is there. */
void supervised_put_done(struct supervised *s, json_int_t id, const char *kind, const char *text);
void supervised_put_progress(struct supervised *s);

/* supervised_files.c. What comes with an id: false where no errand has it. */
bool supervised_file_taken(struct supervised *s, json_int_t id, json_int_t bytes);
void supervised_file_bytes(struct supervised *s, const char *bytes, size_t size);
void supervised_file_done(struct supervised *s, json_int_t id, const json_t *json);
void supervised_files_go_on(struct supervised *s); /* answers those that could not be sent */
void supervised_files_lost(struct supervised *s);  /* answers all of them */

#endif
