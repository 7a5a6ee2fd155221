#include "backends/docker/build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/docker/build_log.h"
#include "backends/docker/recipe.h"
#include "backends/docker/waiters.h"

struct kernel_image {
    uv_loop_t *loop;
    struct engine *engine;
    struct image *base;
    const struct environment *env;
    void (*on_line)(void *data, const char *line);
    void *data;
    struct image_facts facts;
    bool seen;
    bool busy;
    bool built; /* in this round: it is not tried twice */
    bool cancelled;
    unsigned prunes; /* tries to remove what a cancelled build left */
    struct waiters waiters;
    struct recipe recipe;
    struct engine_lines *lines;
    struct build_log log;
    uint64_t started_ns, told_ns;
    uv_timer_t silence;
    void (*closed)(void *data);
    void *closed_data;
};

static void look(struct kernel_image *k);

/* ---- who waits ---- */

static void tell(struct kernel_image *k, const struct error *err)
{
    k->busy = false;
    waiters_tell(&k->waiters, err);
}

static void fail(struct kernel_image *k, enum error_kind kind, const char *what, const char *why)
{
    struct error err = {0};

    error_set(&err, kind, "%s: %s", what, why ? why : "out of memory");
    tell(k, &err);
    error_clear(&err);
}

/* ---- progress ---- */

static void tell_progress(struct kernel_image *k)
{
    char now[BUILD_LINE_CAP + 64];
    char line[BUILD_LINE_CAP + 128];
    uint64_t seconds = (uv_hrtime() - k->started_ns) / 1000000000;

    k->told_ns = uv_hrtime();
    build_log_progress(&k->log, now, sizeof(now));
    (void)snprintf(line, sizeof(line), "building the image of the kernel (%s, %llu s)", now,
                   (unsigned long long)seconds);
    k->on_line(k->data, line);
}

static void on_silence(uv_timer_t *timer)
{
    tell_progress(timer->data);
}

static void on_value(void *data, json_t *value)
{
    struct kernel_image *k = data;

    build_log_take(&k->log, value);
    if (uv_hrtime() - k->told_ns >= (uint64_t)BUILD_TELL_MS * 1000000) {
        tell_progress(k);
        uv_timer_again(&k->silence);
    }
}

/* ---- building ---- */

static void on_pruned(void *data, long status, json_t *reply, const struct error *err)
{
    (void)data;
    (void)status;
    (void)reply;
    (void)err; /* an engine that keeps a stage has it in its cache: `docker image prune` */
}

static void prune(struct kernel_image *k, char *filters,
                  void (*done)(void *data, long status, json_t *reply, const struct error *err))
{
    char *escaped = filters ? http_escape(filters) : NULL;

    engine_call(k->engine,
                &(struct engine_call){
                    .method = "POST",
                    .path = escaped ? string_format("/images/prune?filters=%s", escaped) : NULL,
                    .done = done,
                    .data = k});
    free(filters);
    free(escaped);
}

/* The stage with pip's settings in its history goes. */
static void prune_stage(struct kernel_image *k, void (*done)(void *data, long status, json_t *reply,
                                                             const struct error *err))
{
    prune(k,
          string_format("{\"dangling\":[\"true\"],\"label\":[\"%s=%s\"]}", RECIPE_STAGE_LABEL,
                        k->recipe.hash),
          done);
}

/* And those of builds of which nobody could remove it; none that may be going. */
static void prune_old_stages(struct kernel_image *k)
{
    prune(k,
          string_format("{\"dangling\":[\"true\"],\"label\":[\"%s\"],\"until\":[\"1h\"]}",
                        RECIPE_STAGE_LABEL),
          on_pruned);
}

/* ---- breaking off ---- */

static void on_broken_off(uv_timer_t *timer);

/* Nothing is removed while the engine is still ending the step that was going. */
static void on_rest_pruned(void *data, long status, json_t *reply, const struct error *err)
{
    struct kernel_image *k = data;
    json_t *removed = json_object_get(reply, "ImagesDeleted");

    (void)status;
    if (!err && json_array_size(removed) == 0 && ++k->prunes < BUILD_PRUNES) {
        uv_timer_start(&k->silence, on_broken_off, BUILD_PRUNE_MS, 0);
    } else {
        fail(k, ERROR_LOST, "the image of the kernel", "its build was cancelled");
    }
}

static void on_broken_off(uv_timer_t *timer)
{
    prune_stage(timer->data, on_rest_pruned);
}

static void build_failed(struct kernel_image *k, const struct error *err)
{
    char what[256];
    char *why = build_log_failure(&k->log, err ? err->message : "it was broken off");

    (void)snprintf(what, sizeof(what), "the image of the kernel could not be built upon %.200s",
                   k->env->image ? k->env->image : "the default image");
    fail(k, ERROR_UNSUPPORTED, what, why);
    free(why);
}

static void on_end(void *data, long status, const struct error *err)
{
    struct kernel_image *k = data;

    (void)status;
    k->lines = NULL;
    uv_timer_stop(&k->silence);
    if (k->cancelled) {
        uv_timer_start(&k->silence, on_broken_off, BUILD_PRUNE_MS, 0);
        return;
    }
    prune_stage(k, on_pruned);
    if (err || k->log.error[0]) {
        build_failed(k, err);
    } else {
        look(k);
    }
}

