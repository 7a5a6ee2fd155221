#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/kernels/runner/frame.h"

static void put(struct buffer *b, enum frame_type type, const char *payload, size_t size)
{
    unsigned char header[FRAME_HEADER];

    frame_header(header, type, size);
    assert_int_equal(buffer_append(b, header, sizeof(header)), 0);
    assert_int_equal(buffer_append(b, payload, size), 0);
}

static void test_header_is_little_endian(void **state)
{
    unsigned char header[FRAME_HEADER];

    (void)state;
    frame_header(header, FRAME_RUN, 0x0123456);
    assert_memory_equal(header, "\x56\x34\x12\x00\x01", FRAME_HEADER);
}

static void test_frames_come_out_as_they_went_in(void **state)
{
    struct buffer b;
    struct frame f;

    (void)state;
    buffer_init(&b, 1000);
    put(&b, FRAME_STDOUT, "a\0b", 3);
    put(&b, FRAME_NOTE, "", 0);
    assert_int_equal(frame_next(&b, &f), 1);
    assert_int_equal(f.type, FRAME_STDOUT);
    assert_int_equal(f.size, 3);
    assert_memory_equal(f.payload, "a\0b", 3);
    buffer_consume(&b, FRAME_HEADER + f.size);
    assert_int_equal(frame_next(&b, &f), 1);
    assert_int_equal(f.size, 0);
    buffer_consume(&b, FRAME_HEADER);
    assert_int_equal(frame_next(&b, &f), 0);
    buffer_deinit(&b);
}

static void test_every_cut_waits_for_more(void **state)
{
    struct buffer whole, part;
    struct frame f = {.type = 77};

    (void)state;
    buffer_init(&whole, 1000);
    put(&whole, FRAME_DONE, "{\"x\":1}", 7);
    for (size_t n = 0; n < buffer_size(&whole); n++) {
        buffer_init(&part, 1000);
        assert_int_equal(buffer_append(&part, buffer_data(&whole), n), 0);
        assert_int_equal(frame_next(&part, &f), 0);
        assert_int_equal(f.type, 77); /* untouched */
        buffer_deinit(&part);
    }
    buffer_deinit(&whole);
}

static void test_types_and_lengths_are_judged_by_the_header(void **state)
{
    struct buffer b;
    struct frame f;

    (void)state;
    buffer_init(&b, 1000);
    for (int type = 0; type < 256; type++) {
        unsigned char header[FRAME_HEADER] = {1, 0, 0, 0, (unsigned char)type};
        bool known = (type >= FRAME_GREETING && type <= FRAME_BEGIN) || type == FRAME_DONE;
        buffer_reset(&b);
        assert_int_equal(buffer_append(&b, header, sizeof(header)), 0);
        assert_int_equal(frame_next(&b, &f), known ? 0 : -EPROTO);
    }
    buffer_reset(&b);
    assert_int_equal(buffer_append(&b, "\x01\x00\x00\x02\x11", 5), 0); /* cap + 1 */
    assert_int_equal(frame_next(&b, &f), -EMSGSIZE);
    buffer_reset(&b);
    assert_int_equal(buffer_append(&b, "\x00\x00\x00\x02\x11", 5), 0); /* cap */
    assert_int_equal(frame_next(&b, &f), 0);
    buffer_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_is_little_endian),
        cmocka_unit_test(test_frames_come_out_as_they_went_in),
        cmocka_unit_test(test_every_cut_waits_for_more),
        cmocka_unit_test(test_types_and_lengths_are_judged_by_the_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
