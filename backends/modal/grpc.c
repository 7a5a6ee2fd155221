#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "backends/modal/grpc_internal.h"

struct grpc_call {
    struct grpc_channel *channel;
    struct grpc_call *next, *prev;
    struct h2_request *request; /* NULL: its `done` was called */
    struct grpc_frames frames;
    struct grpc_outcome outcome;
    bool unary, paused, ended;
    bool in_trailers;       /* the newest field was one */
    struct http_reply held; /* how the exchange ended, while messages wait to be taken */
    struct error held_err;
    unsigned timeout_ms;
    uv_timer_t deadline;
    uv_timer_t work;  /* with a time of 0: goes on in the loop's next turn */
    unsigned handles; /* that are not closed yet */
    void (*on_metadata)(void *data, const char *name, const char *value, bool trailer);
    void (*on_message)(void *data, const void *bytes, size_t size);
    void (*done)(void *data, const struct grpc_end *end);
    void *data;
};

/* --- the end ------------------------------------------------------------------------------ */

static void call_free(struct grpc_call *call)
{
    grpc_frames_deinit(&call->frames);
    grpc_outcome_clear(&call->outcome);
    error_clear(&call->held_err);
    free(call);
}

static void handle_closed(uv_handle_t *handle)
{
    struct grpc_call *call = handle->data;
    struct grpc_channel *channel = call->channel;
    if (--call->handles == 0) {
        call_free(call);
        grpc_channel_release(channel);
    }
}

static void unlink_call(struct grpc_call *call)
{
    *(call->prev ? &call->prev->next : &call->channel->calls) = call->next;
    if (call->next) {
        call->next->prev = call->prev;
    }
}

static void finish(struct grpc_call *call)
{
    struct grpc_end end = grpc_outcome_end(&call->outcome);
    call->ended = true;
    unlink_call(call);
    uv_close((uv_handle_t *)&call->deadline, handle_closed);
    uv_close((uv_handle_t *)&call->work, handle_closed);
    call->done(call->data, &end);
}

static void on_work(uv_timer_t *timer);

/* `done` comes from the loop: from the exchange's own end where it still goes. */
static void end_soon(struct grpc_call *call)
{
    if (call->request) {
        h2_cancel(call->request);
    } else {
        uv_timer_start(&call->work, on_work, 0, 0);
    }
}

static bool is_over(const struct grpc_call *call)
{
    return call->ended || call->outcome.cancelled || call->outcome.found;
}

static void on_deadline(uv_timer_t *timer)
{
    struct grpc_call *call = timer->data;
    if (!is_over(call)) {
        grpc_outcome_find(&call->outcome, GRPC_DEADLINE_EXCEEDED, "no answer within %u ms",
                          call->timeout_ms);
        end_soon(call);
    }
}

/* --- the answer --------------------------------------------------------------------------- */

static bool take(void *data, const void *message, size_t size)
{
    struct grpc_call *call = data;
    if (call->unary && call->outcome.messages > 0) {
        grpc_outcome_find(&call->outcome, GRPC_INTERNAL,
                          "the server answered with more than one message");
        end_soon(call);
        return false;
    }
    call->outcome.messages++;
    call->on_message(call->data, message, size);
    return !call->paused && !is_over(call);
}

static void broken(struct grpc_call *call, int code)
{
    struct grpc_outcome *o = &call->outcome;
    switch (code) {
    case -EMSGSIZE:
        grpc_outcome_find(o, GRPC_RESOURCE_EXHAUSTED,
                          "the server's message is longer than the %zu bytes that are taken",
                          call->frames.cap);
        break;
    case -EBADMSG:
        grpc_outcome_find(o, GRPC_INTERNAL,
                          "the server's message is compressed, which was not agreed on, or none");
        break;
    default:
        grpc_outcome_find(o, GRPC_INTERNAL, "out of memory for the answer");
    }
    end_soon(call);
}

static void feed(struct grpc_call *call, const void *bytes, size_t size)
{
    int r = grpc_frames_feed(&call->frames, bytes, size, take, call);
    if (r < 0) {
        broken(call, r);
    }
}

static void note_type(struct grpc_outcome *o, const char *type)
{
    static const char grpc[] = "application/grpc";
    size_t n = sizeof(grpc) - 1;
    o->is_grpc = strncasecmp(type, grpc, n) == 0 && (!type[n] || strchr("+; ", type[n]));
    if (!o->is_grpc) {
        free(o->other_type);
        o->other_type = grpc_message_decode(type); /* for its cleaning */
    }
}

static void on_field(void *data, const char *name, const char *value, bool trailer)
{
    struct grpc_call *call = data;
    if (is_over(call)) {
        return;
    }
    if (!trailer && strcasecmp(name, "content-type") == 0) {
        note_type(&call->outcome, value);
    }
    call->in_trailers = trailer;
    grpc_trailers_note(&call->outcome.trailers, name, value);
    if (call->on_metadata) {
        call->on_metadata(call->data, name, value, trailer);
    }
}

static void on_body(void *data, const char *bytes, size_t size)
{
    struct grpc_call *call = data;
    if (is_over(call)) {
        return;
    }
    /* Only an answer without a body has its status in its head. (Trailers may be in already, when
     * the body was held back.) */
    if (!call->in_trailers) {
        grpc_trailers_reset(&call->outcome.trailers);
    }
    if (call->outcome.is_grpc) {
        feed(call, bytes, size);
    }
}

