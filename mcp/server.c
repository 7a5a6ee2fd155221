#include "mcp/server.h"

#include <stdlib.h>
#include <string.h>

#include "mcp/resources.h"
#include "mcp/server_internal.h"
#include "mcp/session_secrets.h"

/*
 * The end, in order: no more input (end of stdin) or a stop → no call in flight → sessions closed →
 * last answers written, handles closed → stopped. Each step is taken from the timer or a close
 * callback, never from within a tool's or the reader's stack.
 */

static void step(uv_timer_t *timer);

/* ---- sending ---- */

void server_send(struct server *s, json_t *message_owned)
{
    if (!message_owned) {
        log_write(s->log, LOG_LEVEL_ERROR, "a message could not be built: out of memory");
        return;
    }
    if (s->stdio) {
        buffer_reset(&s->scratch);
        int rc = jsonrpc_encode(message_owned, &s->scratch);
        if (rc < 0) {
            log_write(s->log, LOG_LEVEL_ERROR, "a message could not be written: %s",
                      uv_strerror(rc));
        } else {
            stdio_write(s->stdio, buffer_data(&s->scratch), buffer_size(&s->scratch));
        }
    }
    json_decref(message_owned);
}

json_t *server_masked(const struct server *s, json_t *value_owned)
{
    struct mask *mask = s->sessions ? sessions_mask(s->sessions) : NULL;
    json_t *masked;

    if (!mask) {
        return value_owned;
    }
    masked = mask_json(mask, value_owned, false);
    json_decref(value_owned);
    return masked;
}

void server_reply(struct server *s, struct batch *batch, json_t *message_owned)
{
    if (!batch) {
        if (message_owned) {
            server_send(s, message_owned);
        }
        return;
    }
    if (message_owned) {
        json_array_append_new(batch->answers, message_owned);
    }
    server_batch_done(s, batch);
}

void server_batch_done(struct server *s, struct batch *batch)
{
    if (--batch->pending > 0) {
        return;
    }
    if (json_array_size(batch->answers) > 0) {
        server_send(s, batch->answers);
    } else {
        json_decref(batch->answers); /* notifications only, or all cancelled */
    }
    free(batch);
}

void server_send_log(struct server *s, enum log_level level, const char *logger, json_t *data_owned)
{
    if (!s->stdio || stdio_congested(s->stdio)) {
        json_decref(data_owned);
        return;
    }
    server_send(
        s, jsonrpc_notification("notifications/message",
                                json_pack("{s:s, s:s, s:o}", "level", log_level_name(level),
                                          "logger", logger, "data", server_masked(s, data_owned))));
}

void server_log_message(struct server *server, enum log_level level, const char *logger,
                        json_t *data_owned)
{
    if (server->version == PROTOCOL_NONE || level < server->log_level) {
        json_decref(data_owned);
        return;
    }
    server_send_log(server, level, logger, data_owned);
}

/* ---- the end ---- */

static void step_soon(struct server *s)
{
    uv_timer_start(&s->timer, step, 0, 0);
}

void server_call_ended(struct server *s)
{
    if (s->stdio && stdio_reads_file(s->stdio)) {
        stdio_hold(s->stdio, s->call_count >= CALLS_FROM_FILE);
    }
    if (s->call_count == 0 && (s->state == SERVER_DRAINING || s->state == SERVER_STOPPING)) {
        step_soon(s);
    }
}

static void part_closed(void *data)
{
    struct server *s = data;
    if (--s->closing == 0) {
        s->state = SERVER_STOPPED;
        s->stopped(s->data);
    }
}

static void timer_closed(uv_handle_t *handle)
{
    part_closed(handle->data);
}

static void sessions_closed(void *data)
{
    struct server *s = data;
    struct stdio *stdio = s->stdio;
    s->sessions = NULL;
    s->stdio = NULL;
    s->closing = 7;
    stdio_close(stdio, s->linger ? LINGER_MS : 0, part_closed, s);
    lifeline_close(s->lifeline, part_closed, s);
    roots_close(s->roots, part_closed, s);
    consent_close(s->consent, part_closed, s);
    client_requests_close(s->requests, part_closed, s);
    uv_close((uv_handle_t *)&s->timer, timer_closed);
    uv_close((uv_handle_t *)&s->late_cancel, timer_closed);
}

/* An open subscription is answered when the server ends it; the answer has no content. */
static void end_subscriptions(struct server *s)
{
    size_t i;
    json_t *one;
    json_array_foreach(s->subscriptions, i, one)
    {
        json_t *id = json_object_get(one, "id");
        json_t *result =
            json_pack("{s:{s:O}}", "_meta", "io.modelcontextprotocol/subscriptionId", id);
        protocol_finish(PROTOCOL_2026_07_28, result);
        server_send(s, jsonrpc_result(id, result));
    }
    json_array_clear(s->subscriptions);
}

static void step(uv_timer_t *timer)
{
    struct server *s = timer->data;
    if (s->state != SERVER_DRAINING && s->state != SERVER_STOPPING) {
        return;
    }
    if (s->state == SERVER_DRAINING && s->call_count > 0) {
        return;
    }
    if (s->linger) {
        end_subscriptions(s);
    }
    s->state = SERVER_CLOSING;
    if (s->sessions) {
        sessions_close(s->sessions, sessions_closed, s);
    } else {
        sessions_closed(s);
    }
}

