#ifndef CELLBLOCK_MCP_ARTIFACTS_H
#define CELLBLOCK_MCP_ARTIFACTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "backends/changed.h"
#include "backends/executor.h"

/*
 * What runs leave in their session's files and a client may read as a resource: files that a run
 * made or changed, and the full output of a long one. One table for all sessions of the process.
 *
 * Nothing is copied while a session lives: an artifact is a name, and reading it asks the sandbox
 * (files.h). When the sandbox is about to be closed, artifacts_rescue brings in what there is room
 * for; from then on it is read from memory, until newer ones need the room. What could not be kept
 * stays known for a while, so that the answer can say why.
 *
 * A URI is cellblock://SESSION/RUN/PATH, percent-encoded. Only what is in the table can be read,
 * and a path is never one of this machine's.
 */
enum {
    ARTIFACTS_CAP = 1024,                    /* that are known, all sessions together */
    ARTIFACTS_OF_RUN = 32,                   /* links of one result */
    ARTIFACTS_LINK_BYTES = 12 * 1000,        /* of all links of one result, about */
    ARTIFACT_READ_CAP = 4 * 1024 * 1024,     /* bytes of one: a client reads lines of 10 MiB */
    ARTIFACTS_KEPT_BYTES = 64 * 1024 * 1024, /* of all that outlived their sandbox */
    ARTIFACTS_RESCUE_MS = 3000,              /* for those of one sandbox, together */
    ARTIFACTS_PAGE = 100,                    /* of one resources/list */
    ARTIFACT_CURSOR_SIZE = 48,
    ARTIFACT_IMAGE_CAP = 256 * 1024, /* bytes of an image that is shown with the result */
};

struct artifacts;

struct artifacts *artifacts_new(uv_loop_t *loop);
/* When no rescue is going on (artifacts_stop). NULL is allowed. */
void artifacts_free(struct artifacts *a);
/* Secrets to be taken out of text that is kept past its session's end (mcp/mask.h); NULL: none. */
struct mask;
void artifacts_mask(struct artifacts *a, struct mask *mask);

/* `changed` is called when what artifacts_list gives has changed, at most once for each function
 * called here. */
void artifacts_on_change(struct artifacts *a, void (*changed)(void *data), void *data);

/* Where they are. */
struct artifact_origin {
    const char *session, *run;
    struct executor *executor;
};

/* The files that a run changed. A new array of {uri, name, size, mimeType?}, the newest first, as
 * many as a result has room for; *ret_left_out counts the others. NULL when out of memory. */
json_t *artifacts_add(struct artifacts *a, const struct artifact_origin *origin,
                      const struct changed *changed, uint64_t *ret_left_out);
/* The full output of a run: `path` as in outcome.full. Such an object, or NULL. */
json_t *artifacts_add_output(struct artifacts *a, const struct artifact_origin *origin,
                             const char *path, uint64_t size);

/* Its files are gone, and it goes on. */
void artifacts_lost(struct artifacts *a, const struct executor *executor);

/*
 * The executor is about to be closed, and nothing is asked of it here any more once `go_on` is
 * called, at once or later. False: there is nothing to wait for, and `go_on` is not called.
 */
bool artifacts_rescue(struct artifacts *a, struct executor *executor, void (*go_on)(void *data),
                      void *data);
/* The server ends: rescues that are going on are cut short, and no others begin. */
void artifacts_stop(struct artifacts *a);

/* --- for resources.c --- */

/* {resources, nextCursor?} from the cursor on (NULL: from the beginning), the oldest first. -1: it
 * is no cursor of this process, or (with *ret_memory) out of memory. */
int artifacts_list(const struct artifacts *a, const char *cursor, json_t **ret, bool *ret_memory);

struct artifact_bytes {
    const char *bytes;
    size_t size;
    const char *mime; /* by its name, or by what it is; never NULL */
    bool is_text;
};
/* `done` gets the bytes, borrowed, or an error (ERROR_NOT_FOUND: never listed, or not there any
 * more; ERROR_LIMIT; …), at once or later, always exactly once. */
typedef void (*artifact_done)(void *data, const struct artifact_bytes *bytes,
                              const struct error *err);
void artifacts_read(struct artifacts *a, const char *uri, artifact_done done, void *data);

/* One file of a sandbox, for a caller that knows the executor to be there: at most `cap` bytes of a
 * regular file, no link; more is ERROR_LIMIT. `done` likewise, never before this returns. */
void artifact_fetch(struct executor *executor, const char *path, size_t cap, file_done done,
                    void *data);

#endif
