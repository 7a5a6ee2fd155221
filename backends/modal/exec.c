#include "backends/modal/exec.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/buffer.h"
#include "backends/base/strings.h"
#include "router.pb-c.h"

enum {
    EXEC_START_TIMEOUT_MS = 30 * 1000,
    EXEC_LINGER_MS = 3000, /* stdout is over: its end is waited for */
};

struct modal_exec {
    uv_loop_t *loop;
    struct modal_router *router;
    char *task_id;
    char id[MODAL_UUID_SIZE];
    struct modal_exec_events events;
    void *data;
    struct byte_stream stream;

    struct modal_command *start, *out, *err, *wait, *write;
    Modal__TaskCommandRouter__TaskExecStdioReadRequest reading; /* what was asked for last */
    uint64_t out_offset, err_offset;
    bool paused;
    bool began, out_over, err_over, wait_over, told, leaving, closing;
    struct modal_exec_end end; /* as far as it is known */
    char *message;             /* of `end` */

    struct buffer in;
    uint64_t in_offset; /* of its first byte in the stream */
    size_t in_flight;
    bool eof, eof_in_flight, eof_sent;
    bool in_broken;

    struct buffer said;
    uv_prepare_t soon; /* sends what one turn of the loop has written */
    uv_timer_t timer;
    unsigned open_handles;
    void (*closed)(void *data);
    void *closed_data;
};

static struct modal_exec *of_stream(struct byte_stream *stream)
{
    return (struct modal_exec *)((char *)stream - offsetof(struct modal_exec, stream));
}

/* ---- freeing ---- */

