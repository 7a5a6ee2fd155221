/* Who we are at Modal: variables, the file, its profiles, and what of TOML is read. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/modal/credentials.h"
#include "backends/modal/toml.h"

static char home[64];

static const char *const variables[] = {"MODAL_TOKEN_ID",
                                        "MODAL_TOKEN_SECRET",
                                        "MODAL_ENVIRONMENT",
                                        "MODAL_SERVER_URL",
                                        "MODAL_PROFILE",
                                        "MODAL_CONFIG_PATH",
                                        "MODAL_SANDBOX_V2",
                                        "MODAL_IMAGE_BUILDER_VERSION",
                                        "MODAL_IS_REMOTE",
                                        "MODAL_FORCE_BUILD",
                                        "MODAL_OAUTH_REFRESH_TOKEN",
                                        "MODAL_OAUTH_CLIENT_ID",
                                        "MODAL_IGNORE_CACHE",
                                        "MODAL_OAUTH_CLIENT_SECRET",
                                        "MODAL_OAUTH_JWT_KEY"};

static void unset_all(void)
{
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        unsetenv(variables[i]);
    }
}

static int setup(void **state)
{
    (void)state;
    unset_all();
    memcpy(home, "/tmp/cellblock-modal.XXXXXX", sizeof("/tmp/cellblock-modal.XXXXXX"));
    return mkdtemp(home) && setenv("HOME", home, 1) == 0 ? 0 : -1;
}

static void path_of(const char *name, char space[128])
{
    (void)snprintf(space, 128, "%s/%s", home, name);
}

static int teardown(void **state)
{
    char path[128];

    (void)state;
    path_of(".modal.toml", path);
    (void)unlink(path);
    path_of("other.toml", path);
    (void)unlink(path);
    return rmdir(home);
}

static void write_file(const char *name, const char *text)
{
    char path[128];
    FILE *file;

    path_of(name, path);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct modal_credentials expect_found(void)
{
    struct modal_credentials c = {0};
    struct error err = {0};

    if (modal_credentials_find(&c, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return c;
}

static void expect_refused(enum error_kind kind, const char *words)
{
    struct modal_credentials c = {0};
    struct error err = {0};

    assert_int_equal(modal_credentials_find(&c, &err), -1);
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, words)) {
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
    }
    assert_null(strstr(err.message, "as-")); /* a secret */
    assert_null(c.token_id);
    error_clear(&err);
}

static void expect_token(const char *id, const char *secret)
{
    struct modal_credentials c = expect_found();

    assert_string_equal(c.token_id, id);
    assert_string_equal(c.token_secret, secret);
    modal_credentials_clear(&c);
    assert_null(c.token_id);
}

static void test_nothing_there(void **state)
{
    (void)state;
    expect_refused(ERROR_REFUSED, "modal token new");
    setenv("MODAL_TOKEN_ID", "ak-1", 1);
    expect_refused(ERROR_REFUSED, "modal token new");
    setenv("MODAL_PROFILE", "work", 1);
    expect_refused(ERROR_REFUSED, "modal token new --profile work");
}

static void test_of_the_variables(void **state)
{
    struct modal_credentials c;

    (void)state;
    setenv("MODAL_TOKEN_ID", "ak-1", 1);
    setenv("MODAL_TOKEN_SECRET", "as-1", 1);
    c = expect_found();
    assert_string_equal(c.token_id, "ak-1");
    assert_string_equal(c.server_url, "https://api.modal.com,https://api.modal2.com");
    assert_string_equal(c.environment, "");
    assert_string_equal(c.profile, "the environment");
    assert_null(c.builder_version);
    assert_true(c.sandbox_v2);
    assert_false(c.force_build);
    modal_credentials_clear(&c);
    setenv("MODAL_SERVER_URL", "http://localhost:1", 1);
    setenv("MODAL_ENVIRONMENT", "dev", 1);
    setenv("MODAL_IMAGE_BUILDER_VERSION", "2024.10", 1);
    setenv("MODAL_SANDBOX_V2", "False", 1);
    setenv("MODAL_FORCE_BUILD", "yes", 1);
    c = expect_found();
    assert_string_equal(c.server_url, "http://localhost:1");
    assert_string_equal(c.environment, "dev");
    assert_string_equal(c.builder_version, "2024.10");
    assert_false(c.sandbox_v2);
    assert_true(c.force_build);
    modal_credentials_clear(&c);
}

