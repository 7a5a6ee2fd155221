/* Secret values out of text, in pieces of any size. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/mask.h"
#include "tests/unit/cmocka_all.h"

enum { ROOM = 4096 };

struct told {
    char text[ROOM];
    size_t size;
};

static void tell(void *data, const char *bytes, size_t size)
{
    struct told *told = data;

    assert_true(told->size + size < ROOM);
    memcpy(told->text + told->size, bytes, size);
    told->size += size;
    told->text[told->size] = '\0';
}

/* In one piece up to `split`, and another from there. */
static void assert_split(struct mask *mask, const char *text, size_t split, const char *expected)
{
    struct told told = {0};
    struct mask_stream s;

    mask_stream_init(&s, mask);
    mask_stream_write(&s, text, split, tell, &told);
    mask_stream_write(&s, text + split, strlen(text) - split, tell, &told);
    mask_stream_flush(&s, tell, &told);
    mask_stream_deinit(&s);
    assert_string_equal(told.text, expected);
}

static void assert_one_by_one(struct mask *mask, const char *text, const char *expected)
{
    struct told told = {0};
    struct mask_stream s;

    mask_stream_init(&s, mask);
    for (const char *c = text; *c; c++) {
        mask_stream_write(&s, c, 1, tell, &told);
    }
    mask_stream_flush(&s, tell, &told);
    mask_stream_deinit(&s);
    assert_string_equal(told.text, expected);
}

static void assert_masked(const struct mask_value *values, size_t count, const char *text,
                          const char *expected)
{
    struct mask *mask = mask_new(values, count);

    assert_non_null(mask);
    for (size_t split = 0; split <= strlen(text); split++) {
        assert_split(mask, text, split, expected);
    }
    assert_one_by_one(mask, text, expected);
    mask_unref(mask);
}

static void a_value_is_masked_wherever_it_is_split(void **state)
{
    const struct mask_value one[] = {{"key", "sk-live-42"}};

    (void)state;
    assert_masked(one, 1, "", "");
    assert_masked(one, 1, "sk-live-42", "[secret key]");
    assert_masked(one, 1, "a sk-live-42 and sk-live-4, sk-live-42\n",
                  "a [secret key] and sk-live-4, [secret key]\n");
    assert_masked(one, 1, "sk-sk-live-42sk-live-42sk-live-4",
                  "sk-[secret key][secret key]sk-live-4");
}

static void a_value_that_begins_another_gives_way_to_it(void **state)
{
    const struct mask_value values[] = {{"short", "secret1"}, {"long", "secret12345"}};

    (void)state;
    assert_masked(values, 2, "secret1 secret12345 secret1234",
                  "[secret short] [secret long] [secret short]234");
}

static void values_that_overlap_are_one_mark(void **state)
{
    const struct mask_value values[] = {{"a", "abcdef"}, {"b", "defghijk"}, {"c", "xxabcdefyy"}};

    (void)state;
    assert_masked(values, 3, "-abcdefghijk-", "-[secret a]-");
    assert_masked(values, 3, "-xxabcdefyy-xxabcdefy-", "-[secret c]-xx[secret a]y-");
}

static void a_value_over_itself_is_one_mark(void **state)
{
    const struct mask_value values[] = {{"a", "aaaaaa"}};

    (void)state;
    assert_masked(values, 1, "aaaaaaaaaaaaaaaab", "[secret a]b");
    assert_masked(values, 1, "aaaaab", "aaaaab");
}

static void characters_stay_whole(void **state)
{
    const struct mask_value values[] = {{"n", "größe-ключ"}};

    (void)state;
    assert_masked(values, 1, "é größe-ключ ü größe-клю€", "é [secret n] ü größe-клю€");
}

static void a_value_is_found_as_repr_and_json_write_it(void **state)
{
    const struct mask_value values[] = {{"pem", "-----A\n\"é\"\\x\t-----"}};

    (void)state;
    assert_masked(values, 1, "-----A\n\"é\"\\x\t-----", "[secret pem]");
    assert_masked(values, 1, "'-----A\\n\"é\"\\\\x\\t-----'", "'[secret pem]'");
    assert_masked(values, 1, "\"-----A\\n\\\"é\\\"\\\\x\\t-----\"", "\"[secret pem]\"");
    assert_masked(values, 1, "\"-----A\\n\\\"\\u00e9\\\"\\\\x\\t-----\"", "\"[secret pem]\"");
}

