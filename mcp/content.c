#include "mcp/content.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/content_parts.h"
#include "mcp/mime.h"

enum {
    PLAIN_KEPT = 64 * 1024,  /* bytes of text/plain that are kept of a display that is too big */
    EVALUE_LIMIT = 4 * 1000, /* bytes of error.evalue in the outcome's fields */
};

/* --- collecting --- */

size_t content_wanted(bool structured)
{
    return structured ? CONTENT_STREAM_LIMIT / 2 : CONTENT_TEXT_LIMIT / 2;
}

struct content *content_new(bool structured)
{
    struct content *c = calloc(1, sizeof(*c));
    size_t half = content_wanted(structured);

    if (!c) {
        return NULL;
    }
    c->structured = structured;
    capture_init(&c->streams[STREAM_STDOUT], half);
    capture_init(&c->streams[STREAM_STDERR], half);
    return c;
}

static void item_deinit(struct content_item *item)
{
    json_decref(item->data);
    json_decref(item->metadata);
    free(item->display_id);
}

static void drop_items(struct content *c)
{
    for (unsigned i = 0; i < c->item_count; i++) {
        item_deinit(&c->items[i]);
    }
    c->item_count = c->items_dropped = 0;
    c->stored = 0;
}

void content_free(struct content *c)
{
    if (!c) {
        return;
    }
    drop_items(c);
    capture_deinit(&c->streams[STREAM_STDOUT]);
    capture_deinit(&c->streams[STREAM_STDERR]);
    for (unsigned i = 0; i < c->note_count; i++) {
        json_decref(c->notes[i].text);
    }
    free(c);
}

/* What clear_output() takes away: text and displays, not notes. */
static void clear(struct content *c)
{
    drop_items(c);
    for (int i = 0; i < 2; i++) {
        capture_clear(&c->streams[i]);
        c->stream_seq[i] = 0;
    }
    c->clear_pending = false;
}

static void before_output(struct content *c)
{
    if (c->clear_pending) {
        clear(c);
    }
}

void content_output(struct content *c, enum stream stream, const char *bytes, size_t size)
{
    if (size == 0) {
        return;
    }
    before_output(c);
    if (c->stream_seq[stream] == 0) {
        c->stream_seq[stream] = ++c->seq;
    }
    capture_append(&c->streams[stream], bytes, size);
}

void content_held(struct content *c, enum stream stream, uint64_t bytes, uint64_t lines)
{
    before_output(c);
    if (c->stream_seq[stream] == 0) {
        c->stream_seq[stream] = ++c->seq;
    }
    capture_skip(&c->streams[stream], bytes, lines);
}

void content_note(struct content *c, const char *text)
{
    json_t *string;

    if (c->note_count == CONTENT_NOTES) {
        c->notes_dropped++;
        return;
    }
    string = text_json(text, CONTENT_NOTE_LIMIT);
    if (string) {
        c->notes[c->note_count++] = (struct content_note){++c->seq, string};
    }
}

void content_say(struct content *c, const char *format, ...)
{
    char text[CONTENT_NOTE_LIMIT];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    content_note(c, text);
}

/* What is kept of a bundle that finds no room: its plain text, if that is short. */
static json_t *plain_only(struct content *c, const json_t *data, size_t size)
{
    json_t *plain = json_object_get(data, "text/plain"), *kept = json_object();
    char number[28];

    c->truncated = true;
    content_say(c, "A display of %s bytes was left out: too much rich output for one result.",
                text_number(size, number));
    if (kept && json_is_string(plain) && json_string_length(plain) <= PLAIN_KEPT) {
        json_object_set(kept, "text/plain", plain);
    }
    return kept;
}

/* Gives the item its data, within the room there is; what it had before is given back. */
static void item_fill(struct content *c, struct content_item *item, const struct display *d)
{
    size_t size = mime_size(d->data) + mime_size(d->metadata);
    json_t *data, *metadata;

    c->stored -= item->size;
    if (c->stored + size > CONTENT_STORE_LIMIT) {
        data = plain_only(c, d->data, size);
        metadata = json_object();
        size = mime_size(data);
    } else {
        data = json_incref(d->data);
        metadata = d->metadata ? json_incref(d->metadata) : json_object();
    }
    json_decref(item->data);
    json_decref(item->metadata);
    item->data = data;
    item->metadata = metadata;
    item->size = size;
    c->stored += size;
}

