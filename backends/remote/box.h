#ifndef CELLBLOCK_REMOTE_BOX_H
#define CELLBLOCK_REMOTE_BOX_H

#include "backends/kernels/jupyter/gateway.h"
#include "backends/kernels/occupant.h"
#include "backends/place.h"

/*
 * What the places have in common whose sandboxes are made one by one by a service: docker's
 * containers, Modal's sandboxes. Theory of operation:
 *
 *   box      one container or sandbox, from its creation until nothing of it is left. It belongs to
 *            a machine, to the pool, or to nobody (then it is being removed). Its backend embeds
 *            `struct box` as the first member of its own, makes it and removes it
 *   boxes    all of a place: those that live, the pool of those that are ready and unused, and when
 *            the place can be closed
 *   machine  what the executor sees: takes a box from the pool or has one made. It is the same for
 *            all of them, apart from what a share may be
 *
 * Everything happens on the thread of the loop.
 */
struct box;

enum {
    BOX_POOL_CAP = 16,
    BOX_POOL_FILL_MS = 30, /* after one was taken: out of the way of the run that took it */
};

struct box_events {
    void (*on_waiting)(void *data, const char *what);
    /* A worker is there. */
    void (*on_worker)(void *data, struct link *link);
    /* The worker ended; the box is still there. */
    void (*on_worker_exit)(void *data, const struct machine_exit *exit);
    /* The box ended or could not be made; it is nobody's from now on. */
    void (*on_gone)(void *data, const struct machine_exit *exit);
};

/* In the order of its life; each backend goes through those that it has. */
enum box_state {
    BOX_PREPARING, /* what it is made of */
    BOX_CREATING,
    BOX_PLACING,   /* it is made; where it runs, how it is reached */
    BOX_ATTACHING, /* to its stream, before it is started */
    BOX_STARTING,
    BOX_GREETING, /* it runs; what lives in it has not greeted */
    BOX_UP,
    BOX_ENDED,   /* its stream has, or it has; the reason is waited for */
    BOX_CLOSING, /* nobody's; it is being removed */
};

struct box_ops {
    /* After on_worker_exit: box_start_worker, and what else the backend has to do then. */
    void (*start_worker)(struct box *b);
    /* Ends the worker, or the box when it does not react. */
    void (*kill)(struct box *b);
    /* What leads to one that may outlive us, a new object; NULL while there is nothing. */
    json_t *(*where)(const struct box *b);
    /* Removes it (unless `left`); nobody's from now on. No event follows. */
    void (*close)(struct box *b);
};

struct box {
    const struct box_ops *ops;
    struct boxes *boxes;
    struct box *next;
    enum box_state state;
    const struct box_events *events; /* NULL: nobody's */
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

/* Among the boxes of its place; the tag, and what leads to one that is there, are copied. `b` is
 * zeroed before. -1: out of memory; box_deinit is due then too. */
int box_init(struct box *b, const struct box_ops *ops, struct boxes *boxes,
             const struct start_request *request, bool warm, const struct box_events *events,
             void *owner);
/* The last of it. `b` is the caller's to free. */
void box_deinit(struct box *b);
void box_own(struct box *b, const struct box_events *events, void *owner);

/* ---- what its backend calls ---- */

/* Says to whoever has it what is waited for. */
void box_tell(struct box *b, const char *what);
/* What lives in it has greeted. */
void box_up(struct box *b);
void box_start_worker(struct box *b);
/* Its end is told, and it is closed. */
void box_gone(struct box *b, const struct machine_exit *exit);
/* Likewise, unless it had ended before, with a reason for people. */
void box_fail(struct box *b, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void box_vfail(struct box *b, enum error_kind kind, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
/* For occupant_events, whose `data` is the box. */
void box_on_worker(void *data, struct link *link);
void box_on_waiting(void *data, const char *what);
/* The worker's end is kept in `held`. False: the box's end will say more. */
bool box_hold(struct box *b, const struct machine_exit *exit);
/* Was what is held a SIGKILL that nobody here sent? */
bool box_was_killed(const struct box *b);
void box_tell_held(struct box *b);

/* The runner in it, or a Kernel Gateway: with what is made of the tag of one that may outlive us,
 * and else with these options. NULL when out of memory, or with `err`. */
struct occupant *box_runner(struct box *b, struct byte_stream *stream,
                            struct supervised_options options,
                            const struct occupant_events *events);
struct occupant *box_gateway(struct box *b, struct byte_stream *stream,
                             struct gateway_options options, const struct occupant_events *events,
                             struct error *err);

/* ---- those of a place ---- */

struct boxes_ops {
    const char *noun; /* "container" */
    /* NULL when out of memory. It starts by itself; its first event comes from the loop. */
    struct box *(*make)(struct place *place, const struct start_request *request, bool warm,
                        const struct box_events *events, void *owner);
    /* Is one of the pool not what is asked for? */
    bool (*needs_own)(const struct start_request *request);
    /* How many are to be kept ready. */
    unsigned (*pool_size)(const struct place *place);
    /* After boxes_close, from the loop: nothing of any of them is left, nor a machine. */
    void (*over)(struct place *place);
};

struct boxes {
    const struct boxes_ops *ops;
    struct place *place;
    struct box *first;
    struct box *pool[BOX_POOL_CAP];
    unsigned pool_count;
    bool pool_failed; /* not tried again before a machine is wanted */
    unsigned machines;
    uv_timer_t fill;
    uv_timer_t idle;
    unsigned open_timers;
    bool closing;
};

/* Embedded in the backend's place, which is open by now. */
void boxes_init(struct boxes *boxes, const struct boxes_ops *ops, struct place *place);
void boxes_close(struct boxes *boxes);
/* The pool is filled; somebody is about to need it. */
void boxes_warm(struct boxes *boxes);
/* Once nothing has for the idle time, the pool goes; the next run brings it back. */
void boxes_touch(struct boxes *boxes);
void boxes_fill_later(struct boxes *boxes);
/* One that is ready, or the one that is nearest to it; NULL. */
struct box *boxes_take(struct boxes *boxes);
void boxes_maybe_over(struct boxes *boxes);

/* ---- their machines: most of place_ops ---- */

struct machine *box_machine_new(struct boxes *boxes, const struct machine_events *events,
                                void *data);
/* NULL: none yet, or it is gone. */
struct box *box_of_machine(const struct machine *m);
void box_machine_start(struct machine *m, const struct start_request *request);
void box_machine_put(struct machine *m, const struct share *share, executor_progress progress,
                     executor_done done, void *data);
void box_machine_put_cancel(struct machine *m);
void box_machine_file(struct machine *m, const struct file_request *request, file_done done,
                      void *data);
void box_machine_interrupt(struct machine *m);
int box_machine_signal(struct machine *m, int number);
void box_machine_kill(struct machine *m);
void box_machine_busy(struct machine *m, bool busy);
json_t *box_machine_where(const struct machine *m);
void box_machine_leave(struct machine *m, bool interrupt);
void box_machine_close(struct machine *m, void (*closed)(void *data), void *data);

#endif
