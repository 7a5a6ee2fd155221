#ifndef CELLBLOCK_CHANGED_H
#define CELLBLOCK_CHANGED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Which files of the workspace a run made or changed. The far side compares what is there before
 * and after each run (worker/cellblock_worker/changes.py) and says it with the run's end:
 *
 *     {"files": [[path, size, mtime_ns, image], …], "more": int, "partial": true}
 *
 * Of a run whose worker was ended, where the files outlive it, the supervisor says the same with
 * the worker's end; it has not seen what was there before, and goes by the times of the files.
 *
 * The newest first; `more` counts those that are not named, `partial` says that the workspace is
 * too big to be looked through. All of it comes from where the code ran and is taken for what the
 * code says: a path is a name to be shown and one to ask the sandbox for, through the file contract
 * (files.h) alone, and never one of this machine's.
 */
enum {
    CHANGED_CAP = 64,           /* files that are named */
    CHANGED_PATH_CAP = 1024,    /* bytes of a path */
    CHANGED_MORE_CAP = 1000000, /* a higher count is not believed */
};

struct changed_file {
    char *path; /* from the workspace on ("out/a.csv"): UTF-8, no empty part, no "." and "..". May
                 * hold control characters */
    uint64_t size;
    int64_t mtime_ns;
    bool image; /* its first bytes are said to be those of an image */
};

struct changed {
    struct changed_file *files;
    unsigned count;
    uint64_t more;
    bool partial;
};

/* Takes what can be used of `said` (NULL, or any JSON); what is malformed is as if it had not been
 * said, but counts. `ret` is empty before. */
void changed_parse(const json_t *said, struct changed *ret);
void changed_deinit(struct changed *changed);

#endif
