#ifndef CELLBLOCK_MCP_TOOLS_FILES_FILES_TOOLS_H
#define CELLBLOCK_MCP_TOOLS_FILES_FILES_TOOLS_H

#include "mcp/tools.h"

/* The toolset `files`, a file each. */
extern const struct tool read_file_tool, write_file_tool, list_files_tool, stat_file_tool;
extern const struct tool make_directory_tool, remove_file_tool, copy_file_tool, move_file_tool;
extern const struct tool upload_tool, download_tool;

#endif
