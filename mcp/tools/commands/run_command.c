#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/server.h"
#include "mcp/tools/commands/commands_tools.h"
#include "mcp/tools/result.h"
#include "mcp/tools/run_call.h"

enum { TITLE_SIZE = 64 };

/* The strings of a checked array, borrowed; NULL-terminated. NULL with an error. */
static const char **argv_of(const json_t *array, struct error *err)
{
    size_t i, count = json_array_size(array);
    const char **argv = calloc(count + 1, sizeof(*argv));
    json_t *item;

    if (!argv) {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "argv");
        return NULL;
    }
    json_array_foreach(array, i, item)
    {
        argv[i] = json_string_value(item);
        if (strlen(argv[i]) != json_string_length(item)) {
            error_set(err, ERROR_INVALID,
                      "argv: item %zu, counted from 0, holds a NUL character, which no argument "
                      "may",
                      i);
            free(argv);
            return NULL;
        }
    }
    return argv;
}

/* Its words, as far as there is room. */
static void title_of(const char *const *argv, char title[TITLE_SIZE])
{
    size_t used = 0;

    for (; *argv && used < TITLE_SIZE - 1; argv++) {
        int n = snprintf(title + used, TITLE_SIZE - used, "%s%s", used ? " " : "", *argv);
        used += n > 0 ? (size_t)n : 0;
    }
}

static int take_texts(struct call *call, struct run_ask *ask, struct error *err)
{
    const json_t *object = call_arguments(call), *input = json_object_get(object, "stdin");

    ask->timeout = json_object_get(object, "timeout_seconds");
    ask->background = argument_bool(call, "background", false);
    ask->request.stdin_text = json_string_value(input);
    ask->request.stdin_size = json_string_length(input);
    ask->request.stdin_open = argument_bool(call, "stdin_open", false);
    ask->request.env = json_object_get(object, "env");
    if (ask->request.stdin_open && !ask->background) {
        return error_set(err, ERROR_INVALID,
                         "stdin_open is for background: true alone, since only write_run ends such "
                         "a stdin. Give the whole input as stdin, or add background: true");
    }
    return argument_name(call, "session", &ask->session, err) < 0 ||
                   argument_name(call, "environment", &ask->environment, err) < 0 ||
                   argument_name(call, "workdir", &ask->request.workdir, err) < 0 ||
                   run_env_check(ask->request.env, err) < 0
               ? -1
               : 0;
}

static int take_what(struct call *call, struct run_ask *ask, const char ***ret_argv,
                     struct error *err)
{
    const json_t *argv = json_object_get(call_arguments(call), "argv");
    const json_t *script = json_object_get(call_arguments(call), "script");

    if (!argv == !script) {
        return error_set(err, ERROR_INVALID,
                         "%s: give either argv, a program and its arguments, which no shell "
                         "touches, or script, the text of a shell script",
                         argv ? "argv and script are both there"
                              : "neither argv nor script is there");
    }
    if (script) {
        ask->request.language = "shell";
        ask->request.code = json_string_value(script);
        ask->request.code_size = json_string_length(script);
        ask->title = ask->request.code;
        return 0;
    }
    *ret_argv = argv_of(argv, err);
    ask->request.argv = *ret_argv;
    return *ret_argv ? 0 : -1;
}

static void start(struct call *call)
{
    struct run_ask ask = {.tool = "run_command"};
    struct error err = {0};
    const char **argv = NULL;
    char title[TITLE_SIZE] = "";

    if (take_texts(call, &ask, &err) < 0 || take_what(call, &ask, &argv, &err) < 0) {
        call_fail(call, &err);
    } else {
        if (argv) {
            title_of(argv, title);
            ask.title = title;
        }
        run_call_start(call, &ask);
    }
    free(argv);
    error_clear(&err);
}

const struct tool run_command_tool = {
    .name = "run_command",
    .title = "Run a command",
    .description = "Runs a program in a session's sandbox, argv without a shell or a script with "
                   "one; returns its output and exit code.",
    .schema = "tools/run_command",
    .output_schema = "results/run_code_background",
    .read_only = false,
    .destructive = true,
    .idempotent = false,
    .open_world = true,
    .start = start,
};
