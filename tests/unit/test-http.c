#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/http-trial.h"

static const struct hostile_step hello[] = {
    {HOSTILE_BODY},
    {HOSTILE_SEND, OK_HEAD "Content-Length: 5\r\n\r\nhello"},
    {HOSTILE_END},
};
static const struct hostile_step *const hellos[] = {hello, NULL};

/* --- what goes well ----------------------------------------------------------------------- */

static void look_hello(struct trial_told *told)
{
    assert_told(told, 200, "hello");
    assert_string_equal(told->type, "text/plain");
    assert_non_null(strstr(told->trial->server->head, "GET /a?token=SECRET HTTP/1.1\r\n"));
    assert_null(strstr(told->trial->server->head, "Content-Type"));
}

static void test_get(void **state)
{
    (void)state;
    trial_one_get(hello, look_hello);
}

static void test_post(void **state)
{
    static const char *const own[] = {"X-One: 1", NULL}, *const all[] = {"Authorization: no", NULL};
    struct trial t = {.options.headers = all};
    struct http_call call = {
        .method = "POST", .path = "/p", .headers = own, .body = "{\"a\":1}", .body_size = 7};
    const char *head;
    (void)state;

    trial_start(&t, false, hellos);
    trial_call(&t, &call, false);
    trial_run(&t);
    head = t.server->head;
    assert_told(&t.told[0], 200, "hello");
    assert_non_null(strstr(head, "POST /p HTTP/1.1\r\nHost: docker\r\n"));
    assert_non_null(strstr(head, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(head, "\r\nX-One: 1\r\n"));
    assert_non_null(strstr(head, "\r\nAuthorization: no\r\n"));
    assert_null(strcasestr(head, "expect"));
    assert_int_equal(t.server->body_size, 7);
    assert_memory_equal(t.server->body, "{\"a\":1}", 7);
    trial_end(&t);
}

static void test_methods(void **state)
{
    static const char *const methods[] = {"DELETE", "PATCH", "PUT", "POST"};
    struct trial t = {0};
    char line[32];
    (void)state;

    trial_start(&t, true, hellos);
    for (size_t i = 0; i < 4; i++) {
        struct http_call call = {.method = methods[i], .path = "/m"};
        trial_call(&t, &call, false);
        trial_run(&t);
        assert_told(&t.told[i], 200, "hello");
        snprintf(line, sizeof(line), "%s /m HTTP/1.1\r\n", methods[i]);
        assert_memory_equal(t.server->head, line, strlen(line));
        assert_true(i == 0 || strstr(t.server->head, "\r\nContent-Length: 0\r\n"));
        assert_null(strstr(t.server->head, "Content-Type"));
    }
    assert_int_equal(t.server->connections, 1); /* reused */
    trial_end(&t);
}

static void test_big_body_goes_without_expect(void **state)
{
    struct trial t = {0};
    size_t size = 3 << 20;
    char *body = calloc(1, size);
    struct http_call call = {.method = "POST", .path = "/", .body = body, .body_size = size};
    (void)state;

    trial_start(&t, false, hellos);
    trial_call(&t, &call, false);
    free(body); /* it was copied */
    trial_run(&t);
    assert_told(&t.told[0], 200, "hello");
    assert_int_equal(t.server->body_size, size);
    assert_null(strcasestr(t.server->head, "expect"));
    trial_end(&t);
}

static void test_reuse_and_parallel(void **state)
{
    struct trial t = {0};
    (void)state;
    trial_start(&t, false, hellos);
    trial_get(&t, "/1");
    trial_run(&t);
    trial_get(&t, "/2");
    trial_run(&t);
    assert_int_equal(t.server->connections, 1);
    trial_get(&t, "/3");
    trial_get(&t, "/4");
    trial_run(&t);
    assert_int_equal(t.server->connections, 2);
    assert_close_on_exec(); /* they are kept open */
    for (int i = 0; i < 4; i++) {
        assert_told(&t.told[i], 200, "hello");
    }
    trial_end(&t);
}

/* The server closed an idle connection, as they may: that is no error of the next request. */
static void test_stale_connection(void **state)
{
    static const struct hostile_step once[] = {{HOSTILE_SEND, OK_HEAD "Content-Length: 1\r\n\r\n1"},
                                               {HOSTILE_CUT}};
    const struct hostile_step *const scripts[] = {once, hello, NULL};
    struct trial t = {0};
    (void)state;
    trial_start(&t, false, scripts);
    trial_get(&t, "/1");
    trial_run(&t);
    while (t.server->open > 0) {
        uv_run(&t.loop, UV_RUN_ONCE);
    }
    struct http_call call = {.method = "POST", .path = "/2", .body = "{}", .body_size = 2};
    trial_call(&t, &call, false);
    trial_run(&t);
    assert_told(&t.told[1], 200, "hello");
    assert_int_equal(t.server->connections, 2);
    trial_end(&t);
}

static void look_404(struct trial_told *told)
{
    assert_told(told, 404, "{\"message\":\"No such container: x\"}");
    assert_int_equal(told->streamed, 0);
}

static void test_404_body_is_kept(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_SEND, "HTTP/1.1 404 Not Found\r\nContent-Length: 34\r\n\r\n"
                       "{\"message\":\"No such container: x\"}"},
        {HOSTILE_END}};
    struct http_call call = {.method = "GET", .path = "/"};
    (void)state;
    trial_one_get(script, look_404);
    trial_one(script, &call, true, look_404);
}

