#include "backends/registry.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/nearest.h"
#include "backends/base/strings.h"
#include "backends/command/command.h"
#include "backends/docker/docker.h"
#include "backends/jupyter/jupyter.h"
#include "backends/local/local.h"
#include "backends/modal/modal.h"

enum { NAMES_MAX = 64 };

/* What both of Modal's rows know. */
#define MODAL_SETTINGS                                                                             \
    (SETTING_APP_NAME | SETTING_APT_PACKAGES | SETTING_CLOUD | SETTING_CPU | SETTING_CPU_LIMIT |   \
     SETTING_CUSTOM_DOMAIN | SETTING_DISK_MIB | SETTING_DOCKERFILE_COMMANDS | SETTING_GPU |        \
     SETTING_H2_PORTS | SETTING_IMAGE | SETTING_INBOUND_CIDR_ALLOWLIST |                           \
     SETTING_INCLUDE_OIDC_IDENTITY_TOKEN | SETTING_KERNEL | SETTING_MEMORY_LIMIT_MIB |             \
     SETTING_MEMORY_MIB | SETTING_MEMORY_SNAPSHOTS | SETTING_MODAL_SECRETS |                       \
     SETTING_NETWORK_FILE_SYSTEMS | SETTING_PACKAGES | SETTING_POOL | SETTING_PORTS |              \
     SETTING_PROCESSES | SETTING_PROXY | SETTING_PYTHON | SETTING_READINESS_PROBE |                \
     SETTING_REGION | SETTING_REGISTRY_AUTH | SETTING_REGISTRY_SECRET | SETTING_RUNTIME |          \
     SETTING_SANDBOX_COMMAND | SETTING_SANDBOX_NAME | SETTING_SNAPSHOT | SETTING_TAGS |            \
     SETTING_UNENCRYPTED_PORTS | SETTING_VOLUMES)

/* What the program knows of the backends that are modules; their `open` is in the module. */
static const char *const languages[] = {"python", "shell", NULL};
static const struct place_ops command_place_ops = {
    .name = "command", .capabilities = COMMAND_CAPABILITIES, .languages = languages};
static const struct place_ops docker_place_ops = {
    .name = "docker", .capabilities = DOCKER_CAPABILITIES, .languages = languages};
static const struct place_ops jupyter_place_ops = {
    .name = "jupyter", .capabilities = JUPYTER_CAPABILITIES, .languages = languages};

static const struct place_ops modal_place_ops = {
    .name = "modal", .capabilities = MODAL_CAPABILITIES, .languages = languages};
static const struct place_ops modal_ephemeral_place_ops = {.name = "modal-ephemeral",
                                                           .capabilities =
                                                               MODAL_EPHEMERAL_CAPABILITIES,
                                                           .languages = languages};

static const char *const no_aliases[] = {NULL};
static const char *const docker_aliases[] = {"local-docker", NULL};
static const char *const jupyter_aliases[] = {"jupyter-server", "local-jupyter", NULL};
static const char *const modal_aliases[] = {"modal-kernel", NULL};
static const char *const local_aliases[] = {"eval", "in-process", "local-eval", NULL};

