#ifndef CELLBLOCK_KERNEL_H
#define CELLBLOCK_KERNEL_H

#include <stddef.h>

#include "backends/executor.h"
#include "backends/place.h"

/*
 * A kernel turns code into outputs and an end. executor.c holds one for each started machine;
 * runs are given to it one at a time.
 *
 * A kernel whose outputs do not come with its place's own accounting (exit status, signal, usage)
 * says so by what the place reports: EXIT_SIGNAL with signal 0 is "ended, nobody knows how".
 *
 * The kernel reports what the far side said; what the machine's end means (exit, signal, memory)
 * comes from the place, and executor.c makes the outcome of both.
 */
struct kernel;

/* What the worker said at the end of a run. */
enum kernel_status {
    KERNEL_OK,
    KERNEL_ERROR,       /* an exception; etype, evalue, traceback */
    KERNEL_EXIT,        /* SystemExit or a command: exit_code */
    KERNEL_SIGNAL,      /* a command ended by `signal` */
    KERNEL_INTERRUPTED, /* KeyboardInterrupt that nobody caught */
};

struct kernel_reply {
    enum kernel_status status;
    bool has_exit_code;
    int exit_code;
    int signal;
    const char *etype, *evalue, *traceback; /* may be NULL */
    int execution_count;
    uint64_t cpu_ms;
    uint64_t peak_rss_kib;
    const json_t *changed; /* as the far side said it (changed.h); NULL: nothing */
};

struct kernel_events {
    void (*on_ready)(void *data, const char *description); /* "Python 3.11.2, IPython 8.5.0" */
    void (*on_output)(void *data, enum stream stream, const char *bytes, size_t size);
    void (*on_display)(void *data, const struct display *display);
    void (*on_note)(void *data, const char *text);
    void (*on_reply)(void *data, const struct kernel_reply *reply);
    /* The far side broke the protocol or closed the stream; the executor kills the machine. */
    void (*on_broken)(void *data, const char *why);
    /* Instead of on_reply: the run was not started (a language that the far side turned out not to
     * have); the session is as it was. */
    void (*on_refused)(void *data, const struct error *err);
    /* The run waits at the far side (a kernel of its language is being started, say): its clock
     * stands until on_begun. Both may be NULL. `what` NULL: nothing to tell anybody, and no longer
     * than a greeting may take. */
    void (*on_delayed)(void *data, const char *what);
    void (*on_begun)(void *data);
    /* Output of before the run that is going. */
    void (*on_leftover)(void *data, enum stream stream, const char *bytes, size_t size);
    /* Of a kernel that keeps output; as link_events has them. May be NULL of one that does not. */
    void (*on_held)(void *data, enum stream stream, uint64_t bytes, uint64_t lines);
    void (*on_sample)(void *data, enum stream stream, const char *bytes, size_t size);
    void (*on_kept)(void *data, enum stream stream, uint64_t bytes);
};

struct kernel_ops {
    const char *name;
    /* Takes the link over; on_ready follows when the far side has greeted. */
    struct kernel *(*attach)(struct link *link, const struct kernel_events *events, void *data);
    /* Sends the run; on_reply or on_broken follows, unless the machine dies first. 0 or -errno. */
    int (*run)(struct kernel *k, const struct run_request *request);
    /* To the run that is going, of this id, which said argv, language shell or stdin_open: a signal
     * for its process group, and more of its stdin. They come to nothing when it has ended by then.
     * 0 or -errno. NULL where the place has not CAP_SIGNAL, CAP_STDIN_STREAM. */
    int (*signal)(struct kernel *k, const char *run, int number);
    int (*write)(struct kernel *k, const char *run, const char *bytes, size_t size, bool eof);
    /* Does the far side write the files of long output (run_request.keep_full_output) itself, and
     * hold back what output_head and output_tail leave out? Else all output comes. May be NULL. */
    bool (*keeps)(const struct kernel *k);
    /* Delivers what is left to deliver; called when the machine has died, before detach, and before
     * each run, so that what leftovers have printed by then is not taken for the run's. */
    void (*drain)(struct kernel *k);
    /* Lets go of the link and frees the kernel. No callback afterwards. */
    void (*detach)(struct kernel *k);
};

extern const struct kernel_ops runner_kernel;

#endif