static void look_redirect(struct trial_told *told)
{
    assert_told(told, 302, "");
    assert_int_equal(told->trial->server->requests, 1);
}

static void test_redirect_is_not_followed(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_SEND, "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"},
        {HOSTILE_END}};
    (void)state;
    trial_one_get(script, look_redirect);
}

static void look_streamed(struct trial_told *told)
{
    assert_int_equal(told->dones, 1);
    assert_null(told->err.message);
    assert_int_equal(told->status, 200);
    assert_int_equal(told->size, 0); /* on_body took it */
    assert_int_equal(told->head_status, 200);
    assert_string_equal(told->body, "ab");
}

static void test_streamed_in_chunks(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_SEND, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"},
        {HOSTILE_SEND, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"},
        {HOSTILE_SLEEP, NULL, 10},
        {HOSTILE_SEND, "1;ext=1\r\nb\r\n0\r\nTrailer: t\r\n\r\n"},
        {HOSTILE_END}};
    struct http_call call = {.method = "GET", .path = "/"};
    (void)state;
    trial_one(script, &call, true, look_streamed);
}

static void test_head_request(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_SEND, OK_HEAD "Content-Length: 500\r\n\r\n"}, {HOSTILE_END}};
    const struct hostile_step *const scripts[] = {script, NULL};
    struct trial t = {0};
    struct http_call call = {.method = "HEAD", .path = "/"};
    (void)state;
    trial_start(&t, false, scripts);
    trial_call(&t, &call, false);
    trial_run(&t);
    assert_told(&t.told[0], 200, "");
    trial_end(&t);
}

static void look_slow(struct trial_told *told)
{
    assert_told(told, 200, "hello");
}

static void test_slow_head_and_body(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_DRIP, OK_HEAD "Content-Length: 5\r\n\r\n", 1},
        {HOSTILE_DRIP, "hello", 20},
        {HOSTILE_END}};
    struct http_call call = {.method = "GET", .path = "/", .idle_ms = 500};
    (void)state;
    trial_one(script, &call, false, look_slow);
}

static void test_content_length_too_short(void **state)
{
    static const struct hostile_step liar[] = {
        {HOSTILE_SEND, OK_HEAD "Content-Length: 5\r\n\r\nhello and more"}, {HOSTILE_END}};
    const struct hostile_step *const scripts[] = {liar, hello, NULL};
    struct trial t = {0};
    (void)state;
    trial_start(&t, false, scripts);
    trial_get(&t, "/1");
    trial_run(&t);
    assert_told(&t.told[0], 200, "hello");
    trial_get(&t, "/2");
    trial_run(&t);
    assert_told(&t.told[1], 200, "hello"); /* what was too much is not taken for an answer */
    assert_int_equal(t.server->connections, 2);
    trial_end(&t);
}

/* --- cut and wrong ------------------------------------------------------------------------ */

static void look_cut_body(struct trial_told *told)
{
    assert_told_error(told, ERROR_LOST, "GET http://", "/a", "cut after 3 of 500 bytes", NULL);
    assert_null(strstr(told->err.message, "SECRET"));
}

static void look_cut_chunk(struct trial_told *told)
{
    assert_told_error(told, ERROR_LOST, "cut after 3 bytes", NULL);
}

static void look_cut_head(struct trial_told *told)
{
    assert_told_error(told, ERROR_LOST, "in the middle of the answer's head", NULL);
}

