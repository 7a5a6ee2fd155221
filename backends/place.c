#include "backends/place.h"

#include "backends/kernel.h"
#include "backends/module.h"
#include "backends/registry.h"

int place_open(uv_loop_t *loop, const struct environment *env, struct place **ret,
               struct error *err)
{
    const struct backend *backend = backend_find(env->backend, err);

    if (!backend) {
        return -1;
    }
    if (backend_check_settings(backend, env, err) < 0) {
        return -1;
    }
    if ((backend->ops->open ? backend->ops->open(loop, env, ret, err)
                            : module_open(backend->name, loop, env, ret, err)) < 0) {
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

void place_close(struct place *place, void (*closed)(void *data), void *data)
{
    place->ops->close(place, closed, data);
}
