#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

#include "backends/base/error.h"

static void test_set_replaces_and_answers_minus_one(void **state)
{
    struct error err = {0};

    (void)state;
    assert_int_equal(error_set(&err, ERROR_INVALID, "given %d", 7), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_string_equal(err.message, "given 7");
    /* The old message may be an argument of the new one. */
    (void)error_set(&err, ERROR_LIMIT, "again: %s", err.message);
    assert_string_equal(err.message, "again: given 7");
    error_clear(&err);
    assert_int_equal(err.kind, ERROR_NONE);
    assert_null(err.message);
}

static void test_null_is_ignored(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, ERROR_LOST, "x"), -1);
    assert_int_equal(error_set_code(NULL, ERROR_LOST, EPERM, "x"), -1);
    assert_int_equal(error_wrap(NULL, "x"), -1);
    error_clear(NULL);
}

static void test_code_of_either_sign_and_of_libuv(void **state)
{
    struct error err = {0};

    (void)state;
    (void)error_set_code(&err, ERROR_INTERNAL, ENOENT, "open %s", "x");
    assert_string_equal(err.message, "open x: No such file or directory");
    (void)error_set_code(&err, ERROR_INTERNAL, -ENOENT, "open");
    assert_string_equal(err.message, "open: No such file or directory");
    (void)error_set_code(&err, ERROR_INTERNAL, UV_EOF, "read");
    assert_string_equal(err.message, "read: end of file");
    error_clear(&err);
}

static void test_wrap_puts_context_first(void **state)
{
    struct error err = {0};

    (void)state;
    (void)error_wrap(&err, "nothing to wrap");
    assert_int_equal(err.kind, ERROR_NONE);
    (void)error_set(&err, ERROR_REFUSED, "no");
    assert_int_equal(error_wrap(&err, "while %s", "asking"), -1);
    assert_int_equal(err.kind, ERROR_REFUSED);
    assert_string_equal(err.message, "while asking: no");
    error_clear(&err);
}

static void test_copy_is_deep(void **state)
{
    struct error one = {0}, two = {0};

    (void)state;
    (void)error_set(&one, ERROR_LIMIT, "full");
    error_copy(&two, &one);
    error_clear(&one);
    assert_int_equal(two.kind, ERROR_LIMIT);
    assert_string_equal(two.message, "full");
    error_clear(&two);
    error_copy(&two, &one);
    assert_null(two.message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_replaces_and_answers_minus_one),
        cmocka_unit_test(test_null_is_ignored),
        cmocka_unit_test(test_code_of_either_sign_and_of_libuv),
        cmocka_unit_test(test_wrap_puts_context_first),
        cmocka_unit_test(test_copy_is_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
