#include <stdlib.h>
#include <string.h>

#include "mcp/jsonrpc.h"
#include "tests/unit/cmocka_all.h"

static json_t *parse(const char *line, struct fault *fault, json_t **ret_id)
{
    *ret_id = NULL;
    return jsonrpc_parse(line, strlen(line), fault, ret_id);
}

static void assert_refused(const char *line, size_t size, const char *why)
{
    struct fault fault = {0};
    json_t *id = NULL;
    assert_null(jsonrpc_parse(line, size, &fault, &id));
    assert_int_equal(fault.code, JSONRPC_PARSE_ERROR);
    if (!strstr(fault.text, why)) {
        fail_msg("\"%s\" does not say \"%s\"", fault.text, why);
    }
    json_decref(id);
}

static void broken_text_is_refused(void **state)
{
    (void)state;
    static const char nul[] = "{\"a\":\"b\0\"}";
    assert_refused("hello", 5, "byte");
    assert_refused("", 0, "byte");
    assert_refused("{\"a\":1} x", 9, "end of file");
    assert_refused("{\"a\":1,\"a\":2}", 13, "duplicate");
    assert_refused("{\"a\":\"\xff\"}", 9, "0xff");
    assert_refused("{\"a\":\"\xc0\xaf\"}", 10, "0xc0");
    assert_refused("{\"a\":\"\\ud800\"}", 14, "Unicode");
    assert_refused("{\"a\":NaN}", 9, "byte");
    assert_refused("{\"a\":1e999}", 11, "overflow");
    assert_refused("{\"a\":9223372036854775808}", 25, "too big");
    assert_refused(nul, sizeof nul - 1, "NUL");
}

static void an_escaped_nul_is_kept(void **state)
{
    struct fault fault;
    json_t *id;
    (void)state;
    json_t *value = parse("[\"a\\u0000b\"]", &fault, &id);
    assert_int_equal(json_string_length(json_array_get(value, 0)), 3);
    json_decref(value);
}

static void depth_has_a_limit(void **state)
{
    enum { DEEP = 100000 };
    struct fault fault;
    json_t *id = NULL;
    char *text = malloc(2 * (size_t)DEEP);
    (void)state;
    memset(text, '[', DEEP);
    memset(text + DEEP, ']', DEEP);
    assert_refused(text, 2 * (size_t)DEEP, "deeper than 128");
    json_t *value =
        jsonrpc_parse(text + DEEP - MESSAGE_DEPTH_CAP, 2 * (size_t)MESSAGE_DEPTH_CAP, &fault, &id);
    assert_non_null(value);
    json_decref(value);
    assert_refused(text + DEEP - MESSAGE_DEPTH_CAP - 1, 2 * ((size_t)MESSAGE_DEPTH_CAP + 1), "128");
    free(text);
}

static void brackets_in_strings_are_not_depth(void **state)
{
    char text[1000] = "[\"";
    struct fault fault;
    json_t *id;
    (void)state;
    memset(text + 2, '[', 900);
    memcpy(text + 902, "\\\"[\"]", 6);
    json_t *value = parse(text, &fault, &id);
    assert_non_null(value);
    json_decref(value);
}

static void assert_recovers(const char *line, const char *expected)
{
    struct fault fault;
    json_t *id;
    assert_null(parse(line, &fault, &id));
    char *text = id ? json_dumps(id, JSON_ENCODE_ANY) : strdup("none");
    assert_string_equal(text, expected);
    free(text);
    json_decref(id);
}

static void the_id_of_a_broken_request_is_found(void **state)
{
    (void)state;
    assert_recovers("{\"method\":\"x\",\"id\":7,\"a\":1,\"a\":2}", "7");
    assert_recovers("{\"id\" : \"a\\\"b\" ,\"method\":\"x\",}", "\"a\\\"b\"");
    assert_recovers("{\"params\":{\"id\":1},\"method\":\"x\",\"id\":2,}", "2");
    assert_recovers("{\"id\":1,\"method\":\"x\"", "1");
    assert_recovers("{\"id\":1,\"result\":{},}", "none");
    assert_recovers("{\"id\":1,\"id\":2,\"method\":\"x\"}", "none");
    assert_recovers("{\"id\":1.5,\"method\":\"x\",}", "none");
    assert_recovers("{\"id\":null,\"method\":\"x\",}", "none");
    assert_recovers("[{\"id\":1,\"method\":\"x\",}]", "none");
    assert_recovers("{\"id\":", "none");
    assert_recovers("{\"id\":\"", "none");
}

