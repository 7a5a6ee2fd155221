#include "mcp/resources.h"

#include <string.h>

#include "mcp/artifacts.h"
#include "mcp/base64.h"
#include "mcp/server_internal.h"

static int out_of_memory(struct fault *fault)
{
    return fault_set(fault, JSONRPC_INTERNAL_ERROR, "Out of memory.");
}

/* Modern results say how long they hold: what is listed, and what is in it, changes at any time. */
static void add_cache_hints(enum protocol version, json_t *result)
{
    if (protocol_era(version) == ERA_MODERN) {
        json_object_set_new(result, "ttlMs", json_integer(0));
        json_object_set_new(result, "cacheScope", json_string("private"));
    }
}

/* NULL with 0: none was given. */
static int read_cursor(const json_t *params, const char **ret, struct fault *fault)
{
    const json_t *cursor = json_object_get(params, "cursor");

    *ret = NULL;
    if (!cursor || json_is_null(cursor)) {
        return 0;
    }
    *ret = json_text_member(params, "cursor");
    return *ret ? 0
                : fault_set(fault, JSONRPC_INVALID_PARAMS,
                            "Invalid params: \"cursor\" must be the string that the page before "
                            "gave as nextCursor.");
}

/* --- resources/list, resources/templates/list --- */

/* `size` came with 2025-03-26. */
static void fit(enum protocol version, json_t *list)
{
    json_t *entry;
    size_t i;

    json_array_foreach(json_object_get(list, "resources"), i, entry)
    {
        if (version < PROTOCOL_2025_03_26) {
            json_object_del(entry, "size");
        }
    }
}

int resources_list(struct server *s, enum protocol version, const json_t *params, json_t **ret,
                   struct fault *fault)
{
    const char *cursor;
    json_t *list;
    bool memory;

    if (read_cursor(params, &cursor, fault) < 0) {
        return -1;
    }
    if (artifacts_list(sessions_artifacts(s->sessions), cursor, &list, &memory) < 0) {
        return memory ? out_of_memory(fault)
                      : fault_set(fault, JSONRPC_INVALID_PARAMS,
                                  "Invalid params: no such cursor; pass the nextCursor of the page "
                                  "before, or none to begin at the beginning.");
    }
    fit(version, list);
    add_cache_hints(version, list);
    *ret = list;
    return 0;
}

int resources_templates(enum protocol version, const json_t *params, json_t **ret,
                        struct fault *fault)
{
    const char *cursor;
    json_t *list;

    if (read_cursor(params, &cursor, fault) < 0) {
        return -1;
    }
    if (cursor) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: no such cursor; there are no templates.");
    }
    list = json_pack("{s[]}", "resourceTemplates");
    if (!list) {
        return out_of_memory(fault);
    }
    add_cache_hints(version, list);
    *ret = list;
    return 0;
}

/* --- resources/read --- */

static json_t *contents(const char *uri, const struct artifact_bytes *given)
{
    json_t *entry = json_pack("{ss ss}", "uri", uri, "mimeType", given->mime);
    char *base64;
    int r = -1;

    if (entry && given->is_text) {
        r = json_object_set_new(entry, "text", json_stringn_nocheck(given->bytes, given->size));
    } else if (entry && (base64 = base64_encode(given->bytes, given->size))) {
        r = json_object_set_new(entry, "blob", json_string_nocheck(base64));
        free(base64);
    }
    if (r < 0) {
        json_decref(entry);
        return NULL;
    }
    return json_pack("{s[o]}", "contents", entry);
}

static enum jsonrpc_code code_of(const struct call *call, enum error_kind kind)
{
    switch (kind) {
    case ERROR_NOT_FOUND:
        return call_era(call) == ERA_LEGACY ? JSONRPC_RESOURCE_NOT_FOUND : JSONRPC_INVALID_PARAMS;
    case ERROR_LIMIT:
    case ERROR_INVALID:
    case ERROR_REFUSED:
        return JSONRPC_INVALID_PARAMS;
    default:
        return JSONRPC_INTERNAL_ERROR;
    }
}

static void on_read(void *data, const struct artifact_bytes *bytes, const struct error *err)
{
    struct call *call = data;
    const char *uri = json_string_value(json_object_get(call_arguments(call), "uri"));
    struct fault fault = {0};
    json_t *result;

    if (bytes) {
        result = contents(uri, bytes);
        if (result) {
            add_cache_hints(call->version, result);
        }
        call_finish(call, result);
        return;
    }
    fault_set(&fault, code_of(call, err->kind), "Resource %s: %.300s.",
              err->kind == ERROR_NOT_FOUND ? "not found" : "cannot be read", err->message);
    fault.data = json_pack("{ss}", "uri", uri);
    call_finish_fault(call, &fault);
}

int resources_read(struct server *s, enum protocol version, const struct message *m,
                   struct batch *batch, struct fault *fault)
{
    const char *uri = json_text_member(m->params, "uri");
    struct call *call;

    if (!uri) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: resources/read needs \"uri\", a string that "
                         "resources/list or a resource_link gave.");
    }
    call = call_open(s, version, m, batch, json_pack("{ss}", "uri", uri), fault);
    if (!call) {
        return -1;
    }
    artifacts_read(sessions_artifacts(s->sessions), uri, on_read, call);
    return 0;
}

/* --- resources/list_changed --- */

#define LIST_CHANGED "notifications/resources/list_changed"

static void on_change(void *data)
{
    struct server *s = data;
    size_t i;
    json_t *one;

    if (s->state >= SERVER_CLOSING || !s->stdio || stdio_congested(s->stdio)) {
        return;
    }
    if (s->version != PROTOCOL_NONE) {
        server_send(s, jsonrpc_notification(LIST_CHANGED, NULL));
    }
    json_array_foreach(s->subscriptions, i, one)
    {
        if (json_is_true(json_object_get(one, "resources"))) {
            server_send(s, jsonrpc_notification(LIST_CHANGED,
                                                json_pack("{s{sO}}", "_meta",
                                                          "io.modelcontextprotocol/subscriptionId",
                                                          json_object_get(one, "id"))));
        }
    }
}

void resources_watch(struct server *s)
{
    artifacts_on_change(sessions_artifacts(s->sessions), on_change, s);
}

json_t *resources_subscribe(struct server *s, const json_t *wanted, json_t *id)
{
    bool resources = json_is_true(json_object_get(wanted, "resourcesListChanged"));

    if (json_array_append_new(s->subscriptions,
                              json_pack("{sO sb}", "id", id, "resources", resources)) < 0) {
        return NULL;
    }
    return resources ? json_pack("{sb}", "resourcesListChanged", 1) : json_object();
}
