#include "mcp/tools/run_page.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/text.h"

enum {
    PIECE =
        RUN_PAGE_TEXT, /* bytes that are looked at once: what follows in a stream is one block */
    LEAST = 64,        /* room that a further block must have */
    NOTE_LIMIT = 4 * 1000,
};

/* --- cursors --- */

/* Ties a cursor to its run, so that one that was made up or belongs to another is noticed. */
static uint32_t seal(const char *id, uint64_t offset)
{
    uint32_t hash = 2166136261u;

    for (; *id; id++) {
        hash = (hash ^ (unsigned char)*id) * 16777619u;
    }
    for (int i = 0; i < 8; i++, offset >>= 8) {
        hash = (hash ^ (unsigned char)offset) * 16777619u;
    }
    return hash;
}

void run_cursor_write(const struct run_view *view, uint64_t offset, char space[RUN_CURSOR_SIZE])
{
    snprintf(space, RUN_CURSOR_SIZE, "c%" PRIx64 "-%08" PRIx32, offset, seal(view->id, offset));
}

int run_cursor_parse(const struct run_view *view, const char *cursor, uint64_t *ret_offset,
                     struct error *err)
{
    char whole[RUN_CURSOR_SIZE];
    uint64_t offset;

    if (!cursor) {
        *ret_offset = 0;
        return 0;
    }
    offset = cursor[0] == 'c' ? strtoull(cursor + 1, NULL, 16) : 0;
    run_cursor_write(view, offset, whole);
    if (strcmp(whole, cursor) != 0 || !view->log || offset > view->log->end) {
        return error_set(err, ERROR_INVALID,
                         "cursor \"%.40s\" is not one of run \"%s\": pass the one that its last "
                         "poll_run gave, or none to begin at the beginning",
                         cursor, view->id);
    }
    *ret_offset = offset;
    return 0;
}

/* --- output --- */

/* Without the bytes at the end that are the beginning of a character. */
static size_t whole_characters(const char *bytes, size_t size)
{
    for (size_t back = 1; back <= 3 && back <= size; back++) {
        unsigned char c = (unsigned char)bytes[size - back];
        size_t length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

        if ((c & 0xc0) != 0x80) {
            return length > back ? size - back : size;
        }
    }
    return size;
}

/* The part of a piece that has room in `limit`, up to a line's end if one is near. */
static size_t fitting(const char *bytes, size_t size, size_t limit)
{
    struct text text = text_of(bytes, size);
    const char *line;

    if (text_cost(&text) <= limit) {
        return size;
    }
    while (text_cost(&text) > limit) {
        size -= size / 8 + 1;
        text = text_of(bytes, size);
    }
    line = memrchr(bytes, '\n', size);
    return line && (size_t)(line + 1 - bytes) > size / 2 ? (size_t)(line + 1 - bytes) : size;
}

static int append_block(json_t *blocks, const char *part, json_t *text_owned)
{
    return json_array_append_new(blocks, json_pack("{ss so s{ss}}", "type", "text", "text",
                                                   text_owned, "_meta", "cellblock/part", part));
}

/* How much of the `size` bytes at `offset` goes into the next block: all, or what has room; a
 * character whose end has not come yet waits for it. */
static size_t take(const struct run_view *view, uint64_t offset, const char *bytes, size_t size,
                   size_t limit)
{
    size_t taken = fitting(bytes, size, limit);
    bool at_end = offset + size == view->log->end;

    if (taken == size && (at_end ? view->state == RUN_DONE : size < PIECE)) {
        return size; /* what is no character here will not become one */
    }
    return whole_characters(bytes, taken);
}

/* Appends the blocks of output and moves *offset past them. */
static void add_output(const struct run_view *view, json_t *blocks, uint64_t *offset)
{
    size_t room = RUN_PAGE_TEXT, size, taken;
    char *bytes = malloc(PIECE);
    enum stream stream;
    bool cut = false;

    while (bytes && room >= LEAST && json_array_size(blocks) < RUN_PAGE_BLOCKS) {
        struct text text;

        size = run_log_read(view->log, *offset, bytes, PIECE, &stream);
        taken = size > 0 ? take(view, *offset, bytes, size, room) : 0;
        if (taken == 0) {
            break;
        }
        text = text_of(bytes, taken);
        append_block(blocks, stream == STREAM_STDOUT ? "stdout" : "stderr",
                     text_render(&text, (size_t)8 * PIECE, TEXT_TAIL_HALF, &cut));
        room -= text_cost(&text) < room ? text_cost(&text) : room;
        *offset += taken;
    }
    free(bytes);
}

bool run_page_has_output(const struct run_view *view, uint64_t offset)
{
    enum stream stream;
    char bytes[8];
    size_t size;

    if (!view->log) {
        return false;
    }
    offset = offset < view->log->begin ? view->log->begin : offset;
    size = run_log_read(view->log, offset, bytes, sizeof(bytes), &stream);
    return size > 0 && take(view, offset, bytes, size, SIZE_MAX - 1) > 0;
}

/* --- notes --- */

