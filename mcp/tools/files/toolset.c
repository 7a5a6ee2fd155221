#include "mcp/toolsets.h"

const struct tool *const files_tools[] = {
    NULL,
};
