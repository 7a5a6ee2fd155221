#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/jsonrpc.h"
#include "mcp/protocol.h"
#include "mcp/roots.h"
#include "mcp/schema.h"

/*
 * The bytes of a client's line, through all that reads them before a tool does: the parser, the
 * search for the id of a broken request, classifying, the era, the argument check, and the answer
 * that is written.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_fault(json_t *id, struct fault *fault)
{
    struct buffer out;
    buffer_init(&out, 2 * (size_t)MESSAGE_CAP);
    json_t *answer = jsonrpc_fault(id, fault);
    assert(answer && jsonrpc_encode(answer, &out) == 0);
    assert(memchr(buffer_data(&out), '\n', buffer_size(&out)) ==
           buffer_data(&out) + buffer_size(&out) - 1);
    json_decref(answer);
    json_decref(fault->data);
    buffer_deinit(&out);
}

static void check_arguments(const json_t *params)
{
    static const char *const schemas[] = {"tools/run_code", "tools/add_share",
                                          "tools/reset_session", "config"};
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        struct error err = {0};
        const json_t *schema = schema_get(schemas[i]);
        assert(schema);
        if (schema_check(schema, json_object_get(params, "arguments"), true, &err) < 0) {
            assert(err.kind == ERROR_INVALID && err.message);
        }
        error_clear(&err);
    }
}

static void use_message(json_t *value)
{
    struct message m;
    struct fault fault = {0};
    enum protocol v;
    jsonrpc_classify(value, &m);
    if (m.kind == MESSAGE_INVALID) {
        write_fault(m.id, &m.fault);
        return;
    }
    if (protocol_of_request(m.params, PROTOCOL_2025_11_25, &v, &fault) < 0) {
        write_fault(m.id, &fault);
    }
    if (json_is_object(json_object_get(m.params, "arguments"))) {
        check_arguments(m.params);
    }
    const char *uri = json_text_member(m.params, "uri");
    json_decref(uri ? roots_path(uri) : NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fault fault = {0};
    json_t *id = NULL;
    char *line = malloc(size ? size : 1); /* just as long: a byte too far is seen */
    memcpy(line, data, size);
    json_t *value = jsonrpc_parse(line, size, &fault, &id);
    if (!value) {
        write_fault(id, &fault);
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            use_message(json_array_get(value, i));
        }
    } else {
        use_message(value);
    }
    json_decref(id);
    json_decref(value);
    json_t *text = json_text(line, size);
    assert(json_is_string(text));
    json_decref(text);
    free(line);
    return 0;
}
