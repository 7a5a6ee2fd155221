#ifndef CELLBLOCK_DOCKER_INTERNAL_H
#define CELLBLOCK_DOCKER_INTERNAL_H

#include "backends/base/mac.h"
#include "backends/docker/attach.h"
#include "backends/docker/build.h"
#include "backends/docker/docker.h"
#include "backends/docker/engine.h"
#include "backends/kernels/jupyter/gateway.h"
#include "backends/remote/kept_word.h"
#include "backends/kernels/occupant.h"
#include "backends/docker/pull.h"
#include "backends/docker/spec.h"
#include "backends/kernels/runner/supervised.h"
#include "backends/place.h"

/*
 * The docker place. Theory of operation:
 *
 *   place      one engine, one image; finds both when the first container is wanted
 *   container  one container with its supervisor and worker, from its creation to its removal. It
 *              belongs to a machine, to the pool, or to nobody (then it is being removed)
 *   machine    what the executor sees: takes a container from the pool or has one made
 *
 * A container is created with a name of ours, attached to, and then started: its first process is
 * the runner's supervisor, and our connection is its stdin. So a container cannot outlive us: when
 * the connection goes (a crash, a SIGKILL), the supervisor ends, the container with it, and the
 * engine removes it (AutoRemove). What still stays (a paused one, say) has labels that tell whose
 * it is, and is removed by the next server on this machine, or by doctor.
 *
 * How a container ended is the engine's word: its stream of events says "die" with an exit code and
 * "oom". The supervisor's word on its worker comes first, since it comes earlier.
 */

enum {
    POOL_CAP = 16,
    SERVER_ID_SIZE = 17, /* 16 hexadecimal digits and NUL */
    NAME_SIZE = 64,
    ID_SIZE = 72,
    POOL_FILL_MS = 30,  /* after a container was taken: out of the way of the run that took it */
    WORD_MS = 1000,     /* the stream of a container ended: its "die" event is waited for */
    OOM_WORD_MS = 200,  /* a worker ended by SIGKILL: an "oom" event is waited for */
    OOM_ECHO_MS = 2000, /* one ended for want of memory: later events of it are no news */
    KILL_MS = 3000,     /* a worker was to be killed: then the container is */
    REMOVE_MS = 10 * 1000,
    REMOVE_TRIES = 100,
    REMOVE_AGAIN_MS = 100,
    CREATE_MS = 30 * 1000,
};

struct docker_place;
struct container;

/* ---- container.c, container_start.c, container_end.c ---- */

struct container_events {
    void (*on_waiting)(void *data, const char *what);
    /* A worker is there. */
    void (*on_worker)(void *data, struct link *link);
    /* The worker ended; the container is still there. */
    void (*on_worker_exit)(void *data, const struct machine_exit *exit);
    /* The container ended or could not be made; it is nobody's from now on. */
    void (*on_gone)(void *data, const struct machine_exit *exit);
};

enum container_state {
    CONTAINER_PREPARING, /* the engine, the image */
    CONTAINER_CREATING,
    CONTAINER_ATTACHING,
    CONTAINER_STARTING,
    CONTAINER_GREETING, /* it runs; its supervisor has not greeted */
    CONTAINER_UP,
    CONTAINER_ENDED,   /* its stream has; the reason is waited for */
    CONTAINER_CLOSING, /* nobody's; it is being removed */
};

struct container {
    struct container *next;
    struct docker_place *place;
    enum container_state state;
    char name[NAME_SIZE];
    char id[ID_SIZE];
    const struct container_events *events; /* NULL: nobody's */
    void *owner;
    struct start_request request; /* what it points at is borrowed until it is created */
    json_t *folders;              /* where its code can write: an object whose keys are paths */

    struct attach *attach;
    struct occupant *occupant;
    struct link *link; /* of the worker, NULL: none is there */
    bool warm;         /* made for the pool */
    bool wanted;       /* one is to be made */
    bool used;         /* a run was given to this worker */
    bool killing;      /* the worker is ended because we said so */
    char *tag;         /* of one that may outlive us; NULL: it does not */
    json_t *where;     /* the one that is to be found again; NULL: it is made */
    bool left;         /* it goes on without us: it is not removed */

    uv_timer_t timer;
    void (*on_time)(struct container *c);
    unsigned waiting;  /* answers that are to come */
    bool asked;        /* a create was sent: it may be there */
    bool tried_image;  /* the image was gone at the first create */
    bool tried_create; /* the first create had no answer */
    bool removing;
    unsigned remove_tries;
    bool removed;
    bool timer_closed;

    bool oom, died;    /* the engine's events */
    uint64_t oom_told; /* when a worker's end was told to be for want of memory; 0: never */
    int exit_code;
    bool stream_over; /* before the start was answered */
    bool has_held;    /* the worker's end, until it is known whether it was memory */
    struct machine_exit held;
    json_t *held_changed; /* what it leads to, owned */
    char *reason;         /* why the stream ended, as far as the transport knows */
};

/* NULL when out of memory. It starts by itself; its first event comes from the loop. */
struct container *container_new(struct docker_place *place, const struct start_request *request,
                                bool warm, const struct container_events *events, void *owner);
/* From the pool to a machine, which has attached when it calls container_attached. */
void container_attached(struct container *c);
void container_own(struct container *c, const struct container_events *events, void *owner);
void container_start_worker(struct container *c); /* after on_worker_exit */
void container_interrupt(struct container *c);
int container_signal(struct container *c, int number); /* as place_ops.machine_signal */
/* Ends the worker, or the container when it does not react. */
void container_kill(struct container *c);
void container_put(struct container *c, const struct share *share, executor_progress progress,
                   executor_done done, void *data);
