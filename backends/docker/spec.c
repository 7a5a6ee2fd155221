#include "backends/docker/spec.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_CAP = 4096 };

static const char *const folders[] = {"/workspace", "/tmp",    "/data",   "/mnt",
                                      "/input",     "/inputs", "/output", "/outputs"};

/* ---- who code runs as ---- */

static bool parse_number(const char **text, uint32_t *ret)
{
    char *end;
    unsigned long value;

    if (!isdigit((unsigned char)**text)) {
        return false;
    }
    errno = 0;
    value = strtoul(*text, &end, 10);
    if (errno || value >= UINT32_MAX || (*end != '\0' && *end != ':')) {
        return false;
    }
    *text = end;
    *ret = (uint32_t)value;
    return true;
}

static void learn_numbers(struct spec_user *user)
{
    const char *text = user->name;

    user->known = parse_number(&text, &user->uid);
    user->gid = user->uid;
    if (user->known && *text == ':') {
        text++;
        user->known = parse_number(&text, &user->gid) && *text == '\0';
    }
}

static bool is_root(const char *user)
{
    size_t n = strcspn(user, ":");

    return n == 0 || (n == strlen("root") && strncmp(user, "root", n) == 0) ||
           strspn(user, "0") == n;
}

int spec_user(const struct environment *env, const char *of_image, struct spec_user *ret,
              struct error *err)
{
    const char *name = env->user;
    struct spec_user user = {0};

    if (name && (name[0] == '\0' || name[0] == ':' || strlen(name) >= sizeof(user.name))) {
        return error_set(err, ERROR_INVALID,
                         "user: \"%.100s\" is not UID, UID:GID or a name of the image", name);
    }
    if (!name && of_image && !is_root(of_image) && strlen(of_image) < sizeof(user.name)) {
        name = of_image;
    }
    if (name) {
        (void)snprintf(user.name, sizeof(user.name), "%s", name);
    } else {
        (void)snprintf(user.name, sizeof(user.name), "%d:%d", SPEC_NOBODY, SPEC_NOBODY);
    }
    learn_numbers(&user);
    *ret = user;
    return 0;
}

/* ---- folders ---- */

bool spec_dest_is_usual(const char *dest)
{
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        size_t n = strlen(folders[i]);
        if (strncmp(dest, folders[i], n) == 0 && dest[n] == '/') {
            return true;
        }
    }
    return false;
}

bool spec_dest_is_possible(const char *dest)
{
    return strchr(dest + 1, '/') != NULL;
}

/* A tmpfs hides what the image has there, so as little as possible is covered: a copy at /a/b/c
 * gets /a/b. */
static void folder_of(const char *dest, char space[PATH_CAP])
{
    char *slash;

    (void)snprintf(space, PATH_CAP, "%s", dest);
    slash = strrchr(space, '/');
    if (slash) {
        *slash = '\0';
    }
}

static bool is_mounted(const struct spec *spec, const char *path)
{
    for (unsigned i = 0; i < spec->mount_count; i++) {
        if (strcmp(spec->mounts[i]->dest, path) == 0) {
            return true;
        }
    }
    return false;
}

static void tmpfs_options(const struct spec *spec, const char *path, char *space, size_t size)
{
    const struct spec_user *user = spec->user;
    /* Podman's tmpfs takes no owner. */
    bool shared = strcmp(path, "/tmp") == 0 || !user->known || spec->podman;
    int n = snprintf(space, size, "rw,exec,nosuid,nodev,size=%llum,mode=%s",
                     (unsigned long long)spec->env->disk_mib, shared ? "1777" : "0755");

    if (!shared && n > 0 && (size_t)n < size) {
        (void)snprintf(space + n, size - (size_t)n, ",uid=%u,gid=%u", user->uid, user->gid);
    }
}

static void add_tmpfs(const struct spec *spec, json_t *tmpfs, const char *path)
{
    char options[160];

    if (path[0] != '/' || path[1] == '\0' || is_mounted(spec, path)) {
        return;
    }
    tmpfs_options(spec, path, options, sizeof(options));
    json_object_set_new(tmpfs, path, json_string(options));
}

static json_t *tmpfs_of(const struct spec *spec)
{
    json_t *tmpfs = json_object();
    const char *path;
    json_t *value;

    json_object_foreach(spec->volumes, path, value)
    {
        add_tmpfs(spec, tmpfs, path);
    }
    for (unsigned i = 0; i < spec->copy_count; i++) {
        char space[PATH_CAP];
        if (!spec_dest_is_usual(spec->copies[i]->dest)) {
            folder_of(spec->copies[i]->dest, space);
            add_tmpfs(spec, tmpfs, space);
        }
    }
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        add_tmpfs(spec, tmpfs, folders[i]);
    }
    return tmpfs;
}

/* ---- mounts ---- */

