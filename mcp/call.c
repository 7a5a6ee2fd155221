#include "mcp/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/schema.h"
#include "mcp/server_internal.h"

/* ---- beginning ---- */

static const struct tool *find_tool(const struct server *s, const char *name)
{
    for (const struct tool *const *t = s->tools; *t; t++) {
        if (strcmp((*t)->name, name) == 0) {
            return *t;
        }
    }
    return NULL;
}

static int unknown_tool(const struct server *s, const char *name, struct fault *fault)
{
    enum { NAMES_CAP = 64 };
    const char *names[NAMES_CAP + 1] = {0};
    char list[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < NAMES_CAP && s->tools[i]; i++) {
        names[i] = s->tools[i]->name;
        if (used < sizeof list) {
            used +=
                (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
        }
    }
    const char *near = nearest_word(name, names);
    return fault_set(fault, JSONRPC_INVALID_PARAMS,
                     "Unknown tool: \"%.64s\"%s%s%s. The tools are: %s.", name,
                     near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "", list);
}

/* The arguments without the members that are null; a new reference. */
static json_t *without_nulls(json_t *arguments)
{
    const char *key;
    json_t *value;
    bool any = false;
    json_object_foreach(arguments, key, value)
    {
        any |= json_is_null(value);
    }
    if (!any) {
        return json_incref(arguments);
    }
    json_t *rest = json_object();
    json_object_foreach(arguments, key, value)
    {
        if (!json_is_null(value)) {
            json_object_set(rest, key, value);
        }
    }
    return rest;
}

static int read_token(const json_t *params, json_t **ret, struct fault *fault)
{
    json_t *token = json_object_get(json_object_get(params, "_meta"), "progressToken");
    if (token && !jsonrpc_is_id(token)) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: _meta.progressToken must be a string or a whole number.");
    }
    *ret = token;
    return 0;
}

/* A level that there is not is one that nobody asked for. */
static bool read_level(const json_t *params, enum log_level *ret)
{
    const char *level =
        json_text_member(json_object_get(params, "_meta"), "io.modelcontextprotocol/logLevel");
    return level && log_level_parse(level, ret) == 0;
}

static int read_arguments(const json_t *params, json_t **ret, struct fault *fault)
{
    json_t *arguments = json_object_get(params, "arguments");
    if (arguments && !json_is_object(arguments) && !json_is_null(arguments)) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: \"arguments\" of tools/call must be an object.");
    }
    *ret = json_is_object(arguments) ? without_nulls(arguments) : json_object();
    return *ret ? 0 : fault_set(fault, JSONRPC_INTERNAL_ERROR, "Out of memory.");
}

static void send_progress(void *data, unsigned number, json_t *text_owned)
{
    struct call *call = data;
    if (stdio_congested(call->server->stdio)) {
        json_decref(text_owned);
        return;
    }
    server_send(call->server, protocol_progress(call->version, call->progress_token, number,
                                                server_masked(call->server, text_owned)));
}

static struct call *call_new(struct server *s, enum protocol version, const struct message *m,
                             struct batch *batch)
{
    struct call *call = calloc(1, sizeof *call);
    if (!call) {
        return NULL;
    }
    call->server = s;
    call->version = version;
    call->batch = batch;
    call->id = json_incref(m->id);
    call->next = s->calls;
    if (s->calls) {
        s->calls->previous = call;
    }
    s->calls = call;
    s->call_count++;
    return call;
}

/* A modern client says with each request what it can do. One whose messages are a file reads no
 * questions. */
static bool can_ask(const struct call *call, const json_t *params)
{
    const json_t *meta = json_object_get(params, "_meta");
    return !stdio_reads_file(call->server->stdio) &&
           (call_era(call) == ERA_LEGACY
                ? call->server->can_ask
                : consent_offered(
                      json_object_get(meta, "io.modelcontextprotocol/clientCapabilities")));
}

static void begin_checked(struct call *call, const json_t *params)
{
    struct server *s = call->server;
    struct error err = {0};
    const json_t *schema = schema_get(call->tool->schema);
    const json_t *state = json_object_get(params, "requestState");
    if (s->call_count > CALLS_CAP) {
        error_set(&err, ERROR_LIMIT,
                  "%d calls are in flight, the most there may be; wait for some to end", CALLS_CAP);
    } else if (!schema) {
        error_set(&err, ERROR_INTERNAL, "the schema of %s is missing", call->tool->name);
    } else if (schema_check(schema, call->arguments, true, &err) < 0) {
        error_wrap(&err, "invalid arguments for %s", call->tool->name);
    } else if (state && call_era(call) == ERA_MODERN) {
        consent_resume(call, state, json_object_get(params, "inputResponses"));
        return;
    } else {
        call->tool->start(call);
        return;
    }
    call_fail(call, &err);
    error_clear(&err);
}

int call_begin(struct server *s, enum protocol version, const struct message *m,
               struct batch *batch, struct fault *fault)
{
    const char *name = json_string_value(json_object_get(m->params, "name"));
    const struct tool *tool = json_text_member(m->params, "name") ? find_tool(s, name) : NULL;
    json_t *token = NULL;
    json_t *arguments = NULL;
    if (!name) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: tools/call needs \"name\", a string.");
    }
    if (!tool) {
        return unknown_tool(s, name, fault);
    }
    if (read_token(m->params, &token, fault) < 0 ||
        read_arguments(m->params, &arguments, fault) < 0) {
        return -1;
    }
    struct call *call = call_new(s, version, m, batch);
    if (!call) {
        json_decref(arguments);
        return fault_set(fault, JSONRPC_INTERNAL_ERROR, "Out of memory.");
    }
    call->tool = tool;
    call->arguments = arguments;
    call->can_ask = can_ask(call, m->params);
    call->wants_log = read_level(m->params, &call->log_level);
    call->progress_token = json_incref(token);
    if (token) {
        call->progress = progress_new(s->loop, send_progress, call);
    }
    begin_checked(call, m->params);
    return 0;
}

