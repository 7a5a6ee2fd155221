#ifndef CELLBLOCK_DOCKER_SPEC_H
#define CELLBLOCK_DOCKER_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/base/error.h"
#include "backends/environment.h"
#include "backends/share.h"

/*
 * What a container is made with: the body of POST /containers/create.
 *
 * Hardened unless the environment says otherwise: not root, no capability, no new privileges, the
 * engine's own seccomp and AppArmor profiles, a read-only root, no network, limits on memory,
 * processors and processes (on open files by the supervisor: Podman has no limit of its own to give
 * where it may not raise its own), nothing logged by the engine, no health checks, and no
 * volumes. What can be written is memory: /workspace, /tmp, the folders where shares go, and what
 * the image declares as volumes are each a tmpfs of at most disk_mib, and what is in them counts
 * as memory of the container (memory_mib holds for files and processes together).
 *
 * The first process is the runner's supervisor, whose stdin is ours: when our end goes, it ends,
 * and the engine removes the container.
 */
struct spec_user {
    char name[256]; /* as the engine gets it: "65534:65534", "jovyan" */
    bool known;     /* the numbers are */
    uint32_t uid, gid;
};

enum { SPEC_NOBODY = 65534, SPEC_SHM = 64 * 1024 * 1024 };

/* env->user, else the image's own when that is not root, else nobody. */
int spec_user(const struct environment *env, const char *of_image, struct spec_user *ret,
              struct error *err);

struct spec {
    const struct environment *env;
    const char *image;
    const struct spec_user *user;
    const char *const *command; /* NULL-terminated */
    json_t *labels;             /* borrowed */
    json_t *volumes;            /* of the image: object whose keys are paths; borrowed, or NULL */
    struct share *const *mounts;
    unsigned mount_count;
    struct share *const *copies; /* that will be made: folders for them are made as well */
    unsigned copy_count;
    bool podman;
};

/* NULL when out of memory. */
json_t *spec_create(const struct spec *spec);

/*
 * Does the engine's own description of a container (HostConfig of GET /containers/ID/json) hold it
 * to what was asked for? NULL, or the key of the first that it does not. An engine may take a
 * create and leave limits out without a word: rootless Podman 4.3 does so with cgroups v1.
 * `more_pids` are added to the limit on processes.
 */
const char *spec_not_held(const struct environment *env, unsigned more_pids,
                          const json_t *host_config);

/* Is the dest inside of a folder that every container has? */
bool spec_dest_is_usual(const char *dest);
/* Can a folder be made for it when it is known before the creation? Not right below "/": the root
 * is read-only. */
bool spec_dest_is_possible(const char *dest);

/* Is the mount's source still what was opened when the share was made? The engine looks its path up
 * again. -1 with `err`. */
int spec_check_mount(const struct share *share, struct error *err);

#endif
