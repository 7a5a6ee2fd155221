#include "mcp/tools.h"
#include "mcp/tools/result.h"
#include "mcp/tools/run_call.h"

static int take_arguments(struct call *call, struct run_ask *ask, struct error *err)
{
    const json_t *object = call_arguments(call);
    const json_t *code = json_object_get(object, "code");
    const json_t *stdin_text = json_object_get(object, "stdin");
    struct run_request *request = &ask->request;

    ask->title = json_string_value(code);
    ask->timeout = json_object_get(object, "timeout_seconds");
    ask->ephemeral = argument_bool(call, "ephemeral", false);
    ask->background = argument_bool(call, "background", false);
    request->code = json_string_value(code);
    request->code_size = json_string_length(code);
    request->stdin_text = json_string_value(stdin_text);
    request->stdin_size = json_string_length(stdin_text);
    ask->may_write = ask->background && !request->stdin_text;
    request->env = json_object_get(object, "env");
    if (argument_name(call, "language", &request->language, err) < 0 ||
        argument_name(call, "session", &ask->session, err) < 0 ||
        argument_name(call, "environment", &ask->environment, err) < 0 ||
        run_env_check(request->env, err) < 0) {
        return -1;
    }
    request->language = request->language ? request->language : "python";
    return 0;
}

static void start(struct call *call)
{
    struct run_ask ask = {.tool = "run_code"};
    struct error err = {0};

    if (take_arguments(call, &ask, &err) < 0) {
        call_fail(call, &err);
    } else {
        run_call_start(call, &ask);
    }
    error_clear(&err);
}

#define DESCRIPTION                                                                                \
    "Runs Python (or bash, with language shell) in an isolated sandbox; returns what it printed, " \
    "the last expression's value, rich output such as figures, and how it ended.\n"                \
    "- Variables, imports and files stay within a session.\n"                                      \
    "- Figures need no show(); top-level await, %pip install and !command work.\n"                 \
    "- It works in /workspace; bring files in with add_share.\n"                                   \
    "- Long output is cut in the middle; the note says which file has all of it."

/* With the toolset `runs`: `background` is there, and its answer need not have an outcome. */
static const struct tool run_code_with_runs = {
    .name = "run_code",
    .title = "Run code",
    .description =
        DESCRIPTION "\n- A run that takes long goes on in the background: poll_run has the rest.",
    .schema = "tools/run_code_background",
    .output_schema = "results/run_code_background",
    .read_only = false,
    .destructive = true,
    .idempotent = false,
    .open_world = true,
    .start = start,
};

const struct tool run_code_tool = {
    .name = "run_code",
    .title = "Run code",
    .description = DESCRIPTION,
    .schema = "tools/run_code",
    .output_schema = "results/run_code",
    .read_only = false,
    .destructive = true,
    .idempotent = false,
    .open_world = true,
    .start = start,
    .with_runs = &run_code_with_runs,
};
