#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/http-trial.h"

static void look_long_head(struct trial_told *told)
{
    assert_told_error(told, ERROR_LIMIT, "head of the answer", NULL);
}

static void test_head_past_cap(void **state)
{
    static char line[1024];
    const struct hostile_step lines[] = {{HOSTILE_SEND, OK_HEAD}, {HOSTILE_FLOOD, line}};
    static const struct hostile_step one_line[] = {
        {HOSTILE_SEND, OK_HEAD "X: "}, {HOSTILE_FLOOD, "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"}};
    static const struct hostile_step hints[] = {
        {HOSTILE_FLOOD, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"}};
    (void)state;
    snprintf(line, sizeof(line), "X: %01018d\r\n", 0);
    trial_one_get(lines, look_long_head);
    trial_one_get(one_line, look_long_head);
    trial_one_get(hints, look_long_head);
}

static void look_long_body(struct trial_told *told)
{
    assert_told_error(told, ERROR_LIMIT, "longer than 100000 bytes", NULL);
}

static void test_never_ending_chunks(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_SEND, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n"},
        {HOSTILE_FLOOD, "10\r\n0123456789abcdef\r\n"}};
    struct http_call call = {.method = "GET", .path = "/", .body_cap = 100000};
    (void)state;
    trial_one(script, &call, false, look_long_body);
    trial_one(script, &call, true, look_long_body);
}

static void test_cap_is_exact(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_SEND, OK_HEAD "Content-Length: 5000\r\n\r\n"},
        {HOSTILE_FILL, NULL, 5000},
        {HOSTILE_END}};
    const struct hostile_step *const scripts[] = {script, NULL};
    struct trial t = {0};
    (void)state;
    trial_start(&t, false, scripts);
    for (size_t cap = 4999; cap <= 5000; cap++) {
        struct http_call call = {.method = "GET", .path = "/", .body_cap = cap};
        trial_call(&t, &call, false);
        trial_run(&t);
    }
    assert_told_error(&t.told[0], ERROR_LIMIT, "4999 bytes", NULL);
    assert_int_equal(t.told[1].status, 200);
    assert_int_equal(t.told[1].size, 5000);
    trial_end(&t);
}

static void look_idle(struct trial_told *told)
{
    assert_told_error(told, ERROR_TIMEOUT, "nothing came or went for 60 ms", NULL);
}

static void look_total(struct trial_told *told)
{
    assert_told_error(told, ERROR_TIMEOUT, "not complete within", NULL);
}

static void test_idle_and_total(void **state)
{
    static const struct hostile_step silent[] = {{HOSTILE_SLEEP, NULL, 60000}};
    static const struct hostile_step half[] = {
        {HOSTILE_SEND, OK_HEAD "Content-Length: 9\r\n\r\nabc"}, {HOSTILE_SLEEP, NULL, 60000}};
    static const struct hostile_step slow[] = {{HOSTILE_DRIP, OK_HEAD OK_HEAD OK_HEAD, 5}};
    struct http_call idle = {.method = "GET", .path = "/", .idle_ms = 60};
    struct http_call total = {.method = "GET", .path = "/", .timeout_ms = 80, .idle_ms = UINT_MAX};
    (void)state;
    trial_one(silent, &idle, false, look_idle);
    trial_one(half, &idle, true, look_idle);
    trial_one(silent, &total, false, look_total);
    trial_one(slow, &total, false, look_total);
}

/* The server takes nothing of a body that is larger than the sockets hold. */
static void test_idle_upload(void **state)
{
    static const struct hostile_step script[] = {{HOSTILE_DEAF}, {HOSTILE_SLEEP, NULL, 60000}};
    size_t size = 8 << 20;
    char *body = calloc(1, size);
    struct http_call call = {
        .method = "POST", .path = "/", .body = body, .body_size = size, .idle_ms = 60};
    (void)state;
    trial_one(script, &call, false, look_idle);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_past_cap), cmocka_unit_test(test_never_ending_chunks),
        cmocka_unit_test(test_cap_is_exact),  cmocka_unit_test(test_idle_and_total),
        cmocka_unit_test(test_idle_upload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
