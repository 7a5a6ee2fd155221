#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/outcome.h"

static void test_names_are_those_of_the_schema(void **state)
{
    static const char *const names[] = {"ok",        "error",         "exit",   "timeout",
                                        "cancelled", "out_of_memory", "killed", "lost",
                                        "refused",   "unsupported"};

    (void)state;
    for (int i = CAUSE_OK; i <= CAUSE_UNSUPPORTED; i++) {
        assert_string_equal(cause_name((enum cause)i), names[i]);
    }
}

static void test_an_error_has_a_cause(void **state)
{
    (void)state;
    assert_int_equal(cause_of_error(ERROR_REFUSED), CAUSE_REFUSED);
    assert_int_equal(cause_of_error(ERROR_INVALID), CAUSE_REFUSED);
    assert_int_equal(cause_of_error(ERROR_NOT_FOUND), CAUSE_REFUSED);
    assert_int_equal(cause_of_error(ERROR_LIMIT), CAUSE_REFUSED);
    assert_int_equal(cause_of_error(ERROR_UNSUPPORTED), CAUSE_UNSUPPORTED);
    assert_int_equal(cause_of_error(ERROR_LOST), CAUSE_LOST);
    assert_int_equal(cause_of_error(ERROR_TIMEOUT), CAUSE_LOST);
    assert_int_equal(cause_of_error(ERROR_INTERNAL), CAUSE_LOST);
}

static void test_signals_have_names(void **state)
{
    char space[16];

    (void)state;
    assert_string_equal(signal_name(SIGSEGV, space), "SIGSEGV");
    assert_string_equal(signal_name(SIGSYS, space), "SIGSYS");
    assert_string_equal(signal_name(50, space), "SIG50");
    assert_string_equal(signal_name(-2147483647, space), "SIG-2147483647");
}

static void test_deinit_frees_and_empties(void **state)
{
    struct outcome o;

    (void)state;
    outcome_init(&o);
    assert_int_equal(o.cause, CAUSE_OK);
    assert_null(o.note);
    o.cause = CAUSE_ERROR;
    o.note = strdup("n");
    o.error.etype = strdup("E");
    o.full[1].path = strdup("/p");
    outcome_deinit(&o);
    assert_null(o.note);
    assert_null(o.full[1].path);
    outcome_deinit(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_those_of_the_schema),
        cmocka_unit_test(test_an_error_has_a_cause),
        cmocka_unit_test(test_signals_have_names),
        cmocka_unit_test(test_deinit_frees_and_empties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
