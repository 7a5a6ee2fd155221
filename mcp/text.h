#ifndef CELLBLOCK_MCP_TEXT_H
#define CELLBLOCK_MCP_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Text of unknown origin on its way into a result: made valid UTF-8 (a bad byte sequence becomes
 * one U+FFFD, as the WHATWG decoder does; NUL and the other control characters stay) and cut in the
 * middle when it is too long, on a line boundary where one is near and always on a character
 * boundary.
 */

/* A text, or what is left of it: `head`, then a gap that was not kept, then `tail`. Borrowed.
 * Without a gap `tail` is empty. */
struct text {
    const char *head;
    size_t head_size;
    const char *tail;
    size_t tail_size;
    uint64_t gap_bytes;
    uint64_t gap_lines; /* line ends in the gap */
};

enum {
    TEXT_TAIL_HALF = 50,  /* a cut text keeps as much of its end as of its beginning */
    TEXT_TAIL_MOST = 75,  /* … for tracebacks, whose end matters most */
    TEXT_MARK_ROOM = 128, /* the mark that replaces the middle is shorter than this */
};

struct text text_of(const char *bytes, size_t size);

/* How many bytes it takes in a result: a bad byte counts as U+FFFD, a control character as its
 * \u00XX. A text with a gap is more than any limit: SIZE_MAX. */
size_t text_cost(const struct text *t);

/* A JSON string that costs at most `limit` (and TEXT_MARK_ROOM when it is cut; `tail_percent` of it
 * is then the text's end). *ret_cut is set to true when something is missing, else untouched. NULL
 * when out of memory. */
json_t *text_render(const struct text *t, size_t limit, unsigned tail_percent, bool *ret_cut);

/* The same for a C string. */
json_t *text_json(const char *string, size_t limit);

/* The beginning of `bytes` that is whole characters of UTF-8 and costs at most `limit`. */
struct text_prefix {
    size_t size;  /* bytes of it */
    bool invalid; /* what follows is no character */
    bool cut;     /* what follows is the beginning of one, and then `bytes` ends */
};
struct text_prefix text_prefix(const char *bytes, size_t size, size_t limit);

/* The size of the character that p[0 … n) begins with, n > 0; 0 when that is none. */
size_t text_character(const char *p, size_t n);

/* "12,345,678": a number as people read it. */
const char *text_number(uint64_t n, char space[28]);

/*
 * A stream of text of any length, in bounded memory: the first `half` bytes and at least the last
 * `half` (up to twice that while it runs); what lies between is counted.
 */
struct capture {
    size_t half;
    char *head;
    size_t head_size, head_room;
    char *tail;
    size_t tail_size, tail_room;
    uint64_t total;
    uint64_t gap_lines;
};

void capture_init(struct capture *c, size_t half);
void capture_deinit(struct capture *c);
/* Never fails: what finds no memory is counted as the gap. */
void capture_append(struct capture *c, const char *bytes, size_t size);
/* So many bytes with so many line ends were printed here and are not known: they are in the gap,
 * and what follows is the tail. */
void capture_skip(struct capture *c, uint64_t bytes, uint64_t lines);
/* Forgets everything that was appended. */
void capture_clear(struct capture *c);
/* What is there; borrowed until the next append, clear or deinit. */
struct text capture_text(struct capture *c);

#endif
