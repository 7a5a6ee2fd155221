#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/wipe.h"
#include "backends/executor_internal.h"

enum { SECONDS_MAX = 100 * 24 * 3600 };

/* ---- a run's memory ---- */

static void run_free(struct run *run)
{
    spool_deinit(&run->spools[STREAM_STDOUT]);
    spool_deinit(&run->spools[STREAM_STDERR]);
    outcome_deinit(&run->outcome);
    free((char *)run->request.language);
    free((char *)run->request.code);
    free((void *)run->request.argv);
    free((char *)run->request.workdir);
    free((char *)run->request.stdin_text);
    buffer_deinit(&run->input);
    wipe_texts(run->request.env); /* the copy is ours alone */
    free(run);
}

static int copy_text(const char *from, const char **to)
{
    *to = from ? strdup(from) : NULL;
    return *to || !from ? 0 : -ENOMEM;
}

static char *copy_bytes(const char *bytes, size_t size)
{
    char *copy = malloc(size + 1);

    if (copy) {
        if (size > 0) {
            memcpy(copy, bytes, size);
        }
        copy[size] = '\0';
    }
    return copy;
}

/* What a command does not look at is empty. */
static int copy_request(struct run *run, const struct run_request *from)
{
    struct run_request *to = &run->request;
    bool code = !from->argv;

    *to = *from;
    memcpy(run->id, from->id, strlen(from->id) + 1);
    to->id = run->id;
    to->folder = run->executor->place->env->workdir;
    if (from->snapshot) {
        run->snapshot = *from->snapshot;
        to->snapshot = &run->snapshot;
    }
    to->code_size = code ? from->code_size : 0;
    to->code = copy_bytes(from->code, to->code_size);
    to->argv = from->argv ? run_copy_argv(from->argv) : NULL;
    to->stdin_text = from->stdin_text ? copy_bytes(from->stdin_text, from->stdin_size) : NULL;
    to->env = from->env ? json_deep_copy(from->env) : NULL;
    return copy_text(code ? from->language : "", &to->language) == 0 &&
                   copy_text(from->workdir, &to->workdir) == 0 && to->code &&
                   (to->argv || !from->argv) && (to->stdin_text || !from->stdin_text) &&
                   (to->env || !from->env)
               ? 0
               : -ENOMEM;
}

static struct run *run_new(struct executor *e, const struct run_request *request,
                           const struct run_events *events, void *data)
{
    struct run *run = calloc(1, sizeof(*run));

    if (!run) {
        return NULL;
    }
    run->executor = e;
    run->events = *events;
    run->data = data;
    outcome_init(&run->outcome);
    buffer_init(&run->input, RUN_WRITE_CAP);
    spool_init(&run->spools[STREAM_STDOUT], NULL, false);
    spool_init(&run->spools[STREAM_STDERR], NULL, false);
    if (copy_request(run, request) < 0) {
        run_free(run);
        return NULL;
    }
    return run;
}

/* ---- checks ---- */

static bool knows_language(const struct place_ops *ops, const char *language)
{
    for (const char *const *known = ops->languages; *known; known++) {
        if (strcmp(*known, language) == 0) {
            return true;
        }
    }
    return false;
}

static int refuse_language(const struct place_ops *ops, const char *language, struct error *err)
{
    char list[256] = "";
    size_t used = 0;

    for (const char *const *known = ops->languages; *known; known++) {
        int n = snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", *known);
        if (n < 0 || (size_t)n >= sizeof(list) - used) {
            break;
        }
        used += (size_t)n;
    }
    return error_set(err, ERROR_UNSUPPORTED,
                     "language: the backend %s does not run \"%.50s\"; it runs: %s", ops->name,
                     language, list);
}

/* An id becomes part of a file's name. */
static bool good_id(const char *id)
{
    size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");
    return n > 0 && n < RUN_ID_SIZE && id[n] == '\0';
}

static bool is_utf8(const char *text, size_t size)
{
    json_t *string = json_stringn(text, size);
    bool good = string != NULL;

    json_decref(string);
    return good;
}

static int check_texts(const struct run_request *request, struct error *err)
{
    if (!request->argv && !is_utf8(request->code, request->code_size)) {
        return error_set(err, ERROR_INVALID, "code: not valid UTF-8");
    }
    if (request->stdin_text && !is_utf8(request->stdin_text, request->stdin_size)) {
        return error_set(err, ERROR_INVALID, "stdin: not valid UTF-8");
    }
    return 0;
}

static int check_request(const struct executor *e, const struct run_request *request,
                         struct error *err)
{
    const struct place_ops *ops = e->place->ops;

