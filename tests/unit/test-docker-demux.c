/* The frames of an engine's stream, whole, cut anywhere, and broken. */
#include "cmocka_all.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "backends/docker/demux.h"

enum { GOT_CAP = 1024 };

struct got {
    char bytes[4][GOT_CAP];
    size_t size[4];
    struct demux *demux;
    bool stop;
};

static void on_bytes(void *data, enum demux_stream stream, const char *bytes, size_t size)
{
    struct got *got = data;

    assert_true(stream >= DEMUX_STDOUT && stream <= DEMUX_ENGINE);
    assert_true(size > 0 && got->size[stream] + size <= GOT_CAP);
    memcpy(got->bytes[stream] + got->size[stream], bytes, size);
    got->size[stream] += size;
    if (got->stop) {
        got->demux->broken = -ECANCELED;
    }
}

static struct demux start(struct got *got)
{
    *got = (struct got){0};
    return (struct demux){.on_bytes = on_bytes, .data = got};
}

static const char stream[] = "\1\0\0\0\0\0\0\5hello\2\0\0\0\0\0\0\3err\1\0\0\0\0\0\0\0"
                             "\3\0\0\0\0\0\0\2no\1\0\0\0\0\0\0\1!";

static void check_all(const struct got *got)
{
    assert_int_equal(got->size[DEMUX_STDOUT], 6);
    assert_memory_equal(got->bytes[DEMUX_STDOUT], "hello!", 6);
    assert_int_equal(got->size[DEMUX_STDERR], 3);
    assert_memory_equal(got->bytes[DEMUX_STDERR], "err", 3);
    assert_int_equal(got->size[DEMUX_ENGINE], 2);
}

static void test_whole(void **state)
{
    struct got got;
    struct demux d = start(&got);

    (void)state;
    assert_int_equal(demux_feed(&d, stream, sizeof(stream) - 1), 0);
    check_all(&got);
}

static void test_every_piece_size(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < sizeof(stream); piece++) {
        struct got got;
        struct demux d = start(&got);
        for (size_t at = 0; at < sizeof(stream) - 1; at += piece) {
            size_t left = sizeof(stream) - 1 - at;
            assert_int_equal(demux_feed(&d, stream + at, left < piece ? left : piece), 0);
        }
        check_all(&got);
    }
}

static void test_garbage_ends_it(void **state)
{
    static const char *const bad[] = {"HTTP/1.1 400", "\0\0\0\0\0\0\0\1x", "\4\0\0\0\0\0\0\1x",
                                      "\1\1\0\0\0\0\0\1x", "\1\0\0\1\0\0\0\1x"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct got got;
        struct demux d = start(&got);
        assert_int_equal(demux_feed(&d, bad[i], 9), -EPROTO);
        assert_int_equal(demux_feed(&d, stream, sizeof(stream) - 1), -EPROTO);
        assert_int_equal(got.size[1] + got.size[2] + got.size[3], 0);
    }
}

static void test_a_huge_frame_needs_no_memory(void **state)
{
    struct got got;
    struct demux d = start(&got);

    (void)state;
    assert_int_equal(demux_feed(&d, "\1\0\0\0\377\377\377\377abc", 11), 0);
    assert_int_equal(got.size[DEMUX_STDOUT], 3);
    assert_int_equal(d.left, UINT32_MAX - 3);
}

static void test_stopped_from_inside(void **state)
{
    struct got got;
    struct demux d = start(&got);

    (void)state;
    got.demux = &d;
    got.stop = true;
    assert_int_equal(demux_feed(&d, stream, sizeof(stream) - 1), -ECANCELED);
    assert_int_equal(got.size[DEMUX_STDOUT], 5);
    assert_int_equal(got.size[DEMUX_STDERR], 0);
}

/* Whatever comes, nothing is read past the end and nothing is called for no bytes. */
static void test_random_bytes(void **state)
{
    (void)state;
    srandom(7);
    for (int round = 0; round < 20000; round++) {
        struct got got;
        struct demux d = start(&got);
        char bytes[64];
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (char)(random() % 3);
        }
        (void)demux_feed(&d, bytes, (size_t)random() % sizeof(bytes));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_every_piece_size),
        cmocka_unit_test(test_garbage_ends_it),
        cmocka_unit_test(test_a_huge_frame_needs_no_memory),
        cmocka_unit_test(test_stopped_from_inside),
        cmocka_unit_test(test_random_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
