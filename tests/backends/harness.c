#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/registry.h"
#include "mcp/config_environment.h"

enum { PATIENCE_MS = 90 * 1000 };

/* ---- records ---- */

static void said(struct record *r, char what)
{
    size_t n = strlen(r->order);

    assert_false(r->inside);
    assert_int_equal(r->done, 0);
    /* Pieces of one output are one. */
    if (n + 1 < sizeof(r->order) && (n == 0 || r->order[n - 1] != what)) {
        r->order[n] = what;
        r->order[n + 1] = '\0';
    }
}

static void append(char *to, size_t room, const char *bytes, size_t size)
{
    size_t used = strlen(to);

    if (used + size < room) {
        memcpy(to + used, bytes, size);
        to[used + size] = '\0';
    }
}

static void on_started(void *data)
{
    struct record *r = data;

    said(r, 's');
    assert_int_equal(r->started, 0);
    r->started = 1;
}

static void on_waiting(void *data, const char *what)
{
    const struct record *r = data;

    assert_false(r->inside);
    assert_int_equal(r->started, 0);
    assert_true(what[0]);
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct record *r = data;

    assert_int_equal(r->started, 1);
    assert_true(size > 0);
    said(r, stream == STREAM_STDOUT ? 'o' : 'e');
    if (stream == STREAM_STDOUT) {
        append(r->out, sizeof(r->out), bytes, size);
    } else {
        append(r->err, sizeof(r->err), bytes, size);
    }
}

static void on_display(void *data, const struct display *display)
{
    struct record *r = data;
    const char *text = json_string_value(json_object_get(display->data, "text/plain"));

    said(r, display->kind == DISPLAY_RESULT ? 'r' : 'd');
    if (display->kind == DISPLAY_RESULT && text) {
        append(r->result, sizeof(r->result), text, strlen(text));
    }
}

static void on_note(void *data, const char *text)
{
    assert_non_null(text);
    said(data, 'n');
}

static void copy(char *to, size_t room, const char *text)
{
    (void)snprintf(to, room, "%s", text ? text : "");
}

static void on_done(void *data, const struct outcome *o)
{
    struct record *r = data;

    said(r, '.');
    r->done = 1;
    r->cause = o->cause;
    r->state_lost = o->state_lost;
    r->has_exit_code = o->has_exit_code;
    r->exit_code = o->exit_code;
    r->signal = o->signal;
    r->duration_ms = o->duration_ms;
    r->full[0] = o->full[0];
    r->full[1] = o->full[1];
    copy(r->note, sizeof(r->note), o->note);
    copy(r->etype, sizeof(r->etype), o->error.etype);
    copy(r->evalue, sizeof(r->evalue), o->error.evalue);
    copy(r->full_path, sizeof(r->full_path), o->full[0].path);
    if (o->cause != CAUSE_OK && o->cause != CAUSE_ERROR) {
        assert_non_null(o->note);
    }
}

static const struct run_events events = {
    .on_waiting = on_waiting,
    .on_started = on_started,
    .on_output = on_output,
    .on_display = on_display,
    .on_note = on_note,
    .on_done = on_done,
};

static void on_idle_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct bench *b = data;

    (void)stream;
    append(b->idle, sizeof(b->idle), bytes, size);
}

/* ---- the bench ---- */

/* CELLBLOCK_ENVIRONMENT_JSON is an environment of the config file. */
static void environment_from_outside(struct environment *env)
{
    const char *backend = getenv("CELLBLOCK_BACKEND");
    const char *text = getenv("CELLBLOCK_ENVIRONMENT_JSON");
    json_t *settings = json_loads(text ? text : "{}", 0, NULL);
    struct error err = {0};

    assert_non_null(settings);
    assert_int_equal(environment_init(env, "contract", backend ? backend : "local"), 0);
    if (config_fill_environment(env, settings, &err) < 0) {
        fail_msg("CELLBLOCK_ENVIRONMENT_JSON: %s", err.message);
    }
    json_decref(settings);
}

bool has(const struct bench *b, enum capability capability)
{
    return (place_capabilities(b->place) & (unsigned)capability) != 0;
}

struct executor *bench_executor(struct bench *b)
{
    struct executor *e = executor_new(b->place);

    assert_non_null(e);
    executor_set_idle_output(e, on_idle_output, b);
    return e;
}

