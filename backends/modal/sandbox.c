#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/internal.h"

/* A sandbox while it lives: its owner, its supervisor, its worker. */

static void on_tick(uv_timer_t *timer)
{
    struct sandbox *s = timer->data;

    if (s->state < SANDBOX_UP && s->phase && s->events && s->events->on_waiting) {
        s->events->on_waiting(s->owner, s->phase);
    }
}

struct sandbox *sandbox_new(struct modal_place *place, const struct start_request *request,
                            bool warm, const struct sandbox_events *events, void *owner)
{
    struct sandbox *s = calloc(1, sizeof(*s));
    const char *given = place->base.env->sandbox_name;

    if (!s) {
        return NULL;
    }
    s->place = place;
    s->events = events;
    s->owner = owner;
    s->request = *request;
    s->warm = warm;
    s->wanted = true;
    s->v1 = place->v1;
    (void)snprintf(s->mark, sizeof(s->mark), "%s-%u", place->server, ++place->made);
    if (given) {
        (void)snprintf(s->name, sizeof(s->name), "%s", given);
    } else {
        (void)snprintf(s->name, sizeof(s->name), "cellblock-%s-%u", place->server, place->made);
    }
    if (kept_take(s, request) < 0) {
        free(s->tag);
        json_decref(s->where);
        free(s);
        return NULL;
    }
    uv_timer_init(place->base.loop, &s->timer);
    uv_timer_init(place->base.loop, &s->tick);
    uv_timer_init(place->base.loop, &s->again);
    s->timer.data = s->tick.data = s->again.data = s;
    s->open_timers = 3;
    s->next = place->sandboxes;
    place->sandboxes = s;
    uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
    sandbox_prepare(s);
    return s;
}

void sandbox_own(struct sandbox *s, const struct sandbox_events *events, void *owner)
{
    s->events = events;
    s->owner = owner;
}

void sandbox_attached(struct sandbox *s)
{
    if (s->occupant) {
        s->occupant->ops->attached(s->occupant);
    }
}

void sandbox_phase(struct sandbox *s, enum sandbox_state state, const char *what)
{
    s->state = state;
    s->phase = what;
    if (what && s->events && s->events->on_waiting) {
        s->events->on_waiting(s->owner, what);
    }
}

/* ---- time ---- */

static void on_timer(uv_timer_t *timer)
{
    struct sandbox *s = timer->data;
    s->on_time(s);
}

void sandbox_arm(struct sandbox *s, uint64_t ms, void (*on_time)(struct sandbox *s))
{
    s->on_time = on_time;
    uv_timer_start(&s->timer, on_timer, ms, 0);
}

/* ---- the worker's end ---- */

static void tell_held(struct sandbox *s)
{
    struct machine_exit exit = s->held;
    json_t *changed = s->held_changed;

    s->held_changed = NULL;
    s->has_held = false;
    s->killing = false;
    exit.kept = true;
    if (s->events) {
        s->events->on_worker_exit(s->owner, &exit);
    }
    json_decref(changed);
}

/* A SIGKILL that nobody here sent may be the service's, for want of memory: it says so in a moment.
 */
static bool may_be_memory(const struct sandbox *s, const struct machine_exit *exit)
{
    return exit->how == EXIT_SIGNAL && exit->signal == SIGKILL && !s->killing;
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct sandbox *s = data;

    s->link = NULL;
    if (s->state != SANDBOX_UP) {
        return; /* the sandbox's end says more */
    }
    s->held = *exit;
    s->held.message = NULL;
    json_decref(s->held_changed);
    s->held_changed = json_incref(exit->changed);
    s->has_held = true;
    if (s->has_result) {
        return; /* which is told in a moment */
    }
    uv_timer_stop(&s->timer);
    if (may_be_memory(s, exit)) {
        sandbox_arm(s, MEMORY_WORD_MS, tell_held);
    } else {
        tell_held(s);
    }
}

/* ---- the supervisor ---- */

