#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/docker/internal.h"
#include "backends/docker/recipe.h"

/* A container while it lives: its owner, its supervisor, its worker. */

struct container *container_new(struct docker_place *place, const struct start_request *request,
                                bool warm, const struct container_events *events, void *owner)
{
    struct container *c = calloc(1, sizeof(*c));

    if (!c) {
        return NULL;
    }
    c->place = place;
    c->events = events;
    c->owner = owner;
    c->request = *request;
    c->warm = warm;
    c->wanted = true;
    (void)snprintf(c->name, sizeof(c->name), "cellblock-%s-%u", place->server, ++place->made);
    if (kept_take(c, request) < 0) {
        free(c->tag);
        json_decref(c->where);
        free(c);
        return NULL;
    }
    uv_timer_init(place->base.loop, &c->timer);
    c->timer.data = c;
    c->next = place->containers;
    place->containers = c;
    container_prepare(c);
    return c;
}

void container_own(struct container *c, const struct container_events *events, void *owner)
{
    c->events = events;
    c->owner = owner;
}

void container_attached(struct container *c)
{
    if (c->occupant) {
        c->occupant->ops->attached(c->occupant);
    }
}

/* ---- time ---- */

static void on_timer(uv_timer_t *timer)
{
    struct container *c = timer->data;
    c->on_time(c);
}

void container_arm(struct container *c, uint64_t ms, void (*on_time)(struct container *c))
{
    c->on_time = on_time;
    uv_timer_start(&c->timer, on_timer, ms, 0);
}

/* ---- the worker's end ---- */

/* A worker that had no memory to get ready will not have it the next time. */
static bool is_full(const struct container *c, const struct machine_exit *exit)
{
    return !c->used && !c->warm && exit->how == EXIT_OUT_OF_MEMORY;
}

static void tell_held(struct container *c)
{
    struct machine_exit exit = c->held;
    json_t *changed = c->held_changed;

    c->held_changed = NULL;
    c->has_held = false;
    c->killing = false;
    exit.kept = true;
    if (c->oom && exit.how != EXIT_CODE) {
        exit.how = EXIT_OUT_OF_MEMORY;
        exit.limit = c->place->base.env->memory_mib * 1024 * 1024;
        exit.used = exit.limit;
    }
    c->oom = false;
    if (exit.how == EXIT_OUT_OF_MEMORY) {
        c->oom_told = uv_now(c->place->base.loop);
    }
    if (is_full(c, &exit)) {
        container_fail(c, ERROR_LOST,
                       "the files in its container had filled its memory, which is %llu MiB for "
                       "files and processes together (memory_mib)",
                       (unsigned long long)c->place->base.env->memory_mib);
    } else if (c->events) {
        c->events->on_worker_exit(c->owner, &exit);
    }
    json_decref(changed);
}

/* A SIGKILL that nobody here sent may be the engine's for want of memory: it says so in a moment.
 */
static bool may_be_memory(const struct container *c, const struct machine_exit *exit)
{
    return exit->how == EXIT_SIGNAL && exit->signal == SIGKILL && !c->killing && !c->oom;
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct container *c = data;

    c->link = NULL;
    if (c->state != CONTAINER_UP) {
        return; /* the container's end says more */
    }
    uv_timer_stop(&c->timer);
    c->held = *exit;
    c->held.message = NULL;
    json_decref(c->held_changed);
    c->held_changed = json_incref(exit->changed);
    c->has_held = true;
    if (may_be_memory(c, exit)) {
        container_arm(c, OOM_WORD_MS, tell_held);
    } else {
        tell_held(c);
    }
}

/* ---- the supervisor ---- */

static void on_greeting(void *data, const char *python)
{
    struct container *c = data;

    (void)python;
    if (c->state != CONTAINER_STARTING && c->state != CONTAINER_GREETING) {
        return;
    }
    uv_timer_stop(&c->timer);
    c->state = CONTAINER_UP;
    if (c->wanted) {
        c->occupant->ops->start_worker(c->occupant);
    }
}

