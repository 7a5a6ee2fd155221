#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "backends/docker/recipe.h"

#define ID "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define OTHER "sha256:10112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void set_list(json_t **list, const char *text)
{
    json_decref(*list);
    *list = json_loads(text, 0, NULL);
    assert_non_null(*list);
}

static struct recipe make(const struct environment *env, const char *id, const char *user)
{
    struct recipe recipe = {0};
    struct error err = {0};
    struct recipe_base base = {.id = id, .user = user};

    if (recipe_make(env, &base, &recipe, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return recipe;
}

static int set_up(void **state)
{
    struct environment *env = calloc(1, sizeof(*env));

    assert_int_equal(environment_init(env, "test", "docker"), 0);
    *state = env;
    return 0;
}

static int tear_down(void **state)
{
    environment_deinit(*state);
    free(*state);
    return 0;
}

static void packages_that_pip_knows(void **state)
{
    static const char *const good[] = {
        "pandas",
        "a",
        "zope.interface",
        "ruamel_yaml-x2",
        "pandas==2.1.*",
        "pandas [excel,html] >= 2, < 3",
        "pandas[excel]>=2,<3",
        "numpy<2; python_version < '3.12' and sys_platform == \"linux\"",
        "x (>1)",
        "x @ https://example.org/x-1.0-py3-none-any.whl#sha256=00ff",
        "pkg!=1.0+local.1~=",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct error err = {0};
        if (recipe_check_package(good[i], &err) < 0) {
            fail_msg("%s: %s", good[i], err.message);
        }
    }
}

static void packages_that_are_something_else(void **state)
{
    static const char *const bad[] = {
        "",
        " pandas",
        "-r /etc/passwd",
        "--index-url=https://example.org",
        "pandas --index-url=https://example.org",
        "pandas>=1 -e .",
        "pandas\n--pre",
        "pandas\tx",
        "pandas\\",
        "pandas # comment",
        "pandas>=1 # comment",
        "pandas==${PIP_INDEX_URL}",
        "pandas==$X",
        "./folder",
        "/etc",
        "../up",
        "https://example.org/x.whl",
        "git+https://example.org/x",
        "x @ http://example.org/x.whl",
        "x @ file:///etc/passwd",
        "x @ https://example.org/x.whl --pre",
        "pandas;rm -rf /",
        "pandas`id`",
        "pandas|id",
        "pandas[excel",
        "pandas two",
        "pandas-",
        "p\xc3\xa4ndas",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};
        if (recipe_check_package(bad[i], &err) == 0) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_non_null(strstr(err.message, "packages:"));
        error_clear(&err);
    }
}

static void names_of_debian(void **state)
{
    static const char *const good[] = {"curl",           "g++",
                                       "libstdc++6",     "python3.11",
                                       "gcc:arm64",      "r-base-core=4.2.2.20221110-2",
                                       "xx=1:2~rc1+b1-1"};
    static const char *const bad[] = {
        "",      "-y",    "curl-", "Curl",    "a",           "cu rl", "curl;id", "$(id)",
        "curl=", "curl:", "../x",  "./x.deb", "curl/stable", "+x",    "x'y"};
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(recipe_check_apt_package(good[i], NULL), 0);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};
        if (recipe_check_apt_package(bad[i], &err) == 0) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_non_null(strstr(err.message, "apt_packages:"));
        error_clear(&err);
    }
}

static void a_list_has_a_cap_and_holds_texts(void **state)
{
    struct environment *env = *state;
    struct error err = {0};

    for (unsigned i = 0; i <= RECIPE_PACKAGES_CAP; i++) {
        json_array_append_new(env->packages, json_string("x"));
    }
    assert_int_equal(recipe_check(env, &err), -1);
    assert_int_equal(err.kind, ERROR_LIMIT);
    error_clear(&err);
    set_list(&env->packages, "[\"fine\"]");
    json_array_append_new(env->packages, json_stringn("a\0b", 3));
    assert_int_equal(recipe_check(env, &err), -1);
    assert_non_null(strstr(err.message, "item 1"));
    error_clear(&err);
    set_list(&env->packages, "[\"fine\"]");
    assert_int_equal(recipe_check(env, NULL), 0);
}

