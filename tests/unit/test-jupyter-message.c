#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/kernels/jupyter/message.h"

enum { ROOM = 64 * 1024 };

static int build(bool v1, const char *content, const char *part, struct buffer *to, bool *binary)
{
    json_t *object = json_loads(content, 0, NULL);
    struct jupyter_outgoing m = {.channel = JUPYTER_CONTROL,
                                 .type = "some_request",
                                 .id = "the-id",
                                 .session = "the-session",
                                 .content = object,
                                 .buffer = part,
                                 .buffer_size = part ? strlen(part) : 0};
    int r;

    assert_non_null(object);
    buffer_init(to, ROOM);
    r = jupyter_message_build(v1, &m, to, binary);
    json_decref(object);
    return r;
}

static void check_round_trip(bool v1, const char *part)
{
    struct jupyter_message m;
    struct buffer bytes;
    const char *why = "";
    bool binary = false;

    assert_int_equal(build(v1, "{\"code\":\"1\\n\\u0041\"}", part, &bytes, &binary), 0);
    assert_int_equal(binary, v1 || part);
    assert_int_equal(
        jupyter_message_parse(v1, binary, buffer_data(&bytes), buffer_size(&bytes), &m, &why), 0);
    assert_int_equal(m.channel, JUPYTER_CONTROL);
    assert_string_equal(m.type, "some_request");
    assert_string_equal(m.parent, "");
    assert_string_equal(json_string_value(json_object_get(m.header, "msg_id")), "the-id");
    assert_string_equal(json_string_value(json_object_get(m.header, "session")), "the-session");
    assert_string_equal(json_string_value(json_object_get(jupyter_message_content(&m), "code")),
                        "1\nA");
    jupyter_message_deinit(&m);
    buffer_deinit(&bytes);
}

static void test_what_is_built_is_parsed(void **state)
{
    (void)state;
    check_round_trip(true, NULL);
    check_round_trip(false, NULL);
    check_round_trip(true, "a binary part");
    check_round_trip(false, "a binary part");
}

static uint64_t u64_at(const struct buffer *b, size_t index)
{
    uint64_t value;

    memcpy(&value, buffer_data(b) + index * sizeof(value), sizeof(value));
    return le64toh(value);
}

/* The numbers that jupyter_server itself writes for a message without binary parts. */
static void test_v1_has_six_offsets_and_the_last_is_the_end(void **state)
{
    struct buffer bytes;
    bool binary;

    (void)state;
    assert_int_equal(build(true, "{}", NULL, &bytes, &binary), 0);
    assert_int_equal(u64_at(&bytes, 0), 6);
    assert_int_equal(u64_at(&bytes, 1), 56);
    assert_int_equal(u64_at(&bytes, 2), 56 + strlen("control"));
    assert_int_equal(u64_at(&bytes, 6), buffer_size(&bytes));
    assert_memory_equal(buffer_data(&bytes) + 56, "control", 7);
    buffer_deinit(&bytes);
}

static void test_a_binary_part_is_the_last_one(void **state)
{
    struct buffer bytes;
    bool binary;
    uint32_t count;

    (void)state;
    assert_int_equal(build(true, "{}", "PART", &bytes, &binary), 0);
    assert_int_equal(u64_at(&bytes, 0), 7);
    assert_memory_equal(buffer_data(&bytes) + u64_at(&bytes, 6), "PART", 4);
    buffer_deinit(&bytes);
    assert_int_equal(build(false, "{}", "PART", &bytes, &binary), 0);
    memcpy(&count, buffer_data(&bytes), sizeof(count));
    assert_int_equal(be32toh(count), 2);
    assert_memory_equal(buffer_data(&bytes) + buffer_size(&bytes) - 4, "PART", 4);
    buffer_deinit(&bytes);
}

static int parse_text(const char *text, struct jupyter_message *m)
{
    const char *why = NULL;
    int r = jupyter_message_parse(false, false, text, strlen(text), m, &why);

    assert_true(r == 0 || (why && *why));
    return r;
}

