#include <stddef.h>

#include "mcp/tools/environments/list_environments.h"
#include "mcp/toolsets.h"

const struct tool *const environments_tools[] = {
    &list_environments_tool,
    NULL,
};
