#ifndef CELLBLOCK_REMOTE_CRATE_H
#define CELLBLOCK_REMOTE_CRATE_H

#include "backends/kernels/jupyter/gateway.h"
#include "backends/kernels/occupant.h"
#include "backends/place.h"

/*
 * What the places have in common whose sandboxes are made one by one by a service: docker's
 * containers, Modal's sandboxes. Theory of operation:
 *
 *   crate    one container or sandbox, from its creation until nothing of it is left. It belongs to
 *            a machine, to the pool, or to nobody (then it is being removed). Its backend embeds
 *            `struct crate` as the first member of its own, makes it and removes it
 *   crates   all of a place: those that live, the pool of those that are ready and unused, and when
 *            the place can be closed
 *   machine  what the executor sees: takes a crate from the pool or has one made. It is the same
 *            for all of them, apart from what a share may be
 *
 * Everything happens on the thread of the loop.
 */
struct crate;

enum {
    CRATE_POOL_CAP = 16,
    CRATE_POOL_FILL_MS = 30, /* after one was taken: out of the way of the run that took it */
};

struct crate_events {
    void (*on_waiting)(void *data, const char *what);
    /* A worker is there. */
    void (*on_worker)(void *data, struct link *link);
    /* The worker ended; the crate is still there. */
    void (*on_worker_exit)(void *data, const struct machine_exit *exit);
    /* The crate ended or could not be made; it is nobody's from now on. */
    void (*on_gone)(void *data, const struct machine_exit *exit);
};

/* In the order of its life; each backend goes through those that it has. */
enum crate_state {
    CRATE_PREPARING, /* what it is made of */
    CRATE_CREATING,
    CRATE_PLACING,   /* it is made; where it runs, how it is reached */
    CRATE_ATTACHING, /* to its stream, before it is started */
    CRATE_STARTING,
    CRATE_GREETING, /* it runs; what lives in it has not greeted */
    CRATE_UP,
    CRATE_ENDED,   /* its stream has, or it has; the reason is waited for */
    CRATE_CLOSING, /* nobody's; it is being removed */
};

struct crate_ops {
    /* After on_worker_exit: crate_start_worker, and what else the backend has to do then. */
    void (*start_worker)(struct crate *c);
    /* Ends the worker, or the crate when it does not react. */
    void (*kill)(struct crate *c);
    /* What leads to one that may outlive us, a new object; NULL while there is nothing. */
    json_t *(*where)(const struct crate *c);
    /* Removes it (unless `left`); nobody's from now on. No event follows. */
    void (*close)(struct crate *c);
    /* As place_ops.machine_snapshot and machine_snapshot_drop, of one that is up; -1 with `err`:
     * `done` is not called. NULL without CAP_SNAPSHOT. */
    int (*snapshot)(struct crate *c, const struct snapshot_request *request, snapshot_done done,
                    void *data, struct error *err);
    void (*snapshot_drop)(struct crate *c, const void *data);
    /* As place_ops.machine_ports, of one that is up. NULL: it has none. */
    json_t *(*ports)(const struct crate *c, const char **ret_note);
};

struct crate {
    const struct crate_ops *ops;
    struct crates *crates;
    struct crate *next;
    enum crate_state state;
    const struct crate_events *events; /* NULL: nobody's */
    void *owner;
    struct occupant *occupant;
    struct link *link; /* of the worker, NULL: none is there */
    bool warm;         /* made for the pool */
    bool wanted;       /* a worker is to be started */
    bool used;         /* a run was given to this worker */
    bool killing;      /* the worker is ended because we said so */
    char *tag;         /* of one that may outlive us; NULL: it does not */
    json_t *where;     /* the one that is to be found again; NULL: it is made */
    bool left;         /* it goes on without us: it is not removed */
    bool has_held;     /* the worker's end, until it is known whether it was memory */
    struct machine_exit held;
    json_t *held_changed; /* what it leads to, owned */
    char *reason;         /* why its stream ended, as far as the transport knows */
};

/* Among the crates of its place; the tag, and what leads to one that is there, are copied. `c` is
 * zeroed before. -1: out of memory; crate_deinit is due then too. */
int crate_init(struct crate *c, const struct crate_ops *ops, struct crates *crates,
               const struct start_request *request, bool warm, const struct crate_events *events,
               void *owner);
