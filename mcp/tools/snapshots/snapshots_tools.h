#ifndef CELLBLOCK_MCP_TOOLS_SNAPSHOTS_TOOLS_H
#define CELLBLOCK_MCP_TOOLS_SNAPSHOTS_TOOLS_H

#include "mcp/tools.h"

/* The toolset `snapshots`; what is known of them is in mcp/snapshots.h. */
extern const struct tool create_snapshot_tool;
extern const struct tool list_snapshots_tool;
extern const struct tool delete_snapshot_tool;

#endif
