#ifndef CELLBLOCK_MCP_TOOLS_COMMANDS_COMMANDS_TOOLS_H
#define CELLBLOCK_MCP_TOOLS_COMMANDS_COMMANDS_TOOLS_H

#include "mcp/tools.h"

/* The toolset `commands`, a file each. */
extern const struct tool run_command_tool, install_packages_tool;

#endif
