/* What a session that was left may have when it is attached. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "mcp/session_again.h"

struct world {
    struct environment base;
    struct config config;
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_int_equal(environment_init(&w->base, "far", "jupyter"), 0);
    json_array_append_new(w->base.secrets, json_string("own"));
    w->config.secrets = json_pack("{s{ss ss} s{ss ss}}", "own", "variable", "A", "env", "A",
                                  "asked", "variable", "B", "env", "B");
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    environment_deinit(&w->base);
    policy_deinit(&w->config.policy);
    json_decref(w->config.secrets);
    free(w);
    return 0;
}

static void allow(struct world *w, const char *policy)
{
    json_t *object = json_loads(policy, 0, NULL);

    assert_non_null(object);
    policy_deinit(&w->config.policy);
    assert_int_equal(policy_fill(&w->config.policy, object, NULL), 0);
    json_decref(object);
}

static int derive(struct world *w, const char *text, bool to_end, struct derived *ret,
                  struct error *err)
{
    json_t *record = json_loads(text, 0, NULL);
    int r;

    assert_non_null(record);
    r = session_derive_again(&w->config, &w->base, record, to_end, ret, err);
    json_decref(record);
    return r;
}

static void assert_refused(struct world *w, const char *record, const char *says)
{
    struct derived derived = {0};
    struct error err = {0};

    assert_int_equal(derive(w, record, false, &derived, &err), -1);
    if (!strstr(err.message, says)) {
        fail_msg("%s: \"%s\" lacks \"%s\"", record, err.message, says);
    }
    error_clear(&err);
    assert_int_equal(derive(w, record, true, &derived, NULL), 0); /* it can be ended */
    derived_deinit(&derived);
}

static void assert_granted(struct world *w, const char *record, const char *secrets)
{
    struct derived derived = {0};
    struct error err = {0};
    char *names;

    if (derive(w, record, false, &derived, &err) < 0) {
        fail_msg("%s: %s", record, err.message);
    }
    names = json_dumps(derived.env ? derived.env->secrets : w->base.secrets, JSON_COMPACT);
    assert_string_equal(names, secrets);
    free(names);
    derived_deinit(&derived);
}

static void secrets_are_those_of_before(void **state)
{
    struct world *w = *state;

    assert_granted(w, "{}", "[\"own\"]");
    assert_granted(w, "{\"secrets\": [\"own\"], \"wishes\": {}}", "[\"own\"]");
    assert_refused(w, "{\"secrets\": [\"own\", \"asked\"]}", "narrowed since the session was made");
    allow(w, "{\"secrets\": [\"asked\"]}");
    assert_granted(w, "{\"secrets\": [\"own\", \"asked\"], \"wishes\": {\"secrets\": [\"asked\"]}}",
                   "[\"own\",\"asked\"]");
    /* The environment had it, and has it no more. */
    json_array_clear(w->base.secrets);
    assert_refused(w, "{\"secrets\": [\"own\"]}", "\"own\" may not be asked for");
    allow(w, "{\"secrets\": [\"own\"]}");
    assert_granted(w, "{\"secrets\": [\"own\"]}", "[\"own\"]");
    assert_refused(w, "{\"secrets\": [\"gone\"]}",
                   "which the config's table \"secrets\" has no more");
}

static void what_was_agreed_to_may_still_be_asked_for(void **state)
{
    static const char yes[] = "{\"consented\": true, \"wishes\": {\"memory_mib\": 4000}}";
    static const char no[] = "{\"consented\": false, \"wishes\": {\"memory_mib\": 4000}}";
    struct world *w = *state;

    assert_refused(w, no, "narrowed since the session was made");
    assert_refused(w, yes, "what a person had agreed to");
    allow(w, "{\"ask\": {\"max_memory_mib\": 4000}}");
    assert_granted(w, yes, "[\"own\"]");
    assert_refused(w, no, "4000 is more than");
    allow(w, "{\"ask\": {\"max_memory_mib\": 3999}}");
    assert_refused(w, yes, "may not even be asked for");
    allow(w, "{\"max_memory_mib\": 4000}");
    assert_granted(w, no, "[\"own\"]");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(secrets_are_those_of_before),
        TEST(what_was_agreed_to_may_still_be_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
