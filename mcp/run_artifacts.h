#ifndef CELLBLOCK_MCP_RUN_ARTIFACTS_H
#define CELLBLOCK_MCP_RUN_ARTIFACTS_H

#include <jansson.h>
#include <stdbool.h>

#include "mcp/artifacts.h"
#include "mcp/content.h"

/*
 * The artifacts of one run on their way into its result, in three steps: the links, before the
 * result is made; the full output, when it is known to have been cut; the images among them, which
 * are shown as well and have to be fetched first.
 */
enum {
    RUN_IMAGES = 4,       /* images shown of one run */
    RUN_IMAGES_MS = 1500, /* … when they come within that time, together */
};

/* Fills in what content_finish is told of artifacts; `run->artifacts` is then to be freed. With no
 * `executor` (it ended with the run) there are none. */
void run_artifacts_link(struct artifacts *a, const struct artifact_origin *origin,
                        const struct outcome *outcome, struct content_run *run);

/* Adds links to the files of full output that the result names. */
void run_artifacts_add_output(struct artifacts *a, const struct artifact_origin *origin,
                              const struct outcome *outcome, const struct content *c,
                              json_t *result);

/* Fetches the images that are small enough and puts each behind its link in `result`, which stays
 * until `done` is called. False: there are none, and `done` is not called; else it is, once, never
 * before this returns. */
bool run_images_start(uv_loop_t *loop, const struct artifact_origin *origin,
                      const struct outcome *outcome, const json_t *links, json_t *result,
                      void (*done)(void *data), void *data);

#endif
