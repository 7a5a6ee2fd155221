#include "mcp/toolsets.h"

const struct tool *const sessions_tools[] = {
    NULL,
};
