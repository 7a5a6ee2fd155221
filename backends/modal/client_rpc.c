/* One call: its attempts, and what is between them. */
#include "backends/modal/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/modal/client_internal.h"

enum {
    ATTEMPT_MS = 60 * 1000,
    TOTAL_MS = 10 * 60 * 1000,
    SHORTEST_ATTEMPT_MS = 2000, /* less time than that is not worth another attempt */
    RETRIES = 3,
};

static void attempt(struct modal_rpc *rpc);

/* ---- the end ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct modal_rpc *rpc = handle->data;
    struct modal_client *client = rpc->client;

    if (rpc->prev) {
        rpc->prev->next = rpc->next;
    } else {
        client->rpcs = rpc->next;
    }
    if (rpc->next) {
        rpc->next->prev = rpc->prev;
    }
    free(rpc);
    modal_client_check_closed(client);
}

static void clear_answer(struct modal_rpc *rpc)
{
    protobuf_c_message_free_unpacked(rpc->answer, NULL);
    rpc->answer = NULL;
    rpc->messages = 0;
    rpc->broken = false;
}

static void release(struct modal_rpc *rpc)
{
    clear_answer(rpc);
    if (rpc->request) {
        explicit_bzero(rpc->request, rpc->request_size);
        free(rpc->request);
    }
    if (rpc->sandbox_token) {
        explicit_bzero(rpc->sandbox_token, strlen(rpc->sandbox_token));
        free(rpc->sandbox_token);
    }
    free(rpc->method);
    error_clear(&rpc->failure);
    uv_close((uv_handle_t *)&rpc->timer, on_timer_closed);
}

static void finish(struct modal_rpc *rpc, enum grpc_status status, const struct error *err)
{
    rpc->state = RPC_ENDED;
    rpc->call.done(rpc->call.data, err ? NULL : rpc->answer, status, err);
    release(rpc);
}

static void finish_cancelled(struct modal_rpc *rpc)
{
    struct error err = {0};

    error_set(&err, ERROR_LOST, "%s was cancelled", rpc->call.name);
    finish(rpc, GRPC_CANCELLED, &err);
    error_clear(&err);
}

static void finish_ended(struct modal_rpc *rpc, const struct grpc_end *end)
{
    struct error err = {0};

    if (end->status == GRPC_OK) {
        finish(rpc, GRPC_OK, NULL);
        return;
    }
    (void)modal_status_error(rpc->call.name, end, &err);
    if (end->status == GRPC_UNAUTHENTICATED) {
        error_wrap(&err, "credentials of %s", rpc->client->credentials.profile);
    }
    finish(rpc, end->status, &err);
    error_clear(&err);
}

/* ---- between two attempts ---- */

static void on_timer(uv_timer_t *timer)
{
    struct modal_rpc *rpc = timer->data;

    if (rpc->cancelled) {
        finish_cancelled(rpc);
    } else if (rpc->failure.kind != ERROR_NONE) {
        finish(rpc, rpc->failure_status, &rpc->failure);
    } else {
        attempt(rpc);
    }
}

static void pause_for(struct modal_rpc *rpc, uint64_t ms)
{
    rpc->state = RPC_PAUSED;
    uv_timer_start(&rpc->timer, on_timer, ms, 0);
}

void modal_rpcs_wake(struct modal_client *client, enum grpc_status status, const struct error *err)
{
    for (struct modal_rpc *rpc = client->rpcs; rpc; rpc = rpc->next) {
        if (rpc->state == RPC_TOKEN) {
            if (err) {
                rpc->failure_status = status;
                error_copy(&rpc->failure, err);
            }
            pause_for(rpc, 0);
        }
    }
}

static bool has_time(const struct modal_rpc *rpc, uint64_t delay)
{
    return rpc->deadline == 0 ||
           uv_now(rpc->client->loop) + delay + SHORTEST_ATTEMPT_MS < rpc->deadline;
}

/* Nothing has come of it yet, and nothing will: it may go again whatever it does. */
static bool is_untouched(const struct modal_rpc *rpc, enum grpc_status status)
{
    bool refused = status == GRPC_UNAUTHENTICATED || status == GRPC_RESOURCE_EXHAUSTED;
    return rpc->call.stream ? rpc->messages == 0 : refused || !rpc->call.once;
}

static bool renew_token(struct modal_rpc *rpc, const struct grpc_end *end)
{
    if (end->status != GRPC_UNAUTHENTICATED || rpc->is_fetch || rpc->renewed ||
        !is_untouched(rpc, end->status)) {
        return false;
    }
    rpc->renewed = true;
    modal_token_drop(rpc->client, rpc->serial);
    pause_for(rpc, 0);
    return true;
}

