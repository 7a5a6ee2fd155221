#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mcp/base64.h"
#include "mcp/text.h"
#include "mcp/tools/result.h"
#include "mcp/tools/runs/runs.h"

struct input {
    const char *bytes;
    size_t size;
    char *decoded; /* to be freed */
    bool eof;
};

static int take_base64(const json_t *base64, struct input *input, struct error *err)
{
    size_t where = 0;
    int r = base64_decode(json_string_value(base64), json_string_length(base64), &input->decoded,
                          &input->size, &where);

    if (r == -EINVAL) {
        return error_set(err, ERROR_INVALID,
                         "base64 is none at character %zu: A-Z a-z 0-9 + / with = at its end, and "
                         "line ends, are allowed. Nothing was written",
                         where);
    }
    if (r < 0) {
        return error_set_code(err, ERROR_INTERNAL, -r, "base64");
    }
    input->bytes = input->decoded;
    return 0;
}

static int take_input(const struct call *call, struct input *input, struct error *err)
{
    const json_t *text = json_object_get(call_arguments(call), "text");
    const json_t *base64 = json_object_get(call_arguments(call), "base64");

    *input = (struct input){
        .bytes = text ? json_string_value(text) : "",
        .size = json_string_length(text),
        .eof = argument_bool(call, "eof", false),
    };
    if (text && base64) {
        return error_set(err, ERROR_INVALID,
                         "text and base64 were both given: pass one of them, base64 for bytes that "
                         "are no text");
    }
    if (!text && !base64 && !input->eof) {
        return error_set(err, ERROR_INVALID,
                         "nothing to write was given: pass text, or base64, or \"eof\": true");
    }
    return base64 ? take_base64(base64, input, err) : 0;
}

static void start(struct call *call)
{
    struct error err = {0};
    struct run_view view;
    struct input input = {0};
    struct run *run;
    char text[160], number[28];

    if (take_input(call, &input, &err) < 0 || !run_argument_going(call, &view, &run, &err) ||
        run_write(run, input.bytes, input.size, input.eof, &err) < 0) {
        call_fail(call, &err);
    } else {
        snprintf(text, sizeof(text), "%s bytes were written to run %s%s.",
                 text_number(input.size, number), view.id,
                 input.eof ? ", and its input has ended" : "");
        call_finish_run(call, &view, text, false, NULL);
    }
    free(input.decoded);
    error_clear(&err);
}

const struct tool write_run_tool = {
    .name = "write_run",
    .title = "Write to a run",
    .description = "Writes to a run's stdin: of run_code with background and no stdin, of "
                   "run_command with stdin_open.",
    .schema = "tools/write_run",
    .read_only = false,
    .destructive = false,
    .idempotent = false,
    .open_world = false,
    .start = start,
};