static void what_cannot_be_a_value_is_told_at_once(void **state)
{
    const struct mask_value values[] = {{"key", "sk-live-42"}};
    struct mask *mask = mask_new(values, 1);
    struct told told = {0};
    struct mask_stream s;

    (void)state;
    mask_stream_init(&s, mask);
    mask_stream_write(&s, "plain\n", 6, tell, &told);
    assert_string_equal(told.text, "plain\n");
    mask_stream_write(&s, "prompt sk-", 10, tell, &told);
    assert_string_equal(told.text, "plain\nprompt ");
    mask_stream_write(&s, "?", 1, tell, &told);
    assert_string_equal(told.text, "plain\nprompt sk-?");
    assert_int_equal(mask_open_end(mask, "x sk-l", 6), 4);
    assert_int_equal(mask_open_end(mask, "x sk-l ", 7), 0);
    mask_stream_deinit(&s);
    mask_unref(mask);
}

static void count(void *data, const char *bytes, size_t size)
{
    (void)bytes;
    *(size_t *)data += size;
}

/* The shape that makes a simple search slow: each byte could go on being the value. */
static void the_worst_text_holds_back_less_than_one_value(void **state)
{
    static char value[MASK_VALUE_CAP + 1], text[64 * 1024];
    const struct mask_value values[] = {{"w", value}};
    struct mask *mask;
    struct mask_stream s;
    size_t told = 0;

    (void)state;
    memset(value, 'a', MASK_VALUE_CAP - 1);
    value[MASK_VALUE_CAP - 1] = 'b';
    memset(text, 'a', sizeof(text));
    mask = mask_new(values, 1);
    mask_stream_init(&s, mask);
    for (int i = 0; i < 16; i++) {
        mask_stream_write(&s, text, sizeof(text), count, &told);
        assert_int_equal(told, (i + 1) * sizeof(text) - s.held_size);
        assert_true(s.held_size < MASK_VALUE_CAP);
    }
    mask_stream_write(&s, "b", 1, count, &told);
    assert_int_equal(s.held_size, 0);
    assert_int_equal(told, sizeof(text) * 16 - (MASK_VALUE_CAP - 1) + strlen("[secret w]"));
    mask_stream_deinit(&s);
    mask_unref(mask);
}

/* --- against a search that looks at everything --- */

struct span {
    size_t begin, end;
};

static size_t spans_of(const struct mask_value *values, size_t count, const char *text,
                       struct span *spans)
{
    size_t found = 0;

    for (size_t end = 1; end <= strlen(text); end++) {
        size_t longest = 0;

        for (size_t i = 0; i < count; i++) {
            size_t size = strlen(values[i].value);

            if (size <= end && size > longest &&
                memcmp(text + end - size, values[i].value, size) == 0) {
                longest = size;
            }
        }
        if (longest > 0) {
            struct span span = {end - longest, end};

            while (found > 0 && spans[found - 1].end > span.begin) {
                found--;
                span.begin = spans[found].begin < span.begin ? spans[found].begin : span.begin;
            }
            spans[found++] = span;
        }
    }
    return found;
}

static void assert_as_spans(struct mask *mask, const struct mask_value *values, size_t count,
                            const char *text)
{
    struct span spans[64];
    size_t found = spans_of(values, count, text, spans), at = 0;
    struct told expected = {0};

    for (size_t i = 0; i < found; i++) {
        tell(&expected, text + at, spans[i].begin - at);
        tell(&expected, "[secret n]", strlen("[secret n]"));
        at = spans[i].end;
    }
    tell(&expected, text + at, strlen(text) - at);
    for (size_t split = 0; split <= strlen(text); split += 3) {
        assert_split(mask, text, split, expected.text);
    }
    assert_one_by_one(mask, text, expected.text);
}

