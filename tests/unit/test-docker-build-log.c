#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

#include "backends/docker/build_log.h"

static void take(struct build_log *log, const char *key, const char *text)
{
    json_t *value = json_pack("{s:s}", key, text);

    assert_non_null(value);
    build_log_take(log, value);
    json_decref(value);
}

static const char *progress(const struct build_log *log)
{
    static char space[400];

    build_log_progress(log, space, sizeof(space));
    return space;
}

static void steps_of_docker(void **state)
{
    struct build_log log = {0};

    (void)state;
    assert_string_equal(progress(&log), "it is being sent to the engine");
    take(&log, "stream", "Step 2/9 : RUN [\"pip\",\"install\"]");
    take(&log, "stream", "\n");
    assert_string_equal(progress(&log), "step 2/9: RUN pip install");
    take(&log, "stream", " ---> Running in 0123456789ab\n");
    take(&log, "stream", "Collecting six\nDownload");
    assert_string_equal(progress(&log), "step 2/9: RUN pip install: Collecting six");
    take(&log, "stream", "ing six\r\x1b[2K 100 %\r\n");
    assert_string_equal(progress(&log), "step 2/9: RUN pip install:  [2K 100 %");
}

static void steps_of_podman(void **state)
{
    struct build_log log = {0};

    (void)state;
    take(&log, "stream", "[1/3] STEP 1/2: FROM x AS machine\n");
    take(&log, "stream", "[2/3] STEP 2/7: COPY cellblock /tmp/cellblock\n");
    assert_int_equal(log.step, 2);
    assert_int_equal(log.steps, 7);
    assert_string_equal(progress(&log), "step 2/7: COPY cellblock /tmp/cellblock");
}

static void what_only_looks_like_a_step(void **state)
{
    static const char *const lines[] = {"Step 0/9 : x\n", "Step 9/2 : x\n", "Step by step\n",
                                        "Step 1 of 2\n", "Step -1/3 : x\n"};
    struct build_log log = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        take(&log, "stream", lines[i]);
        assert_int_equal(log.step, 0);
    }
}

static void a_failure_has_the_last_lines_and_no_more(void **state)
{
    struct build_log log = {0};
    char line[32];
    char *text;

    (void)state;
    take(&log, "stream", "Step 2/9 : RUN x\n");
    for (int i = 0; i < 100; i++) {
        snprintf(line, sizeof(line), "line %d.\n", i);
        take(&log, "stream", line);
    }
    take(&log, "stream", "unfinished");
    take(&log, "error", "The command 'x' returned a non-zero code: 1\n");
    take(&log, "error", "another");
    text = build_log_failure(&log, "not this");
    assert_non_null(strstr(text, "The command 'x' returned a non-zero code: 1  (step 2/9)"));
    assert_non_null(strstr(text, "\nline 99.\nunfinished"));
    assert_non_null(strstr(text, "\nline 86.\n"));
    assert_null(strstr(text, "line 85."));
    assert_null(strstr(text, "another"));
    free(text);
}

static void without_any_word_the_reason_is_the_streams(void **state)
{
    struct build_log log = {0};
    char *text = build_log_failure(&log, "it was cut");

    (void)state;
    assert_string_equal(text, "it was cut");
    free(text);
}

static void what_is_too_long_or_no_text_is_cut(void **state)
{
    struct build_log log = {0};
    char *line = malloc(100001);
    json_t *odd = json_pack("{s:[i], s:{}, s:n}", "stream", 1, "error", "aux");
    char *text;

    (void)state;
    memset(line, 'x', 100000);
    line[100000] = '\0';
    take(&log, "stream", line);
    take(&log, "stream", "\n");
    take(&log, "error", line);
    build_log_take(&log, odd);
    text = build_log_failure(&log, "");
    assert_true(strlen(text) < BUILD_ERROR_CAP + 2 * BUILD_LINE_CAP);
    free(text);
    free(line);
    json_decref(odd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_of_docker),
        cmocka_unit_test(steps_of_podman),
        cmocka_unit_test(what_only_looks_like_a_step),
        cmocka_unit_test(a_failure_has_the_last_lines_and_no_more),
        cmocka_unit_test(without_any_word_the_reason_is_the_streams),
        cmocka_unit_test(what_is_too_long_or_no_text_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
