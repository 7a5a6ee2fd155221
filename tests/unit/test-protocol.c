#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/progress.h"
#include "mcp/protocol.h"
#include "mcp/roots.h"
#include "mcp/schema.h"
#include "tests/unit/cmocka_all.h"

static const struct tool tool = {
    .name = "run_code",
    .title = "Run code",
    .description = "Runs code.",
    .schema = "tools/run_code",
    .output_schema = "results/run_code",
    .idempotent = true,
};

static const struct tool *const tools[] = {&tool, NULL};

static json_t *first_tool(enum protocol v, bool structured, json_t **ret_result)
{
    *ret_result = protocol_tools(v, tools, structured);
    return json_array_get(json_object_get(*ret_result, "tools"), 0);
}

static void a_list_holds_what_its_revision_has(void **state)
{
    static const struct {
        enum protocol v;
        bool title, annotations, output;
    } rows[] = {
        {PROTOCOL_2024_11_05, false, false, false}, {PROTOCOL_2025_03_26, false, true, false},
        {PROTOCOL_2025_06_18, true, true, true},    {PROTOCOL_2025_11_25, true, true, true},
        {PROTOCOL_2026_07_28, true, true, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *result;
        const json_t *entry = first_tool(rows[i].v, true, &result);
        assert_non_null(json_object_get(entry, "inputSchema"));
        assert_int_equal(json_object_get(entry, "title") != NULL, rows[i].title);
        assert_int_equal(json_object_get(entry, "annotations") != NULL, rows[i].annotations);
        assert_int_equal(json_object_get(entry, "outputSchema") != NULL, rows[i].output);
        json_decref(result);
    }
    schema_unload();
}

static void all_four_hints_are_stated(void **state)
{
    json_t *result;
    (void)state;
    const json_t *hints =
        json_object_get(first_tool(PROTOCOL_2025_11_25, false, &result), "annotations");
    assert_true(json_is_false(json_object_get(hints, "readOnlyHint")));
    assert_true(json_is_false(json_object_get(hints, "destructiveHint")));
    assert_true(json_is_true(json_object_get(hints, "idempotentHint")));
    assert_true(json_is_false(json_object_get(hints, "openWorldHint")));
    assert_null(
        json_object_get(json_array_get(json_object_get(result, "tools"), 0), "outputSchema"));
    json_decref(result);
    schema_unload();
}

static void results_fit_their_revision(void **state)
{
    (void)state;
    for (int v = PROTOCOL_2024_11_05; v <= PROTOCOL_2026_07_28; v++) {
        json_t *result =
            json_pack("{s:[{s:s, s:s, s:{}}, {s:s, s:s, s:s}], s:{}, s:{s:i}}", "content", "type",
                      "text", "text", "a", "_meta", "type", "resource_link", "name", "n", "uri",
                      "u", "structuredContent", "_meta", "cellblock/session", 1);
        bool newer = v >= PROTOCOL_2025_06_18;
        protocol_finish((enum protocol)v, result);
        const json_t *content = json_object_get(result, "content");
        assert_int_equal(json_object_get(result, "structuredContent") != NULL, newer);
        assert_int_equal(json_object_get(json_array_get(content, 0), "_meta") != NULL, newer);
        assert_string_equal(json_text_member(json_array_get(content, 1), "type"),
                            newer ? "resource_link" : "text");
        assert_int_equal(json_object_get(result, "resultType") != NULL, v == PROTOCOL_2026_07_28);
        assert_non_null(json_object_get(json_object_get(result, "_meta"), "cellblock/session"));
        json_decref(result);
    }
}

static void server_info_grows_with_the_revisions(void **state)
{
    (void)state;
    for (int v = PROTOCOL_2024_11_05; v <= PROTOCOL_LATEST_LEGACY; v++) {
        json_t *result = protocol_initialize((enum protocol)v);
        const json_t *info = json_object_get(result, "serverInfo");
        assert_string_equal(json_text_member(info, "name"), "cellblock");
        assert_int_equal(json_object_get(info, "title") != NULL, v >= PROTOCOL_2025_06_18);
        assert_int_equal(json_object_get(info, "description") != NULL, v >= PROTOCOL_2025_11_25);
        assert_true(strlen(json_text_member(result, "instructions")) < 2048);
        json_decref(result);
    }
}

static void the_era_is_in_the_message(void **state)
{
    enum protocol v = PROTOCOL_NONE;
    struct fault fault;
    (void)state;
    assert_int_equal(protocol_of_request(NULL, PROTOCOL_2025_03_26, &v, &fault), 0);
    assert_int_equal(v, PROTOCOL_2025_03_26);
    json_t *params =
        json_pack("{s:{s:s, s:{}}}", "_meta", "io.modelcontextprotocol/protocolVersion",
                  "2026-07-28", "io.modelcontextprotocol/clientCapabilities");
    assert_int_equal(protocol_of_request(params, PROTOCOL_2025_03_26, &v, &fault), 0);
    assert_int_equal(v, PROTOCOL_2026_07_28);
    json_decref(params);
}

static void the_newest_whole_lines_are_told(void **state)
{
    char text[3000];
    (void)state;
    memset(text, 'x', sizeof text);
    snprintf(text + 2900, 100, "\nlast line\n\n");
    json_t *tail = progress_tail(text);
    assert_string_equal(json_string_value(tail), "last line");
    json_decref(tail);
    for (size_t i = 0; i < 2998; i += 2) {
        text[i] = "é"[0];
        text[i + 1] = "é"[1];
    }
    text[2998] = '\0';
    tail = progress_tail(text);
    assert_true(json_string_length(tail) <= PROGRESS_TEXT_CAP + 3);
    assert_memory_equal(json_string_value(tail), "é", 2);
    json_decref(tail);
}

static void uris_become_paths(void **state)
{
    static const struct {
        const char *uri, *path;
    } rows[] = {
        {"file:///home/me", "/home/me"},
        {"FILE:///home/me/", "/home/me"},
        {"file://localhost/a%20b%2Fc", "/a b/c"},
        {"file:///%C3%A9", "/é"},
        {"file:///", "/"},
        {"file:///a%00b", NULL},
        {"file:///%FF", NULL},
        {"file:///a%2", NULL},
        {"file:///a%zz", NULL},
        {"file://host/a", NULL},
        {"file://", NULL},
        {"file:/a", NULL},
        {"https://a/b", NULL},
        {"", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *path = roots_path(rows[i].uri);
        if (!rows[i].path) {
            assert_null(path);
        } else {
            assert_string_equal(json_string_value(path), rows[i].path);
        }
        json_decref(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_holds_what_its_revision_has),
        cmocka_unit_test(all_four_hints_are_stated),
        cmocka_unit_test(results_fit_their_revision),
        cmocka_unit_test(server_info_grows_with_the_revisions),
        cmocka_unit_test(the_era_is_in_the_message),
        cmocka_unit_test(the_newest_whole_lines_are_told),
        cmocka_unit_test(uris_become_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