static char *build_path(const struct kernel_image *k, const struct recipe_surroundings *around)
{
    char *arguments = json_dumps(around->arguments, JSON_COMPACT);
    char *escaped = arguments ? http_escape(arguments) : NULL;
    char *labels = string_format("{\"%s\":\"%s\"}", RECIPE_LABEL, k->recipe.hash);
    char *escaped_labels = labels ? http_escape(labels) : NULL;
    char *path = escaped && escaped_labels
                     ? string_format("/build?t=%s&rm=1&forcerm=1&labels=%s&buildargs=%s",
                                     k->recipe.tag, escaped_labels, escaped)
                     : NULL;

    free(arguments);
    free(escaped);
    free(labels);
    free(escaped_labels);
    return path;
}

static int send_build(struct kernel_image *k, struct error *err)
{
    static const struct engine_lines_events events = {on_value, on_end};
    struct recipe_surroundings around = {0};
    char *tar = NULL;
    size_t size = 0;

    if (recipe_look_around(getenv, &around, err) < 0) {
        return -1;
    }
    if (recipe_context(&k->recipe, &around, &tar, &size, err) == 0) {
        k->lines = engine_lines_post(k->engine, build_path(k, &around), "application/x-tar", tar,
                                     size, &events, k, err);
    }
    free(tar);
    recipe_surroundings_deinit(&around);
    return k->lines ? 0 : -1;
}

static void build(struct kernel_image *k)
{
    struct error err = {0};

    k->built = true;
    prune_old_stages(k);
    k->log = (struct build_log){0};
    k->started_ns = uv_hrtime();
    if (send_build(k, &err) < 0) {
        fail(k, err.kind, "the image of the kernel could not be built", err.message);
        error_clear(&err);
        return;
    }
    tell_progress(k);
    uv_timer_start(&k->silence, on_silence, BUILD_SILENCE_MS, BUILD_SILENCE_MS);
}

/* ---- looking ---- */

static void on_inspected(void *data, long status, json_t *reply, const struct error *err)
{
    struct kernel_image *k = data;

    if (!err) {
        image_facts_take(&k->facts, reply);
        k->seen = true;
        tell(k, NULL);
    } else if (k->cancelled) {
        fail(k, ERROR_LOST, "the image of the kernel", "its build was cancelled");
    } else if (status == 404 && !k->built) {
        build(k);
    } else if (status == 404) {
        build_failed(k, NULL);
    } else {
        fail(k, err->kind, "the image of the kernel", err->message);
    }
}

static void look(struct kernel_image *k)
{
    engine_call(k->engine,
                &(struct engine_call){.method = "GET",
                                      .path = string_format("/images/%s/json", k->recipe.tag),
                                      .done = on_inspected,
                                      .data = k});
}

static void on_base(void *data, const struct error *err)
{
    struct kernel_image *k = data;
    const struct image_facts *facts = image_facts(k->base);
    struct error why = {0};

    if (err) {
        tell(k, err);
        return;
    }
    recipe_deinit(&k->recipe);
    if (recipe_make(k->env, &(struct recipe_base){.id = facts->id, .user = facts->user}, &k->recipe,
                    &why) < 0) {
        tell(k, &why);
        error_clear(&why);
        return;
    }
    look(k);
}

void kernel_image_ensure(struct kernel_image *k, engine_done done, void *data)
{
    if (!waiters_add(&k->waiters, done, data)) {
        return;
    }
    if (k->seen) {
        tell(k, NULL); /* callers are in a callback of the engine's already */
    } else if (!k->busy) {
        k->busy = true;
        k->built = false;
        image_ensure(k->base, on_base, k);
    }
}

/* ---- life ---- */

const struct image_facts *kernel_image_facts(const struct kernel_image *k)
{
    return k->seen ? &k->facts : NULL;
}

const char *kernel_image_name(const struct kernel_image *k)
{
    return k->recipe.tag[0] ? k->recipe.tag : NULL;
}

void kernel_image_forget(struct kernel_image *k)
{
    if (!k->busy) {
        image_facts_deinit(&k->facts);
        k->seen = false;
        image_forget(k->base);
    }
}

void kernel_image_cancel(struct kernel_image *k)
{
    k->cancelled = true;
    if (k->lines) {
        engine_lines_cancel(k->lines);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct kernel_image *k = handle->data;
    void (*closed)(void *data) = k->closed;
    void *data = k->closed_data;

    image_facts_deinit(&k->facts);
    recipe_deinit(&k->recipe);
    free(k);
    closed(data);
}

void kernel_image_close(struct kernel_image *k, void (*closed)(void *data), void *data)
{
    k->closed = closed;
    k->closed_data = data;
    uv_close((uv_handle_t *)&k->silence, on_timer_closed);
}

struct kernel_image *kernel_image_new(uv_loop_t *loop, struct engine *engine, struct image *base,
                                      const struct environment *env,
                                      void (*on_line)(void *data, const char *line), void *data)
{
    struct kernel_image *k = calloc(1, sizeof(*k));

    if (!k) {
        return NULL;
    }
    k->loop = loop;
    k->engine = engine;
    k->base = base;
    k->env = env;
    k->on_line = on_line;
    k->data = data;
    uv_timer_init(loop, &k->silence);
    k->silence.data = k;
    return k;
}