/* clang-format off */
const struct backend backends[] = {
    {"command", "a process that a command reaches: ssh, srun, kubectl exec, podman run",
     no_aliases, &command_place_ops,
     SETTING_COMMAND | SETTING_CPU | SETTING_DISK_MIB | SETTING_MEMORY_MIB | SETTING_POOL |
     SETTING_PROCESSES | SETTING_PYTHON,
     "runs the command: as long as it takes to reach the other machine, and a Python there",
     "install it there, for the python3 that the command starts"},
    {"docker", "a hardened container of a Docker or Podman engine",
     docker_aliases, &docker_place_ops,
     SETTING_APT_PACKAGES | SETTING_CPU | SETTING_DISK_MIB | SETTING_HOST | SETTING_IMAGE |
     SETTING_KERNEL | SETTING_MEMORY_MIB | SETTING_PACKAGES | SETTING_POOL | SETTING_PROCESSES |
     SETTING_PYTHON | SETTING_READ_ONLY_ROOT | SETTING_RUNTIME | SETTING_USER,
     "starts a container, or takes one that is kept ready; the first start may fetch or build an "
     "image",
     "name an \"image\" that has it, or say \"kernel\": \"jupyter\" with it in \"packages\""},
    {"jupyter", "a kernel of a Jupyter server, at a URL or started here",
     jupyter_aliases, &jupyter_place_ops,
     SETTING_HEADERS | SETTING_KERNEL | SETTING_KERNEL_ID | SETTING_PYTHON | SETTING_TOKEN |
     SETTING_URL,
     "starts a kernel on the server, a second or more",
     "install it where the kernel's interpreter is"},
    {"local", "a warm, isolated interpreter on this machine (bubblewrap)",
     local_aliases, &local_place_ops,
     SETTING_CELLS | SETTING_DISK_MIB | SETTING_ISOLATION | SETTING_KERNEL | SETTING_MEMORY_MIB |
     SETTING_POOL | SETTING_PROCESSES | SETTING_PYTHON,
     "under a millisecond from the pool, milliseconds without; the very first takes as long as "
     "Python",
     NULL},
    {"modal", "a sandbox in Modal's cloud, with a GPU if one is wanted",
     modal_aliases, &modal_place_ops,
     MODAL_SETTINGS,
     "starts a sandbox in the cloud, a second or more; the first start may build an image",
     "name it in \"packages\": it is built into the image, once"},
    {"modal-ephemeral", "a sandbox in Modal's cloud for each run, and never for a second one",
     no_aliases, &modal_ephemeral_place_ops,
     MODAL_SETTINGS & ~(SETTING_KERNEL | SETTING_SANDBOX_NAME | SETTING_MEMORY_SNAPSHOTS),
     "starts a sandbox in the cloud for each run, a second or more, or takes one that is kept "
     "ready; the first start may build an image",
     "name it in \"packages\": it is built into the image, once",
     .module = "modal"},
    {0},
};

/* In the order of enum setting's bits. */
static const char *const setting_names[] = {
    "apt_packages", "cells", "command", "cpu", "disk_mib", "headers", "host", "image", "isolation",
    "kernel", "kernel_id", "memory_mib", "packages", "pool", "processes", "python",
    "read_only_root", "runtime", "token", "url", "user", "gpu", "app_name", "cpu_limit",
    "dockerfile_commands", "memory_limit_mib", "modal_secrets", "network_file_systems", "ports",
    "region", "sandbox_name", "tags", "volumes", "cloud", "custom_domain", "h2_ports",
    "inbound_cidr_allowlist", "include_oidc_identity_token", "proxy", "readiness_probe",
    "registry_auth", "registry_secret", "sandbox_command", "unencrypted_ports", "snapshot",
    "memory_snapshots",
};
/* clang-format on */

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        int x = *a == '_' ? '-' : tolower((unsigned char)*a);
        int y = *b == '_' ? '-' : tolower((unsigned char)*b);
        if (x != y) {
            return false;
        }
    }
    return *a == *b;
}

static bool answers_to(const struct backend *backend, const char *name)
{
    if (same_name(backend->name, name)) {
        return true;
    }
    for (const char *const *alias = backend->aliases; *alias; alias++) {
        if (same_name(*alias, name)) {
            return true;
        }
    }
    return false;
}

/* Appends to a list that is joined with ", "; on failure the list is freed and NULL. */
static void list_add(char **list, const char *name)
{
    char *longer = NULL;

    if (*list && asprintf(&longer, "%s%s%s", *list, **list ? ", " : "", name) < 0) {
        longer = NULL;
    }
    free(*list);
    *list = longer;
}

static const char *nearest_backend(const char *name)
{
    const char *words[NAMES_MAX];
    size_t count = 0;

    for (const struct backend *b = backends; b->name; b++) {
        if (count < NAMES_MAX) {
            words[count++] = b->name;
        }
        for (const char *const *alias = b->aliases; *alias && count < NAMES_MAX; alias++) {
            words[count++] = *alias;
        }
    }
    return word_nearest(name, words, count);
}

const struct backend *backend_find(const char *name, struct error *err)
{
    const char *nearest;
    char *list;

    for (const struct backend *b = backends; b->name; b++) {
        if (answers_to(b, name)) {
            return b;
        }
    }
    nearest = nearest_backend(name);
    list = strdup("");
    for (const struct backend *b = backends; b->name; b++) {
        list_add(&list, b->name);
    }
    (void)error_set(err, ERROR_INVALID, "no backend is called \"%.100s\"%s%s%s; there is: %s", name,
                    nearest ? " (did you mean \"" : "", nearest ? nearest : "",
                    nearest ? "\"?)" : "", list ? list : "");
    free(list);
    return NULL;
}