static void test_of_the_file(void **state)
{
    struct modal_credentials c, copy;

    (void)state;
    write_file(".modal.toml", "# mine\n[default]\ntoken_id = \"ak-2\" # it\ntoken_secret='as-2'\n"
                              "environment = \"main\"\nsandbox_v2 = false\nlogs_timeout = 10\n");
    c = expect_found();
    assert_string_equal(c.token_id, "ak-2");
    assert_string_equal(c.token_secret, "as-2");
    assert_string_equal(c.environment, "main");
    assert_non_null(strstr(c.profile, "the profile \"default\" of /"));
    assert_false(c.sandbox_v2);
    assert_int_equal(modal_credentials_copy(&copy, &c), 0);
    modal_credentials_clear(&c);
    assert_string_equal(copy.token_secret, "as-2");
    modal_credentials_clear(&copy);
    setenv("MODAL_TOKEN_ID", "ak-1", 1); /* each by itself */
    expect_token("ak-1", "as-2");
    setenv("MODAL_TOKEN_SECRET", "", 1); /* set to nothing is set */
    expect_refused(ERROR_REFUSED, "modal token new");
}

static void test_profiles(void **state)
{
    (void)state;
    write_file(".modal.toml", "[home]\ntoken_id = \"ak-h\"\ntoken_secret = \"as-h\"\n\n"
                              "[\"at work\"]\ntoken_id = \"ak-w\"\ntoken_secret = \"as-w\"\n"
                              "active = true\n");
    expect_token("ak-w", "as-w");
    setenv("MODAL_PROFILE", "home", 1);
    expect_token("ak-h", "as-h");
    setenv("MODAL_PROFILE", "", 1);
    expect_token("ak-w", "as-w");
    write_file(".modal.toml", "[home]\ntoken_id = \"ak-h\"\ntoken_secret = \"as-h\"\n[work]\n");
    expect_refused(ERROR_INVALID, "none is active");
    write_file(".modal.toml", "[home]\nactive = true\n[work]\nactive = true\n");
    expect_refused(ERROR_INVALID, "more than one profile is active");
}

static void test_another_file(void **state)
{
    char path[128];

    (void)state;
    write_file(".modal.toml", "[default]\ntoken_id = \"ak-h\"\ntoken_secret = \"as-h\"\n");
    write_file("other.toml", "[default]\ntoken_id = \"ak-o\"\ntoken_secret = \"as-o\"\n");
    path_of("other.toml", path);
    setenv("MODAL_CONFIG_PATH", path, 1);
    expect_token("ak-o", "as-o");
    setenv("MODAL_IS_REMOTE", "1", 1); /* no file is read */
    expect_refused(ERROR_REFUSED, "modal token new");
    unsetenv("MODAL_IS_REMOTE");
    setenv("MODAL_CONFIG_PATH", home, 1); /* a folder */
    expect_refused(ERROR_INVALID, "cannot be read");
}

static void test_values_that_are_none(void **state)
{
    (void)state;
    write_file(".modal.toml", "[default]\ntoken_id = 5\ntoken_secret = \"as-h\"\n");
    expect_refused(ERROR_INVALID, "token_id");
    write_file(".modal.toml", "[default]\ntoken_id = \"ak\\nx: y\"\ntoken_secret = \"as-h\"\n");
    expect_refused(ERROR_INVALID, "token_id");
    write_file(".modal.toml", "[default]\ntoken_id = \"ak-1\"\ntoken_secret = \"as-h\n");
    expect_refused(ERROR_INVALID, ".modal.toml: line 3:");
}

static void test_oauth(void **state)
{
    struct modal_credentials c;

    (void)state;
    setenv("MODAL_OAUTH_REFRESH_TOKEN", "r", 1);
    setenv("MODAL_OAUTH_CLIENT_ID", "i", 1);
    expect_refused(ERROR_INVALID, "MODAL_OAUTH_CLIENT_SECRET");
    setenv("MODAL_OAUTH_CLIENT_SECRET", "s", 1);
    c = expect_found();
    assert_string_equal(c.oauth_client_secret, "s");
    assert_null(c.token_id);
    modal_credentials_clear(&c);
    setenv("MODAL_TOKEN_ID", "ak-1", 1);
    expect_refused(ERROR_INVALID, "both");
    unsetenv("MODAL_TOKEN_ID");
    setenv("MODAL_OAUTH_JWT_KEY", "k", 1);
    expect_refused(ERROR_UNSUPPORTED, "oauth_jwt_key");
}

