#ifndef CELLBLOCK_MODAL_INTERNAL_H
#define CELLBLOCK_MODAL_INTERNAL_H

#include "api.pb-c.h"
#include "backends/base/net/websocket.h"
#include "backends/modal/brought.h"
#include "backends/modal/client.h"
#include "backends/modal/exec.h"
#include "backends/modal/modal.h"
#include "backends/modal/owner.h"
#include "backends/modal/resources.h"
#include "backends/modal/router.h"
#include "backends/modal/spec.h"
#include "backends/place.h"
#include "backends/remote/crate.h"
#include "backends/remote/kept_word.h"

/*
 * The modal place. Theory of operation:
 *
 *   place     one account, one environment of ours: the control plane's client, and the resources
 *             (app, image, secrets, volumes) that all its sandboxes are made of. Nothing is looked
 *             for before the first sandbox is wanted, not even who we are
 *   sandbox   a crate (remote/crate.h): one sandbox at the service, from its creation to its
 *             termination
 *
 * The sandbox's first process only waits (`sleep`; memory.c has another one); what runs code is the
 * runner's supervisor, an exec of its own, whose stdin and stdout go through the sandbox's task
 * command router. So nothing listens in the sandbox, and it works with the network cut.
 *
 *   PREPARING ─ ids, mounts ─► CREATING ─ sandbox id ─► PLACING ─ task id ─► STARTING ─ the exec
 *   began ─► GREETING ─► UP ─ its end, or its stream's ─► ENDED ─ the reason ─► CLOSING
 *
 * PLACING is for V1 (GPUs, network file systems), and for one that was found by its name: what V2
 * answers to a create has the task and the way to its router in it.
 *
 * No second sandbox: each has a name of its own, of which the service lets only one live. A create
 * whose end nobody knows (a deadline, a lost connection) is looked for by that name before it is
 * tried again, and one that the service says is there already is taken when its tags say that it is
 * this one. What is closed while its create is under way is looked for as well, and terminated.
 *
 * A sandbox's end is the service's word: SandboxWait is asked all the time, its result says whether
 * it was terminated, evicted, out of memory or out of time (result.c). The supervisor's word on its
 * worker comes first. When the stream ends and the service has not said anything within WORD_MS,
 * the exec's own end is told.
 *
 * Kept: one of a session that outlives us is left instead of being terminated, and the next server
 * finds it by its id (kept.c).
 *
 * Left behind: a sandbox has an end of its own (timeout_secs), and tags that tell which server on
 * which host made it. The next server of this host terminates those of servers that are gone.
 */

enum {
    SERVER_ID_SIZE = 17, /* 16 hexadecimal digits and NUL */
    NAME_SIZE = 72,
    ID_SIZE = 128,
    TICK_MS = 15 * 1000,      /* the executor wants to hear now and then that a start goes on */
    WORD_MS = 2000,           /* the stream ended: the service's word is waited for */
    LAST_WORDS_MS = 300,      /* the service's word came: what the stream still has is waited for */
    MEMORY_WORD_MS = 200,     /* a worker ended by SIGKILL: the service's word is waited for */
    WAIT_HOLD_MS = 10 * 1000, /* as the official client: how long one SandboxWait is held */
    WAIT_SPARE_MS = 5 * 1000,
    WAIT_AGAIN_MS = 1000, /* after one that failed */
    KILL_MS = 5000,       /* a worker was to be killed: then the sandbox is */
    MEMORY_DAYS = 7,      /* modal.com/docs/guide/sandbox-snapshots, "Snapshot Retention" */
    MEMORY_PATIENCE_MS = 20 * 1000, /* of a router that is gone, as it may be with its sandbox */
    SNAPSHOT_MS = 300 * 1000,       /* a snapshot, all attempts of it */
    CREATE_MS = 120 * 1000,
    CREATE_TRIES = 4,
    CREATE_AGAIN_MS = 500,
    FIND_TRIES = 3, /* of one that was closed while it was being created */
    FIND_AGAIN_MS = 700,
    LET_CREATE_MS = 4000,      /* to answer, when it is closed meanwhile */
    PLACE_AGAIN_MS = 500,      /* between two looks for the task */
    PLACE_MS = 21 * 60 * 1000, /* as the official client: until the service has room */
    TUNNEL_MS = 50 * 1000,     /* as the official client: until the service has made the tunnels */
    TERMINATE_MS = 10 * 1000,
    MEMORY_DOOR_SECONDS = 8 * 24 * 3600, /* past the life of a memory snapshot */
};

