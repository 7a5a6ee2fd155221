#include "tests/unit/http-trial.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/cmocka_all.h"

enum { GUARD_MS = 20000 };

static void on_guard(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("the test took longer than its limit");
}

static void init(struct trial *t)
{
    assert_int_equal(uv_loop_init(&t->loop), 0);
    uv_timer_init(&t->loop, &t->guard);
    uv_timer_start(&t->guard, on_guard, GUARD_MS, 0);
    for (int i = 0; i < TRIAL_REQUESTS; i++) {
        t->told[i].trial = t;
    }
}

static void make_client(struct trial *t)
{
    struct error err = {0};
    t->http = http_new(&t->loop, &t->options, &err);
    assert_non_null(t->http);
}

void trial_start(struct trial *t, bool tcp, const struct hostile_step *const *scripts)
{
    struct hostile_options options = {.tcp = tcp, .scripts = scripts};
    init(t);
    t->server = hostile_new(&t->loop, &options);
    t->options.base = t->server->base;
    t->options.unix_socket = tcp ? NULL : t->server->socket;
    make_client(t);
}

void trial_start_at(struct trial *t, const char *base, const char *unix_socket)
{
    init(t);
    t->options.base = base;
    t->options.unix_socket = unix_socket;
    make_client(t);
}

static void on_head(void *data, long status, const char *content_type)
{
    struct trial_told *told = data;
    assert_false(told->trial->starting);
    assert_int_equal(told->dones, 0);
    assert_int_equal(told->heads++, 0);
    told->head_status = status;
    strncpy(told->type, content_type, sizeof(told->type) - 1);
    if (told->trial->in_head) {
        told->trial->in_head(told);
    }
}

static void on_body(void *data, const char *bytes, size_t size)
{
    struct trial_told *told = data;
    assert_int_equal(told->heads, 1);
    assert_int_equal(told->dones, 0);
    assert_true(size > 0);
    if (told->streamed + size < sizeof(told->body)) {
        memcpy(told->body + told->streamed, bytes, size);
    }
    told->streamed += size;
    if (told->trial->in_body) {
        told->trial->in_body(told);
    }
}

static void on_done(void *data, const struct http_reply *reply, const struct error *err)
{
    struct trial_told *told = data;
    assert_false(told->trial->starting);
    assert_int_equal(told->dones++, 0);
    assert_int_equal(reply->body[reply->size], '\0');
    told->status = reply->status;
    told->size = reply->size;
    strncpy(told->type, reply->content_type, sizeof(told->type) - 1);
    if (reply->size > 0 && reply->size < sizeof(told->body)) {
        memcpy(told->body, reply->body, reply->size + 1);
    }
    if (err) {
        assert_int_equal(reply->status, 0);
        error_copy(&told->err, err);
    }
    told->trial->dones++;
    if (told->trial->in_done) {
        told->trial->in_done(told);
    }
}

struct trial_told *trial_call(struct trial *t, struct http_call *call, bool streamed)
{
    struct trial_told *told = &t->told[t->started];
    struct error err = {0};

    assert_true(t->started < TRIAL_REQUESTS);
    call->data = told;
    call->done = on_done;
    if (streamed) {
        call->on_head = on_head;
        call->on_body = on_body;
    }
    t->starting = true;
    told->request = http_start(t->http, call, &err);
    t->starting = false;
    assert_non_null(told->request);
    t->started++;
    return told;
}

struct trial_told *trial_get(struct trial *t, const char *path)
{
    struct http_call call = {.method = "GET", .path = path};
    return trial_call(t, &call, false);
}

void trial_until(struct trial *t, const int *counter, int n)
{
    while (*counter < n) {
        assert_true(uv_run(&t->loop, UV_RUN_ONCE) != 0 || *counter >= n);
    }
}

void trial_run(struct trial *t)
{
    while (t->dones < t->started) {
        trial_until(t, &t->dones, t->dones + 1);
    }
}

static void on_closed(void *data)
{
    struct trial *t = data;
    assert_int_equal(t->dones, t->started); /* each `done` comes before `closed` */
    t->closed++;
}

void trial_end(struct trial *t)
{
    http_close(t->http, on_closed, t);
    assert_int_equal(t->closed, 0);
    trial_until(t, &t->closed, 1);
    if (t->server) {
        hostile_close(t->server);
    }
    uv_close((uv_handle_t *)&t->guard, NULL);
    assert_int_equal(uv_run(&t->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(t->dones, t->started);
    assert_int_equal(t->closed, 1);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    for (int i = 0; i < t->started; i++) {
        error_clear(&t->told[i].err);
    }
}

void trial_one(const struct hostile_step *script, struct http_call *call, bool streamed,
               void (*look)(struct trial_told *told))
{
    const struct hostile_step *const scripts[] = {script, NULL};
    for (int tcp = 0; tcp < 2; tcp++) {
        struct trial t = {.options.quick_ack = true};
        trial_start(&t, tcp, scripts);
        struct trial_told *told = trial_call(&t, call, streamed);
        trial_run(&t);
        look(told);
        trial_end(&t);
    }
}

void trial_one_get(const struct hostile_step *script, void (*look)(struct trial_told *told))
{
    struct http_call call = {.method = "GET", .path = "/a?token=SECRET"};
    trial_one(script, &call, false, look);
}

void assert_close_on_exec(void)
{
    for (int fd = 3; fd < 64; fd++) {
        int flags = fcntl(fd, F_GETFD);
        struct stat st;
        if (flags >= 0 && !(flags & FD_CLOEXEC) && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode)) {
            fail_msg("descriptor %d would be inherited", fd);
        }
    }
}

void assert_told_error(const struct trial_told *told, enum error_kind kind, ...)
{
    const char *word;
    va_list words;

    assert_int_equal(told->dones, 1);
    assert_non_null(told->err.message);
    va_start(words, kind);
    while ((word = va_arg(words, const char *))) {
        if (!strstr(told->err.message, word)) {
            fail_msg("\"%s\" is not in: %s", word, told->err.message);
        }
    }
    va_end(words);
    if (told->err.kind != kind) {
        fail_msg("kind %d, not %d: %s", told->err.kind, kind, told->err.message);
    }
}

void assert_told(const struct trial_told *told, long status, const char *body)
{
    assert_int_equal(told->dones, 1);
    if (told->err.message) {
        fail_msg("not expected: %s", told->err.message);
    }
    assert_int_equal(told->status, status);
    assert_string_equal(told->body, body);
    assert_int_equal(told->size, strlen(body));
}
