#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "mcp/tools/runs/runs.h"

static const struct {
    const char *name;
    int number;
} signals[] = {
    {"SIGINT", SIGINT},   {"SIGTERM", SIGTERM}, {"SIGKILL", SIGKILL},
    {"SIGHUP", SIGHUP},   {"SIGQUIT", SIGQUIT}, {"SIGUSR1", SIGUSR1},
    {"SIGUSR2", SIGUSR2}, {"SIGSTOP", SIGSTOP}, {"SIGCONT", SIGCONT},
};

/* The schema has let only these through. */
static int signal_argument(const struct call *call, const char **ret_name)
{
    const char *name = json_string_value(json_object_get(call_arguments(call), "signal"));

    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        if (strcmp(signals[i].name, name) == 0) {
            *ret_name = signals[i].name;
            return signals[i].number;
        }
    }
    *ret_name = "no signal";
    return 0;
}

static void start(struct call *call)
{
    struct error err = {0};
    struct run_view view;
    struct run *run;
    const char *name;
    int number = signal_argument(call, &name);
    char text[160];

    if (!run_argument_going(call, &view, &run, &err) || run_signal(run, number, &err) < 0) {
        call_fail(call, &err);
    } else {
        snprintf(text, sizeof(text), "%s was sent to run %s; poll_run shows what comes of it.",
                 name, view.id);
        call_finish_run(call, &view, text, false, NULL);
    }
    error_clear(&err);
}

const struct tool signal_run_tool = {
    .name = "signal_run",
    .title = "Signal a run",
    .description =
        "Signals the processes of a command, or code: SIGINT, and any where the backend can.",
    .schema = "tools/signal_run",
    .read_only = false,
    .destructive = true,
    .idempotent = false,
    .open_world = false,
    .start = start,
};
