#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/internal.h"

/* A sandbox while it lives: its owner, its supervisor, its worker. */

static struct sandbox *of(struct crate *crate)
{
    return (struct sandbox *)crate;
}

static void on_tick(uv_timer_t *timer)
{
    struct sandbox *s = timer->data;

    if (s->base.state < CRATE_UP && s->phase) {
        crate_tell(&s->base, s->phase);
    }
}

void sandbox_tick(struct sandbox *s)
{
    uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
}

static void name_it(struct sandbox *s)
{
    struct modal_place *place = s->place;
    const char *given = place->base.env->sandbox_name;

    (void)snprintf(s->mark, sizeof(s->mark), "%s-%u", place->server, ++place->made);
    if (given) {
        (void)snprintf(s->name, sizeof(s->name), "%s", given);
    } else {
        (void)snprintf(s->name, sizeof(s->name), "cellblock-%s-%u", place->server, place->made);
    }
}

static void kill_worker(struct crate *crate);

struct crate *sandbox_new(struct place *base, const struct start_request *request, bool warm,
                          const struct crate_events *events, void *owner)
{
    static const struct crate_ops ops = {
        memory_start_worker, kill_worker,           sandbox_where, sandbox_close,
        sandbox_snapshot,    sandbox_snapshot_drop, sandbox_ports};
    struct modal_place *place = (struct modal_place *)base;
    struct sandbox *s = calloc(1, sizeof(*s));

    if (!s) {
        return NULL;
    }
    s->place = place;
    s->request = *request;
    s->v1 = place->v1;
    name_it(s);
    if (crate_init(&s->base, &ops, &place->crates, request, warm, events, owner) < 0 ||
        kept_take(s) < 0) {
        crate_deinit(&s->base);
        free(s);
        return NULL;
    }
    uv_timer_init(base->loop, &s->timer);
    uv_timer_init(base->loop, &s->tick);
    uv_timer_init(base->loop, &s->again);
    s->timer.data = s->tick.data = s->again.data = s;
    s->open_timers = 3;
    sandbox_tick(s);
    sandbox_prepare(s);
    return &s->base;
}

