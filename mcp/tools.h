#ifndef CELLBLOCK_MCP_TOOLS_H
#define CELLBLOCK_MCP_TOOLS_H

#include <stdbool.h>

#include "mcp/call.h"

/*
 * The table of tools. Adding one = a file in mcp/tools/, a schema in schemas/tools/, a row here.
 * All four annotations are stated for each.
 */
struct tool {
    const char *name;
    const char *title;
    const char *description;   /* at most 2 KB: hosts cut there */
    const char *schema;        /* inputSchema: schemas/<this>.json */
    const char *output_schema; /* only listed with --structured; NULL: none */
    bool read_only, destructive, idempotent, open_world; /* hints */
    /* Begins the call; the arguments have passed the schema. Answers through call_finish or
     * call_fail, at once or later. */
    void (*start)(struct call *call);
    /* The same tool as it is when the toolset `runs` is on (a schema with `background`, say); NULL:
     * no different. */
    const struct tool *with_runs;
};

extern const struct tool run_code_tool;
extern const struct tool add_share_tool;
extern const struct tool reset_session_tool;

/* The toolset `core`, NULL-terminated, in the order of tools/list. */
extern const struct tool *const core_tools[];

#endif
