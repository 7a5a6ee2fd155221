#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/base/buffer.h"

static void test_append_and_consume(void **state)
{
    struct buffer b;

    (void)state;
    buffer_init(&b, 100);
    assert_null(buffer_data(&b));
    assert_int_equal(buffer_append(&b, "", 0), 0);
    assert_int_equal(buffer_append(&b, "hello ", 6), 0);
    assert_int_equal(buffer_append(&b, "world", 5), 0);
    assert_memory_equal(buffer_data(&b), "hello world", 11);
    buffer_consume(&b, 6);
    assert_int_equal(buffer_size(&b), 5);
    assert_memory_equal(buffer_data(&b), "world", 5);
    buffer_deinit(&b);
}

static void test_cap_is_exact_and_all_or_nothing(void **state)
{
    struct buffer b;
    char *space;

    (void)state;
    buffer_init(&b, 10);
    assert_int_equal(buffer_append(&b, "0123456789", 10), 0);
    assert_int_equal(buffer_append(&b, "x", 1), -ENOBUFS);
    assert_int_equal(buffer_reserve(&b, 1, &space), -ENOBUFS);
    assert_int_equal(buffer_reserve(&b, (size_t)-1, &space), -ENOBUFS);
    assert_int_equal(buffer_size(&b), 10);
    buffer_consume(&b, 4);
    assert_int_equal(buffer_append(&b, "abcde", 5), -ENOBUFS);
    assert_int_equal(buffer_append(&b, "abcd", 4), 0);
    assert_memory_equal(buffer_data(&b), "456789abcd", 10);
    buffer_deinit(&b);
}

static void test_reserve_then_commit(void **state)
{
    struct buffer b;
    char *space;

    (void)state;
    buffer_init(&b, 1 << 20);
    assert_int_equal(buffer_reserve(&b, 1000, &space), 0);
    memset(space, 'a', 1000);
    assert_int_equal(buffer_size(&b), 0);
    buffer_commit(&b, 10);
    assert_int_equal(buffer_size(&b), 10);
    buffer_deinit(&b);
}

/* A stream through a small window: memory must not grow with what has passed. */
static void test_room_is_reused(void **state)
{
    struct buffer b;
    char block[1000];

    (void)state;
    memset(block, 'x', sizeof(block));
    buffer_init(&b, 1 << 20);
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(buffer_append(&b, block, sizeof(block)), 0);
        if (buffer_size(&b) > 3000) {
            buffer_consume(&b, 1000);
        }
    }
    assert_true(b.room <= 16384);
    buffer_deinit(&b);
}

static void test_reset_gives_large_room_back(void **state)
{
    struct buffer b;
    char *space;

    (void)state;
    buffer_init(&b, 1 << 20);
    assert_int_equal(buffer_reserve(&b, 1 << 19, &space), 0);
    buffer_commit(&b, 1 << 19);
    buffer_reset(&b);
    assert_int_equal(buffer_size(&b), 0);
    assert_int_equal(b.room, 0);
    assert_int_equal(buffer_append(&b, "x", 1), 0);
    buffer_reset(&b);
    assert_true(b.room > 0);
    buffer_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_consume),
        cmocka_unit_test(test_cap_is_exact_and_all_or_nothing),
        cmocka_unit_test(test_reserve_then_commit),
        cmocka_unit_test(test_room_is_reused),
        cmocka_unit_test(test_reset_gives_large_room_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
