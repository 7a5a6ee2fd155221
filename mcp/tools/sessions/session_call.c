#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/server.h"
#include "mcp/tools/result.h"
#include "mcp/tools/sessions/session_tools.h"

enum {
    PAGE_BYTES = 32 * 1000, /* of the rows in one result; at least one row is given */
};

struct session *session_argument(struct call *call, struct error *err)
{
    const char *name;

    if (argument_name(call, "session", &name, err) < 0) {
        return NULL;
    }
    return sessions_look_up(server_sessions(call_server(call)), name, err);
}

size_t session_argument_number(const struct call *call, const char *key, size_t otherwise)
{
    const json_t *value = json_object_get(call_arguments(call), key);

    return json_is_number(value) ? (size_t)json_number_value(value) : otherwise;
}

static void fail(struct call *call)
{
    struct error err = {0};

    error_set_code(&err, ERROR_INTERNAL, ENOMEM, "the result");
    call_fail(call, &err);
    error_clear(&err);
}

static void finish(struct call *call, const char *session, json_t *text_owned)
{
    json_t *block = json_pack("{ss so s{ss}}", "type", "text", "text", text_owned, "_meta",
                              "cellblock/part", "note");
    json_t *result = json_pack("{s[o] sb s{ss*}}", "content", block, "isError", 0, "_meta",
                               "cellblock/session", session);

    if (result) {
        call_finish(call, result);
    } else {
        fail(call);
    }
}

void session_tool_say(struct call *call, const char *session, const char *text)
{
    finish(call, session, json_string(text));
}

void session_tool_show(struct call *call, const char *session, json_t *value_owned)
{
    char *text = value_owned ? json_dumps(value_owned, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    json_decref(value_owned);
    if (text) {
        finish(call, session, json_string(text));
    } else {
        fail(call);
    }
    free(text);
}

/* How many rows from `offset` on fit; each is measured as it will be written. */
static size_t count_rows(const json_t *list, size_t offset, size_t limit)
{
    size_t total = json_array_size(list), bytes = 0, count = 0;

    while (count < limit && offset + count < total) {
        bytes += json_dumpb(json_array_get(list, offset + count), NULL, 0, JSON_COMPACT);
        if (count > 0 && bytes > PAGE_BYTES) {
            break;
        }
        count++;
    }
    return count;
}

json_t *session_tool_page(const char *key, json_t *list_owned, size_t offset, size_t limit)
{
    size_t count = count_rows(list_owned, offset, limit), total = json_array_size(list_owned);
    size_t next = offset + count;
    json_t *rows = list_owned ? json_array() : NULL, *page;

    for (size_t i = 0; rows && i < count; i++) {
        json_array_append(rows, json_array_get(list_owned, offset + i));
    }
    json_decref(list_owned);
    page = json_pack("{so sI}", key, rows, "total", (json_int_t)total);
    if (page && next < total) {
        json_object_set_new(page, "next_offset", json_integer((json_int_t)next));
    }
    return page;
}
