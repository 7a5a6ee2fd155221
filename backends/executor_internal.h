#ifndef CELLBLOCK_EXECUTOR_INTERNAL_H
#define CELLBLOCK_EXECUTOR_INTERNAL_H

#include <uv.h>

#include "backends/base/buffer.h"
#include "backends/executor.h"
#include "backends/kernel.h"
#include "backends/place.h"
#include "backends/spool.h"

/*
 * Theory of operation (for the files executor*.c only; callers read executor.h).
 *
 *   IDLE ── a run is queued ──► STARTING ── on_started ──► PREPARING ── greeted, copies in ──►
 * READY ▲                              │                          │ │ └───────── on_exit
 * ────────────┴────────── ENDING ◄───────┴──── killed, or stream closed ──┘
 *
 * A box is one started machine; when it has ended a new one is made, and callbacks of an old one
 * are told apart by their box. A machine that outlives its worker (machine_exit.kept) stays the
 * executor's box while it is IDLE, and is started again.
 *
 * A run whose long output is still to be brought into the sandbox (executor_keep.c) stays the
 * current one, `ending`, until that is done. One timer serves all limits but those of a put, since
 * only one is running in any state: of the start, the greeting, the run, the grace after an
 * interrupt, the end after a kill. What is brought into a machine (executor_put.c) has a timer of
 * its own, and so have the operations on its files (executor_files.c), which go on beside all else.
 *
 * Nothing that a caller can start calls back before it returned: what is due at once is put in a
 * list and done by `soon` (an idle handle, which runs in the next turn of the loop). Machines are
 * started and closed only there, so a place is never closed from inside its own callback.
 */
enum executor_state {
    EXECUTOR_IDLE,      /* nothing is started */
    EXECUTOR_STARTING,  /* machine_start was called */
    EXECUTOR_PREPARING, /* the machine runs; its worker has not greeted, or copies are on their way
                         */
    EXECUTOR_READY,     /* a run goes on, or can */
    EXECUTOR_ENDING,    /* killed or broken; on_exit will come */
};

/* Milliseconds. Tests make them shorter. */
struct executor_limits {
    uint64_t start;       /* machine_start → on_started, or a word on what is waited for */
    uint64_t start_whole; /* machine_start → on_started, however much is said */
    uint64_t greeting;    /* on_started → on_ready */
    uint64_t stall;       /* of a put: between two signs that something of it has moved */
    uint64_t undo;        /* a put was given up → the machine has answered it */
    uint64_t young; /* a run this young may not have reached its code, where an interrupt counts */
    uint64_t grace; /* interrupt → kill */
    uint64_t
        broken; /* the stream closed → kill: most often the machine's end is about to be told */
    uint64_t kill; /* machine_kill → on_exit, before the machine is given up as lost */
    uint64_t file; /* of one file operation, from when the machine was given it */
};

enum stop {
    STOP_NONE,
    STOP_TIMEOUT,
    STOP_CANCEL,
};

struct snapping;

struct run {
    struct executor *executor;
    struct run *next;
    struct run_request request;       /* its texts are owned */
    struct snapshot_request snapshot; /* what request.snapshot points to */
    struct snapping *snapping;        /* it is being made; NULL: not, or not any more */
    char id[RUN_ID_SIZE];
    struct run_events events;
    void *data;
    bool announced;      /* on_started was called */
    bool told;           /* that it waits */
    bool retried;        /* it was given to a machine that turned out to be dead */
    enum stop stop;      /* why it was interrupted, the first reason counts */
    bool interrupted;    /* the machine was asked to; until then `young` is waited for */
    bool killed;         /* the grace was over */
    bool ending;         /* its outcome is decided; its output is being brought in */
    size_t written;      /* by run_write, in all */
    bool input_ended;    /* … and that was all */
    bool input_sent;     /* some of it: the run cannot be given to another worker */
    struct buffer input; /* what came of it while the run waited */
    uint64_t started_ns;
    struct spool spools[2];
    bool kept_here[2]; /* by enum stream: that one's file has been brought in, or could not be */
    struct outcome outcome;
};

struct run_list {
    struct run *first;
    struct run *last;
    unsigned count;
};

struct put;
struct filing;

