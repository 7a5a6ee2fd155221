#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/docker/internal.h"
#include "backends/docker/recipe.h"

/* A container while it lives: its owner, its supervisor, its worker. */

static struct container *of(struct crate *crate)
{
    return (struct container *)crate;
}

static void start_worker(struct crate *crate)
{
    of(crate)->oom = false;
    crate_start_worker(crate);
}

static void kill_worker(struct crate *crate);

struct crate *container_new(struct place *base, const struct start_request *request, bool warm,
                            const struct crate_events *events, void *owner)
{
    static const struct crate_ops ops = {start_worker, kill_worker, container_where,
                                         container_close};
    struct docker_place *place = (struct docker_place *)base;
    struct container *c = calloc(1, sizeof(*c));

    if (!c) {
        return NULL;
    }
    c->place = place;
    c->request = *request;
    (void)snprintf(c->name, sizeof(c->name), "cellblock-%s-%u", place->server, ++place->made);
    if (crate_init(&c->base, &ops, &place->crates, request, warm, events, owner) < 0 ||
        kept_take(c) < 0) {
        crate_deinit(&c->base);
        free(c);
        return NULL;
    }
    uv_timer_init(base->loop, &c->timer);
    c->timer.data = c;
    container_prepare(c);
    return &c->base;
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
static bool is_full(const struct container *c)
{
    return !c->base.used && !c->base.warm && c->base.held.how == EXIT_OUT_OF_MEMORY;
}

static void tell_held(struct container *c)
{
    struct machine_exit *held = &c->base.held;

    if (c->oom && held->how != EXIT_CODE) {
        held->how = EXIT_OUT_OF_MEMORY;
        held->limit = c->place->base.env->memory_mib * 1024 * 1024;
        held->used = held->limit;
    }
    c->oom = false;
    if (held->how == EXIT_OUT_OF_MEMORY) {
        c->oom_told = uv_now(c->place->base.loop);
    }
    if (is_full(c)) {
        c->base.has_held = false;
        container_fail(c, ERROR_LOST,
                       "the files in its container had filled its memory, which is %llu MiB for "
                       "files and processes together (memory_mib)",
                       (unsigned long long)c->place->base.env->memory_mib);
    } else {
        crate_tell_held(&c->base);
    }
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct container *c = data;

    if (!crate_hold(&c->base, exit)) {
        return;
    }
    uv_timer_stop(&c->timer);
    if (crate_was_killed(&c->base) && !c->oom) {
        /* The engine's, for want of memory? It says so in a moment. */
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
    if (c->base.state != CRATE_STARTING && c->base.state != CRATE_GREETING) {
        return;
    }
    uv_timer_stop(&c->timer);
    crate_up(&c->base);
}

static void on_broken(void *data, const char *message)
{
    struct container *c = data;
    const char *words = c->attach ? attach_last_words(c->attach) : "";

    if (c->base.where && c->base.left && c->base.occupant->ops->is_another(c->base.occupant)) {
        c->base.left = false; /* ours, without what was in it */
        container_fail(c, ERROR_NOT_FOUND, "%s", message ? message : "it was restarted");
        return;
    }
    container_fail(c, ERROR_LOST, "what runs in the container does not keep the protocol: %s%s%s",
                   message ? message : "it broke off", words[0] ? "; its last words: " : "", words);
}

static struct occupant *new_runner(struct container *c, const struct occupant_events *events)
{
    const struct environment *env = c->place->base.env;
    struct supervised_options options = {
        .workspace = "/workspace",
        .memory_mib = env->memory_mib,
        .limits_per_process = true,
        .warm = c->base.warm,
        .env = env->env,
        .keep_seconds = env->max_lifetime_seconds,
    };

    return crate_runner(&c->base, attach_stream(c->attach), options, events);
}

static struct occupant *new_gateway(struct container *c, const struct occupant_events *events,
                                    struct error *err)
{
    struct docker_place *place = c->place;
    struct gateway_options options = {.env = place->base.env->env,
                                      .memory_mib = place->base.env->memory_mib,
                                      .python = RECIPE_PYTHON,
                                      .keep_seconds = place->base.env->max_lifetime_seconds};

    if (!place->websockets) {
        place->websockets = websocket_context_new(place->base.loop, err);
    }
    options.websockets = place->websockets;
    return place->websockets
               ? crate_gateway(&c->base, attach_stream(c->attach), options, events, err)
               : NULL;
}

int container_occupy(struct container *c)
{
    static const struct occupant_events events = {
        {on_greeting, crate_on_worker, on_worker_exit, on_broken}, crate_on_waiting};
    struct error err = {0};

    c->base.occupant =
        c->place->kernel_image ? new_gateway(c, &events, &err) : new_runner(c, &events);
    if (!c->base.occupant) {
        container_fail(c, ERROR_INTERNAL, "%s", err.message ? err.message : "out of memory");
        error_clear(&err);
        return -1;
    }
    return 0;
}

/* ---- what a machine asks ---- */

static void on_kill_time(struct container *c)
{
    container_fail(c, ERROR_LOST,
                   "its container did not react when its worker was to be ended (is it paused?), "
                   "and was removed");
}

static void kill_worker(struct crate *crate)
{
    struct container *c = of(crate);

    if (c->base.has_held) {
        return; /* it has ended, and is told in a moment */
    }
    c->base.killing = true;
    if (c->base.state == CRATE_UP) {
        container_arm(c, KILL_MS, on_kill_time);
        c->base.occupant->ops->kill(c->base.occupant);
    } else if (c->base.state < CRATE_UP) {
        container_fail(c, ERROR_LOST, "it was ended while it was being started");
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
        const char *words = c->base.where && c->attach ? attach_last_words(c->attach) : "";
        message = string_format("the engine closed the connection to the container %s: %s", c->name,
                                c->base.reason ? c->base.reason
                                : words[0]     ? words
                                               : "no reason was given");
    }
    exit.message = message;
    crate_gone(&c->base, &exit);
    free(message);
}

void container_stream_ended(struct container *c, const struct error *err)
{
    if (c->base.state >= CRATE_ENDED) {
        return;
    }
    if (c->base.state == CRATE_STARTING) {
        c->stream_over = true; /* the answer to the start says more, and comes */
        return;
    }
    if (c->base.state < CRATE_GREETING) {
        container_fail(c, ERROR_LOST, "the engine did not attach to the container %s: %s", c->name,
                       err ? err->message : "it closed the connection");
        return;
    }
    c->base.state = CRATE_ENDED;
    c->base.reason = err && err->message ? strdup(err->message) : NULL;
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
    return c->oom_told && !c->base.has_held && c->base.state == CRATE_UP &&
           uv_now(c->place->base.loop) - c->oom_told < OOM_ECHO_MS;
}

void container_engine_word(struct container *c, const char *action, int exit_code)
{
    if (strcmp(action, "oom") == 0) {
        if (is_echo(c)) {
            return;
        }
        c->oom = true;
        if (c->base.has_held) {
            uv_timer_stop(&c->timer);
            tell_held(c);
        } else if (c->base.state == CRATE_UP && c->base.link && !c->base.killing) {
            /* The engine ends any process of a container that is past its limit, and the code
             * cannot know which: what goes on is not what was asked for. */
            kill_worker(&c->base);
        }
    } else {
        c->died = true;
        c->exit_code = exit_code;
        if (c->base.state == CRATE_ENDED) {
            uv_timer_stop(&c->timer);
            on_died(c);
        }
    }
}
