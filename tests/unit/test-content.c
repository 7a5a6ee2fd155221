/* Text of results, and the blocks that it makes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/content-trial.h"

/* --- text --- */

static void makes_bad_bytes_replacement_characters(void **state)
{
    char space[256];

    (void)state;
    assert_string_equal(only_text("a\xff"
                                  "b",
                                  3, space),
                        "a\xef\xbf\xbd"
                        "b");
    assert_string_equal(only_text("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9, space),
                        "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    /* An overlong form, a surrogate, past the end, a cut sequence. */
    assert_string_equal(only_text("\xc0\x80", 2, space), "\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(only_text("\xed\xa0\x80", 3, space),
                        "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(only_text("\xf4\x90\x80\x80", 4, space),
                        "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(only_text("\xe2\x82", 2, space), "\xef\xbf\xbd");
    assert_string_equal(only_text("\xe2\x82"
                                  "x",
                                  3, space),
                        "\xef\xbf\xbdx");
}

static void keeps_nul_characters(void **state)
{
    struct content *c = content_new(false);
    json_t *result, *text;

    (void)state;
    content_output(c, STREAM_STDOUT, "a\0b", 3);
    result = finish(c);
    text = json_object_get(block_at(result, 0), "text");
    assert_int_equal(json_string_length(text), 3);
    assert_memory_equal(json_string_value(text), "a\0b", 3);
    json_decref(result);
}

static void joins_characters_split_between_chunks(void **state)
{
    struct content *c = content_new(false);
    json_t *result;

    (void)state;
    content_output(c, STREAM_STDOUT, "\xe2\x82", 2);
    content_output(c, STREAM_STDOUT, "\xac", 1);
    result = finish(c);
    assert_string_equal(text_at(result, 0, "stdout"), "\xe2\x82\xac");
    json_decref(result);
}

static void cuts_on_lines_and_counts(void **state)
{
    char lines[1000], *p = lines;
    struct text t;
    json_t *s;
    bool cut = false;

    (void)state;
    for (int i = 0; i < 100; i++) {
        p += sprintf(p, "line %03d\n", i);
    }
    t = text_of(lines, (size_t)(p - lines));
    s = text_render(&t, 200, TEXT_TAIL_HALF, &cut);
    assert_true(cut);
    assert_non_null(
        strstr(json_string_value(s), "line 010\n[… 702 bytes, 78 lines left out …]\nline 089\n"));
    assert_true(strncmp(json_string_value(s), "line 000\n", 9) == 0);
    assert_non_null(strstr(json_string_value(s), "line 099\n"));
    json_decref(s);
}

static void cuts_between_characters(void **state)
{
    char euros[3001] = "";
    struct text t = text_of(euros, 3000);

    (void)state;
    for (int i = 0; i < 1000; i++) {
        memcpy(euros + (size_t)3 * (size_t)i, "\xe2\x82\xac", 4);
    }
    for (size_t limit = 100; limit < 112; limit++) {
        bool cut = false;
        json_t *s = text_render(&t, limit, TEXT_TAIL_MOST, &cut);

        assert_true(cut);
        assert_null(strstr(json_string_value(s), "\xef\xbf\xbd"));
        assert_true(json_string_length(s) <= limit + TEXT_MARK_ROOM);
        json_decref(s);
    }
}

/* What is rendered of a stream whose middle never came, and was only counted, is byte for byte what
 * is rendered when all of it came. */
static void a_middle_that_never_came_is_as_one_that_was_dropped(void **state)
{
    enum { HALF = 200, LIMIT = 2 * HALF, SIZE = 5000 };
    static const char *const lines[] = {"short\n", "ü🐍 und mehr als das\n", "a\001b\n", "x"};
    char stream[SIZE + 64];
    size_t used = 0;

    (void)state;
    for (unsigned i = 0; used < SIZE; i++) {
        const char *line = lines[(i * 7 + i / 5) % 4];
        while (*line) {
            stream[used++] = *line++;
        }
    }
    for (size_t total = LIMIT + 1; total < SIZE; total += 17) {
        struct capture all, part;
        struct text texts[2];
        json_t *shown[2];
        uint64_t newlines = 0;
        bool cut = false;

        for (size_t i = HALF; i < total - HALF; i++) {
            newlines += stream[i] == '\n';
        }
        capture_init(&all, HALF);
        capture_init(&part, HALF);
        for (size_t at = 0; at < total; at += 97) {
            capture_append(&all, stream + at, total - at < 97 ? total - at : 97);
        }
        capture_append(&part, stream, HALF);
        capture_skip(&part, total - (size_t)LIMIT, newlines);
        capture_append(&part, stream + total - HALF, HALF);
        texts[0] = capture_text(&all);
        texts[1] = capture_text(&part);
        for (int i = 0; i < 2; i++) {
            shown[i] = text_render(&texts[i], LIMIT, TEXT_TAIL_HALF, &cut);
        }
        assert_string_equal(json_string_value(shown[0]), json_string_value(shown[1]));
        json_decref(shown[0]);
        json_decref(shown[1]);
        capture_deinit(&all);
        capture_deinit(&part);
    }
}

/* Whatever the sizes of the chunks, the head and tail are the stream's and the counts are right. */
static void captures_head_and_tail_of_any_stream(void **state)
{
    static const size_t chunks[] = {1, 7, 63, 64, 65, 128, 129, 1000};
    char stream[1000];

    (void)state;
    for (size_t i = 0; i < sizeof(stream); i++) {
        stream[i] = (char)(i % 10 == 9 ? '\n' : 'a' + (int)(i % 26));
    }
    for (size_t k = 0; k < sizeof(chunks) / sizeof(chunks[0]); k++) {
        for (size_t total = 0; total <= sizeof(stream); total += 13) {
            struct capture capture;
            struct text t;

            capture_init(&capture, 64);
            for (size_t at = 0; at < total; at += chunks[k]) {
                size_t n = total - at < chunks[k] ? total - at : chunks[k];

                capture_append(&capture, stream + at, n);
            }
            t = capture_text(&capture);
            assert_int_equal(t.head_size + t.gap_bytes + t.tail_size, total);
            assert_memory_equal(t.head ? t.head : "", stream, t.head_size);
            assert_memory_equal(t.tail ? t.tail : "", stream + total - t.tail_size, t.tail_size);
            if (total <= 128) {
                assert_int_equal(t.gap_bytes, 0);
            } else if (t.gap_bytes > 0) {
                size_t newlines = 0;

                assert_true(t.head_size >= 64 && t.tail_size >= 64 && t.tail_size <= 128);
                for (size_t i = t.head_size; i < total - t.tail_size; i++) {
                    newlines += stream[i] == '\n';
                }
                assert_int_equal(t.gap_lines, newlines);
            }
            capture_deinit(&capture);
        }
    }
}

static void writes_numbers_for_people(void **state)
{
    char space[28];

    (void)state;
    assert_string_equal(text_number(0, space), "0");
    assert_string_equal(text_number(999, space), "999");
    assert_string_equal(text_number(1000, space), "1,000");
    assert_string_equal(text_number(UINT64_MAX, space), "18,446,744,073,709,551,615");
}

/* --- blocks --- */

static void a_silent_run_has_no_blocks(void **state)
{
    json_t *result = finish(content_new(false));

    (void)state;
    assert_int_equal(block_count(result), 0);
    assert_true(json_is_false(json_object_get(result, "isError")));
    assert_null(json_object_get(result, "structuredContent"));
    assert_string_equal(json_string_value(json_object_get(outcome_of(result), "cause")), "ok");
    assert_true(json_is_true(json_object_get(outcome_of(result), "success")));
    json_decref(result);
}

static void orders_parts_and_numbers_arrivals(void **state)
{
    struct content *c = content_new(false);
    struct outcome outcome;
    json_t *result;

    (void)state;
    content_output(c, STREAM_STDERR, "e", 1);
    show(c, DISPLAY_DATA, json_pack("{ss}", "image/png", PNG), NULL);
    print_out(c, "o");
    content_output(c, STREAM_STDERR, "f", 1);
    show(c, DISPLAY_RESULT, json_pack("{ss}", "text/plain", "42"), NULL);
    outcome_init(&outcome);
    outcome.cause = CAUSE_ERROR;
    outcome.error.etype = strdup("ValueError");
    outcome.error.evalue = strdup("bad");
    outcome.error.traceback = strdup("Traceback\nValueError: bad");
    outcome.note = strdup("why");
    result = finish_with(c, &outcome);
    outcome_deinit(&outcome);
    assert_int_equal(block_count(result), 6);
    assert_string_equal(text_at(result, 0, "stdout"), "o");
    assert_string_equal(text_at(result, 1, "stderr"), "ef");
    assert_string_equal(text_at(result, 2, "result"), "42");
    assert_string_equal(part_of(block_at(result, 3)), "display");
    assert_string_equal(json_string_value(json_object_get(block_at(result, 3), "data")), PNG);
    assert_string_equal(text_at(result, 4, "error"), "Traceback\nValueError: bad");
    assert_string_equal(text_at(result, 5, "note"), "why");
    assert_int_equal(seq_of(block_at(result, 0)), 3);
    assert_int_equal(seq_of(block_at(result, 1)), 1);
    assert_int_equal(seq_of(block_at(result, 2)), 4);
    assert_int_equal(seq_of(block_at(result, 3)), 2);
    assert_int_equal(seq_of(block_at(result, 4)), 5);
    assert_int_equal(seq_of(block_at(result, 5)), 6);
    assert_true(json_is_true(json_object_get(result, "isError")));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(outcome_of(result), "error"), "etype")),
        "ValueError");
    json_decref(result);
}

