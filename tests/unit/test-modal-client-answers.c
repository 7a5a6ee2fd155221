/* The control plane's client: what is tried again, throttling, answers and streams. */
#include "cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/modal/client_internal.h"
#include "client-trial.h"

/* ---- retries ---- */

static void test_transient_ends_are_retried(void **state)
{
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    t.bad_reply = client_trial_failing(GRPC_UNAVAILABLE);
    t.bad = 2;
    (void)client_trial_call(&t, (struct modal_rpc_call){0});
    client_trial_run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(t.calls, 3);
    assert_string_equal(t.keys[0], t.keys[2]);
    assert_string_equal(t.retries[0], "0");
    assert_string_equal(t.retries[2], "2");
    client_trial_end(&t);
}

static void test_retries_end(void **state)
{
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    t.bad_reply = client_trial_failing(GRPC_INTERNAL);
    t.bad = 99;
    (void)client_trial_call(&t, (struct modal_rpc_call){0});
    client_trial_run(&t, 1);
    assert_int_equal(t.calls, 4);
    assert_int_equal(t.status, GRPC_INTERNAL);
    assert_string_equal(t.err.message, "AppGetOrCreate: the service answered INTERNAL: not now");
    (void)client_trial_call(&t, (struct modal_rpc_call){.once = true});
    client_trial_run(&t, 2);
    assert_int_equal(t.calls, 5);
    (void)client_trial_call(&t,
                            (struct modal_rpc_call){.total_ms = 1500}); /* too little for another */
    client_trial_run(&t, 3);
    assert_int_equal(t.calls, 6);
    client_trial_end(&t);
}

static void test_what_is_not_retried(void **state)
{
    static const struct {
        enum grpc_status status;
        enum error_kind kind;
    } ends[] = {{GRPC_NOT_FOUND, ERROR_NOT_FOUND},       {GRPC_INVALID_ARGUMENT, ERROR_INVALID},
                {GRPC_PERMISSION_DENIED, ERROR_REFUSED}, {GRPC_RESOURCE_EXHAUSTED, ERROR_LIMIT},
                {GRPC_UNIMPLEMENTED, ERROR_UNSUPPORTED}, {GRPC_ALREADY_EXISTS, ERROR_INVALID}};
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        t.bad_reply = client_trial_failing(ends[i].status);
        t.bad = 1;
        (void)client_trial_call(&t, (struct modal_rpc_call){0});
        client_trial_run(&t, i + 1);
        assert_int_equal(t.calls, i + 1);
        assert_int_equal(t.status, ends[i].status);
        assert_int_equal(t.err.kind, ends[i].kind);
    }
    client_trial_end(&t);
}

/* RPCStatus{details: [Any{type.googleapis.com/…, RPCRetryPolicy{seconds}}]} */
static size_t policy(float seconds, uint8_t space[256])
{
    Modal__Client__RPCRetryPolicy inner = MODAL__CLIENT__RPCRETRY_POLICY__INIT;
    Modal__Client__RPCAny any = MODAL__CLIENT__RPCANY__INIT;
    Modal__Client__RPCAny *details[] = {&any};
    Modal__Client__RPCStatus outer = MODAL__CLIENT__RPCSTATUS__INIT;
    uint8_t bytes[32];

    inner.retry_after_secs = seconds;
    any.type_url = "type.modal.com/modal.client.RPCRetryPolicy";
    any.value.data = bytes;
    any.value.len = modal__client__rpcretry_policy__pack(&inner, bytes);
    outer.n_details = 1;
    outer.details = details;
    return modal__client__rpcstatus__pack(&outer, space);
}

static void test_throttling(void **state)
{
    uint8_t space[256];
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    t.bad_reply = client_trial_failing(GRPC_RESOURCE_EXHAUSTED);
    t.bad_reply.details = space;
    t.bad_reply.details_size = policy(0.01f, space);
    t.bad = 5; /* more than retries are */
    (void)client_trial_call(&t, (struct modal_rpc_call){.once = true});
    client_trial_run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(t.calls, 6);
    assert_string_equal(t.retries[5], "0");
    assert_string_equal(t.throttled[5], "5");
    t.bad_reply.details_size = policy(30, space);
    t.bad = 1;
    (void)client_trial_call(&t, (struct modal_rpc_call){.total_ms = 20 * 1000}); /* too far away */
    client_trial_run(&t, 2);
    assert_int_equal(t.err.kind, ERROR_LIMIT);
    client_trial_end(&t);
}

