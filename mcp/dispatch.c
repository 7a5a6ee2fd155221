#include <stdlib.h>
#include <string.h>

#include "mcp/resources.h"
#include "mcp/server_internal.h"

/* A request on its way to its method. */
struct request {
    const struct message *message;
    enum protocol version;
    struct batch *batch;
};

/* 0 with *ret (NULL: the method answers later by itself), or -1 with the fault. */
typedef int method_handler(struct server *s, const struct request *r, json_t **ret,
                           struct fault *fault);

enum eras {
    LEGACY = 1,
    MODERN = 2,
    UNINITIALIZED = 4, /* also before initialize */
};

static int built(json_t *result, json_t **ret, struct fault *fault)
{
    *ret = result;
    return result ? 0 : fault_set(fault, JSONRPC_INTERNAL_ERROR, "Out of memory.");
}

/* ---- methods ---- */

static int do_initialize(struct server *s, const struct request *r, json_t **ret,
                         struct fault *fault)
{
    const json_t *params = r->message->params;
    const char *version = json_text_member(params, "protocolVersion");
    const json_t *capabilities = json_object_get(params, "capabilities");
    if (r->batch) {
        return fault_set(fault, JSONRPC_INVALID_REQUEST,
                         "Invalid request: initialize must not be part of a batch.");
    }
    if (!version) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: initialize needs \"protocolVersion\", a string such as "
                         "\"%s\".",
                         protocol_name(PROTOCOL_LATEST_LEGACY));
    }
    s->version = protocol_negotiate(version);
    s->log_level = LOG_LEVEL_INFO;
    roots_enable(s->roots, json_is_object(json_object_get(capabilities, "roots")));
    s->can_ask = s->version >= PROTOCOL_2025_06_18 && consent_offered(capabilities);
    return built(protocol_initialize(s->version), ret, fault);
}

static int do_discover(struct server *s, const struct request *r, json_t **ret, struct fault *fault)
{
    (void)s;
    (void)r;
    return built(protocol_discover(), ret, fault);
}

static int do_ping(struct server *s, const struct request *r, json_t **ret, struct fault *fault)
{
    (void)s;
    (void)r;
    return built(json_object(), ret, fault);
}

static int do_set_level(struct server *s, const struct request *r, json_t **ret,
                        struct fault *fault)
{
    const char *level = json_text_member(r->message->params, "level");
    if (!level || log_level_parse(level, &s->log_level) < 0) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: \"level\" must be one of debug, info, notice, warning, "
                         "error, critical, alert, emergency; given \"%.40s\".",
                         level ? level : "");
    }
    return built(json_object(), ret, fault);
}

static int do_tools_list(struct server *s, const struct request *r, json_t **ret,
                         struct fault *fault)
{
    const json_t *cursor = json_object_get(r->message->params, "cursor");
    if (cursor && !json_is_null(cursor)) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: no such cursor; all tools come on the first page, ask "
                         "without one.");
    }
    return built(protocol_tools(r->version, s->tools, s->config->structured), ret, fault);
}

static int do_tools_call(struct server *s, const struct request *r, json_t **ret,
                         struct fault *fault)
{
    *ret = NULL;
    return call_begin(s, r->version, r->message, r->batch, fault);
}

static int do_resources_list(struct server *s, const struct request *r, json_t **ret,
                             struct fault *fault)
{
    return resources_list(s, r->version, r->message->params, ret, fault);
}

static int do_resources_templates(struct server *s, const struct request *r, json_t **ret,
                                  struct fault *fault)
{
    (void)s;
    return resources_templates(r->version, r->message->params, ret, fault);
}

static int do_resources_read(struct server *s, const struct request *r, json_t **ret,
                             struct fault *fault)
{
    *ret = NULL;
    return resources_read(s, r->version, r->message, r->batch, fault);
}

/* Only the list of resources ever changes, so no other kind of notification is agreed to; the
 * stream stays open as the client wants it. */
static int do_listen(struct server *s, const struct request *r, json_t **ret, struct fault *fault)
{
    json_t *id = r->message->id;
    if (!json_is_object(json_object_get(r->message->params, "notifications"))) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: subscriptions/listen needs \"notifications\", an object "
                         "such as {\"toolsListChanged\": true}.");
    }
    if (json_array_size(s->subscriptions) >= SUBSCRIPTIONS_CAP) {
        return fault_set(
            fault, JSONRPC_INVALID_REQUEST,
            "Invalid request: %d subscriptions are open, the most there may be; cancel "
            "one first.",
            SUBSCRIPTIONS_CAP);
    }
    json_t *agreed =
        resources_subscribe(s, json_object_get(r->message->params, "notifications"), id);
    server_send(s, jsonrpc_notification("notifications/subscriptions/acknowledged",
                                        json_pack("{s:{s:O}, s:o}", "_meta",
                                                  "io.modelcontextprotocol/subscriptionId", id,
                                                  "notifications", agreed)));
    *ret = NULL;
    return 0;
}

static const struct method {
    const char *name;
    unsigned eras;
    method_handler *handle;
} methods[] = {
    {"initialize", LEGACY | UNINITIALIZED, do_initialize},
    {"logging/setLevel", LEGACY, do_set_level},
    {"ping", LEGACY | UNINITIALIZED, do_ping},
    {"resources/list", LEGACY | MODERN, do_resources_list},
    {"resources/read", LEGACY | MODERN, do_resources_read},
    {"resources/templates/list", LEGACY | MODERN, do_resources_templates},
    {"server/discover", MODERN, do_discover},
    {"subscriptions/listen", MODERN, do_listen},
    {"tools/call", LEGACY | MODERN, do_tools_call},
    {"tools/list", LEGACY | MODERN, do_tools_list},
};

