#ifndef CELLBLOCK_MCP_CONFIG_ENVIRONMENT_H
#define CELLBLOCK_MCP_CONFIG_ENVIRONMENT_H

#include <jansson.h>

#include "backends/base/error.h"
#include "backends/environment.h"

/*
 * One environment of the config file, over the defaults that `env` has. `object` has passed the
 * schema; what a schema cannot say is checked here: names of variables, paths, a backend that
 * exists, limits that fit together. -1 with an error that names the key.
 */
int config_fill_environment(struct environment *env, const json_t *object, struct error *err);

#endif