static void append_item(struct content *c, const struct display *d)
{
    bool result = d->kind == DISPLAY_RESULT;
    struct content_item *item;

    before_output(c);
    if (c->item_count == CONTENT_DISPLAYS) {
        c->items_dropped++;
        return;
    }
    item = &c->items[c->item_count++];
    *item = (struct content_item){.kind = result ? DISPLAY_RESULT : DISPLAY_DATA, .seq = ++c->seq};
    item->display_id = d->display_id ? strdup(d->display_id) : NULL;
    item_fill(c, item, d);
}

/* An update of a display that an earlier run made has no place here, and is shown as a new one. */
static void update_items(struct content *c, const struct display *d)
{
    bool found = false;

    for (unsigned i = 0; i < c->item_count && d->display_id; i++) {
        struct content_item *item = &c->items[i];

        if (item->display_id && strcmp(item->display_id, d->display_id) == 0) {
            item_fill(c, item, d);
            found = true;
        }
    }
    if (!found) {
        append_item(c, d);
    }
}

void content_display(struct content *c, const struct display *display)
{
    switch (display->kind) {
    case DISPLAY_CLEAR:
        if (display->wait) {
            c->clear_pending = true;
        } else {
            clear(c);
        }
        break;
    case DISPLAY_UPDATE:
        update_items(c, display);
        break;
    case DISPLAY_RESULT:
    case DISPLAY_DATA:
        append_item(c, display);
        break;
    }
}

/* --- finishing --- */

static int set_text(json_t *object, const char *key, const char *text)
{
    return json_object_set_new(object, key, text_json(text ? text : "", EVALUE_LIMIT));
}

static int set_error(json_t *object, const struct run_error *error)
{
    json_t *fields = json_object();

    if (!fields || set_text(fields, "etype", error->etype) < 0 ||
        set_text(fields, "evalue", error->evalue) < 0) {
        json_decref(fields);
        return -1;
    }
    return json_object_set_new(object, "error", fields);
}

static int set_how(json_t *object, const struct outcome *o)
{
    char space[16];
    int r = 0;

    if (o->has_exit_code) {
        r |= json_object_set_new(object, "exit_code", json_integer(o->exit_code));
    }
    if (o->signal) {
        r |= json_object_set_new(object, "signal", json_string(signal_name(o->signal, space)));
    }
    if (o->error.etype) {
        r |= set_error(object, &o->error);
    }
    return r;
}

/* The fields of `cellblock/outcome`. */
static json_t *outcome_fields(const struct content *c, const struct content_run *run,
                              const struct outcome *o)
{
    json_t *fields =
        json_pack("{ss* ss ss ss ss sb sb si sI sI sI}", "session", run->session, "run", run->run,
                  "environment", run->environment, "backend", run->backend, "cause",
                  cause_name(o->cause), "success", o->cause == CAUSE_OK, "truncated", c->truncated,
                  "execution_count", o->execution_count, "duration_ms", (json_int_t)o->duration_ms,
                  "cpu_ms", (json_int_t)o->cpu_ms, "peak_rss_kib", (json_int_t)o->peak_rss_kib);

    if (fields && set_how(fields, o) != 0) {
        json_decref(fields);
        return NULL;
    }
    return fields;
}

/* Of a stream that is told elsewhere: where the whole of it is, when it is long. */
static void say_apart(struct content *c, const struct content_run *run, const struct outcome *o,
                      enum stream stream)
{
    const struct full_output *full = &o->full[stream];
    char kept[28];