#define SANDBOX_SLEEP "172800" /* seconds; no sandbox lives for two days */

struct modal_place;
struct sandbox;

enum nap {
    NAP_NONE,
    NAP_LEAVING, /* nobody is to be there: the relay is ended */
    NAP_TAKING,  /* the snapshot is */
    NAP_ASLEEP,  /* what led to it is closed; start_worker wakes it */
};

/* ---- sandbox.c, sandbox_start.c, sandbox_place.c, sandbox_end.c ---- */

struct sandbox {
    struct crate base;
    struct modal_place *place;
    char name[NAME_SIZE];
    char mark[OWNER_TAG_SIZE]; /* the tag that no other one has */
    char id[ID_SIZE];
    char task_id[ID_SIZE];
    char *token;                   /* x-modal-sandbox-token of later calls; NULL: none */
    char *router_url, *router_jwt; /* that came with it; NULL: asked for */
    char *tunnel; /* where its port of the gateway is reached, "https://…"; NULL: not known, or not
                   * used */
    json_t *ports;    /* where its user's ports are reached (ports.h); NULL: nothing was heard */
    char *ports_note; /* what is wrong with that; NULL */
    bool ports_known; /* the service has said all that it will say */
    struct start_request request; /* what it points at is borrowed until it is created */

    struct modal_bringing *bringing; /* its shares are: mounts, and what opens its buckets */
    const struct modal_brought *brought;
    struct modal_rpc *rpc;  /* of the start: create, look-up, task id; or of the end: terminate */
    struct modal_rpc *wait; /* SandboxWait */
    struct modal_rpc *asking_ports;
    struct modal_router *router;
    struct modal_command *asking_ready; /* SandboxWaitUntilReady */
    struct modal_exec *exec;
    struct snapshot_op *snapshots;         /* that are being made */
    void (*last_ended)(struct sandbox *s); /* when the end of the last one is told */
    enum nap nap;                          /* memory.c */
    bool anew;     /* it is one that was restored: random numbers are seeded anew */
    bool told;     /* its owner knows that it sleeps, or is about to */
    bool woken;    /* it is to be woken as soon as it can be */
    bool parting;  /* occupant, exec and router are being closed */
    int process;   /* what its supervisor is there, while it sleeps */
    char *restore; /* the snapshot that it is to be made of; NULL: none */
    bool v1;
    bool getting; /* resources are */

    uv_timer_t timer; /* what comes next in its state */
    void (*on_time)(struct sandbox *s);
    uv_timer_t tick;  /* says now and then what is waited for */
    uv_timer_t again; /* SandboxWait after one that failed */
    const char *phase;
    unsigned open_timers;
    bool asked;  /* a create was sent: it may be there */
    bool unsure; /* nobody knows whether the last create made it */
    bool taken;  /* the last create said that there is one of this name */
    unsigned creates, finds;
    uint64_t placing_since;
    uint64_t waited_at; /* when the last SandboxWait was asked */
    bool timers_closing;
    bool over;       /* the service says that it has ended */
    bool terminated; /* nothing is to be terminated any more */
    bool has_result; /* `result` is the service's word */
    struct machine_exit result;
    char *result_words;
};

/* crates_ops.make */
struct crate *sandbox_new(struct place *place, const struct start_request *request, bool warm,
                          const struct crate_events *events, void *owner);
/* crate_ops */
void sandbox_close(struct crate *crate);