    if (e->closing) {
        return error_set(err, ERROR_LOST, "the session is being closed");
    }
    if (!request->argv && !(place_capabilities(e->place) & CAP_KERNELSPECS) &&
        !knows_language(ops, request->language)) {
        return refuse_language(ops, request->language, err);
    }
    if (executor_check_command(e, request, err) < 0) {
        return -1;
    }
    if (request->stdin_text && !(place_capabilities(e->place) & CAP_STDIN)) {
        return error_set(err, ERROR_UNSUPPORTED, "stdin: the backend %s cannot give a run any",
                         ops->name);
    }
    if (!good_id(request->id)) {
        return error_set(err, ERROR_INVALID, "id: letters, digits and \"-\", at most %d of them",
                         RUN_ID_SIZE - 1);
    }
    if (!isfinite(request->timeout_seconds) || request->timeout_seconds <= 0 ||
        request->timeout_seconds > SECONDS_MAX) {
        return error_set(err, ERROR_INVALID,
                         "timeout_seconds: %g is not more than 0 and at most %d",
                         request->timeout_seconds, SECONDS_MAX);
    }
    if (e->queue.count >= RUN_QUEUE_CAP) {
        return error_set(err, ERROR_LIMIT,
                         "%d runs are waiting in this session already; wait for one to end",
                         RUN_QUEUE_CAP);
    }
    return check_texts(request, err);
}

/* ---- starting ---- */

static void set_busy(struct executor *e, bool busy)
{
    if (e->box && e->place->ops->machine_busy) {
        e->place->ops->machine_busy(e->box->machine, busy);
    }
}

void executor_run_clock(struct executor *e, struct run *run)
{
    double ms = run->request.timeout_seconds * 1000;

    run->started_ns = uv_hrtime();
    executor_arm(e, ms < 1 ? 1 : (uint64_t)ms);
}

static void run_is_going(struct executor *e, struct run *run)
{
    e->current = run;
    executor_run_clock(e, run);
    set_busy(e, true);
    if (run->events.on_started) {
        executor_soon(e);
    }
}

static void run_was_not_sent(struct executor *e, struct run *run, int code)
{
    bool too_big = code == -EMSGSIZE || code == -ENOBUFS;

    if (too_big || run->retried) {
        outcome_of_start_error(run, too_big ? ERROR_LIMIT : ERROR_LOST,
                               too_big ? "code, stdin and env are larger than a run may be"
                                       : "the sandbox does not take the run");
        run_list_push(&e->finished, run);
    } else {
        /* The machine has died and nobody knows yet. The run has not started: it waits for the
         * next one. */
        run->retried = true;
        run_list_push_front(&e->queue, run);
        e->state = EXECUTOR_ENDING;
        executor_arm(e, e->limits.broken);
    }
    executor_soon(e);
}

bool executor_run_again(struct executor *e)
{
    struct run *run = e->current;

    if (!run || run->ending || run->retried || run->input_sent || run->stop != STOP_NONE) {
        return false;
    }
    run->retried = true;
    e->current = NULL;
    set_busy(e, false);
    run_list_push_front(&e->queue, run);
    return true;
}

static void init_spools(const struct executor *e, struct run *run)
{
    const struct kernel_ops *ops = e->place->kernel;
    struct machine *spooled = run->request.keep_full_output ? e->box->machine : NULL;
    bool there = ops->keeps && ops->keeps(e->kernel);

    spool_init(&run->spools[STREAM_STDOUT], spooled, there);
    spool_init(&run->spools[STREAM_STDERR], spooled, there);
}

void executor_next(struct executor *e)
{
    struct run *run;
    int r;

    if (e->closing || e->current || e->state != EXECUTOR_READY || !e->queue.first) {
        return;
    }
    /* What leftovers of earlier runs have printed by now is theirs. */
    e->place->kernel->drain(e->kernel);
    if (e->current || e->state != EXECUTOR_READY) {
        return;
    }
    run = run_list_pop(&e->queue);
    if (!run) {
        return;
    }
    init_spools(e, run);
    r = run->request.snapshot ? executor_snapshot_begin(e, run)
                              : e->place->kernel->run(e->kernel, &run->request);
    if (r == 0) {
        run_is_going(e, run);
        executor_send_input(run);
    } else {
        run_was_not_sent(e, run, r);
    }
}

struct run *executor_run(struct executor *e, const struct run_request *request,
                         const struct run_events *events, void *data, struct error *err)
{
    struct run *run;

    if (check_request(e, request, err) < 0) {
        return NULL;
    }
    run = run_new(e, request, events, data);
    if (!run) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    run_list_push(&e->queue, run);
    /* The quick way: a warm sandbox gets the code at once. Its answer comes from the loop. */
    executor_next(e);
    if (e->current != run) {
        executor_soon(e);
    }
    return run;
}

void executor_announce(struct executor *e)
{
    struct run *run = e->current;

    if (!run || run->announced) {
        return;
    }
    run->announced = true;
    if (run->events.on_started && !e->closing) {
        run->events.on_started(run->data);
    }
}

