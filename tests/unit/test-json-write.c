#include "mcp/json_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_all.h"

/* What jansson writes is what is expected. */

static void assert_same(json_t *value_owned)
{
    char *expected = json_dumps(value_owned, JSON_COMPACT | JSON_ENCODE_ANY);
    struct buffer out;

    buffer_init(&out, 1 << 20);
    assert_int_equal(json_write(value_owned, &out), 0);
    assert_int_equal(buffer_append(&out, "", 1), 0);
    assert_string_equal(buffer_data(&out), expected);
    buffer_deinit(&out);
    free(expected);
    json_decref(value_owned);
}

static void every_kind_of_value(void **state)
{
    (void)state;
    assert_same(json_null());
    assert_same(json_pack("[]"));
    assert_same(json_pack("{}"));
    assert_same(
        json_pack("[b, b, i, I, f, f, n, s, [[]], {}]", 1, 0, -7, INT64_MAX, 0.1, 1e300, "", 1));
    assert_same(json_pack("{s: {s: [i, i]}, s: s, s: {}}", "z", "\"key\n", 1, 2, "a", "b", "", ""));
}

static void every_byte_of_ascii_at_every_place(void **state)
{
    char text[24];

    (void)state;
    for (size_t at = 0; at < sizeof(text); at++) {
        for (int c = 0; c < 0x80; c++) {
            memset(text, 'a', sizeof(text));
            text[at] = (char)c;
            assert_same(json_stringn(text, sizeof(text)));
        }
    }
}

static void characters_of_every_length_at_every_place(void **state)
{
    static const char *const characters[] = {"\xc2\x80",         "\xc3\xa9",         "\xef\xbf\xbf",
                                             "\xe2\x82\xac",     "\xed\x9f\xbf",     "\xee\x80\x80",
                                             "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\x7f"};
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof(characters) / sizeof(*characters); i++) {
        for (size_t at = 0; at < 20; at++) {
            memset(text, 'b', sizeof(text));
            memcpy(text + at, characters[i], strlen(characters[i]));
            text[40] = '\n';
            assert_same(json_stringn(text, 48));
            assert_same(json_stringn(text, at + strlen(characters[i])));
        }
    }
}

static void any_characters(void **state)
{
    static const char *const pieces[] = {"plain text", "\"", "\\", "\x01", "\n",   "é",   "€",
                                         "😀",          "x",  "/",  "",     "\x1f", "\x7f"};
    unsigned dice = 1;

    (void)state;
    for (unsigned round = 0; round < 2000; round++) {
        char text[512] = "";
        size_t size = 0;

        for (unsigned n = 0; n < round % 40; n++) {
            dice = dice * 1103515245 + 12345;
            size += (size_t)snprintf(text + size, sizeof(text) - size, "%s",
                                     pieces[(dice >> 16) % (sizeof(pieces) / sizeof(*pieces))]);
        }
        assert_same(json_pack("{s: [s]}", text, text));
    }
}

static void what_is_no_utf8_is_refused(void **state)
{
    static const char *const bad[] = {
        "\x80", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "abcdefgh\xff", "abc\xe2\x82"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        json_t *value = json_pack("[o]", json_string_nocheck(bad[i]));
        struct buffer out;

        buffer_init(&out, 4096);
        assert_true(json_write(value, &out) < 0);
        assert_null(json_dumps(value, 0));
        buffer_deinit(&out);
        json_decref(value);
    }
}

static void a_full_buffer_ends_it(void **state)
{
    json_t *value = json_pack("{s: [s, i, {s: s}], s: n}", "key", "text\n", 77, "a", "b", "z");
    char *whole = json_dumps(value, JSON_COMPACT);
    struct buffer out;

    (void)state;
    for (size_t cap = 0; cap <= strlen(whole); cap++) {
        buffer_init(&out, cap);
        assert_int_equal(json_write(value, &out) == 0, cap == strlen(whole));
        buffer_deinit(&out);
    }
    free(whole);
    json_decref(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value),
        cmocka_unit_test(every_byte_of_ascii_at_every_place),
        cmocka_unit_test(characters_of_every_length_at_every_place),
        cmocka_unit_test(any_characters),
        cmocka_unit_test(what_is_no_utf8_is_refused),
        cmocka_unit_test(a_full_buffer_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
