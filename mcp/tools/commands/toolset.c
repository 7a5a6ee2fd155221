#include <stddef.h>

#include "mcp/tools/commands/commands_tools.h"
#include "mcp/toolsets.h"

const struct tool *const commands_tools[] = {
    &run_command_tool,
    &install_packages_tool,
    NULL,
};
