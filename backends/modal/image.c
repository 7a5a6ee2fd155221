#include "api.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/modal/image.h"
#include "backends/modal/image_log.h"

typedef Modal__Client__GenericResult Result;

struct modal_image {
    struct modal_client *client;
    uv_loop_t *loop;
    struct modal_image_order order;
    unsigned layer; /* that is being made */
    char *base_id;  /* of the layer before; NULL */
    char *id;       /* of this one */
    struct modal_rpc *rpc;
    struct image_log log;
    char *entry;       /* of the log, up to which it was read */
    unsigned failures; /* of streams, one after the other */
    uint64_t started, told, joined;
    bool heard; /* something, of this stream */
    bool cancelled;
    /* The result that a stream or an answer brought. */
    bool has_result;
    int status;
    char *exception;
};

static int start_layer(struct modal_image *image, struct error *err);

/* ---- the end ---- */

static void finish(struct modal_image *image, const struct error *err)
{
    struct modal_image_order order = image->order;
    char *id = image->base_id;

    image->base_id = NULL;
    free(image->id);
    free(image->entry);
    free(image->exception);
    free(image);
    order.done(order.data, err ? NULL : id, err);
    free(id);
}

static const struct modal_layer *layer_of(const struct modal_image *image)
{
    return &image->order.recipe->layers[image->layer];
}

static void fail(struct modal_image *image, enum error_kind kind, const char *reason)
{
    struct error err = {0};
    char *text;

    image_log_end(&image->log);
    text = image_log_failure(&image->log, reason);
    error_set(&err, kind, "the image could not be built (%s): %s", layer_of(image)->what,
              text ? text : reason);
    free(text);
    finish(image, &err);
    error_clear(&err);
}

static void fail_start(struct modal_image *image, struct error *err)
{
    error_wrap(err, "the image could not be built (%s)", layer_of(image)->what);
    finish(image, err);
    error_clear(err);
}

/* What the service says of it, as one line of people's. */
static void fail_status(struct modal_image *image)
{
    char reason[512];
    struct image_log said = {0};

    (void)image_log_take(&said, image->exception ? image->exception : "");
    image_log_end(&said);
    switch (image->status) {
    case MODAL__CLIENT__GENERIC_RESULT__GENERIC_STATUS__GENERIC_STATUS_TERMINATED:
        (void)snprintf(reason, sizeof(reason), "the service ended it; try again");
        break;
    case MODAL__CLIENT__GENERIC_RESULT__GENERIC_STATUS__GENERIC_STATUS_TIMEOUT:
        (void)snprintf(reason, sizeof(reason), "it took longer than the service allows");
        break;
    default:
        (void)snprintf(reason, sizeof(reason), "%s",
                       said.lines ? image_log_newest(&said) : "a command of it failed");
    }
    fail(image, ERROR_UNSUPPORTED, reason);
}

/* ---- one layer's result ---- */

static void take_result(struct modal_image *image, const Result *result)
{
    if (result && result->status != 0 && !image->has_result) {
        image->has_result = true;
        image->status = (int)result->status;
        image->exception = result->exception[0] ? strdup(result->exception) : NULL;
    }
}

static bool is_built(const struct modal_image *image)
{
    return image->has_result &&
           image->status == MODAL__CLIENT__GENERIC_RESULT__GENERIC_STATUS__GENERIC_STATUS_SUCCESS;
}

static void next_layer(struct modal_image *image)
{
    struct error err = {0};

    free(image->base_id);
    image->base_id = image->id;
    image->id = NULL;
    image->layer++;
    if (image->layer == image->order.recipe->count) {
        finish(image, NULL);
    } else if (start_layer(image, &err) < 0) {
        fail_start(image, &err);
    }
}

/* ---- waiting for it to be built ---- */

