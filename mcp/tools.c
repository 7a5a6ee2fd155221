#include "mcp/tools.h"

#include <stddef.h>

const struct tool *const core_tools[] = {
    &run_code_tool,
    &add_share_tool,
    &reset_session_tool,
    NULL,
};
