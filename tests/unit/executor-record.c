#include "executor-record.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/kernels/runner/frame.h"

enum { PATIENCE_MS = 3000 };

static void log_add(struct record *r, const char *text, size_t size)
{
    assert_false(r->inside);
    assert_int_equal(r->done, 0);
    size_t used = strlen(r->log);
    if (used + size + 1 < sizeof(r->log)) {
        memcpy(r->log + used, text, size);
        r->log[used + size] = '\0';
    }
}

static void on_waiting(void *data, const char *what)
{
    assert_true(strlen(what) > 0);
    log_add(data, "w", 1);
}

static void on_started(void *data)
{
    log_add(data, "s", 1);
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct record *r = data;

    if (stream == STREAM_STDERR) {
        log_add(r, "!", 1);
    }
    log_add(r, bytes, size);
    if (r->cancel_in_output) {
        run_cancel(r->cancel_in_output);
    }
}

static void on_display(void *data, const struct display *display)
{
    log_add(data, display->kind == DISPLAY_CLEAR ? "c" : "d", 1);
}

static void on_note(void *data, const char *text)
{
    (void)text;
    log_add(data, "n", 1);
}

static void copy_text(char *to, size_t size, const char *text)
{
    (void)snprintf(to, size, "%s", text ? text : "");
}

static void on_held(void *data, enum stream stream, uint64_t bytes, uint64_t lines)
{
    char text[64];
    int n = snprintf(text, sizeof(text), "%s[%llu:%llu]", stream ? "!" : "",
                     (unsigned long long)bytes, (unsigned long long)lines);

    log_add(data, text, (size_t)n);
}

static void on_sample(void *data, enum stream stream, const char *bytes, size_t size)
{
    log_add(data, stream ? "!(" : "(", stream ? 2 : 1);
    log_add(data, bytes, size);
    log_add(data, ")", 1);
}

static void on_done(void *data, const struct outcome *o)
{
    struct record *r = data;

    log_add(r, ".", 1);
    r->done++;
    r->cause = o->cause;
    r->state_lost = o->state_lost;
    r->has_exit_code = o->has_exit_code;
    r->exit_code = o->exit_code;
    r->signal = o->signal;
    r->changed = o->changed.count;
    copy_text(r->note, sizeof(r->note), o->note);
    copy_text(r->etype, sizeof(r->etype), o->error.etype);
    copy_text(r->evalue, sizeof(r->evalue), o->error.evalue);
    copy_text(r->snapshot, sizeof(r->snapshot), o->snapshot);
    copy_text(r->path, sizeof(r->path), o->full[0].path);
    r->full[0] = o->full[0];
    r->full[1] = o->full[1];
    if (r->close_in_done) {
        executor_close(r->executor, NULL, NULL);
    }
}

const struct run_events record_events = {
    .on_waiting = on_waiting,
    .on_started = on_started,
    .on_output = on_output,
    .on_held = on_held,
    .on_sample = on_sample,
    .on_display = on_display,
    .on_note = on_note,
    .on_done = on_done,
};

static void on_idle_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct context *c = data;

    (void)stream;
    strncat(c->idle, bytes, size);
}

static void on_closed(void *data, const struct error *err)
{
    struct context *c = data;

    assert_null(err);
    c->closed = true;
}

/* ---- helpers ---- */

int record_setup(void **state)
{
    struct context *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    fake_place_init(&c->place);
    c->e = executor_new(&c->place.base);
    assert_non_null(c->e);
    executor_set_idle_output(c->e, on_idle_output, c);
    c->e->limits = (struct executor_limits){.start = 250,
                                            .start_whole = 800,
                                            .greeting = 250,
                                            .stall = 50,
                                            .undo = 50,
                                            .grace = 30,
                                            .broken = 20,
                                            .kill = 50,
                                            .file = 2000};
    *state = c;
    return 0;
}

static void ignore_timer(uv_timer_t *timer)
{
    (void)timer;
}

void until(struct context *c, const int *flag)
{
    uv_timer_t guard;
    uint64_t start = uv_hrtime();

    uv_timer_init(&c->place.loop, &guard);
    uv_timer_start(&guard, ignore_timer, PATIENCE_MS, 0);
    while (!*flag && uv_hrtime() - start < (uint64_t)PATIENCE_MS * 1000000) {
        uv_run(&c->place.loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&guard, NULL);
    uv_run(&c->place.loop, UV_RUN_NOWAIT);
    assert_true(*flag);
}

void turns(struct context *c, int count)
{
    while (count-- > 0) {
        uv_run(&c->place.loop, UV_RUN_NOWAIT);
    }
}

void close_executor(struct context *c)
{
    if (c->e) {
        executor_close(c->e, on_closed, c);
        c->e = NULL;
        assert_false(c->closed);
        uv_run(&c->place.loop, UV_RUN_DEFAULT);
        assert_true(c->closed);
    }
}

int record_teardown(void **state)
{
    struct context *c = *state;

    close_executor(c);
    uv_run(&c->place.loop, UV_RUN_DEFAULT);
    fake_place_deinit(&c->place);
    free(c);
    return 0;
}

struct run *run_as(struct context *c, struct record *r, const char *language, double seconds)
{
    char id[RUN_ID_SIZE];
    struct error err = {0};
    struct run *run;

    (void)snprintf(id, sizeof(id), "r-%d", ++c->next_id);
    r->inside = true;
    run = executor_run(c->e,
                       &(struct run_request){.id = id,
                                             .language = language,
                                             .code = "x",
                                             .code_size = 1,
                                             .timeout_seconds = seconds,
                                             .keep_full_output = true,
                                             .output_head = r->head,
                                             .output_tail = r->head},
                       &record_events, r, &err);
    r->inside = false;
    assert_non_null(run);
    assert_int_equal(r->done, 0);
    return run;
}

struct run *run(struct context *c, struct record *r)
{
    return run_as(c, r, "python", 2);
}

/* ---- what runs do ---- */

void does_ok(struct fake_machine *m, const char *id)
{
    fake_print(m, STREAM_STDOUT, "hello");
    fake_done(m, id, "\"status\":\"ok\",\"execution_count\":1");
}

void does_nothing(struct fake_machine *m, const char *id)
{
    (void)m;
    (void)id;
}

void does_print_and_hang(struct fake_machine *m, const char *id)
{
    (void)id;
    fake_print(m, STREAM_STDOUT, "before");
    fake_frame(m, FRAME_NOTE, "{\"text\":\"look\"}");
}

void does_crash(struct fake_machine *m, const char *id)
{
    (void)id;
    fake_print(m, STREAM_STDOUT, "last words");
    fake_exit(m, (struct machine_exit){.how = EXIT_SIGNAL, .signal = SIGSEGV, .cpu_ms = 3});
}

void does_os_exit(struct fake_machine *m, const char *id)
{
    (void)id;
    fake_end_stream(m);
    fake_exit(m, (struct machine_exit){.how = EXIT_CODE, .code = 3});
}

void warm_up(struct context *c)
{
    struct record r = {0};

    c->place.on_run = does_ok;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
}

void does_flood(struct fake_machine *m, const char *id)
{
    char line[1001];

    memset(line, 'x', 1000);
    line[1000] = '\0';
    for (int i = 0; i < 20; i++) {
        fake_print(m, STREAM_STDOUT, line);
        fake_frame(m, FRAME_NOTE, "{\"text\":\"so that it comes in pieces\"}");
    }
    fake_done(m, id, "\"status\":\"ok\"");
}
