#include "mcp/protocol.h"

#include <string.h>

#include "mcp/schema.h"

enum { CACHE_MS = 60 * 60 * 1000 }; /* our lists never change while the process lives */

#define META_PREFIX "io.modelcontextprotocol/"

static const char instructions[] =
    "Runs Python and shell code in an isolated sandbox on this machine: no network unless the "
    "owner "
    "opened it, no files of the host unless they were shared. Use it to compute, analyse data, "
    "plot, "
    "and try code before you present it.\n"
    "- run_code: variables, imports and files live on from run to run in a session. The value of "
    "the "
    "last expression is returned without print, figures are returned as images without show or "
    "save.\n"
    "- add_share: brings a file or folder of the host in, before the code that needs it.\n"
    "- reset_session: starts afresh when the state is not wanted any more.\n"
    "A result that is an error says how the run ended and what was kept. Work that takes longer "
    "than "
    "the default limit needs timeout_seconds. When a result names a session id, pass it as "
    "`session` "
    "to go on in the same state.";

static const char *const names[] = {
    [PROTOCOL_2024_11_05] = "2024-11-05", [PROTOCOL_2025_03_26] = "2025-03-26",
    [PROTOCOL_2025_06_18] = "2025-06-18", [PROTOCOL_2025_11_25] = "2025-11-25",
    [PROTOCOL_2026_07_28] = "2026-07-28",
};

const char *protocol_name(enum protocol v)
{
    return names[v];
}

enum protocol protocol_negotiate(const char *requested)
{
    for (int v = PROTOCOL_2024_11_05; v <= PROTOCOL_LATEST_LEGACY; v++) {
        if (strcmp(names[v], requested) == 0) {
            return (enum protocol)v;
        }
    }
    return PROTOCOL_LATEST_LEGACY;
}

/* ---- which revision a request speaks ---- */

static int unsupported(const json_t *requested, struct fault *fault)
{
    fault_set(
        fault, JSONRPC_UNSUPPORTED_VERSION,
        "Unsupported protocol version %.40s: a request with _meta may say %s; older revisions "
        "start with initialize.",
        json_string_value(requested), names[PROTOCOL_2026_07_28]);
    fault->data =
        json_pack("{s:[s], s:O}", "supported", names[PROTOCOL_2026_07_28], "requested", requested);
    return -1;
}

int protocol_of_request(const json_t *params, enum protocol connection, enum protocol *ret,
                        struct fault *fault)
{
    const json_t *meta = json_object_get(params, "_meta");
    const json_t *version = json_object_get(meta, META_PREFIX "protocolVersion");
    if (!version) {
        *ret = connection;
        return 0;
    }
    if (!json_is_string(version)) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: _meta[\"" META_PREFIX
                         "protocolVersion\"] must be a string such as \"%s\".",
                         names[PROTOCOL_2026_07_28]);
    }
    if (strcmp(json_string_value(version), names[PROTOCOL_2026_07_28]) != 0) {
        return unsupported(version, fault);
    }
    if (!json_is_object(json_object_get(meta, META_PREFIX "clientCapabilities"))) {
        return fault_set(fault, JSONRPC_INVALID_PARAMS,
                         "Invalid params: _meta[\"" META_PREFIX
                         "clientCapabilities\"] must be there and an object; {} is enough.");
    }
    *ret = PROTOCOL_2026_07_28;
    return 0;
}

/* ---- results ---- */

static json_t *server_info(enum protocol v)
{
    json_t *info = json_pack("{s:s, s:s}", "name", "cellblock", "version", CELLBLOCK_VERSION);
    if (v >= PROTOCOL_2025_06_18) {
        json_object_set_new(info, "title", json_string("Cellblock"));
    }
    if (v >= PROTOCOL_2025_11_25) {
        json_object_set_new(info, "description",
                            json_string("Runs code in isolated local sandboxes"));
    }
    return info;
}

json_t *protocol_initialize(enum protocol v)
{
    return json_pack("{s:s, s:{s:{}, s:{}, s:{s:b}}, s:o, s:s}", "protocolVersion", names[v],
                     "capabilities", "tools", "logging", "resources", "listChanged", 1,
                     "serverInfo", server_info(v), "instructions", instructions);
}

static void add_cache_hints(json_t *result)
{
    json_object_set_new(result, "ttlMs", json_integer(CACHE_MS));
    json_object_set_new(result, "cacheScope", json_string("public"));
}

json_t *protocol_discover(void)
{
    json_t *result = json_pack("{s:[s], s:{s:{}, s:{s:b}}, s:s}", "supportedVersions",
                               names[PROTOCOL_2026_07_28], "capabilities", "tools", "resources",
                               "listChanged", 1, "instructions", instructions);
    add_cache_hints(result);
    return result;
}

static json_t *listed(const json_t *schema);

static json_t *listed_properties(const json_t *properties)
{
    json_t *list = json_object(), *rule;
    const char *name;

    json_object_foreach((json_t *)properties, name, rule)
    {
        json_object_set_new(list, name, listed(rule));
    }
    return list;
}

enum { LARGE = 1000 }; /* nobody asks for so much of anything without being told */

