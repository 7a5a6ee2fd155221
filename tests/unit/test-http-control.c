#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/http-trial.h"

static const struct hostile_step hello[] = {
    {HOSTILE_BODY},
    {HOSTILE_SEND, OK_HEAD "Content-Length: 5\r\n\r\nhello"},
    {HOSTILE_END},
};
static const struct hostile_step *const hellos[] = {hello, NULL};

/* Half an answer, in pieces, that never ends. */
static const struct hostile_step endless[] = {
    {HOSTILE_SEND, OK_HEAD},
    {HOSTILE_SLEEP, NULL, 2},
    {HOSTILE_SEND, "Transfer-Encoding: chunked\r\n\r\n"},
    {HOSTILE_SLEEP, NULL, 2},
    {HOSTILE_FLOOD, "5\r\nhello\r\n"},
};
static const struct hostile_step *const endlesses[] = {endless, NULL};

static const struct http_call get = {.method = "GET", .path = "/"};

/* --- cancel and close --------------------------------------------------------------------- */

static void test_cancel_in_each_phase(void **state)
{
    (void)state;
    for (int turns = 0; turns < 16; turns++) {
        struct trial t = {0};
        struct http_call call = get;
        trial_start(&t, turns % 2, endlesses);
        trial_call(&t, &call, true);
        for (int i = 0; i < turns; i++) {
            uv_run(&t.loop, UV_RUN_ONCE);
        }
        http_cancel(t.told[0].request);
        http_cancel(t.told[0].request);
        assert_int_equal(t.dones, 0); /* from the loop only */
        trial_run(&t);
        assert_told_error(&t.told[0], ERROR_LOST, "cancelled", NULL);
        trial_end(&t);
    }
}

static void cancel(struct trial_told *told)
{
    http_cancel(told->request);
}

static void cancel_at_once(struct trial_told *told)
{
    assert_int_equal(told->trial->told[0].streamed, told->streamed); /* once only */
    http_cancel(told->request);
}

static void test_cancel_inside_callbacks(void **state)
{
    (void)state;
    for (int where = 0; where < 3; where++) {
        struct trial t = {.in_head = where == 0 ? cancel : NULL,
                          .in_body = where == 1 ? cancel_at_once : NULL,
                          .in_done = where == 2 ? cancel : NULL};
        struct http_call call = get;
        trial_start(&t, false, where == 2 ? hellos : endlesses);
        trial_call(&t, &call, true);
        trial_run(&t);
        if (where == 2) {
            assert_null(t.told[0].err.message);
        } else {
            assert_told_error(&t.told[0], ERROR_LOST, "cancelled", NULL);
        }
        if (where == 0) {
            assert_int_equal(t.told[0].streamed, 0);
        }
        trial_end(&t);
    }
}

/* A name that is being looked up holds up neither cancel nor the end. */
static void test_cancel_of_a_lookup(void **state)
{
    struct trial t = {0};
    (void)state;
    trial_start_at(&t, "http://some-name.invalid", NULL);
    trial_get(&t, "/");
    for (int i = 0; i < 3; i++) {
        uv_run(&t.loop, UV_RUN_NOWAIT);
    }
    uint64_t then = uv_hrtime();
    http_cancel(t.told[0].request);
    trial_run(&t);
    assert_int_equal(t.told[0].err.kind, ERROR_LOST);
    assert_true(uv_hrtime() - then < 1000000000);
    trial_end(&t);
}

static void test_close_with_requests_going(void **state)
{
    (void)state;
    for (int turns = 0; turns < 12; turns++) {
        struct trial t = {0};
        struct error err = {0};
        trial_start(&t, turns % 2, endlesses);
        for (int i = 0; i < 4; i++) {
            struct http_call call = get;
            trial_call(&t, &call, i % 2);
        }
        for (int i = 0; i < turns; i++) {
            uv_run(&t.loop, UV_RUN_ONCE);
        }
        trial_end(&t);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(t.told[i].dones, 1);
            assert_int_equal(t.told[i].err.kind, ERROR_NONE); /* cleared by trial_end */
            assert_int_equal(t.told[i].status, 0);
        }
        error_clear(&err);
    }
}

static void noted_closed(void *data)
{
    ((struct trial *)data)->closed++;
}

static void close_http(struct trial_told *told)
{
    struct trial *t = told->trial;
    struct http_call call = get;
    struct error err = {0};
    if (t->http) {
        struct http *http = t->http;
        t->http = NULL;
        http_close(http, noted_closed, t);
        assert_null(http_start(http, &call, &err));
        assert_int_equal(err.kind, ERROR_LOST);
        error_clear(&err);
    }
}

