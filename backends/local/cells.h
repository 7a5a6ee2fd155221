#ifndef CELLBLOCK_LOCAL_CELLS_H
#define CELLBLOCK_LOCAL_CELLS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "backends/base/buffer.h"
#include "backends/local/cell/cell.h"
#include "backends/local/child.h"
#include "backends/local/interpreter.h"
#include "backends/local/launch.h"
#include "backends/place.h"

/*
 * The server's side of the local backend.
 *
 *   struct local_place    one environment: finds the interpreter, keeps the zygote and the pool
 *   struct cell           one cell: its four sockets and pipes, whichever way it was made
 *   struct local_machine  a session's: borrows a cell for as long as it lives
 *
 * Everything that comes from a cell is checked here or in the kernel; a cell's own word counts only
 * on its status socket, and that one belongs to the cell init.
 */
struct local_place;
struct local_machine;

enum cell_state {
    CELL_STATE_WAITING, /* for the interpreter or the zygote */
    CELL_STATE_ASKED,   /* the request is out */
    CELL_STATE_READY,
    CELL_STATE_GONE, /* ended; its exit is in `exit` */
};

/* How closely the cell init looks at memory and disk. */
enum cell_watch {
    CELL_WATCH_SELDOM, /* between runs */
    CELL_WATCH_SOON,   /* a run has begun; the order goes out if it lasts */
    CELL_WATCH_CLOSE,
};

struct cell_stream {
    uv_poll_t poll;
    bool watched; /* `poll` is open */
    int fd;       /* -1 once closed */
};

struct live_cell {
    struct local_place *place;
    struct local_machine *owner; /* NULL in the pool */
    struct live_cell *next;      /* in the place's list */
    enum cell_state state;
    bool solo;
    bool closing;
    enum cell_watch watched;
    bool child_used; /* solo: `child` was started and has to be waited for */
    bool child_gone;
    struct cell_stream streams[CELL_FD_COUNT]; /* by enum cell_fd, our ends */
    int far[CELL_FD_COUNT];                    /* the cell's ends until they are sent; -1 after */
    uv_timer_t timer; /* waits for a report after an end of file; then for a kill to work */
    int open_handles;
    struct buffer unsent; /* frames that did not fit into the socket */
    struct link link;
    struct child child; /* solo: bwrap or the interpreter */
    int root_fd;  /* O_PATH of the cell's root directory; bare: of its folder; -1 before READY */
    char *folder; /* bare */
    struct machine_exit exit;
    char message[512]; /* exit.message */
};

/* A cell that has not been asked for; mounts make it a solo one. NULL when out of memory or
 * descriptors. */
struct live_cell *cell_new(struct local_place *place, unsigned mount_count);

/* Asks for the cell: of the zygote, or by starting a bwrap of its own. Failures come through
 * place_cell_gone, later. */
/* False when the zygote has as many requests as its socket holds: the cell waits on, and is to be
 * asked for again when there is room. */
bool cell_ask(struct live_cell *cell, struct share *const *mounts, unsigned mount_count);

/* Ends it if it lives, and frees it when nothing of it is left; no event afterwards. The owner is
 * let go at once. */
void cell_close(struct live_cell *cell);

/* From now on its link and its end are this machine's. */
void cell_own(struct live_cell *cell, struct local_machine *owner);
/* Nobody's any more: what it still sends is dropped. */
void cell_disown(struct live_cell *cell);

void cell_order(struct live_cell *cell, enum cell_order_type type);
int cell_signal(struct live_cell *cell, int number); /* to the worker. 0 or -ESRCH */
/* A run begins or has ended: the watcher looks closely while one lasts. */
void cell_busy(struct live_cell *cell, bool busy);
/* Ends it; place_cell_gone follows, at the latest after KILL_LIMIT_MS. */
void cell_kill(struct live_cell *cell);

/* Marks it as gone for a reason of ours (a failed start); place_cell_gone follows. */
void cell_fail_start(struct live_cell *cell, enum error_kind kind, const char *message);

/* Delivers what the cell has sent up to now: frames, then output. */
void cell_drain(struct live_cell *cell);

/* What cells tell their place: each at most once, never from within cell_new. */
void place_cell_ready(struct local_place *place, struct live_cell *cell);
void place_cell_gone(struct local_place *place, struct live_cell *cell);