/* Two letters make everything overlap. */
static void random_texts_are_masked_as_a_plain_search_would(void **state)
{
    char values_text[3][8], text[48];
    struct mask_value values[3];

    (void)state;
    srand(7);
    for (int round = 0; round < 3000; round++) {
        struct mask *mask;
        size_t size = (size_t)(rand() % 40);

        for (int i = 0; i < 3; i++) {
            size_t length = 1 + (size_t)(rand() % 6);

            for (size_t j = 0; j < length; j++) {
                values_text[i][j] = (char)('a' + rand() % 2);
            }
            values_text[i][length] = '\0';
            values[i] = (struct mask_value){"n", values_text[i]};
        }
        for (size_t i = 0; i < size; i++) {
            text[i] = (char)('a' + rand() % (2 + round % 2));
        }
        text[size] = '\0';
        mask = mask_new(values, 3);
        assert_as_spans(mask, values, 3, text);
        mask_unref(mask);
    }
}

/* --- JSON --- */

static void json_is_copied_only_where_something_is_masked(void **state)
{
    const struct mask_value values[] = {{"key", "sk-live-42"}};
    struct mask *mask = mask_new(values, 1);
    json_t *clean = json_pack("{s[ss]}", "list", "a", "sk-live-4");
    json_t *value =
        json_pack("{s[O{ss}] ss}", "all", clean, "text", "=sk-live-42", "sk-live-42", "k");
    json_t *same = mask_json(mask, clean, false), *masked = mask_json(mask, value, false);
    json_t *keys = mask_json(mask, value, true);

    (void)state;
    assert_ptr_equal(same, clean);
    assert_string_equal(json_string_value(json_object_get(
                            json_array_get(json_object_get(masked, "all"), 1), "text")),
                        "=[secret key]");
    assert_ptr_equal(json_array_get(json_object_get(masked, "all"), 0), clean);
    assert_non_null(json_object_get(masked, "sk-live-42"));
    assert_non_null(json_object_get(keys, "[secret key]"));
    assert_null(json_object_get(keys, "sk-live-42"));
    assert_string_equal(json_string_value(json_object_get(
                            json_array_get(json_object_get(value, "all"), 1), "text")),
                        "=sk-live-42");
    json_decref(same);
    json_decref(masked);
    json_decref(keys);
    json_decref(value);
    json_decref(clean);
    mask_unref(mask);
}

static void images_are_left_as_they_are(void **state)
{
    const struct mask_value values[] = {{"key", "AAAAAA"}};
    struct mask *mask = mask_new(values, 1);
    json_t *value =
        json_pack("[{ss ss} {ss ss} {ss}]", "type", "image", "data", "xAAAAAAx", "image/png",
                  "AAAAAA", "image/svg+xml", "<svg>AAAAAA", "blob", "AAAAAA");
    json_t *masked = mask_json(mask, value, false);
    char *text = json_dumps(masked, JSON_COMPACT);

    (void)state;
    assert_string_equal(text, "[{\"type\":\"image\",\"data\":\"xAAAAAAx\"},{\"image/png\":"
                              "\"AAAAAA\",\"image/svg+xml\":\"<svg>[secret key]\"},"
                              "{\"blob\":\"AAAAAA\"}]");
    free(text);
    json_decref(masked);
    json_decref(value);
    mask_unref(mask);
}

static void without_a_mask_all_passes(void **state)
{
    struct told told = {0};
    struct mask_stream s;
    size_t size;

    (void)state;
    mask_stream_init(&s, NULL);
    mask_stream_write(&s, "text", 4, tell, &told);
    mask_stream_flush(&s, tell, &told);
    mask_stream_deinit(&s);
    assert_string_equal(told.text, "text");
    assert_null(mask_text(NULL, "text", 4, &size));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_masked_wherever_it_is_split),
        cmocka_unit_test(a_value_that_begins_another_gives_way_to_it),
        cmocka_unit_test(values_that_overlap_are_one_mark),
        cmocka_unit_test(a_value_over_itself_is_one_mark),
        cmocka_unit_test(characters_stay_whole),
        cmocka_unit_test(a_value_is_found_as_repr_and_json_write_it),
        cmocka_unit_test(what_cannot_be_a_value_is_told_at_once),
        cmocka_unit_test(the_worst_text_holds_back_less_than_one_value),
        cmocka_unit_test(random_texts_are_masked_as_a_plain_search_would),
        cmocka_unit_test(json_is_copied_only_where_something_is_masked),
        cmocka_unit_test(images_are_left_as_they_are),
        cmocka_unit_test(without_a_mask_all_passes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