void container_put_cancel(struct container *c);
/* False when there is nobody to ask. */
bool container_file(struct container *c, const struct file_request *request, file_done done,
                    void *data);
/* Is this dest inside of a folder that was made for its code to write? */
bool container_has_folder_for(const struct container *c, const char *dest);
/* Removes it; nobody's from now on. No event follows. */
void container_close(struct container *c);
/* kept.c: what leads to one that may outlive us, NULL while there is nothing; and that it is to go
 * on when it is closed. */
json_t *container_where(const struct container *c);
void container_leave(struct container *c, bool interrupt);
/* What the engine's stream of events says about it. */
void container_engine_word(struct container *c, const char *action, int exit_code);

/* Between the three files. */
void container_prepare(struct container *c);
void container_fail(struct container *c, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void container_gone(struct container *c, const struct machine_exit *exit);
void container_arm(struct container *c, uint64_t ms, void (*on_time)(struct container *c));
void container_stream_ended(struct container *c, const struct error *err);
/* attach_events of the stream to what runs in it; `data` is the container. */
void container_stream_bytes(void *data, const char *bytes, size_t size);
void container_stream_end(void *data, long status, const struct error *err);
bool container_is_id(const char *text); /* of a container or an exec, as the engine gives them */
void container_settle(struct container *c);
/* An answer came. False when the container is being closed: nothing else is to be done. */
bool container_answered(struct container *c);
int container_occupy(struct container *c); /* -1: it has failed */

/* ---- kept.c ---- */

/* The request's tag and what it seeks, copied. -1: out of memory, or it leads nowhere. */
int kept_take(struct container *c, const struct start_request *request);
/* Goes to the greeting of the one that is sought. */
void kept_find(struct container *c);
/* A container's labels, a new object. */
json_t *kept_labels(const struct container *c);
/* Do these labels say that it outlives its server, and that its time is not over? */
bool kept_is_alive(json_t *labels);

/* ---- place.c ---- */

struct orphans {
    bool looked;
    unsigned found, removed;
    char *failed; /* why one could not be removed */
};

struct docker_place {
    struct place base;
    struct engine *engine;
    struct image *image;
    struct kernel_image *kernel_image;    /* built upon it; NULL: the runner is used */
    struct websocket_context *websockets; /* NULL until a kernel is reached by one */
    const char *image_name;
    json_t *labels; /* of all that is ours */
    char server[SERVER_ID_SIZE];
    unsigned made; /* containers, for their names */
    struct container *containers;
    struct container *pool[POOL_CAP];
    unsigned pool_count;
    bool limits_hold; /* a container of this place was seen to be held to them */
    bool pool_failed; /* not tried again before a machine is wanted */
    unsigned machines;
    struct engine_lines *events;
    struct orphans orphans;
    char *left; /* what could not be removed, for doctor */
    char *last_error;
    uv_timer_t fill;
    uv_timer_t idle;
    unsigned open_timers;
    bool closing;
    bool engine_closing;
    void (*closed)(void *data);
    void *closed_data;
};

extern const struct place_ops docker_place_ops;

/* The engine is connected and has the image. */
void place_prepare(struct docker_place *place, engine_done done, void *data);
/* What a container is made of: facts that are known, and its name. */
const struct image_facts *place_image(const struct docker_place *place);
const char *place_image_name(const struct docker_place *place);
/* A create said that it is gone. */
void place_forget_image(struct docker_place *place);
void place_container_freed(struct docker_place *place, struct container *c);
void place_touch(struct docker_place *place);
void place_maybe_closed(struct docker_place *place);

/* ---- pool.c ---- */

/* A container that is ready, or the one that is nearest to it; NULL. */
struct container *pool_take(struct docker_place *place);
void pool_fill(struct docker_place *place);
void pool_fill_later(struct docker_place *place);
void pool_drop(struct docker_place *place);

/* ---- events.c: the engine's stream of events, opened when it is not ---- */
void events_watch(struct docker_place *place);

/* ---- orphans.c ---- */

/* The labels that say whose a container is; NULL when out of memory. */
json_t *orphans_labels(const char *server);
/* Is the server that these labels name on this host, and gone? */
bool orphans_is_dead(json_t *labels);
/* Looks for containers of dead servers, once, and removes them. */
void orphans_sweep(struct docker_place *place);

/* ---- machine.c, check.c ---- */

struct machine *docker_machine_new(struct place *place, const struct machine_events *events,
                                   void *data);
void docker_machine_start(struct machine *m, const struct start_request *request);
void docker_machine_put(struct machine *m, const struct share *share, executor_progress progress,
                        executor_done done, void *data);
void docker_machine_put_cancel(struct machine *m);
void docker_machine_file(struct machine *m, const struct file_request *request, file_done done,
                         void *data);
void docker_machine_interrupt(struct machine *m);
int docker_machine_signal(struct machine *m, int number);
void docker_machine_kill(struct machine *m);
void docker_machine_busy(struct machine *m, bool busy);
json_t *docker_machine_where(const struct machine *m);
void docker_machine_leave(struct machine *m, bool interrupt);
void docker_machine_close(struct machine *m, void (*closed)(void *data), void *data);
int docker_share_check(struct place *place, const struct share *share, struct error *err);
void docker_check(struct place *place, void (*each)(void *data, const struct place_check *check),
                  void *data);

#endif