static void look_no_answer(struct trial_told *told)
{
    assert_told_error(told, ERROR_LOST, "without an answer", NULL);
}

static void test_cuts(void **state)
{
    static const struct hostile_step body[] = {
        {HOSTILE_SEND, OK_HEAD "Content-Length: 500\r\n\r\nabc"}, {HOSTILE_CUT}};
    static const struct hostile_step chunk[] = {
        {HOSTILE_SEND, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n6\r\nabc"}, {HOSTILE_CUT}};
    static const struct hostile_step no_last_chunk[] = {
        {HOSTILE_SEND, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"}, {HOSTILE_CUT}};
    static const struct hostile_step head[] = {{HOSTILE_SEND, OK_HEAD "X: y\r\n"}, {HOSTILE_CUT}};
    static const struct hostile_step nothing[] = {{HOSTILE_CUT}};
    (void)state;
    trial_one_get(body, look_cut_body);
    trial_one_get(chunk, look_cut_chunk);
    trial_one_get(no_last_chunk, look_cut_chunk);
    trial_one_get(head, look_cut_head);
    trial_one_get(nothing, look_no_answer);
}

static void look_reset(struct trial_told *told)
{
    assert_int_equal(told->dones, 1);
    assert_int_equal(told->err.kind, ERROR_LOST);
}

static void test_reset(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_SEND, OK_HEAD "Content-Length: 500\r\n\r\nabc"},
        {HOSTILE_SLEEP, NULL, 10},
        {HOSTILE_RESET}};
    (void)state;
    trial_one_get(script, look_reset);
}

static void look_bad_chunk(struct trial_told *told)
{
    assert_told_error(told, ERROR_LOST, "chunked-encoding", NULL);
}

static void look_not_http(struct trial_told *told)
{
    assert_told_error(told, ERROR_LOST, "not HTTP/1.1", NULL);
}

static void look_switched(struct trial_told *told)
{
    assert_told_error(told, ERROR_LOST, "101", "unasked", NULL);
}

static void test_wrong_syntax(void **state)
{
    static const struct hostile_step chunk[] = {
        {HOSTILE_SEND, OK_HEAD "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n"}, {HOSTILE_END}};
    static const struct hostile_step banner[] = {
        {HOSTILE_SEND, "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"}, {HOSTILE_END}};
    static const struct hostile_step switched[] = {
        {HOSTILE_SEND, "HTTP/1.1 101 Go\r\nUpgrade: tcp\r\n\r\n"}, {HOSTILE_END}};
    (void)state;
    trial_one_get(chunk, look_bad_chunk);
    trial_one_get(banner, look_not_http);
    trial_one_get(switched, look_switched);
}

/* --- addresses ---------------------------------------------------------------------------- */

static void test_nothing_listens(void **state)
{
    struct trial t = {0}, u = {0};
    (void)state;
    trial_start_at(&t, "http://docker", "/nonexistent/docker.sock");
    trial_get(&t, "/info");
    trial_run(&t);
    assert_told_error(&t.told[0], ERROR_LOST, "GET http://docker/info through /nonexistent",
                      "nothing listens at /nonexistent/docker.sock", NULL);
    trial_end(&t);

    trial_start_at(&u, "http://127.0.0.1:1/prefix/", NULL);
    trial_get(&u, "/info");
    trial_run(&u);
    assert_told_error(&u.told[0], ERROR_LOST, "http://127.0.0.1:1/prefix/info",
                      "nothing listens at 127.0.0.1:1", NULL);
    trial_end(&u);
}

static void test_unknown_name(void **state)
{
    struct trial t = {0};
    (void)state;
    trial_start_at(&t, "http://no-such-host.invalid:99", NULL);
    trial_get(&t, "/");
    trial_run(&t);
    assert_told_error(&t.told[0], ERROR_LOST, "no-such-host.invalid:99", "check its name", NULL);
    trial_end(&t);
}

/* A full backlog: the connection is neither made nor refused. */
static void test_connect_limit(void **state)
{
    struct trial t = {.options.connect_timeout_ms = 80};
    char base[64];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), more[4];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    (void)state;

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    for (int i = 0; i < 4; i++) {
        more[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(more[i], (struct sockaddr *)&a, sizeof(a));
    }
    snprintf(base, sizeof(base), "http://127.0.0.1:%d", ntohs(a.sin_port));
    trial_start_at(&t, base, NULL);
    trial_get(&t, "/");
    trial_run(&t);
    assert_told_error(&t.told[0], ERROR_TIMEOUT, "no connection to 127.0.0.1", NULL);
    trial_end(&t);
    close(fd);
    for (int i = 0; i < 4; i++) {
        close(more[i]);
    }
}

static void test_what_is_refused(void **state)
{
    static const char *const bases[] = {"docker",
                                        "ftp://host",
                                        "unix:///s",
                                        "http://",
                                        "http://h/?token=SECRET",
                                        "http://user:SECRET@h",
                                        "http://h/#SECRET",
                                        "https://h:port",
                                        NULL};
    static const char *const broken[] = {"X: a\r\nY: SECRET", NULL}, *const nameless[] = {"x",
                                                                                          NULL};
    static const char *const paths[] = {"info", "/a b", "/a\r\nX: y", "/a#b", "", NULL};
    struct error err = {0};
    struct trial t = {0};
    (void)state;

    assert_int_equal(uv_loop_init(&t.loop), 0);
    for (int i = 0; bases[i]; i++) {
        struct http_options o = {.base = bases[i]};
        assert_null(http_new(&t.loop, &o, &err));
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_null(strstr(err.message, "SECRET"));
    }
    struct http_options o = {.base = "http://h", .headers = broken};
    assert_null(http_new(&t.loop, &o, &err));
    assert_null(strstr(err.message, "SECRET"));
    o.headers = nameless;
    assert_null(http_new(&t.loop, &o, &err));
    assert_int_equal(uv_loop_close(&t.loop), 0);

    trial_start(&t, false, hellos);
    for (int i = 0; paths[i]; i++) {
        struct http_call call = {.method = "GET", .path = paths[i]};
        assert_null(http_start(t.http, &call, &err));
        assert_int_equal(err.kind, ERROR_INVALID);
    }
    struct http_call call = {.method = "GET /x", .path = "/"};
    assert_null(http_start(t.http, &call, &err));
    call.method = "GET";
    call.headers = broken;
    assert_null(http_start(t.http, &call, &err));
    error_clear(&err);
    trial_end(&t);
}

static void test_proxy_only_when_said(void **state)
{
    struct trial t = {0}, u = {.options.use_proxy = true};
    (void)state;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    trial_start(&t, true, hellos);
    trial_get(&t, "/");
    trial_run(&t);
    assert_told(&t.told[0], 200, "hello");
    trial_end(&t);
    trial_start(&u, true, hellos);
    trial_get(&u, "/");
    trial_run(&u);
    assert_int_equal(u.told[0].err.kind, ERROR_LOST);
    trial_end(&u);
    unsetenv("http_proxy");
}

static void test_words_of_refusals(void **state)
{
    static const char *const given[][2] = {
        {"{\"message\":\"No such\\nimage\"}", "No such image"},
        {"{\"reason\":\"Forbidden\",\"message\":\"\"}", "Forbidden"},
        {"plain words\r\nsecond line", "plain words"},
        {"[1]", "[1]"},
        {"{\"message\":5}", "{\"message\":5}"},
        {"", ""},
    };
    struct http_reply reply = {.status = 409, .body = "{\"message\":\"in use\"}", .size = 20};
    struct error err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
        char *words = http_message(given[i][0], strlen(given[i][0]));
        assert_string_equal(words, given[i][1]);
        free(words);
    }
    assert_int_equal(http_refusal(&reply, "POST /x", &err), -1);
    assert_string_equal(err.message, "POST /x: the server answered 409: in use");
    error_clear(&err);
    char *escaped = http_escape("a b/ü~-._?");
    assert_string_equal(escaped, "a%20b%2F%C3%BC~-._%3F");
    free(escaped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_post),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_big_body_goes_without_expect),
        cmocka_unit_test(test_reuse_and_parallel),
        cmocka_unit_test(test_stale_connection),
        cmocka_unit_test(test_404_body_is_kept),
        cmocka_unit_test(test_redirect_is_not_followed),
        cmocka_unit_test(test_streamed_in_chunks),
        cmocka_unit_test(test_head_request),
        cmocka_unit_test(test_slow_head_and_body),
        cmocka_unit_test(test_content_length_too_short),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_wrong_syntax),
        cmocka_unit_test(test_nothing_listens),
        cmocka_unit_test(test_unknown_name),
        cmocka_unit_test(test_connect_limit),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_proxy_only_when_said),
        cmocka_unit_test(test_words_of_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
