#include "mcp/toolsets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/nearest.h"

static const struct toolset toolsets[] = {
    {"core", core_tools},           {"files", files_tools}, {"commands", commands_tools},
    {"sessions", sessions_tools},   {"runs", runs_tools},   {"environments", environments_tools},
    {"snapshots", snapshots_tools},
};

enum {
    TOOLSET_COUNT = sizeof(toolsets) / sizeof(*toolsets),
    NAME_CAP = 64,
};

#define NAMES "core, files, commands, sessions, runs, environments, snapshots or all"

const struct toolset *toolset_at(unsigned index)
{
    return index < TOOLSET_COUNT ? &toolsets[index] : NULL;
}

static int unknown_toolset(const char *name, struct error *err)
{
    const char *names[TOOLSET_COUNT + 1];
    const char *nearest;

    for (unsigned i = 0; i < TOOLSET_COUNT; i++) {
        names[i] = toolsets[i].name;
    }
    names[TOOLSET_COUNT] = "all";
    nearest = word_nearest(name, names, TOOLSET_COUNT + 1);
    return error_set(err, ERROR_INVALID, "there is no toolset \"%.*s\"%s%s%s; there are " NAMES,
                     NAME_CAP, name, nearest ? ", did you mean \"" : "", nearest ? nearest : "",
                     nearest ? "\"?" : "");
}

int toolset_add(const char *name, unsigned *set, struct error *err)
{
    if (strcmp(name, "all") == 0) {
        *set |= (1u << TOOLSET_COUNT) - 1;
        return 0;
    }
    for (unsigned i = 0; i < TOOLSET_COUNT; i++) {
        if (strcmp(toolsets[i].name, name) == 0) {
            *set |= 1u << i;
            return 0;
        }
    }
    return unknown_toolset(name, err);
}

int toolsets_parse(const char *list, unsigned *ret_set, struct error *err)
{
    char *copy = strdup(list), *rest = copy, *name;
    unsigned set = TOOLSET_CORE;
    int r = copy ? 0 : error_set_code(err, ERROR_INTERNAL, ENOMEM, "toolsets");

    while (r == 0 && (name = strsep(&rest, ","))) {
        r = toolset_add(name, &set, err);
    }
    free(copy);
    if (r == 0) {
        *ret_set = set;
    }
    return r;
}

void toolsets_tools(unsigned set, const struct tool **ret)
{
    size_t count = 0;

    for (unsigned i = 0; i < TOOLSET_COUNT; i++) {
        const struct tool *const *tool = toolsets[i].tools;

        while ((i == 0 || set & (1u << i)) && *tool && count < TOOLSETS_TOOLS_CAP) {
            const struct tool *with_runs = (*tool)->with_runs;

            ret[count++] = with_runs && set & TOOLSET_RUNS ? with_runs : *tool;
            tool++;
        }
    }
    ret[count] = NULL;
}
