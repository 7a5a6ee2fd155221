#include <stdio.h>
#include <stdlib.h>

#include "backends/docker/internal.h"

/* What `cellblock doctor` is told, after a trial run: what that has shown of engine, image and
 * leftovers. */

static void tell(void (*each)(void *data, const struct place_check *check), void *data,
                 const char *name, bool ok, bool required, const char *detail, const char *fix)
{
    struct place_check check = {name, ok, required, detail, ok ? NULL : fix};
    each(data, &check);
}

static void check_engine(const struct docker_place *place,
                         void (*each)(void *data, const struct place_check *check), void *data)
{
    const struct engine_facts *facts = engine_facts(place->engine);
    char detail[512];

    if (!facts) {
        tell(each, data, "engine", false, true,
             place->last_error ? place->last_error : "no container was asked for",
             "systemctl start docker");
        return;
    }
    (void)snprintf(detail, sizeof(detail), "%s %s (API 1.%d) at %s",
                   facts->podman ? "Podman" : "Docker", facts->version, facts->api_minor,
                   facts->name);
    tell(each, data, "engine", true, true, detail, NULL);
}

static void check_image(const struct docker_place *place,
                        void (*each)(void *data, const struct place_check *check), void *data)
{
    char detail[512];
    char fix[320];
    bool ok = image_facts(place->image) != NULL;

    (void)snprintf(detail, sizeof(detail), "%.200s%s%.250s", place->image_name,
                   ok || !place->last_error ? "" : ": ",
                   ok || !place->last_error ? "" : place->last_error);
    (void)snprintf(fix, sizeof(fix), "docker pull %.200s", place->image_name);
    tell(each, data, "image", ok, true, detail, fix);
}

static void check_kernel_image(const struct docker_place *place,
                               void (*each)(void *data, const struct place_check *check),
                               void *data)
{
    const char *name = kernel_image_name(place->kernel_image);
    bool ok = kernel_image_facts(place->kernel_image) != NULL;

    tell(each, data, "kernel image", ok, true, ok || !place->last_error ? name : place->last_error,
         "run some code: it is built when the first run needs it");
}

static void check_orphans(const struct docker_place *place,
                          void (*each)(void *data, const struct place_check *check), void *data)
{
    const struct orphans *o = &place->orphans;
    const struct place_left left = {"left containers", o->found, o->removed, o->failed,
                                    "docker rm -f $(docker ps -aq --filter "
                                    "label=cellblock.server)"};

    place_tell_left(&left, each, data);
}

void docker_check(struct place *base, void (*each)(void *data, const struct place_check *check),
                  void *data)
{
    const struct docker_place *place = (const struct docker_place *)base;

    check_engine(place, each, data);
    if (engine_facts(place->engine)) {
        check_image(place, each, data);
        if (place->kernel_image) {
            check_kernel_image(place, each, data);
        }
        check_orphans(place, each, data);
    }
    if (place->left) {
        tell(each, data, "removal", false, false, place->left, "docker rm -f NAME");
    }
}
