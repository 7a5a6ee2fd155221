#ifndef CELLBLOCK_MCP_CONFIG_H
#define CELLBLOCK_MCP_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "backends/base/error.h"
#include "backends/base/log.h"
#include "backends/environment.h"
#include "mcp/policy.h"

/*
 * What the owner of the machine has decided: the config file, then the command line over it.
 * Read-only once the loop runs.
 */
struct config {
    struct environment **environments; /* by name; at least one */
    size_t environment_count;
    struct environment *default_environment; /* one of them */
    char **share_roots;            /* absolute, resolved (realpath); NULL-terminated, never NULL */
    bool structured;               /* --structured */
    unsigned toolsets;             /* bits of mcp/toolsets.h; core is always on */
    double max_foreground_seconds; /* with the toolset runs: a call waits so long; 0: no limit */
    struct policy policy;          /* what tool arguments may ask for; zeroed: only to narrow */
    json_t *secrets;               /* the table of mcp/secrets.h; NULL: there are none */
    bool warm;                     /* --warm */
    enum log_level log_level;
};

/* Reads the file at `path` (NULL: $XDG_CONFIG_HOME/cellblock/config.json or ~/.config/…, which may
 * be absent) and checks it against schemas/config.schema.json. -1 with an ERROR_INVALID that names
 * file, field, what was given and the nearest right one. `config` must be zeroed. */
int config_load(struct config *config, const char *path, struct error *err);
void config_deinit(struct config *config);

/* NULL and an error that lists the names there are. */
struct environment *config_environment(const struct config *config, const char *name,
                                       struct error *err);

/* Resolves `dir` and appends it to share_roots. -1 with an error when it is no directory. */
int config_add_share_root(struct config *config, const char *dir, struct error *err);

#endif