void executor_tell_waiting(struct executor *e)
{
    const char *what =
        e->current ? "waiting for the session's earlier run to end" : e->waiting_what;
    struct run *next;

    for (struct run *run = e->queue.first; run && what && !e->closing; run = next) {
        next = run->next;
        if (!run->told && run->events.on_waiting) {
            run->told = true;
            run->events.on_waiting(run->data, what);
            executor_soon(e); /* the list may have changed: the others in the next turn */
            return;
        }
    }
}

/* ---- ending ---- */

/* A note that is due from before goes first. */
static void add_restart_note(struct executor *e, struct outcome *outcome)
{
    char *both = NULL;

    if (!e->restart_note) {
        return;
    }
    if (outcome->note && asprintf(&both, "%s %s", e->restart_note, outcome->note) >= 0) {
        free(outcome->note);
        outcome->note = both;
    } else if (!outcome->note) {
        outcome->note = e->restart_note;
        e->restart_note = NULL;
    }
    free(e->restart_note);
    e->restart_note = NULL;
}

/* How it ended is clear. What happens to the session from now on is not this run's. */
static void decide(struct run *run)
{
    executor_snapshot_over(run);
    run->outcome.duration_ms = (uv_hrtime() - run->started_ns) / 1000000;
    add_restart_note(run->executor, &run->outcome);
}

static void finish_outcome(struct run *run)
{
    struct outcome *o = &run->outcome;

    for (int i = STREAM_STDOUT; i <= STREAM_STDERR; i++) {
        spool_finish(&run->spools[i], o->files_lost, &o->full[i]);
    }
}

void run_complete(struct run *run)
{
    run->events.on_done(run->data, &run->outcome);
    run_free(run);
}

void executor_run_end(struct executor *e)
{
    struct run *run = e->current;

    e->current = NULL;
    if (e->state == EXECUTOR_READY || e->state == EXECUTOR_IDLE) {
        executor_disarm(e);
    }
    finish_outcome(run);
    executor_soon(e);
    run_complete(run);
}

void executor_run_decided(struct executor *e)
{
    struct run *run = e->current;

    decide(run);
    set_busy(e, false);
    if (executor_keep_due(run)) {
        run->ending = true;
        executor_disarm(e);
        executor_keep(e);
    } else {
        executor_run_end(e);
    }
}

void executor_run_exited(struct run *run, const struct box *box, const struct machine_exit *exit)
{
    executor_announce(run->executor);
    outcome_of_exit(run, box, exit);
    executor_run_decided(run->executor);
}

void executor_run_abandon(struct run *run)
{
    struct executor *e = run->executor;

    if (!run->ending) {
        outcome_of_cancel(run, true);
        decide(run);
    }
    executor_keep_give_up(e);
    e->current = NULL;
    run->outcome.files_lost = true;
    finish_outcome(run);
    run_list_push(&e->finished, run);
}

void executor_fail_queue(struct executor *e, const struct box *box, const struct machine_exit *exit)
{
    const struct error *given_up = box ? &box->start_error : NULL;
    enum error_kind kind = exit->kind == ERROR_NONE ? ERROR_LOST : exit->kind;
    char *how = exit_sentence(box, exit);
    const char *message = exit->message ? exit->message : how;
    struct run *run;

    if (given_up && given_up->kind != ERROR_NONE) {
        kind = given_up->kind;
        message = given_up->message;
    }
    while ((run = run_list_pop(&e->queue))) {
        outcome_of_start_error(run, kind, message);
        add_restart_note(e, &run->outcome);
        run_list_push(&e->finished, run);
    }
    executor_fail_files(e, kind, message ? message : "the sandbox did not start");
    free(how);
    executor_soon(e);
}

static void interrupt(struct run *run)
{
    struct executor *e = run->executor;

    run->interrupted = true;
    executor_arm(e, e->limits.grace);
    e->place->ops->machine_interrupt(e->box->machine);
}

void executor_run_stop(struct run *run, enum stop stop)
{
    struct executor *e = run->executor;

    if (run->stop != STOP_NONE || run->ending || e->state != EXECUTOR_READY) {
        return; /* on its way out already */
    }
    run->stop = stop;
    if (run->request.snapshot) {
        executor_arm(e, 0); /* it is told from the loop */
        return;
    }
    uint64_t age = (uv_hrtime() - run->started_ns) / 1000000;
    if (age < e->limits.young) {
        executor_arm(e, e->limits.young - age);
    } else {
        interrupt(run);
    }
}

void executor_run_timer(struct executor *e)
{
    struct run *run = e->current;

    if (!run || run->ending) {
        return;
    }
    if (run->request.snapshot) {
        executor_snapshot_stop(run);
    } else if (run->stop == STOP_NONE) {
        executor_run_stop(run, STOP_TIMEOUT);
    } else if (!run->interrupted) {
        interrupt(run);
    } else {
        run->killed = true;
        executor_kill(e);
    }
}
