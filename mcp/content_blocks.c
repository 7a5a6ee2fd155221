#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/content_parts.h"
#include "mcp/mime.h"

enum {
    PART_CAP = 2 + 2 * CONTENT_DISPLAYS + CONTENT_LINKS + 1,
    RESOURCE_LIMIT = CONTENT_TEXT_LIMIT / 2, /* of all embedded resources: whole or not at all */
};

/* One block to be: text that still has to find its share of the limit, or a block that is ready. */
struct part {
    const char *name;
    unsigned seq;
    struct text text;
    char *owned; /* what `text` points into, or NULL */
    size_t want; /* bytes */
    size_t grant;
    unsigned tail_percent;
    bool *ret_cut;
    json_t *block;       /* NULL: a text */
    const char *session; /* named in its _meta; NULL: not */
};

struct assembly {
    struct content *c;
    const struct content_run *run;
    struct part parts[PART_CAP];
    unsigned count;
    size_t image_room;
    size_t resource_room;
    size_t text_room;
    unsigned resource_count;
    bool cut; /* a text other than stdout and stderr was cut */
};

static struct part *add_part(struct assembly *a, const char *name, unsigned seq)
{
    struct part *part = &a->parts[a->count++];

    *part = (struct part){.name = name, .seq = seq};
    return part;
}

static struct part *add_text(struct assembly *a, const char *name, unsigned seq, struct text text)
{
    struct part *part = add_part(a, name, seq);

    part->text = text;
    part->want = text_cost(&text);
    part->tail_percent = TEXT_TAIL_HALF;
    part->ret_cut = &a->cut;
    return part;
}

static void add_stream(struct assembly *a, enum stream stream)
{
    static const char *const names[] = {"stdout", "stderr"};
    struct content *c = a->c;

    if (c->stream_seq[stream] > 0) {
        struct text text = capture_text(&c->streams[stream]);

        add_text(a, names[stream], c->stream_seq[stream], text)->ret_cut = &c->stream_cut[stream];
    }
}

/* A payload as text: itself, or its JSON (then *ret_owned is to be freed). */
static struct text payload_text(const json_t *payload, char **ret_owned)
{
    char *json;

    if (json_is_string(payload)) {
        return text_of(json_string_value(payload), json_string_length(payload));
    }
    json = json_dumps(payload, JSON_ENCODE_ANY);
    *ret_owned = json;
    return text_of(json ? json : "", json ? strlen(json) : 0);
}

static void add_payload(struct assembly *a, const char *name, unsigned seq, const json_t *payload)
{
    char *owned = NULL;
    struct text text = payload_text(payload, &owned);

    add_text(a, name, seq, text)->owned = owned;
}

/* True when the image has its block; else a note says why not. */
static bool add_image(struct assembly *a, const struct content_item *item,
                      const struct shown *shown)
{
    char *base64, number[28], limit[28];
    size_t size;
    const char *wrong = mime_check_image(shown->mime, shown->payload, &base64, &size);

    if (wrong) {
        content_say(a->c, "An %s was left out: %s.", shown->mime, wrong);
        return false;
    }
    if (size > a->image_room) {
        content_say(a->c,
                    "An %s of %s bytes was left out: the images of one result have room for %s. "
                    "Make it smaller (figsize, dpi), or show fewer in one run.",
                    shown->mime, text_number(size / 4 * 3, number),
                    text_number((size_t)CONTENT_IMAGE_LIMIT / 4 * 3, limit));
        a->c->truncated = true;
        free(base64);
        return false;
    }
    a->image_room -= size;
    add_part(a, "display", item->seq)->block =
        json_pack("{ss so ss}", "type", "image", "data", json_stringn_nocheck(base64, size),
                  "mimeType", shown->mime);
    free(base64);
    return true;
}

static bool add_resource(struct assembly *a, const struct content_item *item,
                         const struct shown *shown)
{
    size_t size = json_string_length(shown->payload);
    char uri[64], number[28];

    if (!json_is_string(shown->payload)) {
        return false;
    }
    if (size > a->resource_room) {
        content_say(a->c, "A display of type %s, %s bytes, was left out: it is too long.",
                    shown->mime, text_number(size, number));
        a->c->truncated = a->c->truncated || !a->c->structured;
        return false;
    }
    a->resource_room -= size;
    a->text_room -= size;
    snprintf(uri, sizeof(uri), "cellblock://%s/display/%u", a->run->run, ++a->resource_count);
    add_part(a, "display", item->seq)->block =
        json_pack("{ss s{ss ss sO}}", "type", "resource", "resource", "uri", uri, "mimeType",
                  shown->mime, "text", shown->payload);
    return true;
}

/* What a display falls back to when its best form cannot be shown. */
static void add_plain(struct assembly *a, const struct content_item *item)
{
    const json_t *plain = json_object_get(item->data, "text/plain");

    if (plain && item->kind == DISPLAY_DATA) {
        add_payload(a, "display", item->seq, plain);
    }
}

static void add_display(struct assembly *a, const struct content_item *item)
{
    struct shown shown = mime_choose(item->data, a->c->structured);

    if (shown.form == FORM_IMAGE) {
        if (add_image(a, item, &shown)) {
            return;
        }
        shown = mime_choose(item->data, true);
    }
    switch (shown.form) {
    case FORM_RESOURCE:
        if (!add_resource(a, item, &shown)) {
            add_plain(a, item);
        }
        break;
    case FORM_TEXT:
        /* The plain text of a result is its part `result` already. */
        if (item->kind == DISPLAY_DATA || strcmp(shown.mime, "text/plain") != 0) {
            add_payload(a, "display", item->seq, shown.payload);
        }
        break;
    case FORM_IMAGE:
    case FORM_NONE:
        break;
    }
}

