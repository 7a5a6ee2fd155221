#ifndef CELLBLOCK_TEST_FAKE_EXECUTOR_H
#define CELLBLOCK_TEST_FAKE_EXECUTOR_H

#include <stdbool.h>

#include "backends/files.h"

/*
 * Executors without a sandbox, for tests of what is built upon backends/executor.h: linked in place
 * of executor.c and place.c, and bound by the same contract (nothing is called back before a
 * function returns, a run completes exactly once and last).
 *
 * The code of a run is its script, one step a line:
 *   out TEXT, err TEXT   prints TEXT and a line's end
 *   result TEXT          the value of the last expression
 *   note TEXT            a note
 *   waiting TEXT         what is waited for
 *   started              the clock runs
 *   fail TEXT            ends with an Exception(TEXT)
 *   hang                 goes on until it is cancelled
 *   idle TEXT            prints TEXT when the run is over
 *   request              prints language, stdin, env, limit and shares of the run
 */
struct fake_counts {
    int places_opened, places_closed;
    int executors, executors_closed;
    int runs, runs_done;
    int warmed;
};

/* One for all; a test starts with it zeroed. */
extern struct fake_counts fake_counts;

/* Operations on files: what was asked last, and what is answered: `error`, or `reply`, which is the
 * test's. Texts are kept until the next one. */
struct fake_files {
    bool there; /* else each is ERROR_UNSUPPORTED, and nothing is kept */
    int count;
    struct file_request asked; /* its texts and bytes are owned */
    enum error_kind error;     /* "no such luck" */
    struct file_reply reply;
};

/* One for all; a test starts with it zeroed, and ends with fake_files_clear. */
extern struct fake_files fake_files;
void fake_files_clear(void);

/* Backends by name: "broken" refuses to be opened, "plain" has no shares at all. A share whose dest
 * is /never is done, with an error, when it is cancelled, one at /refused is refused. */

#endif
