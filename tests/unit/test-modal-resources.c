/* App, image, secrets, volumes of a place: asked for once, side by side (gRPC is fake-grpc.c). */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/modal/image.h"
#include "backends/modal/resources.h"
#include "backends/modal/resources_internal.h"
#include "fake-grpc.h"

enum { LAYERS = 8 };

typedef Modal__Client__GenericResult Result;

struct trial {
    uv_loop_t loop;
    struct modal_client *client;
    struct modal_resources *r;
    struct environment env;
    bool closed;
    /* How the service is. */
    unsigned quiet; /* streams that end before anything is said */
    bool build;     /* layers are not there yet */
    bool build_fails;
    bool hold_build;
    const char *missing; /* the name of a secret or volume that is not there */
    /* What was asked of it. */
    char asked[LAYERS][64]; /* last command of each layer */
    char bases[LAYERS][16];
    unsigned layers;
    char resumed[16];    /* last_entry_id of the last join */
    int volume_creation; /* of the last volume */
    char deleted[16];
    /* What came of it. */
    unsigned told, lines;
    char line[128];
    struct error err;
    char image[16];
};

static void serve_layer(struct trial *t, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__ImageGetOrCreateResponse got =
        MODAL__CLIENT__IMAGE_GET_OR_CREATE_RESPONSE__INIT;
    static Result built = MODAL__CLIENT__GENERIC_RESULT__INIT;
    static char id[16];
    Modal__Client__ImageGetOrCreateRequest *asked =
        modal__client__image_get_or_create_request__unpack(NULL, call->size, call->message);
    const Modal__Client__Image *image = asked->image;

    assert_string_equal(asked->app_id, "ap-1");
    assert_string_equal(asked->builder_version, "2025.06");
    (void)snprintf(t->asked[t->layers % LAYERS], 64, "%s",
                   image->dockerfile_commands[image->n_dockerfile_commands - 1]);
    (void)snprintf(t->bases[t->layers++ % LAYERS], 16, "%s",
                   image->n_base_images ? image->base_images[0]->image_id : "");
    (void)snprintf(id, sizeof(id), "im-%u", call->number);
    modal__client__image_get_or_create_request__free_unpacked(asked, NULL);
    built.status = MODAL__CLIENT__GENERIC_RESULT__GENERIC_STATUS__GENERIC_STATUS_SUCCESS;
    got.image_id = id;
    got.result = t->build ? NULL : &built;
    reply->answers[0] = &got.base;
}

static void serve_join(struct trial *t, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__ImageJoinStreamingResponse
        log = MODAL__CLIENT__IMAGE_JOIN_STREAMING_RESPONSE__INIT,
        last = MODAL__CLIENT__IMAGE_JOIN_STREAMING_RESPONSE__INIT;
    static Modal__Client__TaskLogs logs = MODAL__CLIENT__TASK_LOGS__INIT;
    static Modal__Client__TaskLogs *list[] = {&logs};
    static Result result = MODAL__CLIENT__GENERIC_RESULT__INIT;
    Modal__Client__ImageJoinStreamingRequest *asked =
        modal__client__image_join_streaming_request__unpack(NULL, call->size, call->message);

    (void)snprintf(t->resumed, sizeof(t->resumed), "%s", asked->last_entry_id);
    modal__client__image_join_streaming_request__free_unpacked(asked, NULL);
    if (t->hold_build || t->quiet > 0) {
        t->quiet -= t->quiet > 0 ? 1 : 0;
        reply->hold = t->hold_build;
        return;
    }
    logs.data = "Collecting numpy\n";
    log.n_task_logs = 1;
    log.task_logs = list;
    log.entry_id = "7-0";
    reply->answers[0] = &log.base;
    if (call->number == 1) { /* it is cut, and taken up again */
        reply->status = GRPC_UNAVAILABLE;
        return;
    }
    result.status = t->build_fails
                        ? MODAL__CLIENT__GENERIC_RESULT__GENERIC_STATUS__GENERIC_STATUS_FAILURE
                        : MODAL__CLIENT__GENERIC_RESULT__GENERIC_STATUS__GENERIC_STATUS_SUCCESS;
    result.exception = "exit code 1 in: RUN pip\nTraceback";
    last.result = &result;
    reply->answers[1] = &last.base;
}

