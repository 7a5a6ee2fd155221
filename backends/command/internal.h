#ifndef CELLBLOCK_COMMAND_INTERNAL_H
#define CELLBLOCK_COMMAND_INTERNAL_H

#include "backends/base/buffer.h"
#include "backends/environment.h"
#include "backends/kernels/runner/supervised.h"
#include "backends/place.h"

/*
 * Theory of operation. A carrier is one process of the command, with a supervised runner on its
 * stdin and stdout; it is a machine's, or stands ready in the pool. A machine has no state but its
 * carrier: a worker that ends leaves the carrier there for the next start, a carrier that ends is
 * the machine's end.
 *
 * The end of a carrier comes in pieces (its streams, its process, its last words on stderr); it is
 * told once, when the process has ended or ENDING_MS after its stdout has, so that the reason can
 * be told with it.
 *
 * A start is given up when the command has printed more than any banner has (COMMAND_TALK_CAP on
 * its stderr, SUPERVISED_BANNER_CAP on its stdout), when nothing has come for a minute and never
 * did (the executor's limit), when nothing has come for COMMAND_QUIET_MS, and after
 * COMMAND_GREETING_MS in any case. One whose last line says that it waits in a queue ("srun: job 7
 * queued and waiting for resources") may be quiet until then. What was printed last is quoted.
 */
enum {
    COMMAND_NAME_SIZE = 32,
    COMMAND_ARGS_CAP = 256,
    COMMAND_ERRORS_CAP = 4096,      /* of its stderr that are kept, the newest */
    COMMAND_TALK_CAP = 1024 * 1024, /* bytes of stderr before our program answers */
    COMMAND_TICK_MS = 15 * 1000, /* the executor wants to hear now and then that a start goes on */
    COMMAND_QUIET_MS = 300 * 1000, /* nothing came for so long, and it did not say that it waits */
    COMMAND_GREETING_MS =
        1740 * 1000, /* the whole start; a little less than the executor's limit */
    COMMAND_QUEUE_CAP = 80 * 1024 * 1024,
    ENDING_MS = 1000,   /* stdout closed → the process has ended */
    LEAVE_MS = 3000,    /* stdin closed → SIGTERM */
    TERMINATE_MS = 2000 /* SIGTERM → SIGKILL */
};

struct carrier;
struct command_place;

/* Of a start, in milliseconds. Tests make them shorter. */
struct command_limits {
    unsigned tick, quiet, greeting;
};

struct carrier_events {
    void (*on_waiting)(void *data, const char *line); /* a line of its stderr before it is ready */
    void (*on_ready)(void *data, struct link *link);
    void (*on_exit)(void *data, const struct machine_exit *exit);
};

/* argv.c: the command with its placeholders filled in, and the far command after it. An array to be
 * freed with command_argv_free, or NULL with `err`. `name` is the machine's. */
char **command_argv(const struct environment *env, const char *name, struct error *err);
void command_argv_free(char **argv);
/* Only looks: 0, or -1 with `err`. */
int command_check_args(const struct environment *env, struct error *err);
/* The path of a program as PATH has it, to be freed; NULL: not found. */
char *command_find_program(const char *name);

/*
 * carrier.c. Starts the command. Answers through the events, never before it returned; on_exit
 * without `kept` is its last word. `owner` may change (carrier_give) while it is ready.
 */
struct carrier *carrier_new(struct command_place *place);
void carrier_own(struct carrier *carrier, const struct carrier_events *events, void *data);
/* No event any more, until it is owned again; answers the `data` of before. */
void *carrier_disown(struct carrier *carrier);
/* NULL when it could not even be started. */
struct supervised *carrier_supervised(struct carrier *carrier);
bool carrier_is_starting(const struct carrier *carrier);
/* Greeted, and its worker waits for somebody to attach. */
bool carrier_is_ready(const struct carrier *carrier);
bool carrier_has_ended(const struct carrier *carrier);
struct link *carrier_link(struct carrier *carrier);
/* The next worker, after an exit that kept it. */
void carrier_start_worker(struct carrier *carrier);
/* Closes its stdin, and then does what it takes. No event any more; `closed` may be NULL. */
void carrier_close(struct carrier *carrier, void (*closed)(void *data), void *data);

enum { COMMAND_POOL_MAX = 16 };

/* place.c */
struct command_place {
    struct place base;
    struct command_limits limits;
    struct carrier *pool[COMMAND_POOL_MAX];
    unsigned pool_size;
    uv_timer_t timer; /* fills the pool, or ends it when nobody has used it for long */
    bool closing;
    unsigned open; /* carriers and machines that are not freed yet */
    void (*closed)(void *data);
    void *closed_data;
};

extern const struct place_ops command_ops;

void command_place_enter(struct command_place *place);
void command_place_leave(struct command_place *place);
/* One that is ready, or NULL; the pool is filled again a little later. */
struct carrier *command_place_take(struct command_place *place);
unsigned command_pool_wanted(const struct command_place *place);

/* machine.c */
struct machine *command_machine_new(struct place *base, const struct machine_events *events,
                                    void *data);
void command_machine_start(struct machine *m, const struct start_request *request);
void command_machine_put(struct machine *m, const struct share *share, executor_progress progress,
                         executor_done done, void *data);
void command_machine_put_cancel(struct machine *m);
void command_machine_file(struct machine *m, const struct file_request *request, file_done done,
                          void *data);
void command_machine_interrupt(struct machine *m);
int command_machine_signal(struct machine *m, int number);
void command_machine_kill(struct machine *m);
void command_machine_close(struct machine *m, void (*closed)(void *data), void *data);
const char *command_machine_folder(const struct machine *m);

#endif
