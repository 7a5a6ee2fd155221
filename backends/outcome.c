#include "backends/outcome.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const cause_names[] = {
    [CAUSE_OK] = "ok",
    [CAUSE_ERROR] = "error",
    [CAUSE_EXIT] = "exit",
    [CAUSE_TIMEOUT] = "timeout",
    [CAUSE_CANCELLED] = "cancelled",
    [CAUSE_OUT_OF_MEMORY] = "out_of_memory",
    [CAUSE_KILLED] = "killed",
    [CAUSE_LOST] = "lost",
    [CAUSE_REFUSED] = "refused",
    [CAUSE_UNSUPPORTED] = "unsupported",
};

const char *cause_name(enum cause cause)
{
    return cause_names[cause];
}

enum cause cause_of_error(enum error_kind kind)
{
    switch (kind) {
    case ERROR_INVALID:
    case ERROR_NOT_FOUND:
    case ERROR_REFUSED:
    case ERROR_LIMIT:
        return CAUSE_REFUSED;
    case ERROR_UNSUPPORTED:
        return CAUSE_UNSUPPORTED;
    default:
        return CAUSE_LOST;
    }
}

const char *signal_name(int number, char space[16])
{
    const char *short_name = sigabbrev_np(number);

    if (short_name) {
        (void)snprintf(space, 16, "SIG%s", short_name);
    } else {
        (void)snprintf(space, 16, "SIG%d", number);
    }
    return space;
}

void outcome_init(struct outcome *o)
{
    *o = (struct outcome){.cause = CAUSE_OK};
}

void outcome_deinit(struct outcome *o)
{
    free(o->error.etype);
    free(o->error.evalue);
    free(o->error.traceback);
    free(o->note);
    free(o->full[STREAM_STDOUT].path);
    free(o->full[STREAM_STDERR].path);
    changed_deinit(&o->changed);
    free(o->snapshot);
    outcome_init(o);
}
