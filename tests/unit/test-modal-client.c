/* The control plane's client: its token, and how calls and clients end. */
#include "cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/modal/client_internal.h"
#include "client-trial.h"

/* ---- the token ---- */

static void test_one_token_for_all(void **state)
{
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com:443");
    for (unsigned i = 0; i < 3; i++) {
        (void)client_trial_call(&t, (struct modal_rpc_call){0});
    }
    client_trial_run(&t, 3);
    assert_string_equal(t.app, "ap-1");
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(fake_count("AuthTokenGet"), 1);
    assert_int_equal(t.tokens_seen, 3);
    assert_string_not_equal(t.keys[0], t.keys[1]);
    assert_int_equal(strlen(t.keys[0]), 36);
    assert_int_equal(t.keys[0][14], '4'); /* a random UUID */
    client_trial_end(&t);
}

static void test_an_expired_token_is_fetched_anew(void **state)
{
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    t.token = CLIENT_TRIAL_SHORT_TOKEN;
    (void)client_trial_call(&t, (struct modal_rpc_call){0});
    client_trial_run(&t, 1);
    (void)client_trial_call(&t, (struct modal_rpc_call){.delay_ms = 60});
    client_trial_run(&t, 2);
    assert_true(fake_count("AuthTokenGet") >= 2);
    client_trial_end(&t);
}

static void test_a_new_token_is_fetched_in_time(void **state)
{
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    (void)client_trial_call(&t, (struct modal_rpc_call){0});
    client_trial_run(&t, 1);
    t.client->token.renew_at = uv_now(&t.loop); /* half of its life is over */
    t.token = "";
    (void)client_trial_call(&t,
                            (struct modal_rpc_call){0}); /* which goes with the one that is there */
    client_trial_run(&t, 2);
    assert_int_equal(t.err.kind, ERROR_NONE);
    while (t.client->token.fetch) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    assert_int_equal(fake_count("AuthTokenGet"), 2);
    assert_true(t.client->token.retry_at > t.client->token.renew_at);
    t.client->token.retry_at = UINT64_MAX;
    (void)client_trial_call(&t, (struct modal_rpc_call){0}); /* that failed: not at once again */
    client_trial_run(&t, 3);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_null(t.client->token.fetch);
    t.client->token.retry_at = 0;
    t.token = CLIENT_TRIAL_TOKEN;
    (void)client_trial_call(&t, (struct modal_rpc_call){0});
    client_trial_run(&t, 4);
    while (t.client->token.fetch) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    assert_int_equal(fake_count("AuthTokenGet"), 3);
    assert_true(t.client->token.renew_at > uv_now(&t.loop));
    client_trial_end(&t);
}

static void test_a_refused_token_is_fetched_anew_once(void **state)
{
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    t.bad_reply = client_trial_failing(GRPC_UNAUTHENTICATED);
    t.bad = 1;
    (void)client_trial_call(&t, (struct modal_rpc_call){.once = true});
    client_trial_run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(fake_count("AuthTokenGet"), 2);
    t.bad = 5;
    (void)client_trial_call(&t, (struct modal_rpc_call){0});
    client_trial_run(&t, 2);
    assert_int_equal(t.bad, 3);
    assert_int_equal(t.err.kind, ERROR_REFUSED);
    assert_non_null(strstr(t.err.message, "credentials of this test"));
    assert_non_null(strstr(t.err.message, "modal token new"));
    client_trial_end(&t);
}

static void test_a_token_that_is_none(void **state)
{
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    t.token = "";
    (void)client_trial_call(&t, (struct modal_rpc_call){0});
    client_trial_run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_LOST);
    assert_non_null(strstr(t.err.message, "gave no token"));
    assert_int_equal(t.calls, 0);
    client_trial_end(&t);
}