static void maybe_free(struct modal_exec *e)
{
    void (*closed)(void *data) = e->closed;
    void *data = e->closed_data;

    if (!e->closing || e->open_handles > 0 || e->start || e->out || e->err || e->wait || e->write) {
        return;
    }
    buffer_deinit(&e->in);
    buffer_deinit(&e->said);
    free(e->task_id);
    free(e->message);
    free(e);
    if (closed) {
        closed(data);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct modal_exec *e = handle->data;

    e->open_handles--;
    maybe_free(e);
}

static void cancel(struct modal_command *command)
{
    if (command) {
        modal_command_cancel(command);
    }
}

void modal_exec_close(struct modal_exec *e, void (*closed)(void *data), void *data)
{
    e->closing = true;
    e->closed = closed;
    e->closed_data = data;
    cancel(e->start);
    cancel(e->out);
    cancel(e->err);
    cancel(e->wait);
    cancel(e->write);
    uv_close((uv_handle_t *)&e->soon, on_handle_closed);
    uv_close((uv_handle_t *)&e->timer, on_handle_closed);
}

/* ---- the end ---- */

static void tell(struct modal_exec *e)
{
    if (e->told || e->closing) {
        return;
    }
    e->told = true;
    uv_timer_stop(&e->timer);
    uv_prepare_stop(&e->soon);
    e->end.began = e->began;
    e->end.message = e->message;
    if (e->leaving) {
        modal_exec_close(e, e->closed, e->closed_data);
        return;
    }
    if (e->end.how == MODAL_EXEC_LOST && !e->message) {
        e->end.message = "its output ended, and nobody told how it did";
    }
    e->events.on_end(e->data, &e->end);
}

static void on_ending(uv_timer_t *timer)
{
    tell(timer->data);
}

/* A piece of the end has come. What it was is told with the last piece, or soon. */
static void check_end(struct modal_exec *e)
{
    bool known = e->end.how != MODAL_EXEC_LOST;

    if (e->told || e->closing) {
        return;
    }
    if (e->wait_over && e->out_over && e->err_over) {
        tell(e);
    } else if (e->wait_over || e->in_broken || e->message) {
        uv_timer_start(&e->timer, on_ending, MODAL_EXEC_ENDING_MS, 0);
    } else if (e->out_over && !known) {
        uv_timer_start(&e->timer, on_ending, EXEC_LINGER_MS, 0);
    }
}

/* Why nothing more of it comes, unless its own end is told. */
static void note_lost(struct modal_exec *e, enum grpc_status status, const struct error *err)
{
    if (e->message || e->end.how != MODAL_EXEC_LOST) {
        return;
    }
    e->end.status = status;
    e->end.kind = err->kind;
    e->message = strdup(err->message ? err->message : "out of memory");
}

static void on_wait(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                    const struct error *err)
{
    const Modal__TaskCommandRouter__TaskExecWaitResponse *a = (const void *)answer;
    struct modal_exec *e = data;

    e->wait = NULL;
    e->wait_over = true;
    if (err) {
        note_lost(e, status, err);
    } else if (a->exit_status_case ==
               MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_WAIT_RESPONSE__EXIT_STATUS_SIGNAL) {
        e->end.how = MODAL_EXEC_SIGNAL;
        e->end.code = a->signal;
    } else {
        e->end.how = MODAL_EXEC_CODE; /* a code of 0 is not on the wire */
        e->end.code = a->code;
    }
    check_end(e);
    maybe_free(e);
}

static void start_wait(struct modal_exec *e)
{
    Modal__TaskCommandRouter__TaskExecWaitRequest request =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_WAIT_REQUEST__INIT;
    struct error err = {0};
    const struct modal_command_call call = {
        .name = "TaskExecWait",
        .request = &request.base,
        .answer = &modal__task_command_router__task_exec_wait_response__descriptor,
        .patience_ms = UINT_MAX,
        .done = on_wait,
        .data = e,
    };

    request.task_id = e->task_id;
    request.exec_id = e->id;
    e->wait = modal_command_start(e->router, &call, &err);
    if (!e->wait) {
        note_lost(e, GRPC_INTERNAL, &err);
        check_end(e);
    }
    error_clear(&err);
}

/* ---- output ---- */

static void fill_reading(struct modal_exec *e, bool errors)
{
    modal__task_command_router__task_exec_stdio_read_request__init(&e->reading);
    e->reading.task_id = e->task_id;
    e->reading.exec_id = e->id;
    e->reading.offset = errors ? e->err_offset : e->out_offset;
    e->reading.file_descriptor =
        errors
            ? MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_STDIO_FILE_DESCRIPTOR__TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDERR
            : MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_STDIO_FILE_DESCRIPTOR__TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDOUT;
}

static const ProtobufCMessage *out_again(void *data)
{
    struct modal_exec *e = data;

    fill_reading(e, false);
    return &e->reading.base;
}

static const ProtobufCMessage *err_again(void *data)
{
    struct modal_exec *e = data;

    fill_reading(e, true);
    return &e->reading.base;
}

static void on_out(void *data, const ProtobufCMessage *message)
{
    const Modal__TaskCommandRouter__TaskExecStdioReadResponse *m = (const void *)message;
    struct modal_exec *e = data;

    e->out_offset += m->data.len;
    if (m->data.len > 0 && !e->closing && !e->told) {
        e->events.on_output(e->data, (const char *)m->data.data, m->data.len);
    }
}

static void on_err(void *data, const ProtobufCMessage *message)
{
    const Modal__TaskCommandRouter__TaskExecStdioReadResponse *m = (const void *)message;
    struct modal_exec *e = data;
    size_t keep = m->data.len < MODAL_EXEC_SAID_CAP ? m->data.len : MODAL_EXEC_SAID_CAP;
    size_t have = buffer_size(&e->said);

    e->err_offset += m->data.len;
    if (have + keep > MODAL_EXEC_SAID_CAP) {
        buffer_consume(&e->said, have + keep - MODAL_EXEC_SAID_CAP);
    }
    if (keep > 0) {
        (void)buffer_append(&e->said, m->data.data + m->data.len - keep, keep);
    }
}

static void on_out_done(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                        const struct error *err)
{
    struct modal_exec *e = data;

    (void)answer;
    e->out = NULL;
    e->out_over = true;
    if (err) {
        note_lost(e, status, err);
    }
    check_end(e);
    maybe_free(e);
}

static void on_err_done(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                        const struct error *err)
{
    struct modal_exec *e = data;

    (void)answer;
    (void)status;
    (void)err; /* only words are lost */
    e->err = NULL;
    e->err_over = true;
    check_end(e);
    maybe_free(e);
}

static struct modal_command *start_reading(struct modal_exec *e, bool errors)
{
    const struct modal_command_call call = {
        .name = "TaskExecStdioRead",
        .request = &e->reading.base,
        .answer = &modal__task_command_router__task_exec_stdio_read_response__descriptor,
        .stream = true,
        .again = errors ? err_again : out_again,
        .on_message = errors ? on_err : on_out,
        .done = errors ? on_err_done : on_out_done,
        .data = e,
    };
    struct error err = {0};
    struct modal_command *command;

    fill_reading(e, errors);
    command = modal_command_start(e->router, &call, &err);
    if (!command) {
        note_lost(e, GRPC_INTERNAL, &err);
        check_end(e);
    }
    error_clear(&err);
    return command;
}

/* ---- stdin ---- */

static void send_input(struct modal_exec *e);

static void on_written(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                       const struct error *err)
{
    struct modal_exec *e = data;

    (void)answer;
    e->write = NULL;
    if (err) {
        e->in_broken = true;
        buffer_reset(&e->in);
        note_lost(e, status, err);
        check_end(e);
    } else {
        buffer_consume(&e->in, e->in_flight);
        e->in_offset += e->in_flight;
        e->eof_sent = e->eof_in_flight;
        if (e->eof_sent && e->leaving && !e->closing) {
            modal_exec_close(e, e->closed, e->closed_data);
        }
        if (buffer_size(&e->in) == 0) {
            buffer_reset(&e->in); /* gives a large one back */
        }
        send_input(e);
    }
    maybe_free(e);
}

/* One write at a time: what comes while it is under way goes with the next. */
static void send_input(struct modal_exec *e)
{
    Modal__TaskCommandRouter__TaskExecStdinWriteRequest request =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_STDIN_WRITE_REQUEST__INIT;
    struct error err = {0};
    size_t size = buffer_size(&e->in);
    const struct modal_command_call call = {
        .name = "TaskExecStdinWrite",
        .request = &request.base,
        .answer = &modal__task_command_router__task_exec_stdin_write_response__descriptor,
        .done = on_written,
        .data = e,
    };

    if (!e->began || e->write || e->in_broken || e->closing || e->told ||
        (size == 0 && (!e->eof || e->eof_sent))) {
        return;
    }
    e->in_flight = size < MODAL_EXEC_WRITE_CAP ? size : MODAL_EXEC_WRITE_CAP;
    e->eof_in_flight = e->eof && e->in_flight == size;
    request.task_id = e->task_id;
    request.exec_id = e->id;
    request.offset = e->in_offset;
    request.data.data = (uint8_t *)buffer_data(&e->in);
    request.data.len = e->in_flight;
    request.eof = e->eof_in_flight;
    e->write = modal_command_start(e->router, &call, &err);
    if (!e->write) {
        e->in_broken = true;
        note_lost(e, GRPC_INTERNAL, &err);
        check_end(e);
    }
    error_clear(&err);
}

static void on_soon(uv_prepare_t *handle)
{
    struct modal_exec *e = handle->data;

    uv_prepare_stop(handle);
    send_input(e);
}

static void send_soon(struct modal_exec *e)
{
    if (e->began && !e->write) {
        uv_prepare_start(&e->soon, on_soon);
    }
}

static int stream_write(struct byte_stream *stream, const void *bytes, size_t size)
{
    struct modal_exec *e = of_stream(stream);
    int r;

    if (e->in_broken || e->closing || e->told || e->eof) {
        return -EPIPE;
    }
    r = buffer_append(&e->in, bytes, size);
    if (r == 0) {
        send_soon(e);
    }
    return r;
}

static size_t stream_queued(const struct byte_stream *stream)
{
    return buffer_size(&of_stream((struct byte_stream *)stream)->in);
}

static void stream_pause(struct byte_stream *stream, bool paused)
{
    struct modal_exec *e = of_stream(stream);

    e->paused = paused;
    if (e->out) {
        modal_command_pause(e->out, paused);
    }
}

void modal_exec_eof(struct modal_exec *e)
{
    e->eof = true;
    send_soon(e);
}

static void on_leave_time(uv_timer_t *timer)
{
    struct modal_exec *e = timer->data;

    modal_exec_close(e, e->closed, e->closed_data);
}

void modal_exec_leave(struct modal_exec *e, void (*closed)(void *data), void *data)
{
    if (!e->began || e->told || e->in_broken || e->eof_sent) {
        modal_exec_close(e, closed, data);
        return;
    }
    e->leaving = true;
    e->closed = closed;
    e->closed_data = data;
    modal_exec_eof(e);
    uv_timer_start(&e->timer, on_leave_time, MODAL_EXEC_LEAVE_MS, 0);
}

/* ---- the start ---- */

/* A start that was sent twice, since its answer was lost, may say that it is there. */
static bool is_there(const struct error *err, enum grpc_status status)
{
    return !err || status == GRPC_ALREADY_EXISTS;
}

static void on_started(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                       const struct error *err)
{
    struct modal_exec *e = data;

    (void)answer;
    e->start = NULL;
    if (e->closing) {
        maybe_free(e);
        return;
    }
    if (!is_there(err, status)) {
        note_lost(e, status, err);
        tell(e);
        return;
    }
    e->began = true;
    e->out = start_reading(e, false);
    e->err = start_reading(e, true);
    start_wait(e);
    if (e->out && e->paused) {
        modal_command_pause(e->out, true);
    }
    send_input(e);
    if (e->events.on_started && !e->told && !e->closing) {
        e->events.on_started(e->data);
    }
}

static int start(struct modal_exec *e, const struct modal_exec_options *o, struct error *err)
{
    Modal__TaskCommandRouter__TaskExecStartRequest request =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_START_REQUEST__INIT;
    const struct modal_command_call call = {
        .name = "TaskExecStart",
        .request = &request.base,
        .answer = &modal__task_command_router__task_exec_start_response__descriptor,
        .timeout_ms = EXEC_START_TIMEOUT_MS,
        .patience_ms = MODAL_EXEC_START_MS,
        .done = on_started,
        .data = e,
    };

    request.task_id = e->task_id;
    request.exec_id = e->id;
    request.command_args = (char **)o->argv;
    while (o->argv[request.n_command_args]) {
        request.n_command_args++;
    }
    request.stdout_config =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_STDOUT_CONFIG__TASK_EXEC_STDOUT_CONFIG_PIPE;
    request.stderr_config =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_STDERR_CONFIG__TASK_EXEC_STDERR_CONFIG_PIPE;
    request.timeout_secs = o->timeout_secs;
    if (o->workdir) {
        request.workdir = (char *)o->workdir;
    }
    e->start = modal_command_start(e->router, &call, err);
    return e->start ? 0 : -1;
}

static void forget(void *data)
{
    (void)data;
}

struct modal_exec *modal_exec_new(uv_loop_t *loop, struct modal_router *router,
                                  const struct modal_exec_options *o,
                                  const struct modal_exec_events *events, void *data,
                                  struct error *err)
{
    struct modal_exec *e = calloc(1, sizeof(*e));

    if (!e || !(e->task_id = strdup(o->task_id)) || modal_uuid(e->id) < 0) {
        free(e ? e->task_id : NULL);
        free(e);
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    e->loop = loop;
    e->router = router;
    e->events = *events;
    e->data = data;
    e->end.how = MODAL_EXEC_LOST;
    e->end.kind = ERROR_LOST;
    e->stream = (struct byte_stream){stream_write, stream_queued, stream_pause};
    buffer_init(&e->in, MODAL_EXEC_QUEUE_CAP);
    buffer_init(&e->said, MODAL_EXEC_SAID_CAP);
    (void)uv_prepare_init(loop, &e->soon);
    (void)uv_timer_init(loop, &e->timer);
    e->soon.data = e->timer.data = e;
    e->open_handles = 2;
    if (start(e, o, err) < 0) {
        modal_exec_close(e, forget, NULL);
        return NULL;
    }
    return e;
}

const char *modal_exec_id(const struct modal_exec *e)
{
    return e->id;
}

struct byte_stream *modal_exec_stream(struct modal_exec *e)
{
    return &e->stream;
}

char *modal_exec_said(const struct modal_exec *e)
{
    size_t size = buffer_size(&e->said);
    char *lines = size ? supervised_last_lines(buffer_data(&e->said), size) : NULL;

    if (lines && !*lines) {
        free(lines);
        lines = NULL;
    }
    return lines;
}