int spec_check_mount(const struct share *share, struct error *err)
{
    struct stat opened, now;
    int fd = open(share->source, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    bool same = fd >= 0 && fstat(fd, &now) == 0 && fstat(share->fd, &opened) == 0 &&
                now.st_dev == opened.st_dev && now.st_ino == opened.st_ino;

    if (fd >= 0) {
        close(fd);
    }
    if (!same) {
        return error_set(err, ERROR_REFUSED,
                         "the mount %s is not what it was when the share was added (moved, or "
                         "replaced by another); add the share again after reset_session",
                         share->source);
    }
    return 0;
}

static json_t *mounts_of(const struct spec *spec)
{
    json_t *mounts = json_array();

    for (unsigned i = 0; i < spec->mount_count; i++) {
        const struct share *share = spec->mounts[i];
        json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:b, s:{s:s}}", "Type", "bind",
                                                "Source", share->source, "Target", share->dest,
                                                "ReadOnly", share->read_only, "BindOptions",
                                                "Propagation", "rprivate"));
    }
    return mounts;
}

/* ---- the whole ---- */

static json_t *host_config(const struct spec *spec)
{
    const struct environment *env = spec->env;
    json_int_t memory = (json_int_t)env->memory_mib * 1024 * 1024;
    json_t *host = json_pack(
        "{s:b, s:b, s:[s], s:[s], s:s, s:s, s:{s:s, s:{}}, s:I, s:I, s:I, s:I, s:b}", "AutoRemove",
        1, "ReadonlyRootfs", env->read_only_root, "CapDrop", "ALL", "SecurityOpt",
        "no-new-privileges", "NetworkMode", env->network == NETWORK_ALL ? "bridge" : "none",
        "IpcMode", "private", "LogConfig", "Type", "none", "Config", "Memory", memory, "MemorySwap",
        memory, "PidsLimit", (json_int_t)env->processes + 1, "ShmSize", (json_int_t)SPEC_SHM,
        "Privileged", 0);

    if (!host) {
        return NULL;
    }
    if (env->cpu > 0) {
        json_object_set_new(host, "NanoCpus", json_integer((json_int_t)(env->cpu * 1e9)));
    }
    if (env->runtime) {
        json_object_set_new(host, "Runtime", json_string(env->runtime));
    }
    json_object_set_new(host, "Tmpfs", tmpfs_of(spec));
    json_object_set_new(host, "Mounts", mounts_of(spec));
    return host;
}

static json_int_t number_at(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* Podman tells processors as a quota of a period. */
static bool holds_cpu(const json_t *told, double cpu)
{
    json_int_t period = number_at(told, "CpuPeriod");
    double held = (double)number_at(told, "NanoCpus") / 1e9;

    if (held == 0 && period > 0) {
        held = (double)number_at(told, "CpuQuota") / (double)period;
    }
    return held > 0 && held < cpu + 0.01;
}

static bool holds_network(const json_t *told, enum network network)
{
    const char *mode = json_string_value(json_object_get(told, "NetworkMode"));

    return network == NETWORK_ALL || (mode && strcmp(mode, "none") == 0);
}

const char *spec_not_held(const struct environment *env, unsigned more_pids, const json_t *told)
{
    json_int_t pids = (json_int_t)env->processes + 1 + more_pids;
    const struct {
        const char *key;
        bool held;
    } rows[] = {
        {"Memory", number_at(told, "Memory") == (json_int_t)env->memory_mib * 1024 * 1024},
        {"PidsLimit", number_at(told, "PidsLimit") == pids},
        {"NanoCpus", env->cpu <= 0 || holds_cpu(told, env->cpu)},
        {"ReadonlyRootfs",
         !env->read_only_root || json_is_true(json_object_get(told, "ReadonlyRootfs"))},
        {"Privileged", json_is_false(json_object_get(told, "Privileged"))},
        {"NetworkMode", holds_network(told, env->network)},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!rows[i].held) {
            return rows[i].key;
        }
    }
    return NULL;
}

json_t *spec_create(const struct spec *spec)
{
    json_t *entrypoint = json_array();
    json_t *host = host_config(spec);

    for (const char *const *word = spec->command; *word; word++) {
        json_array_append_new(entrypoint, json_string(*word));
    }
    return json_pack("{s:s, s:o, s:s, s:s, s:s, s:b, s:b, s:b, s:b, s:b, s:b, s:{s:[s]}, s:s, s:i, "
                     "s:O, s:o}",
                     "Image", spec->image, "Entrypoint", entrypoint, "User", spec->user->name,
                     "WorkingDir", "/workspace", "Hostname", "cellblock", "AttachStdin", 1,
                     "AttachStdout", 1, "AttachStderr", 1, "OpenStdin", 1, "StdinOnce", 1, "Tty", 0,
                     "Healthcheck", "Test", "NONE", "StopSignal", "SIGKILL", "StopTimeout", 1,
                     "Labels", spec->labels, "HostConfig", host);
}