static void add_items(struct assembly *a)
{
    for (unsigned i = 0; i < a->c->item_count; i++) {
        const struct content_item *item = &a->c->items[i];
        const json_t *plain = json_object_get(item->data, "text/plain");

        if (item->kind == DISPLAY_RESULT && plain) {
            add_payload(a, "result", item->seq, plain);
        }
    }
    for (unsigned i = 0; i < a->c->item_count; i++) {
        add_display(a, &a->c->items[i]);
    }
}

/* They are short by themselves (ARTIFACTS_LINK_BYTES), and leave the rest of the room to the text.
 */
static void add_artifacts(struct assembly *a)
{
    struct part *part;
    size_t i, size;
    json_t *link;

    json_array_foreach(a->run->artifacts, i, link)
    {
        json_t *block = i < CONTENT_LINKS ? json_copy(link) : NULL;

        if (!block) {
            continue;
        }
        json_object_set_new(block, "type", json_string("resource_link"));
        size = json_dumpb(block, NULL, 0, JSON_COMPACT);
        a->text_room -= size < a->text_room ? size : a->text_room;
        part = add_part(a, "artifact", ++a->c->seq);
        part->block = block;
        part->session = a->run->session;
    }
}

/* The traceback and, where that does not say it (a time-out interrupts with a KeyboardInterrupt),
 * the error. NULL when there is none; to be freed. */
static char *error_text(const struct run_error *error)
{
    const char *traceback = error->traceback ? error->traceback : "";
    size_t n = strlen(traceback);
    char *text;

    if (!error->etype || (n > 0 && strstr(traceback, error->etype))) {
        return n > 0 ? strdup(traceback) : NULL;
    }
    if (asprintf(&text, "%s%s%s: %s", traceback, n > 0 && traceback[n - 1] != '\n' ? "\n" : "",
                 error->etype, error->evalue ? error->evalue : "") < 0) {
        return NULL;
    }
    return text;
}

static void add_error(struct assembly *a, const struct run_error *error)
{
    char *text = error_text(error);

    if (text) {
        struct part *part = add_text(a, "error", ++a->c->seq, text_of(text, strlen(text)));

        part->owned = text;
        part->tail_percent = TEXT_TAIL_MOST;
    }
}

/* Shares the room out: who wants less than an equal share gets it all, the others share the rest.
 */
static void grant(struct assembly *a)
{
    size_t room = a->text_room;
    unsigned waiting = 0;
    bool changed = true;

    for (unsigned i = 0; i < a->count; i++) {
        waiting += !a->parts[i].block;
    }
    while (changed && waiting > 0) {
        size_t share = room / waiting;

        changed = false;
        for (unsigned i = 0; i < a->count; i++) {
            struct part *part = &a->parts[i];

            if (!part->block && part->grant == 0 && part->want <= share) {
                part->grant = part->want > 0 ? part->want : 1;
                room -= part->want;
                waiting--;
                changed = true;
            }
        }
    }
    for (unsigned i = 0; i < a->count; i++) {
        if (!a->parts[i].block && a->parts[i].grant == 0) {
            a->parts[i].grant = room / waiting;
        }
    }
}

static json_t *part_meta(const char *name, unsigned seq, const char *session)
{
    return json_pack("{ss si ss*}", "cellblock/part", name, "cellblock/seq", (int)seq,
                     "cellblock/session", session);
}

static json_t *text_block(json_t *text_owned, const char *name, unsigned seq)
{
    return json_pack("{ss so so}", "type", "text", "text", text_owned, "_meta",
                     part_meta(name, seq, NULL));
}

/* Makes the part's block and lets go of what the part owns. */
static json_t *part_block(struct part *part)
{
    json_t *block = part->block;
    bool cut = false;

    if (block) {
        json_object_set_new(block, "_meta", part_meta(part->name, part->seq, part->session));
    } else {
        block = text_block(text_render(&part->text, part->grant, part->tail_percent, &cut),
                           part->name, part->seq);
        *part->ret_cut = *part->ret_cut || cut;
    }
    free(part->owned);
    return block;
}

json_t *content_blocks(struct content *c, const struct content_run *run,
                       const struct outcome *outcome)
{
    struct assembly *a = calloc(1, sizeof(*a));
    json_t *blocks = a ? json_array() : NULL;
    bool complete = blocks;

    if (!a) {
        return NULL;
    }
    a->c = c;
    a->run = run;
    a->image_room = CONTENT_IMAGE_LIMIT;
    a->resource_room = RESOURCE_LIMIT;
    a->text_room = CONTENT_TEXT_LIMIT;
    if (!run->streams_apart) {
        add_stream(a, STREAM_STDOUT);
        add_stream(a, STREAM_STDERR);
    }
    add_items(a);
    add_artifacts(a);
    add_error(a, &outcome->error);
    grant(a);
    for (unsigned i = 0; i < a->count; i++) {
        complete = json_array_append_new(blocks, part_block(&a->parts[i])) == 0 && complete;
    }
    if (!c->structured) {
        c->truncated = c->truncated || a->cut || c->stream_cut[0] || c->stream_cut[1];
    }
    free(a);
    if (!complete) {
        json_decref(blocks);
        return NULL;
    }
    return blocks;
}

int content_add_notes(const struct content *c, json_t *blocks)
{
    for (unsigned i = 0; i < c->note_count; i++) {
        json_t *block = text_block(json_incref(c->notes[i].text), "note", c->notes[i].seq);

        if (json_array_append_new(blocks, block) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}
