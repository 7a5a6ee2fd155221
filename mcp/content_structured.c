#include <errno.h>
#include <string.h>

#include "mcp/content_parts.h"
#include "mcp/mime.h"

enum {
    RESULT_LIMIT = 256 * 1024,    /* bytes of `result`; rich_outputs has all of it */
    TRACEBACK_LIMIT = 128 * 1024, /* bytes of a traceback */
    TRACEBACK_LINES = 1000,
    VALUE_LIMIT = 64 * 1024, /* bytes of etype and of evalue */
};

static json_t *stream_text(struct content *c, enum stream stream)
{
    struct text text = capture_text(&c->streams[stream]);

    return text_render(&text, CONTENT_STREAM_LIMIT, TEXT_TAIL_HALF, &c->truncated);
}

/* The text of the last expression; null when there was none. */
static json_t *result_text(struct content *c)
{
    const json_t *plain = NULL;
    struct text text;

    for (unsigned i = 0; i < c->item_count; i++) {
        if (c->items[i].kind == DISPLAY_RESULT) {
            plain = json_object_get(c->items[i].data, "text/plain");
        }
    }
    if (!json_is_string(plain)) {
        return json_null();
    }
    text = text_of(json_string_value(plain), json_string_length(plain));
    return text_render(&text, RESULT_LIMIT, TEXT_TAIL_HALF, &c->truncated);
}

static json_t *rich_output(const struct content_item *item, json_t *data, json_t *metadata)
{
    return json_pack("{ss sO sO}", "output_type",
                     item->kind == DISPLAY_RESULT ? "execute_result" : "display_data", "data", data,
                     "metadata", metadata);
}

/* The item's data as far as it is what it says. */
static json_t *checked_data(struct content *c, const struct content_item *item)
{
    const char *mime, *wrong = NULL;
    json_t *data = mime_checked(item->data, &mime, &wrong);

    if (wrong) {
        content_say(c, "An %s was left out: %s.", mime, wrong);
    }
    return data;
}

static json_t *rich_outputs(struct content *c)
{
    json_t *outputs = json_array(), *empty = json_object();
    size_t used = 0, size;
    unsigned left_out = 0;

    for (unsigned i = 0; i < c->item_count; i++) {
        const struct content_item *item = &c->items[i];

        size = json_dumpb(item->data, NULL, 0, 0) + json_dumpb(item->metadata, NULL, 0, 0);
        if (used + size <= CONTENT_RICH_LIMIT) {
            json_t *data = checked_data(c, item);

            used += size;
            json_array_append_new(outputs, rich_output(item, data, item->metadata));
            json_decref(data);
        } else {
            left_out++;
            json_array_append_new(outputs, rich_output(item, empty, empty));
        }
    }
    json_decref(empty);
    if (left_out > 0) {
        c->truncated = true;
        content_say(c, "The data of %u rich outputs was left out: a result has room for %d MiB.",
                    left_out, CONTENT_RICH_LIMIT / (1024 * 1024));
    }
    return outputs;
}

/* The traceback's lines; cut in the middle when it is very long. */
static json_t *traceback_lines(const char *traceback, bool *ret_cut)
{
    struct text text = text_of(traceback, strlen(traceback));
    json_t *whole = text_render(&text, TRACEBACK_LIMIT, TEXT_TAIL_MOST, ret_cut);
    json_t *lines = json_array();
    const char *p = json_string_value(whole), *end = p ? p + json_string_length(whole) : NULL;

    while (p && p < end && json_array_size(lines) < TRACEBACK_LINES) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *stop = newline && json_array_size(lines) < TRACEBACK_LINES - 1 ? newline : end;

        json_array_append_new(lines, json_stringn_nocheck(p, (size_t)(stop - p)));
        p = stop + 1;
    }
    json_decref(whole);
    return lines;
}

static json_t *error_fields(const struct run_error *error, bool *ret_cut)
{
    if (!error->etype) {
        return json_null();
    }
    return json_pack("{so so so}", "etype", text_json(error->etype, VALUE_LIMIT), "evalue",
                     text_json(error->evalue ? error->evalue : "", VALUE_LIMIT), "traceback",
                     traceback_lines(error->traceback ? error->traceback : "", ret_cut));
}

/* Copies: what is in the blocks is made to fit the client's revision. */
static json_t *artifacts(const struct content_run *run)
{
    return run->artifacts ? json_deep_copy(run->artifacts) : json_array();
}

json_t *content_structured(struct content *c, const struct content_run *run,
                           const struct outcome *outcome)
{
    return json_pack("{so so so so so so}", "stdout", stream_text(c, STREAM_STDOUT), "stderr",
                     stream_text(c, STREAM_STDERR), "result", result_text(c), "rich_outputs",
                     rich_outputs(c), "error", error_fields(&outcome->error, &c->truncated),
                     "artifacts", artifacts(run));
}

int content_structured_end(const struct content *c, json_t *structured,
                           const json_t *outcome_fields)
{
    json_t *notes = json_array();

    for (unsigned i = 0; i < c->note_count; i++) {
        json_array_append(notes, c->notes[i].text);
    }
    if (json_object_set_new(structured, "notes", notes) < 0 ||
        json_object_update_missing(structured, (json_t *)outcome_fields) < 0) {
        return -ENOMEM;
    }
    return 0;
}
