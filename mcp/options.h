#ifndef CELLBLOCK_MCP_OPTIONS_H
#define CELLBLOCK_MCP_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "backends/base/error.h"
#include "backends/environment.h"
#include "mcp/config.h"

/*
 * The command line. `--name value` and `--name=value` are the same, options and the file may come
 * in any order, and after `--` everything is a file. The caller
 *   1. parses (options_parse), and answers --help with options_help;
 *   2. loads the configuration from `config_path`;
 *   3. puts the command line over it (options_apply): what it says about an environment holds for
 *      the default one, which --environment chooses.
 */
enum command {
    COMMAND_SERVE,
    COMMAND_RUN,
    COMMAND_DOCTOR,
    COMMAND_BACKENDS,
    COMMAND_SESSIONS,
    COMMAND_ATTACH,
    COMMAND_LOGS,
    COMMAND_STOP,
    COMMAND_VERSION,
};

struct options {
    enum command command;
    bool help;
    bool json;
    bool kill;               /* of `stop` */
    const char *config_path; /* NULL: the default one. All texts are borrowed from argv */
    const char *environment;
    const char *backend;
    const char *python;
    bool has_mode, has_network, has_isolation, has_timeout, has_log_level;
    enum mode mode;
    const char *network;
    enum isolation isolation;
    double timeout_seconds;
    enum log_level log_level;
    bool structured;
    unsigned toolsets; /* to be added to those of the configuration */
    bool warm;
    const char **share_roots; /* with share_root_count texts */
    size_t share_root_count;
    const char **shares; /* of `run`: SRC:DEST[:rw] */
    size_t share_count;
    const char *file; /* of `run`: a path, or "-"; of `attach`, `logs`, `stop`: a session's id */
};

/* 0, or -1 with an error that names the argument, what is allowed and the nearest right one.
 * ERROR_UNSUPPORTED for a value that is known and not built. `options` must be zeroed;
 * options_deinit is due also after a failure. */
int options_parse(struct options *options, int argc, char *const *argv, struct error *err);
void options_deinit(struct options *options);

/* 0, or -1 with an error. */
int options_apply(const struct options *options, struct config *config, struct error *err);

/* What --help prints for this command; for serve, the default, the list of commands as well. */
void options_help(enum command command, FILE *out);
const char *command_name(enum command command);

/* "SRC:DEST[:rw]", DEST checked and in normal form: *ret_source and *ret_dest are to be freed. */
int options_split_share(const char *text, char **ret_source, char **ret_dest, bool *ret_read_only,
                        struct error *err);

#endif
