#ifndef CELLBLOCK_PLACE_H
#define CELLBLOCK_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "backends/base/error.h"
#include "backends/executor.h"

/*
 * A place is where code runs: one environment of one backend, opened once and shared by its
 * executors (it may keep a zygote, a pool, a connection). A machine is one started sandbox in it.
 *
 * How to write a backend: embed `struct place` and `struct machine` as the first member of your
 * own structs, fill a `struct place_ops`, add a row to registry.c. executor.c is the only caller;
 * it keeps these promises, and expects yours:
 *
 *   place_ops.open        cheap; may refuse a setting (ERROR_UNSUPPORTED) but starts nothing
 *   machine_start         one at a time for each machine object; answers through on_started or
 *                         on_exit, never before it returned. Shares of type mount are in the list
 *                         and must be there when on_started comes; copies are put afterwards.
 *   machine_put           after on_started, one at a time; answers through its own callback,
 *                         also when the machine dies meanwhile. `progress` is called at most twice
 * a second, and only when something has moved since the last time: when it is silent for a minute,
 * the executor gives the copy up machine_interrupt     asks the running code to stop as Ctrl-C
 * does; may do nothing machine_kill          ends it for certain (or its worker: see `kept`);
 * on_exit follows, never before it returned on_exit               once for each machine_start,
 * after everything that the machine had sent on its link by then has been given to link_events; the
 * link is not used any more afterwards. With `kept`, machine_start may come again (its mounts are
 * there already); a machine that is lost meanwhile says so by failing that start with EXIT_LOST,
 * and a new one is made machine_close kills if needed, then calls `closed` and frees; no other
 * callback after. Never called from inside a callback of this machine or its link place_ops.close
 * after the last machine is closed
 */
struct machine;
struct link;

/* `id` at the backend, or NULL with `err`. */
typedef void (*snapshot_done)(void *data, const char *id, const struct error *err);

/* How a machine ended, from what the system says. */
enum exit_how {
    EXIT_CODE,          /* the worker's process ended by itself: `code` */
    EXIT_SIGNAL,        /* `signal` ended it */
    EXIT_OUT_OF_MEMORY, /* `used` of `limit` bytes */
    EXIT_DISK,     /* past the disk limit where only a watcher can see it: `used` of `limit` bytes,
                    * or of files when `message` is "files" */
    EXIT_PROTOCOL, /* the worker broke the frame protocol or closed its stream, and was ended */
    EXIT_LOST,     /* the place went away, or the start failed; `message` says why */
};

struct machine_exit {
    enum exit_how how;
    int code;
    int signal;
    uint64_t used;
    uint64_t limit;
    uint64_t cpu_ms;
    uint64_t peak_rss_kib;
    bool kept;    /* only the worker is gone: the machine, its files and its shares are there, and
                   * machine_start may be called on it again */
    bool resumes; /* with `kept`: the worker sleeps, and machine_start finds its variables too */
    bool unbegun; /* the run that was sent last had not begun: it can be given to the next worker */
    const char *message;  /* for people, may be NULL */
    enum error_kind kind; /* of a failed start: ERROR_REFUSED, ERROR_UNSUPPORTED, ERROR_LOST … */
    json_t *changed;      /* borrowed: what the run that was going had made, as the far side said it
                           * (changed.h); NULL: nothing, or it cannot tell. Used only if kept */
};

struct machine_events {
    void (*on_waiting)(void *data, const char *what);
    void (*on_started)(void *data,
                       struct link *link); /* the link is the machine's, until on_exit */
    void (*on_exit)(void *data, const struct machine_exit *exit);
};

struct start_request {
    struct share *const *mounts; /* and buckets (CAP_CLOUD); borrowed until on_started or on_exit */
    unsigned mount_count;
    /* Those that machine_put brings in afterwards, for a place that must make room for them when it
     * makes the machine; borrowed likewise. More may be put later. */
    struct share *const *copies;
    unsigned copy_count;
    /* CAP_REATTACH, borrowed until machine_start returns. `tag`: the machine may outlive us, and
     * shows this when it is found again (NULL: it ends with us, whatever happens). `where`: it is
     * this one, and no other is made; one that is gone, or does not show the tag, is an on_exit
     * with ERROR_NOT_FOUND, and what is there is left untouched. `to_end`: it is wanted only to be
     * ended; so many seconds at most may go by until it shows the tag, or without reaching what is
     * in it at once, where the tag is seen from outside. Then that is its on_exit. 0: not so. */
    const char *tag;
    const json_t *where;
    unsigned to_end;
};

