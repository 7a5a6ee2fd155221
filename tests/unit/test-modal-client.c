/* The control plane's client: its token, retries, throttling, ends (gRPC is fake-grpc.c). */
#include "cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/modal/client.h"
#include "backends/modal/client_internal.h"
#include "fake-grpc.h"

/* {"iat":1000,"exp":2200}; {"iat":1000,"exp":1000.05} */
#define LONG_TOKEN "h.eyJpYXQiOjEwMDAsImV4cCI6MjIwMH0.s"
#define SHORT_TOKEN "h.eyJpYXQiOjEwMDAsImV4cCI6MTAwMC4wNX0.s"

enum { KEYS = 16 };

struct trial {
    uv_loop_t loop;
    struct modal_client *client;
    bool closed;
    const char *token; /* what AuthTokenGet gives */
    /* The first `bad` answers are these. */
    struct fake_reply bad_reply;
    unsigned bad;
    bool hold;
    /* What was seen of the calls other than AuthTokenGet. */
    unsigned calls, tokens_seen;
    char keys[KEYS][64];
    char retries[KEYS][8], throttled[KEYS][8];
    char urls[KEYS][64];
    /* What came of them. */
    unsigned ended, messages;
    enum grpc_status status;
    struct error err;
    char app[32];
};

static void answer_well(const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__AppGetOrCreateResponse app =
        MODAL__CLIENT__APP_GET_OR_CREATE_RESPONSE__INIT;
    static Modal__Client__ImageJoinStreamingResponse joined =
        MODAL__CLIENT__IMAGE_JOIN_STREAMING_RESPONSE__INIT;

    if (strcmp(call->method, "ImageJoinStreaming") == 0) {
        joined.entry_id = "1-0";
        reply->answers[0] = reply->answers[1] = &joined.base;
    } else {
        app.app_id = "ap-1";
        reply->answers[0] = &app.base;
    }
}

static void note(struct trial *t, const struct fake_call *call)
{
    unsigned i = t->calls < KEYS ? t->calls : KEYS - 1;

    t->calls++;
    t->tokens_seen += fake_metadata(call, "x-modal-auth-token")[0] ? 1 : 0;
    (void)snprintf(t->keys[i], 64, "%s", fake_metadata(call, "x-idempotency-key"));
    (void)snprintf(t->retries[i], 8, "%s", fake_metadata(call, "x-retry-attempt"));
    (void)snprintf(t->throttled[i], 8, "%s", fake_metadata(call, "x-throttle-retry-attempt"));
    (void)snprintf(t->urls[i], 64, "%s", call->url);
    assert_string_equal(fake_metadata(call, "x-modal-token-id"), "ak-1");
    assert_string_equal(fake_metadata(call, "x-modal-token-secret"), "as-1");
    assert_string_equal(fake_metadata(call, "x-modal-client-type"), "1");
    assert_true(fake_metadata(call, "x-modal-host")[0]);
}

static void serve(void *data, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__AuthTokenGetResponse token = MODAL__CLIENT__AUTH_TOKEN_GET_RESPONSE__INIT;
    struct trial *t = data;

    if (strcmp(call->method, "AuthTokenGet") == 0) {
        assert_string_equal(fake_metadata(call, "x-modal-auth-token"), "");
        token.token = (char *)t->token;
        reply->answers[0] = &token.base;
        return;
    }
    note(t, call);
    if (t->bad > 0) {
        t->bad--;
        *reply = t->bad_reply;
    } else if (t->hold) {
        reply->hold = true;
    } else {
        answer_well(call, reply);
    }
}

static void begin(struct trial *t, const char *url)
{
    struct modal_credentials who = {.server_url = (char *)url,
                                    .token_id = "ak-1",
                                    .token_secret = "as-1",
                                    .environment = "",
                                    .profile = "this test"};
    struct error err = {0};

    *t = (struct trial){.token = LONG_TOKEN};
    assert_int_equal(uv_loop_init(&t->loop), 0);
    fake_grpc_begin(serve, t);
    t->client = modal_client_new(&t->loop, &who, &err);
    assert_non_null(t->client);
}

static void on_closed(void *data)
{
    ((struct trial *)data)->closed = true;
}

static void end(struct trial *t)
{
    modal_client_close(t->client, on_closed, t);
    assert_false(t->closed);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_true(t->closed);
    assert_int_equal(fake_channels(), 0);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    error_clear(&t->err);
    fake_grpc_begin(NULL, NULL);
}

