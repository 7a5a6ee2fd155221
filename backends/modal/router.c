#include "backends/modal/router_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVICE "/modal.task_command_router.TaskCommandRouter/"

enum {
    ROUTER_TIMEOUT_MS = 60 * 1000,
    ROUTER_UNARY_CAP = 1024 * 1024,
};

/* ---- freeing ---- */

static void router_free(struct modal_router *r)
{
    void (*closed)(void *data) = r->closed;
    void *data = r->closed_data;

    router_free_secret(r->bearer);
    router_free_secret(r->sandbox_token);
    free(r->sandbox_id);
    free(r->task_id);
    free(r);
    if (closed) {
        closed(data);
    }
}

static void on_channel_closed(void *data)
{
    struct modal_router *r = data;

    r->channel = NULL;
    if (r->holds == 0 && !r->commands && !r->renewal) {
        router_free(r);
    }
}

void router_maybe_free(struct modal_router *r)
{
    if (!r->closing || r->holds > 0 || r->commands || r->renewal) {
        return;
    }
    if (!r->channel) {
        router_free(r);
    } else if (!r->channel_closing) {
        r->channel_closing = true;
        grpc_channel_close(r->channel, on_channel_closed, r);
    }
}

static void command_free(struct modal_command *c)
{
    if (c->answer) {
        protobuf_c_message_free_unpacked(c->answer, NULL);
    }
    if (c->bytes) {
        explicit_bzero(c->bytes, c->size); /* stdin may hold secrets */
    }
    free(c->bytes);
    free(c);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct modal_command *c = handle->data;
    struct modal_router *r = c->router;

    command_free(c);
    r->holds--;
    router_maybe_free(r);
}

static void unlink_command(struct modal_command *c)
{
    struct modal_command **at = &c->router->commands;

    while (*at != c) {
        at = &(*at)->next;
    }
    *at = c->next;
}

void router_finish(struct modal_command *c, enum grpc_status status, const struct error *err)
{
    struct modal_router *r = c->router;

    unlink_command(c);
    c->call.done(c->call.data, err ? NULL : c->answer, status, err);
    if (c->has_timer) {
        r->holds++;
        uv_close((uv_handle_t *)&c->timer, on_timer_closed);
        return;
    }
    command_free(c);
    router_maybe_free(r);
}

void router_finish_cancelled(struct modal_command *c)
{
    struct error err = {0};

    (void)error_set(&err, ERROR_LOST, "%s: cancelled", c->call.name);
    router_finish(c, GRPC_CANCELLED, &err);
    error_clear(&err);
}

/* ---- later ---- */

static void on_later(uv_timer_t *timer)
{
    struct modal_command *c = timer->data;

    if (c->cancelled) {
        router_finish_cancelled(c);
    } else {
        router_send(c);
    }
}

static void later(struct modal_command *c, unsigned ms)
{
    if (!c->has_timer) {
        (void)uv_timer_init(c->router->loop, &c->timer);
        c->timer.data = c;
        c->has_timer = true;
    }
    uv_timer_start(&c->timer, on_later, ms, 0);
}

/* ---- one attempt ---- */

static uint64_t patience_left(const struct modal_command *c)
{
    uint64_t age = uv_now(c->router->loop) - c->began;

    if (c->call.patience_ms == UINT_MAX) {
        return UINT64_MAX;
    }
    return age < c->call.patience_ms ? c->call.patience_ms - age : 0;
}

/* A stream that was cut asks for the rest. */
static int renew_request(struct modal_command *c, struct error *err)
{
    const ProtobufCMessage *request = c->call.again ? c->call.again(c->call.data) : NULL;
    size_t size = 0;
    char *bytes;

    if (!request) {
        return 0;
    }
    bytes = modal_pack(request, &size);
    if (!bytes) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    free(c->bytes);
    c->bytes = bytes;
    c->size = size;
    return 0;
}

static void try_again(struct modal_command *c, unsigned ms)
{
    struct error err = {0};

    if (c->call.stream && renew_request(c, &err) < 0) {
        router_finish(c, GRPC_INTERNAL, &err);
    } else {
        later(c, ms);
    }
    error_clear(&err);
}

/* The token that it was sent with is not good. Another one may have come since. */
static void renew(struct modal_command *c)
{
    struct error err = {0};

    if (c->generation != c->router->generation) {
        try_again(c, 0);
        return;
    }
    if ((c->call.stream && renew_request(c, &err) < 0) || router_want_token(c, &err) < 0) {
        router_finish(c, GRPC_UNAUTHENTICATED, &err);
    }
    error_clear(&err);
}

static void tell_end(struct modal_command *c, const struct grpc_end *end)
{
    struct error err = {0};

    (void)modal_status_error(c->call.name, end, &err);
    router_finish(c, end->status, &err);
    error_clear(&err);
}

/* A message that cannot be read, or is too long: it may be sent better again. */
static bool is_bad(const struct modal_command *c, const struct grpc_end *end)
{
    return c->bad_answer || (end->local && end->status == GRPC_RESOURCE_EXHAUSTED);
}

static void on_done(void *data, const struct grpc_end *end)
{
    static const struct grpc_end broken = {
        .status = GRPC_INTERNAL, .message = "its answer cannot be read", .local = true};
    struct modal_command *c = data;
    unsigned ms = 0;

    c->grpc = NULL;
    if (c->cancelled) {
        router_finish_cancelled(c);
        return;
    }
    if (is_bad(c, end)) {
        end = &broken;
        c->bad_answer = false;
        if (!c->call.stream && ++c->bad_answers == MODAL_ROUTER_BAD_ANSWERS) {
            tell_end(c, end);
            return;
        }
    }
    if (end->status == GRPC_OK) {
        router_finish(c, GRPC_OK, NULL);
        return;
    }
    switch (
        modal_attempts_next(&c->attempts, end, c->call.patience_ms > 0, patience_left(c), &ms)) {
    case MODAL_AGAIN_LATER:
        try_again(c, ms);
        break;
    case MODAL_AGAIN_RENEW:
        renew(c);
        break;
    case MODAL_AGAIN_NO:
        tell_end(c, end);
        break;
    }
}