void sandbox_phase(struct sandbox *s, enum crate_state state, const char *what)
{
    s->base.state = state;
    s->phase = what;
    if (what) {
        crate_tell(&s->base, what);
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
    crate_tell_held(&s->base);
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct sandbox *s = data;

    if (!crate_hold(&s->base, exit) || s->has_result) {
        return; /* with a result, that is told in a moment */
    }
    uv_timer_stop(&s->timer);
    if (crate_was_killed(&s->base)) {
        /* The service's, for want of memory? It says so in a moment. */
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
    if (s->base.state != CRATE_GREETING) {
        return;
    }
    s->place->routed = true;
    s->phase = NULL;
    uv_timer_stop(&s->tick);
    crate_up(&s->base);
}

static void on_broken(void *data, const char *message)
{
    struct sandbox *s = data;
    char *words;

    if (s->nap != NAP_NONE) {
        return; /* nobody is there, as it is to be */
    }
    if (s->base.where && s->base.left && s->base.occupant->ops->is_another(s->base.occupant)) {
        s->base.left = false; /* ours, without what was in it */
        sandbox_fail(s, ERROR_NOT_FOUND, "%s", message ? message : "it was restarted");
        return;
    }
    words = s->exec ? modal_exec_said(s->exec) : NULL;
    sandbox_fail(s, ERROR_LOST, "what runs in the sandbox does not keep the protocol: %s%s%s",
                 message ? message : "it broke off", words ? "; it said: " : "",
                 words ? words : "");
    free(words);
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
        .warm = s->base.warm,
        .env = env->env,
        .keep_seconds = env->max_lifetime_seconds,
        .restored = s->anew,
    };

    if (s->place->memory) {
        options.keep_seconds = MEMORY_DOOR_SECONDS;
    }
    options.pid = s->base.where ? kept_process(s) : 0;
    return crate_runner(&s->base, modal_exec_stream(s->exec), options, events);
}

int sandbox_occupy(struct sandbox *s)
{
    static const struct occupant_events events = {
        {on_greeting, crate_on_worker, on_worker_exit, on_broken}, crate_on_waiting};
    struct error err = {0};

    s->base.occupant =
        s->place->jupyter ? sandbox_gateway(s, &events, &err) : new_runner(s, &events);
    if (!s->base.occupant) {
        sandbox_fail(s, ERROR_INTERNAL, "%s", err.message ? err.message : "out of memory");
        error_clear(&err);
        return -1;
    }
    return 0;
}

/* ---- what a machine asks ---- */

static void on_kill_time(struct sandbox *s)
{
    sandbox_fail(s, ERROR_LOST,
                 "its sandbox did not react when its worker was to be ended, and was terminated");
}

static void kill_worker(struct crate *crate)
{
    struct sandbox *s = of(crate);

    if (s->base.has_held || s->has_result || s->base.state == CRATE_ENDED) {
        return; /* it has ended, and is told in a moment */
    }
    s->base.killing = true;
    if (s->base.state == CRATE_UP) {
        sandbox_arm(s, KILL_MS, on_kill_time);
        s->base.occupant->ops->kill(s->base.occupant);
    } else if (s->base.state < CRATE_UP) {
        sandbox_fail(s, ERROR_LOST, "it was ended while it was being started");
    }
}

/* ---- its end ---- */

/* The service's word, or the exec's own when there is none. */
static void conclude(struct sandbox *s)
{
    struct machine_exit exit = {.how = EXIT_LOST, .kind = ERROR_LOST};

    if (s->has_result) {
        exit = s->result;
    } else {
        exit.message = s->base.reason ? s->base.reason : "the connection to the sandbox was lost";
    }
    crate_gone(&s->base, &exit);
}

/* "our program in the sandbox ended with exit code 127: …"; to be freed. */
static char *end_words(const struct sandbox *s, const struct modal_exec_end *end)
{
    char *said = modal_exec_said(s->exec);
    const char *colon = said ? ": " : "";
    const char *text = said ? said : "";
    const char *when = s->base.state < CRATE_UP ? " before it had answered" : "";
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
    return s->base.state < CRATE_UP && end->how == MODAL_EXEC_CODE && end->code < 128;
}

void sandbox_exec_ended(struct sandbox *s, const struct modal_exec_end *end)
{
    bool known;

    if (s->nap != NAP_NONE) {
        snapshot_relay_ended(s);
        return;
    }
    if (s->base.state >= CRATE_ENDED) {
        return;
    }
    if (s->place->jupyter && !s->has_result) {
        s->has_result = sandbox_gateway_exit(s, end, &s->result);
    }
    known = s->has_result || says_it_all(s, end);
    free(s->base.reason);
    s->base.reason = end_words(s, end);
    s->base.has_held = false; /* the sandbox's end says more */
    s->base.state = CRATE_ENDED;
    if (known) {
        conclude(s);
    } else {
        sandbox_arm(s, WORD_MS, conclude);
    }
}

void sandbox_over(struct sandbox *s, const struct machine_exit *exit, char *words_owned)
{
    s->over = true;
    if (s->nap >= NAP_TAKING) { /* as it has to be, when its snapshot is taken */
        free(words_owned);
        return;
    }
    if (s->base.state >= CRATE_CLOSING || s->has_result) {
        free(words_owned);
        return;
    }
    s->has_result = true;
    s->result = *exit;
    s->result_words = words_owned;
    if (s->base.where && s->base.left) {
        s->result_words = kept_ended(s, words_owned);
        s->result = (struct machine_exit){
            .how = EXIT_LOST, .kind = ERROR_NOT_FOUND, .message = s->result_words};
        free(words_owned);
    }
    if (s->base.state == CRATE_GREETING || s->base.state == CRATE_UP) {
        sandbox_arm(s, LAST_WORDS_MS, conclude);
    } else {
        conclude(s);
    }
}
