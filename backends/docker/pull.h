#ifndef CELLBLOCK_DOCKER_PULL_H
#define CELLBLOCK_DOCKER_PULL_H

#include "backends/docker/engine.h"

/*
 * The image that a place's containers are made of. One that the engine does not have is fetched by
 * the engine (POST /images/create), once for all who wait for it; the fetch goes on when nobody
 * waits any more.
 */
struct image;

struct image_facts {
    char *id;        /* "sha256:…" */
    char *user;      /* that the image says; "" when it does not */
    json_t *volumes; /* object whose keys are paths, or NULL */
};

/* From the engine's answer about an image; what they held is dropped. */
void image_facts_take(struct image_facts *facts, json_t *reply);
void image_facts_deinit(struct image_facts *facts);

enum { PULL_LINE_MS = 500, PULL_LAYERS_CAP = 500 };

/* `on_line` gets progress for people. Strings are borrowed. NULL when out of memory. */
struct image *image_new(struct engine *engine, const char *name,
                        void (*on_line)(void *data, const char *line), void *data);
/* After the engine was closed. */
void image_free(struct image *image);
/* Is it there? At once when that was seen before. The engine must be connected. */
void image_ensure(struct image *image, engine_done done, void *data);
/* NULL until it was seen. */
const struct image_facts *image_facts(const struct image *image);
/* A create said that it is gone: the next one looks again. */
void image_forget(struct image *image);

/* "python" → "python:latest": an engine that is asked for a name without a tag may fetch all of
 * them. To be freed. */
char *image_full_name(const char *name);

#endif