    if (full->path && run->files_kept && !o->files_lost && full->total > CONTENT_TEXT_LIMIT) {
        c->full_named[stream] = true;
        content_say(c, "%s of %s (%s bytes) is in %s.",
                    full->kept < full->total ? "The beginning" : "All",
                    stream == STREAM_STDOUT ? "stdout" : "stderr", text_number(full->kept, kept),
                    full->path);
    }
}

static void say_full(struct content *c, const struct content_run *run, const struct outcome *o,
                     enum stream stream)
{
    const char *name = stream == STREAM_STDOUT ? "stdout" : "stderr";
    const struct full_output *full = &o->full[stream];
    char total[28], kept[28];

    if (run->streams_apart) {
        say_apart(c, run, o, stream);
        return;
    }
    if (!c->stream_cut[stream]) {
        return;
    }
    text_number(c->streams[stream].total, total);
    if (!full->path || !run->files_kept || o->files_lost) {
        content_say(c, "%s has %s bytes; the middle was left out here and is not kept.", name,
                    total);
        return;
    }
    text_number(full->kept, kept);
    c->full_named[stream] = true;
    content_say(c,
                "%s has %s bytes; the middle was left out here. %s%s%s in %s: read a part with "
                "run_code: print(open(\"%s\").read()[a:b]), or tail and grep with language "
                "\"shell\".",
                name, total, full->kept < full->total ? "The first " : "All of it is",
                full->kept < full->total ? kept : "", full->kept < full->total ? " bytes are" : "",
                full->path, full->path);
}

static void say_artifacts(struct content *c, const struct content_run *run, const struct outcome *o)
{
    char number[28];

    if (run->artifacts_left_out > 0) {
        content_say(c, "The run made or changed %s more files, which are not linked here.",
                    text_number(run->artifacts_left_out, number));
    }
    if (o->changed.partial) {
        content_say(c, "There is too much in the workspace to look through: which files a run "
                       "makes or changes is not told.");
    }
}

bool content_named_full(const struct content *c, enum stream stream)
{
    return c->full_named[stream];
}

static void say_rest(struct content *c, const struct content_run *run, const struct outcome *o)
{
    if (c->items_dropped > 0) {
        c->truncated = true;
        content_say(c, "%u more displays were left out: a result shows at most %d.",
                    c->items_dropped, CONTENT_DISPLAYS);
    }
    if (c->notes_dropped > 0) {
        content_say(c, "%u more notes were left out.", c->notes_dropped);
    }
    if (o->note) {
        content_note(c, o->note);
    }
    say_artifacts(c, run, o);
    say_full(c, run, o, STREAM_STDOUT);
    say_full(c, run, o, STREAM_STDERR);
    if (run->hint) {
        content_note(c, run->hint);
    }
}

/* The last notes are ours and must be told: the room for them is taken from what came before. */
static void make_room_for_notes(struct content *c)
{
    const unsigned own = 8;

    while (c->note_count > CONTENT_NOTES - own) {
        json_decref(c->notes[--c->note_count].text);
        c->notes_dropped++;
    }
}

static json_t *result_meta(const struct content_run *run, json_t *fields)
{
    return json_pack("{sO ss*}", "cellblock/outcome", fields, "cellblock/session", run->session);
}

json_t *content_finish(struct content *c, const struct content_run *run,
                       const struct outcome *outcome)
{
    json_t *blocks, *fields, *structured = NULL, *result = NULL;
    bool complete;

    blocks = content_blocks(c, run, outcome);
    if (c->structured) {
        structured = content_structured(c, run, outcome);
    }
    make_room_for_notes(c);
    say_rest(c, run, outcome);
    fields = outcome_fields(c, run, outcome);
    complete = blocks && fields && content_add_notes(c, blocks) == 0;
    if (c->structured) {
        complete = complete && structured && content_structured_end(c, structured, fields) == 0;
    }
    if (complete) {
        result = json_pack("{sO sb so}", "content", blocks, "isError", outcome->cause != CAUSE_OK,
                           "_meta", result_meta(run, fields));
    }
    if (result && structured) {
        json_object_set(result, "structuredContent", structured);
    }
    json_decref(blocks);
    json_decref(fields);
    json_decref(structured);
    return result;
}