/* Its user holds messages back that are whole: how the exchange ended is told after them. */
static void hold(struct grpc_call *call, const struct http_reply *reply, const struct error *err)
{
    call->held = *reply;
    call->held.content_type = call->held.etag = "";
    call->held.body = "";
    call->held.size = 0;
    if (err) {
        error_copy(&call->held_err, err);
    }
    if (!call->paused) {
        uv_timer_start(&call->work, on_work, 0, 0);
    }
}

static void settle(struct grpc_call *call, const struct http_reply *reply, const struct error *err)
{
    grpc_outcome_settle(&call->outcome, reply, err, grpc_frames_left(&call->frames), call->unary);
    finish(call);
}

static void on_done(void *data, const struct http_reply *reply, const struct error *err)
{
    struct grpc_call *call = data;
    call->request = NULL;
    if (!is_over(call) && grpc_frames_waiting(&call->frames)) {
        hold(call, reply, err);
    } else {
        settle(call, reply, err);
    }
}

static void on_work(uv_timer_t *timer)
{
    struct grpc_call *call = timer->data;
    if (!is_over(call) && !call->paused) {
        feed(call, NULL, 0);
    }
    if (!call->request && (is_over(call) || !grpc_frames_waiting(&call->frames))) {
        settle(call, &call->held, call->held_err.kind == ERROR_NONE ? NULL : &call->held_err);
    }
}

/* --- what its user asks for --------------------------------------------------------------- */

void grpc_cancel(struct grpc_call *call)
{
    if (!call->ended && !call->outcome.cancelled) {
        call->outcome.cancelled = true;
        end_soon(call);
    }
}

void grpc_cancel_all(struct grpc_channel *channel)
{
    for (struct grpc_call *call = channel->calls; call; call = call->next) {
        grpc_cancel(call);
    }
}

void grpc_pause(struct grpc_call *call, bool paused)
{
    if (call->ended) {
        return;
    }
    call->paused = paused;
    if (call->request) {
        h2_pause(call->request, paused);
    }
    if (!paused && grpc_frames_waiting(&call->frames)) {
        uv_timer_start(&call->work, on_work, 0, 0);
    }
}

/* --- the start ---------------------------------------------------------------------------- */

static struct grpc_call *call_new(struct grpc_channel *channel, const struct grpc_request *request)
{
    struct grpc_call *call = calloc(1, sizeof(*call));
    if (!call) {
        return NULL;
    }
    call->channel = channel;
    grpc_frames_init(&call->frames, request->message_cap ? request->message_cap : GRPC_MESSAGE_CAP);
    grpc_trailers_reset(&call->outcome.trailers);
    call->unary = request->unary;
    call->timeout_ms = request->timeout_ms;
    call->on_metadata = request->on_metadata;
    call->on_message = request->on_message;
    call->done = request->done;
    call->data = request->data;
    return call;
}

/* Its own metadata with the deadline among it; the texts stay where they are. */
static const char **with_timeout(const struct grpc_request *request, const char *timeout)
{
    size_t n = 0;
    const char **all;

    while (request->metadata && request->metadata[n]) {
        n++;
    }
    all = calloc(n + 2, sizeof(*all));
    for (size_t i = 0; all && i < n; i++) {
        all[i] = request->metadata[i];
    }
    if (all && request->timeout_ms) {
        all[n] = timeout;
    }
    return all;
}

static unsigned char *framed(const struct grpc_request *request)
{
    unsigned char *body = malloc(GRPC_FRAME_HEAD + request->size);
    if (body) {
        grpc_frame_head(body, request->size);
    }
    if (body && request->size > 0) {
        memcpy(body + GRPC_FRAME_HEAD, request->message, request->size);
    }
    return body;
}

static struct h2_request *start(struct grpc_call *call, const struct grpc_request *request,
                                struct error *err)
{
    char timeout[GRPC_TIMEOUT_SIZE];
    const char **metadata = with_timeout(request, timeout);
    unsigned char *body = framed(request);
    struct h2_request *started = NULL;
    struct h2_call exchange = {
        .path = request->method,
        .headers = metadata,
        .body = body,
        .body_size = GRPC_FRAME_HEAD + request->size,
        .on_field = on_field,
        .on_body = on_body,
        .done = on_done,
        .data = call,
    };

    grpc_timeout_header(request->timeout_ms, timeout);
    if (metadata && body) {
        started = h2_start(call->channel->h2, &exchange, err);
    } else {
        error_set(err, ERROR_INTERNAL, "out of memory for a call of %s", request->method);
    }
    if (body) {
        explicit_bzero(body, exchange.body_size); /* secrets may be in it */
    }
    free(body);
    free(metadata);
    return started;
}

static void link_call(struct grpc_call *call)
{
    struct grpc_channel *channel = call->channel;
    call->next = channel->calls;
    if (call->next) {
        call->next->prev = call;
    }
    channel->calls = call;
    channel->users++;
}

struct grpc_call *grpc_start(struct grpc_channel *channel, const struct grpc_request *request,
                             struct error *err)
{
    struct grpc_call *call;

    if (request->size > UINT32_MAX) {
        error_set(err, ERROR_LIMIT, "%s: a message of %zu bytes is too long", request->method,
                  request->size);
        return NULL;
    }
    call = call_new(channel, request);
    if (!call) {
        error_set(err, ERROR_INTERNAL, "out of memory for a call of %s", request->method);
        return NULL;
    }
    call->request = start(call, request, err);
    if (!call->request) {
        call_free(call);
        return NULL;
    }
    uv_timer_init(channel->loop, &call->deadline);
    uv_timer_init(channel->loop, &call->work);
    call->deadline.data = call->work.data = call;
    call->handles = 2;
    if (request->timeout_ms) {
        uv_timer_start(&call->deadline, on_deadline, request->timeout_ms, 0);
    }
    link_call(call);
    return call;
}
