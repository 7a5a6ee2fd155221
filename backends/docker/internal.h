#ifndef CELLBLOCK_DOCKER_INTERNAL_H
#define CELLBLOCK_DOCKER_INTERNAL_H

#include "backends/base/mac.h"
#include "backends/docker/attach.h"
#include "backends/docker/build.h"
#include "backends/docker/docker.h"
#include "backends/docker/engine.h"
#include "backends/docker/pull.h"
#include "backends/docker/spec.h"
#include "backends/place.h"
#include "backends/remote/crate.h"
#include "backends/remote/kept_word.h"

/*
 * The docker place. Theory of operation:
 *
 *   place      one engine, one image; finds both when the first container is wanted
 *   container  a crate (remote/crate.h): one container with its supervisor and worker, from its
 *              creation to its removal
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
    SERVER_ID_SIZE = 17, /* 16 hexadecimal digits and NUL */
    NAME_SIZE = 64,
    ID_SIZE = 72,
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

struct container {
    struct crate base;
    struct docker_place *place;
    char name[NAME_SIZE];
    char id[ID_SIZE];
    struct start_request request; /* what it points at is borrowed until it is created */
    json_t *folders;              /* where its code can write: an object whose keys are paths */

    struct attach *attach;
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
};

/* crates_ops.make */
struct crate *container_new(struct place *place, const struct start_request *request, bool warm,
                            const struct crate_events *events, void *owner);
/* Is this dest inside of a folder that was made for its code to write? */
bool container_has_folder_for(const struct container *c, const char *dest);
/* crate_ops */
void container_close(struct crate *crate);
/* What the engine's stream of events says about it. */
void container_engine_word(struct container *c, const char *action, int exit_code);

/* Between the three files. */
void container_prepare(struct container *c);
void container_fail(struct container *c, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
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

/* Takes up what is sought. -1: it leads nowhere. */
int kept_take(struct container *c);
/* Goes to the greeting of the one that is sought. */
void kept_find(struct container *c);
/* crate_ops */
json_t *container_where(const struct crate *crate);
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
    struct crates crates;
    bool limits_hold; /* a container of this place was seen to be held to them */
    struct engine_lines *events;
    struct orphans orphans;
    char *left; /* what could not be removed, for doctor */
    char *last_error;
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

/* place_ops; the others are crate_machine_…. */
void docker_machine_put(struct machine *m, const struct share *share, executor_progress progress,
                        executor_done done, void *data);
int docker_share_check(struct place *place, const struct share *share, struct error *err);
void docker_check(struct place *place, void (*each)(void *data, const struct place_check *check),
                  void *data);

#endif
