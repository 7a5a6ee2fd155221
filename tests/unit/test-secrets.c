/* Where secrets come from, and what is refused. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/wipe.h"
#include "mcp/secrets.h"
#include "tests/unit/cmocka_all.h"

enum { PATH_ROOM = 512 };

static char folder[] = "/tmp/cellblock-secrets-XXXXXX";

static void in_folder(const char *name, char path[PATH_ROOM])
{
    snprintf(path, PATH_ROOM, "%s/%s", folder, name);
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    char path[PATH_ROOM];
    FILE *f;

    in_folder(name, path);
    unlink(path);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

/* A table with the one secret "s", of one source. */
static json_t *table_of(const char *key, const char *value)
{
    return json_pack("{s{ss ss}}", "s", "variable", "S_VALUE", key, value);
}

static json_t *table_of_file(const char *name)
{
    char path[PATH_ROOM];

    in_folder(name, path);
    return table_of("file", path);
}

/* Takes the table. */
static void assert_value(json_t *table, const char *expected)
{
    json_t *names = json_pack("[s]", "s"), *values, *env = json_object();
    struct error err = {0};

    assert_int_equal(secrets_check_table(table, &err), 0);
    values = secrets_fetch_now(table, names, &err);
    assert_null(err.message);
    assert_int_equal(secrets_to_env(table, values, env), 0);
    assert_string_equal(json_string_value(json_object_get(env, "S_VALUE")), expected);
    json_decref(env);
    wipe_texts(values);
    json_decref(names);
    json_decref(table);
}

static void assert_no_value(json_t *table, const char *why)
{
    json_t *names = json_pack("[s]", "s");
    struct error err = {0};

    assert_null(secrets_fetch_now(table, names, &err));
    assert_int_equal(err.kind, ERROR_REFUSED);
    assert_non_null(strstr(err.message, why));
    assert_non_null(strstr(err.message, "secret \"s\" is not there, so nothing was run"));
    assert_null(strstr(err.message, "tell-nobody"));
    error_clear(&err);
    json_decref(names);
    json_decref(table);
}

static void a_variable_of_the_server_is_one(void **state)
{
    (void)state;
    setenv("CELLBLOCK_TEST_SECRET", "tell-nobody\n", 1);
    assert_value(table_of("env", "CELLBLOCK_TEST_SECRET"), "tell-nobody\n");
    unsetenv("CELLBLOCK_TEST_SECRET");
    assert_no_value(table_of("env", "CELLBLOCK_TEST_SECRET"), "CELLBLOCK_TEST_SECRET is not set");
}

static void a_file_is_one_without_its_line_end(void **state)
{
    char path[PATH_ROOM];

    (void)state;
    write_file("key", "tell-nobody\n", 0600);
    assert_value(table_of_file("key"), "tell-nobody");
    write_file("key", "tell-nobody\r\n", 0400);
    assert_value(table_of_file("key"), "tell-nobody");
    write_file("key", "tell-nobody\n\n", 0600);
    assert_value(table_of_file("key"), "tell-nobody\n");
    setenv("HOME", folder, 1);
    assert_value(table_of("file", "~/key"), "tell-nobody\n");
    in_folder("key", path);
    unlink(path);
}

static void a_file_that_others_may_touch_is_refused(void **state)
{
    char path[PATH_ROOM], link[PATH_ROOM];

    (void)state;
    write_file("key", "tell-nobody\n", 0640);
    assert_no_value(table_of_file("key"), "has mode 640");
    write_file("key", "tell-nobody\n", 0602);
    assert_no_value(table_of_file("key"), "chmod 600");
    write_file("key", "tell-nobody\n", 0600);
    in_folder("key", path);
    in_folder("link", link);
    assert_int_equal(symlink(path, link), 0);
    assert_no_value(table_of_file("link"), "is a symbolic link");
    unlink(link);
    assert_int_equal(mkfifo(link, 0600), 0);
    assert_no_value(table_of_file("link"), "is no regular file");
    unlink(link);
    assert_no_value(table_of_file("link"), "No such file");
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 12345, 0), 0);
        assert_no_value(table_of_file("key"), "belongs to the user with the number 12345");
    }
    unlink(path);
}

static void a_value_that_cannot_be_one_is_refused(void **state)
{
    char *large = malloc(MASK_VALUE_CAP + 2);
    char path[PATH_ROOM];

    (void)state;
    write_file("key", "five5\n", 0600);
    assert_no_value(table_of_file("key"), "cannot be masked");
    write_file("key", "tell-nobody\xff\n", 0600);
    assert_no_value(table_of_file("key"), "no UTF-8");
    memset(large, 'x', MASK_VALUE_CAP + 1);
    large[MASK_VALUE_CAP + 1] = '\0';
    write_file("key", large, 0600);
    assert_no_value(table_of_file("key"), "has more bytes than the 8192");
    large[MASK_VALUE_CAP] = '\0';
    write_file("key", large, 0600);
    assert_value(table_of_file("key"), large);
    in_folder("key", path);
    unlink(path);
    free(large);
}