static void test_policy_of_details(void **state)
{
    uint8_t space[256];

    (void)state;
    assert_int_equal(modal_retry_after_ms(space, policy(2.5f, space)), 2500);
    assert_int_equal(modal_retry_after_ms(space, policy(0, space)), 100);
    assert_int_equal(modal_retry_after_ms(space, policy(-3, space)), 100);
    assert_int_equal(modal_retry_after_ms(space, policy(1e30f, space)), 60 * 60 * 1000);
    assert_int_equal(modal_retry_after_ms("\xff\xff", 2), 0);
    assert_int_equal(modal_retry_after_ms(NULL, 0), 0);
    assert_int_equal(modal_retry_after_ms("", 0), 0);
    assert_int_equal(modal_retry_delay_ms(1), 100);
    assert_int_equal(modal_retry_delay_ms(2), 200);
    assert_int_equal(modal_retry_delay_ms(4), 800);
    assert_int_equal(modal_retry_delay_ms(5), 1000);
    assert_int_equal(modal_retry_delay_ms(4000000000u), 1000);
}

static void test_the_next_server(void **state)
{
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://one, https://two");
    t.bad_reply = client_trial_failing(GRPC_UNAVAILABLE);
    t.bad_reply.local = true;
    t.bad = 1;
    (void)client_trial_call(&t, (struct modal_rpc_call){0});
    client_trial_run(&t, 1);
    assert_string_equal(t.urls[0], "https://one");
    assert_string_equal(t.urls[1], "https://two");
    assert_false(modal_client_is_local(t.client));
    client_trial_end(&t);
}

/* ---- answers ---- */

static void test_answers_that_are_none(void **state)
{
    static const char bad_text[] = "\x0a\x02\xc3\x28"; /* app_id, not UTF-8 */
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    t.bad = 99;
    t.bad_reply = (struct fake_reply){.raw = "\xff\xff\xff", .raw_size = 3};
    (void)client_trial_call(&t, (struct modal_rpc_call){.once = true});
    client_trial_run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_LOST);
    assert_non_null(strstr(t.err.message, "not what it should be"));
    t.bad_reply = (struct fake_reply){.raw = bad_text, .raw_size = 4};
    (void)client_trial_call(&t, (struct modal_rpc_call){.once = true});
    client_trial_run(&t, 2);
    assert_int_equal(t.err.kind, ERROR_LOST);
    t.bad_reply = (struct fake_reply){0}; /* no message at all */
    (void)client_trial_call(&t, (struct modal_rpc_call){.once = true});
    client_trial_run(&t, 3);
    assert_int_equal(t.err.kind, ERROR_LOST);
    (void)client_trial_call(&t, (struct modal_rpc_call){.stream = true}); /* which may have none */
    client_trial_run(&t, 4);
    assert_int_equal(t.err.kind, ERROR_NONE);
    client_trial_end(&t);
}

static void test_texts_of_utf8(void **state)
{
    static const struct {
        const char *text;
        bool good;
    } texts[] = {{"a", true},
                 {"\xc3\xa9", true},
                 {"\xe2\x82\xac", true},
                 {"\xf0\x9f\x98\x80", true},
                 {"\xc0\x80", false},
                 {"\xed\xa0\x80", false},
                 {"\xe2\x82", false},
                 {"\xf4\x90\x80\x80", false},
                 {"\xe0\x80\x80", false},
                 {"\xff", false}};

    (void)state;
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char bytes[16] = {0x0a, (char)strlen(texts[i].text)};
        ProtobufCMessage *m;

        memcpy(bytes + 2, texts[i].text, strlen(texts[i].text));
        m = modal_unpack(&modal__client__app_get_or_create_response__descriptor, bytes,
                         2 + strlen(texts[i].text));
        assert_int_equal(m != NULL, texts[i].good);
        protobuf_c_message_free_unpacked(m, NULL);
    }
}

static void test_streams(void **state)
{
    struct client_trial t;

    (void)state;
    client_trial_begin(&t, "https://api.modal.com");
    t.bad_reply = client_trial_failing(GRPC_UNAUTHENTICATED);
    t.bad = 1;
    (void)client_trial_call(&t, (struct modal_rpc_call){.stream = true});
    client_trial_run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(t.messages, 2);
    assert_string_equal(t.keys[0], "");
    t.bad_reply = client_trial_failing(GRPC_UNAVAILABLE);
    t.bad = 1;
    (void)client_trial_call(&t, (struct modal_rpc_call){.stream = true});
    client_trial_run(&t, 2);
    assert_int_equal(t.status, GRPC_UNAVAILABLE); /* who reads it takes it up again */
    assert_int_equal(t.calls, 3);
    client_trial_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transient_ends_are_retried),
        cmocka_unit_test(test_retries_end),
        cmocka_unit_test(test_what_is_not_retried),
        cmocka_unit_test(test_throttling),
        cmocka_unit_test(test_policy_of_details),
        cmocka_unit_test(test_the_next_server),
        cmocka_unit_test(test_answers_that_are_none),
        cmocka_unit_test(test_texts_of_utf8),
        cmocka_unit_test(test_streams),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
