#ifndef CELLBLOCK_MODAL_IMAGE_RECIPE_H
#define CELLBLOCK_MODAL_IMAGE_RECIPE_H

#include <stdbool.h>

#include "backends/base/error.h"
#include "backends/base/strings.h"
#include "backends/environment.h"

/*
 * What an image is made of, as the layers that the service builds one upon the other and keeps:
 *
 *   base        `image` (a registry's name, or the id of an image of the service, "im-…"), or else
 *               the service's own debian_slim with `python` (a version; "3.12" when not given),
 *               said in its own client's words, so that it is the one that is ready there
 *   apt         `apt_packages`
 *   pip         `packages`, and what the jupyter kernel needs
 *   commands    `dockerfile_commands`
 *
 * With an `image`, `python` is the program of it that runs code. A `snapshot` is an image that has
 * all of these, so nothing is built.
 */
enum {
    MODAL_LAYERS = 4,
    MODAL_COMMANDS_CAP = 200, /* dockerfile_commands */
    MODAL_COMMAND_CAP = 16 * 1024,
};

#define MODAL_PYTHON_DEFAULT "3.12"

struct modal_layer {
    const char *what;        /* for people: "the Debian packages" */
    struct strings commands; /* of the Dockerfile, FROM first ("FROM base": the layer before) */
    bool global;             /* it is one of the service's own */
    bool from_registry;      /* its base is fetched from the registry that `image` names */
};

struct modal_recipe {
    char *image_id; /* what is there already, "im-…"; NULL */
    struct modal_layer layers[MODAL_LAYERS];
    unsigned count;
};

/* Refuses what can be seen to be wrong: 0, or -1 with the name of the setting. */
int modal_recipe_check(const struct environment *env, struct error *err);
/* `builder` is the image builder's version ("2025.06"). Checks, too. */
int modal_recipe_make(const struct environment *env, const char *builder, bool jupyter,
                      struct modal_recipe *ret, struct error *err);
void modal_recipe_deinit(struct modal_recipe *recipe);

/* The program that runs code in such an image. */
const char *modal_recipe_python(const struct environment *env);

#endif
