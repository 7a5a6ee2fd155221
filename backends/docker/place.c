#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/docker/internal.h"
#include "backends/docker/recipe.h"
#include "backends/kernels/jupyter/jupyter.h"

static const char *const languages[] = {"python", "shell", NULL};

static const char default_image[] = "python:3.11-slim";

/* ---- getting ready ---- */

/* One who waits for engine and image. */
struct wish {
    struct docker_place *place;
    engine_done done;
    void *data;
};

static void grant(struct wish *wish, const struct error *err)
{
    struct wish w = *wish;

    free(wish);
    if (err) {
        free(w.place->last_error);
        w.place->last_error = err->message ? strdup(err->message) : NULL;
    }
    w.done(w.data, err);
}

static void on_image(void *data, const struct error *err)
{
    grant(data, err);
}

static void on_base(void *data, const struct error *err)
{
    struct wish *wish = data;

    if (err || !wish->place->kernel_image) {
        grant(wish, err);
    } else {
        kernel_image_ensure(wish->place->kernel_image, on_image, wish);
    }
}

static void on_engine(void *data, const struct error *err)
{
    struct wish *wish = data;
    struct docker_place *place = wish->place;

    if (err) {
        grant(wish, err);
        return;
    }
    events_watch(place);
    orphans_sweep(place);
    image_ensure(place->image, on_base, wish);
}

void place_prepare(struct docker_place *place, engine_done done, void *data)
{
    struct wish *wish = calloc(1, sizeof(*wish));

    if (!wish) {
        static const struct error err = {.kind = ERROR_INTERNAL,
                                         .message = (char *)"out of memory"};
        done(data, &err);
        return;
    }
    *wish = (struct wish){place, done, data};
    engine_connect(place->engine, on_engine, wish);
}

const struct image_facts *place_image(const struct docker_place *place)
{
    return place->kernel_image ? kernel_image_facts(place->kernel_image)
                               : image_facts(place->image);
}

const char *place_image_name(const struct docker_place *place)
{
    return place->kernel_image ? kernel_image_name(place->kernel_image) : place->image_name;
}

void place_forget_image(struct docker_place *place)
{
    if (place->kernel_image) {
        kernel_image_forget(place->kernel_image);
    } else {
        image_forget(place->image);
    }
}

/* What all wait for is told to all who wait. */
static void on_image_line(void *data, const char *line)
{
    struct docker_place *place = data;

    for (struct crate *crate = place->crates.first; crate; crate = crate->next) {
        if (crate->state == CRATE_PREPARING) {
            crate_tell(crate, line);
        }
    }
}

/* ---- closing ---- */

static void maybe_free(struct docker_place *place)
{
    void (*closed)(void *data) = place->closed;
    void *data = place->closed_data;

    if (place->engine || place->kernel_image || place->websockets) {
        return;
    }
    if (place->image) {
        image_free(place->image);
    }
    json_decref(place->labels);
    free(place->orphans.failed);
    free(place->left);
    free(place->last_error);
    free(place);
    closed(data);
}

static void on_kernel_image_closed(void *data)
{
    struct docker_place *place = data;

    place->kernel_image = NULL;
    maybe_free(place);
}

static void on_websockets_closed(void *data)
{
    struct docker_place *place = data;

    place->websockets = NULL;
    maybe_free(place);
}

static void on_engine_closed(void *data)
{
    struct docker_place *place = data;

    place->engine = NULL;
    if (place->kernel_image) {
        kernel_image_close(place->kernel_image, on_kernel_image_closed, place);
    }
    maybe_free(place);
}

static void close_parts(struct place *base)
{
    struct docker_place *place = (struct docker_place *)base;
    struct engine *engine = place->engine;

    if (place->websockets) {
        websocket_context_close(place->websockets, on_websockets_closed, place);
    }
    if (engine) {
        engine_close(engine, on_engine_closed, place);
    } else {
        maybe_free(place);
    }
}

static void close_place(struct place *base, void (*closed)(void *data), void *data)
{
    struct docker_place *place = (struct docker_place *)base;

    place->closed = closed;
    place->closed_data = data;
    crates_close(&place->crates);
    if (place->kernel_image) {
        kernel_image_cancel(place->kernel_image);
    }
}

/* ---- containers ---- */