static void add_note(json_t *blocks, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add_note(json_t *blocks, const char *format, ...)
{
    va_list args;
    char *text;
    int n;

    va_start(args, format);
    n = vasprintf(&text, format, args);
    va_end(args);
    if (n >= 0) {
        append_block(blocks, "note", text_json(text, NOTE_LIMIT));
        free(text);
    }
}

static void note_dropped(const struct run_view *view, json_t *blocks, uint64_t dropped)
{
    char number[28];

    add_note(blocks,
             "%s bytes of output before this are not here any more: the newest %d MiB of a run "
             "are kept%s.",
             text_number(dropped, number), RUN_LOG_CAP / (1024 * 1024),
             view->ephemeral ? ""
                             : "; all of it is in the session's files "
                               "(/workspace/.cellblock) up to a cap");
}

static void say_state(const struct run_view *view, char *text, size_t room)
{
    const char *what = view->waiting_for;
    char space[32];

    run_seconds(view->seconds, space);
    if (view->state == RUN_DONE) {
        snprintf(text, room, "Run %s has ended (%s) after %s.", view->id, cause_name(view->cause),
                 space);
    } else if (view->state == RUN_RUNNING) {
        snprintf(text, room, "Run %s has been running for %s.", view->id, space);
    } else {
        snprintf(text, room, "Run %s has been waiting for %s%s%.100s.", view->id, space,
                 what ? ": " : "", what ? what : "");
    }
}

/* How to go on. */
static void note_next(const struct run_page *page, json_t *blocks, const char *cursor, bool more)
{
    const struct run_view *view = page->view;
    char state[200];

    say_state(view, state, sizeof(state));
    if (view->state == RUN_DONE && !more) {
        add_note(blocks, "%s", state);
        return;
    }
    add_note(blocks, "%s Go on with poll_run, \"run\": \"%s\", \"cursor\": \"%s\"%s.",
             page->lead ? page->lead : state, view->id, cursor,
             more ? ": more output is there" : "; cancel_run ends it");
}

/* --- the result --- */

static json_t *run_fields(const struct run_view *view, const char *cursor, uint64_t dropped,
                          bool more)
{
    return json_pack("{ss ss ss sb sI sI}", "run", view->id, "state", run_state_name(view->state),
                     "cursor", cursor, "more", more, "dropped_bytes", (json_int_t)dropped,
                     "elapsed_ms", (json_int_t)(view->seconds * 1000));
}

/* What was printed to one stream, of this page. */
static json_t *joined(const json_t *blocks, const char *part)
{
    size_t index, size = 0;
    json_t *block, *text;
    char *all = NULL, *grown;

    json_array_foreach(blocks, index, block)
    {
        const json_t *name = json_object_get(json_object_get(block, "_meta"), "cellblock/part");

        text = json_object_get(block, "text");
        if (strcmp(json_string_value(name), part) != 0 ||
            !(grown = realloc(all, size + json_string_length(text) + 1))) {
            continue;
        }
        all = grown;
        memcpy(all + size, json_string_value(text), json_string_length(text));
        size += json_string_length(text);
    }
    text = json_stringn(all ? all : "", size);
    free(all);
    return text;
}

static json_t *structured_so_far(const struct run_view *view, const json_t *blocks)
{
    return json_pack("{ss ss ss ss ss so so}", "session", view->session, "run", view->id,
                     "environment", view->environment, "backend", view->backend, "state",
                     run_state_name(view->state), "stdout", joined(blocks, "stdout"), "stderr",
                     joined(blocks, "stderr"));
}

/* Adds what the run gave in the end. Copies: a result is changed to fit the client's revision. */
static void add_end(const struct run_view *view, json_t *result, json_t *blocks)
{
    json_t *content = json_deep_copy(json_object_get(view->result, "content"));
    json_t *meta = json_object_get(view->result, "_meta");

    json_array_extend(blocks, content);
    json_decref(content);
    json_object_set(result, "isError", json_object_get(view->result, "isError"));
    json_object_set(json_object_get(result, "_meta"), "cellblock/outcome",
                    json_object_get(meta, "cellblock/outcome"));
    if (json_object_get(view->result, "structuredContent")) {
        json_object_set(result, "structuredContent",
                        json_object_get(view->result, "structuredContent"));
    }
}

json_t *run_page_result(const struct run_page *page)
{
    const struct run_view *view = page->view;
    uint64_t begin = view->log ? view->log->begin : 0, offset = page->offset;
    uint64_t dropped = offset < begin ? begin - offset : 0;
    char cursor[RUN_CURSOR_SIZE];
    json_t *blocks = json_array(), *result;
    bool more;

    offset += dropped;
    if (view->log) {
        add_output(view, blocks, &offset);
    }
    run_cursor_write(view, offset, cursor);
    more = run_page_has_output(view, offset);
    result =
        json_pack("{sO sb s{ss so}}", "content", blocks, "isError", 0, "_meta", "cellblock/session",
                  view->session, "cellblock/run", run_fields(view, cursor, dropped, more));
    if (result && page->structured && view->state != RUN_DONE) {
        json_object_set_new(result, "structuredContent", structured_so_far(view, blocks));
    }
    if (result && view->state == RUN_DONE && !more) {
        add_end(view, result, blocks);
    }
    if (dropped > 0) {
        note_dropped(view, blocks, dropped);
    }
    note_next(page, blocks, cursor, more);
    if (page->hint) {
        add_note(blocks, "%s", page->hint);
    }
    json_decref(blocks);
    return result;
}
