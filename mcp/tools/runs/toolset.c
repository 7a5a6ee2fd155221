#include "mcp/toolsets.h"

const struct tool *const runs_tools[] = {
    NULL,
};