/* The service says when to come again: that costs no retry. */
static bool wait_throttled(struct modal_rpc *rpc, const struct grpc_end *end)
{
    unsigned ms = end->local ? 0 : modal_retry_after_ms(end->details, end->details_size);

    if (ms == 0 || !is_untouched(rpc, end->status) || !has_time(rpc, ms)) {
        return false;
    }
    rpc->throttled++;
    pause_for(rpc, ms);
    return true;
}

/* The next of the service's addresses, once nothing could be had from this one. */
static void change_server(struct modal_rpc *rpc, const struct grpc_end *end)
{
    struct modal_client *client = rpc->client;

    if (end->local && end->status == GRPC_UNAVAILABLE && client->count > 0) {
        client->current = (client->current + 1) % client->count;
    }
}

static bool retry(struct modal_rpc *rpc, const struct grpc_end *end)
{
    unsigned ms = modal_retry_delay_ms(rpc->retries + 1);

    if (!modal_status_is_transient(end->status) || rpc->call.once || rpc->call.stream ||
        rpc->retries == RETRIES || !has_time(rpc, ms)) {
        return false;
    }
    change_server(rpc, end);
    rpc->retries++;
    pause_for(rpc, ms);
    return true;
}

/* ---- an attempt ---- */

static void on_message(void *data, const void *bytes, size_t size)
{
    struct modal_rpc *rpc = data;
    ProtobufCMessage *message;

    rpc->messages++;
    if (rpc->broken || rpc->cancelled) {
        return;
    }
    message = modal_unpack(rpc->call.answer, bytes, size);
    if (!message) {
        rpc->broken = true;
        grpc_cancel(rpc->grpc);
    } else if (rpc->call.stream) {
        rpc->call.on_message(rpc->call.data, message);
        protobuf_c_message_free_unpacked(message, NULL);
    } else {
        protobuf_c_message_free_unpacked(rpc->answer, NULL);
        rpc->answer = message;
    }
}

static void on_done(void *data, const struct grpc_end *given)
{
    struct modal_rpc *rpc = data;
    struct grpc_end end = *given;

    rpc->grpc = NULL;
    if (rpc->cancelled) {
        finish_cancelled(rpc);
        return;
    }
    if (rpc->broken || (end.status == GRPC_OK && !rpc->call.stream && rpc->messages != 1)) {
        end = (struct grpc_end){.status = GRPC_INTERNAL,
                                .message = "the service's answer is not what it should be",
                                .local = true};
    } else if (end.local && end.status == GRPC_RESOURCE_EXHAUSTED) {
        end.status = GRPC_INTERNAL; /* an answer that is too long: the service may have done it */
    }
    if (end.status == GRPC_OK ||
        !(renew_token(rpc, &end) || wait_throttled(rpc, &end) || retry(rpc, &end))) {
        finish_ended(rpc, &end);
    }
}

static double seconds_since(const struct modal_rpc *rpc)
{
    return (double)(uv_now(rpc->client->loop) - rpc->started) / 1000.0;
}

static void list_metadata(const struct modal_rpc *rpc, struct strings *list)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    strings_add_format(list, "x-modal-timestamp: %lld.%06ld", (long long)now.tv_sec,
                       now.tv_nsec / 1000);
    if (!rpc->call.stream) {
        strings_add_format(list, "x-idempotency-key: %s", rpc->key);
        strings_add_format(list, "x-retry-attempt: %u", rpc->retries);
        strings_add_format(list, "x-throttle-retry-attempt: %u", rpc->throttled);
    }
    if (rpc->retries > 0) {
        strings_add_format(list, "x-retry-delay: %.3f", seconds_since(rpc));
    }
    if (rpc->throttled > 0) {
        strings_add_format(list, "x-throttle-retry-delay: %.3f", seconds_since(rpc));
    }
    if (rpc->sandbox_token) {
        strings_add(list, rpc->sandbox_token);
    }
    if (!rpc->is_fetch && rpc->client->token.header) {
        strings_add(list, rpc->client->token.header);
    }
}

/* Of this attempt: its own limit, and no more than what is left of the whole. */
static unsigned limit_of(const struct modal_rpc *rpc)
{
    uint64_t now = uv_now(rpc->client->loop);
    uint64_t limit = rpc->call.timeout_ms;

    if (limit == 0 && !rpc->call.stream) {
        limit = ATTEMPT_MS;
    }
    if (rpc->deadline > 0) {
        uint64_t left = rpc->deadline > now ? rpc->deadline - now : 1;
        limit = limit == 0 || left < limit ? left : limit;
    }
    return (unsigned)limit;
}

