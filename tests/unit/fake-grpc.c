#include "fake-grpc.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "backends/base/strings.h"

enum { METHODS = 32 };

struct grpc_channel {
    uv_loop_t *loop;
    char *url;
    struct strings metadata;
    struct grpc_call *calls;
    uv_timer_t timer;
    void (*closed)(void *data);
    void *closed_data;
};

struct grpc_call {
    struct grpc_call *next;
    struct grpc_channel *channel;
    struct grpc_request request; /* its texts are ours */
    char *method;
    void *bytes;
    struct strings metadata;
    uv_timer_t timer;
    bool cancelled, ended;
};

static struct {
    void (*serve)(void *data, const struct fake_call *call, struct fake_reply *reply);
    void *data;
    char *methods[METHODS];
    unsigned counts[METHODS];
    unsigned channels;
} fake;

void fake_grpc_begin(void (*serve)(void *data, const struct fake_call *call,
                                   struct fake_reply *reply),
                     void *data)
{
    for (unsigned i = 0; i < METHODS; i++) {
        free(fake.methods[i]);
        fake.methods[i] = NULL;
        fake.counts[i] = 0;
    }
    fake.serve = serve;
    fake.data = data;
}

static unsigned *count_of(const char *method)
{
    unsigned i = 0;

    while (i < METHODS - 1 && fake.methods[i] && strcmp(fake.methods[i], method) != 0) {
        i++;
    }
    if (!fake.methods[i]) {
        fake.methods[i] = strdup(method);
    }
    return &fake.counts[i];
}

unsigned fake_count(const char *method)
{
    return *count_of(method);
}

unsigned fake_channels(void)
{
    return fake.channels;
}

const char *fake_metadata(const struct fake_call *call, const char *name)
{
    size_t n = strlen(name);

    for (char *const *at = call->metadata; *at; at++) {
        if (strncasecmp(*at, name, n) == 0 && strncmp(*at + n, ": ", 2) == 0) {
            return *at + n + 2;
        }
    }
    return "";
}

/* Either list may be NULL. */
static void add_metadata(struct strings *list, const char *const *metadata)
{
    if (metadata) {
        strings_add_all(list, metadata);
    }
}

/* ---- channels ---- */

struct grpc_channel *grpc_channel_new(uv_loop_t *loop, const struct grpc_channel_options *options,
                                      struct error *err)
{
    struct grpc_channel *channel;

    if (strncmp(options->url, "http", 4) != 0) {
        error_set(err, ERROR_INVALID, "no URL");
        return NULL;
    }
    channel = calloc(1, sizeof(*channel));
    channel->loop = loop;
    channel->url = strdup(options->url);
    add_metadata(&channel->metadata, options->metadata);
    channel->timer.data = channel;
    uv_timer_init(loop, &channel->timer);
    fake.channels++;
    return channel;
}

static void on_channel_closed(uv_handle_t *handle)
{
    struct grpc_channel *channel = handle->data;
    void (*closed)(void *data) = channel->closed;
    void *data = channel->closed_data;

    strings_free(&channel->metadata);
    free(channel->url);
    free(channel);
    fake.channels--;
    if (closed) {
        closed(data);
    }
}

static void on_channel_timer(uv_timer_t *timer)
{
    struct grpc_channel *channel = timer->data;

    if (channel->calls) {
        uv_timer_start(timer, on_channel_timer, 1, 0);
    } else {
        uv_close((uv_handle_t *)timer, on_channel_closed);
    }
}

void grpc_channel_close(struct grpc_channel *channel, void (*closed)(void *data), void *data)
{
    channel->closed = closed;
    channel->closed_data = data;
    for (struct grpc_call *call = channel->calls; call; call = call->next) {
        grpc_cancel(call);
    }
    uv_timer_start(&channel->timer, on_channel_timer, 0, 0);
}

/* ---- calls ---- */

static void on_call_closed(uv_handle_t *handle)
{
    struct grpc_call *call = handle->data;
    struct grpc_call **at = &call->channel->calls;

    while (*at != call) {
        at = &(*at)->next;
    }
    *at = call->next;
    strings_free(&call->metadata);
    free(call->method);
    free(call->bytes);
    free(call);
}

static void end(struct grpc_call *call, const struct grpc_end *how)
{
    call->ended = true;
    call->request.done(call->request.data, how);
    uv_close((uv_handle_t *)&call->timer, on_call_closed);
}

static void send_message(struct grpc_call *call, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(size + 1);

    (void)protobuf_c_message_pack(message, bytes);
    call->request.on_message(call->request.data, bytes, size);
    free(bytes);
}

static void answer(struct grpc_call *call, const struct fake_reply *reply)
{
    struct grpc_end how = {.status = reply->status,
                           .message = reply->message ? reply->message : "",
                           .local = reply->local,
                           .details = reply->details,
                           .details_size = reply->details_size};

    for (unsigned i = 0; i < FAKE_ANSWERS && reply->answers[i]; i++) {
        send_message(call, reply->answers[i]);
    }
    if (reply->raw) {
        call->request.on_message(call->request.data, reply->raw, reply->raw_size);
    }
    end(call, &how);
}

static void on_call_timer(uv_timer_t *timer)
{
    struct grpc_call *call = timer->data;
    struct grpc_end cancelled = {.status = GRPC_CANCELLED, .message = "cancelled", .local = true};
    struct fake_reply reply = {0};
    struct fake_call seen = {.url = call->channel->url,
                             .method = call->method,
                             .message = call->bytes,
                             .size = call->request.size,
                             .timeout_ms = call->request.timeout_ms,
                             .metadata = call->metadata.list};

    if (call->cancelled) {
        end(call, &cancelled);
        return;
    }
    seen.number = ++*count_of(call->method);
    fake.serve(fake.data, &seen, &reply);
    if (!reply.hold) {
        answer(call, &reply);
    }
}

struct grpc_call *grpc_start(struct grpc_channel *channel, const struct grpc_request *request,
                             struct error *err)
{
    struct grpc_call *call = calloc(1, sizeof(*call));

    (void)err;
    call->channel = channel;
    call->request = *request;
    call->method = strdup(strrchr(request->method, '/') + 1);
    call->bytes = malloc(request->size + 1);
    memcpy(call->bytes, request->message, request->size);
    add_metadata(&call->metadata, (const char *const *)channel->metadata.list);
    add_metadata(&call->metadata, request->metadata);
    call->timer.data = call;
    uv_timer_init(channel->loop, &call->timer);
    uv_timer_start(&call->timer, on_call_timer, 0, 0);
    call->next = channel->calls;
    channel->calls = call;
    return call;
}

void grpc_cancel(struct grpc_call *call)
{
    if (!call->cancelled && !call->ended) {
        call->cancelled = true;
        uv_timer_start(&call->timer, on_call_timer, 0, 0);
    }
}

void grpc_pause(struct grpc_call *call, bool paused)
{
    (void)call, (void)paused;
}