static void the_same_recipe_has_the_same_hash(void **state)
{
    struct environment *env = *state;
    struct recipe one, other;

    set_list(&env->packages, "[\"pandas>=2\"]");
    set_list(&env->apt_packages, "[\"curl\"]");
    one = make(env, ID, "");
    other = make(env, ID, "root");
    assert_string_equal(one.hash, other.hash);
    assert_int_equal(strlen(one.hash), RECIPE_HASH_SIZE - 1);
    assert_string_equal(one.tag + strlen("cellblock-kernel:"), one.hash);
    assert_non_null(strstr(one.before, one.hash));
    recipe_deinit(&other);
    recipe_deinit(&one);
}

static void another_recipe_has_another_hash(void **state)
{
    struct environment *env = *state;
    struct recipe made[7];
    unsigned n = 0;

    made[n++] = make(env, ID, "");
    made[n++] = make(env, OTHER, "");
    made[n++] = make(env, ID, "jovyan");
    set_list(&env->packages, "[\"pandas\"]");
    made[n++] = make(env, ID, "");
    set_list(&env->packages, "[\"pandas>=2\"]");
    made[n++] = make(env, ID, "");
    set_list(&env->apt_packages, "[\"curl\"]");
    made[n++] = make(env, ID, "");
    env->python = strdup("/opt/python/bin/python3");
    made[n++] = make(env, ID, "");
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j < i; j++) {
            assert_string_not_equal(made[i].hash, made[j].hash);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        recipe_deinit(&made[i]);
    }
}

static void no_shell_reads_a_name(void **state)
{
    struct environment *env = *state;
    struct recipe recipe;

    set_list(&env->packages, "[\"pandas>=2\"]");
    set_list(&env->apt_packages, "[\"curl\", \"g++\"]");
    recipe = make(env, ID, "");
    assert_non_null(strstr(recipe.before, "\"apt\",\"curl\",\"g++\"]\n"));
    assert_null(strstr(recipe.before, "pandas"));
    assert_null(strstr(recipe.after, "pandas"));
    assert_non_null(strstr(recipe.requirements, "\npandas>=2\n"));
    for (const char *at = recipe.before; (at = strstr(at, "RUN ")); at++) {
        assert_int_equal(at[4], '[');
    }
    for (const char *at = recipe.after; (at = strstr(at, "RUN ")); at++) {
        assert_int_equal(at[4], '[');
    }
    recipe_deinit(&recipe);
}

static void kernels_of_other_languages_are_registered(void **state)
{
    struct environment *env = *state;
    struct recipe recipe;

    set_list(&env->packages, "[\"pandas\", \"Bash-Kernel>=0.9\"]");
    recipe = make(env, ID, "");
    assert_non_null(strstr(recipe.after, "\"bash_kernel\"]\n"));
    recipe_deinit(&recipe);
    set_list(&env->packages, "[\"pandas\", \"kernel\"]");
    recipe = make(env, ID, "");
    assert_null(strstr(recipe.after, "kernel"));
    recipe_deinit(&recipe);
}

/* A user of the base that is no plain name does not get into the file. */
static void the_bases_user_is_put_back_and_checked(void **state)
{
    struct environment *env = *state;
    struct recipe recipe = make(env, ID, "1000:100");

    assert_non_null(strstr(recipe.after, "\nUSER 1000:100\n"));
    recipe_deinit(&recipe);
    recipe = make(env, ID, "x\nRUN id");
    assert_null(strstr(recipe.after, "RUN id"));
    assert_non_null(strstr(recipe.after, "\nUSER root\n"));
    recipe_deinit(&recipe);
}

static void an_id_that_is_none_is_refused(void **state)
{
    static const char *const bad[] = {"", "sha256:", "sha256:00", ID "0", ID "\nRUN x", "latest"};
    struct recipe recipe = {0};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};
        struct recipe_base base = {.id = bad[i]};
        assert_int_equal(recipe_make(*state, &base, &recipe, &err), -1);
        error_clear(&err);
    }
}

/* ---- surroundings ---- */

static char bundle[64];

static char *of_a_mirror(const char *name)
{
    static const char *const values[][2] = {
        {"PIP_INDEX_URL", "https://me:secret@mirror.example/simple"},
        {"PIP_FIND_LINKS", "/opt/wheels"},
        {"PIP_TARGET", "/tmp/x"},
        {"https_proxy", "http://proxy.example:3128"},
        {"SSL_CERT_FILE", bundle},
        {"PIP_CERT", ""},
    };
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (strcmp(name, values[i][0]) == 0) {
            return (char *)values[i][1];
        }
    }
    return NULL;
}

