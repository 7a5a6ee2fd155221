#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/strings.h"
#include "backends/kernels/jupyter/jupyter.h"
#include "backends/modal/image_recipe.h"
#include "backends/modal/internal.h"

static const char *const languages[] = {"python", "shell", NULL};

/* ---- who we are ---- */

int place_connect(struct modal_place *place, struct error *err)
{
    struct modal_credentials credentials;

    if (place->resources) {
        return 0;
    }
    if (!place->client) {
        if (modal_credentials_find(&credentials, err) < 0) {
            return -1;
        }
        place->client = modal_client_new(place->base.loop, &credentials, err);
        free(place->who);
        place->who = string_format("from %s, for %s", credentials.profile, credentials.server_url);
        modal_credentials_clear(&credentials);
    }
    if (place->client) {
        place->resources = modal_resources_new(place->client, place->base.env, place->jupyter);
    }
    if (place->client && !place->resources) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
    }
    return place->resources ? 0 : -1;
}

void place_note_error(struct modal_place *place, const char *message)
{
    free(place->last_error);
    place->last_error = message ? strdup(message) : NULL;
}

/* ---- what the environment says ---- */

uint64_t place_memory(const struct modal_place *place)
{
    const struct environment *env = place->base.env;

    return env->memory_limit_mib ? env->memory_limit_mib : env->memory_mib;
}

/* The session's own idle time comes first; this one is for those whose server is gone. A run that
 * says nothing for long is not to be taken for idleness. */
unsigned place_idle_limit(const struct modal_place *place)
{
    const struct environment *env = place->base.env;
    double seconds = env->idle_timeout_seconds > env->max_timeout_seconds
                         ? env->idle_timeout_seconds
                         : env->max_timeout_seconds;

    seconds += MODAL_LIFETIME_SPARE;
    return seconds < MODAL_LIFETIME_MAX ? (unsigned)seconds : MODAL_LIFETIME_MAX;
}

const char *place_app_name(const struct modal_place *place)
{
    const char *given = place->base.env->app_name;

    return given ? given : "cellblock";
}

/* ---- closing ---- */

static void maybe_free(struct modal_place *place)
{
    void (*closed)(void *data) = place->closed;
    void *data = place->closed_data;

    if (place->client || place->resources || place->websockets || place->open_timers > 0) {
        return;
    }
    mount_store_deinit(&place->mounts);
    free(place->orphans.failed);
    free(place->who);
    free(place->left);
    free(place->last_error);
    free(place);
    closed(data);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct modal_place *place = handle->data;

    place->open_timers--;
    maybe_free(place);
}

static void on_client_closed(void *data)
{
    struct modal_place *place = data;

    place->client = NULL;
    maybe_free(place);
}

static void close_client(struct modal_place *place)
{
    if (place->client) {
        modal_client_close(place->client, on_client_closed, place);
    }
}

static void on_resources_closed(void *data)
{
    struct modal_place *place = data;

    place->resources = NULL;
    close_client(place);
    maybe_free(place);
}

static void on_websockets_closed(void *data)
{
    struct modal_place *place = data;

    place->websockets = NULL;
    maybe_free(place);
}

void place_maybe_closed(struct modal_place *place)
{
    if (!place->closing || place->parts_closing || place->sandboxes || place->machines > 0) {
        return;
    }
    place->parts_closing = true;
    uv_close((uv_handle_t *)&place->fill, on_timer_closed);
    uv_close((uv_handle_t *)&place->idle, on_timer_closed);
    if (place->websockets) {
        websocket_context_close(place->websockets, on_websockets_closed, place);
    }
    if (place->resources) {
        modal_resources_close(place->resources, on_resources_closed, place);
    } else {
        close_client(place);
    }
}

void place_sandbox_freed(struct modal_place *place, struct sandbox *s)
{
    for (struct sandbox **at = &place->sandboxes; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            break;
        }
    }
    place_maybe_closed(place);
}

