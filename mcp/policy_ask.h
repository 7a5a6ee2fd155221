#ifndef CELLBLOCK_MCP_POLICY_ASK_H
#define CELLBLOCK_MCP_POLICY_ASK_H

#include <jansson.h>

#include "mcp/policy.h"

/*
 * What a client may ask a person for (the config's policy.ask): numbers and words beyond the
 * policy, and folders that are not shared. What is beyond this as well is refused without a
 * question.
 */
struct policy_ask {
    struct policy most;  /* the policy widened by all that may be asked for; asks for nothing */
    json_t *shares;      /* folders, resolved: what lies beneath may be asked for; may be empty */
    double wait_seconds; /* so long a question waits for its answer */
};

/* Fills policy->ask, the rest of which is filled, from the config's object (NULL: nothing may be
 * asked for). */
int policy_ask_fill(struct policy *policy, const json_t *object, struct error *err);
void policy_ask_free(struct policy_ask *ask);

/*
 * What of these wishes (as for policy_derive) is beyond the policy, when all of it may be asked
 * for: an array of a line each, in words for a person. NULL when some may not, or nothing needs to
 * be.
 */
json_t *policy_ask_wants(const struct policy *policy, const struct environment *base,
                         const json_t *wishes);

/* "172800 seconds (2 days)"; to be freed. */
char *policy_ask_seconds(double seconds);

#endif
