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

    if (place->client || place->resources || place->websockets) {
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

static void close_parts(struct place *base)
{
    struct modal_place *place = (struct modal_place *)base;
    bool none = !place->client && !place->resources && !place->websockets;

    if (none) {
        maybe_free(place);
        return;
    }
    if (place->websockets) {
        websocket_context_close(place->websockets, on_websockets_closed, place);
    }
    if (place->resources) {
        modal_resources_close(place->resources, on_resources_closed, place);
    } else {
        close_client(place);
    }
}

static void close_place(struct place *base, void (*closed)(void *data), void *data)
{
    struct modal_place *place = (struct modal_place *)base;

    place->closed = closed;
    place->closed_data = data;
    crates_close(&place->crates);
}

/* ---- sandboxes ---- */

static bool needs_own(const struct start_request *request)
{
    return request->tag || request->mount_count > 0; /* it is made with them */
}

/* What runs elsewhere costs: sandboxes are kept ready only when that was asked for. Of a given name
 * there can be one alone, and one that outlives us has its session's tag from its beginning. */
static unsigned pool_size(const struct place *base)
{
    const struct environment *env = base->env;

    return env->given & SETTING_POOL && !env->sandbox_name && !env->keep && !env->snapshot
               ? env->pool
               : 0;
}

static const struct crates_ops crates_ops = {"sandbox", sandbox_new, needs_own, pool_size,
                                             close_parts};

static struct machine *new_machine(struct place *base, const struct machine_events *events,
                                   void *data)
{
    return crate_machine_new(&((struct modal_place *)base)->crates, events, data);
}

static void warm(struct place *base)
{
    crates_warm(&((struct modal_place *)base)->crates);
}

/* ---- opening ---- */

static const struct place_ops ephemeral_ops;

static int open_place(uv_loop_t *loop, const struct environment *env, struct place **ret,
                      struct error *err)
{
    bool ephemeral = strcmp(env->backend, ephemeral_ops.name) == 0;
    struct modal_place *place;
    uint64_t random;

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
    place->memory = env->memory_snapshots;
    if (place->jupyter) {
        place->base.kernel = &jupyter_kernel;
        place->base.lacks = CAP_EXIT_STATUS;
    } else {
        place->base.lacks = CAP_KERNELSPECS;
    }
    place->base.lacks |= place->memory ? CAP_REATTACH : CAP_SNAPSHOT_MEMORY;
    (void)snprintf(place->server, sizeof(place->server), "%016llx", (unsigned long long)random);
    crates_init(&place->crates, &crates_ops, &place->base);
    *ret = &place->base;
    return 0;
}

/* Both rows of the registry. */
#define OPS(ops_name, ops_capabilities)                                                            \
    .name = (ops_name), .capabilities = (ops_capabilities), .languages = languages,                \
    .open = open_place, .warm = warm, .check = modal_check, .close = close_place,                  \
    .share_check = modal_share_check, .machine_new = new_machine,                                  \
    .machine_start = crate_machine_start, .machine_put = crate_machine_put,                        \
    .machine_put_cancel = crate_machine_put_cancel, .machine_file = crate_machine_file,            \
    .machine_interrupt = crate_machine_interrupt, .machine_signal = crate_machine_signal,          \
    .machine_kill = crate_machine_kill, .machine_close = crate_machine_close,                      \
    .machine_busy = crate_machine_busy, .machine_where = crate_machine_where,                      \
    .machine_leave = crate_machine_leave, .machine_snapshot = crate_machine_snapshot,              \
    .machine_snapshot_drop = crate_machine_snapshot_drop,                                          \
    .snapshot_delete = modal_snapshot_delete, .machine_ports = crate_machine_ports

const struct place_ops modal_place_ops = {OPS("modal", MODAL_CAPABILITIES)};

static const struct place_ops ephemeral_ops = {
    OPS("modal-ephemeral", MODAL_EPHEMERAL_CAPABILITIES)};
