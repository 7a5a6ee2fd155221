#include "backends/local/child.h"

#include <ctype.h>
#include <signal.h>
#include <string.h>

enum {
    LINGER_MS = 200,
    WORDS_SIZE = 1024,
};

static void handle_closed(uv_handle_t *handle)
{
    struct child *child = handle->data;
    if (--child->open_handles == 0) {
        buffer_deinit(&child->out_text);
        buffer_deinit(&child->err_text);
        if (child->closed) {
            child->closed(child);
        }
    }
}

static void report(struct child *child)
{
    if (child->reported || child->running) {
        return;
    }
    child->reported = true;
    uv_timer_stop(&child->timer);
    child->exited(child);
}

/* With all that it has started and that has not left its group. A bubblewrap that is killed while
 * it starts leaves its other half, which waits for its user map and would for ever. */
static void kill_group(const struct child *child)
{
    (void)uv_kill(-child->process.pid, SIGKILL);
}

static void on_timer(uv_timer_t *timer)
{
    struct child *child = timer->data;
    if (child->running) {
        child->timed_out = true;
        kill_group(child);
        return;
    }
    report(child); /* the linger is over */
}

static void on_exit(uv_process_t *process, int64_t status, int term_signal)
{
    struct child *child = process->data;
    /* However it ended. The number cannot be anybody else's while one of the group is left, and
     * where none is it was given back just now. */
    kill_group(child);
    child->running = false;
    child->status = status;
    child->term_signal = term_signal;
    if (child->open_pipes == 0) {
        report(child);
    } else {
        uv_timer_start(&child->timer, on_timer, LINGER_MS, 0);
    }
}

static struct buffer *text_of(struct child *child, const uv_stream_t *stream)
{
    return stream == (uv_stream_t *)&child->out ? &child->out_text : &child->err_text;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    struct child *child = handle->data;
    struct buffer *text = text_of(child, (uv_stream_t *)handle);
    (void)suggested;
    /* Make room for the newest: what matters of an error is its end. */
    if (buffer_size(text) + 1024 > text->cap) {
        buffer_consume(text, buffer_size(text) / 2);
    }
    char *space = NULL;
    *ret = uv_buf_init(buffer_reserve(text, 1024, &space) == 0 ? space : NULL, 1024);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct child *child = stream->data;
    (void)buf;
    if (n >= 0) {
        buffer_commit(text_of(child, stream), (size_t)n);
        return;
    }
    uv_read_stop(stream);
    if (--child->open_pipes == 0) {
        report(child);
    }
}

static void start_reading(struct child *child)
{
    child->open_pipes = child->reads_out ? 2 : 1;
    uv_read_start((uv_stream_t *)&child->err, on_alloc, on_read);
    if (child->reads_out) {
        uv_read_start((uv_stream_t *)&child->out, on_alloc, on_read);
    }
}

static void init_handles(uv_loop_t *loop, struct child *child)
{
    uv_pipe_init(loop, &child->out, 0);
    uv_pipe_init(loop, &child->err, 0);
    uv_timer_init(loop, &child->timer);
    child->out.data = child->err.data = child->timer.data = child->process.data = child;
    child->open_handles = 4;
    buffer_init(&child->out_text, CHILD_OUT_CAP);
    buffer_init(&child->err_text, CHILD_ERR_CAP);
}

static int fill_stdio(struct child *child, const struct child_options *options,
                      uv_stdio_container_t stdio[3 + CHILD_FDS_CAP])
{
    stdio[0].flags = UV_IGNORE;
    stdio[1].flags = UV_IGNORE;
    if (options->read_stdout) {
        stdio[1].flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
        stdio[1].data.stream = (uv_stream_t *)&child->out;
    }
    stdio[2].flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
    stdio[2].data.stream = (uv_stream_t *)&child->err;
    for (int i = 0; i < options->fd_count; i++) {
        stdio[3 + i].flags = UV_INHERIT_FD;
        stdio[3 + i].data.fd = options->fds[i];
    }
    return 3 + options->fd_count;
}

int child_spawn(uv_loop_t *loop, struct child *child, const struct child_options *options,
                void (*exited)(struct child *child), void *data)
{
    uv_stdio_container_t stdio[3 + CHILD_FDS_CAP] = {0};
    memset(child, 0, sizeof(*child));
    child->exited = exited;
    child->data = data;
    child->reads_out = options->read_stdout;
    init_handles(loop, child);
    uv_process_options_t spawn = {
        .exit_cb = on_exit,
        .file = options->file,
        .args = (char **)options->argv,
        .env = (char **)options->envp,
        .cwd = options->cwd ? options->cwd : "/",
        .stdio = stdio,
        .flags = UV_PROCESS_DETACHED,
    };
    spawn.stdio_count = options->fd_count > CHILD_FDS_CAP ? 0 : fill_stdio(child, options, stdio);
    if (options->user->drop) {
        spawn.flags |= UV_PROCESS_SETUID | UV_PROCESS_SETGID;
        spawn.uid = options->user->uid;
        spawn.gid = options->user->gid;
    }
    int r = spawn.stdio_count ? uv_spawn(loop, &child->process, &spawn) : UV_E2BIG;
    if (!spawn.stdio_count) {
        child->open_handles--; /* the process handle was never made */
    }
    if (r < 0) {
        return r;
    }
    child->running = true;
    start_reading(child);
    if (options->timeout_ms) {
        uv_timer_start(&child->timer, on_timer, options->timeout_ms, 0);
    }
    return 0;
}

void child_kill(struct child *child)
{
    if (child->running) {
        kill_group(child);
    }
}

void child_close(struct child *child, void (*closed)(struct child *child))
{
    if (child->closing) {
        return;
    }
    child->closing = true;
    child->closed = closed;
    /* A failed uv_spawn has made the handle too. */
    if (child->open_handles == 4) {
        uv_close((uv_handle_t *)&child->process, handle_closed);
    }
    uv_close((uv_handle_t *)&child->out, handle_closed);
    uv_close((uv_handle_t *)&child->err, handle_closed);
    uv_close((uv_handle_t *)&child->timer, handle_closed);
}

const char *child_last_words(struct child *child)
{
    struct buffer *text = &child->err_text;
    if (buffer_size(text) > WORDS_SIZE) {
        buffer_consume(text, buffer_size(text) - WORDS_SIZE);
    }
    while (buffer_size(text) && isspace((unsigned char)buffer_data(text)[buffer_size(text) - 1])) {
        text->end--;
    }
    if (buffer_append(text, "", 1) < 0) {
        return "";
    }
    text->end--;
    for (char *c = buffer_data(text); *c; c++) {
        if (iscntrl((unsigned char)*c) && *c != '\n') {
            *c = ' ';
        }
    }
    return buffer_data(text);
}