static bool refuse_missing(const struct trial *t, const char *name, struct fake_reply *reply)
{
    if (!t->missing || strcmp(name, t->missing) != 0) {
        return false;
    }
    *reply = (struct fake_reply){.status = GRPC_NOT_FOUND, .message = "no such thing"};
    return true;
}

static void serve_named(struct trial *t, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__SecretGetOrCreateResponse secret =
        MODAL__CLIENT__SECRET_GET_OR_CREATE_RESPONSE__INIT;
    static Modal__Client__VolumeGetOrCreateResponse volume =
        MODAL__CLIENT__VOLUME_GET_OR_CREATE_RESPONSE__INIT;
    static Modal__Client__SharedVolumeGetOrCreateResponse shared =
        MODAL__CLIENT__SHARED_VOLUME_GET_OR_CREATE_RESPONSE__INIT;
    static char id[64];
    /* The names are at the same places in all three. */
    Modal__Client__VolumeGetOrCreateRequest *asked =
        modal__client__volume_get_or_create_request__unpack(NULL, call->size, call->message);

    (void)snprintf(id, sizeof(id), "%c:%s", call->method[0], asked->deployment_name);
    assert_string_equal(asked->environment_name, "dev");
    if (call->method[0] == 'V') {
        t->volume_creation = (int)asked->object_creation_type;
    }
    modal__client__volume_get_or_create_request__free_unpacked(asked, NULL);
    secret.secret_id = volume.volume_id = shared.shared_volume_id = id;
    reply->answers[0] = strncmp(call->method, "Secret", 6) == 0   ? &secret.base
                        : strncmp(call->method, "Volume", 6) == 0 ? &volume.base
                                                                  : &shared.base;
    (void)refuse_missing(t, id + 2, reply);
}

static void serve_environment(struct fake_reply *reply)
{
    static Modal__Client__EnvironmentSettings settings = MODAL__CLIENT__ENVIRONMENT_SETTINGS__INIT;
    static Modal__Client__EnvironmentMetadata metadata = MODAL__CLIENT__ENVIRONMENT_METADATA__INIT;
    static Modal__Client__EnvironmentGetOrCreateResponse got =
        MODAL__CLIENT__ENVIRONMENT_GET_OR_CREATE_RESPONSE__INIT;

    settings.image_builder_version = "2025.06";
    metadata.settings = &settings;
    got.metadata = &metadata;
    reply->answers[0] = &got.base;
}

static void serve(void *data, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__AuthTokenGetResponse token = MODAL__CLIENT__AUTH_TOKEN_GET_RESPONSE__INIT;
    static Modal__Client__AppGetOrCreateResponse app =
        MODAL__CLIENT__APP_GET_OR_CREATE_RESPONSE__INIT;
    static Modal__Client__Empty empty = MODAL__CLIENT__EMPTY__INIT;
    struct trial *t = data;

    token.token = "a.b.c";
    app.app_id = "ap-1";
    if (strcmp(call->method, "AuthTokenGet") == 0) {
        reply->answers[0] = &token.base;
    } else if (strcmp(call->method, "AppGetOrCreate") == 0) {
        reply->answers[0] = &app.base;
    } else if (strcmp(call->method, "EnvironmentGetOrCreate") == 0) {
        serve_environment(reply);
    } else if (strcmp(call->method, "ImageGetOrCreate") == 0) {
        serve_layer(t, call, reply);
    } else if (strcmp(call->method, "ImageJoinStreaming") == 0) {
        serve_join(t, call, reply);
    } else if (strcmp(call->method, "VolumeHeartbeat") == 0) {
        reply->answers[0] = &empty.base;
    } else if (strcmp(call->method, "VolumeDelete") == 0) {
        (void)snprintf(t->deleted, sizeof(t->deleted), "yes");
        reply->answers[0] = &empty.base;
    } else {
        serve_named(t, call, reply);
    }
}

