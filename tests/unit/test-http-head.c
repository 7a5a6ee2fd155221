#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

#include "backends/base/net/http_internal.h"

/* In memory of exactly its size, so that a sanitizer sees a byte too many. */
static char *exact(const char *bytes, size_t size)
{
    char *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    return copy;
}

static ssize_t parse(const char *text, struct http_head *ret)
{
    size_t size = strlen(text);
    char *copy = exact(text, size);
    ssize_t n = http_head_parse(copy, size, ret);
    free(copy);
    return n;
}

static void test_heads(void **state)
{
    struct http_head head;
    (void)state;
    assert_int_equal(
        parse("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nabc", &head),
        60);
    assert_int_equal(head.status, 101);
    assert_int_equal(head.length, -1);
    assert_false(head.chunked || head.upgraded_other);
    assert_int_equal(parse("HTTP/1.0 200\r\n\r\n", &head), 16);
    assert_int_equal(head.status, 200);
    assert_true(parse("HTTP/1.1 404 \r\ncontent-LENGTH:\t 34 \r\n\r\n", &head) > 0);
    assert_int_equal(head.length, 34);
    assert_true(
        parse("HTTP/1.1 409 No\r\nTransfer-Encoding: chunked\r\nUpgrade: h2c\r\n\r\n", &head) > 0);
    assert_true(head.chunked && head.upgraded_other);
}

static void test_heads_that_are_none(void **state)
{
    static const char *const wrong[] = {
        "x",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.x 200 OK\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nwords\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n"};
    static const char *const part[] = {"", "H", "HTTP/1.", "HTTP/1.1 200 OK\r\nX: y\r\n"};
    struct http_head head = {.status = 7};
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(parse(wrong[i], &head), -EBADMSG);
    }
    for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
        assert_int_equal(parse(part[i], &head), 0);
    }
    assert_int_equal(http_head_parse("HTTP/1.1 200 \0K\r\n\r\n", 19, &head), -EBADMSG);
    assert_int_equal(head.status, 7); /* untouched on failure */
}

static void assert_unchunked(const char *given, const char *want, bool want_whole)
{
    size_t size = strlen(given);
    char *copy = exact(given, size);
    bool whole;
    size_t n = http_unchunk(copy, size, &whole);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(copy, want, n);
    assert_int_equal(whole, want_whole);
    free(copy);
}

static void test_unchunk(void **state)
{
    (void)state;
    assert_unchunked("", "", false);
    assert_unchunked("0\r\n\r\n", "", true);
    assert_unchunked("3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", "abc0123456789", true);
    assert_unchunked("3\r\nabc\r\n5\r\nde", "abcde", false);
    assert_unchunked("3\r\nabc", "abc", false);
    assert_unchunked("3\r\nabc\r", "abc", false);
    assert_unchunked("3\r\nabc\r\n5", "abc", false);
    assert_unchunked("zz\r\nabc", "", false);
    assert_unchunked("ffffffff\r\nabc", "abc", false);
    assert_unchunked("fffffffffffffffff\r\nabc", "abc", false);
}

static void test_queue(void **state)
{
    struct http_queue queue = {.cap = 300000};
    unsigned char *bytes = malloc(200000);
    size_t in = 0, out = 0, n;
    const char *at;
    (void)state;

    assert_null(http_queue_peek(&queue, &n));
    for (size_t size = 1; in + size < 200000; size = size * 3 + 1) {
        for (size_t i = 0; i < size; i++) {
            bytes[i] = (unsigned char)((in + i) % 251);
        }
        assert_int_equal(http_queue_append(&queue, bytes, size), 0);
        in += size;
        if (size > 500) { /* taken in pieces while more comes; the first bytes do not move */
            at = http_queue_peek(&queue, &n);
            assert_int_equal((unsigned char)*at, out % 251);
            assert_int_equal(http_queue_append(&queue, NULL, 0), 0);
            assert_ptr_equal(http_queue_peek(&queue, &n), at);
            http_queue_consume(&queue, n < 300 ? n : 300);
            out += n < 300 ? n : 300;
        }
    }
    assert_int_equal(queue.size, in - out);
    assert_int_equal(http_queue_append(&queue, bytes, 300000 - (in - out) + 1), -ENOBUFS);
    while ((at = http_queue_peek(&queue, &n))) {
        for (size_t i = 0; i < n; i++) {
            assert_int_equal((unsigned char)at[i], (out + i) % 251);
        }
        out += n;
        http_queue_consume(&queue, n);
    }
    assert_int_equal(in, out);
    assert_int_equal(queue.size, 0);
    assert_int_equal(http_queue_append(&queue, "abc", 3), 0);
    http_queue_clear(&queue);
    assert_int_equal(queue.size, 0);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_heads_that_are_none),
        cmocka_unit_test(test_unchunk),
        cmocka_unit_test(test_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