static void close_place(struct place *base, void (*closed)(void *data), void *data)
{
    struct modal_place *place = (struct modal_place *)base;

    place->closing = true;
    place->closed = closed;
    place->closed_data = data;
    uv_timer_stop(&place->fill);
    uv_timer_stop(&place->idle);
    pool_drop(place);
    place_maybe_closed(place);
}

/* ---- idle ---- */

/* Nothing has used the place for the idle time: the pool goes, the next run brings it back. */
static void on_idle(uv_timer_t *timer)
{
    struct modal_place *place = timer->data;

    if (place->machines == 0) {
        uv_timer_stop(&place->fill);
        pool_drop(place);
    }
}

void place_touch(struct modal_place *place)
{
    if (!place->closing) {
        uint64_t ms = (uint64_t)(place->base.env->idle_timeout_seconds * 1000);
        uv_timer_start(&place->idle, on_idle, ms, 0);
        uv_unref((uv_handle_t *)&place->idle);
    }
}

/* ---- opening ---- */

static const struct place_ops ephemeral_ops;

static int open_place(uv_loop_t *loop, const struct environment *env, struct place **ret,
                      struct error *err)
{
    bool ephemeral = strcmp(env->backend, ephemeral_ops.name) == 0;
    struct modal_place *place;
    uint64_t random;

    if (env->keep && modal_spec_is_jupyter(env)) {
        return error_set(
            err, ERROR_UNSUPPORTED,
            "keep: on Modal a session of kernel \"jupyter\" ends with the server; leave "
            "out \"keep\", or \"kernel\"");
    }
    if (modal_spec_check(env, err) < 0 || modal_recipe_check(env, err) < 0) {
        return -1;
    }
    place = calloc(1, sizeof(*place));
    if (!place || getentropy(&random, sizeof(random)) < 0) {
        free(place);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    place->base = (struct place){
        .ops = ephemeral ? &ephemeral_ops : &modal_place_ops, .loop = loop, .env = env};
    place->ephemeral = ephemeral || env->mode == MODE_EPHEMERAL;
    place->jupyter = modal_spec_is_jupyter(env);
    place->v1 = modal_spec_needs_v1(env);
    if (place->jupyter) {
        place->base.kernel = &jupyter_kernel;
        place->base.lacks = CAP_EXIT_STATUS | CAP_REATTACH;
    } else {
        place->base.lacks = CAP_KERNELSPECS;
    }
    (void)snprintf(place->server, sizeof(place->server), "%016llx", (unsigned long long)random);
    uv_timer_init(loop, &place->fill);
    uv_timer_init(loop, &place->idle);
    place->fill.data = place->idle.data = place;
    place->open_timers = 2;
    *ret = &place->base;
    return 0;
}

static void warm(struct place *base)
{
    struct modal_place *place = (struct modal_place *)base;

    place_touch(place);
    pool_fill(place);
}

/* Both rows of the registry. */
#define OPS(ops_name, ops_capabilities)                                                            \
    .name = (ops_name), .capabilities = (ops_capabilities), .languages = languages,                \
    .open = open_place, .warm = warm, .check = modal_check, .close = close_place,                  \
    .share_check = modal_share_check, .machine_new = modal_machine_new,                            \
    .machine_start = modal_machine_start, .machine_put = modal_machine_put,                        \
    .machine_put_cancel = modal_machine_put_cancel, .machine_file = modal_machine_file,            \
    .machine_interrupt = modal_machine_interrupt, .machine_signal = modal_machine_signal,          \
    .machine_kill = modal_machine_kill, .machine_close = modal_machine_close,                      \
    .machine_busy = modal_machine_busy, .machine_where = modal_machine_where,                      \
    .machine_leave = modal_machine_leave

const struct place_ops modal_place_ops = {OPS("modal", MODAL_CAPABILITIES)};

static const struct place_ops ephemeral_ops = {
    OPS("modal-ephemeral", MODAL_EPHEMERAL_CAPABILITIES)};
