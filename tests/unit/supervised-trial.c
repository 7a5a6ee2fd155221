#include "tests/unit/supervised-trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

static void add_text(char *to, const char *bytes, size_t size)
{
    size_t have = strlen(to);
    (void)snprintf(to + have, TEXT_SIZE - have, "%.*s", (int)size, bytes);
}

/* ---- the kernel's events ---- */

static void on_ready(void *data, const char *description)
{
    struct host *h = data;
    assert_non_null(strstr(description, "Python 3"));
    h->readies++;
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct host *h = data;
    (void)stream;
    h->output_total += size;
    add_text(h->output, bytes, size);
}

static void on_leftover(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct host *h = data;
    (void)stream;
    h->leftovers++;
    add_text(h->leftover, bytes, size);
}

static void on_held(void *data, enum stream stream, uint64_t bytes, uint64_t lines)
{
    char text[96];

    (void)snprintf(text, sizeof(text), "[%d:%llu:%llu]", stream, (unsigned long long)bytes,
                   (unsigned long long)lines);
    add_text(((struct host *)data)->output, text, strlen(text));
}

static void on_sample(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct host *h = data;

    h->samples++;
    if (!h->spawned) { /* when a real one comes nobody knows */
        add_text(h->output, stream ? "(1:" : "(0:", 3);
        add_text(h->output, bytes, size);
        add_text(h->output, ")", 1);
    }
}

static void on_kept(void *data, enum stream stream, uint64_t bytes)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "{%d:%llu}", stream, (unsigned long long)bytes);
    add_text(((struct host *)data)->output, text, strlen(text));
}

static void on_display(void *data, const struct display *display)
{
    struct host *h = data;
    const json_t *text = json_object_get(display->data, "text/plain");
    add_text(h->output, "<", 1);
    add_text(h->output, json_string_value(text), json_string_length(text));
    add_text(h->output, ">", 1);
}

static void on_note(void *data, const char *text)
{
    (void)data;
    (void)text;
}

static void on_reply(void *data, const struct kernel_reply *reply)
{
    struct host *h = data;
    h->replies++;
    h->reply = *reply;
}

static void on_kernel_broken(void *data, const char *why)
{
    (void)data;
    fail_msg("the kernel is broken: %s", why);
}

const struct kernel_events kernel_events = {
    .on_ready = on_ready,
    .on_output = on_output,
    .on_display = on_display,
    .on_note = on_note,
    .on_reply = on_reply,
    .on_broken = on_kernel_broken,
    .on_leftover = on_leftover,
    .on_held = on_held,
    .on_sample = on_sample,
    .on_kept = on_kept,
};

/* ---- the supervised's events ---- */

static void on_greeting(void *data, const char *python)
{
    struct host *h = data;
    assert_int_equal(python[0], '3');
    h->greetings++;
    if (h->start_at_once) {
        supervised_start_worker(h->supervised);
    }
}

static void on_worker(void *data, struct link *link)
{
    struct host *h = data;
    h->workers++;
    h->link = link;
    if (!h->attach_later) {
        h->kernel = runner_kernel.attach(link, &kernel_events, h);
    }
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct host *h = data;
    h->exits++;
    h->exit = *exit;
    h->exit.changed = NULL;
    changed_deinit(&h->changed);
    changed_parse(exit->changed, &h->changed);
    (void)snprintf(h->exit_message, sizeof(h->exit_message), "%s",
                   exit->message ? exit->message : "");
    if (h->kernel) {
        runner_kernel.detach(h->kernel);
        h->kernel = NULL;
    }
}

static void on_broken(void *data, const char *message)
{
    struct host *h = data;
    h->brokens++;
    (void)snprintf(h->broken, sizeof(h->broken), "%s", message);
}

static const struct supervised_events events = {on_greeting, on_worker, on_worker_exit, on_broken};

/* ---- the stream ---- */

static struct host *of_stream(const struct byte_stream *stream)
{
    return (struct host *)((char *)stream - offsetof(struct host, stream));
}

static int fake_write(struct byte_stream *stream, const void *bytes, size_t size)
{
    struct host *h = of_stream(stream);
    size_t n = sizeof(h->sent) - h->sent_size;
    memcpy(h->sent + h->sent_size, bytes, size < n ? size : n);
    h->sent_size += size < n ? size : n;
    return 0;
}

static void on_written(uv_write_t *req, int status)
{
    (void)status;
    free(req);
}

int real_write(struct byte_stream *stream, const void *bytes, size_t size)
{
    struct host *h = of_stream(stream);
    uv_write_t *req = malloc(sizeof(*req) + size);
    uv_buf_t buf = uv_buf_init((char *)(req + 1), (unsigned)size);
    assert_non_null(req);
    memcpy(req + 1, bytes, size);
    return uv_write(req, (uv_stream_t *)&h->in, &buf, 1, on_written);
}

