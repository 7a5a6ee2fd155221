#ifndef CELLBLOCK_MCP_DOCTOR_H
#define CELLBLOCK_MCP_DOCTOR_H

#include <jansson.h>
#include <stdbool.h>

/*
 * What `cellblock doctor` has found: a list of checks, in the order they were made.
 */
enum check_state {
    CHECK_OK,      /* it works */
    CHECK_MISSING, /* it does not, and the environment that was asked for goes without it */
    CHECK_FAILED,  /* it does not, and nothing goes without it */
};

struct report {
    json_t *checks; /* array of {name, state, detail, fix: string or null} */
    bool works;     /* no check has failed */
};

void report_init(struct report *report);
void report_deinit(struct report *report);

/* `fix` is the command or the sentence that mends it; NULL when there is nothing to mend. */
void report_add(struct report *report, const char *name, enum check_state state, const char *fix,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