/* ---- a trial ---- */

static void set_list(json_t **list, const char *text)
{
    json_decref(*list);
    *list = json_loads(text, 0, NULL);
    assert_non_null(*list);
}

static void begin(struct trial *t)
{
    *t = (struct trial){.volume_creation = -1};
    assert_int_equal(environment_init(&t->env, "x", "modal"), 0);
    assert_int_equal(uv_loop_init(&t->loop), 0);
    fake_grpc_begin(serve, t);
}

static void open_it(struct trial *t)
{
    struct modal_credentials who = {.server_url = "https://api.modal.com",
                                    .token_id = "ak-1",
                                    .token_secret = "as-1",
                                    .environment = "dev",
                                    .profile = "this test"};

    t->client = modal_client_new(&t->loop, &who, NULL);
    assert_non_null(t->client);
    t->r = modal_resources_new(t->client, &t->env, false);
    assert_non_null(t->r);
}

static void on_client_closed(void *data)
{
    ((struct trial *)data)->closed = true;
}

static void on_closed(void *data)
{
    struct trial *t = data;
    modal_client_close(t->client, on_client_closed, t);
}

static void end(struct trial *t)
{
    modal_resources_close(t->r, on_closed, t);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_true(t->closed);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    environment_deinit(&t->env);
    error_clear(&t->err);
    fake_grpc_begin(NULL, NULL);
}

static void on_waiting(void *data, const char *what)
{
    struct trial *t = data;

    t->lines++;
    (void)snprintf(t->line, sizeof(t->line), "%s", what);
}

static void on_got(void *data, const struct modal_ids *ids, const struct error *err)
{
    struct trial *t = data;

    t->told++;
    error_clear(&t->err);
    if (err) {
        assert_null(ids);
        error_copy(&t->err, err);
        return;
    }
    assert_string_equal(ids->app_id, "ap-1");
    (void)snprintf(t->image, sizeof(t->image), "%s", ids->image_id);
}

static void get(struct trial *t)
{
    unsigned before = t->told;

    modal_resources_get(t->r, on_waiting, on_got, t);
    assert_int_equal(t->told, before);
}

static void run(struct trial *t, unsigned told)
{
    while (t->told < told) {
        (void)uv_run(&t->loop, UV_RUN_ONCE);
    }
}

/* ---- tests ---- */

static void test_all_of_it(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    set_list(&t.env.modal_secrets, "[\"s1\", \"s2\"]");
    set_list(&t.env.volumes, "[{\"name\": \"v\", \"dest\": \"/v\", \"read_only\": true}]");
    set_list(&t.env.network_file_systems, "[{\"name\": \"n\", \"dest\": \"/n\"}]");
    set_list(&t.env.packages, "[\"numpy\"]");
    open_it(&t);
    get(&t);
    get(&t);
    run(&t, 2);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_string_equal(t.image, "im-2");
    assert_int_equal(t.layers, 2); /* once for both who wait */
    assert_string_equal(t.bases[0], "");
    assert_string_equal(t.bases[1], "im-1");
    assert_string_equal(t.asked[1], "RUN python -m pip install numpy");
    assert_string_equal(t.r->ids.secret_ids[0], "S:s1");
    assert_string_equal(t.r->ids.secret_ids[1], "S:s2");
    assert_null(t.r->ids.secret_ids[2]);
    assert_int_equal(t.r->ids.volume_count, 1);
    assert_string_equal(t.r->ids.volumes[0].id, "V:v");
    assert_string_equal(t.r->ids.volumes[0].dest, "/v");
    assert_true(t.r->ids.volumes[0].read_only);
    assert_string_equal(t.r->ids.file_systems[0].id, "S:n");
    assert_int_equal(t.volume_creation,
                     MODAL__CLIENT__OBJECT_CREATION_TYPE__OBJECT_CREATION_TYPE_CREATE_IF_MISSING);
    get(&t); /* is there already */
    run(&t, 3);
    assert_int_equal(fake_count("AppGetOrCreate"), 1);
    modal_resources_forget(t.r);
    get(&t);
    run(&t, 4);
    assert_int_equal(fake_count("AppGetOrCreate"), 2);
    end(&t);
    assert_string_equal(t.deleted, ""); /* it has a name: it stays */
}