static size_t real_queued(const struct byte_stream *stream)
{
    return uv_stream_get_write_queue_size((uv_stream_t *)&of_stream(stream)->in);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    struct host *h = handle->data;
    (void)size;
    *buf = uv_buf_init(h->space, sizeof(h->space));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct host *h = stream->data;
    if (h->closing) {
        return;
    }
    if (n > 0) {
        supervised_feed(h->supervised, buf->base, (size_t)n);
    } else if (n < 0) {
        uv_read_stop(stream);
        supervised_ended(h->supervised, "the test's process ended");
    }
}

static void on_process_end(uv_process_t *process, int64_t status, int term_signal)
{
    struct host *h = process->data;
    (void)status;
    (void)term_signal;
    h->ended = true;
}

/* ---- a host ---- */

void spawn(struct host *h, char **argv)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&h->in},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&h->out},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
    };
    const uv_process_options_t options = {
        .file = argv[0], .args = argv, .exit_cb = on_process_end, .stdio = stdio, .stdio_count = 3};
    uv_pipe_init(&h->loop, &h->in, 0);
    uv_pipe_init(&h->loop, &h->out, 0);
    h->process.data = h->in.data = h->out.data = h;
    assert_int_equal(uv_spawn(&h->loop, &h->process, &options), 0);
    h->spawned = true;
    uv_read_start((uv_stream_t *)&h->out, on_alloc, on_read);
}

struct host *host_new(const struct supervised_options *options)
{
    static const struct supervised_options plain = {0};
    struct host *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    assert_int_equal(uv_loop_init(&h->loop), 0);
    uv_timer_init(&h->loop, &h->limit);
    h->limit.data = h;
    h->stream.write = fake_write;
    h->supervised = supervised_new(&h->loop, &h->stream, options ? options : &plain, &events, h);
    assert_non_null(h->supervised);
    return h;
}

struct host *host_with_python(const struct supervised_options *options, const char *before)
{
    struct host *h = host_new(options);
    char *space = NULL, *script = NULL;
    const char *const *far = supervised_command("python3", true, &space);
    assert_non_null(far);
    h->stream.write = real_write;
    h->stream.queued = real_queued;
    if (before) {
        char *argv[] = {"sh", "-c", NULL, NULL};
        assert_true(asprintf(&script, "%s; exec %s %s %s %s %s", before, far[0], far[1], far[2],
                             far[3], far[4]) > 0);
        argv[2] = script;
        spawn(h, argv);
    } else {
        spawn(h, (char **)far);
    }
    free(script);
    free(space);
    h->start_at_once = true;
    supervised_open(h->supervised);
    return h;
}

void on_limit(uv_timer_t *timer)
{
    ((struct host *)timer->data)->timed_out = true;
}

void wait_for(struct host *h, const int *what, int want)
{
    uv_timer_start(&h->limit, on_limit, LIMIT_MS, 0);
    h->timed_out = false;
    while (*what < want && !h->timed_out) {
        uv_run(&h->loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&h->limit);
    if (*what < want) {
        fail_msg("waited in vain; broken: %s; exit: %s; output: %s", h->broken, h->exit_message,
                 h->output);
    }
}

static void on_closed(void *data)
{
    ((struct host *)data)->closed = true;
}

void host_free(struct host *h)
{
    if (h->kernel) {
        runner_kernel.detach(h->kernel);
    }
    supervised_close(h->supervised, on_closed, h);
    h->closing = true;
    if (h->spawned) {
        uv_close((uv_handle_t *)&h->in, NULL);
        uv_timer_start(&h->limit, on_limit, LIMIT_MS, 0);
        while (!h->ended && !h->timed_out) {
            uv_run(&h->loop, UV_RUN_ONCE);
        }
        assert_true(h->ended);
        uv_close((uv_handle_t *)&h->process, NULL);
        uv_close((uv_handle_t *)&h->out, NULL);
    }
    uv_close((uv_handle_t *)&h->limit, NULL);
    uv_run(&h->loop, UV_RUN_DEFAULT);
    assert_true(h->closed);
    assert_int_equal(uv_loop_close(&h->loop), 0);
    changed_deinit(&h->changed);
    free(h);
}

void begin(struct host *h, const char *code)
{
    const struct run_request request = {
        .id = "r-1", .language = "python", .code = code, .code_size = strlen(code)};
    h->output[0] = '\0';
    assert_int_equal(runner_kernel.run(h->kernel, &request), 0);
}

void run(struct host *h, const char *code)
{
    int before = h->replies;
    begin(h, code);
    wait_for(h, &h->replies, before + 1);
}