static void on_greeting(void *data, const char *python)
{
    struct sandbox *s = data;

    (void)python;
    if (s->state != SANDBOX_GREETING) {
        return;
    }
    s->place->routed = true;
    s->state = SANDBOX_UP;
    s->phase = NULL;
    uv_timer_stop(&s->tick);
    if (s->wanted) {
        s->occupant->ops->start_worker(s->occupant);
    }
}

static void on_worker(void *data, struct link *link)
{
    struct sandbox *s = data;

    if (s->state != SANDBOX_UP) {
        return;
    }
    s->wanted = false;
    s->left = false; /* reached, if it was sought */
    s->link = link;
    if (s->events) {
        s->events->on_worker(s->owner, link);
    }
}

static void on_broken(void *data, const char *message)
{
    struct sandbox *s = data;
    char *words;

    if (s->where && s->left && s->occupant->ops->is_another(s->occupant)) {
        s->left = false; /* ours, without what was in it */
        sandbox_fail(s, ERROR_NOT_FOUND, "%s", message ? message : "it was restarted");
        return;
    }
    words = s->exec ? modal_exec_said(s->exec) : NULL;
    sandbox_fail(s, ERROR_LOST, "what runs in the sandbox does not keep the protocol: %s%s%s",
                 message ? message : "it broke off", words ? "; it said: " : "",
                 words ? words : "");
    free(words);
}

static void on_waiting(void *data, const char *what)
{
    struct sandbox *s = data;

    if (s->events && s->events->on_waiting) {
        s->events->on_waiting(s->owner, what);
    }
}

static struct occupant *new_runner(struct sandbox *s, const struct occupant_events *events)
{
    const struct environment *env = s->place->base.env;
    struct supervised_options options = {
        .workspace = "/workspace",
        .memory_mib = place_memory(s->place),
        .disk_mib = env->disk_mib,
        .processes = env->processes,
        .limits_per_process = true,
        .warm = s->warm,
        .env = env->env,
        .keep_seconds = env->max_lifetime_seconds,
    };
    char secret[MAC_SIZE], proof[MAC_SIZE];
    struct occupant *o;

    if (s->tag) {
        kept_word(s->tag, "relay", secret);
        kept_word(secret, "proof", proof);
        options.secret = s->where ? secret : NULL;
        options.pid = s->where ? kept_process(s) : 0;
        options.proof = proof;
    }
    o = runner_occupant_new(s->place->base.loop, modal_exec_stream(s->exec), &options, events, s);
    explicit_bzero(secret, sizeof(secret));
    return o;
}

int sandbox_occupy(struct sandbox *s)
{
    static const struct occupant_events events = {
        {on_greeting, on_worker, on_worker_exit, on_broken}, on_waiting};
    struct error err = {0};

    s->occupant = s->place->jupyter ? sandbox_gateway(s, &events, &err) : new_runner(s, &events);
    if (!s->occupant) {
        sandbox_fail(s, ERROR_INTERNAL, "%s", err.message ? err.message : "out of memory");
        error_clear(&err);
        return -1;
    }
    return 0;
}

/* ---- what a machine asks ---- */

void sandbox_start_worker(struct sandbox *s)
{
    s->wanted = true;
    s->used = s->warm = false;
    s->occupant->ops->start_worker(s->occupant);
}

void sandbox_interrupt(struct sandbox *s)
{
    if (s->state == SANDBOX_UP && s->link) {
        s->occupant->ops->interrupt(s->occupant);
    }
}

int sandbox_signal(struct sandbox *s, int number)
{
    if (s->state != SANDBOX_UP || !s->link) {
        return -ESRCH;
    }
    return s->occupant->ops->signal ? s->occupant->ops->signal(s->occupant, number) : -ENOTSUP;
}

static void on_kill_time(struct sandbox *s)
{
    sandbox_fail(s, ERROR_LOST,
                 "its sandbox did not react when its worker was to be ended, and was terminated");
}

