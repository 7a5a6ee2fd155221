#include "backends/place.h"

#include <stdlib.h>

#include "backends/kernel.h"
#include "backends/module.h"
#include "backends/registry.h"

static int check_keep(const struct backend *backend, const struct environment *env,
                      struct error *err)
{
    char *others;

    if (!env->keep || backend->ops->capabilities & CAP_REATTACH) {
        return env->keep && env->mode == MODE_EPHEMERAL
                   ? error_set(err, ERROR_INVALID,
                               "keep: in ephemeral mode each run has a sandbox of its own, and "
                               "there is nothing to be kept; leave out \"keep\" or \"mode\"")
                   : 0;
    }
    others = backends_with(CAP_REATTACH);
    (void)error_set(err, ERROR_UNSUPPORTED,
                    "keep: a session of backend \"%s\" ends with the server. Backends whose "
                    "sessions outlive it: %s; leave out \"keep\", or choose one of them",
                    backend->name, others ? others : "?");
    free(others);
    return -1;
}

/* A backend whose sandboxes are for one run each keeps no variables for a second. */
static int check_mode(const struct backend *backend, const struct environment *env,
                      struct error *err)
{
    char *others;

    if (env->mode == MODE_EPHEMERAL || backend->ops->capabilities & CAP_STATEFUL) {
        return 0;
    }
    others = backends_with(CAP_STATEFUL);
    (void)error_set(err, ERROR_UNSUPPORTED,
                    "mode \"stateful\" is not supported by backend \"%s\". Backends that have it: "
                    "%s",
                    backend->name, others ? others : "?");
    free(others);
    return -1;
}

int place_open(uv_loop_t *loop, const struct environment *env, struct place **ret,
               struct error *err)
{
    const struct backend *backend = backend_find(env->backend, err);

    if (!backend) {
        return -1;
    }
    if (backend_check_settings(backend, env, err) < 0 || check_keep(backend, env, err) < 0 ||
        check_mode(backend, env, err) < 0 || backend_check_network(backend, env, err) < 0) {
        return -1;
    }
    if ((backend->ops->open ? backend->ops->open(loop, env, ret, err)
                            : module_open(backend->module ? backend->module : backend->name, loop,
                                          env, ret, err)) < 0) {
        return -1;
    }
    if (!(*ret)->kernel) {
        (*ret)->kernel = &runner_kernel;
    }
    return 0;
}

void place_warm(struct place *place)
{
    if (place->ops->warm) {
        place->ops->warm(place);
    }
}

int place_delete_snapshot(struct place *place, const char *id, executor_done done, void *data,
                          struct error *err)
{
    if (place_needs(place, CAP_SNAPSHOT, "a snapshot", err) < 0) {
        return -1;
    }
    return place->ops->snapshot_delete(place, id, done, data, err);
}

void place_close(struct place *place, void (*closed)(void *data), void *data)
{
    place->ops->close(place, closed, data);
}
