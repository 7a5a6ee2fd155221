#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "backends/environment.h"
#include "mcp/schema.h"

static void starts_with_the_defaults(void **state)
{
    struct environment env;

    (void)state;
    assert_int_equal(environment_init(&env, "default", "local"), 0);
    assert_string_equal(env.name, "default");
    assert_string_equal(env.backend, "local");
    assert_null(env.python);
    assert_int_equal(json_object_size(env.env), 0);
    assert_int_equal(json_array_size(env.shares), 0);
    environment_deinit(&env);
    assert_null(env.name);
}

static const json_t *schema_default(const char *key)
{
    const json_t *environments =
        json_object_get(json_object_get(schema_get("config"), "properties"), "environments");
    const json_t *keys =
        json_object_get(json_object_get(environments, "additionalProperties"), "properties");
    const json_t *value = json_object_get(json_object_get(keys, key), "default");

    assert_non_null(value);
    return value;
}

static void assert_number(const char *key, double value)
{
    assert_true(json_number_value(schema_default(key)) == value);
}

static void assert_word(const char *key, const char *value)
{
    assert_string_equal(json_string_value(schema_default(key)), value);
}

/* What the schema tells people is what the program does. */
static void has_the_defaults_of_the_schema(void **state)
{
    struct environment env;

    (void)state;
    assert_int_equal(environment_init(&env, "default", "local"), 0);
    assert_number("memory_mib", (double)env.memory_mib);
    assert_number("disk_mib", (double)env.disk_mib);
    assert_number("processes", env.processes);
    assert_number("timeout_seconds", env.timeout_seconds);
    assert_number("max_timeout_seconds", env.max_timeout_seconds);
    assert_number("idle_timeout_seconds", env.idle_timeout_seconds);
    assert_number("max_lifetime_seconds", env.max_lifetime_seconds);
    assert_number("pool", env.pool);
    assert_word("backend", env.backend);
    assert_word("mode", mode_name(env.mode));
    assert_word("network", network_name(env.network));
    assert_word("isolation", isolation_name(env.isolation));
    assert_word("cells", cells_name(env.cells));
    environment_deinit(&env);
    schema_unload();
}

static void words_lead_to_values_and_back(void **state)
{
    enum network network;
    enum isolation isolation;
    enum cells cells;
    enum mode mode;

    (void)state;
    assert_int_equal(network_parse("all", &network, NULL), 0);
    assert_string_equal(network_name(network), "all");
    assert_int_equal(isolation_parse("Landlock", &isolation, NULL), 0);
    assert_string_equal(isolation_name(isolation), "landlock");
    assert_int_equal(cells_parse("solo", &cells, NULL), 0);
    assert_string_equal(cells_name(cells), "solo");
    assert_int_equal(mode_parse("ephemeral", &mode, NULL), 0);
    assert_string_equal(mode_name(mode), "ephemeral");
}

static void a_wrong_word_is_told_what_is_right(void **state)
{
    enum isolation isolation = ISOLATION_LANDLOCK;
    struct error err = {0};

    (void)state;
    assert_int_equal(isolation_parse("docker", &isolation, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_non_null(strstr(err.message, "\"docker\""));
    assert_non_null(strstr(err.message, "auto, bwrap, landlock, none"));
    assert_int_equal(isolation, ISOLATION_LANDLOCK);
    error_clear(&err);
}

static void a_known_network_policy_is_unsupported_not_unknown(void **state)
{
    enum network network = NETWORK_ALL;
    struct error err = {0};

    (void)state;
    assert_int_equal(network_parse("packages", &network, &err), -1);
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "\"packages\""));
    assert_int_equal(network_parse("some", &network, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_int_equal(network, NETWORK_ALL);
    error_clear(&err);
}

/* Sets it from JSON; NULL or the message. */
static const char *network_of(struct environment *env, const char *text, struct error *err)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    int r = environment_set_network(env, value, err);

    assert_non_null(value);
    json_decref(value);
    return r < 0 ? err->message : NULL;
}

static void a_network_can_be_a_list_of_hosts(void **state)
{
    static const struct {
        const char *given, *is;
    } good[] = {
        {"\"pypi.org\"", "pypi.org"},
        {"\"pypi.org, *.example.org,10.0.0.0/8 ,pypi.org\"", "pypi.org,*.example.org,10.0.0.0/8"},
        {"[\"192.0.2.7\", \"2001:db8::/32\", \"xn--80ak6aa92e.com\"]",
         "192.0.2.7,2001:db8::/32,xn--80ak6aa92e.com"},
        {"\"all\"", "all"},
        {"\"none\"", "none"},
    };
    struct environment env, copy;

    (void)state;
    assert_int_equal(environment_init(&env, "x", "modal"), 0);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char *text;

        assert_null(network_of(&env, good[i].given, NULL));
        assert_int_equal(environment_copy(&copy, &env), 0);
        text = environment_network(&copy);
        assert_string_equal(text, good[i].is);
        free(text);
        environment_deinit(&copy);
    }
    assert_int_equal(env.network, NETWORK_NONE);
    assert_int_equal(json_array_size(env.network_hosts), 0);
    environment_deinit(&env);
}

static void a_wrong_host_changes_nothing(void **state)
{
    static const char *const bad[] = {
        "\"*\"",
        "\"a..b\"",
        "\"pypi.org,\"",
        "\"-a.org\"",
        "\"a-.org\"",
        "\"10.0.0.0/33\"",
        "\"10.0.0/8\"",
        "\"10.0.0.0/\"",
        "\"10.0.0.0/+8\"",
        "\"http://pypi.org\"",
        "\"pypi.org:443\"",
        "\"*.*.org\"",
        "\"256.1.1.1\"",
        "\"a b.org\"",
        "[\"localhost\"]",
        "[\"none\"]",
        "[]",
        "[\"\"]",
    };
    struct environment env;
    struct error err = {0};

    (void)state;
    assert_int_equal(environment_init(&env, "x", "modal"), 0);
    assert_null(network_of(&env, "\"pypi.org\"", NULL));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (!network_of(&env, bad[i], &err)) {
            fail_msg("%s is taken for a host", bad[i]);
        }
        assert_int_equal(err.kind, ERROR_INVALID);
        error_clear(&err);
    }
    assert_int_equal(env.network, NETWORK_HOSTS);
    assert_int_equal(json_array_size(env.network_hosts), 1);
    environment_deinit(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_with_the_defaults),
        cmocka_unit_test(has_the_defaults_of_the_schema),
        cmocka_unit_test(words_lead_to_values_and_back),
        cmocka_unit_test(a_wrong_word_is_told_what_is_right),
        cmocka_unit_test(a_known_network_policy_is_unsupported_not_unknown),
        cmocka_unit_test(a_network_can_be_a_list_of_hosts),
        cmocka_unit_test(a_wrong_host_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