static void fail_start(struct modal_rpc *rpc, const struct error *err)
{
    rpc->failure_status = GRPC_INTERNAL;
    error_copy(&rpc->failure, err);
    pause_for(rpc, 0);
}

static void go(struct modal_rpc *rpc)
{
    struct strings metadata = {0};
    struct error err = {0};
    struct grpc_request request = {
        .method = rpc->method,
        .message = rpc->request,
        .size = rpc->request_size,
        .timeout_ms = limit_of(rpc),
        .message_cap = MODAL_ANSWER_CAP,
        .unary = !rpc->call.stream,
        .on_message = on_message,
        .done = on_done,
        .data = rpc,
    };

    list_metadata(rpc, &metadata);
    request.metadata = (const char *const *)metadata.list;
    rpc->serial = rpc->client->token.serial;
    rpc->state = RPC_GOING;
    if (strings_ok(&metadata) < 0) {
        error_set(&err, ERROR_INTERNAL, "out of memory");
    } else {
        rpc->grpc = grpc_start(rpc->client->channels[rpc->client->current], &request, &err);
    }
    modal_strings_wipe(&metadata);
    if (!rpc->grpc) {
        fail_start(rpc, &err);
    }
    error_clear(&err);
}

static void attempt(struct modal_rpc *rpc)
{
    clear_answer(rpc);
    rpc->state = RPC_TOKEN;
    if (rpc->is_fetch || modal_token_ready(rpc->client)) {
        go(rpc);
    }
}

/* ---- its beginning ---- */

static void set_deadline(struct modal_rpc *rpc)
{
    const struct modal_rpc_call *call = &rpc->call;
    uint64_t total = call->total_ms;

    rpc->started = uv_now(rpc->client->loop);
    if (total == 0 && !call->stream) {
        total = TOTAL_MS;
    }
    rpc->deadline = total > 0 ? rpc->started + total : 0;
}

static bool fill(struct modal_rpc *rpc, const struct modal_rpc_call *call)
{
    rpc->call = *call;
    rpc->call.request = NULL;
    rpc->call.sandbox_token = NULL;
    rpc->method = string_format("/modal.client.ModalClient/%s", call->name);
    rpc->request = modal_pack(call->request, &rpc->request_size);
    if (call->sandbox_token) {
        rpc->sandbox_token = string_format("x-modal-sandbox-token: %s", call->sandbox_token);
    }
    if (rpc->method) {
        rpc->call.name = strrchr(rpc->method, '/') + 1;
    }
    return rpc->method && rpc->request && (rpc->sandbox_token || !call->sandbox_token) &&
           modal_uuid(rpc->key) == 0;
}

static struct modal_rpc *make(struct modal_client *client, const struct modal_rpc_call *call,
                              struct error *err)
{
    struct modal_rpc *rpc = client->closing ? NULL : calloc(1, sizeof(*rpc));

    if (!rpc) {
        error_set(err, client->closing ? ERROR_LOST : ERROR_INTERNAL, "%s: %s", call->name,
                  client->closing ? "the client is being closed" : "out of memory");
        return NULL;
    }
    rpc->client = client;
    rpc->timer.data = rpc;
    uv_timer_init(client->loop, &rpc->timer);
    rpc->next = client->rpcs;
    if (rpc->next) {
        rpc->next->prev = rpc;
    }
    client->rpcs = rpc;
    if (!fill(rpc, call)) {
        rpc->state = RPC_ENDED;
        release(rpc);
        error_set(err, ERROR_INTERNAL, "%s: out of memory", call->name);
        return NULL;
    }
    set_deadline(rpc);
    return rpc;
}

struct modal_rpc *modal_rpc_start(struct modal_client *client, const struct modal_rpc_call *call,
                                  struct error *err)
{
    struct modal_rpc *rpc = make(client, call, err);

    if (rpc && call->delay_ms > 0) {
        pause_for(rpc, call->delay_ms);
    } else if (rpc) {
        attempt(rpc);
    }
    return rpc;
}

struct modal_rpc *modal_rpc_fetch(struct modal_client *client, const struct modal_rpc_call *call,
                                  struct error *err)
{
    struct modal_rpc *rpc = make(client, call, err);

    if (rpc) {
        rpc->is_fetch = true;
        attempt(rpc);
    }
    return rpc;
}

void modal_rpc_cancel(struct modal_rpc *rpc)
{
    if (rpc->state == RPC_ENDED || rpc->cancelled) {
        return;
    }
    rpc->cancelled = true;
    if (rpc->grpc) {
        grpc_cancel(rpc->grpc);
    } else {
        pause_for(rpc, 0);
    }
}
