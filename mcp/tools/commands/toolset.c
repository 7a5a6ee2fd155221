#include "mcp/toolsets.h"

const struct tool *const commands_tools[] = {
    NULL,
};
