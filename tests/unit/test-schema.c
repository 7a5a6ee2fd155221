#include <string.h>

#include "backends/base/embedded.h"
#include "mcp/schema.h"
#include "tests/unit/cmocka_all.h"

static json_t *load(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!value) {
        fail_msg("not JSON: %s", text);
    }
    return value;
}

/* Checks the value with the schema; the message must hold `expected`, or be none with NULL. */
static void assert_says(const json_t *schema, const char *text, const char *expected)
{
    struct error err = {0};
    json_t *value = load(text);
    int rc = schema_check(schema, value, true, &err);
    if (expected ? rc == 0 || err.kind != ERROR_INVALID || !strstr(err.message, expected)
                 : rc != 0) {
        fail_msg("%s: expected \"%s\", got \"%s\"", text, expected ? expected : "nothing",
                 err.message ? err.message : "nothing");
    }
    error_clear(&err);
    json_decref(value);
}

static void every_embedded_schema_is_one(void **state)
{
    (void)state;
    for (const struct embedded_file *file = embedded_schemas; file->name; file++) {
        if (!schema_get(file->name)) {
            struct error err = {0};
            json_t *schema = json_loadb((const char *)file->data, file->size, 0, NULL);
            schema_verify(schema, &err);
            fail_msg("%s: %s", file->name, err.message ? err.message : "no JSON");
        }
    }
    assert_null(schema_get("tools/no_such"));
    assert_ptr_equal(schema_get("config"), schema_get("config"));
    schema_unload();
}

/* What hosts refuse in an inputSchema. */
static void input_schemas_fit_hosts(void **state)
{
    static const char *const tools[] = {"tools/run_code", "tools/add_share", "tools/reset_session"};
    (void)state;
    for (size_t i = 0; i < sizeof tools / sizeof *tools; i++) {
        const json_t *schema = schema_get(tools[i]);
        const char *key;
        json_t *property;
        assert_string_equal(json_string_value(json_object_get(schema, "type")), "object");
        json_object_foreach(json_object_get(schema, "properties"), key, property)
        {
            assert_true(json_is_string(json_object_get(property, "type")));
            assert_true(json_is_string(json_object_get(property, "description")));
        }
    }
    assert_string_equal(json_string_value(json_object_get(schema_get("results/run_code"), "type")),
                        "object");
    schema_unload();
}

static void run_code_arguments(void **state)
{
    const json_t *s = schema_get("tools/run_code");
    (void)state;
    assert_says(s, "{\"code\":\"1\"}", NULL);
    assert_says(s, "{\"code\":\"1\",\"timeout_seconds\":0.5,\"env\":{\"A\":\"b\"}}", NULL);
    assert_says(s, "{\"code\":\"a\\u0000b\"}", NULL);
    assert_says(s, "{\"code\":\"1\",\"language\":null,\"env\":null,\"ephemeral\":null}", NULL);
    assert_says(s, "{}", "code: missing, expected a string");
    assert_says(s, "[]", "given [], expected an object");
    assert_says(s, "{\"code\":null}", "code: given null, expected a string");
    assert_says(s, "{\"code\":1}", "code: given 1, expected a string");
    assert_says(s, "{\"code\":\"1\",\"timeout_seconds\":0}",
                "timeout_seconds: given 0, expected a number greater than 0");
    assert_says(s, "{\"code\":\"1\",\"timeout_seconds\":true}", "timeout_seconds: given true");
    assert_says(s, "{\"code\":\"1\",\"timeout\":5}",
                "timeout: there is no such field; did you mean \"timeout_seconds\"?");
    assert_says(s, "{\"code\":\"1\",\"env\":{\"A\":1}}", "env.A: given 1, expected a string");
    assert_says(s, "{\"code\":\"1\",\"env\":{\"A\":null}}", "env.A: given null");
    assert_says(s, "{\"code\":\"1\",\"session\":\"\"}",
                "session: given \"\", expected a string at");
    schema_unload();
}

static void a_word_that_is_not_one_of_them(void **state)
{
    const json_t *s = schema_get("tools/add_share");
    (void)state;
    assert_says(s, "{\"type\":\"copi\",\"dest\":\"/x\"}", "did you mean \"copy\"?");
    schema_unload();
}