/* ---- requests ---- */

static const struct method *find_method(const char *name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strcmp(methods[i].name, name) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

static bool is_listening(const struct server *s, const json_t *id, size_t *ret_index)
{
    size_t i;
    json_t *one;
    json_array_foreach(s->subscriptions, i, one)
    {
        if (json_equal(json_object_get(one, "id"), id)) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

static int check_method(const struct server *s, const struct method *method,
                        const struct request *r, struct fault *fault)
{
    size_t index;
    const char *name = r->message->method;
    bool modern = protocol_era(r->version) == ERA_MODERN;
    if (r->version == PROTOCOL_NONE && !(method && method->eras & UNINITIALIZED)) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: %.64s came before initialize and without "
                         "_meta[\"io.modelcontextprotocol/protocolVersion\"]; do one of the two.",
                         name);
    }
    if (!method || !(method->eras & (modern ? MODERN : LEGACY))) {
        return fault_set(fault, JSONRPC_METHOD_NOT_FOUND, "Method not found: %.64s%s.", name,
                         method ? " does not exist in this protocol version" : "");
    }
    if (call_find(s, r->message->id) || is_listening(s, r->message->id, &index)) {
        return fault_set(fault, JSONRPC_INVALID_REQUEST,
                         "Invalid request: another request with this id is still in flight.");
    }
    return 0;
}

static void reply_fault(struct server *s, struct batch *batch, json_t *id, struct fault *fault)
{
    server_reply(s, batch, jsonrpc_fault(id, fault));
    json_decref(fault->data);
}

static void handle_request(struct server *s, const struct message *m, struct batch *batch)
{
    struct request r = {.message = m, .batch = batch};
    struct fault fault = {0};
    const struct method *method = find_method(m->method);
    json_t *result = NULL;
    if (protocol_of_request(m->params, s->version, &r.version, &fault) < 0 ||
        check_method(s, method, &r, &fault) < 0 || method->handle(s, &r, &result, &fault) < 0) {
        reply_fault(s, batch, m->id, &fault);
    } else if (result) {
        protocol_finish(r.version, result);
        server_reply(s, batch, jsonrpc_result(m->id, result));
    }
}

/* ---- notifications ---- */

static void handle_cancelled(struct server *s, const struct message *m)
{
    const json_t *id = json_object_get(m->params, "requestId");
    struct call *call = call_find(s, id);
    size_t index;
    if (call) {
        call_cancel(call);
    } else if (is_listening(s, id, &index)) {
        json_array_remove(s->subscriptions, index);
    }
}

static void handle_notification(struct server *s, const struct message *m)
{
    if (strcmp(m->method, "notifications/cancelled") == 0) {
        handle_cancelled(s, m);
    } else if (strcmp(m->method, "notifications/roots/list_changed") == 0) {
        roots_changed(s->roots);
    }
    /* notifications/initialized needs nothing; unknown ones are ignored, as JSON-RPC has it. */
}

/* ---- messages ---- */

static void dispatch_value(struct server *s, json_t *value, struct batch *batch)
{
    struct message m;
    jsonrpc_classify(value, &m);
    if (batch && (m.kind == MESSAGE_REQUEST || m.kind == MESSAGE_INVALID)) {
        batch->pending++;
    }
    switch (m.kind) {
    case MESSAGE_INVALID:
        reply_fault(s, batch, m.id, &m.fault);
        break;
    case MESSAGE_REQUEST:
        handle_request(s, &m, batch);
        break;
    case MESSAGE_NOTIFICATION:
        handle_notification(s, &m);
        break;
    case MESSAGE_RESPONSE:
        client_requests_take(s->requests, m.id, m.result);
        break;
    }
}

static void dispatch_batch(struct server *s, json_t *values)
{
    struct fault fault;
    size_t count = json_array_size(values);
    struct batch *batch = NULL;
    if (s->version != PROTOCOL_2025_03_26) {
        fault_set(&fault, JSONRPC_INVALID_REQUEST,
                  "Invalid request: batches exist only in protocol version 2025-03-26; send the "
                  "messages one by one.");
    } else if (count == 0 || count > BATCH_CAP) {
        fault_set(&fault, JSONRPC_INVALID_REQUEST,
                  "Invalid request: a batch holds 1 to %d messages; this one has %zu.", BATCH_CAP,
                  count);
    } else {
        batch = calloc(1, sizeof *batch);
        fault_set(&fault, JSONRPC_INTERNAL_ERROR, "Out of memory.");
    }
    if (!batch) {
        reply_fault(s, NULL, NULL, &fault);
        return;
    }
    batch->pending = 1;
    batch->answers = json_array();
    for (size_t i = 0; i < count; i++) {
        dispatch_value(s, json_array_get(values, i), batch);
    }
    server_batch_done(s, batch);
}

static bool is_blank(const char *line, size_t size)
{
    while (size > 0 && (line[size - 1] == ' ' || line[size - 1] == '\t')) {
        size--;
    }
    return size == 0;
}

void dispatch_line(struct server *s, const char *line, size_t size)
{
    struct fault fault;
    json_t *id = NULL;
    if (is_blank(line, size)) {
        return;
    }
    json_t *value = jsonrpc_parse(line, size, &fault, &id);
    if (!value) {
        reply_fault(s, NULL, id, &fault);
        json_decref(id);
    } else if (json_is_array(value)) {
        dispatch_batch(s, value);
    } else {
        dispatch_value(s, value, NULL);
    }
    json_decref(value);
}