static void on_worker(void *data, struct link *link)
{
    struct container *c = data;

    if (c->state != CONTAINER_UP) {
        return;
    }
    c->wanted = false;
    c->left = false; /* reached, if it was sought */
    c->link = link;
    if (c->events) {
        c->events->on_worker(c->owner, link);
    }
}

static void on_broken(void *data, const char *message)
{
    struct container *c = data;
    const char *words = c->attach ? attach_last_words(c->attach) : "";

    if (c->where && c->left && c->occupant->ops->is_another(c->occupant)) {
        c->left = false; /* ours, without what was in it */
        container_fail(c, ERROR_NOT_FOUND, "%s", message ? message : "it was restarted");
        return;
    }
    container_fail(c, ERROR_LOST, "what runs in the container does not keep the protocol: %s%s%s",
                   message ? message : "it broke off", words[0] ? "; its last words: " : "", words);
}

static void on_waiting(void *data, const char *what)
{
    struct container *c = data;

    if (c->events && c->events->on_waiting) {
        c->events->on_waiting(c->owner, what);
    }
}

static struct occupant *new_runner(struct container *c, const struct occupant_events *events)
{
    const struct environment *env = c->place->base.env;
    struct supervised_options options = {
        .workspace = "/workspace",
        .memory_mib = env->memory_mib,
        .limits_per_process = true,
        .warm = c->warm,
        .env = env->env,
        .keep_seconds = env->max_lifetime_seconds,
    };
    char secret[MAC_SIZE], proof[MAC_SIZE];
    struct occupant *o;

    if (c->tag) {
        kept_word(c->tag, "relay", secret);
        kept_word(secret, "proof", proof);
        options.secret = c->where ? secret : NULL;
        options.proof = proof;
    }
    o = runner_occupant_new(c->place->base.loop, attach_stream(c->attach), &options, events, c);
    explicit_bzero(secret, sizeof(secret));
    return o;
}

static struct occupant *new_gateway(struct container *c, const struct occupant_events *events,
                                    struct error *err)
{
    struct docker_place *place = c->place;
    struct gateway_options options = {.env = place->base.env->env,
                                      .memory_mib = place->base.env->memory_mib,
                                      .python = RECIPE_PYTHON,
                                      .tag = c->tag,
                                      .where = c->where,
                                      .keep_seconds = place->base.env->max_lifetime_seconds};
    char token[MAC_SIZE];

    if (!place->websockets) {
        place->websockets = websocket_context_new(place->base.loop, err);
    }
    options.websockets = place->websockets;
    if (c->tag) {
        kept_word(c->tag, "token", token);
        options.token = token;
    }
    return place->websockets
               ? gateway_new(place->base.loop, attach_stream(c->attach), &options, events, c, err)
               : NULL;
}

int container_occupy(struct container *c)
{
    static const struct occupant_events events = {
        {on_greeting, on_worker, on_worker_exit, on_broken}, on_waiting};
    struct error err = {0};

    c->occupant = c->place->kernel_image ? new_gateway(c, &events, &err) : new_runner(c, &events);
    if (!c->occupant) {
        container_fail(c, ERROR_INTERNAL, "%s", err.message ? err.message : "out of memory");
        error_clear(&err);
        return -1;
    }
    return 0;
}

/* ---- what a machine asks ---- */

void container_start_worker(struct container *c)
{
    c->wanted = true;
    c->used = c->warm = false;
    c->oom = false;
    c->occupant->ops->start_worker(c->occupant);
}

void container_interrupt(struct container *c)
{
    if (c->state == CONTAINER_UP && c->link) {
        c->occupant->ops->interrupt(c->occupant);
    }
}

int container_signal(struct container *c, int number)
{
    if (c->state != CONTAINER_UP || !c->link) {
        return -ESRCH;
    }
    return c->occupant->ops->signal ? c->occupant->ops->signal(c->occupant, number) : -ENOTSUP;
}

static void on_kill_time(struct container *c)
{
    container_fail(c, ERROR_LOST,
                   "its container did not react when its worker was to be ended (is it paused?), "
                   "and was removed");
}

