/* A sandbox's router: its token and address, and what is tried again. */
#include "cmocka_all.h"

#include <limits.h>
#include <string.h>

#include "backends/modal/internal.h"
#include "exec-trial.h"

/* ---- the router's token ---- */

static void test_a_token_is_renewed_once_for_all(void **state)
{
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.good_bearer = "Bearer second";
    exec_trial_start(&t);
    exec_trial_run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_CODE);
    assert_string_equal(t.out, "all of it");
    assert_int_equal(fake_count("SandboxGetCommandRouterAccess"), 1);
    exec_trial_end(&t);
}

static void test_a_token_that_stays_bad(void **state)
{
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.good_bearer = "Bearer third";
    exec_trial_start(&t);
    exec_trial_run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_LOST);
    assert_int_equal(t.end.status, GRPC_UNAUTHENTICATED);
    assert_int_equal(fake_count("SandboxGetCommandRouterAccess"), 1);
    exec_trial_end(&t);
}

static void test_no_other_token_is_to_be_had(void **state)
{
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    t.good_bearer = "Bearer second";
    t.renewals_fail = true;
    exec_trial_start(&t);
    exec_trial_run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_LOST);
    assert_int_equal(t.end.status, GRPC_NOT_FOUND);
    exec_trial_end(&t);
}

static void test_an_address_without_tls(void **state)
{
    struct error err = {0};
    struct modal_router *router;
    struct exec_trial t;

    (void)state;
    exec_trial_begin(&t, "https://api.modal.com");
    assert_null(exec_trial_router(&t, "http://worker.example", &err));
    assert_int_equal(err.kind, ERROR_REFUSED);
    assert_non_null(strstr(err.message, "not https"));
    error_clear(&err);
    exec_trial_end(&t);
    exec_trial_begin(&t, "http://127.0.0.1:1");
    router = exec_trial_router(&t, "http://127.0.0.1:2", &err);
    assert_non_null(router);
    modal_router_close(router, exec_trial_closed, &t);
    uv_run(&t.loop, UV_RUN_DEFAULT);
    t.closed = 0;
    exec_trial_end(&t);
}

static void test_what_is_tried_again(void **state)
{
    struct modal_attempts a = {0};
    struct grpc_end end = {.status = GRPC_UNAVAILABLE, .message = ""};
    unsigned ms = 0;

    (void)state;
    for (unsigned i = 0; i < MODAL_ROUTER_TRIES; i++) {
        assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_LATER);
        assert_int_equal(ms, MODAL_ROUTER_DELAY_MS << i > MODAL_ROUTER_DELAY_MAX_MS
                                 ? MODAL_ROUTER_DELAY_MAX_MS
                                 : MODAL_ROUTER_DELAY_MS << i);
    }
    assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_NO);
    assert_int_equal(modal_attempts_next(&a, &end, true, UINT64_MAX, &ms), MODAL_AGAIN_LATER);
    assert_int_equal(ms, MODAL_ROUTER_SLOW_MS);
    assert_int_equal(modal_attempts_next(&a, &end, true, 500, &ms), MODAL_AGAIN_NO);
    end.status = GRPC_UNAUTHENTICATED;
    assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_RENEW);
    assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_NO);
    end.status = GRPC_RESOURCE_EXHAUSTED; /* nobody says when to come back */
    assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_NO);
    end.status = GRPC_INVALID_ARGUMENT;
    assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_NO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_token_is_renewed_once_for_all),
        cmocka_unit_test(test_a_token_that_stays_bad),
        cmocka_unit_test(test_no_other_token_is_to_be_had),
        cmocka_unit_test(test_an_address_without_tls),
        cmocka_unit_test(test_what_is_tried_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
