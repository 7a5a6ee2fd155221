#ifndef CELLBLOCK_DOCKER_BUILD_LOG_H
#define CELLBLOCK_DOCKER_BUILD_LOG_H

#include <jansson.h>
#include <stddef.h>

/*
 * What the engine says while it builds an image: which step it is at, the newest line, the last
 * lines for a failure's message, and the failure. Everything is cut to a size, and holds no control
 * characters.
 */
enum {
    BUILD_LINE_CAP = 200,
    BUILD_LINES = 15,
    BUILD_ERROR_CAP = 600,
};

struct build_log {
    unsigned step, steps;      /* 0 before the first */
    char name[BUILD_LINE_CAP]; /* of the step */
    char line[BUILD_LINE_CAP]; /* that is being written */
    size_t have;               /* bytes of it */
    char last[BUILD_LINES][BUILD_LINE_CAP];
    unsigned lines;              /* so many came */
    char error[BUILD_ERROR_CAP]; /* "" until it has failed */
};

/* One value of the engine's stream. */
void build_log_take(struct build_log *log, json_t *value);
/* "step 3/9: pip install …: Collecting six" */
void build_log_progress(const struct build_log *log, char *space, size_t size);
/* "…: the command '…' returned 1 (step 3/9: …). The last lines of its log:\n…"; to be freed. */
char *build_log_failure(const struct build_log *log, const char *otherwise);

#endif
