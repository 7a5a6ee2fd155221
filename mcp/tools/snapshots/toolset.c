#include <stddef.h>

#include "mcp/tools/snapshots/snapshots_tools.h"
#include "mcp/toolsets.h"

const struct tool *const snapshots_tools[] = {
    &create_snapshot_tool,
    &list_snapshots_tool,
    &delete_snapshot_tool,
    NULL,
};
