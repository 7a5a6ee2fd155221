/* What a client may ask for, and the environment that comes of it. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "mcp/policy_ask.h"

struct world {
    struct environment base;
    struct policy policy;
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_int_equal(environment_init(&w->base, "data", "docker"), 0);
    w->base.image = strdup("python:3");
    json_array_append_new(w->base.packages, json_string("numpy"));
    json_object_set_new(w->base.env, "A", json_string("1"));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    environment_deinit(&w->base);
    policy_deinit(&w->policy);
    free(w);
    return 0;
}

static void allow(struct world *w, const char *policy)
{
    json_t *object = json_loads(policy, 0, NULL);

    assert_non_null(object);
    assert_int_equal(policy_fill(&w->policy, object, NULL), 0);
    json_decref(object);
}

static struct derived derive(struct world *w, const char *wishes)
{
    json_t *object = json_loads(wishes, 0, NULL);
    struct derived derived = {0};
    struct error err = {0};

    assert_non_null(object);
    if (policy_derive(&w->policy, &w->base, object, &derived, &err) < 0) {
        fail_msg("%s: %s", wishes, err.message);
    }
    json_decref(object);
    return derived;
}

static void assert_refused(struct world *w, const char *wishes, const char *says)
{
    json_t *object = json_loads(wishes, JSON_ALLOW_NUL, NULL);
    struct derived derived = {0};
    struct error err = {0};

    assert_non_null(object);
    assert_int_equal(policy_derive(&w->policy, &w->base, object, &derived, &err), -1);
    assert_null(derived.env);
    if (!strstr(err.message, says)) {
        fail_msg("%s: \"%s\" lacks \"%s\"", wishes, err.message, says);
    }
    error_clear(&err);
    json_decref(object);
}

static void nothing_wished_is_nothing_derived(void **state)
{
    struct derived derived = derive(*state, "{\"name\": \"x\", \"start\": true}");

    assert_null(derived.env);
    assert_false(derived.own_place);
}

static void times_need_no_place_of_their_own(void **state)
{
    struct world *w = *state;
    struct derived derived = derive(w, "{\"timeout_seconds\": 7, \"idle_timeout_seconds\": 8, "
                                       "\"max_lifetime_seconds\": 9}");

    assert_false(derived.own_place);
    assert_true(derived.env->timeout_seconds == 7);
    assert_true(derived.env->idle_timeout_seconds == 8);
    assert_true(derived.env->max_lifetime_seconds == 9);
    assert_true(derived.env->max_timeout_seconds == w->base.max_timeout_seconds);
    assert_true(w->base.timeout_seconds == 50);
    derived_deinit(&derived);
}

static void narrows(void **state)
{
    struct world *w = *state;
    struct derived derived;

    w->base.network = NETWORK_ALL;
    derived = derive(w, "{\"memory_mib\": 64, \"disk_mib\": 5, \"cpu\": 0.5, \"network\": "
                        "\"none\", \"mode\": \"stateful\"}");
    assert_true(derived.own_place);
    assert_int_equal(derived.env->memory_mib, 64);
    assert_int_equal(derived.env->disk_mib, 5);
    assert_true(derived.env->cpu == 0.5);
    assert_int_equal(derived.env->network, NETWORK_NONE);
    assert_int_equal(derived.env->pool, 0);
    assert_int_equal(derived.env->given, SETTING_MEMORY_MIB | SETTING_DISK_MIB | SETTING_CPU);
    /* All else is the environment's, in copies. */
    assert_string_equal(derived.env->name, "data");
    assert_string_equal(derived.env->image, "python:3");
    assert_ptr_not_equal(derived.env->image, w->base.image);
    assert_true(json_equal(derived.env->env, w->base.env));
    assert_ptr_not_equal(derived.env->env, w->base.env);
    assert_int_equal(w->base.memory_mib, 1024);
    derived_deinit(&derived);
}

static void an_ephemeral_one_keeps_its_pool(void **state)
{
    struct derived derived = derive(*state, "{\"mode\": \"ephemeral\"}");

    assert_int_equal(derived.env->mode, MODE_EPHEMERAL);
    assert_int_equal(derived.env->pool, 2);
    derived_deinit(&derived);
}