static void tell(struct modal_image *image)
{
    uint64_t now = uv_now(image->loop);
    char line[IMAGE_LINE_CAP + 64];

    if (!image->order.on_line || (image->told && now - image->told < MODAL_IMAGE_TELL_MS)) {
        return;
    }
    image->told = now;
    (void)snprintf(line, sizeof(line), "building the image: %s",
                   image->log.lines ? image_log_newest(&image->log) : layer_of(image)->what);
    image->order.on_line(image->order.data, line);
}

static void on_joined_message(void *data, const ProtobufCMessage *message)
{
    struct modal_image *image = data;
    const Modal__Client__ImageJoinStreamingResponse *got = (const void *)message;
    bool line = false;

    image->failures = 0;
    image->heard = true;
    if (got->entry_id[0]) {
        free(image->entry);
        image->entry = strdup(got->entry_id);
    }
    for (size_t i = 0; i < got->n_task_logs; i++) {
        line = image_log_take(&image->log, got->task_logs[i]->data) || line;
    }
    take_result(image, got->result);
    if (line && !image->has_result) {
        tell(image);
    }
}

static void join(struct modal_image *image);

/* Taken up again where it ended, unless that leads nowhere. */
static bool may_rejoin(struct modal_image *image, enum grpc_status status)
{
    bool quick = !image->heard && uv_now(image->loop) - image->joined < MODAL_IMAGE_QUICK_MS;

    if (status == GRPC_UNAUTHENTICATED && image->heard) {
        return true; /* its token's time was over meanwhile: the next call has another */
    }
    if (status != GRPC_OK && !modal_status_is_transient(status)) {
        return false;
    }
    image->failures += status != GRPC_OK || quick ? 1 : 0;
    return image->failures < MODAL_IMAGE_JOIN_RETRIES;
}

static void on_join_ended(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                          const struct error *err)
{
    struct modal_image *image = data;

    (void)answer;
    image->rpc = NULL;
    if (image->cancelled) {
        fail(image, ERROR_LOST, "its build was cancelled");
    } else if (is_built(image)) {
        next_layer(image);
    } else if (image->has_result) {
        fail_status(image);
    } else if (err && !may_rejoin(image, status)) {
        fail(image, err->kind, err->message);
    } else if (!err && !may_rejoin(image, GRPC_OK)) {
        fail(image, ERROR_LOST, "ImageJoinStreaming: the service ends it again and again");
    } else if (uv_now(image->loop) - image->started > MODAL_IMAGE_LAYER_MS) {
        fail(image, ERROR_TIMEOUT, "it took longer than an hour");
    } else {
        join(image);
    }
}

static void join(struct modal_image *image)
{
    Modal__Client__ImageJoinStreamingRequest request =
        MODAL__CLIENT__IMAGE_JOIN_STREAMING_REQUEST__INIT;
    struct modal_rpc_call call = {
        .name = "ImageJoinStreaming",
        .request = &request.base,
        .answer = &modal__client__image_join_streaming_response__descriptor,
        .timeout_ms = (MODAL_IMAGE_JOIN_SECS + 30) * 1000,
        .delay_ms = image->failures > 0 ? modal_retry_delay_ms(image->failures) : 0,
        .stream = true,
        .on_message = on_joined_message,
        .done = on_join_ended,
        .data = image,
    };
    struct error err = {0};

    image->joined = uv_now(image->loop);
    image->heard = false;
    request.image_id = image->id;
    request.timeout = MODAL_IMAGE_JOIN_SECS;
    request.last_entry_id = image->entry ? image->entry : "";
    request.include_logs_for_finished = true;
    image->rpc = modal_rpc_start(image->client, &call, &err);
    if (!image->rpc) {
        fail_start(image, &err);
    }
}

/* ---- asking for it ---- */

static void on_asked(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                     const struct error *err)
{
    struct modal_image *image = data;
    const Modal__Client__ImageGetOrCreateResponse *got = (const void *)answer;

    (void)status;
    image->rpc = NULL;
    if (image->cancelled) {
        fail(image, ERROR_LOST, "its build was cancelled");
    } else if (err) {
        fail(image, err->kind, err->message);
    } else if (!got->image_id[0] || !(image->id = strdup(got->image_id))) {
        fail(image, ERROR_LOST, "ImageGetOrCreate: the service gave no id");
    } else {
        take_result(image, got->result);
        if (is_built(image)) {
            next_layer(image);
            return;
        }
        image->has_result = false; /* it comes again, with the log that says why */
        tell(image);
        join(image);
    }
}