void sandbox_kill(struct sandbox *s)
{
    if (s->has_held || s->has_result || s->state == SANDBOX_ENDED) {
        return; /* it has ended, and is told in a moment */
    }
    s->killing = true;
    if (s->state == SANDBOX_UP) {
        sandbox_arm(s, KILL_MS, on_kill_time);
        s->occupant->ops->kill(s->occupant);
    } else if (s->state < SANDBOX_UP) {
        sandbox_fail(s, ERROR_LOST, "it was ended while it was being started");
    }
}

void sandbox_put(struct sandbox *s, const struct share *share, executor_progress progress,
                 executor_done done, void *data)
{
    s->occupant->ops->put(s->occupant, share, progress, done, data);
}

void sandbox_put_cancel(struct sandbox *s)
{
    if (s->occupant) {
        s->occupant->ops->put_cancel(s->occupant);
    }
}

bool sandbox_file(struct sandbox *s, const struct file_request *request, file_done done, void *data)
{
    if (!s->occupant || !s->occupant->ops->file) {
        return false;
    }
    s->occupant->ops->file(s->occupant, request, done, data);
    return true;
}

/* ---- its end ---- */

/* The service's word, or the exec's own when there is none. */
static void conclude(struct sandbox *s)
{
    struct machine_exit exit = {.how = EXIT_LOST, .kind = ERROR_LOST};

    if (s->has_result) {
        exit = s->result;
    } else {
        exit.message = s->reason ? s->reason : "the connection to the sandbox was lost";
    }
    sandbox_gone(s, &exit);
}

/* "our program in the sandbox ended with exit code 127: …"; to be freed. */
static char *end_words(const struct sandbox *s, const struct modal_exec_end *end)
{
    char *said = modal_exec_said(s->exec);
    const char *colon = said ? ": " : "";
    const char *text = said ? said : "";
    const char *when = s->state < SANDBOX_UP ? " before it had answered" : "";
    char *words;

    if (end->how == MODAL_EXEC_LOST && !end->began) {
        words = string_format("the sandbox did not start our program in it: %s", end->message);
    } else if (end->how == MODAL_EXEC_LOST) {
        words = string_format("the connection to the sandbox was lost: %s", end->message);
    } else {
        words = string_format("our program in the sandbox %s %d%s%s%s",
                              end->how == MODAL_EXEC_SIGNAL ? "was ended by signal"
                                                            : "ended with exit code",
                              end->code, when, colon, text);
    }
    free(said);
    return words;
}

/* A code of its own, by a program that never got to answer: nothing else is to be learnt. */
static bool says_it_all(const struct sandbox *s, const struct modal_exec_end *end)
{
    return s->state < SANDBOX_UP && end->how == MODAL_EXEC_CODE && end->code < 128;
}

void sandbox_exec_ended(struct sandbox *s, const struct modal_exec_end *end)
{
    bool known;

    if (s->state >= SANDBOX_ENDED) {
        return;
    }
    if (s->place->jupyter && !s->has_result) {
        s->has_result = sandbox_gateway_exit(s, end, &s->result);
    }
    known = s->has_result || says_it_all(s, end);
    free(s->reason);
    s->reason = end_words(s, end);
    s->has_held = false; /* the sandbox's end says more */
    s->state = SANDBOX_ENDED;
    if (known) {
        conclude(s);
    } else {
        sandbox_arm(s, WORD_MS, conclude);
    }
}

void sandbox_over(struct sandbox *s, const struct machine_exit *exit, char *words_owned)
{
    s->over = true;
    if (s->state >= SANDBOX_CLOSING || s->has_result) {
        free(words_owned);
        return;
    }
    s->has_result = true;
    s->result = *exit;
    s->result_words = words_owned;
    if (s->where && s->left) {
        s->result_words = kept_ended(s, words_owned);
        s->result = (struct machine_exit){
            .how = EXIT_LOST, .kind = ERROR_NOT_FOUND, .message = s->result_words};
        free(words_owned);
    }
    if (s->state == SANDBOX_GREETING || s->state == SANDBOX_UP) {
        sandbox_arm(s, LAST_WORDS_MS, conclude);
    } else {
        conclude(s);
    }
}