/* One thing that a backend needs or can use, for `cellblock doctor`. Texts are the caller's to read
 * until the callback returns. */
struct place_check {
    const char *name; /* "bubblewrap" */
    bool ok;
    bool required;      /* nothing works without it */
    const char *detail; /* what was found */
    const char *fix;    /* the command or setting that mends it; NULL when ok */
};

struct place_ops {
    const char *name;             /* "local" */
    unsigned capabilities;        /* of enum capability */
    const char *const *languages; /* NULL-terminated: "python", "shell" */

    /* NULL in the registry's row of a backend that is a module (module.h). */
    int (*open)(uv_loop_t *loop, const struct environment *env, struct place **ret,
                struct error *err);
    /* Starts what makes the first run quick (a zygote, a pool); --warm. May be NULL. */
    void (*warm)(struct place *place);
    /* Looks at what the backend needs here, blocking for a moment; called after a trial run, so
     * that what only a run can show is known. May be NULL. */
    void (*check)(struct place *place, void (*each)(void *data, const struct place_check *check),
                  void *data);
    void (*close)(struct place *place, void (*closed)(void *data), void *data);

    /* Can this share be brought in at all: may the sandbox's user read its source, is its dest
     * reachable? 0, or -1 with the reason; told at once and not at the first run. May be NULL. */
    int (*share_check)(struct place *place, const struct share *share, struct error *err);

    struct machine *(*machine_new)(struct place *place, const struct machine_events *events,
                                   void *data);
    void (*machine_start)(struct machine *m, const struct start_request *request);
    void (*machine_put)(struct machine *m, const struct share *share, executor_progress progress,
                        executor_done done, void *data);
    /* Gives up the put that is going, if there is one: it is answered soon (with an error, or NULL
     * if it was there by then), and nothing half made is left at its dest. May be NULL. */
    void (*machine_put_cancel)(struct machine *m);
    void (*machine_interrupt)(struct machine *m);
    /* A signal to the process that runs the code, and to no other. 0, or -ENOTSUP where that cannot
     * be done; -ESRCH. NULL: it can nowhere. */
    int (*machine_signal)(struct machine *m, int number);
    void (*machine_kill)(struct machine *m);
    void (*machine_close)(struct machine *m, void (*closed)(void *data), void *data);
    /* Creates a new file in the sandbox for the full output of a run, at an absolute path of our
     * own choosing, and gives a descriptor to write to (the caller closes it). 0 or a negative
     * errno. NULL where the server cannot write the sandbox's files itself: long output is then
     * kept by the far side (link_ops.plan), or, where that cannot, here while it comes, and brought
     * in by machine_put when the run has ended (a copy share at a path under RUN_OUTPUT_FOLDER,
     * which replaces nothing and whose folder is made). */
    int (*machine_spool_open)(struct machine *m, const char *path, int *ret_fd);
    /* One operation on its files, after on_started; several may be going. `done` once, never before
     * this returned, also when the machine dies meanwhile (ERROR_LOST). Request and its texts are
     * borrowed until this returns. NULL without CAP_FILES. */
    void (*machine_file)(struct machine *m, const struct file_request *request, file_done done,
                         void *data);
    /* Keeps its files, after on_started and while no run is going. `done` once, never before this
     * returned, also when the machine dies meanwhile (ERROR_LOST, after its on_exit). The request
     * is borrowed until this returns. NULL without CAP_SNAPSHOT. */
    void (*machine_snapshot)(struct machine *m, const struct snapshot_request *request,
                             snapshot_done done, void *data);
    /* Nobody waits for the one with this `data` any more: `done` is not called, and what it comes
     * to is deleted. */
    void (*machine_snapshot_drop)(struct machine *m, const void *data);
    /* Deletes one; `done` once, never before this returned, with an ERROR_NOT_FOUND when there is
     * none. -1 with `err` when that cannot even be asked for: `done` is not called. */
    int (*snapshot_delete)(struct place *place, const char *id, executor_done done, void *data,
                           struct error *err);
    /* Where a machine without a root of its own has its /workspace and /tmp: the folder that they
     * are in, as the code sees it. NULL, or an answer of NULL: at the root, as everywhere else. */
    const char *(*machine_folder)(const struct machine *m);
    /* Of a machine that was started with a tag, between on_started and on_exit: what leads to it, a
     * new object of texts (nothing secret); and that it is to go on when machine_close comes next,
     * `interrupt`: but not the run that is going in it. NULL without CAP_REATTACH. */
    json_t *(*machine_where)(const struct machine *m);
    void (*machine_leave)(struct machine *m, bool interrupt);
    /* Of a machine that is started: as executor_ports; *ret_note is set always. NULL where no
     * place of the backend has ports. */
    json_t *(*machine_ports)(const struct machine *m, const char **ret_note);
    /* Tells the machine whether a run is going (a watcher polls more often then). May be NULL. */
    void (*machine_busy)(struct machine *m, bool busy);
};

