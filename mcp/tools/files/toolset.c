#include "mcp/tools/files/files_tools.h"

#include <stddef.h>

#include "mcp/toolsets.h"

const struct tool *const files_tools[] = {
    &read_file_tool,
    &write_file_tool,
    &list_files_tool,
    &stat_file_tool,
    &make_directory_tool,
    &remove_file_tool,
    &copy_file_tool,
    &move_file_tool,
    &upload_tool,
    &download_tool,
    NULL,
};
