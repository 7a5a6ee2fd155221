#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/base/nearest.h"
#include "backends/registry.h"

static void test_table_is_in_order_and_whole(void **state)
{
    (void)state;
    for (const struct backend *b = backends; b->name; b++) {
        assert_non_null(b->summary);
        assert_non_null(b->aliases);
        assert_non_null(b->ops);
        assert_string_equal(b->ops->name, b->name);
        if (b[1].name) {
            assert_true(strcmp(b->name, b[1].name) < 0);
        }
    }
}

static void test_names_and_aliases_however_written(void **state)
{
    static const char *const words[] = {"local",      "Local", "in-process", "in_process",
                                        "IN-PROCESS", "eval",  "Local_Eval", "local-eval"};

    (void)state;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const struct backend *b = backend_find(words[i], NULL);
        assert_non_null(b);
        assert_string_equal(b->name, "local");
    }
}

static void test_unknown_name_tells_the_nearest_and_all(void **state)
{
    struct error err = {0};

    (void)state;
    assert_null(backend_find("locale", &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_non_null(strstr(err.message, "\"locale\""));
    assert_non_null(strstr(err.message, "did you mean \"local\"?"));
    assert_null(backend_find("", &err));
    assert_null(strstr(err.message, "did you mean"));
    assert_null(backend_find("loca", NULL));
    error_clear(&err);
}

static void test_who_has_a_capability(void **state)
{
    char *list = backends_with(CAP_MOUNT);

    (void)state;
    assert_string_equal(list, "docker, local");
    free(list);
    list = backends_with(CAP_CLOUD);
    assert_string_equal(list, "modal, modal-ephemeral");
    free(list);
    list = backends_with((enum capability)(1u << 30));
    assert_string_equal(list, "none of those built in");
    free(list);
}

static void test_an_alias_brings_its_settings(void **state)
{
    struct environment env;

    (void)state;
    assert_int_equal(environment_init(&env, "x", "local"), 0);
    assert_int_equal(backend_choose("Local_Docker", &env, NULL), 0);
    assert_string_equal(env.backend, "docker");
    assert_int_equal(env.kernel, KERNEL_JUPYTER);
    assert_int_equal(backend_choose("local-jupyter", &env, NULL), 0);
    assert_string_equal(env.backend, "jupyter");
    assert_true(env.own_server);
    assert_int_equal(backend_choose("jupyter_server", &env, NULL), 0);
    assert_string_equal(env.backend, "jupyter");
    assert_false(env.own_server);
    assert_int_equal(backend_choose("Modal_Kernel", &env, NULL), 0);
    assert_string_equal(env.backend, "modal");
    assert_int_equal(env.mode, MODE_STATEFUL);
    assert_int_equal(backend_choose("modal_ephemeral", &env, NULL), 0);
    assert_string_equal(env.backend, "modal-ephemeral");
    assert_int_equal(env.mode, MODE_EPHEMERAL);
    environment_deinit(&env);
}

static void test_a_setting_that_a_backend_does_not_know(void **state)
{
    const struct backend *local = backend_find("local", NULL);
    struct environment env;
    struct error err = {0};

    (void)state;
    assert_int_equal(environment_init(&env, "x", "local"), 0);
    env.given = SETTING_MEMORY_MIB | SETTING_CELLS;
    assert_int_equal(backend_check_settings(local, &env, &err), 0);
    env.given |= SETTING_USER;
    assert_int_equal(backend_check_settings(local, &env, &err), -1);
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "user: the backend \"local\""));
    assert_non_null(strstr(err.message, "one of: docker."));
    error_clear(&err);
    env.given = SETTING_GPU;
    assert_int_equal(backend_check_settings(local, &env, &err), -1);
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "gpu: the backend \"local\""));
    assert_non_null(strstr(err.message, "one of: modal, modal-ephemeral."));
    error_clear(&err);
    env.given = SETTING_VOLUMES; /* the last of them */
    assert_int_equal(backend_check_settings(local, &env, &err), -1);
    assert_non_null(strstr(err.message, "volumes: the backend"));
    error_clear(&err);
    environment_deinit(&env);
}

static void test_who_can_be_held_to_hosts(void **state)
{
    struct environment env;
    struct error err = {0};
    json_t *hosts = json_string("pypi.org");

    (void)state;
    assert_int_equal(environment_init(&env, "x", "local"), 0);
    assert_int_equal(environment_set_network(&env, hosts, NULL), 0);
    for (const struct backend *b = backends; b->name; b++) {
        bool modal = strncmp(b->name, "modal", 5) == 0;

        assert_int_equal(backend_check_network(b, &env, &err), modal ? 0 : -1);
        if (!modal) {
            assert_int_equal(err.kind, ERROR_UNSUPPORTED);
            assert_non_null(strstr(err.message, "\"pypi.org\""));
            assert_non_null(strstr(err.message, "modal, modal-ephemeral"));
            error_clear(&err);
        }
    }
    env.network = NETWORK_ALL;
    assert_int_equal(backend_check_network(backend_find("local", NULL), &env, NULL), 0);
    environment_deinit(&env);
    json_decref(hosts);
}

static void test_capabilities_have_names(void **state)
{
    enum capability capability = CAP_STATEFUL;
    unsigned count = 0, bits = 0;

    (void)state;
    while (capability_name(count, &capability)) {
        bits |= (unsigned)capability;
        count++;
    }
    assert_int_equal(count, 28);
    assert_int_equal(bits, (1u << 28) - 1);
    assert_string_equal(capability_name(4, &capability), "mount");
    assert_int_equal(capability, CAP_MOUNT);
}

static void test_nearest_word(void **state)
{
    static const char *const words[] = {"memory_mib", "mode", "network"};
    char longest[200];

    (void)state;
    assert_string_equal(word_nearest("memory-mb", words, 3), "memory_mib");
    assert_string_equal(word_nearest("NETWORKS", words, 3), "network");
    assert_null(word_nearest("zzzzzz", words, 3));
    assert_null(word_nearest("x", words, 0));
    memset(longest, 'm', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_null(word_nearest(longest, words, 3));
    assert_int_equal(word_distance("kitten", "sitting"), 3);
    assert_int_equal(word_distance("", "abc"), 3);
    assert_int_equal(word_distance("A_b", "a-B"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_in_order_and_whole),
        cmocka_unit_test(test_names_and_aliases_however_written),
        cmocka_unit_test(test_unknown_name_tells_the_nearest_and_all),
        cmocka_unit_test(test_who_has_a_capability),
        cmocka_unit_test(test_an_alias_brings_its_settings),
        cmocka_unit_test(test_a_setting_that_a_backend_does_not_know),
        cmocka_unit_test(test_who_can_be_held_to_hosts),
        cmocka_unit_test(test_capabilities_have_names),
        cmocka_unit_test(test_nearest_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
