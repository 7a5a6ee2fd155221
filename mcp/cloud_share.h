#ifndef CELLBLOCK_MCP_CLOUD_SHARE_H
#define CELLBLOCK_MCP_CLOUD_SHARE_H

#include <jansson.h>

#include "backends/share.h"
#include "mcp/policy.h"

/*
 * Shares of type cloud, as they are written: an object with bucket, key_prefix,
 * bucket_endpoint_url, secret, role_arn. In the config the owner's word is enough. What an agent
 * asks for must lie within one of policy.buckets, which also says what opens the bucket: a bucket
 * is a way out of a sandbox without a network, and a secret opens more than one.
 */

/* Checks the object's own texts. -1 with `err`. */
int cloud_share_check(const json_t *object, struct error *err);
/* NULL with `err`. `dest` is in its normal form. */
struct share *cloud_share_new(const json_t *object, const char *dest, bool read_only,
                              struct error *err);
/* What was asked for (the arguments of add_share), as the first of policy.buckets that holds it
 * allows it: a new object, with the owner's endpoint, secret and role. NULL with an ERROR_REFUSED.
 */
json_t *cloud_share_allow(const struct policy *policy, const json_t *wish, bool read_only,
                          struct error *err);

#endif
