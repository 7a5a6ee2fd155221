#ifndef CELLBLOCK_MCP_POLICY_H
#define CELLBLOCK_MCP_POLICY_H

#include <jansson.h>
#include <stdbool.h>

#include "backends/base/error.h"
#include "backends/environment.h"

struct policy_ask;

/*
 * Policy: what the owner of the machine lets a client ask for (the config's key "policy"). Tool
 * arguments may only narrow what an environment gives, unless the policy names more. What is above
 * is refused, never made to fit, and the refusal says what is allowed and which key the owner has
 * to set.
 *
 * Images and packages are compared letter by letter with the owner's lists.
 *
 * Between what is allowed and what is refused lies what a person may be asked for
 * (mcp/policy_ask.h).
 */
struct policy {
    double max_memory_mib; /* of each number: 0 when it was not given */
    double max_disk_mib;
    double max_cpu;
    double max_lifetime_seconds;
    double max_idle_timeout_seconds;
    double max_timeout_seconds; /* only what is asked for has it */
    unsigned max_sessions;
    json_t *images, *packages, *networks; /* arrays of strings, or NULL */
    json_t *secrets;                      /* names that may be asked for; likewise */
    json_t *gpu; /* an array of "KIND" (one) and "KIND:COUNT" (so many at most), true: any; NULL */
    json_t *buckets;        /* shares of type cloud that add_share may bring: objects, or NULL */
    struct policy_ask *ask; /* NULL: nobody is asked */
};

/* Fills it from the config's object, which has passed the schema; NULL: nothing is given. */
int policy_fill(struct policy *policy, const json_t *object, struct error *err);
void policy_deinit(struct policy *policy);

/* Are these wishes (as below) allowed? -1 with the error that policy_derive would give. */
int policy_check(const struct policy *policy, const struct environment *base, const json_t *wishes,
                 struct error *err);
/* The most that the number `key` may be; INFINITY: no limit of ours. */
double policy_most(const struct policy *policy, const struct environment *base, const char *key);

/* An environment for one session. */
struct derived {
    struct environment *env; /* NULL: the configured one as it is */
    bool own_place; /* its sandboxes are made in another way: it needs a place of its own */
};

/*
 * The environment `base` with what a client wishes over it: an object with any of cpu, memory_mib,
 * disk_mib, gpu, image, packages (besides the environment's), network, mode, timeout_seconds,
 * idle_timeout_seconds, max_lifetime_seconds, snapshot (an id, and with it the image and packages
 * that it counts as: mcp/snapshots.h); other keys are not looked at, and types and ranges
 * have passed the tool's schema. -1 with an ERROR_REFUSED, or an ERROR_INVALID for a word that is
 * none.
 */
int policy_derive(const struct policy *policy, const struct environment *base, const json_t *wishes,
                  struct derived *ret, struct error *err);
/* The same for wishes that have been checked, or that were granted before. */
int policy_derive_unchecked(const struct environment *base, const json_t *wishes,
                            struct derived *ret, struct error *err);
void derived_deinit(struct derived *derived);

/* How long a session of the environment may live, in all. */
double policy_lifetime(const struct policy *policy, const struct environment *base);

#endif
