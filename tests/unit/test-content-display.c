/* Displays in results, and structuredContent. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/content-trial.h"

/* --- displays --- */

static void a_result_with_an_image_gives_both_and_no_html(void **state)
{
    struct content *c = content_new(false);
    json_t *result;

    (void)state;
    show(c, DISPLAY_RESULT,
         json_pack("{ss ss ss}", "text/plain", "<Figure>", "text/html", "<b>no</b>", "image/png",
                   PNG "\n"),
         NULL);
    result = finish(c);
    assert_int_equal(block_count(result), 2);
    assert_string_equal(text_at(result, 0, "result"), "<Figure>");
    assert_string_equal(json_string_value(json_object_get(block_at(result, 1), "type")), "image");
    assert_string_equal(json_string_value(json_object_get(block_at(result, 1), "data")), PNG);
    json_decref(result);
}

static void chooses_the_best_text(void **state)
{
    struct content *c = content_new(false);
    json_t *result;

    (void)state;
    show(c, DISPLAY_RESULT,
         json_pack("{ss ss}", "text/plain", "   a\n0  1", "text/html", "<table>"), NULL);
    show(c, DISPLAY_DATA, json_pack("{ss ss}", "text/plain", "   b", "text/html", "<table>"), NULL);
    show(c, DISPLAY_DATA,
         json_pack("{ss ss}", "text/plain", "<IPython.core.display.Markdown object>",
                   "text/markdown", "**m**"),
         NULL);
    show(c, DISPLAY_DATA,
         json_pack("{ss s{si}}", "text/plain", "<IPython.core.display.JSON object>",
                   "application/json", "k", 1),
         NULL);
    show(c, DISPLAY_DATA,
         json_pack("{ss ss}", "text/plain", "<IPython.core.display.HTML object>", "text/html",
                   "<b>h</b>"),
         NULL);
    result = finish(c);
    assert_int_equal(block_count(result), 5);
    assert_string_equal(text_at(result, 0, "result"), "   a\n0  1");
    assert_string_equal(text_at(result, 1, "display"), "   b");
    assert_string_equal(text_at(result, 2, "display"), "**m**");
    assert_string_equal(text_at(result, 3, "display"), "{\"k\": 1}");
    assert_string_equal(json_string_value(json_object_get(
                            json_object_get(block_at(result, 4), "resource"), "text")),
                        "<b>h</b>");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(block_at(result, 4), "resource"), "uri")),
        "cellblock://r-bbbbbbbb/display/1");
    json_decref(result);
}

static void leaves_out_what_is_no_image(void **state)
{
    static const char *const bad[] = {"not base64!", "AAAA", "aGVsbG8gd29ybGQhISEh", "", "=AAA",
                                      "AA=A",        "AAAAA"};
    struct content *c = content_new(false);
    json_t *result;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        show(c, DISPLAY_DATA, json_pack("{ss ss}", "image/png", bad[i], "text/plain", "p"), NULL);
    }
    show(c, DISPLAY_DATA, json_pack("{s[i]}", "image/png", 3), NULL);
    show(c, DISPLAY_DATA, json_pack("{ss}", "image/jpeg", PNG), NULL);
    result = finish(c);
    assert_string_equal(text_at(result, 0, "display"), "p");
    assert_string_equal(text_at(result, 6, "display"), "p");
    assert_non_null(strstr(text_at(result, 7, "note"), "image/png was left out"));
    assert_int_equal(block_count(result), 16);
    json_decref(result);
}

/* A PNG's beginning and as many zeroes as make `size` characters of base64. */
static char *big_png(size_t size)
{
    char *base64 = malloc(size + 1);

    memset(base64, 'A', size);
    base64[size] = '\0';
    memcpy(base64, PNG, 40);
    return base64;
}

static void keeps_results_under_a_megabyte(void **state)
{
    char *png = big_png(400000);
    struct content *c = content_new(false);
    json_t *result;
    char *line;

    (void)state;
    for (int i = 0; i < 50; i++) {
        char nul[1000] = {0};

        content_output(c, STREAM_STDOUT, nul, sizeof(nul));
    }
    show(c, DISPLAY_DATA, json_pack("{ss}", "image/png", png), NULL);
    show(c, DISPLAY_DATA, json_pack("{ss ss}", "image/png", png, "text/plain", "<Figure>"), NULL);
    show(c, DISPLAY_DATA, json_pack("{ss}", "image/png", PNG), NULL);
    free(png);
    result = finish(c);
    assert_int_equal(block_count(result), 6);
    assert_string_equal(json_string_value(json_object_get(block_at(result, 1), "type")), "image");
    assert_string_equal(text_at(result, 2, "display"), "<Figure>");
    assert_string_equal(json_string_value(json_object_get(block_at(result, 3), "type")), "image");
    assert_non_null(strstr(text_at(result, 4, "note"), "300,000 bytes"));
    assert_true(json_is_true(json_object_get(outcome_of(result), "truncated")));
    line = json_dumps(result, JSON_COMPACT);
    assert_true(strlen(line) < (size_t)1000 * 1000);
    free(line);
    json_decref(result);
}