static void on_message(void *data, const ProtobufCMessage *message)
{
    const Modal__Client__ImageJoinStreamingResponse *got = (const void *)message;

    assert_string_equal(got->entry_id, "1-0");
    ((struct trial *)data)->messages++;
}

static void on_done(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                    const struct error *err)
{
    struct trial *t = data;

    t->ended++;
    t->status = status;
    error_clear(&t->err);
    if (err) {
        assert_null(answer);
        error_copy(&t->err, err);
    } else if (answer) {
        (void)snprintf(
            t->app, sizeof(t->app), "%s",
            ((const Modal__Client__AppGetOrCreateResponse *)(const void *)answer)->app_id);
    }
}

static struct modal_rpc *call_with(struct trial *t, struct modal_rpc_call call)
{
    Modal__Client__AppGetOrCreateRequest request = MODAL__CLIENT__APP_GET_OR_CREATE_REQUEST__INIT;
    struct error err = {0};
    struct modal_rpc *rpc;
    unsigned before = t->ended;

    call.name = call.stream ? "ImageJoinStreaming" : "AppGetOrCreate";
    call.request = &request.base;
    call.answer = call.stream ? &modal__client__image_join_streaming_response__descriptor
                              : &modal__client__app_get_or_create_response__descriptor;
    call.on_message = on_message;
    call.done = on_done;
    call.data = t;
    rpc = modal_rpc_start(t->client, &call, &err);
    assert_non_null(rpc);
    assert_int_equal(t->ended, before); /* nothing comes before it has returned */
    return rpc;
}

static void run(struct trial *t, unsigned ended)
{
    while (t->ended < ended) {
        (void)uv_run(&t->loop, UV_RUN_ONCE);
    }
}

static struct fake_reply failing(enum grpc_status status)
{
    return (struct fake_reply){.status = status, .message = "not now"};
}

/* ---- the token ---- */

static void test_one_token_for_all(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com:443");
    for (unsigned i = 0; i < 3; i++) {
        (void)call_with(&t, (struct modal_rpc_call){0});
    }
    run(&t, 3);
    assert_string_equal(t.app, "ap-1");
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(fake_count("AuthTokenGet"), 1);
    assert_int_equal(t.tokens_seen, 3);
    assert_string_not_equal(t.keys[0], t.keys[1]);
    assert_int_equal(strlen(t.keys[0]), 36);
    assert_int_equal(t.keys[0][14], '4'); /* a random UUID */
    end(&t);
}

static void test_an_expired_token_is_fetched_anew(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.token = SHORT_TOKEN;
    (void)call_with(&t, (struct modal_rpc_call){0});
    run(&t, 1);
    (void)call_with(&t, (struct modal_rpc_call){.delay_ms = 60});
    run(&t, 2);
    assert_true(fake_count("AuthTokenGet") >= 2);
    end(&t);
}

static void test_a_new_token_is_fetched_in_time(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    (void)call_with(&t, (struct modal_rpc_call){0});
    run(&t, 1);
    t.client->token.renew_at = uv_now(&t.loop); /* half of its life is over */
    t.token = "";
    (void)call_with(&t, (struct modal_rpc_call){0}); /* which goes with the one that is there */
    run(&t, 2);
    assert_int_equal(t.err.kind, ERROR_NONE);
    while (t.client->token.fetch) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    assert_int_equal(fake_count("AuthTokenGet"), 2);
    assert_true(t.client->token.retry_at > t.client->token.renew_at);
    t.client->token.retry_at = UINT64_MAX;
    (void)call_with(&t, (struct modal_rpc_call){0}); /* that failed: not at once again */
    run(&t, 3);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_null(t.client->token.fetch);
    t.client->token.retry_at = 0;
    t.token = LONG_TOKEN;
    (void)call_with(&t, (struct modal_rpc_call){0});
    run(&t, 4);
    while (t.client->token.fetch) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    assert_int_equal(fake_count("AuthTokenGet"), 3);
    assert_true(t.client->token.renew_at > uv_now(&t.loop));
    end(&t);
}

static void test_a_refused_token_is_fetched_anew_once(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.bad_reply = failing(GRPC_UNAUTHENTICATED);
    t.bad = 1;
    (void)call_with(&t, (struct modal_rpc_call){.once = true});
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(fake_count("AuthTokenGet"), 2);
    t.bad = 5;
    (void)call_with(&t, (struct modal_rpc_call){0});
    run(&t, 2);
    assert_int_equal(t.bad, 3);
    assert_int_equal(t.err.kind, ERROR_REFUSED);
    assert_non_null(strstr(t.err.message, "credentials of this test"));
    assert_non_null(strstr(t.err.message, "modal token new"));
    end(&t);
}