static void more_is_refused_and_says_what_is_allowed(void **state)
{
    struct world *w = *state;

    w->base.cpu = 2;
    assert_refused(w, "{\"memory_mib\": 1025}", "1024 at most");
    assert_refused(w, "{\"memory_mib\": 1025}", "policy.max_memory_mib");
    assert_refused(w, "{\"disk_mib\": 4096}", "policy.max_disk_mib");
    assert_refused(w, "{\"cpu\": 2.5}", "2 at most");
    assert_refused(w, "{\"timeout_seconds\": 3600.5}", "3600 at most");
    assert_refused(w, "{\"idle_timeout_seconds\": 1801}", "policy.max_idle_timeout_seconds");
    assert_refused(w, "{\"max_lifetime_seconds\": 86401}", "policy.max_lifetime_seconds");
    assert_refused(w, "{\"network\": \"all\"}", "policy.networks");
    assert_refused(w, "{\"image\": \"evil\"}", "policy.images");
    assert_refused(w, "{\"packages\": [\"numpy\", \"evil\"]}", "\"evil\"");
    assert_refused(w, "{\"packages\": [\"evil\"]}", "nothing may");
}

static void without_a_limit_any_cpu_is_less(void **state)
{
    struct derived derived = derive(*state, "{\"cpu\": 8}");

    assert_true(derived.env->cpu == 8);
    derived_deinit(&derived);
}

static void policy_widens(void **state)
{
    struct world *w = *state;
    struct derived derived;

    w->base.cpu = 1;
    allow(w, "{\"max_memory_mib\": 4096, \"max_disk_mib\": 2048, \"max_cpu\": 4, "
             "\"max_lifetime_seconds\": 100000, \"max_idle_timeout_seconds\": 2000, \"images\": "
             "[\"python:3.13\"], \"packages\": [\"pandas\"], \"networks\": [\"all\"]}");
    derived = derive(w, "{\"memory_mib\": 4096, \"disk_mib\": 2048, \"cpu\": 4, "
                        "\"max_lifetime_seconds\": 100000, \"idle_timeout_seconds\": 2000, "
                        "\"image\": \"python:3.13\", \"packages\": [\"pandas\", \"numpy\"], "
                        "\"network\": \"all\"}");
    assert_int_equal(derived.env->memory_mib, 4096);
    assert_int_equal(derived.env->network, NETWORK_ALL);
    assert_string_equal(derived.env->image, "python:3.13");
    assert_int_equal(json_array_size(derived.env->packages), 2); /* numpy once */
    assert_int_equal(json_array_size(w->base.packages), 1);
    derived_deinit(&derived);
    assert_refused(w, "{\"memory_mib\": 4097}", "4096 at most");
    assert_refused(w, "{\"image\": \"python:3.12\"}", "these may: python:3.13");
    assert_true(policy_lifetime(&w->policy, &w->base) == 100000);
}

static void a_policy_below_the_environment_takes_nothing_away(void **state)
{
    struct world *w = *state;
    struct derived derived;

    allow(w, "{\"max_memory_mib\": 64, \"max_lifetime_seconds\": 1}");
    derived = derive(w, "{\"memory_mib\": 1024}");
    assert_int_equal(derived.env->memory_mib, 1024);
    derived_deinit(&derived);
    assert_true(policy_lifetime(&w->policy, &w->base) == 86400);
}

static void words_that_are_near_are_not_the_same(void **state)
{
    struct world *w = *state;

    allow(w, "{\"images\": [\"python:3.13\"], \"packages\": [\"pandas\"]}");
    assert_refused(w, "{\"image\": \"Python:3.13\"}", "may not be asked for");
    assert_refused(w, "{\"image\": \" python:3.13\"}", "may not be asked for");
    assert_refused(w, "{\"image\": \"python:3.13\\u0000x\"}", "may not be asked for");
    assert_refused(w, "{\"image\": \"python:3\\u0000x\"}", "NUL");
    assert_refused(w, "{\"packages\": [\"pandas @ http://evil\"]}", "may not be asked for");
    assert_refused(w, "{\"packages\": [\"--index-url=http://evil\"]}", "may not be asked for");
    assert_refused(w, "{\"packages\": [\"pandas\\u0000x\"]}", "may not be asked for");
    assert_refused(w, "{\"network\": \"none\\u0000\"}", "NUL");
    assert_refused(w, "{\"network\": \"packages\"}", "not supported yet");
    assert_refused(w, "{\"network\": \"everything\"}", "is not one of");
}