/* A time-out interrupts, so that its traceback names another exception. */
static void names_the_error_that_a_traceback_lacks(void **state)
{
    struct outcome outcome;
    json_t *result;

    (void)state;
    outcome_init(&outcome);
    outcome.cause = CAUSE_TIMEOUT;
    outcome.error.etype = strdup("TimeoutError");
    outcome.error.evalue = strdup("the run passed its limit of 1 s");
    outcome.error.traceback = strdup("Traceback\nKeyboardInterrupt");
    result = finish_with(content_new(false), &outcome);
    outcome_deinit(&outcome);
    assert_string_equal(
        text_at(result, 0, "error"),
        "Traceback\nKeyboardInterrupt\nTimeoutError: the run passed its limit of 1 s");
    json_decref(result);
}

static void tells_signals_by_name(void **state)
{
    struct outcome outcome;
    json_t *result;

    (void)state;
    outcome_init(&outcome);
    outcome.cause = CAUSE_KILLED;
    outcome.signal = 11;
    result = finish_with(content_new(false), &outcome);
    outcome_deinit(&outcome);
    assert_string_equal(json_string_value(json_object_get(outcome_of(result), "signal")),
                        "SIGSEGV");
    assert_null(json_object_get(outcome_of(result), "exit_code"));
    json_decref(result);
}