struct box {
    struct box *next;
    struct executor *executor;
    struct machine *machine;
    bool ready; /* it has been READY: its end is not a failed start */
    bool again; /* its machine outlived a worker, and is started again */
    bool kill_sent;
    bool closing;
    char *broken;             /* what the worker did wrong; NULL */
    struct error start_error; /* why the start was given up */
    struct share **shares;    /* of the start request */
    struct put *put;          /* that the machine has not answered */
    bool put_stuck;           /* nor that it was given up: nothing else can be brought in */
};

enum entry_state {
    ENTRY_NOTED,
    ENTRY_PUTTING,
    ENTRY_THERE,
};

/* A share of the executor. `done` is set while somebody waits for its copy. */
struct entry {
    struct entry *next;
    struct executor *executor;
    struct share *share;
    enum entry_state state;
    bool cancelled; /* being undone: its dest may be asked for again, after it */
    executor_progress progress;
    executor_done done;
    void *data;
};

/* An answer that is due. */
struct answer {
    struct answer *next;
    struct error error;
    executor_done done;
    void *data;
};

struct executor {
    struct place *place;
    enum executor_state state;
    struct executor_limits limits;
    struct box *box;   /* the live one */
    struct box *ended; /* those that have ended, until they are closed */
    struct kernel *kernel;
    bool greeted;
    struct run *current;
    struct run_list queue;
    struct run_list finished; /* completed, not told yet */
    struct entry *entries;
    unsigned entry_count;
    struct answer *answers, **answers_end;
    struct filing *files; /* in the order of their coming */
    unsigned file_count;
    char *waiting_what; /* the place's last word on its start */
    bool keeping;       /* output of the current run is being brought in: */
    enum stream kept;   /* … that of this stream */
    char *restart_note; /* for the next run: the sandbox died while nobody looked */
    uv_timer_t timer;
    uv_timer_t put_timer;
    uv_timer_t file_timer;
    uv_idle_t soon;
    uint64_t start_ns;
    char *tag;     /* of a sandbox that outlives us; NULL: none does */
    json_t *where; /* it is; NULL once it was found, or when there is none to be found */
    void (*on_where)(void *data, json_t *where);
    void *where_data;
    unsigned to_end; /* the sandbox is to be found for that only; seconds */
    bool leaving;    /* it is closed, and its sandbox is not */
    bool left_busy;  /* … in which a run was going */
    unsigned open_handles;
    bool closing;
    bool handles_closing;
    executor_done closed;
    void *closed_data;
    void (*on_idle_output)(void *data, enum stream stream, const char *bytes, size_t size);
    void *idle_data;
};

/* executor.c */
void executor_soon(struct executor *e);
void executor_arm(struct executor *e, uint64_t ms);
void executor_disarm(struct executor *e);
void run_list_push(struct run_list *list, struct run *run);
void run_list_push_front(struct run_list *list, struct run *run);
struct run *run_list_pop(struct run_list *list);
bool run_list_remove(struct run_list *list, struct run *run);

/*
 * executor_put.c: what is brought into the live machine, one thing at a time. `done` is called
 * once, also when nothing moves any more (ERROR_TIMEOUT), but not once it was abandoned; as with
 * machine_put it may be called before this returns. Takes the share. Only when executor_can_put.
 */
void executor_put(struct executor *e, struct share *share_owned, executor_progress progress,
                  executor_done done, void *data);
bool executor_can_put(const struct executor *e); /* there is a machine, and it is free for one */
/* Can nothing more be brought in, because the machine does not answer one that was given up? */
bool executor_put_is_stuck(const struct executor *e, struct error *err);
/* The machine is asked to undo the put with this `data`, in the next turn of the loop. */
void executor_put_cancel(struct executor *e, const void *data);
void executor_set_cancelled(const struct share *share, struct error *err); /* why it is not there */
void executor_put_abandon(struct executor *e); /* nobody waits for the one that is on its way */
void executor_put_timer_init(struct executor *e);

/* executor_share.c */
void executor_put_shares(struct executor *e); /* starts the puts that are due on the live machine */
bool executor_shares_are_in(const struct executor *e);
void executor_forget_puts(struct executor *e); /* the machine has ended */
void executor_answer_shares(struct executor *e);
void executor_free_shares(struct executor *e);
/* The shares of a start request, in one array that is to be freed. -1 when out of memory. */
int executor_start_shares(const struct executor *e, struct share ***ret,
                          struct start_request *request);

