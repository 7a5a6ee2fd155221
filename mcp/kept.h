#ifndef CELLBLOCK_MCP_KEPT_H
#define CELLBLOCK_MCP_KEPT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "backends/base/error.h"
#include "backends/base/mac.h"

/*
 * What this user knows of sessions that outlive the server which made them:
 *
 *   $XDG_STATE_HOME/cellblock/key                 32 random bytes, 0600: whoever has it may attach
 *   $XDG_STATE_HOME/cellblock/sessions/ID.json    a record, signed with the key
 *   $XDG_STATE_HOME/cellblock/sessions/ID.lock    held (flock) by the process that has the session
 *
 * ($XDG_STATE_HOME is ~/.local/state when it is not set.) Folders and files that are not this
 * user's, that others may write to (or read, of the key), or that are symlinks are refused with a
 * sentence that says so. A record that was changed, or was made with another key, is none. Nothing
 * secret is in a record; the tag that a sandbox shows is made of the key and is written nowhere.
 */
struct kept_store;

enum {
    KEPT_ID_SIZE = 16,
    KEPT_CAP = 1024,             /* records that are looked at */
    KEPT_RECORD_CAP = 64 * 1024, /* bytes of one */
};

/* With `make` folders and key are made when they are not there; without, NULL and ERROR_NOT_FOUND.
 * NULL with an error. */
struct kept_store *kept_store_open(bool make, struct error *err);
void kept_store_free(struct kept_store *store);

/* Could it be a session's id ("s-" and 8 characters)? */
bool kept_is_id(const char *id);
/* What the sandbox of a session shows, from the session's id and a text that is never the same. */
void kept_tag(const struct kept_store *store, const char *id, const char *nonce,
              char ret[MAC_SIZE]);

/*
 * A session that is this process's. NULL with an error: ERROR_REFUSED when another process has it,
 * with its pid.
 */
struct kept_hold;
struct kept_hold *kept_hold(struct kept_store *store, const char *id, struct error *err);
/* Lets go of it; NULL is nothing. With `gone` its record is removed. */
void kept_release(struct kept_hold *hold, bool gone);

/* Replaces its record: an object with "id"; it is signed here. -1 with an error, and the old one is
 * there still. */
int kept_write(struct kept_hold *hold, const json_t *record, struct error *err);
/* Removes the record alone. */
void kept_forget(struct kept_hold *hold);

/* A record, checked; NULL with an error (ERROR_NOT_FOUND: there is none). */
json_t *kept_read(const struct kept_store *store, const char *id, struct error *err);
/* A good one with "pid" of the process that has the session (0: none); NULL: there is none. */
json_t *kept_look(const struct kept_store *store, const char *id);
/* All of those, in no order; NULL when out of memory. */
json_t *kept_list(const struct kept_store *store);
/* Is there a good record of this id? */
bool kept_exists(const char *id);

#endif