static void cuts_long_output_and_says_where_it_is(void **state)
{
    struct content *c = content_new(false);
    struct outcome outcome;
    const char *text, *note;
    json_t *result;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        char line[32];

        snprintf(line, sizeof(line), "row %d\n", i);
        print_out(c, line);
    }
    outcome_init(&outcome);
    outcome.full[STREAM_STDOUT].path = strdup("/workspace/.cellblock/r-bbbbbbbb.stdout");
    outcome.full[STREAM_STDOUT].total = outcome.full[STREAM_STDOUT].kept = 988890;
    result = finish_with(c, &outcome);
    outcome_deinit(&outcome);
    text = text_at(result, 0, "stdout");
    assert_true(strlen(text) <= CONTENT_TEXT_LIMIT + TEXT_MARK_ROOM);
    assert_true(strlen(text) > CONTENT_TEXT_LIMIT - 4000);
    assert_true(strncmp(text, "row 0\nrow 1\n", 12) == 0);
    assert_string_equal(text + strlen(text) - 10, "row 99999\n");
    assert_non_null(strstr(text, " lines left out"));
    note = text_at(result, 1, "note");
    assert_non_null(strstr(note, "/workspace/.cellblock/r-bbbbbbbb.stdout"));
    assert_non_null(strstr(note, "988,890"));
    assert_true(json_is_true(json_object_get(outcome_of(result), "truncated")));
    json_decref(result);
}

static void shares_the_room_and_keeps_the_end_of_errors(void **state)
{
    struct content *c = content_new(false);
    struct outcome outcome;
    char *big = malloc(200001);
    size_t total = 0;
    const char *error;
    json_t *result;

    (void)state;
    memset(big, 'x', 200000);
    big[200000] = '\0';
    print_out(c, big);
    content_output(c, STREAM_STDERR, "short", 5);
    show(c, DISPLAY_RESULT, json_pack("{ss}", "text/plain", big), NULL);
    outcome_init(&outcome);
    outcome.cause = CAUSE_ERROR;
    outcome.error.etype = strdup("E");
    memcpy(big + 200000 - 12, "E: last end.", 12);
    outcome.error.traceback = big;
    result = finish_with(c, &outcome);
    outcome_deinit(&outcome);
    assert_string_equal(text_at(result, 1, "stderr"), "short");
    error = text_at(result, 3, "error");
    assert_string_equal(error + strlen(error) - 12, "E: last end.");
    for (size_t i = 0; i < block_count(result) - 1; i++) {
        total += json_string_length(json_object_get(block_at(result, i), "text"));
    }
    assert_true(total <= CONTENT_TEXT_LIMIT + 3 * TEXT_MARK_ROOM);
    assert_true(total > CONTENT_TEXT_LIMIT - 10);
    json_decref(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_bad_bytes_replacement_characters),
        cmocka_unit_test(keeps_nul_characters),
        cmocka_unit_test(joins_characters_split_between_chunks),
        cmocka_unit_test(cuts_on_lines_and_counts),
        cmocka_unit_test(cuts_between_characters),
        cmocka_unit_test(captures_head_and_tail_of_any_stream),
        cmocka_unit_test(a_middle_that_never_came_is_as_one_that_was_dropped),
        cmocka_unit_test(writes_numbers_for_people),
        cmocka_unit_test(a_silent_run_has_no_blocks),
        cmocka_unit_test(orders_parts_and_numbers_arrivals),
        cmocka_unit_test(names_the_error_that_a_traceback_lacks),
        cmocka_unit_test(tells_signals_by_name),
        cmocka_unit_test(cuts_long_output_and_says_where_it_is),
        cmocka_unit_test(shares_the_room_and_keeps_the_end_of_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
