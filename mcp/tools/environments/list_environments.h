#ifndef CELLBLOCK_MCP_TOOLS_LIST_ENVIRONMENTS_H
#define CELLBLOCK_MCP_TOOLS_LIST_ENVIRONMENTS_H

#include <jansson.h>
#include <stdbool.h>

#include "backends/environment.h"
#include "mcp/tools.h"

extern const struct tool list_environments_tool;

/* What people and models choose an environment by; never its variables, addresses or tokens. NULL
 * when out of memory. */
json_t *environment_facts(const struct environment *env, bool is_default);

#endif