int backend_choose(const char *name, struct environment *env, struct error *err)
{
    const struct backend *backend = backend_find(name, err);
    char *copy;

    if (!backend) {
        return -1;
    }
    copy = strdup(backend->name);
    if (!copy) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    free(env->backend);
    env->backend = copy;
    if (same_name(name, "local-docker") && env->kernel == KERNEL_DEFAULT) {
        env->kernel = KERNEL_JUPYTER;
    }
    env->own_server = same_name(name, "local-jupyter");
    if (!(backend->ops->capabilities & CAP_STATEFUL)) {
        env->mode = MODE_EPHEMERAL;
    }
    return 0;
}

int backend_check_settings(const struct backend *backend, const struct environment *env,
                           struct error *err)
{
    uint64_t unknown = env->given & ~backend->settings;
    unsigned index = 0;
    char *list;

    if (unknown == 0) {
        return 0;
    }
    while (!(unknown & 1ull << index)) {
        index++;
    }
    list = strdup("");
    for (const struct backend *b = backends; b->name; b++) {
        if (b->settings & 1ull << index) {
            list_add(&list, b->name);
        }
    }
    error_set(err, ERROR_UNSUPPORTED,
              "%s: the backend \"%s\" has no such setting and would ignore it; it is one of: "
              "%s. Leave it out, or choose another backend",
              setting_names[index], backend->name, list ? list : "?");
    free(list);
    return -1;
}

int backend_check_network(const struct backend *backend, const struct environment *env,
                          struct error *err)
{
    char *hosts, *others;

    if (env->network != NETWORK_HOSTS || backend->ops->capabilities & CAP_NETWORK_HOSTS) {
        return 0;
    }
    hosts = environment_network(env);
    others = backends_with(CAP_NETWORK_HOSTS);
    error_set(err, ERROR_UNSUPPORTED,
              "network \"%.200s\" is not supported yet by backend \"%s\", which knows none and all "
              "and no list of hosts. Backends that have it: %s",
              hosts ? hosts : "?", backend->name, others ? others : "?");
    free(hosts);
    free(others);
    return -1;
}

char *backends_with(enum capability capability)
{
    char *list = strdup("");

    for (const struct backend *b = backends; b->name; b++) {
        if (b->ops->capabilities & (unsigned)capability) {
            list_add(&list, b->name);
        }
    }
    if (list && !*list) {
        free(list);
        list = strdup("none of those built in");
    }
    return list;
}

/* "by backend "local" with isolation "none"": what of the place it is that lacks it. */
static char *who_lacks(const struct place *place, enum capability needed)
{
    const struct environment *env = place->env;
    const char *name = place->ops->name;

    if (!(place->ops->capabilities & (unsigned)needed)) {
        return string_format("by backend \"%s\"", name);
    }
    if (place->ops == &local_place_ops) {
        return string_format("by backend \"%s\" with isolation \"%s\" (with \"auto\" it is)", name,
                             isolation_name(env->isolation));
    }
    return string_format("by backend \"%s\" with kernel \"%s\" at host \"%s\"", name,
                         kernel_choice_name(env->kernel), env->host ? env->host : "default");
}

int place_needs(const struct place *place, enum capability needed, const char *what,
                struct error *err)
{
    char *who, *others;

    if (place_capabilities(place) & (unsigned)needed) {
        return 0;
    }
    who = who_lacks(place, needed);
    others = backends_with(needed);
    error_set(err, ERROR_UNSUPPORTED, "%s is not supported %s. Backends that have it: %s", what,
              who ? who : "here", others ? others : "?");
    free(who);
    free(others);
    return -1;
}

int place_takes_share(const struct place *place, enum share_type type, bool read_only,
                      struct error *err)
{
    if (type == SHARE_COPY) {
        return place_needs(place, CAP_COPY, "a share of type copy", err);
    }
    if (type == SHARE_CLOUD) {
        return place_needs(place, CAP_CLOUD, "a share of type cloud", err);
    }
    if (!(place_capabilities(place) & CAP_MOUNT_COPY) &&
        place_needs(place, CAP_MOUNT, "a mount instead of a copy", err) < 0) {
        return -1;
    }
    if (read_only) {
        return 0;
    }
    return place_needs(place, CAP_MOUNT_WRITE,
                       place_copies_mounts(place)
                           ? "a mount there is an uploaded copy, which nothing comes back from: "
                             "one with read_only false"
                           : "a mount with read_only false",
                       err);
}