/* The last of it. `c` is the caller's to free. */
void crate_deinit(struct crate *c);
void crate_own(struct crate *c, const struct crate_events *events, void *owner);

/* ---- what its backend calls ---- */

/* Says to whoever has it what is waited for. */
void crate_tell(struct crate *c, const char *what);
/* What lives in it has greeted. */
void crate_up(struct crate *c);
void crate_start_worker(struct crate *c);
/* Its end is told, and it is closed. */
void crate_gone(struct crate *c, const struct machine_exit *exit);
/* Likewise, unless it had ended before, with a reason for people. */
void crate_fail(struct crate *c, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void crate_vfail(struct crate *c, enum error_kind kind, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
/* For occupant_events, whose `data` is the crate. */
void crate_on_worker(void *data, struct link *link);
void crate_on_waiting(void *data, const char *what);
/* The worker's end is kept in `held`. False: the crate's end will say more. */
bool crate_hold(struct crate *c, const struct machine_exit *exit);
/* Was what is held a SIGKILL that nobody here sent? */
bool crate_was_killed(const struct crate *c);
void crate_tell_held(struct crate *c);

/* The runner in it, or a Kernel Gateway: with what is made of the tag of one that may outlive us,
 * and else with these options. NULL when out of memory, or with `err`. */
struct occupant *crate_runner(struct crate *c, struct byte_stream *stream,
                              struct supervised_options options,
                              const struct occupant_events *events);
struct occupant *crate_gateway(struct crate *c, struct byte_stream *stream,
                               struct gateway_options options, const struct occupant_events *events,
                               struct error *err);

/* ---- those of a place ---- */

struct crates_ops {
    const char *noun; /* "container" */
    /* NULL when out of memory. It starts by itself; its first event comes from the loop. */
    struct crate *(*make)(struct place *place, const struct start_request *request, bool warm,
                          const struct crate_events *events, void *owner);
    /* Is one of the pool not what is asked for? */
    bool (*needs_own)(const struct start_request *request);
    /* How many are to be kept ready. */
    unsigned (*pool_size)(const struct place *place);
    /* After crates_close, from the loop: nothing of any of them is left, nor a machine. */
    void (*over)(struct place *place);
};

struct crates {
    const struct crates_ops *ops;
    struct place *place;
    struct crate *first;
    struct crate *pool[CRATE_POOL_CAP];
    unsigned pool_count;
    bool pool_failed; /* not tried again before a machine is wanted */
    unsigned machines;
    uv_timer_t fill;
    uv_timer_t idle;
    unsigned open_timers;
    bool closing;
};

/* Embedded in the backend's place, which is open by now. */
void crates_init(struct crates *crates, const struct crates_ops *ops, struct place *place);
void crates_close(struct crates *crates);
/* The pool is filled; somebody is about to need it. */
void crates_warm(struct crates *crates);
/* Once nothing has for the idle time, the pool goes; the next run brings it back. */
void crates_touch(struct crates *crates);
void crates_fill_later(struct crates *crates);
/* One that is ready, or the one that is nearest to it; NULL. */
struct crate *crates_take(struct crates *crates);
void crates_maybe_over(struct crates *crates);

/* ---- their machines: most of place_ops ---- */

struct machine *crate_machine_new(struct crates *crates, const struct machine_events *events,
                                  void *data);
/* NULL: none yet, or it is gone. */
struct crate *crate_of_machine(const struct machine *m);
void crate_machine_start(struct machine *m, const struct start_request *request);
void crate_machine_put(struct machine *m, const struct share *share, executor_progress progress,
                       executor_done done, void *data);
void crate_machine_put_cancel(struct machine *m);
void crate_machine_file(struct machine *m, const struct file_request *request, file_done done,
                        void *data);
void crate_machine_snapshot(struct machine *m, const struct snapshot_request *request,
                            snapshot_done done, void *data);
void crate_machine_snapshot_drop(struct machine *m, const void *data);
void crate_machine_interrupt(struct machine *m);
int crate_machine_signal(struct machine *m, int number);
void crate_machine_kill(struct machine *m);
void crate_machine_busy(struct machine *m, bool busy);
json_t *crate_machine_where(const struct machine *m);
json_t *crate_machine_ports(const struct machine *m, const char **ret_note);
void crate_machine_leave(struct machine *m, bool interrupt);
void crate_machine_close(struct machine *m, void (*closed)(void *data), void *data);

#endif