static bool is_guard(const char *keyword, const json_t *value)
{
    static const char *const guards[] = {"minLength", "maxLength",        "minItems",
                                         "maxItems",  "exclusiveMinimum", "pattern"};

    for (size_t i = 0; i < sizeof(guards) / sizeof(*guards); i++) {
        if (strcmp(keyword, guards[i]) == 0) {
            return true;
        }
    }
    if (strcmp(keyword, "maximum") == 0) {
        return json_number_value(value) >= LARGE;
    }
    /* That a count is not negative, or not none, goes without saying. */
    return strcmp(keyword, "minimum") == 0 && json_is_integer(value) &&
           json_integer_value(value) <= 1;
}

/* Variables and tags: that they are texts goes without saying, too. */
static bool is_texts(const char *key, const json_t *value)
{
    const char *type = json_string_value(json_object_get(value, "type"));

    return strcmp(key, "additionalProperties") == 0 && type && strcmp(type, "string") == 0;
}

/* A schema as it is listed: without the sizes that only guard the server. They are checked all the
 * same, but each would cost a model's attention with every request. */
static json_t *listed(const json_t *schema)
{
    json_t *list = json_object(), *value;
    const char *key;

    json_object_foreach((json_t *)schema, key, value)
    {
        if (strcmp(key, "properties") == 0) {
            json_object_set_new(list, key, listed_properties(value));
        } else if (is_texts(key, value)) {
            continue;
        } else if (json_is_object(value)) {
            json_object_set_new(list, key, listed(value));
        } else if (!is_guard(key, value)) {
            json_object_set(list, key, value);
        }
    }
    return list;
}

static json_t *tool_entry(enum protocol v, const struct tool *tool, bool structured)
{
    json_t *entry = json_pack("{s:s}", "name", tool->name);
    if (v >= PROTOCOL_2025_06_18) {
        json_object_set_new(entry, "title", json_string(tool->title));
    }
    json_object_set_new(entry, "description", json_string(tool->description));
    json_object_set_new(entry, "inputSchema", listed(schema_get(tool->schema)));
    if (v >= PROTOCOL_2025_06_18 && structured && tool->output_schema) {
        json_object_set(entry, "outputSchema", (json_t *)schema_get(tool->output_schema));
    }
    if (v >= PROTOCOL_2025_03_26) {
        /* A title of its own is newer than the annotations. */
        json_object_set_new(entry, "annotations",
                            json_pack("{s:s*, s:b, s:b, s:b, s:b}", "title",
                                      v < PROTOCOL_2025_06_18 ? tool->title : NULL, "readOnlyHint",
                                      tool->read_only, "destructiveHint", tool->destructive,
                                      "idempotentHint", tool->idempotent, "openWorldHint",
                                      tool->open_world));
    }
    return entry;
}

json_t *protocol_tools(enum protocol v, const struct tool *const *tools, bool structured)
{
    json_t *list = json_array();
    for (; *tools; tools++) {
        json_array_append_new(list, tool_entry(v, *tools, structured));
    }
    json_t *result = json_pack("{s:o}", "tools", list);
    if (protocol_era(v) == ERA_MODERN) {
        add_cache_hints(result);
    }
    return result;
}

/* A link that an old client does not know, as the text that it stands for. */
static void link_to_text(json_t *block)
{
    const char *name = json_text_member(block, "name");
    const char *uri = json_text_member(block, "uri");
    json_t *text = json_sprintf("%s: %s", name ? name : "file", uri ? uri : "");
    json_object_clear(block);
    json_object_set_new(block, "type", json_string("text"));
    json_object_set_new(block, "text", text);
}

static void strip_newer_fields(json_t *result)
{
    size_t i;
    json_t *block;
    json_object_del(result, "structuredContent");
    json_array_foreach(json_object_get(result, "content"), i, block)
    {
        const char *type = json_text_member(block, "type");
        json_object_del(block, "_meta");
        if (type && strcmp(type, "resource_link") == 0) {
            link_to_text(block);
        }
    }
}

static void add_server_info(enum protocol v, json_t *result)
{
    json_t *meta = json_object_get(result, "_meta");
    if (!meta) {
        json_object_set_new(result, "_meta", json_object());
        meta = json_object_get(result, "_meta");
    }
    json_object_set_new(meta, META_PREFIX "serverInfo", server_info(v));
}

void protocol_finish(enum protocol v, json_t *result)
{
    if (v < PROTOCOL_2025_06_18) {
        strip_newer_fields(result);
    }
    if (protocol_era(v) == ERA_MODERN) {
        if (!json_object_get(result, "resultType")) {
            json_object_set_new(result, "resultType", json_string("complete"));
        }
        add_server_info(v, result);
    }
}

json_t *protocol_progress(enum protocol v, json_t *token, unsigned number, json_t *message_owned)
{
    json_t *params = json_pack("{s:O, s:i}", "progressToken", token, "progress", (int)number);
    if (v >= PROTOCOL_2025_03_26) {
        json_object_set_new(params, "message", message_owned);
    } else {
        json_decref(message_owned);
    }
    return jsonrpc_notification("notifications/progress", params);
}
