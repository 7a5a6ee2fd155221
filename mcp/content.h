#ifndef CELLBLOCK_MCP_CONTENT_H
#define CELLBLOCK_MCP_CONTENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/executor.h"

/*
 * What a run gives, on its way into a CallToolResult: collects the run's callbacks in bounded
 * memory and, at the end, puts the blocks of design section 3 in order (stdout, stderr, result,
 * display, error, note), each with its `cellblock/part` and `cellblock/seq`.
 *
 *   1. content_new
 *   2. content_output, content_display, content_note as they come
 *   3. content_finish once, with the outcome
 *   4. content_free
 *
 * Nothing that the code printed is taken at its word: bytes become valid UTF-8, images must be
 * images, every size and count has a cap, and what a cap took away is said in a note.
 */
enum {
    CONTENT_TEXT_LIMIT = 40 * 1000, /* bytes of all text parts of a result together */
    CONTENT_IMAGE_LIMIT =
        700 * 1000, /* bytes of base64 of all its images: a result stays under 1 MB */
    CONTENT_STREAM_LIMIT = 1024 * 1024,    /* of stdout and of stderr in structuredContent */
    CONTENT_RICH_LIMIT = 4 * 1024 * 1024,  /* of all rich_outputs in structuredContent */
    CONTENT_STORE_LIMIT = 8 * 1024 * 1024, /* of all displays while the run goes on */
    CONTENT_DISPLAYS = 64,                 /* displays that are kept */
    CONTENT_NOTES = 16,                    /* notes that are kept */
    CONTENT_LINKS = 32,                    /* links to artifacts */
    CONTENT_NOTE_LIMIT = 2000,             /* bytes of one of them */
};

struct content;

/* What the outcome of a run is told with. Strings are borrowed until content_finish returns. */
struct content_run {
    const char *session;     /* "s-…"; NULL: there is none, and none is named */
    const char *run;         /* "r-…" */
    const char *environment; /* its name */
    const char *backend;
    const char *hint;        /* a last note, about the session; NULL: none */
    const json_t *artifacts; /* links {uri, name, size, mimeType?} to files that it changed; NULL:
                              * none */
    uint64_t artifacts_left_out;
    bool files_kept;    /* files of the run can still be read by the next one */
    bool streams_apart; /* stdout and stderr are told elsewhere: they get no blocks */
};

/* `structured`: the result also has structuredContent, and no image blocks. NULL when out of
 * memory. */
struct content *content_new(bool structured);
void content_free(struct content *c);

/* How many bytes of the beginning of each stream can be of use, and how many of its end. */
size_t content_wanted(bool structured);

void content_output(struct content *c, enum stream stream, const char *bytes, size_t size);
/* So much of it was printed here and is not known (run_events.on_held). */
void content_held(struct content *c, enum stream stream, uint64_t bytes, uint64_t lines);
void content_display(struct content *c, const struct display *display);
void content_note(struct content *c, const char *text);

/* Did content_finish name the file of this stream's full output? Until content_free. */
bool content_named_full(const struct content *c, enum stream stream);

/* The CallToolResult. NULL when out of memory. */
json_t *content_finish(struct content *c, const struct content_run *run,
                       const struct outcome *outcome);

#endif