/* --- secret-tool --- */

static json_t *table_of_tool(void)
{
    return json_pack("{s{ss s[ss]}}", "s", "variable", "S_VALUE", "secret_tool", "service",
                     "with space; $(x)");
}

static void the_keyring_is_asked_without_a_shell(void **state)
{
    (void)state;
    setenv("PATH", folder, 1);
    assert_no_value(table_of_tool(), "secret-tool is not installed");
    write_file("secret-tool",
               "#!/bin/sh\n[ \"$#|$1|$2|$3\" = \"3|lookup|service|with space; \\$(x)\" ] && "
               "echo tell-nobody && exec /bin/true\necho tell-nobody >&2\nexit 1\n",
               0700);
    assert_value(table_of_tool(), "tell-nobody");
    write_file("secret-tool", "#!/bin/sh\necho tell-nobody >&2\nexit 3\n", 0700);
    assert_no_value(table_of_tool(), "found nothing under its attributes (exit code 3)");
}

static void never(void *data, json_t *values, const struct error *err)
{
    (void)data;
    (void)values;
    (void)err;
    fail();
}

static void a_cancelled_fetch_says_nothing_more(void **state)
{
    json_t *table = table_of_tool(), *names = json_pack("[s]", "s"), *values = NULL;
    struct secret_fetch *fetch = NULL;
    struct error err = {0};
    uv_loop_t loop;

    (void)state;
    write_file("secret-tool", "#!/bin/sh\nexec /bin/sleep 60\n", 0700);
    uv_loop_init(&loop);
    assert_int_equal(secret_fetch_start(&loop, table, names, never, NULL, &fetch, &values, &err),
                     1);
    uv_run(&loop, UV_RUN_NOWAIT);
    secret_fetch_cancel(fetch);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    json_decref(names);
    json_decref(table);
}

/* --- the table --- */

/* It went well, or said what is expected. */
static void assert_said(int r, struct error *err, const char *expected)
{
    if (expected) {
        assert_int_equal(r, -1);
        assert_non_null(strstr(err->message, expected));
    } else {
        assert_int_equal(r, 0);
    }
    error_clear(err);
}

static void assert_table(json_t *table, const char *expected)
{
    struct error err = {0};

    assert_said(secrets_check_table(table, &err), &err, expected);
    json_decref(table);
}

static void the_table_is_checked(void **state)
{
    (void)state;
    assert_table(NULL, NULL);
    assert_table(table_of("env", "X"), NULL);
    assert_table(json_pack("{s{ss}}", "s", "variable", "V"), "0 of env, file and secret_tool");
    assert_table(json_pack("{s{ss ss ss}}", "s", "variable", "V", "env", "E", "file", "/f"),
                 "2 of env, file and secret_tool");
    assert_table(json_pack("{s{ss ss}}", "s", "variable", "9V", "env", "E"),
                 "no name of a variable");
    assert_table(json_pack("{s{ss ss}}", "a b", "variable", "V", "env", "E"),
                 "no name for a secret");
    assert_table(table_of("file", "relative"), "neither an absolute path");
    assert_table(json_pack("{s{ss s[sss]}}", "s", "variable", "V", "secret_tool", "a", "b", "c"),
                 "by turns");
}

static void assert_names(const json_t *table, json_t *names, const char *expected)
{
    struct error err = {0};

    assert_said(secrets_check_names(table, names, &err), &err, expected);
    json_decref(names);
}

static void names_are_those_of_the_table(void **state)
{
    json_t *table =
        json_pack("{s{ss ss} s{ss ss} s{ss ss}}", "openai", "variable", "KEY", "env", "A", "other",
                  "variable", "KEY", "env", "B", "mail", "variable", "MAIL", "env", "C");

    (void)state;
    assert_names(table, json_array(), NULL);
    assert_names(table, json_pack("[ss]", "openai", "mail"), NULL);
    assert_names(table, json_pack("[s]", "opnai"), "did you mean \"openai\"?");
    assert_names(NULL, json_pack("[s]", "openai"), "there is no secret \"openai\"");
    assert_names(table, json_pack("[ss]", "openai", "other"), "both for the variable KEY");
    json_decref(table);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char path[PATH_ROOM];

    (void)state;
    in_folder("secret-tool", path);
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_variable_of_the_server_is_one),
        cmocka_unit_test(a_file_is_one_without_its_line_end),
        cmocka_unit_test(a_file_that_others_may_touch_is_refused),
        cmocka_unit_test(a_value_that_cannot_be_one_is_refused),
        cmocka_unit_test(the_keyring_is_asked_without_a_shell),
        cmocka_unit_test(a_cancelled_fetch_says_nothing_more),
        cmocka_unit_test(the_table_is_checked),
        cmocka_unit_test(names_are_those_of_the_table),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
