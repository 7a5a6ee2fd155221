#ifndef CELLBLOCK_MCP_MASK_H
#define CELLBLOCK_MCP_MASK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Takes secret values out of what the server says: each occurrence becomes "[secret NAME]". It is a
 * guard against accidents. Code that wants to tell a value can: in pieces, backwards, encoded.
 *
 * A value is looked for as it is, and as Python's repr and JSON write it. One automaton
 * (Aho-Corasick) finds all of them in one pass: the time is linear in the text, whatever was
 * printed. What overlaps is one mark, with the name of one of them.
 *
 * A mask does not change, and is shared by counting.
 */
enum {
    MASK_VALUE_MIN = 6, /* bytes; shorter ones would tear up ordinary text */
    MASK_VALUE_CAP = 8192,
};

struct mask;

/* What is to be found: `count` values (UTF-8 without NUL, MASK_VALUE_MIN to MASK_VALUE_CAP bytes)
 * with the names to put in their places. Copied. NULL when out of memory. */
struct mask_value {
    const char *name;
    const char *value;
};
struct mask *mask_new(const struct mask_value *values, size_t count);
/* NULL gives NULL. */
struct mask *mask_ref(struct mask *mask);
/* With the last reference all that it knows is wiped. NULL is allowed. */
void mask_unref(struct mask *mask);

/* --- a stream, in pieces --- */

/* An interval of the stream that holds a value. */
struct mask_span {
    uint64_t begin, end;
    const char *name;
    size_t longest;
};

struct mask_stream {
    struct mask *mask; /* NULL: all passes */
    uint32_t state;
    uint64_t at;    /* bytes that came */
    uint64_t told;  /* bytes that were emitted, or replaced */
    uint64_t until; /* bytes before this belong to a value whose mark was emitted */
    char *held;     /* the bytes from `told` on: they may be the beginning of a value */
    size_t held_size, held_room;
    struct mask_span *spans; /* found in what is held, in order */
    size_t span_count, span_room;
};

typedef void (*mask_emit)(void *data, const char *bytes, size_t size);

/* Takes a reference of the mask, which may be NULL. */
void mask_stream_init(struct mask_stream *s, struct mask *mask);
void mask_stream_deinit(struct mask_stream *s);

/* Emits what is certain; what may be the beginning of a value, less than the longest of them, waits
 * for more. Pieces may end anywhere. What finds no memory is dropped, never emitted unmasked. */
void mask_stream_write(struct mask_stream *s, const char *bytes, size_t size, mask_emit emit,
                       void *data);
/* The stream has ended: emits what waits. It may go on afterwards, as a new one. */
void mask_stream_flush(struct mask_stream *s, mask_emit emit, void *data);

/* --- what is whole --- */

/* The text with marks, to be freed; NULL when there is nothing to mask. Without memory the
 * process ends: no answer is better than one that shows them. */
char *mask_text(struct mask *mask, const char *text, size_t size, size_t *ret_size);

/* How many bytes at the end may be the beginning of a value that goes on. */
size_t mask_open_end(const struct mask *mask, const char *text, size_t size);

/* The value with every text in it masked, keys of objects too with `keys`; the data of images,
 * which is base64, is left as it is. A new reference, of the same value when nothing was found.
 * NULL when out of memory. */
json_t *mask_json(struct mask *mask, json_t *value, bool keys);

#endif