/* One that outlives us shows its session's tag in its labels, from its beginning. */
static bool needs_own(const struct start_request *request)
{
    for (unsigned i = 0; i < request->copy_count; i++) {
        if (!spec_dest_is_usual(request->copies[i]->dest)) {
            return true;
        }
    }
    return request->tag || request->mount_count > 0;
}

/* A container with a gateway of its own is no small thing to keep ready: only where each run takes
 * one, unless it was asked for. One that outlives us has its session's tag from its beginning. */
static unsigned pool_size(const struct place *base)
{
    const struct docker_place *place = (const struct docker_place *)base;
    const struct environment *env = base->env;
    bool asked = env->given & SETTING_POOL || env->mode == MODE_EPHEMERAL;

    return env->keep || (place->kernel_image && !asked) ? 0 : env->pool;
}

static const struct crates_ops crates_ops = {"container", container_new, needs_own, pool_size,
                                             close_parts};

static struct machine *new_machine(struct place *base, const struct machine_events *events,
                                   void *data)
{
    return crate_machine_new(&((struct docker_place *)base)->crates, events, data);
}

static void warm(struct place *base)
{
    crates_warm(&((struct docker_place *)base)->crates);
}

/* ---- opening ---- */

static int check_settings(const struct environment *env, struct error *err)
{
    struct endpoint endpoint = {0};
    struct spec_user user;

    if (env->kernel == KERNEL_JUPYTER && recipe_check(env, err) < 0) {
        return -1;
    }
    if (env->kernel != KERNEL_JUPYTER &&
        (json_array_size(env->packages) || json_array_size(env->apt_packages))) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "packages: an image is built of them with kernel \"jupyter\" only; name "
                         "an `image` that has them, or install them in the session (%%pip)");
    }
    if (env->host && endpoint_parse(env->host, "host", &endpoint, err) < 0) {
        return -1;
    }
    endpoint_deinit(&endpoint);
    return spec_user(env, NULL, &user, err);
}

static int make_parts(struct docker_place *place)
{
    uint64_t random[1];

    if (getentropy(random, sizeof(random)) < 0) {
        return -1;
    }
    (void)snprintf(place->server, sizeof(place->server), "%016llx", (unsigned long long)random[0]);
    place->labels = orphans_labels(place->server);
    place->engine = engine_new(place->base.loop, place->base.env);
    place->image =
        place->engine ? image_new(place->engine, place->image_name, on_image_line, place) : NULL;
    if (place->image && place->base.env->kernel == KERNEL_JUPYTER) {
        place->kernel_image = kernel_image_new(place->base.loop, place->engine, place->image,
                                               place->base.env, on_image_line, place);
        place->base.kernel = &jupyter_kernel;
        place->base.lacks = CAP_EXIT_STATUS | CAP_STDIN_CODE;
    } else {
        place->base.lacks = CAP_KERNELSPECS;
    }
    return place->labels && place->image &&
                   (place->kernel_image || place->base.env->kernel != KERNEL_JUPYTER)
               ? 0
               : -1;
}

static void nobody(void *data)
{
    (void)data;
}

static int open_place(uv_loop_t *loop, const struct environment *env, struct place **ret,
                      struct error *err)
{
    struct docker_place *place;

    if (check_settings(env, err) < 0) {
        return -1;
    }
    place = calloc(1, sizeof(*place));
    if (!place) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    place->base = (struct place){.ops = &docker_place_ops, .loop = loop, .env = env};
    place->image_name = env->image ? env->image : default_image;
    crates_init(&place->crates, &crates_ops, &place->base);
    if (make_parts(place) < 0) {
        place->closed = nobody;
        crates_close(&place->crates);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    *ret = &place->base;
    return 0;
}

const struct place_ops docker_place_ops = {
    .name = "docker",
    .capabilities = DOCKER_CAPABILITIES,
    .languages = languages,
    .open = open_place,
    .warm = warm,
    .check = docker_check,
    .close = close_place,
    .share_check = docker_share_check,
    .machine_new = new_machine,
    .machine_start = crate_machine_start,
    .machine_put = docker_machine_put,
    .machine_put_cancel = crate_machine_put_cancel,
    .machine_file = crate_machine_file,
    .machine_interrupt = crate_machine_interrupt,
    .machine_signal = crate_machine_signal,
    .machine_kill = crate_machine_kill,
    .machine_close = crate_machine_close,
    .machine_busy = crate_machine_busy,
    .machine_where = crate_machine_where,
    .machine_leave = crate_machine_leave,
};
