#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/executor_internal.h"

/* What a run's end means, made of the worker's word, the system's word and our own timer. */

#define KEPT " Its variables are kept."
#define GONE                                                                                       \
    "The sandbox was ended; variables and files in it are gone, the next run starts afresh with "  \
    "the shares brought in again."

#define GONE_BUT_FILES                                                                             \
    "Its interpreter was ended; variables are gone, files are kept, and the next run has a fresh " \
    "interpreter."

enum {
    EXIT_CODE_TIMEOUT = 124, /* as timeout(1) has it */
    MIB = 1024 * 1024,
};

static char *copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

static void set_note(struct outcome *o, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void set_note(struct outcome *o, const char *format, ...)
{
    va_list args;

    free(o->note);
    va_start(args, format);
    if (vasprintf(&o->note, format, args) < 0) {
        o->note = NULL;
    }
    va_end(args);
}

/* Where each run has a sandbox of its own nothing of it is there for the next one. */
static bool keeps_state(const struct run *run)
{
    const struct place *place = run->executor->place;

    return place_capabilities(place) & CAP_STATEFUL && place->env->mode != MODE_EPHEMERAL;
}

static bool keeps_files(const struct run *run)
{
    return keeps_state(run) && !run->outcome.files_lost;
}

/* ---- stopped by us ---- */

static const char *stop_words(const struct run *run, char space[64])
{
    if (run->stop == STOP_TIMEOUT) {
        (void)snprintf(space, 64, "passed its limit of %g s", run->request.timeout_seconds);
        return space;
    }
    return "was cancelled";
}

static void set_stop_cause(struct run *run)
{
    struct outcome *o = &run->outcome;
    char text[64];

    if (run->stop == STOP_CANCEL) {
        o->cause = CAUSE_CANCELLED;
        return;
    }
    o->cause = CAUSE_TIMEOUT;
    (void)snprintf(text, sizeof(text), "the run passed its limit of %g s",
                   run->request.timeout_seconds);
    free(o->error.etype);
    free(o->error.evalue);
    o->error.etype = strdup("TimeoutError");
    o->error.evalue = strdup(text);
    if (run_is_command(run)) {
        o->has_exit_code = true;
        o->exit_code = EXIT_CODE_TIMEOUT;
    }
}

static void stopped_by_interrupt(struct run *run)
{
    char space[64];

    set_stop_cause(run);
    set_note(&run->outcome, "The run %s and was interrupted.%s", stop_words(run, space),
             keeps_state(run) ? KEPT : "");
}

static void stopped_by_end(struct run *run)
{
    char space[64];

    set_stop_cause(run);
    set_note(&run->outcome, "The run %s%s %s", stop_words(run, space),
             run->killed ? " and did not stop when it was interrupted."
                         : ", was interrupted, and its process ended.",
             keeps_files(run) ? GONE_BUT_FILES : GONE);
}

/* ---- by reply ---- */

static void copy_reply(struct outcome *o, const struct kernel_reply *reply)
{
    o->execution_count = reply->execution_count;
    o->cpu_ms = reply->cpu_ms;
    o->peak_rss_kib = reply->peak_rss_kib;
    o->has_exit_code = reply->has_exit_code;
    o->exit_code = reply->exit_code;
    o->signal = reply->status == KERNEL_SIGNAL ? reply->signal : 0;
    o->error.etype = copy(reply->etype);
    o->error.evalue = copy(reply->evalue);
    o->error.traceback = copy(reply->traceback);
    changed_deinit(&o->changed);
    changed_parse(reply->changed, &o->changed);
}

static void exited_by_reply(struct run *run, const struct kernel_reply *reply)
{
    if (reply->exit_code == 0) {
        return;
    }
    run->outcome.cause = CAUSE_EXIT;
    set_note(&run->outcome,
             run_is_command(run) ? "The command exited with code %d."
             : keeps_state(run)  ? "The code exited with code %d." KEPT
                                 : "The code exited with code %d.",
             reply->exit_code);
}

static void signalled_by_reply(struct run *run, const struct kernel_reply *reply)
{
    char space[16];

    run->outcome.cause = CAUSE_KILLED;
    set_note(&run->outcome, "The command was ended by %s. The session goes on.",
             signal_name(reply->signal, space));
}

static void interrupted_by_reply(struct run *run)
{
    struct outcome *o = &run->outcome;

    o->cause = CAUSE_ERROR;
    if (!o->error.etype) {
        o->error.etype = strdup("KeyboardInterrupt");
        o->error.evalue = strdup("");
    }
}

void outcome_of_reply(struct run *run, const struct kernel_reply *reply)
{
    copy_reply(&run->outcome, reply);
    if (run->stop != STOP_NONE) {
        /* Code that swallows the interrupt and ends within the grace has passed its limit as well.
         */
        stopped_by_interrupt(run);
        return;
    }
    switch (reply->status) {
    case KERNEL_OK:
        break;
    case KERNEL_ERROR:
        run->outcome.cause = CAUSE_ERROR;
        break;
    case KERNEL_EXIT:
        exited_by_reply(run, reply);
        break;
    case KERNEL_SIGNAL:
        signalled_by_reply(run, reply);
        break;
    case KERNEL_INTERRUPTED:
        interrupted_by_reply(run);
        break;
    }
}

/* ---- by the machine's end ---- */

/* Ended for what the worker did to its stream, not by itself. */
static bool ended_as_broken(const struct box *box, const struct machine_exit *exit)
{
    return exit->how == EXIT_PROTOCOL || (box && box->broken && box->kill_sent);
}

static char *signal_sentence(int number)
{
    char space[16];

    if (number == 0) {
        return string_format("its process ended, and the backend does not tell how");
    }
    return string_format("its process was ended by %s%s", signal_name(number, space),
                         number == SIGSYS ? " (a system call that the sandbox does not allow)"
                                          : "");
}

char *exit_sentence(const struct box *box, const struct machine_exit *exit)
{
    if (ended_as_broken(box, exit)) {
        return string_format("its worker %s and was ended",
                             box && box->broken ? box->broken : "broke the protocol");
    }
    switch (exit->how) {
    case EXIT_CODE:
        return string_format("its process ended with exit code %d", exit->code);
    case EXIT_SIGNAL:
        /* A place that ended it itself, for a reason that has no kind of its own, says why. */
        return exit->message ? string_format("%s", exit->message) : signal_sentence(exit->signal);
    case EXIT_OUT_OF_MEMORY:
        return string_format("it used %llu MiB of its %llu MiB of memory and was ended",
                             (unsigned long long)(exit->used / MIB),
                             (unsigned long long)(exit->limit / MIB));
    case EXIT_DISK:
        if (exit->message && strcmp(exit->message, "files") == 0) {
            return string_format(
                "it made more files than its disk limit is for (%llu at most) and was "
                "ended",
                (unsigned long long)exit->limit);
        }
        return string_format("it used %llu MiB of its %llu MiB of disk and was ended",
                             (unsigned long long)(exit->used / MIB),
                             (unsigned long long)(exit->limit / MIB));
    default:
        return string_format("the sandbox went away%s%s", exit->message ? ": " : "",
                             exit->message ? exit->message : "");
    }
}

static void set_exit_cause(struct outcome *o, const struct box *box,
                           const struct machine_exit *exit)
{
    switch (exit->how) {
    case EXIT_CODE:
        o->cause = CAUSE_EXIT;
        o->has_exit_code = true;
        o->exit_code = exit->code;
        break;
    case EXIT_OUT_OF_MEMORY:
        o->cause = CAUSE_OUT_OF_MEMORY;
        break;
    case EXIT_LOST:
        o->cause = CAUSE_LOST;
        break;
    default:
        o->cause = CAUSE_KILLED;
        o->signal = exit->how == EXIT_SIGNAL ? exit->signal : 0;
        break;
    }
    if (ended_as_broken(box, exit)) {
        o->cause = CAUSE_KILLED;
        o->has_exit_code = false;
        o->exit_code = 0;
    }
}

void outcome_of_exit(struct run *run, const struct box *box, const struct machine_exit *exit)
{
    struct outcome *o = &run->outcome;
    char *how;

    o->state_lost = true;
    o->files_lost = !exit->kept;
    o->cpu_ms = exit->cpu_ms;
    o->peak_rss_kib = exit->peak_rss_kib;
    changed_deinit(&o->changed);
    if (exit->kept) {
        changed_parse(exit->changed, &o->changed);
    }
    if (run->stop != STOP_NONE) {
        stopped_by_end(run);
        return;
    }
    set_exit_cause(o, box, exit);
    how = exit_sentence(box, exit);
    set_note(o, "The run did not finish: %s. %s", how ? how : "its sandbox ended",
             keeps_files(run) ? GONE_BUT_FILES : GONE);
    free(how);
}

void outcome_of_cancel(struct run *run, bool state_lost)
{
    run->outcome.cause = CAUSE_CANCELLED;
    run->outcome.state_lost = state_lost;
    run->outcome.files_lost = state_lost;
    set_note(&run->outcome, state_lost ? "The run was cancelled and the session's sandbox ended."
                                       : "The run was cancelled before it started.");
}

void outcome_of_snapshot(struct run *run, const char *id, const struct error *err)
{
    struct outcome *o = &run->outcome;
    char space[64];

    if (run->stop != STOP_NONE) {
        set_stop_cause(run);
        set_note(o, "The snapshot %s. The session goes on as it was.", stop_words(run, space));
    } else if (err) {
        o->cause = cause_of_error(err->kind);
        set_note(o, "%s", err->message);
    } else {
        o->snapshot = copy(id);
    }
}

static bool ends_a_sentence(const char *text)
{
    size_t n = strlen(text);
    return n > 0 && text[n - 1] == '.';
}

void outcome_of_start_error(struct run *run, enum error_kind kind, const char *message)
{
    struct outcome *o = &run->outcome;

    o->cause = cause_of_error(kind);
    if (!message) {
        message = "the sandbox did not start";
    }
    set_note(o, "The run was not started: %s%s", message, ends_a_sentence(message) ? "" : ".");
}
