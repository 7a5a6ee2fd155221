#ifndef CELLBLOCK_DOCKER_REGISTRY_H
#define CELLBLOCK_DOCKER_REGISTRY_H

#include "backends/base/error.h"

/*
 * Who we are to an image's registry, as `docker login` has left it: "auths" of config.json in the
 * folder of Docker's client. An engine that fetches an image is given it, that registry's only.
 *
 * Programs that keep credentials (credsStore, credHelpers) are not run.
 */
struct registry_login {
    char *header; /* "X-Registry-Auth: …", a secret; NULL: nobody */
    char *advice; /* for when the registry refuses; NULL without memory */
};

enum {
    REGISTRY_LOGIN_CAP = 64 * 1024, /* bytes of one login */
};

/* 0, or -1 with an error (a config.json that cannot be read, a login that is none). */
int registry_login_find(const char *image, struct registry_login *ret, struct error *err);
void registry_login_deinit(struct registry_login *login);

/* "ghcr.io/a/b:1" → "ghcr.io"; "python" → "docker.io". To be freed. */
char *registry_of(const char *image);

#endif
