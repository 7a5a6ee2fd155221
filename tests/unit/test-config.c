#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mcp/config.h"
#include "mcp/schema.h"

/* A folder for one test, and a config file in it. */
struct scene {
    char dir[32];
    char file[128];
};

static int set_up(void **state)
{
    struct scene *s = calloc(1, sizeof(*s));

    snprintf(s->dir, sizeof(s->dir), "/tmp/test-config-XXXXXX");
    if (!mkdtemp(s->dir)) {
        free(s);
        return -1;
    }
    snprintf(s->file, sizeof(s->file), "%s/config.json", s->dir);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *s = *state;

    remove(s->file);
    rmdir(s->dir);
    free(s);
    schema_unload();
    return 0;
}

static void write_bytes(const struct scene *s, const char *bytes, size_t size)
{
    FILE *file = fopen(s->file, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void load(const struct scene *s, const char *text, struct config *config)
{
    struct error err = {0};

    *config = (struct config){0};
    write_bytes(s, text, strlen(text));
    if (config_load(config, s->file, &err) < 0) {
        fail_msg("%s", err.message);
    }
}

static void assert_load_fails(const char *path, const char *where, const char *what)
{
    struct config config = {0};
    struct error err = {0};

    assert_int_equal(config_load(&config, path, &err), -1);
    assert_non_null(err.message);
    if (!strstr(err.message, path) || !strstr(err.message, where) || !strstr(err.message, what)) {
        fail_msg("\"%s\" lacks the file, \"%s\" or \"%s\"", err.message, where, what);
    }
    error_clear(&err);
    config_deinit(&config);
}

static void assert_refused(const struct scene *s, const char *text, const char *where,
                           const char *what)
{
    write_bytes(s, text, strlen(text));
    assert_load_fails(s->file, where, what);
}

static void an_absent_default_file_means_the_defaults(void **state)
{
    struct scene *s = *state;
    struct config config = {0};

    setenv("XDG_CONFIG_HOME", s->dir, 1);
    assert_int_equal(config_load(&config, NULL, NULL), 0);
    assert_int_equal(config.environment_count, 1);
    assert_string_equal(config.default_environment->name, "default");
    assert_string_equal(config.default_environment->backend, "local");
    assert_non_null(config.share_roots);
    assert_null(config.share_roots[0]);
    assert_int_equal(config.log_level, LOG_LEVEL_WARNING);
    config_deinit(&config);
}

static void the_default_file_is_found(void **state)
{
    struct scene *s = *state;
    struct config config = {0};
    char dir[64];

    snprintf(dir, sizeof(dir), "%s/cellblock", s->dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(s->file, sizeof(s->file), "%s/config.json", dir);
    write_bytes(s, "{\"default_environment\":\"a\",\"environments\":{\"a\":{}}}", 51);
    setenv("XDG_CONFIG_HOME", s->dir, 1);
    assert_int_equal(config_load(&config, NULL, NULL), 0);
    assert_string_equal(config.default_environment->name, "a");
    config_deinit(&config);
    remove(s->file);
    rmdir(dir);
}

static void every_key_arrives(void **state)
{
    static const char text[] =
        "{\"$schema\":\"x\",\"default_environment\":\"data\",\"environments\":{\"data\":{"
        "\"backend\":\"LOCAL_EVAL\",\"mode\":\"ephemeral\",\"python\":\"/usr/bin/python3\","
        "\"env\":{\"TZ\":\"UTC\",\"_A1\":\"\"},\"memory_mib\":2048,\"disk_mib\":64,"
        "\"processes\":32,\"timeout_seconds\":1.5,\"max_timeout_seconds\":90,"
        "\"idle_timeout_seconds\":7,\"max_lifetime_seconds\":8,\"network\":\"all\","
        "\"shares\":[{\"type\":\"mount\",\"source\":\"/srv/x\",\"dest\":\"/data/x\","
        "\"read_only\":false}],\"isolation\":\"landlock\",\"cells\":\"solo\",\"pool\":0}}}";
    struct config config;
    const struct environment *env;

    load(*state, text, &config);
    env = config.default_environment;
    assert_int_equal(config.environment_count, 1);
    assert_string_equal(env->backend, "local");
    assert_int_equal(env->mode, MODE_EPHEMERAL);
    assert_string_equal(env->python, "/usr/bin/python3");
    assert_string_equal(json_string_value(json_object_get(env->env, "TZ")), "UTC");
    assert_int_equal(env->memory_mib, 2048);
    assert_int_equal(env->disk_mib, 64);
    assert_int_equal(env->processes, 32);
    assert_true(env->timeout_seconds == 1.5);
    assert_true(env->max_timeout_seconds == 90);
    assert_true(env->idle_timeout_seconds == 7);
    assert_true(env->max_lifetime_seconds == 8);
    assert_int_equal(env->network, NETWORK_ALL);
    assert_int_equal(json_array_size(env->shares), 1);
    assert_int_equal(env->isolation, ISOLATION_LANDLOCK);
    assert_int_equal(env->cells, CELLS_SOLO);
    assert_int_equal(env->pool, 0);
    config_deinit(&config);
}

/* Of Modal: what every_key_arrives does not have. */
static void every_key_of_modal_arrives(void **state)
{
    static const char text[] =
        "{\"default_environment\":\"m\",\"environments\":{\"m\":{\"backend\":\"modal\","
        "\"app_name\":\"a\",\"sandbox_name\":\"s\",\"memory_snapshots\":true,\"modal_secrets\":["
        "\"hf\"],\"gpu\":\"A10G:2\","
        "\"cpu_limit\":2.5,\"memory_limit_mib\":4096,\"region\":\"us-east\",\"ports\":[80,443],"
        "\"dockerfile_commands\":[\"RUN x\"],\"tags\":{\"team\":\"blue\"},"
        "\"volumes\":[{\"name\":\"v\",\"dest\":\"/data//v/\",\"read_only\":true}],"
        "\"network_file_systems\":[{\"name\":\"n\",\"dest\":\"/nfs\",\"create\":false}],"
        "\"network\":[\"pypi.org\",\"10.0.0.0/8\"],"
        "\"h2_ports\":[81],\"unencrypted_ports\":[82],\"custom_domain\":\"a.b\",\"proxy\":\"p\","
        "\"inbound_cidr_allowlist\":[\"10.0.0.0/8\"],\"cloud\":\"aws\",\"runtime\":\"vm\","
        "\"include_oidc_identity_token\":true,\"sandbox_command\":[\"db\"],"
        "\"readiness_probe\":{\"port\":5432},\"registry_secret\":\"r\",\"registry_auth\":\"gcp\","
        "\"shares\":[{\"type\":\"cloud\",\"bucket\":\"b\",\"dest\":\"/b\"}]}}}";
    const json_t *volume;
    struct config config;
    const struct environment *env;

    load(*state, text, &config);
    env = config.default_environment;
    assert_string_equal(env->app_name, "a");
    assert_string_equal(env->sandbox_name, "s");
    assert_true(env->memory_snapshots);
    assert_string_equal(env->gpu, "A10G:2");
    assert_true(env->cpu_limit == 2.5);
    assert_int_equal(env->memory_limit_mib, 4096);
    assert_int_equal(json_array_size(env->modal_secrets), 1);
    assert_int_equal(json_array_size(env->dockerfile_commands), 1);
    assert_string_equal(json_string_value(json_array_get(env->region, 0)), "us-east");
    assert_int_equal(json_integer_value(json_array_get(env->ports, 1)), 443);
    assert_string_equal(json_string_value(json_object_get(env->tags, "team")), "blue");
    volume = json_array_get(env->volumes, 0);
    assert_string_equal(json_string_value(json_object_get(volume, "dest")), "/data/v");
    assert_true(json_is_true(json_object_get(volume, "read_only")));
    assert_int_equal(json_array_size(env->network_file_systems), 1);
    assert_int_equal(env->network, NETWORK_HOSTS);
    assert_int_equal(json_array_size(env->network_hosts), 2);
    assert_int_equal(json_integer_value(json_array_get(env->h2_ports, 0)), 81);
    assert_int_equal(json_integer_value(json_array_get(env->unencrypted_ports, 0)), 82);
    assert_int_equal(json_array_size(env->inbound_cidr_allowlist), 1);
    assert_int_equal(json_array_size(env->sandbox_command), 1);
    assert_int_equal(json_object_size(env->readiness_probe), 1);
    assert_string_equal(env->custom_domain, "a.b");
    assert_string_equal(env->proxy, "p");
    assert_string_equal(env->cloud, "aws");
    assert_string_equal(env->runtime, "vm");
    assert_string_equal(env->registry_secret, "r");
    assert_string_equal(env->registry_auth, "gcp");
    assert_true(env->identity_token);
    assert_int_equal(json_array_size(env->shares), 1);
    config_deinit(&config);
    assert_refused(*state, "{\"environments\":{\"a\":{\"network\":[\"a b\"]}}}",
                   "environments.a: network", "\"a b\"");
    assert_refused(*state, "{\"environments\":{\"a\":{\"ports\":[0]}}}", "ports", "0");
    assert_refused(*state, "{\"environments\":{\"a\":{\"readiness_probe\":{}}}}", "readiness_probe",
                   "either");
    assert_refused(*state, "{\"environments\":{\"a\":{\"inbound_cidr_allowlist\":[\"here\"]}}}",
                   "inbound_cidr_allowlist: [0]", "\"here\"");
    assert_refused(*state, "{\"environments\":{\"a\":{\"volumes\":[{\"dest\":\"/etc/x\"}]}}}",
                   "volumes: [0]", "/etc/x");
    assert_refused(*state,
                   "{\"environments\":{\"a\":{\"shares\":[{\"type\":\"cloud\",\"dest\":\"/b\"}]}}}",
                   "shares: [0]", "bucket");
    assert_refused(*state,
                   "{\"environments\":{\"a\":{\"shares\":[{\"type\":\"copy\",\"dest\":\"/b\"}]}}}",
                   "shares: [0].source", "missing");
}

static void the_built_in_environment_yields_to_a_chosen_one(void **state)
{
    struct config config;

    load(*state, "{\"environments\":{\"a\":{}}}", &config);
    assert_int_equal(config.environment_count, 2);
    assert_string_equal(config.default_environment->name, "default");
    config_deinit(&config);
    load(*state, "{\"environments\":{\"default\":{\"pool\":1}}}", &config);
    assert_int_equal(config.environment_count, 1);
    assert_int_equal(config.default_environment->pool, 1);
    config_deinit(&config);
    load(*state, "{}", &config);
    assert_int_equal(config.environment_count, 1);
    config_deinit(&config);
}

static void one_time_limit_follows_the_other(void **state)
{
    struct config config;

    load(*state, "{\"environments\":{\"default\":{\"timeout_seconds\":7200}}}", &config);
    assert_true(config.default_environment->max_timeout_seconds == 7200);
    config_deinit(&config);
    load(*state, "{\"environments\":{\"default\":{\"max_timeout_seconds\":10}}}", &config);
    assert_true(config.default_environment->timeout_seconds == 10);
    config_deinit(&config);
    assert_refused(*state,
                   "{\"environments\":{\"default\":{\"max_timeout_seconds\":10,"
                   "\"timeout_seconds\":11}}}",
                   "environments.default", "11");
}

static void unknown_keys_and_values_name_the_nearest(void **state)
{
    assert_refused(*state, "{\"enviroments\":{}}", "enviroments", "\"environments\"");
    assert_refused(*state, "{\"environments\":{\"a\":{\"memory_mb\":1}}}", "environments.a",
                   "memory_mib");
    assert_refused(*state, "{\"environments\":{\"a\":{\"mode\":\"statefull\"}}}",
                   "environments.a.mode", "stateful");
    assert_refused(*state, "{\"environments\":{\"a\":{\"backend\":\"locall\"}}}",
                   "environments.a: backend", "local");
    assert_refused(*state, "{\"default_environment\":\"dato\",\"environments\":{\"data\":{}}}",
                   "dato", "did you mean \"data\"");
    assert_refused(*state, "{\"environments\":{\"a\":{\"network\":\"packages\"}}}",
                   "environments.a.network", "not supported yet");
    assert_refused(*state, "{\"environments\":{\"a\":{\"gpus\":\"x\"}}}", "gpus", "gpu");
    assert_refused(*state, "{\"environments\":{\"a\":{\"workdir\":\"a/b\"}}}", "workdir",
                   "absolute");
    assert_refused(*state, "{\"environments\":{\"a\":{\"workdir\":\"/a\\n\"}}}", "workdir",
                   "control");
}

static void wrong_values_are_named(void **state)
{
    assert_refused(*state, "[]", "", "object");
    assert_refused(*state, "{\"environments\":{\"a\":{\"memory_mib\":-1}}}", "memory_mib", "-1");
    assert_refused(*state, "{\"environments\":{\"a\":{\"memory_mib\":1.5}}}", "memory_mib", "1.5");
    assert_refused(*state, "{\"environments\":{\"a\":{\"pool\":17}}}", "pool", "16");
    assert_refused(*state, "{\"environments\":{\"a\":{\"pool\":null}}}", "pool", "null");
    assert_refused(*state, "{\"environments\":{\"a\":[]}}", "environments.a", "object");
    assert_refused(*state, "{\"environments\":{\"a b\":{}}}", "\"a b\"", "name");
    assert_refused(*state, "{\"environments\":{\"\":{}}}", "environments", "name");
    assert_refused(*state, "{\"environments\":{\"a\":{\"env\":{\"1X\":\"\"}}}}", "env", "1X");
    assert_refused(*state, "{\"environments\":{\"a\":{\"env\":{\"X\":\"\\u0000\"}}}}", "env",
                   "NUL");
    assert_refused(*state, "{\"environments\":{\"a\":{\"headers\":{\"A b\":\"\"}}}}", "headers",
                   "A b");
    assert_refused(*state, "{\"environments\":{\"a\":{\"headers\":{\"A\":\"x\\r\\ny\"}}}}",
                   "headers", "line end");
    assert_refused(*state, "{\"environments\":{\"a\":{\"kernel\":\"zmq\"}}}", "kernel", "runner");
    assert_refused(*state, "{\"environments\":{\"a\":{\"kernel_id\":\"a/b\"}}}", "kernel_id",
                   "a/b");
    assert_refused(*state, "{\"environments\":{\"a\":{\"command\":[]}}}", "command", "1");
    assert_refused(*state, "{\"environments\":{\"a\":{\"image\":\"a\\nb\"}}}", "image", "control");
    assert_refused(*state, "{\"environments\":{\"a\":{\"python\":\"bin/python\"}}}", "python",
                   "absolute");
    assert_refused(*state,
                   "{\"environments\":{\"a\":{\"shares\":[{\"type\":\"copy\",\"source\":\"x\","
                   "\"dest\":\"/d\"}]}}}",
                   "shares: [0].source", "absolute");
    assert_refused(*state,
                   "{\"environments\":{\"a\":{\"shares\":[{\"type\":\"copy\",\"source\":\"/x\","
                   "\"dest\":\"/etc/x\"}]}}}",
                   "shares: [0]", "/etc");
}

static void broken_files_are_named(void **state)
{
    const struct scene *s = *state;

    assert_refused(s, "", "line 1", "");
    assert_refused(s, "{\n\"environments\": {,}}", "line 2", "");
    assert_refused(s, "{\"environments\":{},\"environments\":{}}", "line 1", "uplicate");
    assert_refused(s, "{\"environments\":{\"a\xff\":{}}}", "line 1", "UTF-8");
    assert_refused(s, "{} x", "line 1", "end of file");
    assert_load_fails(s->dir, "directory", "JSON file");
    assert_load_fails("/dev/null", "regular file", "");
    assert_load_fails("/nonexistent/config.json", "", "No such file");
}

static void a_file_past_the_cap_is_refused(void **state)
{
    enum { MORE = 1024 * 1024 + 1 };
    char *text = malloc(MORE);

    assert_non_null(text);
    memset(text, ' ', MORE);
    text[0] = '{';
    text[1] = '}';
    write_bytes(*state, text, MORE);
    assert_load_fails(((struct scene *)*state)->file, "1 MiB", "");
    write_bytes(*state, text, MORE - 1);
    free(text);

    struct config config = {0};
    assert_int_equal(config_load(&config, ((struct scene *)*state)->file, NULL), 0);
    config_deinit(&config);
}

static void share_roots_are_resolved(void **state)
{
    struct scene *s = *state;
    struct config config;
    struct error err = {0};
    char link[64];

    load(s, "{}", &config);
    snprintf(link, sizeof(link), "%s/link", s->dir);
    assert_int_equal(symlink("/usr/./share/..", link), 0);
    assert_int_equal(config_add_share_root(&config, link, &err), 0);
    assert_int_equal(config_add_share_root(&config, "/", &err), 0);
    assert_string_equal(config.share_roots[0], "/usr");
    assert_string_equal(config.share_roots[1], "/");
    assert_null(config.share_roots[2]);
    assert_int_equal(config_add_share_root(&config, s->file, &err), -1);
    assert_non_null(strstr(err.message, "not a directory"));
    assert_int_equal(config_add_share_root(&config, "/nonexistent/none", &err), -1);
    error_clear(&err);
    unlink(link);
    config_deinit(&config);
}

static void an_unknown_environment_is_told_which_there_are(void **state)
{
    struct config config;
    struct error err = {0};

    load(*state, "{\"environments\":{\"small\":{},\"large\":{}}}", &config);
    assert_string_equal(config_environment(&config, "large", NULL)->name, "large");
    assert_null(config_environment(&config, "larg", &err));
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, "did you mean \"large\""));
    assert_non_null(strstr(err.message, "small, large, default"));
    error_clear(&err);
    config_deinit(&config);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_absent_default_file_means_the_defaults),
        TEST(the_default_file_is_found),
        TEST(every_key_arrives),
        TEST(every_key_of_modal_arrives),
        TEST(the_built_in_environment_yields_to_a_chosen_one),
        TEST(one_time_limit_follows_the_other),
        TEST(unknown_keys_and_values_name_the_nearest),
        TEST(wrong_values_are_named),
        TEST(broken_files_are_named),
        TEST(a_file_past_the_cap_is_refused),
        TEST(share_roots_are_resolved),
        TEST(an_unknown_environment_is_told_which_there_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
