/* What opens the buckets of a sandbox, looked up before it is made (gRPC is fake-grpc.c). */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/modal/brought.h"
#include "fake-grpc.h"

enum { SHARES = 3, TURNS = 1000 };

struct trial {
    uv_loop_t loop;
    struct modal_client *client;
    struct modal_bringing *bringing;
    struct mount_store store;
    struct share *shares[SHARES];
    bool closed;
    /* How the service is. */
    bool hold;
    const char *missing;
    const char *gives; /* instead of an id */
    /* What came of it. */
    unsigned told;
    unsigned buckets;
    char ids[SHARES][32];
    struct error err;
};

static void serve(void *data, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__AuthTokenGetResponse token = MODAL__CLIENT__AUTH_TOKEN_GET_RESPONSE__INIT;
    static Modal__Client__SecretGetOrCreateResponse secret =
        MODAL__CLIENT__SECRET_GET_OR_CREATE_RESPONSE__INIT;
    static char id[64];
    struct trial *t = data;
    Modal__Client__SecretGetOrCreateRequest *asked;

    token.token = "a.b.c";
    if (strcmp(call->method, "AuthTokenGet") == 0) {
        reply->answers[0] = &token.base;
        return;
    }
    assert_string_equal(call->method, "SecretGetOrCreate");
    asked = modal__client__secret_get_or_create_request__unpack(NULL, call->size, call->message);
    assert_int_equal(asked->object_creation_type,
                     MODAL__CLIENT__OBJECT_CREATION_TYPE__OBJECT_CREATION_TYPE_UNSPECIFIED);
    assert_int_equal(asked->n_env_dict, 0);
    assert_string_equal(asked->environment_name, "dev");
    (void)snprintf(id, sizeof(id), "st-%s", asked->deployment_name);
    if (t->missing && strcmp(asked->deployment_name, t->missing) == 0) {
        *reply = (struct fake_reply){.status = GRPC_NOT_FOUND, .message = "no such secret"};
    } else {
        secret.secret_id = t->gives ? (char *)t->gives : id;
        reply->answers[0] = &secret.base;
    }
    reply->hold = t->hold;
    modal__client__secret_get_or_create_request__free_unpacked(asked, NULL);
}

static void on_done(void *data, const struct modal_brought *brought, const struct error *err)
{
    struct trial *t = data;

    t->told++;
    assert_true((brought == NULL) == (err != NULL));
    if (err) {
        error_set(&t->err, err->kind, "%s", err->message);
    } else if (brought) {
        t->buckets = brought->bucket_count;
        for (unsigned i = 0; i < brought->bucket_count; i++) {
            assert_ptr_equal(brought->buckets[i].share, t->shares[i]);
            (void)snprintf(t->ids[i], sizeof(t->ids[i]), "%s",
                           brought->buckets[i].secret_id ? brought->buckets[i].secret_id : "none");
        }
    }
    modal_bringing_free(t->bringing);
    t->bringing = NULL;
}

static void begin(struct trial *t)
{
    struct modal_credentials who = {.server_url = "http://localhost:1",
                                    .token_id = "ak-1",
                                    .token_secret = "as-1",
                                    .environment = "dev"};
    const struct share_cloud clouds[SHARES] = {{.bucket = "a", .secret = "one"},
                                               {.bucket = "b", .role_arn = "arn:1"},
                                               {.bucket = "c", .secret = "two"}};

    assert_int_equal(uv_loop_init(&t->loop), 0);
    fake_grpc_begin(serve, t);
    t->client = modal_client_new(&t->loop, &who, NULL);
    assert_non_null(t->client);
    for (unsigned i = 0; i < SHARES; i++) {
        t->shares[i] = share_new_cloud(&clouds[i], "/data", true);
        assert_non_null(t->shares[i]);
    }
    t->bringing = modal_bringing_start(&(struct modal_bringing_order){.client = t->client,
                                                                      .store = &t->store,
                                                                      .app_id = "ap-1",
                                                                      .shares = t->shares,
                                                                      .count = SHARES,
                                                                      .done = on_done,
                                                                      .data = t});
    assert_non_null(t->bringing);
    assert_int_equal(t->told, 0);
}

static void on_closed(void *data)
{
    ((struct trial *)data)->closed = true;
}

static void end(struct trial *t)
{
    modal_client_close(t->client, on_closed, t);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_true(t->closed);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    for (unsigned i = 0; i < SHARES; i++) {
        share_free(t->shares[i]);
    }
    error_clear(&t->err);
}

/* Until it is told. */
static void run(struct trial *t)
{
    for (unsigned i = 0; i < TURNS && t->told == 0; i++) {
        (void)uv_run(&t->loop, UV_RUN_ONCE);
    }
    assert_int_equal(t->told, 1);
}

static void each_bucket_has_what_opens_it(void **state)
{
    struct trial t = {0};

    (void)state;
    begin(&t);
    run(&t);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(t.buckets, SHARES);
    assert_string_equal(t.ids[0], "st-one");
    assert_string_equal(t.ids[1], "none");
    assert_string_equal(t.ids[2], "st-two");
    end(&t);
    assert_int_equal(t.told, 1);
}

static void one_that_is_not_there_is_named(void **state)
{
    struct trial t = {.missing = "two"};

    (void)state;
    begin(&t);
    run(&t);
    assert_int_equal(t.err.kind, ERROR_NOT_FOUND);
    assert_non_null(strstr(t.err.message, "\"two\""));
    assert_non_null(strstr(t.err.message, "bucket c"));
    assert_non_null(strstr(t.err.message, "modal secret list"));
    end(&t);
    assert_int_equal(t.told, 1);
}

static void an_answer_without_an_id_is_none(void **state)
{
    struct trial t = {.gives = ""};

    (void)state;
    begin(&t);
    run(&t);
    assert_int_equal(t.err.kind, ERROR_LOST);
    end(&t);
}

static void who_leaves_is_told_nothing(void **state)
{
    struct trial t = {.hold = true};

    (void)state;
    begin(&t);
    for (unsigned i = 0; i < TURNS && fake_count("SecretGetOrCreate") == 0; i++) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    assert_int_equal(fake_count("SecretGetOrCreate"), 1);
    modal_bringing_free(t.bringing);
    end(&t);
    assert_int_equal(t.told, 0);
}

static void who_leaves_at_once_is_told_nothing(void **state)
{
    struct trial t = {0};

    (void)state;
    begin(&t);
    modal_bringing_free(t.bringing);
    modal_bringing_free(NULL);
    end(&t);
    assert_int_equal(t.told, 0);
    assert_int_equal(fake_count("SecretGetOrCreate"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_bucket_has_what_opens_it),
        cmocka_unit_test(one_that_is_not_there_is_named),
        cmocka_unit_test(an_answer_without_an_id_is_none),
        cmocka_unit_test(who_leaves_is_told_nothing),
        cmocka_unit_test(who_leaves_at_once_is_told_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
