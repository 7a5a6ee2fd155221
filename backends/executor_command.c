#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "backends/executor_internal.h"
#include "backends/registry.h"

/* Commands: what is checked before one, and what can be done to it while it is going. */

enum { LINE_CAP = 64 }; /* of a text that is quoted */

static bool is_command(const struct run_request *request)
{
    return request->argv || strcmp(request->language, "shell") == 0;
}

bool run_is_command(const struct run *run)
{
    return is_command(&run->request);
}

const char *const *run_copy_argv(const char *const *argv)
{
    size_t count = 0, size = 0;
    const char **copy;
    char *text;

    for (; argv[count]; count++) {
        size += strlen(argv[count]) + 1;
    }
    copy = malloc((count + 1) * sizeof(*copy) + size);
    if (!copy) {
        return NULL;
    }
    text = (char *)(copy + count + 1);
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(argv[i]) + 1;
        memcpy(text, argv[i], n);
        copy[i] = text;
        text += n;
    }
    copy[count] = NULL;
    return copy;
}

/* ---- before it ---- */

static bool is_utf8(const char *text)
{
    json_t *string = json_string(text);
    bool good = string != NULL;

    json_decref(string);
    return good;
}

static int check_argv(const char *const *argv, struct error *err)
{
    size_t count = 0;

    if (!argv[0] || argv[0][0] == '\0') {
        return error_set(err, ERROR_INVALID,
                         "argv: its first item is the program's name or path, and there is none");
    }
    for (; argv[count]; count++) {
        if (!is_utf8(argv[count])) {
            return error_set(err, ERROR_INVALID, "argv: item %zu is not valid UTF-8", count);
        }
        if (count >= RUN_ARGUMENTS_CAP) {
            return error_set(err, ERROR_LIMIT, "argv: more than %d items; put them into a file",
                             RUN_ARGUMENTS_CAP);
        }
    }
    return 0;
}

static int check_workdir(const struct run_request *request, struct error *err)
{
    if (!is_command(request)) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "workdir: only a command has one; code can call os.chdir");
    }
    if (request->workdir[0] == '\0' || !is_utf8(request->workdir)) {
        return error_set(err, ERROR_INVALID, "workdir: \"%.*s\" is no folder's path", LINE_CAP,
                         is_utf8(request->workdir) ? request->workdir : "…");
    }
    return 0;
}

static int needs_stdin(const struct executor *e, const struct run_request *request,
                       struct error *err)
{
    return is_command(request)
               ? place_needs(e->place, CAP_STDIN_STREAM, "stdin while a command is going", err)
               : place_needs(e->place, CAP_STDIN_CODE, "stdin while code is going", err);
}

int executor_check_command(const struct executor *e, const struct run_request *request,
                           struct error *err)
{
    if ((request->argv || request->workdir) &&
        place_needs(e->place, CAP_COMMANDS, "a command without a shell", err) < 0) {
        return -1;
    }
    if (request->argv && check_argv(request->argv, err) < 0) {
        return -1;
    }
    if (request->workdir && check_workdir(request, err) < 0) {
        return -1;
    }
    if (!request->stdin_open) {
        return 0;
    }
    return needs_stdin(e, request, err);
}

/* ---- while it is going ---- */

static bool is_going(const struct run *run)
{
    const struct executor *e = run->executor;

    return run == e->current && !run->ending && e->state == EXECUTOR_READY && e->kernel;
}

/* The kernel has not taken it. */
static int not_taken(int code, struct error *err)
{
    if (code == -ENOTSUP) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "the interpreter at the far side takes nothing while a run goes on");
    }
    return error_set(err, ERROR_LOST, "the run's sandbox does not take it any more");
}

static int signal_code(struct run *run, int number, struct error *err)
{
    struct executor *e = run->executor;
    const struct place_ops *ops = e->place->ops;
    int r = -ENOTSUP;

    if (number == SIGINT) {
        ops->machine_interrupt(e->box->machine);
        return 0;
    }
    if (ops->machine_signal) {
        r = ops->machine_signal(e->box->machine, number);
    }
    if (r == -ENOTSUP) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "code takes SIGINT alone here, as KeyboardInterrupt; end the run by "
                         "cancelling it, or run a command");
    }
    return r < 0 ? error_set(err, ERROR_LOST, "the run's sandbox does not take it any more") : 0;
}

int run_signal(struct run *run, int number, struct error *err)
{
    struct executor *e = run->executor;
    int r;

    if (number < 1 || number >= NSIG) {
        return error_set(err, ERROR_INVALID, "%d is no signal's number", number);
    }
    if (place_needs(e->place, CAP_SIGNAL, "a signal to a run", err) < 0) {
        return -1;
    }
    if (run != e->current) {
        return error_set(err, ERROR_INVALID,
                         "the run waits and has no process yet; wait for it, or cancel it");
    }
    if (!is_going(run)) {
        return error_set(err, ERROR_LOST, "the run is ending already");
    }
    if (!run_is_command(run)) {
        return signal_code(run, number, err);
    }
    r = e->place->kernel->signal(e->kernel, run->id, number);
    return r < 0 ? not_taken(r, err) : 0;
}

static int check_write(const struct run *run, size_t size, struct error *err)
{
    if (!run->request.stdin_open) {
        return needs_stdin(run->executor, &run->request, err) < 0
                   ? -1
                   : error_set(err, ERROR_INVALID,
                               "the run's stdin is not open: it had all of it at its start. A "
                               "command is started with stdin_open, code in the background and "
                               "without stdin");
    }
    if (run->input_ended) {
        return error_set(err, ERROR_INVALID, "the run's stdin has had its end already");
    }
    if (size > RUN_WRITE_CAP - run->written) {
        return error_set(err, ERROR_LIMIT,
                         "a run takes at most %d bytes of stdin while it goes on, and has had %zu; "
                         "write a file instead",
                         RUN_WRITE_CAP, run->written);
    }
    return 0;
}

static int send_input(struct run *run, const char *bytes, size_t size, bool eof)
{
    struct executor *e = run->executor;

    run->input_sent = true;
    return e->place->kernel->write(e->kernel, run->id, bytes, size, eof);
}

int run_write(struct run *run, const char *bytes, size_t size, bool eof, struct error *err)
{
    int r;

    if (check_write(run, size, err) < 0) {
        return -1;
    }
    if (run != run->executor->current) {
        if (buffer_append(&run->input, bytes, size) < 0) {
            return error_set_code(err, ERROR_INTERNAL, ENOMEM, "stdin of the run");
        }
    } else if (!is_going(run)) {
        return error_set(err, ERROR_LOST, "the run is ending already");
    } else if ((r = send_input(run, bytes, size, eof)) < 0) {
        return not_taken(r, err);
    }
    run->written += size;
    run->input_ended = eof;
    return 0;
}

void executor_send_input(struct run *run)
{
    if (run->request.stdin_open && (buffer_size(&run->input) > 0 || run->input_ended)) {
        /* A stream that does not take it tells so by its end. */
        (void)send_input(run, buffer_data(&run->input), buffer_size(&run->input), run->input_ended);
        buffer_reset(&run->input);
    }
}
