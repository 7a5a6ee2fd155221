#ifndef CELLBLOCK_MCP_CONFIG_MODAL_H
#define CELLBLOCK_MCP_CONFIG_MODAL_H

#include <jansson.h>

#include "backends/environment.h"

/*
 * Setters of config_environment.c's table for what only Modal's sandboxes take, but for the oldest
 * of them, which are there. The schema has checked types and ranges; what Modal refuses is checked
 * by its place (backends/modal/spec.h), which knows the other settings. -1 with an error.
 */
int config_set_cloud(struct environment *env, const json_t *value, struct error *err);
int config_set_custom_domain(struct environment *env, const json_t *value, struct error *err);
int config_set_h2_ports(struct environment *env, const json_t *value, struct error *err);
int config_set_identity_token(struct environment *env, const json_t *value, struct error *err);
int config_set_inbound_cidr_allowlist(struct environment *env, const json_t *value,
                                      struct error *err);
int config_set_proxy(struct environment *env, const json_t *value, struct error *err);
int config_set_readiness_probe(struct environment *env, const json_t *value, struct error *err);
int config_set_registry_auth(struct environment *env, const json_t *value, struct error *err);
int config_set_registry_secret(struct environment *env, const json_t *value, struct error *err);
int config_set_sandbox_command(struct environment *env, const json_t *value, struct error *err);
int config_set_unencrypted_ports(struct environment *env, const json_t *value, struct error *err);

#endif
