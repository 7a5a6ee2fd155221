#ifndef CELLBLOCK_MCP_ARTIFACTS_PRIVATE_H
#define CELLBLOCK_MCP_ARTIFACTS_PRIVATE_H

#include "mcp/artifacts.h"

/* Between artifacts.c (the table) and artifacts_read.c (contents: reading, rescue). */

enum artifact_state {
    ARTIFACT_LIVE, /* in its executor's sandbox */
    ARTIFACT_KEPT, /* `bytes` */
    ARTIFACT_GONE, /* `why` */
};

struct artifact {
    uint64_t serial; /* ascending, for cursors */
    uint64_t origin; /* the same for all of one executor */
    enum artifact_state state;
    bool superseded; /* a later run changed the same file: this URI stands for that one */
    char *key;       /* "SESSION/RUN/PATH": what its URI says */
    char *uri;
    char *name; /* for people, on one line */
    char *path; /* as the sandbox is asked for it */
    uint64_t size;
    struct executor *executor; /* of a live one; else NULL */
    char *bytes;
    size_t kept;
    char *why;
};

struct artifacts {
    uv_loop_t *loop;
    struct artifact **list; /* the oldest first */
    size_t count;
    uint64_t serials, origins;
    size_t kept;     /* bytes of all */
    uint64_t secret; /* what cursors are sealed with */
    struct rescue *rescues;
    struct mask *mask; /* of secrets that live; NULL: none */
    bool stopped;
    void (*on_change)(void *data);
    void *data;
};

void artifacts_changed(struct artifacts *a);
/* The one that this key stands for now; NULL: never listed, or forgotten. */
struct artifact *artifacts_find(const struct artifacts *a, const char *key);
/* The newest one in this executor's sandbox; NULL: there is none. */
struct artifact *artifacts_live(const struct artifacts *a, const struct executor *executor);
/* None of them is there any more, for this reason. False: there was none. */
bool artifacts_all_gone(struct artifacts *a, const struct executor *executor, const char *why);
/* No longer there, for this reason ("the session …"). */
void artifact_gone(struct artifacts *a, struct artifact *artifact, const char *why);
/* Takes the bytes and drops what there is no room for any more. */
void artifact_keep(struct artifacts *a, struct artifact *artifact, char *bytes_owned, size_t size);

#endif