static void test_life_of_a_token(void **state)
{
    (void)state;
    assert_int_equal(modal_token_life(CLIENT_TRIAL_TOKEN, 5e9),
                     1200 * 1000); /* whatever our clock says */
    assert_int_equal(modal_token_life("h.eyJleHAiOjUwMDB9.s", 4000), 1000 * 1000); /* exp 5000 */
    assert_int_equal(modal_token_life("h.eyJleHAiOjUwMDB9.s", 6000), 0);
    assert_int_equal(modal_token_life("h.eyJleHAiOiJ4In0.s", 0), 0);          /* exp "x" */
    assert_int_equal(modal_token_life("h.eyJpYXQiOjEwLCJleHAiOjV9.s", 0), 0); /* before iat */
    assert_int_equal(modal_token_life("h.eyJpYXQiOjUsImV4cCI6MWUxMn0.s", 0), 86400 * 1000);
    assert_int_equal(modal_token_life("h.!!.s", 0), 0);
    assert_int_equal(modal_token_life("no token", 0), 0);
    assert_int_equal(modal_token_life("", 0), 0);
}

/* ---- ends ---- */

static void test_cancelling(void **state)
{
    struct modal_rpc *rpc;
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    rpc = client_trial_call(&t, (struct modal_rpc_call){0}); /* waits for the token */
    modal_rpc_cancel(rpc);
    modal_rpc_cancel(rpc);
    assert_int_equal(t.ended, 0);
    client_trial_run(&t, 1);
    assert_int_equal(t.status, GRPC_CANCELLED);
    t.hold = true;
    rpc = client_trial_call(&t, (struct modal_rpc_call){0});
    while (t.calls == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    modal_rpc_cancel(rpc);
    client_trial_run(&t, 2);
    assert_int_equal(t.status, GRPC_CANCELLED);
    rpc = client_trial_call(&t, (struct modal_rpc_call){.delay_ms = 60 * 1000});
    modal_rpc_cancel(rpc);
    client_trial_run(&t, 3);
    assert_int_equal(t.calls, 1);
    client_trial_end(&t);
}

static void test_closing_with_calls_on_their_way(void **state)
{
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    t.hold = true;
    (void)client_trial_call(&t, (struct modal_rpc_call){0});
    (void)client_trial_call(&t, (struct modal_rpc_call){.stream = true});
    while (t.calls < 2) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    (void)client_trial_call(&t, (struct modal_rpc_call){.delay_ms = 60 * 1000});
    client_trial_end(&t);
    assert_int_equal(t.ended, 3);
}

static void test_addresses(void **state)
{
    static const struct {
        const char *url;
        bool local;
    } urls[] = {{"http://localhost:8000", true},
                {"http://127.0.0.1:8000", true},
                {"http://[::1]:8000", true},
                {"http://localhost.example.org", false},
                {"https://localhost,https://api.modal.com", false}};
    struct modal_credentials who = {.server_url = "ftp://x", .environment = "", .profile = "x"};
    struct error err = {0};
    struct client_trial t;

    (void)state;
    for (unsigned i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        client_trial_begin(&t, urls[i].url);
        assert_int_equal(modal_client_is_local(t.client), urls[i].local);
        client_trial_end(&t);
    }
    assert_int_equal(uv_loop_init(&t.loop), 0);
    assert_null(modal_client_new(&t.loop, &who, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    error_clear(&err);
    who.server_url = " , ";
    assert_null(modal_client_new(&t.loop, &who, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    error_clear(&err);
    uv_run(&t.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t.loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_token_for_all),
        cmocka_unit_test(test_an_expired_token_is_fetched_anew),
        cmocka_unit_test(test_a_new_token_is_fetched_in_time),
        cmocka_unit_test(test_a_refused_token_is_fetched_anew_once),
        cmocka_unit_test(test_a_token_that_is_none),
        cmocka_unit_test(test_life_of_a_token),
        cmocka_unit_test(test_cancelling),
        cmocka_unit_test(test_closing_with_calls_on_their_way),
        cmocka_unit_test(test_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
