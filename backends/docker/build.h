#ifndef CELLBLOCK_DOCKER_BUILD_H
#define CELLBLOCK_DOCKER_BUILD_H

#include "backends/docker/engine.h"
#include "backends/docker/pull.h"

/*
 * The image of the jupyter kernel: the one that the environment's recipe names (recipe.h), built by
 * the engine (POST /build) when it does not have it, once for all who wait for it. It stays in the
 * engine for the next time; what the build itself leaves there is removed.
 */
struct kernel_image;

enum {
    BUILD_TELL_MS = 500,     /* between two lines of progress */
    BUILD_SILENCE_MS = 3000, /* a line comes though the build says nothing */
    BUILD_PRUNE_MS = 200,    /* a build was cancelled: what it left is removed */
    BUILD_PRUNES = 10,
};

/* `base` is what it is built upon; `on_line` gets progress for people. All borrowed. NULL when out
 * of memory. */
struct kernel_image *kernel_image_new(uv_loop_t *loop, struct engine *engine, struct image *base,
                                      const struct environment *env,
                                      void (*on_line)(void *data, const char *line), void *data);
/* Is it there? At once when that was seen before. The engine must be connected. */
void kernel_image_ensure(struct kernel_image *image, engine_done done, void *data);
/* NULL until it was seen. */
const struct image_facts *kernel_image_facts(const struct kernel_image *image);
/* How it is called in the engine; NULL until it was looked for. */
const char *kernel_image_name(const struct kernel_image *image);
/* A create said that it is gone: the next one looks again. */
void kernel_image_forget(struct kernel_image *image);
/* Nobody waits any more: a build that goes on is ended. */
void kernel_image_cancel(struct kernel_image *image);
/* After the engine was closed. */
void kernel_image_close(struct kernel_image *image, void (*closed)(void *data), void *data);

#endif