static void test_legacy_texts(void **state)
{
    static const char *const wrong[] = {
        "",
        "[]",
        "{",
        "{\"channel\":\"iopub\"}",
        "{\"channel\":\"nowhere\",\"header\":{\"msg_type\":\"x\"}}",
        "{\"channel\":\"iopub\",\"header\":{\"msg_type\":5}}",
        "{\"channel\":\"iopub\",\"header\":[]}",
    };
    struct jupyter_message m;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(parse_text(wrong[i], &m), -EPROTO);
    }
    assert_int_equal(parse_text("{\"channel\":\"iopub\",\"header\":{\"msg_type\":\"stream\"},"
                                "\"parent_header\":{\"msg_id\":\"p\"},\"content\":7}",
                                &m),
                     0);
    assert_int_equal(m.channel, JUPYTER_IOPUB);
    assert_string_equal(m.parent, "p");
    assert_null(jupyter_message_content(&m));
    jupyter_message_deinit(&m);
}

/* Every count and offset of a sound message, replaced by ones that lead elsewhere. */
static void test_v1_offsets_that_lead_elsewhere(void **state)
{
    static const uint64_t lies[] = {0, 1, 5, 8, 55, 1000, 1u << 31, UINT64_MAX, UINT64_MAX - 7};
    struct jupyter_message m;
    struct buffer bytes;
    const char *why;
    bool binary;

    (void)state;
    for (size_t at = 0; at < 7; at++) {
        for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
            uint64_t lie = htole64(lies[i]);
            assert_int_equal(build(true, "{\"a\":1}", NULL, &bytes, &binary), 0);
            memcpy(buffer_data(&bytes) + at * sizeof(lie), &lie, sizeof(lie));
            why = NULL;
            if (jupyter_message_parse(true, true, buffer_data(&bytes), buffer_size(&bytes), &m,
                                      &why) == 0) {
                jupyter_message_deinit(&m);
            } else {
                assert_non_null(why);
            }
            buffer_deinit(&bytes);
        }
    }
}

static void test_every_cut_is_refused_or_sound(void **state)
{
    struct jupyter_message m;
    struct buffer bytes;
    const char *why;
    bool binary;

    (void)state;
    for (int v1 = 0; v1 <= 1; v1++) {
        assert_int_equal(build(v1, "{\"a\":1}", "part", &bytes, &binary), 0);
        for (size_t n = 0; n < buffer_size(&bytes); n++) {
            char *copy = malloc(n + 1); /* exactly so long, for the sanitizer to see */
            memcpy(copy, buffer_data(&bytes), n);
            int r = jupyter_message_parse(v1, true, copy, n, &m, &why);
            if (r == 0) {
                (void)jupyter_message_content(&m);
                jupyter_message_deinit(&m);
            }
            if (v1) {
                assert_int_equal(r, -EPROTO); /* the last offset is past the end */
            }
            free(copy);
        }
        buffer_deinit(&bytes);
    }
}

static void test_a_cap_is_kept(void **state)
{
    json_t *object = json_object();
    struct jupyter_outgoing m = {.type = "t", .id = "i", .session = "s", .content = object};
    struct buffer bytes;
    bool binary;

    (void)state;
    json_object_set_new(object, "x", json_stringn("0123456789", 10));
    buffer_init(&bytes, 64);
    assert_int_equal(jupyter_message_build(true, &m, &bytes, &binary), -ENOBUFS);
    buffer_deinit(&bytes);
    json_decref(object);
}

static void test_ids_differ(void **state)
{
    char one[JUPYTER_ID_SIZE], two[JUPYTER_ID_SIZE];

    (void)state;
    jupyter_make_id(one);
    jupyter_make_id(two);
    assert_int_equal(strlen(one), 32);
    assert_int_equal(strspn(one, "0123456789abcdef"), 32);
    assert_string_not_equal(one, two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_built_is_parsed),
        cmocka_unit_test(test_v1_has_six_offsets_and_the_last_is_the_end),
        cmocka_unit_test(test_a_binary_part_is_the_last_one),
        cmocka_unit_test(test_legacy_texts),
        cmocka_unit_test(test_v1_offsets_that_lead_elsewhere),
        cmocka_unit_test(test_every_cut_is_refused_or_sound),
        cmocka_unit_test(test_a_cap_is_kept),
        cmocka_unit_test(test_ids_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
