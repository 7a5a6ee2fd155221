/* The snapshots that a server knows, and what a session that begins with one counts as. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "mcp/snapshots.h"

struct world {
    struct config config;
    struct environment environments[3];
    struct environment *list[3];
    struct snapshots *snapshots;
    struct environment *derived; /* of a session in the first of them */
};

static const char *const backends_of[] = {"modal", "modal", "local"};
static const char *const names[] = {"default", "other", "here"};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    for (int i = 0; i < 3; i++) {
        assert_int_equal(environment_init(&w->environments[i], names[i], backends_of[i]), 0);
        w->list[i] = &w->environments[i];
    }
    json_array_append_new(w->environments[0].packages, json_string("numpy"));
    w->config.environments = w->list;
    w->config.environment_count = 3;
    w->config.default_environment = w->list[0];
    w->snapshots = snapshots_new();
    w->derived = calloc(1, sizeof(*w->derived));
    assert_int_equal(environment_copy(w->derived, w->list[0]), 0);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    snapshots_free(w->snapshots);
    environment_deinit(w->derived);
    free(w->derived);
    for (int i = 0; i < 3; i++) {
        environment_deinit(&w->environments[i]);
    }
    free(w);
    return 0;
}

static struct snapshot *begin(struct world *w, const char *name, struct error *err)
{
    const struct snapshot_source source = {name, "s-1", w->list[0], w->derived};

    return snapshots_begin(w->snapshots, &source, err);
}

static void make(struct world *w, const char *name, const char *id)
{
    struct snapshot *s = begin(w, name, NULL);

    assert_non_null(s);
    assert_int_equal(snapshots_made(s, id), 0);
}

/* What the arguments come to, as text; to be freed. */
static char *wishes(struct world *w, const char *arguments)
{
    json_t *object = json_loads(arguments, 0, NULL), *ret = NULL;
    struct error err = {0};
    char *text;

    if (snapshots_wishes(w->snapshots, &w->config, object, &ret, &err) < 0) {
        text = strdup(err.message);
    } else {
        text = json_dumps(ret, JSON_SORT_KEYS | JSON_COMPACT);
    }
    error_clear(&err);
    json_decref(ret);
    json_decref(object);
    return text;
}

static void come_to(struct world *w, const char *arguments, const char *expected)
{
    char *text = wishes(w, arguments);

    assert_string_equal(text, expected);
    free(text);
}

static void refused(struct world *w, const char *arguments, const char *says)
{
    char *text = wishes(w, arguments);

    if (text[0] == '{' || !strstr(text, says)) {
        fail_msg("\"%s\" is not in: %s", says, text);
    }
    free(text);
}

static void without_one_nothing_changes(void **state)
{
    come_to(*state, "{\"cpu\":1,\"image\":\"x\"}", "{\"cpu\":1,\"image\":\"x\"}");
}

static void its_own_has_the_environment_that_it_was_taken_in(void **state)
{
    struct world *w = *state;

    w->config.default_environment = w->list[2];
    make(w, "s", "im-1");
    come_to(w, "{\"snapshot\":\"s\"}", "{\"environment\":\"default\",\"snapshot\":\"im-1\"}");
    come_to(w, "{\"cpu\":1,\"snapshot\":\"im-1\"}",
            "{\"cpu\":1,\"environment\":\"default\",\"snapshot\":\"im-1\"}");
}

/* Else a snapshot would be a way around the policy: what a person agreed to once, say. */
static void what_its_session_had_is_asked_for_again(void **state)
{
    struct world *w = *state;

    w->derived->image = strdup("python:3.13");
    json_array_append_new(w->derived->packages, json_string("pandas"));
    make(w, "s", "im-1");
    come_to(w, "{\"snapshot\":\"s\"}",
            "{\"environment\":\"default\",\"image\":\"python:3.13\",\"packages\":[\"numpy\","
            "\"pandas\"],\"snapshot\":\"im-1\"}");
}

static void in_another_environment_it_is_an_image(void **state)
{
    struct world *w = *state;

    make(w, "s", "im-1");
    come_to(w, "{\"snapshot\":\"s\",\"environment\":\"other\"}",
            "{\"environment\":\"other\",\"image\":\"im-1\",\"snapshot\":\"im-1\"}");
}

