#ifndef CELLBLOCK_MCP_TOOLSETS_H
#define CELLBLOCK_MCP_TOOLSETS_H

#include "backends/base/error.h"
#include "mcp/tools.h"

/*
 * The toolsets: groups of tools that the owner switches on (--toolsets, or "toolsets" in the config
 * file). `core` is always on. A row of the table in toolsets.c for each; the tools of a toolset are
 * listed in its folder, mcp/tools/NAME/toolset.c.
 */
enum {
    TOOLSET_CORE = 1u << 0, /* the first row */
    TOOLSET_RUNS = 1u << 4, /* the fifth */
    TOOLSETS_TOOLS_CAP = 64,
};

struct toolset {
    const char *name;
    const struct tool *const *tools; /* NULL-terminated, in the order of tools/list */
};

extern const struct tool *const files_tools[];
extern const struct tool *const commands_tools[];
extern const struct tool *const sessions_tools[];
extern const struct tool *const runs_tools[];
extern const struct tool *const environments_tools[];
extern const struct tool *const snapshots_tools[];

/* The row number `index`, NULL past the last; its bit in a set is 1u << index. */
const struct toolset *toolset_at(unsigned index);

/* Adds the bit of the toolset `name`, or of all for "all", to *set. -1 with an error that lists the
 * names there are, and the nearest. */
int toolset_add(const char *name, unsigned *set, struct error *err);

/* The same for "files,commands". */
int toolsets_parse(const char *list, unsigned *ret_set, struct error *err);

/* The tools of the toolsets in `set` and of core, in a fixed order, into an array of at least
 * TOOLSETS_TOOLS_CAP + 1 that ends with NULL. With `runs` in it a tool's `with_runs` stands for it.
 */
void toolsets_tools(unsigned set, const struct tool **ret);

#endif