struct kernel_ops;

struct place {
    const struct place_ops *ops;
    uv_loop_t *loop;
    const struct environment *env;
    unsigned lacks; /* capabilities of the backend that this environment's settings take away */
    const struct kernel_ops *kernel; /* how code runs there; place_open sets the runner for NULL */
};

static inline unsigned place_capabilities(const struct place *place)
{
    return place->ops->capabilities & ~place->lacks;
}

struct machine {
    struct place *place;
    struct machine_events events;
    void *data;
};

/* Finds the environment's backend in the registry and opens it. -1 with `err`. */
int place_open(uv_loop_t *loop, const struct environment *env, struct place **ret,
               struct error *err);
/* What cellblocks that are gone had left in a place, as it was found and removed there. */
struct place_left {
    const char *name; /* of the check */
    unsigned found, removed;
    const char *failed; /* why one could not be removed; NULL */
    const char *fix;    /* for those that are there still */
};
/* For place_ops.check: tells it as a check that is not required. */
void place_tell_left(const struct place_left *left,
                     void (*each)(void *data, const struct place_check *check), void *data);

void place_warm(struct place *place);
/* As place_ops.snapshot_delete, of a place with CAP_SNAPSHOT. */
int place_delete_snapshot(struct place *place, const char *id, executor_done done, void *data,
                          struct error *err);
void place_close(struct place *place, void (*closed)(void *data), void *data);

/*
 * A link: the byte stream to a machine's runner, and the two output streams where the place has
 * them apart from it (a local cell's pipes: read by the server itself, so that nothing printed
 * before a crash is lost). A place implements it; the runner kernel uses it.
 */
struct link_events {
    void (*on_frames)(void *data, const char *bytes, size_t size);
    void (*on_output)(void *data, enum stream stream, const char *bytes, size_t size);
    /* The peer closed the stream, or it failed. Not called after link_ops.end. */
    void (*on_end)(void *data);
    /* Output that was printed before the run that has been sent began, where the far side can tell:
     * it is not that run's. */
    void (*on_leftover)(void *data, enum stream stream, const char *bytes, size_t size);
    /* Where the far side keeps the output of runs (link_ops.plan); as run_events has the first two.
     * on_kept: how many bytes the file of this stream has, as the far side says. */
    void (*on_held)(void *data, enum stream stream, uint64_t bytes, uint64_t lines);
    void (*on_sample)(void *data, enum stream stream, const char *bytes, size_t size);
    void (*on_kept)(void *data, enum stream stream, uint64_t bytes);
};

/* What becomes of the output of a run where the far side keeps it. */
struct output_plan {
    const char *path; /* of its files, absolute in the sandbox, without their ".stdout" and
                       * ".stderr"; NULL: there are none */
    uint64_t after;   /* a stream of no more bytes has no file */
    uint64_t cap;     /* the most that one file gets */
    size_t head;      /* bytes from the beginning of each stream that are delivered; 0: all of it */
    size_t tail;      /* … and from its end, with `head` */
};

struct link_ops {
    /* Sends all of it, in order; keeps a copy of what cannot be sent at once. -EPIPE when closed.
     */
    int (*send)(struct link *link, const void *bytes, size_t size);
    /* Reads and delivers (on_output) all that the sandbox has written up to now; where output
     * travels in frames there is nothing to do. */
    void (*drain)(struct link *link);
    bool may_delay; /* the clock of one run may stand (FRAME_DELAYED): its worker gets ready late */
    /* Does the far side keep the output of runs by itself, as `plan` tells it? Both may be NULL. */
    bool (*keeps)(const struct link *link);
    /* For the run that is sent next; nothing goes out before it. 0 or -errno. */
    int (*plan)(struct link *link, const struct output_plan *plan);
};

/* A kernel that is not the runner has links of its own kind, made by its place: this is their first
 * member, and ops may be NULL. */
struct link {
    const struct link_ops *ops;
    struct link_events events; /* set by the kernel in kernel_attach */
    void *data;
};

#endif