struct call *call_open(struct server *s, enum protocol version, const struct message *m,
                       struct batch *batch, json_t *arguments_owned, struct fault *fault)
{
    struct call *call = NULL;
    if (s->call_count >= CALLS_CAP) {
        fault_set(fault, JSONRPC_INTERNAL_ERROR,
                  "%d requests are in flight, the most there may be; wait for some to end.",
                  CALLS_CAP);
    } else if (!arguments_owned || !(call = call_new(s, version, m, batch))) {
        fault_set(fault, JSONRPC_INTERNAL_ERROR, "Out of memory.");
    }
    if (!call) {
        json_decref(arguments_owned);
        return NULL;
    }
    call->arguments = arguments_owned;
    return call;
}

struct call *call_find(const struct server *s, const json_t *id)
{
    for (struct call *call = s->calls; call; call = call->next) {
        if (json_equal(call->id, id)) {
            return call;
        }
    }
    return NULL;
}

/* ---- what a tool sees ---- */

struct server *call_server(struct call *call)
{
    return call->server;
}

enum era call_era(const struct call *call)
{
    return protocol_era(call->version);
}

const json_t *call_arguments(const struct call *call)
{
    return call->arguments;
}

bool call_wants_progress(const struct call *call)
{
    return call->progress && !call->cancelled;
}

void call_progress(struct call *call, const char *message)
{
    if (call_wants_progress(call) && !stdio_congested(call->server->stdio)) {
        progress_update(call->progress, message);
    }
}

void call_log(struct call *call, enum log_level level, const char *logger, json_t *data_owned)
{
    if (call_era(call) == ERA_LEGACY) {
        server_log_message(call->server, level, logger, data_owned);
    } else if (call->wants_log && level >= call->log_level && !call->cancelled) {
        server_send_log(call->server, level, logger, data_owned);
    } else {
        json_decref(data_owned);
    }
}

void call_on_cancel(struct call *call, void (*cancelled)(void *data), void *data)
{
    call->on_cancel = cancelled;
    call->on_cancel_data = data;
    if (cancelled && call->cancelled && !call->cancel_told) {
        uv_timer_start(&call->server->late_cancel, call_tell_late, 0, 0);
    }
}

void call_roots(struct call *call,
                void (*done)(void *data, const json_t *paths, const struct error *err), void *data)
{
    roots_ask(call->server->roots, call_era(call) == ERA_LEGACY, done, data);
}

/* ---- ending ---- */

static void tell_cancel(struct call *call)
{
    void (*cancelled)(void *) = call->on_cancel;
    call->on_cancel = NULL;
    if (cancelled && !call->cancel_told) {
        call->cancel_told = true;
        cancelled(call->on_cancel_data); /* may free the call */
    }
}

void call_cancel(struct call *call)
{
    call->cancelled = true;
    progress_close(call->progress);
    call->progress = NULL;
    tell_cancel(call);
}

void call_tell_late(uv_timer_t *timer)
{
    const struct server *s = timer->data;
    for (struct call *call = s->calls; call;) {
        if (call->cancelled && call->on_cancel) {
            tell_cancel(call);
            call = s->calls;
        } else {
            call = call->next;
        }
    }
}

void call_free(struct call *call)
{
    struct server *s = call->server;
    if (call->next) {
        call->next->previous = call->previous;
    }
    if (call->previous) {
        call->previous->next = call->next;
    } else {
        s->calls = call->next;
    }
    s->call_count--;
    progress_close(call->progress);
    json_decref(call->id);
    json_decref(call->arguments);
    json_decref(call->progress_token);
    free(call);
}

void call_finish(struct call *call, json_t *result_owned)
{
    struct server *s = call->server;
    struct batch *batch = call->batch;
    json_t *message = NULL;
    if (call->cancelled) {
        json_decref(result_owned);
    } else if (result_owned) {
        result_owned = server_masked(s, result_owned);
        protocol_finish(call->version, result_owned);
        message = jsonrpc_result(call->id, result_owned);
    } else {
        struct fault fault;
        fault_set(&fault, JSONRPC_INTERNAL_ERROR, "Out of memory while the result was built.");
        message = jsonrpc_fault(call->id, &fault);
    }
    call_free(call);
    server_reply(s, batch, message);
    server_call_ended(s);
}

void call_finish_fault(struct call *call, struct fault *fault)
{
    struct server *s = call->server;
    struct batch *batch = call->batch;
    json_t *message = call->cancelled ? NULL : jsonrpc_fault(call->id, fault);
    json_decref(fault->data);
    call_free(call);
    server_reply(s, batch, message);
    server_call_ended(s);
}

void call_fail(struct call *call, const struct error *err)
{
    const char *text = err && err->message ? err->message : "failed without a reason given";
    call_finish(call, json_pack("{s:[{s:s, s:o}], s:b}", "content", "type", "text", "text",
                                json_text(text, strlen(text)), "isError", 1));
}