static void a_gpu_is_the_environments_or_named(void **state)
{
    struct world *w = *state;
    struct derived derived;

    assert_refused(w, "{\"gpu\": \"H100\"}", "nothing may");
    assert_refused(w, "{\"gpu\": \"H100\"}", "with policy.gpu");
    w->base.gpu = strdup("A10G:2");
    derived = derive(w, "{\"gpu\": \"A10G\"}");
    assert_true(derived.own_place);
    assert_string_equal(derived.env->gpu, "A10G");
    assert_string_equal(w->base.gpu, "A10G:2");
    derived_deinit(&derived);
    derived = derive(w, "{\"gpu\": \"A10G:2\"}");
    derived_deinit(&derived);
    derived = derive(w, "{\"memory_mib\": 64}");
    assert_string_equal(derived.env->gpu, "A10G:2");
    derived_deinit(&derived);
    assert_refused(w, "{\"gpu\": \"A10G:3\"}", "\"A10G:3\" may not");
    assert_refused(w, "{\"gpu\": \"A10\"}", "nothing may");
    assert_refused(w, "{\"gpu\": \"A10G:\"}", "nothing may");
    assert_refused(w, "{\"gpu\": \"A10G:0\"}", "nothing may");
    assert_refused(w, "{\"gpu\": \"A10G:2\\u0000\"}", "NUL");
    allow(w, "{\"gpu\": [\"H100\", \"T4:4\"]}");
    assert_refused(w, "{\"gpu\": \"H100:2\"}", "these may: H100, T4:4");
    assert_refused(w, "{\"gpu\": \"T4:99999999999999999999\"}", "these may");
    assert_refused(w, "{\"gpu\": \"h100\"}", "these may");
    derived = derive(w, "{\"gpu\": \"T4:3\"}");
    derived_deinit(&derived);
}

