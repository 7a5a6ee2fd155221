#include <stdlib.h>
#include <string.h>

#include "backends/changed.h"
#include "mcp/artifact_name.h"
#include "tests/unit/cmocka_all.h"

/* --- URIs --- */

static void expect_uri(const char *path, const char *expected)
{
    char *uri = artifact_uri("s-aaaaaaaa", "r-bbbbbbbb", path), *key = artifact_uri_key(uri);

    assert_string_equal(uri + strlen("cellblock://s-aaaaaaaa/r-bbbbbbbb/"), expected);
    assert_string_equal(key + strlen("s-aaaaaaaa/r-bbbbbbbb/"), path);
    free(uri);
    free(key);
}

static void test_a_uri_says_its_path(void **state)
{
    (void)state;
    expect_uri("out/a.csv", "out/a.csv");
    expect_uri("a b?c#d%", "a%20b%3Fc%23d%25");
    expect_uri("\xc3\xbc", "%C3%BC");
    expect_uri("line\nend\x7f", "line%0Aend%7F");
    expect_uri("~-._", "~-._");
}

static void expect_key(const char *uri, const char *expected)
{
    char *key = artifact_uri_key(uri);

    if (expected) {
        assert_non_null(key);
        assert_string_equal(key, expected);
    } else {
        assert_null(key);
    }
    free(key);
}

static void test_other_uris_are_none(void **state)
{
    char *longer = calloc(1, ARTIFACT_URI_CAP + 64);

    (void)state;
    expect_key("cellblock://s/r/%61%2fb", "s/r/a/b");
    expect_key("file:///etc/passwd", NULL);
    expect_key("CELLBLOCK://s/r/a", NULL);
    expect_key("cellblock://s/r/%0", NULL);
    expect_key("cellblock://s/r/%", NULL);
    expect_key("cellblock://s/r/%zz", NULL);
    expect_key("cellblock://s/r/%00", NULL);
    expect_key("", NULL);
    memset(longer, 'x', ARTIFACT_URI_CAP + 32);
    *stpcpy(longer, "cellblock://") = 'x';
    expect_key(longer, NULL);
    free(longer);
}

/* --- types --- */

static void expect_type(const char *name, const char *bytes, size_t size, const char *mime,
                        bool text)
{
    bool is_text = !text;

    assert_string_equal(artifact_mime_of(name, bytes, size, &is_text), mime);
    assert_int_equal(is_text, text);
}

static void test_bytes_have_the_last_word(void **state)
{
    static const char png[] = "\x89PNG\r\n\x1a\n and more";

    (void)state;
    expect_type("a.csv", "1,2\n", 4, "text/csv", true);
    expect_type("a.CSV", "1,2\n", 4, "text/csv", true);
    expect_type("dir.csv/none", "\xc3\xbc", 2, "text/plain", true);
    expect_type("none", "\xff\xfe", 2, "application/octet-stream", false);
    expect_type("a.csv", "\xff,", 2, "text/csv", false);
    expect_type("a.txt", "a\0b", 3, "text/plain", false);
    expect_type("a.txt", png, sizeof(png) - 1, "image/png", false);
    expect_type("a.png", "text", 4, "application/octet-stream", false);
    expect_type("a.svg", "<svg/>", 6, "image/svg+xml", true);
    expect_type("a.zip", "text", 4, "application/zip", false);
    expect_type("empty", "", 0, "text/plain", true);
}

/* --- what the far side says --- */

static struct changed parse(const char *text)
{
    json_t *said = json_loads(text, JSON_ALLOW_NUL, NULL);
    struct changed changed = {0};

    assert_non_null(said);
    changed_parse(said, &changed);
    json_decref(said);
    return changed;
}

static void test_what_is_said_is_taken(void **state)
{
    struct changed changed = parse("{\"files\":[[\"b/c\",3,9,true],[\"a\",0,8,false]],\"more\":5}");

    (void)state;
    assert_int_equal(changed.count, 2);
    assert_string_equal(changed.files[0].path, "b/c");
    assert_true(changed.files[0].image && !changed.files[1].image);
    assert_int_equal(changed.files[0].size, 3);
    assert_int_equal(changed.files[1].mtime_ns, 8);
    assert_int_equal(changed.more, 5);
    assert_false(changed.partial);
    changed_deinit(&changed);
    changed_parse(NULL, &changed);
    assert_int_equal(changed.count + changed.more, 0);
    changed = parse("{\"files\":[],\"partial\":true}");
    assert_true(changed.partial);
    changed_deinit(&changed);
}

static void test_what_is_no_path_only_counts(void **state)
{
    static const char *const bad[] = {
        "[\"\",1,1]",
        "[\"/etc/passwd\",1,1]",
        "[\"../a\",1,1]",
        "[\"a/../b\",1,1]",
        "[\"a//b\",1,1]",
        "[\"a/\",1,1]",
        "[\".\",1,1]",
        "[\"a/.\",1,1]",
        "[\"..\",1,1]",
        "[\"a\\u0000b\",1,1]",
        "[\"a\",-1,1]",
        "[\"a\",1.5,1]",
        "[\"a\",1,\"1\"]",
        "[7,1,1]",
        "\"a\"",
        "null",
        "[]",
        "{\"0\":\"a\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        char text[128];
        struct changed changed;

        snprintf(text, sizeof(text), "{\"files\":[%s,[\"ok\",1,1],[\"ok\",2,2]]}", bad[i]);
        changed = parse(text);
        assert_int_equal(changed.count, 1);
        assert_string_equal(changed.files[0].path, "ok");
        assert_int_equal(changed.more, 2);
        changed_deinit(&changed);
    }
}

static void test_there_is_an_end_to_it(void **state)
{
    json_t *files = json_array(), *said;
    struct changed changed = {0};
    char *name = malloc(CHANGED_PATH_CAP + 2);

    (void)state;
    memset(name, 'x', CHANGED_PATH_CAP + 1);
    name[CHANGED_PATH_CAP + 1] = '\0';
    json_array_append_new(files, json_pack("[sii]", name, 1, 1));
    for (int i = 0; i < 3000; i++) {
        snprintf(name, 16, "f%d", i);
        json_array_append_new(files, json_pack("[sii]", name, 1, 1));
    }
    said = json_pack("{sosI}", "files", files, "more", (json_int_t)1 << 62);
    changed_parse(said, &changed);
    assert_int_equal(changed.count, CHANGED_CAP);
    assert_int_equal(changed.more, CHANGED_MORE_CAP);
    assert_string_equal(changed.files[0].path, "f0");
    changed_deinit(&changed);
    json_decref(said);
    free(name);
    changed = parse("{\"files\":{},\"more\":-3,\"partial\":1}");
    assert_int_equal(changed.count + changed.more + changed.partial, 0);
    changed_deinit(&changed);
    changed = parse("[1]");
    changed_deinit(&changed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_uri_says_its_path),
        cmocka_unit_test(test_other_uris_are_none),
        cmocka_unit_test(test_bytes_have_the_last_word),
        cmocka_unit_test(test_what_is_said_is_taken),
        cmocka_unit_test(test_what_is_no_path_only_counts),
        cmocka_unit_test(test_there_is_an_end_to_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
