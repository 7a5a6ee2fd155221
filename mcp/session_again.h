#ifndef CELLBLOCK_MCP_SESSION_AGAIN_H
#define CELLBLOCK_MCP_SESSION_AGAIN_H

#include <jansson.h>

#include "mcp/config.h"
#include "mcp/policy.h"

/*
 * What a session that was left (mcp/kept.h) may have when it is attached: what it was made with, by
 * the configuration of now.
 *
 * Its record, which is signed, has its wishes, the names of its secrets, and whether a person had
 * agreed to what is beyond the policy. That agreement counts for as long as the session lives and
 * policy.ask would still let it be asked for: nobody is asked again. Once the policy allows less,
 * asked for or not, or the config has a secret no more, the session is refused with words that say
 * so, and stays as it is: a sandbox cannot be narrowed from outside, and what it prints could not
 * be masked. It can always be ended.
 */

/* The environment of the record's session. With `to_end` nothing is refused, and it has no secrets
 * beyond the environment's. -1 with an error. */
int session_derive_again(const struct config *config, const struct environment *base,
                         const json_t *record, bool to_end, struct derived *ret, struct error *err);

#endif
