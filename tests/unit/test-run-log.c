/* The newest output of a run, in bounded memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/run_log.h"
#include "tests/unit/cmocka_all.h"

static void append(struct run_log *log, enum stream stream, const char *text)
{
    run_log_append(log, stream, text, strlen(text));
}

static void assert_reads(const struct run_log *log, uint64_t offset, enum stream stream,
                         const char *text)
{
    char space[64];
    enum stream found = STREAM_STDERR;
    size_t size = run_log_read(log, offset, space, sizeof(space), &found);

    assert_int_equal(size, strlen(text));
    assert_memory_equal(space, text, size);
    assert_int_equal(found, stream);
}

static void keeps_the_order_of_both_streams(void **state)
{
    struct run_log log = {0};
    enum stream stream;
    char space[4];

    (void)state;
    assert_int_equal(run_log_read(&log, 0, space, sizeof(space), &stream), 0);
    append(&log, STREAM_STDOUT, "one ");
    append(&log, STREAM_STDOUT, "two");
    append(&log, STREAM_STDERR, "oh");
    append(&log, STREAM_STDOUT, "three");
    assert_reads(&log, 0, STREAM_STDOUT, "one two");
    assert_reads(&log, 4, STREAM_STDOUT, "two");
    assert_reads(&log, 7, STREAM_STDERR, "oh");
    assert_reads(&log, 8, STREAM_STDERR, "h");
    assert_reads(&log, 9, STREAM_STDOUT, "three");
    assert_int_equal(run_log_read(&log, 14, space, sizeof(space), &stream), 0);
    assert_int_equal(run_log_read(&log, 0, space, sizeof(space), &stream), 4);
    assert_memory_equal(space, "one ", 4);
    assert_int_equal(log.begin, 0);
    assert_int_equal(log.end, 14);
    run_log_deinit(&log);
}

static void one_piece_larger_than_the_cap_keeps_its_end(void **state)
{
    size_t size = RUN_LOG_CAP + 100;
    char *bytes = malloc(size), last = 0;
    struct run_log log = {0};
    enum stream stream;

    (void)state;
    memset(bytes, 'a', size);
    bytes[size - 1] = 'z';
    append(&log, STREAM_STDERR, "before");
    run_log_append(&log, STREAM_STDOUT, bytes, size);
    assert_int_equal(log.end, size + 6);
    assert_int_equal(log.begin, 106);
    assert_int_equal(run_log_read(&log, log.end - 1, &last, 1, &stream), 1);
    assert_int_equal(last, 'z');
    assert_int_equal(stream, STREAM_STDOUT);
    append(&log, STREAM_STDERR, "after");
    assert_int_equal(log.begin, 111);
    assert_reads(&log, log.end - 5, STREAM_STDERR, "after");
    run_log_deinit(&log);
    free(bytes);
}

static void streams_that_take_turns_are_bounded_too(void **state)
{
    struct run_log log = {0};

    (void)state;
    for (int i = 0; i < RUN_LOG_SPANS + 10; i++) {
        append(&log, i % 2 ? STREAM_STDERR : STREAM_STDOUT, "x");
    }
    assert_int_equal(log.span_room, RUN_LOG_SPANS);
    assert_int_equal(log.begin, 10);
    assert_reads(&log, 10, STREAM_STDOUT, "x");
    assert_reads(&log, log.end - 1, STREAM_STDERR, "x");
    run_log_deinit(&log);
}

/* What any sequence of writes has left is the end of all that was written. */
static void the_newest_bytes_are_as_they_were_written(void **state)
{
    enum { TOTAL = 3 * RUN_LOG_CAP };
    char *all = malloc(TOTAL), *streams = malloc(TOTAL), space[1000];
    struct run_log log = {0};
    size_t written = 0;

    (void)state;
    srand(7);
    while (written < TOTAL - 2000) {
        size_t size = (size_t)(rand() % 2000);
        enum stream stream = rand() % 4 ? STREAM_STDOUT : STREAM_STDERR;

        for (size_t i = 0; i < size; i++) {
            all[written + i] = (char)rand();
            streams[written + i] = (char)stream;
        }
        run_log_append(&log, stream, all + written, size);
        written += size;
        assert_int_equal(log.end, written);
    }
    assert_true(log.end - log.begin == RUN_LOG_CAP);
    for (uint64_t at = log.begin; at < log.end;) {
        enum stream stream;
        size_t size = run_log_read(&log, at, space, sizeof(space), &stream);

        assert_true(size > 0);
        assert_memory_equal(space, all + at, size);
        for (size_t i = 0; i < size; i++) {
            assert_int_equal(streams[at + i], stream);
        }
        at += size;
    }
    run_log_deinit(&log);
    free(all);
    free(streams);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_order_of_both_streams),
        cmocka_unit_test(one_piece_larger_than_the_cap_keeps_its_end),
        cmocka_unit_test(streams_that_take_turns_are_bounded_too),
        cmocka_unit_test(the_newest_bytes_are_as_they_were_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