static void test_close_inside_callbacks(void **state)
{
    (void)state;
    for (int where = 0; where < 3; where++) {
        struct trial t = {.in_head = where == 0 ? close_http : NULL,
                          .in_body = where == 1 ? close_http : NULL,
                          .in_done = where == 2 ? close_http : NULL};
        trial_start(&t, false, where == 2 ? hellos : endlesses);
        for (int i = 0; i < 3; i++) {
            struct http_call call = get;
            trial_call(&t, &call, true);
        }
        trial_until(&t, &t.closed, 1);
        assert_int_equal(t.dones, 3);
        hostile_close(t.server);
        uv_close((uv_handle_t *)&t.guard, NULL);
        assert_int_equal(uv_run(&t.loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(uv_loop_close(&t.loop), 0);
        for (int i = 0; i < 3; i++) {
            error_clear(&t.told[i].err);
        }
    }
}

static void start_more(struct trial_told *told)
{
    struct trial *t = told->trial;
    if (t->started < 4) {
        struct http_call call = get;
        trial_call(t, &call, t->started % 2);
    }
}

/* A request may be started from inside the callbacks of another. */
static void test_start_inside_callbacks(void **state)
{
    struct trial t = {.in_head = start_more, .in_body = start_more, .in_done = start_more};
    struct http_call call = get;
    (void)state;
    trial_start(&t, false, hellos);
    trial_call(&t, &call, true);
    trial_run(&t);
    assert_int_equal(t.started, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(t.told[i].status, 200);
    }
    trial_end(&t);
}

/* --- pause -------------------------------------------------------------------------------- */

static void pause_first(struct trial_told *told)
{
    if (told->streamed < 1000000) {
        http_request_pause(told->request, true);
    }
}

static void turn(struct trial *t, unsigned ms)
{
    uint64_t then = uv_hrtime();
    while (uv_hrtime() - then < ms * 1000000ULL) {
        uv_run(&t->loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
}

static void test_pause(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_SEND, OK_HEAD "Content-Length: 8000000\r\n\r\n"},
        {HOSTILE_FILL, NULL, 8000000},
        {HOSTILE_END}};
    const struct hostile_step *const scripts[] = {script, NULL};
    (void)state;
    for (int tcp = 0; tcp < 2; tcp++) {
        struct trial t = {.in_body = pause_first};
        /* What its taker holds back is no idle time of the server. */
        struct http_call call = {.method = "GET", .path = "/", .idle_ms = 40};
        trial_start(&t, tcp, scripts);
        trial_call(&t, &call, true);
        while (t.told[0].streamed == 0) {
            uv_run(&t.loop, UV_RUN_ONCE);
        }
        size_t then = t.told[0].streamed;
        turn(&t, 120);
        assert_int_equal(t.told[0].streamed, then);
        assert_int_equal(t.dones, 0);
        while (t.dones == 0) {
            http_request_pause(t.told[0].request, false);
            uv_run(&t.loop, UV_RUN_NOWAIT);
        }
        assert_null(t.told[0].err.message);
        assert_int_equal(t.told[0].streamed, 8000000);
        trial_end(&t);
    }
}

static void test_cancel_while_paused(void **state)
{
    struct trial t = {.in_body = pause_first};
    struct http_call call = get;
    (void)state;
    trial_start(&t, false, endlesses);
    trial_call(&t, &call, true);
    while (t.told[0].streamed == 0) {
        uv_run(&t.loop, UV_RUN_ONCE);
    }
    turn(&t, 10);
    http_cancel(t.told[0].request);
    trial_run(&t);
    assert_told_error(&t.told[0], ERROR_LOST, "cancelled", NULL);
    trial_end(&t);
}

/* --- a body that is made piece by piece --------------------------------------------------- */

struct source {
    struct trial_told told; /* first: it is the call's data */
    size_t left, piece;
    int dry;   /* -EAGAIN comes so often before each piece */
    int error; /* at the end */
    int asked;
    uv_timer_t timer;
};

static void on_refill(uv_timer_t *timer)
{
    struct source *s = timer->data;
    http_request_resume(s->told.request);
}

static ptrdiff_t read_source(void *data, char *space, size_t size)
{
    struct source *s = data;
    size_t n = s->left < s->piece ? s->left : s->piece;

    assert_false(s->told.trial->starting);
    if (s->asked++ % (s->dry + 1) < s->dry) {
        uv_timer_start(&s->timer, on_refill, 1, 0);
        return -EAGAIN;
    }
    if (n == 0 && s->error) {
        return s->error;
    }
    n = n < size ? n : size;
    memset(space, 'y', n);
    s->left -= n;
    return (ptrdiff_t)n;
}

static void source_done(void *data, const struct http_reply *reply, const struct error *err)
{
    struct source *s = data;
    s->told.dones++;
    s->told.status = reply->status;
    strncpy(s->told.body, reply->body, sizeof(s->told.body) - 1);
    if (err) {
        error_copy(&s->told.err, err);
    }
    s->told.trial->dones++;
}

static void upload(struct trial *t, struct source *s, const struct hostile_step *script, bool tcp)
{
    const struct hostile_step *const scripts[] = {script, NULL};
    struct http_call call = {.method = "PUT",
                             .path = "/archive",
                             .content_type = "application/x-tar",
                             .read_body = read_source,
                             .done = source_done,
                             .data = s};
    struct error err = {0};

    trial_start(t, tcp, scripts);
    s->told.trial = t;
    uv_timer_init(&t->loop, &s->timer);
    s->timer.data = s;
    t->starting = true;
    s->told.request = http_start(t->http, &call, &err);
    t->starting = false;
    assert_non_null(s->told.request);
    t->started++;
    trial_run(t);
    uv_close((uv_handle_t *)&s->timer, NULL);
}

static void end_upload(struct trial *t, struct source *s)
{
    trial_end(t);
    error_clear(&s->told.err);
}

static void test_upload(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct trial t = {0};
        struct source s = {
            .left = i < 2 ? 3000000 : 20, .piece = i < 2 ? 100000 : 7, .dry = i < 4 ? 0 : 2};
        upload(&t, &s, hello, i % 2);
        assert_null(s.told.err.message);
        assert_int_equal(s.told.status, 200);
        assert_non_null(strstr(t.server->head, "Transfer-Encoding: chunked\r\n"));
        assert_non_null(strstr(t.server->head, "Content-Type: application/x-tar\r\n"));
        assert_null(strcasestr(t.server->head, "expect"));
        if (i >= 2) {
            assert_memory_equal(t.server->body + t.server->body_size - 5, "0\r\n\r\n", 5);
        } else {
            assert_true(t.server->body_size > 3000000);
        }
        end_upload(&t, &s);
    }
}

static void test_empty_upload(void **state)
{
    struct trial t = {0};
    struct source s = {.piece = 1};
    (void)state;
    upload(&t, &s, hello, false);
    assert_int_equal(s.told.status, 200);
    assert_int_equal(t.server->body_size, 5);
    end_upload(&t, &s);
}

static void test_upload_gives_up(void **state)
{
    struct trial t = {0};
    struct source s = {.left = 100, .piece = 50, .error = -EIO};
    (void)state;
    upload(&t, &s, hello, false);
    assert_int_equal(s.told.dones, 1);
    assert_non_null(strstr(s.told.err.message, "cannot be read on: Input/output error"));
    assert_null(
        memmem(t.server->body, t.server->body_size, "0\r\n\r\n", 5)); /* never a short one */
    end_upload(&t, &s);
}

/* The server says no before all is sent, and closes: what it says is told. */
static void test_refused_upload(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_COUNT, NULL, 1000},
        {HOSTILE_SEND, "HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\nConnection: close\r\n\r\n"
                       "no container"},
        {HOSTILE_CUT}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct trial t = {0};
        struct source s = {.left = 1000000, .piece = 1000, .dry = 1};
        upload(&t, &s, script, i);
        assert_int_equal(s.told.dones, 1);
        assert_null(s.told.err.message);
        assert_int_equal(s.told.status, 404);
        assert_string_equal(s.told.body, "no container");
        end_upload(&t, &s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancel_in_each_phase),
        cmocka_unit_test(test_cancel_inside_callbacks),
        cmocka_unit_test(test_cancel_of_a_lookup),
        cmocka_unit_test(test_close_with_requests_going),
        cmocka_unit_test(test_close_inside_callbacks),
        cmocka_unit_test(test_start_inside_callbacks),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_cancel_while_paused),
        cmocka_unit_test(test_upload),
        cmocka_unit_test(test_empty_upload),
        cmocka_unit_test(test_upload_gives_up),
        cmocka_unit_test(test_refused_upload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