static void test_a_volume_without_a_name(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    set_list(&t.env.volumes, "[{\"dest\": \"/v\"}]");
    open_it(&t);
    get(&t);
    run(&t, 1);
    assert_int_equal(t.volume_creation,
                     MODAL__CLIENT__OBJECT_CREATION_TYPE__OBJECT_CREATION_TYPE_EPHEMERAL);
    uv_timer_set_repeat(&t.r->beat, 1);
    assert_int_equal(uv_timer_again(&t.r->beat), 0);
    while (fake_count("VolumeHeartbeat") == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&t.r->beat);
    modal_resources_forget(t.r); /* it stays the same one */
    get(&t);
    run(&t, 2);
    assert_int_equal(fake_count("VolumeGetOrCreate"), 1);
    end(&t);
    assert_string_equal(t.deleted, "yes");
}

static void test_what_is_missing(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    set_list(&t.env.modal_secrets, "[\"s1\"]");
    set_list(&t.env.volumes, "[{\"name\": \"v\", \"dest\": \"/v\", \"create\": false}]");
    open_it(&t);
    t.missing = "s1";
    get(&t);
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NOT_FOUND);
    assert_non_null(strstr(t.err.message, "modal_secrets: the service has none that is called "
                                          "\"s1\""));
    assert_int_equal(t.layers, 0);
    t.missing = NULL;
    get(&t); /* what was found is not asked for again */
    run(&t, 2);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_int_equal(fake_count("AppGetOrCreate"), 1);
    assert_int_equal(t.volume_creation,
                     MODAL__CLIENT__OBJECT_CREATION_TYPE__OBJECT_CREATION_TYPE_UNSPECIFIED);
    end(&t);
}

static void test_a_build(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    open_it(&t);
    t.build = true;
    t.quiet = 1;
    get(&t);
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_string_equal(t.image, "im-1");
    assert_true(t.lines >= 1);
    assert_non_null(strstr(t.line, "building the image: "));
    assert_int_equal(fake_count("ImageJoinStreaming"), 2);
    end(&t);
}

static void test_a_build_that_is_cut(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    open_it(&t);
    t.build = true;
    get(&t);
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_string_equal(t.resumed, "7-0");
    end(&t);
}

static void test_a_build_that_fails(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    open_it(&t);
    t.build = t.build_fails = true;
    get(&t);
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(t.err.message, "the image could not be built (the base): "));
    assert_non_null(strstr(t.err.message, "The last lines of its log:\nCollecting numpy"));
    end(&t);
}

static void test_streams_that_say_nothing(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    open_it(&t);
    t.build = true;
    t.quiet = 1000;
    get(&t);
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_LOST);
    assert_int_equal(fake_count("ImageJoinStreaming"), MODAL_IMAGE_JOIN_RETRIES);
    end(&t);
}

static void test_nobody_waits_any_more(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    open_it(&t);
    t.build = t.hold_build = true;
    get(&t);
    while (fake_count("ImageJoinStreaming") == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    modal_resources_leave(t.r, &t);
    t.hold_build = false;
    get(&t); /* who comes now is not told of that */
    run(&t, 1);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_string_equal(t.image, "im-2");
    end(&t);
}

static void test_closed_while_it_builds(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    open_it(&t);
    t.build = t.hold_build = true;
    get(&t);
    while (fake_count("ImageJoinStreaming") == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    end(&t);
    assert_int_equal(t.told, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_of_it),
        cmocka_unit_test(test_a_volume_without_a_name),
        cmocka_unit_test(test_what_is_missing),
        cmocka_unit_test(test_a_build),
        cmocka_unit_test(test_a_build_that_is_cut),
        cmocka_unit_test(test_a_build_that_fails),
        cmocka_unit_test(test_streams_that_say_nothing),
        cmocka_unit_test(test_nobody_waits_any_more),
        cmocka_unit_test(test_closed_while_it_builds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