static void on_message(void *data, const void *bytes, size_t size)
{
    struct modal_command *c = data;
    ProtobufCMessage *message;

    if (c->cancelled || c->bad_answer || (c->answer && !c->call.stream)) {
        return;
    }
    message = modal_unpack(c->call.answer, bytes, size);
    if (!message) {
        c->bad_answer = true;
        grpc_cancel(c->grpc);
        return;
    }
    c->attempts = (struct modal_attempts){0};
    if (!c->call.stream) {
        c->answer = message;
        return;
    }
    c->call.on_message(c->call.data, message);
    protobuf_c_message_free_unpacked(message, NULL);
}

static int start_attempt(struct modal_command *c, struct error *err)
{
    struct modal_router *r = c->router;
    char attempt[64];
    const char *metadata[] = {r->bearer, attempt, NULL};
    const struct grpc_request request = {
        .method = c->method,
        .message = c->bytes,
        .size = c->size,
        .metadata = metadata,
        .timeout_ms = c->call.timeout_ms,
        .message_cap = c->call.stream ? 0 : ROUTER_UNARY_CAP,
        .unary = !c->call.stream,
        .on_message = on_message,
        .done = on_done,
        .data = c,
    };

    (void)snprintf(attempt, sizeof(attempt), "x-throttle-retry-attempt: %u", c->attempts.throttled);
    c->generation = r->generation;
    protobuf_c_message_free_unpacked(c->answer, NULL); /* of an attempt that failed all the same */
    c->answer = NULL;
    c->grpc = grpc_start(r->channel, &request, err);
    if (c->grpc && c->paused) {
        grpc_pause(c->grpc, true);
    }
    return c->grpc ? 0 : -1;
}

static int begin(struct modal_command *c, struct error *err)
{
    const struct modal_router *r = c->router;

    return r->channel && r->bearer ? start_attempt(c, err) : router_want_token(c, err);
}

void router_send(struct modal_command *c)
{
    struct error err = {0};

    if (begin(c, &err) < 0) {
        router_finish(c, GRPC_INTERNAL, &err);
    }
    error_clear(&err);
}

/* ---- the interface ---- */

static struct modal_command *new_command(struct modal_router *r,
                                         const struct modal_command_call *call)
{
    struct modal_command *c = calloc(1, sizeof(*c));

    if (!c || !(c->bytes = modal_pack(call->request, &c->size))) {
        free(c);
        return NULL;
    }
    c->router = r;
    c->call = *call;
    c->call.request = NULL;
    if (!call->stream && call->timeout_ms == 0) {
        c->call.timeout_ms = ROUTER_TIMEOUT_MS;
    }
    (void)snprintf(c->method, sizeof(c->method), SERVICE "%s", call->name);
    c->began = uv_now(r->loop);
    return c;
}

struct modal_command *modal_command_start(struct modal_router *r,
                                          const struct modal_command_call *call, struct error *err)
{
    struct modal_command *c = r->closing ? NULL : new_command(r, call);

    if (!c) {
        (void)error_set(err, r->closing ? ERROR_LOST : ERROR_INTERNAL, "%s: %s", call->name,
                        r->closing ? "the sandbox's router is being left" : "out of memory");
        return NULL;
    }
    if (begin(c, err) < 0) {
        command_free(c);
        return NULL;
    }
    c->next = r->commands;
    r->commands = c;
    return c;
}

void modal_command_cancel(struct modal_command *c)
{
    if (c->cancelled) {
        return;
    }
    c->cancelled = true;
    if (c->grpc) {
        grpc_cancel(c->grpc);
    } else {
        later(c, 0);
        c->wants_token = false;
    }
}

void modal_command_pause(struct modal_command *c, bool paused)
{
    c->paused = paused;
    if (c->grpc) {
        grpc_pause(c->grpc, paused);
    }
}

struct modal_router *modal_router_new(uv_loop_t *loop, const struct modal_router_options *o,
                                      struct error *err)
{
    struct modal_router *r = calloc(1, sizeof(*r));
    bool ok;

    if (!r) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    r->loop = loop;
    r->client = o->client;
    r->sandbox_id = o->sandbox_id ? strdup(o->sandbox_id) : NULL;
    r->sandbox_token = o->sandbox_token ? strdup(o->sandbox_token) : NULL;
    r->task_id = o->task_id ? strdup(o->task_id) : NULL;
    ok = (r->sandbox_id || !o->sandbox_id) && (r->sandbox_token || !o->sandbox_token) &&
         (r->task_id || !o->task_id);
    if (!ok) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
    } else if (o->url && o->jwt) {
        ok = router_take_access(r, o->url, o->jwt, err) == 0;
    }
    if (!ok) {
        router_free(r);
        return NULL;
    }
    return r;
}

void modal_router_close(struct modal_router *r, void (*closed)(void *data), void *data)
{
    r->closing = true;
    r->closed = closed;
    r->closed_data = data;
    for (struct modal_command *c = r->commands; c; c = c->next) {
        modal_command_cancel(c);
    }
    if (r->renewal) {
        modal_rpc_cancel(r->renewal);
    }
    router_maybe_free(r);
}