static void a_strangers_is_an_image(void **state)
{
    come_to(*state, "{\"snapshot\":\"im-9\"}", "{\"image\":\"im-9\",\"snapshot\":\"im-9\"}");
}

static void what_is_refused(void **state)
{
    struct world *w = *state;
    struct snapshot *s;

    refused(w, "{\"snapshot\":\"t\"}", "there are none");
    make(w, "s", "im-1");
    make(w, NULL, "im-2");
    refused(w, "{\"snapshot\":\"t\"}", "there are: im-2, s (im-1)");
    refused(w, "{\"snapshot\":\"im-\"}", "there are");
    refused(w, "{\"snapshot\":\"im-1/../2\"}", "there are");
    refused(w, "{\"snapshot\":\"s\",\"image\":\"x\"}", "image: ");
    refused(w, "{\"snapshot\":\"s\",\"packages\":[]}", "packages: ");
    refused(w, "{\"snapshot\":\"im-9\",\"environment\":\"here\"}", "modal");
    refused(w, "{\"snapshot\":\"s\",\"environment\":\"nowhere\"}", "nowhere");
    s = begin(w, "u", NULL);
    refused(w, "{\"snapshot\":\"u\"}", "still being made");
    snapshots_drop(w->snapshots, s);
    refused(w, "{\"snapshot\":\"u\"}", "there is no snapshot");
}

static void names_are_checked(void **state)
{
    static const char *const wrong[] = {"", "a b", "im-1", "s-1", "ä"};
    struct world *w = *state;
    struct error err = {0};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_null(begin(w, wrong[i], &err));
        assert_int_equal(err.kind, ERROR_INVALID);
        error_clear(&err);
    }
    make(w, "s", "im-1");
    assert_null(begin(w, "s", &err));
    assert_non_null(strstr(err.message, "another snapshot's"));
    error_clear(&err);
}

static void there_is_a_cap(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    char id[16];

    for (int i = 0; i < SNAPSHOTS_CAP; i++) {
        (void)snprintf(id, sizeof(id), "im-%d", i);
        make(w, NULL, id);
    }
    assert_null(begin(w, NULL, &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    error_clear(&err);
    snapshots_drop(w->snapshots, snapshots_find(w->snapshots, "im-7", NULL));
    make(w, NULL, "im-new");
}

/* It is as it was taken: what its session had narrowed is narrowed again, and nothing else. */
static void one_with_memory_is_as_it_was_taken(void **state)
{
    struct world *w = *state;
    struct snapshot_source source = {"m", "s-1", w->list[0], w->derived, .memory = true};
    struct snapshot *s;
    json_t *facts;

    w->derived->memory_mib = w->list[0]->memory_mib + 1;
    s = snapshots_begin(w->snapshots, &source, NULL);
    assert_non_null(s);
    refused(w, "{\"snapshot\":\"m\"}", "still being made");
    assert_int_equal(snapshots_made(s, "sn-1.7"), 0);
    facts = snapshot_facts(s);
    assert_true(json_is_true(json_object_get(facts, "memory")));
    json_decref(facts);
    come_to(w, "{\"snapshot\":\"sn-1.7\"}",
            "{\"environment\":\"default\",\"memory_mib\":1025,\"snapshot\":\"sn-1.7\"}");
    refused(w, "{\"snapshot\":\"m\",\"network\":\"none\"}", "network: ");
    refused(w, "{\"snapshot\":\"sn-9.1\",\"cpu\":1}", "cpu: ");
    come_to(w, "{\"snapshot\":\"sn-9.1\"}", "{\"image\":\"sn-9.1\",\"snapshot\":\"sn-9.1\"}");
    refused(w, "{\"snapshot\":\"sn-9.\"}", "there are");
    refused(w, "{\"snapshot\":\"im-9.1\"}", "there are");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_with_memory_is_as_it_was_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_one_nothing_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(its_own_has_the_environment_that_it_was_taken_in, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_its_session_had_is_asked_for_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(in_another_environment_it_is_an_image, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_strangers_is_an_image, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_are_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(there_is_a_cap, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
