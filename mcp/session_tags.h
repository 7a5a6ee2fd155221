#ifndef CELLBLOCK_MCP_SESSION_TAGS_H
#define CELLBLOCK_MCP_SESSION_TAGS_H

#include <jansson.h>
#include <stdbool.h>

#include "backends/base/error.h"

/*
 * Tags of a session: up to SESSION_TAGS_CAP names with a text each, for finding it again. And the
 * names that sessions can be given.
 */
enum {
    SESSION_TAGS_CAP = 32,
    SESSION_TAG_NAME_CAP = 64,   /* characters, as a session's name has them */
    SESSION_TAG_VALUE_CAP = 256, /* bytes */
    SESSION_NAME_CAP = 64,
};

/* `tags` with `changes` over it, in *ret (a new object; `tags` may be NULL): a text sets a tag,
 * null removes it. -1 with an ERROR_INVALID that names the tag. */
int session_tags_merge(const json_t *tags, const json_t *changes, json_t **ret, struct error *err);

/* Has `tags` all of `wanted`? NULL: none are wanted. */
bool session_tags_match(const json_t *tags, const json_t *wanted);

/* Can a session be called so: 1 to 64 of A-Z a-z 0-9 _ . -, and not as ids begin? */
int session_name_check(const char *name, struct error *err);

#endif