static int ask(struct modal_image *image, Modal__Client__ImageGetOrCreateRequest *request,
               struct error *err)
{
    const struct modal_credentials *who = modal_client_credentials(image->client);
    struct modal_rpc_call call = {
        .name = "ImageGetOrCreate",
        .request = &request->base,
        .answer = &modal__client__image_get_or_create_response__descriptor,
        .done = on_asked,
        .data = image,
    };

    request->app_id = (char *)image->order.app_id;
    request->builder_version = (char *)image->order.builder;
    request->force_build = who->force_build;
    request->ignore_cache = who->ignore_cache;
    request->namespace_ = layer_of(image)->global
                              ? MODAL__CLIENT__DEPLOYMENT_NAMESPACE__DEPLOYMENT_NAMESPACE_GLOBAL
                              : MODAL__CLIENT__DEPLOYMENT_NAMESPACE__DEPLOYMENT_NAMESPACE_WORKSPACE;
    image->rpc = modal_rpc_start(image->client, &call, err);
    return image->rpc ? 0 : -1;
}

static int ask_layer(struct modal_image *image, struct error *err)
{
    const struct modal_layer *layer = layer_of(image);
    Modal__Client__ImageGetOrCreateRequest request =
        MODAL__CLIENT__IMAGE_GET_OR_CREATE_REQUEST__INIT;
    Modal__Client__Image definition = MODAL__CLIENT__IMAGE__INIT;
    Modal__Client__BaseImage base = MODAL__CLIENT__BASE_IMAGE__INIT;
    Modal__Client__BaseImage *bases[] = {&base};
    Modal__Client__GPUConfig gpu = MODAL__CLIENT__GPUCONFIG__INIT;
    Modal__Client__ImageRegistryConfig registry = MODAL__CLIENT__IMAGE_REGISTRY_CONFIG__INIT;

    request.image = &definition;
    definition.dockerfile_commands = layer->commands.list;
    definition.n_dockerfile_commands = layer->commands.count;
    definition.gpu_config = &gpu; /* empty, both, as the official client sends them */
    definition.image_registry_config = &registry;
    if (layer->from_registry && image->order.registry.secret_id) {
        registry.registry_auth_type = (Modal__Client__RegistryAuthType)image->order.registry.auth;
        registry.secret_id = (char *)image->order.registry.secret_id;
    }
    if (image->base_id) {
        base.docker_tag = "base";
        base.image_id = image->base_id;
        definition.base_images = bases;
        definition.n_base_images = 1;
    }
    return ask(image, &request, err);
}

static int start_layer(struct modal_image *image, struct error *err)
{
    free(image->entry);
    free(image->exception);
    image->entry = NULL;
    image->exception = NULL;
    image->has_result = false;
    image->failures = 0;
    image->log = (struct image_log){0};
    image->started = uv_now(image->loop);
    return ask_layer(image, err);
}

/* ---- from outside ---- */

struct modal_image *modal_image_start(struct modal_client *client, uv_loop_t *loop,
                                      const struct modal_image_order *order, struct error *err)
{
    struct modal_image *image = calloc(1, sizeof(*image));

    if (!image ||
        (order->recipe->image_id && !(image->base_id = strdup(order->recipe->image_id)))) {
        error_set(err, ERROR_INTERNAL, "out of memory");
        free(image);
        return NULL;
    }
    image->client = client;
    image->loop = loop;
    image->order = *order;
    if (start_layer(image, err) < 0) {
        free(image->base_id);
        free(image);
        return NULL;
    }
    return image;
}

void modal_image_cancel(struct modal_image *image)
{
    image->cancelled = true;
    if (image->rpc) {
        modal_rpc_cancel(image->rpc);
    }
}