/* Between the files. */
void sandbox_prepare(struct sandbox *s);
void sandbox_tick(struct sandbox *s); /* what is waited for is said now and then, until it is up */
void sandbox_phase(struct sandbox *s, enum crate_state state, const char *what);
void sandbox_made(struct sandbox *s, const char *id);
void sandbox_place_it(struct sandbox *s);   /* asks for the task until it has one */
void sandbox_start_exec(struct sandbox *s); /* the task is known */
void sandbox_start_program(struct sandbox *s);
/* sandbox_ready.c: its router is open; sandbox_start_program follows when its probe goes well. */
void sandbox_wait_ready(struct sandbox *s);
void sandbox_watch(struct sandbox *s); /* SandboxWait, as long as it lives */
void sandbox_fail(struct sandbox *s, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void sandbox_arm(struct sandbox *s, uint64_t ms, void (*on_time)(struct sandbox *s));
void sandbox_settle(struct sandbox *s);
void sandbox_let_parts_go(struct sandbox *s); /* sandbox_settle follows */
void sandbox_answered(struct sandbox *s); /* while it is being closed: at once, not at the limit */
bool sandbox_is_id(const char *text);     /* as the service gives them */
int sandbox_occupy(struct sandbox *s);    /* -1: it has failed */
/* The service says that it has ended. */
void sandbox_over(struct sandbox *s, const struct machine_exit *exit, char *words_owned);
void sandbox_exec_ended(struct sandbox *s, const struct modal_exec_end *end);
/* Looks for the one of this name. `id` NULL and `err` NULL: there is none. */
int sandbox_find(struct sandbox *s,
                 void (*found)(struct sandbox *s, const char *id, const struct error *err));
/* What the tags of a sandbox with this id are: SandboxTagsGetResponse. -1 with `err`. */
int sandbox_ask_tags(struct sandbox *s, const char *id,
                     void (*done)(void *data, const ProtobufCMessage *answer,
                                  enum grpc_status status, const struct error *err),
                     void *data, struct error *err);
/* The V2 call of this name, or V1's: "SandboxWait". */
const char *sandbox_rpc_name(const struct sandbox *s, const char *name, char space[64]);

/* ---- kept.c ---- */

/* Takes up what is sought. -1: it leads nowhere. */
int kept_take(struct sandbox *s);
/* Goes on to the task of the one that is sought. */
void kept_find(struct sandbox *s);
/* Before its relay is started: who was there before has left. `next` follows from the loop. */
void kept_end_last(struct sandbox *s, void (*next)(struct sandbox *s));
/* The process that its supervisor is, in the one that is sought. */
int kept_process(const struct sandbox *s);
/* What is said of one that was sought and has ended; to be freed. */
char *kept_ended(const struct sandbox *s, const char *words);
/* crate_ops */
json_t *sandbox_where(const struct crate *crate);
/* Adds to its tags what proves whose it is. */
void kept_tags(const struct sandbox *s, struct owner_tags *tags);

/* ---- snapshot.c ---- */

/* For crate_ops. */
int sandbox_snapshot(struct crate *c, const struct snapshot_request *request, snapshot_done done,
                     void *data, struct error *err);
void sandbox_snapshot_drop(struct crate *c, const void *data);
/* It is being closed: those that are going are answered, and end with its router. */
void sandbox_lose_snapshots(struct sandbox *s);
/* The router has ended the relay, or with it the sandbox has; `end` is borrowed. */
void snapshot_relay_ended(struct sandbox *s);
int modal_snapshot_delete(struct place *place, const char *id, executor_done done, void *data,
                          struct error *err);

/* ---- memory.c: sandboxes whose memory can be kept ---- */

/* Gives it what its door is opened with, and what it is to be made of. -1: it has failed. */
int memory_prepare(struct sandbox *s);
/* The argv of the sandbox's first process, and of what leads to it; NULL-ended. The first is to be
 * freed with *ret_space too; NULL when out of memory. */
const char **memory_entry(const struct sandbox *s, char **ret_space);
const char *const *memory_carrier(const struct sandbox *s, const char *space[6]);
/* Makes it of its snapshot. */
void memory_restore(struct sandbox *s);
/* For crate_ops: as crate_start_worker; one that sleeps is woken. */
void memory_start_worker(struct crate *crate);
/* A snapshot has been taken (`id`), or not, or nobody waits for it any more: it sleeps from here
 * on, which its owner is told. */
void memory_sleep(struct sandbox *s, const char *id);
/* Nobody waits for the snapshot that is being taken: its owner is told at once that it sleeps. */
void memory_dropped(struct sandbox *s);
/* Something of one that sleeps has been closed. */
void memory_settle(struct sandbox *s);

/* ---- sandbox_ports.c: where the ports of the environment are reached ---- */

/* Asks for the sandbox's tunnels; `done` is as modal_rpc_call's, with the sandbox as its data. NULL
 * with `err`. */
struct modal_rpc *sandbox_get_tunnels(struct sandbox *s,
                                      void (*done)(void *data, const ProtobufCMessage *answer,
                                                   enum grpc_status status,
                                                   const struct error *err),
                                      struct error *err);
/* What came with an answer of the service's; all that is known is this. */
void sandbox_take_ports(struct sandbox *s, Modal__Client__TunnelData *const *tunnels, size_t count);
/* Its task is known: asks for those that are not known, if there are any. Nothing waits for it. */
void sandbox_ask_ports(struct sandbox *s);
/* It is another sandbox from here on. */
void sandbox_forget_ports(struct sandbox *s);
/* crate_ops */
json_t *sandbox_ports(const struct crate *crate, const char **ret_note);

/* ---- sandbox_jupyter.c: the kernel of that name instead of the runner ---- */

/*
 * A Kernel Gateway in the sandbox, started and watched by gateway_keeper.py, an exec as the
 * supervisor is one. It is reached through an encrypted tunnel of the service to its port, or, with
 * the network cut, through the exec's own stream. Its token is made for it and goes over the
 * stream.
 */
/* The argv of the exec; NULL when out of memory. *ret_space is to be freed with free. */
const char **sandbox_gateway_command(const struct sandbox *s, char **ret_space);
/* Is there a tunnel to be known before the exec is started? */
bool sandbox_wants_tunnel(const struct sandbox *s);
/* What came with the answer to the create. */
void sandbox_take_tunnels(struct sandbox *s, Modal__Client__TunnelData *const *tunnels,
                          size_t count);
/* Asks for it, then starts the exec. */
void sandbox_ask_tunnel(struct sandbox *s);
/* Did it end everything because a limit was passed? Then *ret is that. */
bool sandbox_gateway_exit(struct sandbox *s, const struct modal_exec_end *end,
                          struct machine_exit *ret);
struct occupant *sandbox_gateway(struct sandbox *s, const struct occupant_events *events,
                                 struct error *err);

/* ---- result.c: what the service's word on a sandbox's end means ---- */

/* Has it ended at all (a status of 0: it goes on)? Then *ret is how, and *ret_words (to be freed,
 * may be NULL) what `ret->message` is. `memory_mib`: its limit. */
bool result_exit(const Modal__Client__GenericResult *result, uint64_t memory_mib,
                 struct machine_exit *ret, char **ret_words);

/* ---- place.c ---- */

struct orphans {
    bool looked;
    unsigned pages;
    double before;
    unsigned found, removed;
    char *failed; /* why one could not be removed */
};

struct modal_place {
    struct place base;
    struct modal_client *client; /* NULL: nobody has wanted a sandbox, or nobody knows who we are */
    struct modal_resources *resources;
    struct mount_store mounts; /* what was uploaded */
    char *who;                 /* where the credentials were found, for doctor */
    bool jupyter;
    bool memory;                          /* of its sandboxes can be kept */
    struct websocket_context *websockets; /* NULL until a gateway is reached by one */
    bool ephemeral;                       /* the row modal-ephemeral, or the mode */
    bool v1;
    char server[SERVER_ID_SIZE];
    unsigned made; /* sandboxes, for their names */
    struct crates crates;
    struct orphans orphans;
    bool reached, routed; /* the service answered; a sandbox's router did */
    char *left;           /* what could not be terminated, for doctor */
    char *last_error;
    void (*closed)(void *data);
    void *closed_data;
};

extern const struct place_ops modal_place_ops;

uint64_t place_memory(const struct modal_place *place);     /* the limit, in MiB */
unsigned place_idle_limit(const struct modal_place *place); /* of a sandbox, in seconds */
const char *place_app_name(const struct modal_place *place);
/* The client is there. -1 with why not. */
int place_connect(struct modal_place *place, struct error *err);
void place_note_error(struct modal_place *place, const char *message);

/* ---- orphans.c ---- */

/* Looks for sandboxes of dead servers, once, and terminates them. */
void orphans_sweep(struct modal_place *place);

/* ---- machine.c, check.c ---- */

int modal_share_check(struct place *place, const struct share *share, struct error *err);
void modal_check(struct place *place, void (*each)(void *data, const struct place_check *check),
                 void *data);

#endif
