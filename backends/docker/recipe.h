#ifndef CELLBLOCK_DOCKER_RECIPE_H
#define CELLBLOCK_DOCKER_RECIPE_H

#include <jansson.h>
#include <stddef.h>

#include "backends/base/error.h"
#include "backends/environment.h"

/*
 * What the image of the jupyter kernel is made of: the environment's image, its packages of Debian
 * and of PyPI, and a Kernel Gateway with IPython and matplotlib, all of pip's in a virtual
 * environment at RECIPE_FOLDER that sees the packages of the base as well.
 *
 * The base needs a python3 (3.8 or newer) with venv and pip, and apt-get when Debian packages are
 * asked for.
 *
 * The recipe's hash names the image: the same recipe on the same base is built once. What the build
 * needs to reach its packages from here (pip's settings, proxies, certificates) is no part of the
 * recipe, and is in nothing but an earlier stage of the build, which is removed afterwards.
 */
#define RECIPE_FOLDER "/opt/cellblock"
#define RECIPE_PYTHON RECIPE_FOLDER "/bin/python3"
#define RECIPE_LABEL "cellblock.recipe"
#define RECIPE_STAGE_LABEL "cellblock.stage"

enum {
    RECIPE_HASH_SIZE = 65,
    RECIPE_TAG_SIZE = 96,
    RECIPE_PACKAGES_CAP = 200, /* of each kind */
    RECIPE_PACKAGE_CAP = 300,  /* bytes of one */
    RECIPE_CA_CAP = 4 * 1024 * 1024,
};

struct recipe {
    char hash[RECIPE_HASH_SIZE]; /* SHA-256, hexadecimal */
    char tag[RECIPE_TAG_SIZE];   /* "cellblock-kernel:HASH" */
    char *before, *after; /* the Dockerfile, in two parts: what arguments a build has, which stand
                           * between them, is no part of the recipe */
    char *requirements;
};

/* A requirement as in PEP 508 ("pandas", "pandas[excel]>=2,<3; python_version > '3.8'", "x @
 * https://…"), and nothing that pip would read as an option, a path or a variable. */
int recipe_check_package(const char *text, struct error *err);
/* A name of Debian's, with :ARCH and =VERSION. */
int recipe_check_apt_package(const char *text, struct error *err);
/* All of both kinds. 0, or -1 with the first that is wrong. */
int recipe_check(const struct environment *env, struct error *err);

struct recipe_base {
    const char *id;   /* "sha256:…" */
    const char *user; /* whom the base's programs run as; "" or NULL: root */
};

/* Checks and puts it together. */
int recipe_make(const struct environment *env, const struct recipe_base *base, struct recipe *ret,
                struct error *err);
void recipe_deinit(struct recipe *recipe);

/* What a build gets of this server's surroundings. */
struct recipe_surroundings {
    json_t *arguments; /* object of strings: build arguments */
    char *ca;          /* PEM; NULL: none of our own */
    size_t ca_size;
};

/* Reads the variables that pip and the engine's builder know, through `get` (getenv). A bundle of
 * certificates that is named and cannot be read is an error. */
int recipe_look_around(char *(*get)(const char *name), struct recipe_surroundings *ret,
                       struct error *err);
void recipe_surroundings_deinit(struct recipe_surroundings *around);

/* The build context: a tar, to be freed. */
int recipe_context(const struct recipe *recipe, const struct recipe_surroundings *around,
                   char **ret, size_t *ret_size, struct error *err);

#endif
