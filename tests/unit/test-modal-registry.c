/* A private registry: how it is opened, as the variables of its secret say. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/modal/image_recipe.h"
#include "backends/modal/resources_internal.h"

enum { KEYS = 16 };

static int setup(void **state)
{
    struct environment *env = calloc(1, sizeof(*env));

    *state = env;
    assert_int_equal(environment_init(env, "x", "modal"), 0);
    env->registry_secret = strdup("keys");
    env->image = strdup("private.example/it:1");
    return 0;
}

static int teardown(void **state)
{
    environment_deinit(*state);
    free(*state);
    return 0;
}

/* The kind of a secret with these variables, or -1 and the error. */
static int auth_of(const struct environment *env, const char *names, struct error *ret)
{
    struct modal_resources r = {.env = env};
    char space[512], *keys[KEYS], *rest = NULL;
    size_t count = 0;

    (void)snprintf(space, sizeof(space), "%s", names);
    for (char *key = strtok_r(space, " ", &rest); key && count < KEYS;
         key = strtok_r(NULL, " ", &rest)) {
        keys[count++] = key;
    }
    if (resources_take_registry(&r, "st-1", keys, count) < 0) {
        error_copy(ret, &r.failure);
        error_clear(&r.failure);
        return -1;
    }
    assert_int_equal(r.failure.kind, ERROR_NONE);
    assert_string_equal(r.registry.secret_id, "st-1");
    return r.registry.auth;
}

static void test_its_variables_say_which(void **state)
{
    static const struct {
        const char *names;
        int auth;
    } ways[] = {
        {"AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION", 1},
        {"AWS_SESSION_TOKEN AWS_REGION AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID", 1},
        {"AWS_ROLE_ARN AWS_REGION", 1},
        {"AWS_ROLE_ARN AWS_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY", 1},
        {"SERVICE_ACCOUNT_JSON OTHER", 2},
        {"REGISTRY_PASSWORD REGISTRY_USERNAME", 4},
    };

    for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        assert_int_equal(auth_of(*state, ways[i].names, NULL), ways[i].auth);
    }
}

static void expect_words(const struct error *err, const char *word)
{
    const char *said = err->message ? err->message : "";

    if (!strstr(said, word)) {
        fail_msg("\"%s\" does not say \"%s\"", said, word);
    }
}

static void expect_refused(const struct environment *env, const char *names, const char *word)
{
    struct error err = {0};

    assert_int_equal(auth_of(env, names, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    expect_words(&err, word);
    expect_words(&err, "\"keys\"");
    error_clear(&err);
}

static void test_none_of_them_or_too_many(void **state)
{
    struct environment *env = *state;

    expect_refused(env, "", "the variables none");
    expect_refused(env, "AWS_ACCESS_KEY_ID AWS_REGION", "AWS_ACCESS_KEY_ID, AWS_REGION");
    expect_refused(env, "SERVICE_ACCOUNT_JSON REGISTRY_USERNAME REGISTRY_PASSWORD",
                   "more than one");
    expect_refused(env, "A B C D E F G H I J K L M N O", "and 3 more");
    env->registry_auth = strdup("static");
    assert_int_equal(auth_of(env, "SERVICE_ACCOUNT_JSON REGISTRY_USERNAME REGISTRY_PASSWORD", NULL),
                     4);
    assert_int_equal(auth_of(env, "", NULL), 4); /* the service says what it lacks */
}

static void expect_unusable(const struct environment *env, const char *word)
{
    struct error err = {0};

    assert_int_equal(modal_recipe_check(env, &err), -1);
    expect_words(&err, word);
    error_clear(&err);
}

static void test_where_there_is_no_registry(void **state)
{
    struct environment *env = *state;
    struct modal_recipe recipe = {0};

    assert_int_equal(modal_recipe_make(env, "2025.06", true, &recipe, NULL), 0);
    assert_int_equal(recipe.count, 2);
    assert_true(recipe.layers[0].from_registry);
    assert_false(recipe.layers[1].from_registry); /* its base is ours */
    modal_recipe_deinit(&recipe);
    free(env->image);
    env->image = strdup("im-123");
    expect_unusable(env, "registry_secret");
    free(env->image);
    env->image = NULL;
    expect_unusable(env, "not given");
    free(env->registry_secret);
    env->registry_secret = NULL;
    env->registry_auth = strdup("aws");
    expect_unusable(env, "registry_auth");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_its_variables_say_which, setup, teardown),
        cmocka_unit_test_setup_teardown(test_none_of_them_or_too_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_where_there_is_no_registry, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
