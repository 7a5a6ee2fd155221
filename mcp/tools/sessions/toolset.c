#include <stddef.h>

#include "mcp/tools/sessions/session_tools.h"
#include "mcp/toolsets.h"

const struct tool *const sessions_tools[] = {
    &create_session_tool, &list_sessions_tool, &get_session_tool,
    &update_session_tool, &end_session_tool,   NULL,
};
