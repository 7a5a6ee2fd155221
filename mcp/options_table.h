#ifndef CELLBLOCK_MCP_OPTIONS_TABLE_H
#define CELLBLOCK_MCP_OPTIONS_TABLE_H

#include "mcp/options.h"

/*
 * The table of options: one row each, in the order of --help, ended by a row without a name.
 * Parsing (options.c) and --help (options_help.c) both go by it.
 */
enum {
    FOR_SERVE = 1u << COMMAND_SERVE,
    FOR_RUN = 1u << COMMAND_RUN,
    FOR_DOCTOR = 1u << COMMAND_DOCTOR,
    FOR_BACKENDS = 1u << COMMAND_BACKENDS,
    FOR_SESSIONS = 1u << COMMAND_SESSIONS,
    FOR_STOP = 1u << COMMAND_STOP,
    FOR_LEFT = FOR_SESSIONS | 1u << COMMAND_ATTACH | 1u << COMMAND_STOP,
    FOR_SANDBOX = FOR_SERVE | FOR_RUN | FOR_DOCTOR | FOR_LEFT, /* how a sandbox is made */
    FOR_ALL = (1u << (COMMAND_VERSION + 1)) - 1,
};

struct option_row {
    const char *name;     /* "--mode" */
    const char *argument; /* "MODE"; NULL: a flag */
    unsigned commands;    /* that take it, FOR_… */
    /* `value` is NULL for a flag. -1 with an error that says what was given and what is allowed. */
    int (*take)(struct options *o, const char *value, struct error *err);
    const char *help; /* line breaks are kept */
};

extern const struct option_row option_rows[];

#endif