/* executor_keep.c: the output of the current run, which has its outcome. */
bool executor_keep_due(const struct run *run); /* is there output to be brought in? */
void executor_keep(struct executor *e);        /* starts that, once it can */
void executor_keep_give_up(struct executor *e);

/* executor_files.c */
void executor_next_files(struct executor *e);       /* gives the machine those that wait */
bool executor_files_wait(const struct executor *e); /* … for a machine */
void executor_answer_files(struct executor *e);     /* those that are due */
void executor_forget_files(struct executor *e, const struct box *box); /* its machine has ended */
void executor_fail_files(struct executor *e, enum error_kind kind, const char *message);
void executor_abandon_files(struct executor *e); /* the executor is closed */
void executor_file_timer_init(struct executor *e);

/* executor_start.c */
void executor_start(struct executor *e);
/* Gives the start up: the machine is killed, the waiting runs get the error when it has ended. */
void executor_fail_start(struct executor *e, enum error_kind kind, const char *message);
void executor_kill(struct executor *e);
void executor_check_ready(struct executor *e);
void executor_box_ended(struct box *box, const struct machine_exit *exit);
void executor_close_boxes(struct executor *e);

/* executor_run.c */
void executor_next(struct executor *e); /* starts the next run, if one can start */
void executor_run_timer(struct executor *e);
void executor_run_clock(struct executor *e, struct run *run); /* its clock starts now */
void executor_run_decided(struct executor *e);                /* the current one has its outcome */
/* The current run had not begun when its machine ended: it waits for the next one, once. */
bool executor_run_again(struct executor *e);
void executor_run_stop(struct run *run, enum stop stop);
void executor_run_exited(struct run *run, const struct box *box, const struct machine_exit *exit);
/* What is still running is cancelled by executor_close; its machine goes as well. */
void executor_run_abandon(struct run *run);
void executor_run_end(struct executor *e);  /* the current run's, nothing of it is left to do */
void executor_announce(struct executor *e); /* on_started of the current run, if it is due */
void executor_tell_waiting(struct executor *e);
void executor_fail_queue(struct executor *e, const struct box *box,
                         const struct machine_exit *exit);
void run_complete(struct run *run);

/* executor_command.c: what is only about commands (argv, language shell). */
bool run_is_command(const struct run *run);
int executor_check_command(const struct executor *e, const struct run_request *request,
                           struct error *err);
/* A copy in one piece of memory, to be freed. NULL when out of memory. */
const char *const *run_copy_argv(const char *const *argv);
/* The run has been given to the kernel: what came for its stdin meanwhile goes there. */
void executor_send_input(struct run *run);

/* executor_snapshot.c: a run that is one (request.snapshot). */
int executor_snapshot_begin(struct executor *e, struct run *run); /* -errno */
/* It is stopped: its outcome is decided, and the machine goes on. */
void executor_snapshot_stop(struct run *run);
/* It has its outcome: what the machine still says of it is nobody's. */
void executor_snapshot_over(struct run *run);

/* executor_leave.c */
void executor_tell_where(struct executor *e); /* its sandbox is ready */
/* A machine has ended: is the sandbox known to be gone? */
void executor_where_ended(struct executor *e, const struct box *box,
                          const struct machine_exit *exit);
void executor_let_machine_be(struct executor *e); /* before it is closed, if it is left */
void executor_free_kept(struct executor *e);

/* executor_events.c */
extern const struct kernel_events executor_kernel_events;

/* executor_outcome.c: fills run->outcome. */
void outcome_of_reply(struct run *run, const struct kernel_reply *reply);
void outcome_of_exit(struct run *run, const struct box *box, const struct machine_exit *exit);
void outcome_of_cancel(struct run *run, bool state_lost);
/* `run->stop` first, then `err`, then `id`. */
void outcome_of_snapshot(struct run *run, const char *id, const struct error *err);
void outcome_of_start_error(struct run *run, enum error_kind kind, const char *message);
/* "its process was ended by SIGSEGV"; to be freed. */
char *exit_sentence(const struct box *box, const struct machine_exit *exit);

#endif
