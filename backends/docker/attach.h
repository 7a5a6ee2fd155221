#ifndef CELLBLOCK_DOCKER_ATTACH_H
#define CELLBLOCK_DOCKER_ATTACH_H

#include "backends/docker/engine.h"
#include "backends/kernels/runner/supervised.h"

/*
 * The stream to the first process of a container: its stdin, stdout and stderr over one connection
 * that the engine has upgraded. Opened before the container is started, so that nothing is missed.
 * stdout is the supervisor's and is passed on; of stderr the last lines are kept for messages.
 */
struct attach;

enum { ATTACH_LAST_WORDS = 2048 };

struct attach_events {
    void (*on_open)(void *data);
    void (*on_bytes)(void *data, const char *bytes, size_t size);
    /* The stream has ended or could not be opened. Not called after attach_close. */
    void (*on_end)(void *data, long status, const struct error *err);
};

/* NULL with `err`. */
struct attach *attach_open(struct engine *engine, const char *container,
                           const struct attach_events *events, void *data, struct error *err);
/* The same of a process that exec makes in a container that runs. */
struct attach *attach_open_exec(struct engine *engine, const char *exec,
                                const struct attach_events *events, void *data, struct error *err);
struct byte_stream *attach_stream(struct attach *attach);
/* The end of what came on stderr, as one line of plain text; "" when nothing did. */
const char *attach_last_words(struct attach *attach);
void attach_close(struct attach *attach, void (*closed)(void *data), void *data);

#endif