int bench_setup(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));
    struct error err = {0};

    assert_non_null(b);
    assert_int_equal(uv_loop_init(&b->loop), 0);
    environment_from_outside(&b->env);
    if (place_open(&b->loop, &b->env, &b->place, &err) < 0) {
        fail_msg("place_open: %s", err.message);
    }
    b->e = bench_executor(b);
    *state = b;
    return 0;
}

static void on_closed(void *data, const struct error *err)
{
    struct bench *b = data;

    assert_null(err);
    b->closed++;
}

void bench_close(struct bench *b, struct executor *e)
{
    b->closed = 0;
    executor_close(e, on_closed, b);
    assert_int_equal(b->closed, 0);
    until(b, &b->closed);
    assert_int_equal(b->closed, 1);
}

static void on_place_closed(void *data)
{
    *(int *)data = 1;
}

int bench_teardown(void **state)
{
    struct bench *b = *state;
    int closed = 0;

    if (b->e) {
        bench_close(b, b->e);
    }
    place_close(b->place, on_place_closed, &closed);
    until(b, &closed);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    environment_deinit(&b->env);
    free(b);
    return 0;
}

static void set_flag(uv_timer_t *timer)
{
    *(int *)timer->data = 1;
}

static void loop_until(struct bench *b, const int *flag, int *over, unsigned ms)
{
    uv_timer_t guard;

    uv_timer_init(&b->loop, &guard);
    guard.data = over;
    uv_update_time(&b->loop);
    uv_timer_start(&guard, set_flag, ms, 0);
    while (!*over && (!flag || !*flag)) {
        uv_run(&b->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&guard, NULL);
    uv_run(&b->loop, UV_RUN_NOWAIT);
}

void until(struct bench *b, const int *flag)
{
    int over = 0;

    loop_until(b, flag, &over, PATIENCE_MS);
    if (!*flag) {
        fail_msg("nothing came within %d s", PATIENCE_MS / 1000);
    }
}

void for_ms(struct bench *b, unsigned ms)
{
    int over = 0;

    loop_until(b, NULL, &over, ms);
}

/* ---- runs ---- */

struct run *begin(struct bench *b, struct executor *e, struct record *r, const char *code,
                  const struct run_options *options)
{
    static const struct run_options usual;
    const struct run_options *o = options ? options : &usual;
    struct error err = {0};
    char id[RUN_ID_SIZE];
    struct run *run;

    (void)snprintf(id, sizeof(id), "r-t%u", ++b->next_id % 1000000u);
    *r = (struct record){.inside = true};
    run = executor_run(e,
                       &(struct run_request){
                           .id = id,
                           .language = o->language ? o->language : "python",
                           .code = code,
                           .code_size = o->code_size ? o->code_size : strlen(code),
                           .stdin_text = o->input,
                           .stdin_size = o->input ? strlen(o->input) : 0,
                           .env = o->env,
                           .timeout_seconds = o->seconds > 0 ? o->seconds : 20,
                           .keep_full_output = true,
                       },
                       &events, r, &err);
    r->inside = false;
    json_decref(o->env);
    if (!run) {
        fail_msg("executor_run: %s", err.message);
    }
    assert_int_equal(r->done, 0);
    return run;
}

void run_with(struct bench *b, struct record *r, const char *code,
              const struct run_options *options)
{
    (void)begin(b, b->e, r, code, options);
    until(b, &r->done);
}

void run(struct bench *b, struct record *r, const char *code)
{
    run_with(b, r, code, NULL);
}

void expect(struct bench *b, const char *code, const char *out)
{
    struct record r;

    run(b, &r, code);
    if (r.cause != CAUSE_OK) {
        fail_msg("%s: %s %s %s %s", cause_name(r.cause), r.etype, r.evalue, r.note, r.err);
    }
    assert_string_equal(r.out, out);
}

/* ---- shares ---- */

static void on_answer(void *data, const struct error *err)
{
    struct answer *a = data;

    assert_false(a->inside);
    assert_int_equal(a->count, 0);
    a->count = 1;
    a->kind = err ? err->kind : ERROR_NONE;
    copy(a->message, sizeof(a->message), err ? err->message : NULL);
}

void add_share(struct bench *b, struct executor *e, enum share_type type, const char *source,
               const char *dest, bool read_only, struct answer *a)
{
    int fd = open(source, O_PATH | O_CLOEXEC);
    struct share *share = share_new(type, fd, source, dest, read_only);

    assert_non_null(share);
    *a = (struct answer){.inside = true};
    executor_add_share(e, share, NULL, on_answer, a);
    a->inside = false;
    assert_int_equal(a->count, 0);
    until(b, &a->count);
}
