#ifndef CELLBLOCK_MCP_CMD_H
#define CELLBLOCK_MCP_CMD_H

#include "backends/outcome.h"
#include "mcp/config.h"
#include "mcp/options.h"

/*
 * The subcommands, each in a file of its own. They answer with the exit status of the process, and
 * have said on stderr what went wrong.
 */
enum exit_status {
    STATUS_OK = 0,
    STATUS_FAILED = 1,      /* doctor: the default configuration does not work; run: an exception */
    STATUS_USAGE = 2,       /* the command line, the config file, a file that cannot be read */
    STATUS_REFUSED = 3,     /* policy, or the backend lacks what was asked */
    STATUS_LOST = 4,        /* the sandbox could not be started, or went away */
    STATUS_TIMEOUT = 124,   /* as timeout(1) */
    STATUS_BY_SIGNAL = 128, /* plus the signal's number, as the shell does */
};

int cmd_serve(const struct config *config);
int cmd_run(const struct options *options, const struct config *config);
int cmd_doctor(const struct options *options, const struct config *config);
int cmd_backends(const struct options *options);
int cmd_sessions(const struct options *options, const struct config *config);
int cmd_attach(const struct options *options, const struct config *config);
int cmd_logs(const struct options *options);
int cmd_stop(const struct options *options, const struct config *config);

/* The status that `cellblock run` ends with. `signal`: the one that made us cancel it, or 0. */
int outcome_status(const struct outcome *outcome, int signal);
/* The same for what failed before there was an outcome. */
int error_status(const struct error *err);

/* "cellblock: message" on stderr. */
void complain(const struct error *err);

#endif
