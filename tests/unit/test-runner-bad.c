/* The runner kernel: bad frames, and streams that fail. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/runner-trial.h"

/* ---- bad frames ---- */

struct bad_frame {
    int type;
    const char *payload;
};

static const struct bad_frame bad_frames[] = {
    {FRAME_GREETING, GREETING}, /* a second one */
    {FRAME_RUN, "{}"},
    {0x77, ""},
    {FRAME_NOTE, ""},
    {FRAME_NOTE, "nonsense"},
    {FRAME_NOTE, "[]"},
    {FRAME_NOTE, "{}"},
    {FRAME_NOTE, "{\"text\":1}"},
    {FRAME_NOTE, "{\"text\":\"\xff\"}"},
    {FRAME_CLEAR, "{}"},
    {FRAME_CLEAR, "{\"wait\":1}"},
    {FRAME_DISPLAY, "{}"},
    {FRAME_DISPLAY, "{\"kind\":\"picture\",\"data\":{},\"metadata\":{}}"},
    {FRAME_DISPLAY, "{\"kind\":\"display\",\"data\":[],\"metadata\":{}}"},
    {FRAME_DISPLAY, "{\"kind\":\"display\",\"data\":{},\"metadata\":1}"},
    {FRAME_DISPLAY, "{\"kind\":\"display\",\"data\":{},\"metadata\":{},\"display_id\":1}"},
    {FRAME_DISPLAY, "{\"kind\":\"display\",\"data\":{},\"metadata\":{},\"sync\":1}"},
    {FRAME_DONE, "{}"},
    {FRAME_DONE, "{\"run\":1,\"status\":\"ok\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"fine\"}"},
    {FRAME_DONE, "{\"run\":\"r-2\",\"status\":\"ok\"}"},
    {FRAME_DONE, "{\"run\":\"r-1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"status\":\"ok\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\",\"exit_code\":1.5}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\",\"exit_code\":99999999999}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"exit\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"signal\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"signal\",\"signal\":-1}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"error\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"error\",\"error\":{}}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"error\",\"error\":\"E\"}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\",\"cpu_ms\":-1}"},
    {FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\",\"cpu_ms\":1e3}"},
};

static void test_every_bad_frame_breaks_off(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_frames) / sizeof(bad_frames[0]); i++) {
        void *own;
        assert_int_equal(setup(&own), 0);
        struct host *h = own;
        greeted(h);
        assert_int_equal(start(h, "r-1"), 0);
        feed(h, bad_frames[i].type, bad_frames[i].payload);
        if (!h->broken[0] || h->replies > 0) {
            fail_msg("taken: %d %s", bad_frames[i].type, bad_frames[i].payload);
        }
        /* Nothing is listened to afterwards, and nothing is sent. */
        feed(h, FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\"}");
        feed(h, FRAME_STDOUT, "more");
        assert_int_equal(h->replies, 0);
        assert_string_equal(h->log, "");
        assert_int_equal(start(h, "r-2"), -EPIPE);
        assert_int_equal(teardown(&own), 0);
    }
}

static void first_frame_breaks(int type, const char *payload)
{
    void *own;

    assert_int_equal(setup(&own), 0);
    struct host *h = own;
    feed(h, type, payload);
    assert_true(h->broken[0]);
    assert_string_equal(h->ready, "");
    assert_int_equal(teardown(&own), 0);
}

static void test_greeting_comes_first_and_is_checked(void **state)
{
    (void)state;
    first_frame_breaks(FRAME_STDOUT, "x");
    first_frame_breaks(FRAME_DONE, "{\"run\":\"r-1\",\"status\":\"ok\"}");
    first_frame_breaks(FRAME_GREETING, "{}");
    first_frame_breaks(FRAME_GREETING,
                       "{\"cellblock\":2,\"python\":\"3\",\"implementation\":\"CPython\"}");
    first_frame_breaks(FRAME_GREETING, "{\"cellblock\":1,\"python\":3}");
}

static void test_deep_json_is_refused(void **state)
{
    struct host *h = *state;
    char frame[4096] = "{\"kind\":\"display\",\"metadata\":{},\"data\":{\"application/json\":";
    size_t n = strlen(frame);

    memset(frame + n, '[', 150);
    memset(frame + n + 150, ']', 150);
    (void)snprintf(frame + n + 300, 10, "}}");
    greeted(h);
    assert_int_equal(start(h, "r-1"), 0);
    feed(h, FRAME_DISPLAY, frame);
    assert_non_null(strstr(h->broken, "deep"));
}

static void test_end_of_stream(void **state)
{
    struct host *h = *state;

    h->link.events.on_end(h->link.data);
    assert_non_null(strstr(h->broken, "greeted"));
    h->link.events.on_end(h->link.data); /* told once: on_broken asserts it */
}

static void test_send_errors_come_back(void **state)
{
    struct host *h = *state;

    greeted(h);
    h->send_result = -EPIPE;
    assert_int_equal(start(h, "r-1"), -EPIPE);
    assert_int_equal(runner_kernel.run(h->kernel, &(struct run_request){.id = "r-1",
                                                                        .language = "python",
                                                                        .code = "\xff",
                                                                        .code_size = 1}),
                     -EILSEQ);
}

static void test_run_past_the_cap(void **state)
{
    struct host *h = *state;
    size_t size = (size_t)6 * 1024 * 1024; /* of NULs: six bytes each on the wire */
    char *code = calloc(1, size);

    greeted(h);
    assert_int_equal(runner_kernel.run(h->kernel, &(struct run_request){.id = "r-1",
                                                                        .language = "python",
                                                                        .code = code,
                                                                        .code_size = size}),
                     -EMSGSIZE);
    assert_int_equal(buffer_size(&h->sent), 0);
    assert_int_equal(start(h, "r-2"), 0);
    free(code);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bad_frame_breaks_off),
        cmocka_unit_test(test_greeting_comes_first_and_is_checked),
        CASE(test_deep_json_is_refused),
        CASE(test_end_of_stream),
        CASE(test_send_errors_come_back),
        CASE(test_run_past_the_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
