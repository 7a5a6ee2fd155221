#ifndef CELLBLOCK_OCCUPANT_H
#define CELLBLOCK_OCCUPANT_H

#include "backends/kernels/runner/supervised.h"

/*
 * What lives in a container, as the container's life sees it: something that is talked to over the
 * container's one stream, keeps workers one after another, and takes files in. The functions mean
 * what those of supervised.h do, of which one kind is made; the other is gateway.h.
 */
struct occupant;

struct occupant_ops {
    void (*feed)(struct occupant *o, const char *bytes, size_t size);
    void (*ended)(struct occupant *o, const char *reason);
    void (*start_worker)(struct occupant *o);
    void (*attached)(struct occupant *o);
    void (*interrupt)(struct occupant *o);
    void (*kill)(struct occupant *o);
    void (*put)(struct occupant *o, const struct share *share, executor_progress progress,
                executor_done done, void *data);
    void (*close)(struct occupant *o, void (*closed)(void *data), void *data);
    void (*put_cancel)(struct occupant *o);
    /* As place_ops.machine_file; NULL where there is none. */
    void (*file)(struct occupant *o, const struct file_request *request, file_done done,
                 void *data);
    /* As place_ops.machine_signal; NULL where there is none. */
    int (*signal)(struct occupant *o, int number);
    /* Of one that may outlive us: what leads to it beyond the container, a new object (NULL: there
     * is nothing yet); that it is to go on when it is closed, `interrupt`: but not the run; was
     * what was left in it not there any more? */
    json_t *(*where)(const struct occupant *o);
    void (*leave)(struct occupant *o, bool interrupt);
    bool (*is_another)(const struct occupant *o);
};

struct occupant {
    const struct occupant_ops *ops;
};

struct occupant_events {
    struct supervised_events base;
    void (*on_waiting)(void *data, const char *what); /* while a worker is started */
};

/* The runner's supervisor. Its stream is open. NULL when out of memory. */
struct occupant *runner_occupant_new(uv_loop_t *loop, struct byte_stream *stream,
                                     const struct supervised_options *options,
                                     const struct occupant_events *events, void *data);
/* supervised_pid */
int runner_occupant_pid(const struct occupant *o);

#endif