static void test_a_token_that_is_none(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.token = "";
    (void)call_with(&t, (struct modal_rpc_call){0});
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_LOST);
    assert_non_null(strstr(t.err.message, "gave no token"));
    assert_int_equal(t.calls, 0);
    end(&t);
}

static void test_life_of_a_token(void **state)
{
    (void)state;
    assert_int_equal(modal_token_life(LONG_TOKEN, 5e9), 1200 * 1000); /* whatever our clock says */
    assert_int_equal(modal_token_life("h.eyJleHAiOjUwMDB9.s", 4000), 1000 * 1000); /* exp 5000 */
    assert_int_equal(modal_token_life("h.eyJleHAiOjUwMDB9.s", 6000), 0);
    assert_int_equal(modal_token_life("h.eyJleHAiOiJ4In0.s", 0), 0);          /* exp "x" */
    assert_int_equal(modal_token_life("h.eyJpYXQiOjEwLCJleHAiOjV9.s", 0), 0); /* before iat */
    assert_int_equal(modal_token_life("h.eyJpYXQiOjUsImV4cCI6MWUxMn0.s", 0), 86400 * 1000);
    assert_int_equal(modal_token_life("h.!!.s", 0), 0);
    assert_int_equal(modal_token_life("no token", 0), 0);
    assert_int_equal(modal_token_life("", 0), 0);
}

/* ---- retries ---- */

static void test_transient_ends_are_retried(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.bad_reply = failing(GRPC_UNAVAILABLE);
    t.bad = 2;
    (void)call_with(&t, (struct modal_rpc_call){0});
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(t.calls, 3);
    assert_string_equal(t.keys[0], t.keys[2]);
    assert_string_equal(t.retries[0], "0");
    assert_string_equal(t.retries[2], "2");
    end(&t);
}

static void test_retries_end(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.bad_reply = failing(GRPC_INTERNAL);
    t.bad = 99;
    (void)call_with(&t, (struct modal_rpc_call){0});
    run(&t, 1);
    assert_int_equal(t.calls, 4);
    assert_int_equal(t.status, GRPC_INTERNAL);
    assert_string_equal(t.err.message, "AppGetOrCreate: the service answered INTERNAL: not now");
    (void)call_with(&t, (struct modal_rpc_call){.once = true});
    run(&t, 2);
    assert_int_equal(t.calls, 5);
    (void)call_with(&t, (struct modal_rpc_call){.total_ms = 1500}); /* too little for another */
    run(&t, 3);
    assert_int_equal(t.calls, 6);
    end(&t);
}

static void test_what_is_not_retried(void **state)
{
    static const struct {
        enum grpc_status status;
        enum error_kind kind;
    } ends[] = {{GRPC_NOT_FOUND, ERROR_NOT_FOUND},       {GRPC_INVALID_ARGUMENT, ERROR_INVALID},
                {GRPC_PERMISSION_DENIED, ERROR_REFUSED}, {GRPC_RESOURCE_EXHAUSTED, ERROR_LIMIT},
                {GRPC_UNIMPLEMENTED, ERROR_UNSUPPORTED}, {GRPC_ALREADY_EXISTS, ERROR_INVALID}};
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        t.bad_reply = failing(ends[i].status);
        t.bad = 1;
        (void)call_with(&t, (struct modal_rpc_call){0});
        run(&t, i + 1);
        assert_int_equal(t.calls, i + 1);
        assert_int_equal(t.status, ends[i].status);
        assert_int_equal(t.err.kind, ends[i].kind);
    }
    end(&t);
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
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.bad_reply = failing(GRPC_RESOURCE_EXHAUSTED);
    t.bad_reply.details = space;
    t.bad_reply.details_size = policy(0.01f, space);
    t.bad = 5; /* more than retries are */
    (void)call_with(&t, (struct modal_rpc_call){.once = true});
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(t.calls, 6);
    assert_string_equal(t.retries[5], "0");
    assert_string_equal(t.throttled[5], "5");
    t.bad_reply.details_size = policy(30, space);
    t.bad = 1;
    (void)call_with(&t, (struct modal_rpc_call){.total_ms = 20 * 1000}); /* too far away */
    run(&t, 2);
    assert_int_equal(t.err.kind, ERROR_LIMIT);
    end(&t);
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
    struct trial t;

    (void)state;
    begin(&t, "https://one, https://two");
    t.bad_reply = failing(GRPC_UNAVAILABLE);
    t.bad_reply.local = true;
    t.bad = 1;
    (void)call_with(&t, (struct modal_rpc_call){0});
    run(&t, 1);
    assert_string_equal(t.urls[0], "https://one");
    assert_string_equal(t.urls[1], "https://two");
    assert_false(modal_client_is_local(t.client));
    end(&t);
}

