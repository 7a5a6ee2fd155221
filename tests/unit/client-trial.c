#include "client-trial.h"

#include <stdio.h>
#include <string.h>

#include "api.pb-c.h"

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

static void note(struct client_trial *t, const struct fake_call *call)
{
    unsigned i = t->calls < CLIENT_TRIAL_KEYS ? t->calls : CLIENT_TRIAL_KEYS - 1;

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
    struct client_trial *t = data;

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

void client_trial_begin(struct client_trial *t, const char *url)
{
    struct modal_credentials who = {.server_url = (char *)url,
                                    .token_id = "ak-1",
                                    .token_secret = "as-1",
                                    .environment = "",
                                    .profile = "this test"};
    struct error err = {0};

    *t = (struct client_trial){.token = CLIENT_TRIAL_TOKEN};
    assert_int_equal(uv_loop_init(&t->loop), 0);
    fake_grpc_begin(serve, t);
    t->client = modal_client_new(&t->loop, &who, &err);
    assert_non_null(t->client);
}

static void on_closed(void *data)
{
    ((struct client_trial *)data)->closed = true;
}

void client_trial_end(struct client_trial *t)
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
    ((struct client_trial *)data)->messages++;
}

static void on_done(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                    const struct error *err)
{
    struct client_trial *t = data;

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

struct modal_rpc *client_trial_call(struct client_trial *t, struct modal_rpc_call call)
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

void client_trial_run(struct client_trial *t, unsigned ended)
{
    while (t->ended < ended) {
        (void)uv_run(&t->loop, UV_RUN_ONCE);
    }
}

struct fake_reply client_trial_failing(enum grpc_status status)
{
    return (struct fake_reply){.status = status, .message = "not now"};
}