static char *of_nobody(const char *name)
{
    (void)name;
    return NULL;
}

static const char *argument(const struct recipe_surroundings *around, const char *name)
{
    return json_string_value(json_object_get(around->arguments, name));
}

static void write_bundle(const char *text)
{
    int fd;

    strcpy(bundle, "/tmp/test-recipe-XXXXXX");
    fd = mkstemp(bundle);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void what_pip_needs_here_goes_along(void **state)
{
    struct recipe_surroundings around = {0};

    (void)state;
    write_bundle("CERTIFICATES");
    assert_int_equal(recipe_look_around(of_a_mirror, &around, NULL), 0);
    assert_string_equal(argument(&around, "PIP_INDEX_URL"),
                        "https://me:secret@mirror.example/simple");
    assert_string_equal(argument(&around, "https_proxy"), "http://proxy.example:3128");
    assert_string_equal(argument(&around, "PIP_CERT"), "/tmp/cellblock/ca.pem");
    assert_null(argument(&around, "PIP_FIND_LINKS")); /* a folder of this machine */
    assert_null(argument(&around, "PIP_TARGET"));
    assert_int_equal(around.ca_size, strlen("CERTIFICATES"));
    recipe_surroundings_deinit(&around);
    unlink(bundle);
}

static void a_bundle_that_is_not_there_is_told(void **state)
{
    struct recipe_surroundings around = {0};
    struct error err = {0};

    (void)state;
    strcpy(bundle, "/tmp/test-recipe-absent.pem");
    assert_int_equal(recipe_look_around(of_a_mirror, &around, &err), -1);
    assert_non_null(strstr(err.message, "SSL_CERT_FILE"));
    assert_non_null(strstr(err.message, bundle));
    error_clear(&err);
}

static void without_settings_nothing_goes_along(void **state)
{
    struct recipe_surroundings around = {0};

    (void)state;
    assert_int_equal(recipe_look_around(of_nobody, &around, NULL), 0);
    assert_int_equal(json_object_size(around.arguments), 0);
    assert_null(around.ca);
    recipe_surroundings_deinit(&around);
}

static void secrets_are_in_no_file_of_the_context(void **state)
{
    struct recipe_surroundings around = {0};
    struct recipe recipe = make(*state, ID, "");
    struct archive *archive = archive_read_new();
    struct archive_entry *entry;
    char names[256] = "";
    char *tar = NULL;
    size_t size = 0;

    write_bundle("CERTIFICATES");
    assert_int_equal(recipe_look_around(of_a_mirror, &around, NULL), 0);
    assert_int_equal(recipe_context(&recipe, &around, &tar, &size, NULL), 0);
    assert_null(memmem(tar, size, "secret", strlen("secret")));
    assert_non_null(memmem(tar, size, "ARG PIP_INDEX_URL\n", strlen("ARG PIP_INDEX_URL\n")));
    assert_null(memmem(tar, size, "https_proxy", strlen("https_proxy")));
    archive_read_support_format_tar(archive);
    assert_int_equal(archive_read_open_memory(archive, tar, size), ARCHIVE_OK);
    while (archive_read_next_header(archive, &entry) == ARCHIVE_OK) {
        size_t used = strlen(names);
        (void)snprintf(names + used, sizeof(names) - used, "%s ", archive_entry_pathname(entry));
    }
    assert_string_equal(names, "Dockerfile cellblock/requirements.txt cellblock/ca.pem ");
    archive_read_free(archive);
    free(tar);
    unlink(bundle);
    recipe_surroundings_deinit(&around);
    recipe_deinit(&recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packages_that_pip_knows),
        cmocka_unit_test(packages_that_are_something_else),
        cmocka_unit_test(names_of_debian),
        cmocka_unit_test_setup_teardown(a_list_has_a_cap_and_holds_texts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_same_recipe_has_the_same_hash, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_recipe_has_another_hash, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_shell_reads_a_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kernels_of_other_languages_are_registered, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_bases_user_is_put_back_and_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_id_that_is_none_is_refused, set_up, tear_down),
        cmocka_unit_test(what_pip_needs_here_goes_along),
        cmocka_unit_test(a_bundle_that_is_not_there_is_told),
        cmocka_unit_test(without_settings_nothing_goes_along),
        cmocka_unit_test_setup_teardown(secrets_are_in_no_file_of_the_context, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
