#ifndef CELLBLOCK_MCP_TOOLS_RUN_PAGE_H
#define CELLBLOCK_MCP_TOOLS_RUN_PAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "mcp/run_record.h"

/*
 * What a run has given from a cursor on, as the result of a call: parts stdout and stderr in the
 * order of their arrival; when the run is done and all of that is told, its result, displays,
 * error, notes and outcome as run_code gives them; and a note on how to go on. Bounded: a page ends
 * when it is full, and the next one begins there.
 */
enum {
    RUN_PAGE_TEXT = 36 * 1000, /* bytes of output */
    RUN_PAGE_BLOCKS = 64,      /* blocks of output */
    RUN_CURSOR_SIZE = 40,
};

struct run_page {
    const struct run_view *view;
    uint64_t offset;  /* in the run's log */
    const char *lead; /* what the note says first; NULL: the state of the run */
    const char *hint; /* a note of its own; NULL: none */
    bool structured;  /* the answer of a tool whose outputSchema is there: structuredContent also
                       * while the run goes on */
};

/* The CallToolResult. NULL when out of memory. */
json_t *run_page_result(const struct run_page *page);

/* Would the page have output? */
bool run_page_has_output(const struct run_view *view, uint64_t offset);

/* A cursor is opaque and the run's own. The parser answers 0 or -1 with an error; NULL is the
 * beginning. */
void run_cursor_write(const struct run_view *view, uint64_t offset, char space[RUN_CURSOR_SIZE]);
int run_cursor_parse(const struct run_view *view, const char *cursor, uint64_t *ret_offset,
                     struct error *err);

#endif
