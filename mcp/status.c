#include <signal.h>
#include <stdio.h>

#include "mcp/cmd.h"

void complain(const struct error *err)
{
    fprintf(stderr, "cellblock: %s\n", err->message ? err->message : "something went wrong");
}

int error_status(const struct error *err)
{
    switch (err->kind) {
    case ERROR_INVALID:
    case ERROR_NOT_FOUND:
        return STATUS_USAGE;
    case ERROR_REFUSED:
    case ERROR_UNSUPPORTED:
        return STATUS_REFUSED;
    default:
        return STATUS_LOST;
    }
}

int outcome_status(const struct outcome *outcome, int signal)
{
    int code = outcome->exit_code & 0xff;

    switch (outcome->cause) {
    case CAUSE_OK:
        return STATUS_OK;
    case CAUSE_ERROR:
        return STATUS_FAILED;
    case CAUSE_EXIT: /* exit(256) is a failure too, and only eight bits are left of it */
        return code ? code : STATUS_FAILED;
    case CAUSE_TIMEOUT:
        return STATUS_TIMEOUT;
    case CAUSE_CANCELLED:
        return STATUS_BY_SIGNAL + (signal ? signal : SIGINT);
    case CAUSE_OUT_OF_MEMORY:
        return STATUS_BY_SIGNAL + SIGKILL;
    case CAUSE_KILLED:
        return STATUS_BY_SIGNAL + (outcome->signal ? outcome->signal : SIGKILL);
    case CAUSE_REFUSED:
    case CAUSE_UNSUPPORTED:
        return STATUS_REFUSED;
    case CAUSE_LOST:
        break;
    }
    return STATUS_LOST;
}
