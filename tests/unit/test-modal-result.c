/* What the service's word on a sandbox's end means, and whose a sandbox is. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/modal/internal.h"

/* ---- the service's word ---- */

static void test_the_service_s_word(void **state)
{
    static const struct {
        unsigned status;
        enum exit_how how;
        const char *word;
    } ends[] = {{1, EXIT_LOST, "own process"},   {2, EXIT_LOST, "failed"},
                {3, EXIT_LOST, "terminated"},    {4, EXIT_LOST, "max_lifetime_seconds"},
                {5, EXIT_LOST, "not start"},     {6, EXIT_LOST, "failure of its own"},
                {7, EXIT_LOST, "idle"},          {8, EXIT_OUT_OF_MEMORY, "evicted"},
                {9, EXIT_OUT_OF_MEMORY, "full"}, {10, EXIT_OUT_OF_MEMORY, "out of memory"},
                {77, EXIT_LOST, "(77)"}};
    Modal__Client__GenericResult result = MODAL__CLIENT__GENERIC_RESULT__INIT;
    struct machine_exit exit;
    char *words = NULL;

    (void)state;
    assert_false(result_exit(NULL, 256, &exit, &words));
    assert_false(result_exit(&result, 256, &exit, &words));
    result.exception = "first\nthe \x1breason";
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        result.status = ends[i].status;
        assert_true(result_exit(&result, 256, &exit, &words));
        assert_int_equal(exit.how, ends[i].how);
        assert_int_equal(exit.limit, exit.how == EXIT_OUT_OF_MEMORY ? 256 << 20 : 0);
        assert_non_null(strstr(words, ends[i].word));
        assert_non_null(strstr(words, "reason"));
        assert_null(strchr(words, '\x1b'));
        assert_ptr_equal(exit.message, words);
        assert_false(exit.kept);
        free(words);
    }
}

/* ---- whose it is ---- */

struct tags {
    Modal__Client__SandboxTag tags[OWNER_TAGS_MAX];
    Modal__Client__SandboxTag *list[OWNER_TAGS_MAX];
};

static void fill_tags(struct tags *t, const struct owner_tags *mine)
{
    for (size_t i = 0; mine->list[2 * i]; i++) {
        modal__client__sandbox_tag__init(&t->tags[i]);
        t->tags[i].tag_name = (char *)mine->list[2 * i];
        t->tags[i].tag_value = (char *)mine->list[2 * i + 1];
        t->list[i] = &t->tags[i];
    }
}

static void test_whose_a_sandbox_is(void **state)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    struct owner_tags mine;
    struct tags t;

    (void)state;
    owner_tags(&mine, "a b/1");
    fill_tags(&t, &mine);
    assert_null(mine.list[(size_t)2 * OWNER_TAGS]);
    for (unsigned i = 0; i < OWNER_TAGS; i++) {
        assert_true(strlen(t.list[i]->tag_value) > 0 && strlen(t.list[i]->tag_value) < 64);
        assert_int_equal(strspn(t.list[i]->tag_value, good), strlen(t.list[i]->tag_value));
    }
    assert_string_equal(owner_tag(t.list, OWNER_TAGS, OWNER_TAG_SANDBOX), "a-b-1");
    assert_string_equal(owner_tag(t.list, OWNER_TAGS, "no-such"), "");
    assert_false(owner_is_dead(t.list, OWNER_TAGS)); /* that is us */
    assert_false(owner_is_dead(t.list, 0));
    t.tags[OWNER_PROCESS].tag_value = "1.1"; /* another start than that process had */
    assert_true(owner_is_dead(t.list, OWNER_TAGS));
    t.tags[OWNER_PIDS].tag_value = "pid-elsewhere";
    assert_false(owner_is_dead(t.list, OWNER_TAGS));
    t.tags[OWNER_BOOT].tag_value = "another-boot";
    assert_true(owner_is_dead(t.list, OWNER_TAGS));
    t.tags[OWNER_PROCESS].tag_value = "1x";
    assert_false(owner_is_dead(t.list, OWNER_TAGS));
    t.tags[OWNER_PROCESS].tag_value = "1.1";
    t.tags[OWNER_HOST].tag_value = "another-host";
    assert_false(owner_is_dead(t.list, OWNER_TAGS));
}

static void test_one_that_is_kept(void **state)
{
    struct owner_tags mine;
    struct tags t;

    (void)state;
    owner_tags(&mine, "a");
    fill_tags(&t, &mine);
    assert_false(owner_is_kept(t.list, OWNER_TAGS));
    owner_keep(&mine, "word", 100);
    fill_tags(&t, &mine);
    assert_null(mine.list[(size_t)2 * OWNER_TAGS_MAX]);
    assert_string_equal(owner_tag(t.list, OWNER_TAGS_MAX, OWNER_TAG_KEPT), "word");
    assert_true(owner_is_kept(t.list, OWNER_TAGS_MAX));
    assert_false(owner_is_kept(t.list, OWNER_UNTIL)); /* for how long, it does not say */
    owner_keep(&mine, "word", -1);
    fill_tags(&t, &mine);
    assert_false(owner_is_kept(t.list, OWNER_TAGS_MAX)); /* its time is over */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_service_s_word),
        cmocka_unit_test(test_whose_a_sandbox_is),
        cmocka_unit_test(test_one_that_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