static void updates_replace_in_place(void **state)
{
    struct content *c = content_new(false);
    json_t *result;

    (void)state;
    show(c, DISPLAY_DATA, json_pack("{ss}", "text/plain", "old"), "one");
    show(c, DISPLAY_DATA, json_pack("{ss}", "text/plain", "other"), NULL);
    show(c, DISPLAY_DATA, json_pack("{ss}", "text/plain", "old"), "one");
    show(c, DISPLAY_UPDATE, json_pack("{ss}", "text/plain", "new"), "one");
    show(c, DISPLAY_UPDATE, json_pack("{ss}", "text/plain", "from before"), "two");
    result = finish(c);
    assert_int_equal(block_count(result), 4);
    assert_string_equal(text_at(result, 0, "display"), "new");
    assert_string_equal(text_at(result, 1, "display"), "other");
    assert_string_equal(text_at(result, 2, "display"), "new");
    assert_string_equal(text_at(result, 3, "display"), "from before");
    assert_int_equal(seq_of(block_at(result, 0)), 1);
    json_decref(result);
}

static void clear_output_drops_what_came(void **state)
{
    struct content *c = content_new(false);
    json_t *result;

    (void)state;
    print_out(c, "gone");
    content_output(c, STREAM_STDERR, "gone", 4);
    show(c, DISPLAY_DATA, json_pack("{ss}", "text/plain", "gone"), NULL);
    clear_output(c, false);
    print_out(c, "stays until the next output");
    clear_output(c, true);
    result = finish(c);
    assert_int_equal(block_count(result), 1);
    assert_string_equal(text_at(result, 0, "stdout"), "stays until the next output");
    json_decref(result);
}

static void clear_output_waits_for_the_next(void **state)
{
    struct content *c = content_new(false);
    json_t *result;

    (void)state;
    for (int i = 0; i < 500; i++) {
        clear_output(c, true);
        show(c, DISPLAY_DATA, json_pack("{si}", "application/json", i), NULL);
    }
    result = finish(c);
    assert_int_equal(block_count(result), 1);
    assert_string_equal(text_at(result, 0, "display"), "499");
    assert_true(json_is_false(json_object_get(outcome_of(result), "truncated")));
    json_decref(result);
}

static void counts_displays_and_notes_past_the_caps(void **state)
{
    struct content *c = content_new(false);
    json_t *result;
    size_t n;

    (void)state;
    for (int i = 0; i < 100; i++) {
        show(c, DISPLAY_DATA, json_pack("{ss}", "text/plain", "d"), NULL);
        content_note(c, "n");
    }
    result = finish(c);
    n = block_count(result);
    assert_string_equal(text_at(result, 63, "display"), "d");
    assert_string_equal(text_at(result, 64, "note"), "n");
    assert_non_null(strstr(text_at(result, n - 2, "note"), "36 more displays"));
    assert_non_null(strstr(text_at(result, n - 1, "note"), "more notes"));
    json_decref(result);
}

static void keeps_no_more_than_the_store_holds(void **state)
{
    char *png = big_png(CONTENT_STORE_LIMIT);
    struct content *c = content_new(false);
    json_t *result;

    (void)state;
    show(c, DISPLAY_DATA, json_pack("{ss ss}", "image/png", png, "text/plain", "small"), NULL);
    free(png);
    result = finish(c);
    assert_string_equal(text_at(result, 0, "display"), "small");
    assert_non_null(strstr(text_at(result, 1, "note"), "left out"));
    json_decref(result);
}

/* --- structuredContent --- */