static void any_gpu_or_none(void **state)
{
    struct world *w = *state;
    struct derived derived;

    allow(w, "{\"gpu\": false}");
    assert_refused(w, "{\"gpu\": \"H100\"}", "nothing may");
    allow(w, "{\"gpu\": true}");
    derived = derive(w, "{\"gpu\": \"H100:8\"}");
    derived_deinit(&derived);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* --- what a person may be asked for --- */

static json_t *wants(struct world *w, const char *wishes)
{
    json_t *object = json_loads(wishes, 0, NULL);
    json_t *lines = policy_ask_wants(&w->policy, &w->base, object);

    assert_non_null(object);
    json_decref(object);
    return lines;
}

static void assert_wants(struct world *w, const char *wishes, const char *says)
{
    json_t *lines = wants(w, wishes);
    char *text = lines ? json_dumps(lines, 0) : NULL;

    assert_non_null(lines);
    if (!strstr(text, says)) {
        fail_msg("%s: %s lacks %s", wishes, text, says);
    }
    free(text);
    json_decref(lines);
}

static void what_is_between_is_asked_for(void **state)
{
    struct world *w = *state;

    allow(w, "{\"max_memory_mib\": 2048, \"packages\": [\"a\"], \"ask\": {\"max_memory_mib\": "
             "4096, \"max_timeout_seconds\": 7200, \"packages\": [\"b\"], \"images\": [\"i\"], "
             "\"networks\": [\"all\"], \"wait_seconds\": 7}}");
    assert_true(w->policy.ask->wait_seconds == 7);
    assert_null(wants(w, "{\"memory_mib\": 2048, \"packages\": [\"a\", \"numpy\"]}"));
    assert_wants(w, "{\"memory_mib\": 2049, \"packages\": [\"a\"]}",
                 "[\"2049 MiB of memory (without asking: 2048)\"]");
    assert_wants(w, "{\"timeout_seconds\": 7200}",
                 "[\"runs that take up to 7200 seconds (2 hours) (without asking: 3600 seconds (60 "
                 "minutes))\"]");
    assert_wants(w, "{\"packages\": [\"a\", \"b\"], \"image\": \"i\"}",
                 "[\"the image \\\"i\\\"\", \"the package \\\"b\\\"\"]");
    assert_wants(w, "{\"network\": \"all\", \"mode\": \"ephemeral\"}",
                 "everything that this computer can reach\"]");
    /* All of it may be had, or nobody is asked. */
    assert_null(wants(w, "{\"gpu\": \"H100\"}"));
    assert_null(wants(w, "{\"memory_mib\": 4097}"));
    assert_null(wants(w, "{\"memory_mib\": 4096, \"disk_mib\": 4096}"));
    assert_null(wants(w, "{\"packages\": [\"b\", \"c\"]}"));
    assert_null(wants(w, "{\"network\": \"packages\"}"));
    assert_null(wants(w, "{\"memory_mib\": 4096, \"secrets\": [\"s\"]}"));
}

static void a_gpu_is_asked_for(void **state)
{
    struct world *w = *state;

    allow(w, "{\"gpu\": [\"T4\"], \"ask\": {\"gpu\": [\"H100:2\"]}}");
    assert_null(wants(w, "{\"gpu\": \"T4\"}"));
    assert_wants(w, "{\"gpu\": \"H100:2\"}", "[\"the GPU \\\"H100:2\\\"\"]");
    assert_null(wants(w, "{\"gpu\": \"H100:3\"}"));
    policy_deinit(&w->policy);
    allow(w, "{\"gpu\": [\"T4\"], \"ask\": {\"gpu\": true}}");
    assert_wants(w, "{\"gpu\": \"H100:3\"}", "H100:3");
}

static void what_was_agreed_to_is_derived(void **state)
{
    struct world *w = *state;
    json_t *wishes = json_pack("{si sf}", "memory_mib", 4096, "timeout_seconds", 7200.0);
    struct derived derived = {0};

    allow(w, "{\"ask\": {\"max_memory_mib\": 4096, \"max_timeout_seconds\": 7200}}");
    assert_refused(w, "{\"memory_mib\": 4096}", "1024 at most");
    assert_int_equal(policy_derive(&w->policy.ask->most, &w->base, wishes, &derived, NULL), 0);
    assert_int_equal(derived.env->memory_mib, 4096);
    assert_true(derived.env->timeout_seconds == 7200 && derived.env->max_timeout_seconds == 7200);
    derived_deinit(&derived);
    json_decref(wishes);
}

static void folders_are_resolved(void **state)
{
    struct world *w = *state;
    json_t *object = json_pack("{s{s[ss]}}", "ask", "shares", "/usr/../usr/bin/", "/none/such");
    struct error err = {0};

    assert_int_equal(policy_fill(&w->policy, object, &err), -1);
    assert_non_null(strstr(err.message, "policy.ask.shares[1]: \"/none/such\""));
    error_clear(&err);
    policy_deinit(&w->policy);
    json_array_remove(json_object_get(json_object_get(object, "ask"), "shares"), 1);
    assert_int_equal(policy_fill(&w->policy, object, NULL), 0);
    assert_string_equal(json_string_value(json_array_get(w->policy.ask->shares, 0)), "/usr/bin");
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_wished_is_nothing_derived),
        TEST(times_need_no_place_of_their_own),
        TEST(narrows),
        TEST(an_ephemeral_one_keeps_its_pool),
        TEST(more_is_refused_and_says_what_is_allowed),
        TEST(without_a_limit_any_cpu_is_less),
        TEST(policy_widens),
        TEST(a_policy_below_the_environment_takes_nothing_away),
        TEST(words_that_are_near_are_not_the_same),
        TEST(what_is_between_is_asked_for),
        TEST(a_gpu_is_the_environments_or_named),
        TEST(any_gpu_or_none),
        TEST(a_gpu_is_asked_for),
        TEST(what_was_agreed_to_is_derived),
        TEST(folders_are_resolved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
