/* The runner over a byte stream: output that stays at the far side, and a far side that lies about
 * it. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/supervised-trial.h"

#define MARKER FRAME_MARKER "3.11.2\x03"
#define HELLO(REST) "{\"cellblock\":1,\"python\":\"3.11.2\",\"folder\":\"/tmp/x\"" REST "}"
#define GREETING                                                                                   \
    "{\"cellblock\":1,\"python\":\"3.11.2\",\"implementation\":\"CPython\",\"ipython\":null}"
#define DONE                                                                                       \
    "{\"run\":\"r-1\",\"status\":\"ok\",\"exit_code\":null,\"signal\":null,\"error\":null,"        \
    "\"execution_count\":1,\"cpu_ms\":0,\"peak_rss_kib\":0}"

static void feed_frame(struct host *h, int type, const char *payload)
{
    unsigned char header[FRAME_HEADER];

    frame_header(header, (enum frame_type)type, strlen(payload));
    supervised_feed(h->supervised, (const char *)header, sizeof(header));
    supervised_feed(h->supervised, payload, strlen(payload));
}

/* One whose worker waits for a run. */
static struct host *ready(const char *hello)
{
    struct host *h = host_new(NULL);

    supervised_open(h->supervised);
    supervised_feed(h->supervised, MARKER, sizeof(MARKER) - 1);
    feed_frame(h, FRAME_HELLO, hello);
    supervised_start_worker(h->supervised);
    feed_frame(h, FRAME_STARTED, "{\"pid\":1}");
    feed_frame(h, FRAME_GREETING, GREETING);
    assert_int_equal(h->readies, 1);
    h->sent_size = 0;
    return h;
}

static void begin_with(struct host *h, const char *code, bool keep, size_t head)
{
    const struct run_request request = {.id = "r-1",
                                        .language = "python",
                                        .code = code,
                                        .code_size = strlen(code),
                                        .keep_full_output = keep,
                                        .output_head = head,
                                        .output_tail = head};

    h->output[0] = '\0';
    assert_int_equal(runner_kernel.run(h->kernel, &request), 0);
}

/* … and a run is going in it. */
static struct host *going(void)
{
    struct host *h = ready(HELLO(",\"output\":true"));

    begin_with(h, "1", true, 100);
    feed_frame(h, FRAME_BEGUN, "");
    return h;
}

/* The frame at `at` of what was sent: its type, its object, and where the next one is. */
static int sent_frame(const struct host *h, size_t *at, json_t **ret)
{
    const unsigned char *p = (const unsigned char *)h->sent + *at;
    size_t size = (size_t)p[0] | (size_t)p[1] << 8;

    assert_true(*at + FRAME_HEADER + size <= h->sent_size);
    *ret = json_loadb((const char *)p + FRAME_HEADER, size, 0, NULL);
    assert_non_null(*ret);
    *at += FRAME_HEADER + size;
    return p[4];
}

static json_int_t number_of(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

static void test_the_plan_goes_with_the_run(void **state)
{
    struct host *h = ready(HELLO(",\"output\":true"));
    size_t at = 0;
    json_t *plan, *run;

    (void)state;
    assert_true(runner_kernel.keeps(h->kernel));
    begin_with(h, "1", true, 100);
    assert_int_equal(sent_frame(h, &at, &plan), FRAME_OUTPUT);
    assert_int_equal(sent_frame(h, &at, &run), FRAME_RUN);
    assert_int_equal(at, h->sent_size);
    assert_string_equal(json_string_value(json_object_get(plan, "path")),
                        "/workspace/.cellblock/r-1");
    assert_int_equal(number_of(plan, "after"), RUN_SPOOL_AFTER);
    assert_int_equal(number_of(plan, "cap"), RUN_SPOOL_CAP);
    assert_int_equal(number_of(plan, "head"), 100);
    assert_int_equal(number_of(plan, "tail"), 100);
    json_decref(plan);
    json_decref(run);
    host_free(h);
}

static void test_no_plan_where_there_is_nothing_to_plan(void **state)
{
    static const char *const hellos[] = {HELLO(""), HELLO(",\"output\":true"),
                                         HELLO(",\"output\":1")};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct host *h = ready(hellos[i]);
        bool keeps = i == 1;

        assert_int_equal(runner_kernel.keeps(h->kernel), keeps);
        begin_with(h, "1", !keeps, keeps ? 0 : 100); /* nothing is asked of the one that can */
        assert_int_equal((unsigned char)h->sent[4], FRAME_RUN);
        host_free(h);
    }
}