static void structured_holds_everything(void **state)
{
    struct content *c = content_new(true);
    struct outcome outcome;
    json_t *result, *s, *rich;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        print_out(c, "a hundred and some bytes that are printed a thousand times, more than a text "
                     "block may hold, I think\n");
    }
    show(c, DISPLAY_DATA, json_pack("{ss ss}", "image/png", PNG, "text/plain", "<Figure>"), NULL);
    show(c, DISPLAY_RESULT, json_pack("{ss}", "text/plain", "42"), NULL);
    outcome_init(&outcome);
    outcome.cause = CAUSE_ERROR;
    outcome.execution_count = 3;
    outcome.error.etype = strdup("E");
    outcome.error.evalue = strdup("v");
    outcome.error.traceback = strdup("one\ntwo");
    result = finish_with(c, &outcome);
    outcome_deinit(&outcome);
    s = json_object_get(result, "structuredContent");
    assert_int_equal(json_string_length(json_object_get(s, "stdout")), 101000);
    assert_string_equal(json_string_value(json_object_get(s, "stderr")), "");
    assert_string_equal(json_string_value(json_object_get(s, "result")), "42");
    rich = json_object_get(s, "rich_outputs");
    assert_int_equal(json_array_size(rich), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(rich, 0), "output_type")),
                        "display_data");
    assert_string_equal(json_string_value(json_object_get(
                            json_object_get(json_array_get(rich, 0), "data"), "image/png")),
                        PNG);
    assert_int_equal(json_array_size(json_object_get(json_object_get(s, "error"), "traceback")), 2);
    assert_int_equal(json_array_size(json_object_get(s, "artifacts")), 0);
    assert_int_equal(json_integer_value(json_object_get(s, "execution_count")), 3);
    assert_true(json_is_false(json_object_get(s, "truncated")));
    /* content: text only, no image. */
    assert_string_equal(text_at(result, 1, "result"), "42");
    assert_string_equal(text_at(result, 2, "display"), "<Figure>");
    json_decref(result);
}

static void structured_has_no_false_images(void **state)
{
    struct content *c = content_new(true);
    json_t *data = json_pack("{ss ss ss}", "image/png", PNG, "image/jpeg", PNG, "text/plain", "p");
    json_t *result, *rich;

    (void)state;
    json_incref(data);
    show(c, DISPLAY_DATA, data, NULL);
    result = finish(c);
    rich = json_object_get(json_object_get(result, "structuredContent"), "rich_outputs");
    assert_int_equal(json_object_size(json_object_get(json_array_get(rich, 0), "data")), 2);
    assert_int_equal(json_object_size(data), 3);
    assert_non_null(strstr(text_at(result, 1, "note"), "image/jpeg was left out"));
    json_decref(data);
    json_decref(result);
}

static void structured_nulls_are_there(void **state)
{
    json_t *result = finish(content_new(true));
    json_t *s = json_object_get(result, "structuredContent");

    (void)state;
    assert_true(json_is_null(json_object_get(s, "result")));
    assert_true(json_is_null(json_object_get(s, "error")));
    assert_true(json_is_array(json_object_get(s, "rich_outputs")));
    json_decref(result);
}

static void structured_stays_under_the_line_limit(void **state)
{
    struct content *c = content_new(true);
    char *png = big_png(3000000), quotes[1000];
    json_t *result, *s;
    char *line;

    (void)state;
    memset(quotes, '"', sizeof(quotes));
    for (int i = 0; i < 5000; i++) {
        content_output(c, STREAM_STDOUT, quotes, sizeof(quotes));
        content_output(c, STREAM_STDERR, quotes, sizeof(quotes));
    }
    show(c, DISPLAY_DATA, json_pack("{ss}", "image/png", png), NULL);
    show(c, DISPLAY_DATA, json_pack("{ss}", "image/png", png), NULL);
    free(png);
    result = finish(c);
    s = json_object_get(result, "structuredContent");
    assert_true(json_is_true(json_object_get(s, "truncated")));
    assert_true(json_string_length(json_object_get(s, "stdout")) <=
                CONTENT_STREAM_LIMIT + TEXT_MARK_ROOM);
    assert_int_equal(json_array_size(json_object_get(s, "rich_outputs")), 2);
    line = json_dumps(result, JSON_COMPACT);
    assert_true(strlen(line) < (size_t)10 * 1024 * 1024);
    free(line);
    json_decref(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_result_with_an_image_gives_both_and_no_html),
        cmocka_unit_test(chooses_the_best_text),
        cmocka_unit_test(leaves_out_what_is_no_image),
        cmocka_unit_test(keeps_results_under_a_megabyte),
        cmocka_unit_test(updates_replace_in_place),
        cmocka_unit_test(clear_output_drops_what_came),
        cmocka_unit_test(clear_output_waits_for_the_next),
        cmocka_unit_test(counts_displays_and_notes_past_the_caps),
        cmocka_unit_test(keeps_no_more_than_the_store_holds),
        cmocka_unit_test(structured_holds_everything),
        cmocka_unit_test(structured_has_no_false_images),
        cmocka_unit_test(structured_nulls_are_there),
        cmocka_unit_test(structured_stays_under_the_line_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
