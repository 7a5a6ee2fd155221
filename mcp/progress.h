#ifndef CELLBLOCK_MCP_PROGRESS_H
#define CELLBLOCK_MCP_PROGRESS_H

#include <jansson.h>
#include <uv.h>

/*
 * One call's progress: lets the first text through at once and then at most one in
 * PROGRESS_INTERVAL_MS, the newest winning.
 */
enum {
    PROGRESS_INTERVAL_MS = 50,
    PROGRESS_TEXT_CAP = 1024, /* bytes of the newest whole lines that are sent */
};

struct progress;

/* `send` is given 1, 2, 3, … and a JSON string, which it takes. NULL when out of memory. */
struct progress *progress_new(uv_loop_t *loop,
                              void (*send)(void *data, unsigned number, json_t *text_owned),
                              void *data);
void progress_update(struct progress *p, const char *text);
/* Nothing is sent any more; frees itself. NULL is fine. */
void progress_close(struct progress *p);

/* The newest whole lines of `text`, PROGRESS_TEXT_CAP bytes at most, as a JSON string. */
json_t *progress_tail(const char *text);

#endif