static void test_what_it_says(void **state)
{
    struct host *h = going();

    (void)state;
    feed_frame(h, FRAME_STDOUT, "head");
    feed_frame(h, FRAME_HELD, "{\"stream\":\"stdout\",\"bytes\":50,\"lines\":3}");
    feed_frame(h, FRAME_SAMPLE, "\001newest\n");
    feed_frame(h, FRAME_STDOUT, "tail");
    feed_frame(h, FRAME_HELD, "{\"stream\":\"stderr\",\"bytes\":7,\"lines\":0}");
    feed_frame(h, FRAME_KEPT, "{\"stdout\":58,\"stderr\":7}");
    assert_string_equal(h->output, "head[0:50:3](1:newest\n)tail[1:7:0]{0:58}{1:7}");
    feed_frame(h, FRAME_DONE, DONE);
    assert_int_equal(h->replies, 1);
    feed_frame(h, FRAME_HELD, "{\"stream\":\"stdout\",\"bytes\":50,\"lines\":3}"); /* of no run */
    feed_frame(h, FRAME_KEPT, "{\"stdout\":58}");
    assert_non_null(strstr(h->output, "{1:7}"));
    assert_string_equal(strstr(h->output, "{1:7}"), "{1:7}");
    assert_int_equal(h->brokens, 0);
    host_free(h);
}

static void test_what_cannot_be(void **state)
{
    static const struct {
        int type;
        const char *payload;
    } lies[] = {
        {FRAME_HELD, "{}"},
        {FRAME_HELD, "{\"stream\":\"stdin\",\"bytes\":1,\"lines\":0}"},
        {FRAME_HELD, "{\"stream\":1,\"bytes\":1,\"lines\":0}"},
        {FRAME_HELD, "{\"stream\":\"stdout\",\"bytes\":0,\"lines\":0}"},
        {FRAME_HELD, "{\"stream\":\"stdout\",\"bytes\":-1,\"lines\":0}"},
        {FRAME_HELD, "{\"stream\":\"stdout\",\"bytes\":1.5,\"lines\":0}"},
        {FRAME_HELD, "{\"stream\":\"stdout\",\"bytes\":1,\"lines\":2}"},
        {FRAME_HELD, "{\"stream\":\"stdout\",\"bytes\":1,\"lines\":-1}"},
        {FRAME_HELD, "{\"stream\":\"stdout\",\"bytes\":9223372036854775807,\"lines\":0}"},
        {FRAME_HELD, "{\"stream\":\"stdout\",\"bytes\":99999999999999999999,\"lines\":0}"},
        {FRAME_HELD, "[]"},
        {FRAME_SAMPLE, ""},
        {FRAME_SAMPLE, "\002text"},
        {FRAME_KEPT, "{\"stdout\":0}"},
        {FRAME_KEPT, "{\"stdout\":-7}"},
        {FRAME_KEPT, "{\"stderr\":\"all\"}"},
        {FRAME_KEPT, "7"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct host *h = going();

        feed_frame(h, lies[i].type, lies[i].payload);
        if (h->brokens != 1 || h->exits != 1) {
            fail_msg("type %d %s: %d broken", lies[i].type, lies[i].payload, h->brokens);
        }
        assert_string_equal(h->output, "");
        host_free(h);
    }
}

/* Each may be, and all together not: no sum of them runs over. */
static void test_counts_that_add_up_to_too_much(void **state)
{
    static const char most[] = "{\"stream\":\"stdout\",\"bytes\":1125899906842624,\"lines\":0}";
    struct host *h = going();

    (void)state;
    feed_frame(h, FRAME_HELD, most);
    assert_int_equal(h->brokens, 0);
    feed_frame(h, FRAME_HELD, "{\"stream\":\"stderr\",\"bytes\":1,\"lines\":0}");
    assert_int_equal(h->brokens, 1);
    host_free(h);
}

static void test_one_that_cannot_keep_says_that_it_does(void **state)
{
    struct host *h = ready(HELLO(""));

    (void)state;
    begin_with(h, "1", true, 100);
    feed_frame(h, FRAME_BEGUN, "");
    feed_frame(h, FRAME_HELD, "{\"stream\":\"stdout\",\"bytes\":1,\"lines\":0}");
    assert_int_equal(h->brokens, 1);
    host_free(h);
}

/* ---- the real one ---- */

static void test_the_real_one(void **state)
{
    const struct supervised_options options = {.start_at_once = true};
    struct host *h = host_with_python(&options, NULL);
    char path[256];
    struct stat st;

    (void)state;
    wait_for(h, &h->readies, 1);
    begin_with(h, "for n in range(100_000): print('x' * 99)", true, 200);
    wait_for(h, &h->replies, 1);
    assert_non_null(strstr(h->output, "[0:9999600:99996]"));
    assert_non_null(strstr(h->output, "{0:10000000}"));
    assert_int_equal(h->output_total, 400);
    (void)snprintf(path, sizeof(path), "%s/workspace/.cellblock/r-1.stdout",
                   supervised_folder(h->supervised));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 10000000);
    host_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_plan_goes_with_the_run),
        cmocka_unit_test(test_no_plan_where_there_is_nothing_to_plan),
        cmocka_unit_test(test_what_it_says),
        cmocka_unit_test(test_what_cannot_be),
        cmocka_unit_test(test_counts_that_add_up_to_too_much),
        cmocka_unit_test(test_one_that_cannot_keep_says_that_it_does),
        cmocka_unit_test(test_the_real_one),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