static enum message_kind kind_of(const char *text, enum jsonrpc_code *ret_code)
{
    struct message m;
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    jsonrpc_classify(value, &m);
    *ret_code = m.fault.code;
    json_decref(value);
    return m.kind;
}

static void messages_are_told_apart(void **state)
{
    static const struct {
        const char *text;
        enum message_kind kind;
        int code;
    } rows[] = {
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}", MESSAGE_REQUEST, 0},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"\",\"method\":\"\"}", MESSAGE_REQUEST, 0},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":null}", MESSAGE_REQUEST, 0},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"x\"}", MESSAGE_NOTIFICATION, 0},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", MESSAGE_RESPONSE, 0},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{}}", MESSAGE_RESPONSE, 0},
        {"42", MESSAGE_INVALID, JSONRPC_INVALID_REQUEST},
        {"{}", MESSAGE_INVALID, JSONRPC_INVALID_REQUEST},
        {"{\"id\":1,\"method\":\"x\"}", MESSAGE_INVALID, JSONRPC_INVALID_REQUEST},
        {"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"x\"}", MESSAGE_INVALID,
         JSONRPC_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":1}", MESSAGE_INVALID, JSONRPC_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}", MESSAGE_INVALID, JSONRPC_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"x\"}", MESSAGE_INVALID,
         JSONRPC_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"x\"}", MESSAGE_INVALID,
         JSONRPC_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"x\"}", MESSAGE_INVALID,
         JSONRPC_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":[]}", MESSAGE_INVALID,
         JSONRPC_INVALID_PARAMS},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum jsonrpc_code code;
        enum message_kind kind = kind_of(rows[i].text, &code);
        if (kind != rows[i].kind || (int)code != rows[i].code) {
            fail_msg("%s: kind %d, code %d", rows[i].text, kind, code);
        }
    }
}

static void assert_encodes(json_t *message_owned, const char *expected)
{
    struct buffer out;
    buffer_init(&out, 4096);
    assert_int_equal(jsonrpc_encode(message_owned, &out), 0);
    assert_int_equal(buffer_append(&out, "", 1), 0);
    assert_string_equal(buffer_data(&out), expected);
    buffer_deinit(&out);
    json_decref(message_owned);
}

static void answers_look_as_they_should(void **state)
{
    struct fault fault;
    json_t *id = json_string("é");
    (void)state;
    assert_encodes(jsonrpc_result(id, json_pack("{s:s}", "text", "a\nb")),
                   "{\"jsonrpc\":\"2.0\",\"id\":\"é\",\"result\":{\"text\":\"a\\nb\"}}\n");
    fault_set(&fault, JSONRPC_INVALID_PARAMS, "no %s", "way\xff");
    assert_encodes(jsonrpc_fault(NULL, &fault),
                   "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32602,\"message\":\"no "
                   "way\xEF\xBF\xBD\"}}\n");
    assert_encodes(jsonrpc_notification("n", NULL), "{\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n");
    json_decref(id);
}

static void half_a_message_is_never_kept(void **state)
{
    struct buffer out;
    json_t *message = json_pack("{s:s}", "text", "a text that is longer than the buffer may be");
    (void)state;
    buffer_init(&out, 16);
    assert_int_equal(buffer_append(&out, "kept", 4), 0);
    assert_true(jsonrpc_encode(message, &out) < 0);
    assert_int_equal(buffer_size(&out), 4);
    assert_memory_equal(buffer_data(&out), "kept", 4);
    assert_true(jsonrpc_encode(NULL, &out) < 0);
    buffer_deinit(&out);
    json_decref(message);
}

static void text_of_any_bytes(void **state)
{
    static const struct {
        const char *bytes, *text;
    } rows[] = {
        {"plain", "plain"},
        {"é☃𝄞", "é☃𝄞"},
        {"a\xff z", "a\xEF\xBF\xBD z"},
        {"\xe2\x98", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xc0\xaf", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xed\xa0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xf4\x90\x80\x80!", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD!"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *text = json_text(rows[i].bytes, strlen(rows[i].bytes));
        assert_string_equal(json_string_value(text), rows[i].text);
        json_decref(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_text_is_refused),
        cmocka_unit_test(an_escaped_nul_is_kept),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(brackets_in_strings_are_not_depth),
        cmocka_unit_test(the_id_of_a_broken_request_is_found),
        cmocka_unit_test(messages_are_told_apart),
        cmocka_unit_test(answers_look_as_they_should),
        cmocka_unit_test(half_a_message_is_never_kept),
        cmocka_unit_test(text_of_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