/* ---- TOML ---- */

static void expect_toml(const char *text, const char *json)
{
    struct error err = {0};
    json_t *tables = toml_read(text, strlen(text), &err);
    char *dump;

    if (!tables) {
        fail_msg("%s: %s", text, err.message);
    }
    dump = json_dumps(tables, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(dump, json);
    free(dump);
    toml_wipe(tables);
}

static void expect_no_toml(const char *text, size_t size, const char *words)
{
    struct error err = {0};

    assert_null(toml_read(text, size, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    if (!strstr(err.message, words)) {
        fail_msg("%s: \"%s\" does not say \"%s\"", text, err.message, words);
    }
    error_clear(&err);
}

static void test_toml_that_is_read(void **state)
{
    (void)state;
    expect_toml("", "{}");
    expect_toml("\n# x\r\n \t\n", "{}");
    expect_toml("[a]\n[ b ] # c\n[\"c d\"]\n['e']", "{\"a\":{},\"b\":{},\"c d\":{},\"e\":{}}");
    expect_toml("[a]\r\nx = \"y\"\r\nz='\\w'", "{\"a\":{\"x\":\"y\",\"z\":\"\\\\w\"}}");
    expect_toml("[a]\n x=true\n\ty\t=\tfalse # no\n", "{\"a\":{\"x\":true,\"y\":false}}");
    expect_toml("[a]\nx = 1_000\ny = -2\nz = 1.5\n", "{\"a\":{\"x\":1000,\"y\":-2,\"z\":1.5}}");
    expect_toml("[a]\nx = \"\\\"\\\\\\t\\u00e9\\U0001F600#\"",
                "{\"a\":{\"x\":\"\\\"\\\\\\té😀#\"}}");
    expect_toml("[a]\n\"x y\" = ''\nb-_1 = \"\"", "{\"a\":{\"b-_1\":\"\",\"x y\":\"\"}}");
}

static void test_toml_that_is_not(void **state)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"x = 1", "line 1: a key before the first"},
        {"[a]\nx = [1]", "line 2: the value"},
        {"[a]\nx = {}", "line 2: the value"},
        {"[a]\nx = 2024-01-01", "line 2: the value"},
        {"[a]\nx = 1-1", "line 2: the value"},
        {"[a]\nx = truely", "line 2: the value"},
        {"[a]\nx =", "line 2: the value"},
        {"[a]\nx = \"\"\"y\"\"\"", "several lines"},
        {"[a]\nx = \"y", "closing quote"},
        {"[a]\nx = \"y\n\"", "closing quote"},
        {"[a]\nx = \"\\q\"", "escape"},
        {"[a]\nx = \"\\u12\"", "hexadecimal"},
        {"[a]\nx = \"\\ud800\"", "no such character"},
        {"[a]\nx = \"\xc3\x28\"", "UTF-8"},
        {"[a]\nx = 1 y = 2", "line 2: something follows"},
        {"[a]\nx 1", "expected ="},
        {"[a]\n= 1", "expected a key"},
        {"[a]\nx.y = 1", "dotted"},
        {"[a.b]\n", "dotted"},
        {"[[a]]\n", "lists of tables"},
        {"[a\n", "ends with ]"},
        {"[a]\n\n[a]\n", "line 3: this table"},
        {"[a]\nx = 1\nx = 2\n", "line 3: this key"},
        {"[a] # \x01\n", "something follows"},
        {"[a]\nx = 99999999999999999999\n", "the value"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        expect_no_toml(bad[i].text, strlen(bad[i].text), bad[i].words);
    }
    expect_no_toml("[a]\n\0", 5, "line 2");
    expect_no_toml("[a]\n\"x\0\" = 1", 12, "line 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_the_variables, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_the_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_profiles, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values_that_are_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_oauth, setup, teardown),
        cmocka_unit_test(test_toml_that_is_read),
        cmocka_unit_test(test_toml_that_is_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