enum zygote_state {
    ZYGOTE_ABSENT,
    ZYGOTE_STARTING,
    ZYGOTE_READY,
    ZYGOTE_ENDING,
};

struct zygote {
    enum zygote_state state;
    struct child child;
    uv_poll_t poll;
    int control_fd;
    int open_handles; /* the child and the poll */
};

enum {
    POOL_CAP = 16,
    RETIRED_CAP = 8,
    POOL_FILL_MS = 5,
    START_LIMIT_MS = 30000,
    REPORT_GRACE_MS = 500,
    BUSY_AFTER_MS = 20,
    KILL_LIMIT_MS = 4000,
    LOCAL_NOFILE = 1024,
    SERVER_NOFILE = 16384,
};

struct local_place {
    struct place base;
    struct sandbox_user user;
    uint32_t cell_files;      /* RLIMIT_NOFILE in a cell */
    enum isolation isolation; /* resolved */
    bool forked;              /* cells come from the zygote */
    char *forked_refused;     /* why not, when nested namespaces do not work here */
    struct interpreter *python;
    struct interpreter_search *search;
    struct zygote zygote;
    struct live_cell *cells; /* all that are not yet freed */
    struct live_cell *pool[POOL_CAP];
    unsigned pool_count;                    /* ready or being made */
    struct live_cell *retired[RETIRED_CAP]; /* of closed machines, to be ended soon */
    unsigned retired_count;
    unsigned machines; /* open */
    uv_timer_t idle;   /* ends zygote and pool when nothing was used for long */
    uv_timer_t fill;   /* the retired are ended and the pool is filled up when it fires */
    bool closing;
    unsigned open_timers;
    void (*closed)(void *data);
    void *closed_data;
    char frame_space[64 * 1024]; /* for reading; apart, since taking a frame in drains outputs */
    char space[64 * 1024];
};

struct local_machine {
    struct machine base;
    struct live_cell *cell;
    uv_idle_t soon; /* for what must not be told before a start function has returned */
    bool soon_open;
    bool starting;
    bool closing;
    unsigned holds;  /* copies and operations on files under way, on threads */
    struct put *put; /* the one that is not answered yet */
    struct local_file *files;
    struct share *const *mounts;
    unsigned mount_count;
    struct machine_exit pending; /* an exit to be told soon */
    bool has_pending;
    void (*closed)(void *data);
    void *closed_data;
};

/* place.c: makes sure that the cells that wait get what they need to be asked for (interpreter,
 * zygote). */
void place_want(struct local_place *place);
/* A cell out of the pool, the one that is furthest on its way; NULL when there is none. */
struct live_cell *pool_take(struct local_place *place);
bool pool_has_ready(const struct local_place *place);
/* Fills it up; or does so a little later, out of the way of the run that has just taken one. */
void pool_fill(struct local_place *place);
void pool_fill_later(struct local_place *place);
/* Ends a cell that nobody uses any more, a little later: taking namespaces and memory down costs
 * the kernel more than a short run costs the code, and the next run may be there already. */
void place_retire(struct local_place *place, struct live_cell *cell);
/* Called when a cell, a machine or the zygote is gone: a place that is closing may be done now. */
void place_maybe_closed(struct local_place *place);
void place_remove_cell(struct local_place *place, struct live_cell *cell);
void place_touch(struct local_place *place); /* somebody uses it: the idle time starts anew */

/* zygote.c: 0, or -1 with `err`. */
int zygote_start(struct local_place *place, struct error *err);
void zygote_end(struct local_place *place);
/* Its socket is full: place_zygote_ready is called again when there is room. */
void zygote_wait_for_room(struct local_place *place);
/* Told by zygote.c: it can take requests; or it is gone, with a reason. */
void place_zygote_ready(struct local_place *place);
void place_zygote_gone(struct local_place *place, const char *why);

/* machine.c: told by place.c about the cell it owns. */
void machine_cell_ready(struct local_machine *m);
void machine_cell_gone(struct local_machine *m);

/* check.c */
void local_check(struct place *place, void (*each)(void *data, const struct place_check *check),
                 void *data);

/* files.c */
int local_share_check(struct place *place, const struct share *share, struct error *err);
void local_put(struct machine *m, const struct share *share, executor_progress progress,
               executor_done done, void *data);
void local_put_cancel(struct machine *m);
int local_spool_open(struct machine *m, const char *path, int *ret_fd);

#endif