static void every_keyword_is_checked(void **state)
{
    static const struct {
        const char *schema, *good, *bad, *text;
    } rows[] = {
        {"{\"type\":\"integer\"}", "5", "5.5", "a whole number"},
        {"{\"type\":[\"string\",\"null\"]}", "null", "5", "a string or null"},
        {"{\"type\":\"boolean\"}", "true", "\"yes\"", "true or false"},
        {"{\"const\":\"a\"}", "\"a\"", "\"b\"", "expected \"a\""},
        {"{\"enum\":[1,\"b\"]}", "1", "2", "one of 1, \"b\""},
        {"{\"minimum\":1,\"maximum\":3}", "1", "0", "at least 1 and at most 3"},
        {"{\"minimum\":1,\"maximum\":3}", "3", "3.01", "given 3.01"},
        {"{\"exclusiveMinimum\":0}", "1e-300", "0", "greater than 0"},
        {"{\"minLength\":2}", "\"éé\"", "\"é\"", "at least 2 characters"},
        {"{\"maxLength\":2}", "\"éé\"", "\"abc\"", "at most 2 characters"},
        {"{\"pattern\":\"^a+$\"}", "\"aaa\"", "\"ab\"", "matching \"^a+$\""},
        {"{\"pattern\":\"^a$\"}", "\"a\"", "\"a\\u0000\"", "matching"},
        {"{\"minItems\":1}", "[0]", "[]", "at least 1 items"},
        {"{\"maxItems\":1}", "[0]", "[0,0]", "at most 1 items"},
        {"{\"items\":{\"type\":\"string\"}}", "[\"a\"]", "[\"a\",2]", "[1]: given 2"},
        {"{\"additionalProperties\":{\"items\":{\"type\":\"null\"}}}", "{\"a\":[null]}",
         "{\"a\":[1]}", "a[0]: given 1, expected null"},
        {"{\"required\":[\"a\"]}", "{\"a\":1}", "{}", "a: missing"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *schema = load(rows[i].schema);
        assert_int_equal(schema_verify(schema, NULL), 0);
        assert_says(schema, rows[i].good, NULL);
        assert_says(schema, rows[i].bad, rows[i].text);
        json_decref(schema);
    }
}

static void nulls_count_only_where_asked(void **state)
{
    json_t *schema = load("{\"properties\":{\"a\":{\"type\":\"string\"}}}");
    json_t *value = load("{\"a\":null}");
    (void)state;
    assert_int_equal(schema_check(schema, value, true, NULL), 0);
    assert_int_equal(schema_check(schema, value, false, NULL), -1);
    json_decref(value);
    json_decref(schema);
}

static void keywords_that_nobody_checks_are_refused(void **state)
{
    static const char *const schemas[] = {
        "{\"oneOf\":[]}",
        "{\"type\":\"text\"}",
        "{\"properties\":{\"a\":{\"format\":\"uri\"}}}",
        "{\"items\":{\"$ref\":\"#\"}}",
        "{\"pattern\":\"(\"}",
        "{\"minimum\":\"1\"}",
        "{\"required\":[1]}",
        "[]",
    };
    (void)state;
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        struct error err = {0};
        json_t *schema = load(schemas[i]);
        assert_int_equal(schema_verify(schema, &err), -1);
        assert_int_equal(err.kind, ERROR_INTERNAL);
        error_clear(&err);
        json_decref(schema);
    }
}

static void long_values_are_shortened(void **state)
{
    char text[4000] = "\"";
    struct error err = {0};
    json_t *schema = load("{\"type\":\"number\"}");
    (void)state;
    for (size_t i = 1; i < 3000; i += 2) {
        text[i] = "é"[0];
        text[i + 1] = "é"[1];
    }
    text[3001] = '"';
    json_t *value = load(text);
    assert_int_equal(schema_check(schema, value, true, &err), -1);
    assert_true(strlen(err.message) < 200);
    json_t *valid = json_string(err.message); /* still UTF-8 */
    assert_non_null(valid);
    json_decref(valid);
    error_clear(&err);
    json_decref(value);
    json_decref(schema);
}

static void nearest_words(void **state)
{
    static const char *const words[] = {"run_code", "add_share", "reset_session", NULL};
    (void)state;
    assert_string_equal(nearest_word("run_cod", words), "run_code");
    assert_string_equal(nearest_word("RUN-CODE", words), "run_code");
    assert_string_equal(nearest_word("addshare", words), "add_share");
    assert_string_equal(nearest_word("reset", words), "reset_session");
    assert_null(nearest_word("no_such_tool", words));
    assert_null(nearest_word("", words));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_embedded_schema_is_one),
        cmocka_unit_test(input_schemas_fit_hosts),
        cmocka_unit_test(run_code_arguments),
        cmocka_unit_test(a_word_that_is_not_one_of_them),
        cmocka_unit_test(every_keyword_is_checked),
        cmocka_unit_test(nulls_count_only_where_asked),
        cmocka_unit_test(keywords_that_nobody_checks_are_refused),
        cmocka_unit_test(long_values_are_shortened),
        cmocka_unit_test(nearest_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