void container_kill(struct container *c)
{
    if (c->has_held) {
        return; /* it has ended, and is told in a moment */
    }
    c->killing = true;
    if (c->state == CONTAINER_UP) {
        container_arm(c, KILL_MS, on_kill_time);
        c->occupant->ops->kill(c->occupant);
    } else if (c->state < CONTAINER_UP) {
        container_fail(c, ERROR_LOST, "it was ended while it was being started");
    }
}

void container_put(struct container *c, const struct share *share, executor_progress progress,
                   executor_done done, void *data)
{
    c->occupant->ops->put(c->occupant, share, progress, done, data);
}

bool container_file(struct container *c, const struct file_request *request, file_done done,
                    void *data)
{
    if (!c->occupant || !c->occupant->ops->file) {
        return false;
    }
    c->occupant->ops->file(c->occupant, request, done, data);
    return true;
}

void container_put_cancel(struct container *c)
{
    if (c->occupant) {
        c->occupant->ops->put_cancel(c->occupant);
    }
}

bool container_has_folder_for(const struct container *c, const char *dest)
{
    const char *folder;
    json_t *value;

    json_object_foreach(c->folders, folder, value)
    {
        size_t n = strlen(folder);
        if (strncmp(dest, folder, n) == 0 && dest[n] == '/') {
            return true;
        }
    }
    return false;
}

/* ---- the engine's word ---- */

static void on_died(struct container *c)
{
    struct machine_exit exit = {.how = EXIT_LOST, .kind = ERROR_LOST};
    char *message = NULL;

    if (c->oom) {
        exit.how = EXIT_OUT_OF_MEMORY;
        exit.limit = c->place->base.env->memory_mib * 1024 * 1024;
        exit.used = exit.limit;
    } else if (c->died) {
        const char *words = c->attach ? attach_last_words(c->attach) : "";
        message = string_format("the container %s ended with exit code %d%s%s%s", c->name,
                                c->exit_code, c->exit_code == 137 ? " (killed from outside)" : "",
                                words[0] ? "; its last words: " : "", words);
    } else {
        const char *words = c->where && c->attach ? attach_last_words(c->attach) : "";
        message = string_format("the engine closed the connection to the container %s: %s", c->name,
                                c->reason  ? c->reason
                                : words[0] ? words
                                           : "no reason was given");
    }
    exit.message = message;
    container_gone(c, &exit);
    free(message);
}

void container_stream_ended(struct container *c, const struct error *err)
{
    if (c->state >= CONTAINER_ENDED) {
        return;
    }
    if (c->state == CONTAINER_STARTING) {
        c->stream_over = true; /* the answer to the start says more, and comes */
        return;
    }
    if (c->state < CONTAINER_GREETING) {
        container_fail(c, ERROR_LOST, "the engine did not attach to the container %s: %s", c->name,
                       err ? err->message : "it closed the connection");
        return;
    }
    c->state = CONTAINER_ENDED;
    c->reason = err && err->message ? strdup(err->message) : NULL;
    if (c->died || (err && err->kind != ERROR_LOST)) {
        on_died(c);
    } else {
        container_arm(c, WORD_MS, on_died);
    }
}

/* The engine tells of each process that it ended, some of them late: those of the last worker are
 * not the next one's. */
static bool is_echo(const struct container *c)
{
    return c->oom_told && !c->has_held && c->state == CONTAINER_UP &&
           uv_now(c->place->base.loop) - c->oom_told < OOM_ECHO_MS;
}

void container_engine_word(struct container *c, const char *action, int exit_code)
{
    if (strcmp(action, "oom") == 0) {
        if (is_echo(c)) {
            return;
        }
        c->oom = true;
        if (c->has_held) {
            uv_timer_stop(&c->timer);
            tell_held(c);
        } else if (c->state == CONTAINER_UP && c->link && !c->killing) {
            /* The engine ends any process of a container that is past its limit, and the code
             * cannot know which: what goes on is not what was asked for. */
            container_kill(c);
        }
    } else {
        c->died = true;
        c->exit_code = exit_code;
        if (c->state == CONTAINER_ENDED) {
            uv_timer_stop(&c->timer);
            on_died(c);
        }
    }
}
