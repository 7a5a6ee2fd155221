#ifndef CELLBLOCK_MCP_SNAPSHOTS_H
#define CELLBLOCK_MCP_SNAPSHOTS_H

#include <jansson.h>

#include "backends/environment.h"
#include "backends/executor.h"
#include "mcp/config.h"

/*
 * The snapshots that this server has made: by id, or by the name that they were given. They stay at
 * their backend when the server ends, SNAPSHOT_SECONDS long; another server can use them by their
 * ids.
 *
 * What the policy says of images holds for what is in them. A session that begins with a snapshot
 * counts as one that asks for the image and the packages of the session it was taken of. One that
 * was taken in another environment, or by another server, counts as an image of its id, which the
 * owner has to have listed.
 */
struct snapshots;
struct snapshot;

enum {
    SNAPSHOTS_CAP = 64,                      /* that are known at a time */
    SNAPSHOT_SECONDS = 30 * 24 * 3600,       /* as Modal's own client has it */
    SNAPSHOT_MEMORY_SECONDS = 7 * 24 * 3600, /* of memory, as Modal keeps it */
    SNAPSHOT_LIMIT_SECONDS = 330,            /* of making one */
};

struct snapshots *snapshots_new(void);
void snapshots_free(struct snapshots *snapshots);

/* One that is about to be made of a session: its name (NULL: none) is taken from now on. The
 * environments are the configured one and the session's own. NULL with an error: the name is none,
 * or taken; there are too many. */
struct snapshot_source {
    const char *name;
    const char *session;
    const struct environment *base, *env;
    bool memory; /* its variables too */
};
struct snapshot *snapshots_begin(struct snapshots *snapshots, const struct snapshot_source *source,
                                 struct error *err);
/* It is there. -1 when out of memory: then it is not known. */
int snapshots_made(struct snapshot *snapshot, const char *id);
/* It is not, or not any more. */
void snapshots_drop(struct snapshots *snapshots, struct snapshot *snapshot);

/* By id or name; NULL with an ERROR_NOT_FOUND that lists what there is. */
struct snapshot *snapshots_find(const struct snapshots *snapshots, const char *name,
                                struct error *err);
const char *snapshot_id(const struct snapshot *snapshot);
const struct environment *snapshot_base(const struct snapshot *snapshot);
/* What is told of it: {id, name?, session, environment, backend, memory, made_at,
 * expires_at}. */
json_t *snapshot_facts(const struct snapshot *snapshot);
/* An array of these, newest first. */
json_t *snapshots_list(const struct snapshots *snapshots);

/*
 * What create_session's arguments come to, in *ret (a new reference): with a `snapshot` among them
 * its id, the environment that it was taken in, where none is named, and what counts as asked for
 * with it (see above). -1 with an ERROR_NOT_FOUND as snapshots_find, or an ERROR_INVALID for what
 * does not go with a snapshot.
 */
int snapshots_wishes(const struct snapshots *snapshots, const struct config *config,
                     const json_t *arguments, json_t **ret, struct error *err);

#endif