static void cancel_all(struct server *s)
{
    /* A cancelled tool may answer, and so leave the list, at once; or any time later. */
    for (struct call *call = s->calls; call;) {
        if (call->cancelled) {
            call = call->next;
            continue;
        }
        call_cancel(call);
        call = s->calls;
    }
}

void server_stop(struct server *server)
{
    if (server->state > SERVER_DRAINING) {
        return;
    }
    server->state = SERVER_STOPPING;
    server->linger = false;
    stdio_stop_reading(server->stdio);
    roots_stop(server->roots);
    client_requests_stop(server->requests);
    uv_update_time(server->loop);
    uv_timer_start(&server->timer, step, STOP_LIMIT_MS, 0);
    cancel_all(server);
    if (server->call_count == 0) {
        step_soon(server);
    }
}

/* ---- events ---- */

static void on_line(void *data, const char *line, size_t size)
{
    struct server *s = data;
    dispatch_line(s, line, size);
    if (s->call_count >= CALLS_FROM_FILE && stdio_reads_file(s->stdio)) {
        stdio_hold(s->stdio, true);
    }
}

static void on_too_long(void *data)
{
    struct fault fault;
    fault_set(
        &fault, JSONRPC_INVALID_REQUEST,
        "Invalid request: the message is longer than %d bytes (16 MiB), the most that is read; "
        "it was skipped. Bring large data in with add_share instead.",
        MESSAGE_CAP);
    server_send(data, jsonrpc_fault(NULL, &fault));
}

static void on_end(void *data)
{
    struct server *s = data;
    if (s->state == SERVER_SERVING) {
        s->state = SERVER_DRAINING;
        roots_stop(s->roots);
        client_requests_stop(s->requests);
        server_call_ended(s);
    }
}

static void on_gone(void *data)
{
    struct server *s = data;
    log_write(s->log, LOG_LEVEL_INFO, "the client reads no more; stopping");
    server_stop(s);
}

static void on_cut(void *data, const char *why)
{
    struct server *s = data;
    log_write(s->log, LOG_LEVEL_INFO, "stopping: %s", why);
    server_stop(s);
}

static void send_request(void *data, json_t *message_owned)
{
    server_send(data, message_owned);
}

/* ---- life ---- */

static int open_parts(struct server *s, const struct server_options *options, struct error *err)
{
    static const struct stdio_events events = {on_line, on_too_long, on_end, on_gone};
    s->subscriptions = json_array();
    s->requests = client_requests_new(s->loop, send_request, s);
    s->roots = s->requests ? roots_new(s->loop, s->requests) : NULL;
    s->consent = consent_new(s);
    s->lifeline = lifeline_new(s->loop, on_cut, s);
    s->sessions = sessions_new(s->loop, s->config, s->log);
    s->runs = run_records_new(s->loop);
    s->snapshots = snapshots_new();
    if (!s->snapshots || !s->runs || !s->subscriptions || !s->roots || !s->consent ||
        !s->lifeline || !s->sessions) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    resources_watch(s);
    s->stdio = stdio_open(s->loop, options->in_fd, options->out_fd, &events, s, err);
    return s->stdio ? 0 : -1;
}

static void nobody_waits(void *data)
{
    (void)data;
}

/* Takes down what open_parts made before it failed; the handles' memory goes when the loop runs. */
static void close_parts(struct server *s)
{
    if (s->roots) {
        roots_close(s->roots, NULL, NULL);
    }
    if (s->consent) {
        consent_close(s->consent, NULL, NULL);
    }
    if (s->requests) {
        client_requests_close(s->requests, NULL, NULL);
    }
    if (s->lifeline) {
        lifeline_close(s->lifeline, NULL, NULL);
    }
    if (s->sessions) {
        sessions_close(s->sessions, nobody_waits, NULL);
    }
    run_records_free(s->runs);
    snapshots_free(s->snapshots);
    json_decref(s->subscriptions);
    free(s);
}

struct server *server_new(uv_loop_t *loop, const struct server_options *options,
                          void (*stopped)(void *data), void *data, struct error *err)
{
    struct server *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    s->loop = loop;
    s->config = options->config;
    s->tools = options->tools;
    s->log = options->log;
    s->stopped = stopped;
    s->data = data;
    s->linger = true;
    buffer_init(&s->scratch, STDIO_QUEUE_CAP);
    if (open_parts(s, options, err) < 0) {
        close_parts(s);
        return NULL;
    }
    uv_timer_init(loop, &s->timer);
    uv_timer_init(loop, &s->late_cancel);
    s->timer.data = s->late_cancel.data = s;
    return s;
}

void server_free(struct server *server)
{
    while (server->calls) {
        call_free(server->calls);
    }
    run_records_free(server->runs);
    snapshots_free(server->snapshots);
    json_decref(server->subscriptions);
    buffer_deinit(&server->scratch);
    free(server);
}

const struct config *server_config(const struct server *server)
{
    return server->config;
}

struct sessions *server_sessions(struct server *server)
{
    return server->sessions;
}

struct snapshots *server_snapshots(struct server *server)
{
    return server->snapshots;
}

struct run_records *server_runs(struct server *server)
{
    return server->runs;
}

uv_loop_t *server_loop(struct server *server)
{
    return server->loop;
}

struct log *server_log(struct server *server)
{
    return server->log;
}