/* ---- answers ---- */

static void test_answers_that_are_none(void **state)
{
    static const char bad_text[] = "\x0a\x02\xc3\x28"; /* app_id, not UTF-8 */
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.bad = 99;
    t.bad_reply = (struct fake_reply){.raw = "\xff\xff\xff", .raw_size = 3};
    (void)call_with(&t, (struct modal_rpc_call){.once = true});
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_LOST);
    assert_non_null(strstr(t.err.message, "not what it should be"));
    t.bad_reply = (struct fake_reply){.raw = bad_text, .raw_size = 4};
    (void)call_with(&t, (struct modal_rpc_call){.once = true});
    run(&t, 2);
    assert_int_equal(t.err.kind, ERROR_LOST);
    t.bad_reply = (struct fake_reply){0}; /* no message at all */
    (void)call_with(&t, (struct modal_rpc_call){.once = true});
    run(&t, 3);
    assert_int_equal(t.err.kind, ERROR_LOST);
    (void)call_with(&t, (struct modal_rpc_call){.stream = true}); /* which may have none */
    run(&t, 4);
    assert_int_equal(t.err.kind, ERROR_NONE);
    end(&t);
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
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.bad_reply = failing(GRPC_UNAUTHENTICATED);
    t.bad = 1;
    (void)call_with(&t, (struct modal_rpc_call){.stream = true});
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(t.messages, 2);
    assert_string_equal(t.keys[0], "");
    t.bad_reply = failing(GRPC_UNAVAILABLE);
    t.bad = 1;
    (void)call_with(&t, (struct modal_rpc_call){.stream = true});
    run(&t, 2);
    assert_int_equal(t.status, GRPC_UNAVAILABLE); /* who reads it takes it up again */
    assert_int_equal(t.calls, 3);
    end(&t);
}

/* ---- ends ---- */

static void test_cancelling(void **state)
{
    struct modal_rpc *rpc;
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    rpc = call_with(&t, (struct modal_rpc_call){0}); /* waits for the token */
    modal_rpc_cancel(rpc);
    modal_rpc_cancel(rpc);
    assert_int_equal(t.ended, 0);
    run(&t, 1);
    assert_int_equal(t.status, GRPC_CANCELLED);
    t.hold = true;
    rpc = call_with(&t, (struct modal_rpc_call){0});
    while (t.calls == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    modal_rpc_cancel(rpc);
    run(&t, 2);
    assert_int_equal(t.status, GRPC_CANCELLED);
    rpc = call_with(&t, (struct modal_rpc_call){.delay_ms = 60 * 1000});
    modal_rpc_cancel(rpc);
    run(&t, 3);
    assert_int_equal(t.calls, 1);
    end(&t);
}

static void test_closing_with_calls_on_their_way(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.hold = true;
    (void)call_with(&t, (struct modal_rpc_call){0});
    (void)call_with(&t, (struct modal_rpc_call){.stream = true});
    while (t.calls < 2) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    (void)call_with(&t, (struct modal_rpc_call){.delay_ms = 60 * 1000});
    end(&t);
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
    struct trial t;

    (void)state;
    for (unsigned i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        begin(&t, urls[i].url);
        assert_int_equal(modal_client_is_local(t.client), urls[i].local);
        end(&t);
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
        cmocka_unit_test(test_transient_ends_are_retried),
        cmocka_unit_test(test_retries_end),
        cmocka_unit_test(test_what_is_not_retried),
        cmocka_unit_test(test_throttling),
        cmocka_unit_test(test_policy_of_details),
        cmocka_unit_test(test_the_next_server),
        cmocka_unit_test(test_answers_that_are_none),
        cmocka_unit_test(test_texts_of_utf8),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_cancelling),
        cmocka_unit_test(test_closing_with_calls_on_their_way),
        cmocka_unit_test(test_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
