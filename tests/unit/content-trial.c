#include "tests/unit/content-trial.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"

static const struct content_run run = {
    .session = "s-aaaaaaaa",
    .run = "r-bbbbbbbb",
    .environment = "default",
    .backend = "local",
    .files_kept = true,
};

void print_out(struct content *c, const char *text)
{
    content_output(c, STREAM_STDOUT, text, strlen(text));
}

void show(struct content *c, enum display_kind kind, json_t *data, const char *display_id)
{
    json_t *metadata = json_object();
    struct display d = {.kind = kind, .data = data, .metadata = metadata, .display_id = display_id};

    assert_non_null(data);
    content_display(c, &d);
    json_decref(data);
    json_decref(metadata);
}

void clear_output(struct content *c, bool wait)
{
    content_display(c, &(struct display){.kind = DISPLAY_CLEAR, .wait = wait});
}

json_t *finish_with(struct content *c, const struct outcome *outcome)
{
    json_t *result = content_finish(c, &run, outcome);

    content_free(c);
    assert_non_null(result);
    return result;
}

json_t *finish(struct content *c)
{
    struct outcome outcome;
    json_t *result;

    outcome_init(&outcome);
    result = finish_with(c, &outcome);
    outcome_deinit(&outcome);
    return result;
}

json_t *block_at(const json_t *result, size_t index)
{
    return json_array_get(json_object_get(result, "content"), index);
}

size_t block_count(const json_t *result)
{
    return json_array_size(json_object_get(result, "content"));
}

const char *part_of(const json_t *block)
{
    return json_string_value(json_object_get(json_object_get(block, "_meta"), "cellblock/part"));
}

int seq_of(const json_t *block)
{
    return (int)json_integer_value(
        json_object_get(json_object_get(block, "_meta"), "cellblock/seq"));
}

const char *text_at(const json_t *result, size_t index, const char *part)
{
    json_t *block = block_at(result, index);

    assert_non_null(block);
    assert_string_equal(part_of(block), part);
    return json_string_value(json_object_get(block, "text"));
}

json_t *outcome_of(const json_t *result)
{
    return json_object_get(json_object_get(result, "_meta"), "cellblock/outcome");
}

const char *only_text(const char *bytes, size_t size, char *space)
{
    struct text t = text_of(bytes, size);
    bool cut = false;
    json_t *s = text_render(&t, 1000, TEXT_TAIL_HALF, &cut);

    assert_non_null(s);
    assert_false(cut);
    memcpy(space, json_string_value(s), json_string_length(s) + 1);
    json_decref(s);
    return space;
}
