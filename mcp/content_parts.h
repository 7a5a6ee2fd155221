#ifndef CELLBLOCK_MCP_CONTENT_PARTS_H
#define CELLBLOCK_MCP_CONTENT_PARTS_H

#include "mcp/content.h"
#include "mcp/text.h"

/*
 * What content.c has collected, for the two files that make a result of it: content_blocks.c
 * (content) and content_structured.c (structuredContent). Nobody else includes this.
 */
struct content_item {
    enum display_kind kind; /* DISPLAY_RESULT or DISPLAY_DATA */
    unsigned seq;
    json_t *data;
    json_t *metadata;
    char *display_id; /* NULL when it has none */
    size_t size;      /* about, in bytes; counted against CONTENT_STORE_LIMIT */
};

struct content_note {
    unsigned seq;
    json_t *text;
};

struct content {
    bool structured;
    bool clear_pending;        /* clear_output(wait=True) was called: when the next output comes */
    bool truncated;            /* something is missing in the result */
    unsigned seq;              /* the last number given */
    struct capture streams[2]; /* by enum stream */
    unsigned stream_seq[2];    /* 0: nothing came yet */
    bool stream_cut[2];
    bool full_named[2]; /* the file of its full output is in a note */
    struct content_item items[CONTENT_DISPLAYS];
    unsigned item_count;
    unsigned items_dropped; /* past CONTENT_DISPLAYS */
    size_t stored;          /* bytes of all items */
    struct content_note notes[CONTENT_NOTES];
    unsigned note_count;
    unsigned notes_dropped;
};

/* A note from the server itself. */
void content_say(struct content *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The content array without its notes. NULL when out of memory. */
json_t *content_blocks(struct content *c, const struct content_run *run,
                       const struct outcome *outcome);
/* Appends the notes to it. -ENOMEM. */
int content_add_notes(const struct content *c, json_t *blocks);

/* What structuredContent has beside the outcome's fields and the notes. NULL when out of memory. */
json_t *content_structured(struct content *c, const struct content_run *run,
                           const struct outcome *outcome);
/* … and those, when all of them are known. -ENOMEM. */
int content_structured_end(const struct content *c, json_t *structured,
                           const json_t *outcome_fields);

#endif
