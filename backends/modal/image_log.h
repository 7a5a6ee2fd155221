#ifndef CELLBLOCK_MODAL_IMAGE_LOG_H
#define CELLBLOCK_MODAL_IMAGE_LOG_H

#include <stdbool.h>
#include <stddef.h>

/* What a build says: its newest line, and the last ones for a failure's message. Everything is cut
 * to a size, and holds no control characters. A zeroed one is empty. */
enum {
    IMAGE_LINE_CAP = 200,
    IMAGE_LINES = 15,
};

struct image_log {
    char line[IMAGE_LINE_CAP]; /* that is being written */
    size_t have;               /* bytes of it */
    char last[IMAGE_LINES][IMAGE_LINE_CAP];
    unsigned long lines; /* so many came */
};

/* Pieces of lines, as they come. True: a line was ended. */
bool image_log_take(struct image_log *log, const char *text);
/* Ends what has no line's end. */
void image_log_end(struct image_log *log);
/* "" before the first. */
const char *image_log_newest(const struct image_log *log);
/* "REASON. The last lines of its log:\n…"; to be freed, NULL when out of memory. */
char *image_log_failure(const struct image_log *log, const char *reason);

#endif
