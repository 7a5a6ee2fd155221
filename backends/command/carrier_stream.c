#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/command/carrier.h"

/* What goes through the pipes of a carrier: frames both ways, and what the command says on stderr.
 */

struct write {
    uv_write_t req;
    char bytes[];
};

static void on_written(uv_write_t *req, int status)
{
    (void)status; /* the end of the process tells it better */
    free(req);
}

static struct carrier *of_stream(struct byte_stream *stream)
{
    return (struct carrier *)((char *)stream - offsetof(struct carrier, stream));
}

static int stream_write(struct byte_stream *stream, const void *bytes, size_t size)
{
    struct carrier *c = of_stream(stream);
    uv_buf_t buf = uv_buf_init((char *)bytes, (unsigned)size);
    struct write *write;
    int r;

    if (!c->running || uv_is_closing((uv_handle_t *)&c->in)) {
        return -EPIPE;
    }
    r = uv_try_write((uv_stream_t *)&c->in, &buf, 1);
    if (r == (int)size) {
        return 0;
    }
    if (r < 0 && r != UV_EAGAIN) {
        return r;
    }
    buf.base += r > 0 ? r : 0;
    buf.len -= r > 0 ? (size_t)r : 0;
    if (uv_stream_get_write_queue_size((uv_stream_t *)&c->in) + buf.len > COMMAND_QUEUE_CAP) {
        return -ENOBUFS;
    }
    write = malloc(sizeof(*write) + buf.len);
    if (!write) {
        return -ENOMEM;
    }
    memcpy(write->bytes, buf.base, buf.len);
    buf.base = write->bytes;
    r = uv_write(&write->req, (uv_stream_t *)&c->in, &buf, 1, on_written);
    if (r < 0) {
        free(write);
    }
    return r;
}

static size_t stream_queued(const struct byte_stream *stream)
{
    const struct carrier *c = of_stream((struct byte_stream *)stream);
    return uv_stream_get_write_queue_size((const uv_stream_t *)&c->in);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    struct carrier *c = handle->data;
    (void)size;
    *buf = uv_buf_init(c->space, sizeof(c->space));
}

static void on_out(uv_stream_t *out, ssize_t n, const uv_buf_t *buf)
{
    struct carrier *c = out->data;

    if (n > 0 && c->state == STATE_STARTING) {
        c->heard_at = uv_now(out->loop);
    }
    if (n > 0 && c->supervised && carrier_alive(c)) {
        supervised_feed(c->supervised, buf->base, (size_t)n);
    }
    if (n < 0) {
        uv_read_stop(out);
        c->out_ended = true;
        carrier_take_end(c);
    }
}

/* As srun, salloc, qsub, bsub and kubectl say it. */
static bool says_it_waits(const char *line)
{
    static const char *const words[] = {"queue", "waiting", "pending"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasestr(line, words[i])) {
            return true;
        }
    }
    return false;
}

static void tell_line(struct carrier *c)
{
    size_t size = c->line_size;

    c->line_size = 0;
    while (size > 0 && (c->line[size - 1] == '\r' || c->line[size - 1] == ' ')) {
        size--;
    }
    c->line[size] = '\0';
    if (size > 0) {
        c->queues = says_it_waits(c->line);
    }
    if (size > 0 && c->state == STATE_STARTING && c->events.on_waiting) {
        c->events.on_waiting(c->data, c->line);
    }
}

static void keep_errors(struct carrier *c, const char *bytes, size_t size)
{
    size_t keep = size < COMMAND_ERRORS_CAP ? size : COMMAND_ERRORS_CAP;
    size_t have = buffer_size(&c->errors);

    if (have + keep > COMMAND_ERRORS_CAP) {
        buffer_consume(&c->errors, have + keep - COMMAND_ERRORS_CAP);
    }
    (void)buffer_append(&c->errors, bytes + size - keep, keep);
}

static void on_err(uv_stream_t *err, ssize_t n, const uv_buf_t *buf)
{
    struct carrier *c = err->data;

    if (n < 0) {
        uv_read_stop(err);
        c->err_ended = true;
        carrier_take_end(c);
    }
    if (n <= 0 || !carrier_alive(c)) {
        return;
    }
    keep_errors(c, buf->base, (size_t)n);
    if (c->state == STATE_STARTING) {
        c->heard_at = uv_now(err->loop);
        c->talked += (uint64_t)n;
        if (c->talked > COMMAND_TALK_CAP) {
            carrier_give_up(c, "printed more than 1 MiB on its stderr");
            return;
        }
    }
    for (ssize_t i = 0; i < n && c->state == STATE_STARTING; i++) {
        char byte = buf->base[i];
        bool control = (unsigned char)byte < 0x20 || byte == 0x7f;
        if (byte == '\n') {
            tell_line(c);
        } else if (c->line_size + 1 < sizeof(c->line)) {
            c->line[c->line_size] = ' ';
            if (!control) {
                c->line[c->line_size] = byte;
            }
            c->line_size++;
        }
    }
}

void carrier_stream_init(struct carrier *c)
{
    c->stream = (struct byte_stream){.write = stream_write, .queued = stream_queued};
}

void carrier_read(struct carrier *c)
{
    uv_read_start((uv_stream_t *)&c->out, on_alloc, on_out);
    uv_read_start((uv_stream_t *)&c->err, on_alloc, on_err);
}
