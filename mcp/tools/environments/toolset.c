#include "mcp/toolsets.h"

const struct tool *const environments_tools[] = {
    NULL,
};
