#include "mcp/secret_tool.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "mcp/mask.h"

enum {
    ROOM = MASK_VALUE_CAP + 3, /* more than a value may have, and it is told that it is too long */
    HANDLES = 3,
};

struct secret_tool {
    uv_process_t process;
    uv_pipe_t pipe;
    uv_timer_t timer;
    unsigned closing; /* handles that are not closed yet */
    bool ended, exited, late;
    int64_t status;
    unsigned seconds;
    secret_tool_done done; /* NULL: nobody waits */
    void *data;
    size_t size;
    char bytes[ROOM];
};

static void on_closed(uv_handle_t *handle)
{
    struct secret_tool *tool = handle->data;

    if (--tool->closing == 0) {
        explicit_bzero(tool->bytes, sizeof(tool->bytes));
        free(tool);
    }
}

static void close_all(struct secret_tool *tool)
{
    tool->done = NULL;
    if (!tool->exited) {
        uv_process_kill(&tool->process, SIGKILL);
    }
    uv_close((uv_handle_t *)&tool->process, on_closed);
    uv_close((uv_handle_t *)&tool->pipe, on_closed);
    uv_close((uv_handle_t *)&tool->timer, on_closed);
}

/* What it printed on its stderr is not read: nobody knows what is in it. */
static void tell(struct secret_tool *tool)
{
    secret_tool_done done = tool->done;
    struct error err = {0};

    if (tool->late) {
        error_set(&err, ERROR_REFUSED,
                  "secret-tool gave no answer within %u s: is the keyring locked?", tool->seconds);
    } else if (tool->status != 0 || tool->size == 0) {
        error_set(&err, ERROR_REFUSED,
                  "secret-tool found nothing under its attributes (exit code %d): store it with "
                  "secret-tool store",
                  (int)tool->status);
    }
    tool->done = NULL;
    done(tool->data, tool->bytes, tool->size, err.message ? &err : NULL);
    error_clear(&err);
    close_all(tool);
}

static void tell_when_complete(struct secret_tool *tool)
{
    if (tool->done && tool->ended && tool->exited) {
        tell(tool);
    }
}

static void on_process_exit(uv_process_t *process, int64_t status, int signal)
{
    struct secret_tool *tool = process->data;

    tool->exited = true;
    tool->status = signal ? -1 : status;
    tell_when_complete(tool);
}

static void on_late(uv_timer_t *timer)
{
    struct secret_tool *tool = timer->data;

    tool->late = true;
    if (tool->done) {
        tell(tool);
    }
}

/* Straight to where it stays; past its end there is room for nothing. */
static void give_room(uv_handle_t *handle, size_t wanted, uv_buf_t *ret)
{
    struct secret_tool *tool = handle->data;

    (void)wanted;
    *ret = uv_buf_init(tool->bytes + tool->size, (unsigned)(ROOM - tool->size));
}

static void on_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *space)
{
    struct secret_tool *tool = stream->data;

    (void)space;
    tool->size += n > 0 ? (size_t)n : 0;
    if (n < 0 || tool->size == ROOM) {
        uv_read_stop(stream);
        tool->ended = true;
        if (!tool->exited && tool->size == ROOM) {
            uv_process_kill(&tool->process, SIGKILL);
        }
        tell_when_complete(tool);
    }
}

static int spawn(struct secret_tool *tool, uv_loop_t *loop, char **argv)
{
    uv_stdio_container_t stdio[] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&tool->pipe},
        {.flags = UV_IGNORE},
    };
    uv_process_options_t options = {
        .file = argv[0],
        .args = argv,
        .exit_cb = on_process_exit,
        .stdio = stdio,
        .stdio_count = sizeof(stdio) / sizeof(*stdio),
    };

    return uv_spawn(loop, &tool->process, &options);
}

static int make_argv(struct strings *argv, const json_t *attributes)
{
    size_t index;
    json_t *word;

    strings_add(argv, "secret-tool");
    strings_add(argv, "lookup");
    json_array_foreach(attributes, index, word)
    {
        strings_add(argv, json_string_value(word));
    }
    return strings_ok(argv);
}

static int say_failure(int code, struct error *err)
{
    if (code == UV_ENOENT) {
        return error_set(err, ERROR_REFUSED,
                         "the program secret-tool is not installed (apt-get install "
                         "libsecret-tools)");
    }
    return error_set(err, ERROR_REFUSED, "secret-tool: %s", uv_strerror(code));
}

/* Its handles, and the process. Frees itself in the end, also on failure. */
static int start(struct secret_tool *tool, uv_loop_t *loop, char **argv, struct error *err)
{
    int r;

    uv_pipe_init(loop, &tool->pipe, 0);
    uv_timer_init(loop, &tool->timer);
    tool->process.data = tool->pipe.data = tool->timer.data = tool;
    tool->closing = HANDLES;
    r = spawn(tool, loop, argv);
    if (r < 0) {
        tool->exited = true;
        close_all(tool);
        return say_failure(r, err);
    }
    uv_update_time(loop);
    uv_timer_start(&tool->timer, on_late, (uint64_t)tool->seconds * 1000, 0);
    tool->ended = uv_read_start((uv_stream_t *)&tool->pipe, give_room, on_bytes) < 0;
    return 0;
}

struct secret_tool *secret_tool_start(uv_loop_t *loop, const json_t *attributes, unsigned seconds,
                                      secret_tool_done done, void *data, struct error *err)
{
    struct secret_tool *tool = calloc(1, sizeof(*tool));
    struct strings argv = {0};

    if (!tool || make_argv(&argv, attributes) < 0) {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "secret-tool");
        free(tool);
        tool = NULL;
    } else {
        tool->seconds = seconds;
        tool->done = done;
        tool->data = data;
        if (start(tool, loop, argv.list, err) < 0) {
            tool = NULL;
        }
    }
    strings_free(&argv);
    return tool;
}

void secret_tool_cancel(struct secret_tool *tool)
{
    if (tool) {
        close_all(tool);
    }
}
