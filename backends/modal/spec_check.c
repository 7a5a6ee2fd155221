#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/modal/spec.h"
#include "backends/modal/spec_check.h"
#include "backends/registry.h"

enum {
    NAME_MOST = 64, /* characters of a name at the service */
    TAG_MOST = 63,
    APP_ID_DIGITS = 22,
    ID_PREFIX = 3,
    PROCESS_DIGITS = 9,
    GPU_MOST = 64, /* of one kind; the service has its own limit below */
};

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"
#define NAME_CHARACTERS LETTERS DIGITS "-_."

/* ---- words ---- */

static bool is_word(const char *text, size_t most)
{
    size_t n = strlen(text);

    return n > 0 && n <= most && strspn(text, NAME_CHARACTERS) == n;
}

/* "ap-" and 22 letters or digits would be taken for an app's id. */
static bool is_app_id(const char *text)
{
    return strncmp(text, "ap-", 3) == 0 && strlen(text) == 3 + APP_ID_DIGITS &&
           strspn(text + 3, LETTERS DIGITS) == APP_ID_DIGITS;
}

static int check_name(const char *key, const char *name, struct error *err)
{
    if (is_word(name, NAME_MOST) && !is_app_id(name)) {
        return 0;
    }
    return error_set(err, ERROR_INVALID,
                     "%s: \"%.100s\" is no name at Modal: 1 to %d of letters, digits, - . and _, "
                     "and not as the id of an app",
                     key, name, NAME_MOST);
}

static int check_names(const struct environment *env, struct error *err)
{
    size_t index;
    json_t *name;

    if ((env->app_name && check_name("app_name", env->app_name, err) < 0) ||
        (env->sandbox_name && check_name("sandbox_name", env->sandbox_name, err) < 0) ||
        (env->proxy && check_name("proxy", env->proxy, err) < 0) ||
        (env->registry_secret && check_name("registry_secret", env->registry_secret, err) < 0)) {
        return -1;
    }
    json_array_foreach(env->modal_secrets, index, name)
    {
        if (check_name("modal_secrets", json_string_value(name), err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int check_tags(const struct environment *env, struct error *err)
{
    const char *name;
    json_t *value;

    json_object_foreach(env->tags, name, value)
    {
        const char *text = json_string_value(value);

        if (!is_word(name, TAG_MOST) || !is_word(text, TAG_MOST)) {
            return error_set(err, ERROR_INVALID,
                             "tags: \"%.70s\": \"%.70s\" is no tag at Modal: name and text have 1 "
                             "to %d of letters, digits, - . and _",
                             name, text, TAG_MOST);
        }
        if (strncmp(name, "cellblock", strlen("cellblock")) == 0) {
            return error_set(err, ERROR_INVALID,
                             "tags: \"%.70s\": tags whose name begins with \"cellblock\" are our "
                             "own; choose another name",
                             name);
        }
    }
    return 0;
}

static bool is_variable(const char *name)
{
    return name[0] && !isdigit((unsigned char)name[0]) &&
           strspn(name, LETTERS DIGITS "_") == strlen(name);
}

static int check_env(const struct environment *env, struct error *err)
{
    const char *name;
    json_t *value;

    json_object_foreach(env->env, name, value)
    {
        if (!is_variable(name)) {
            return error_set(err, ERROR_INVALID,
                             "env: \"%.64s\" is no name of a variable: letters, digits and _ are "
                             "expected, not beginning with a digit",
                             name);
        }
    }
    return 0;
}

/* ---- resources ---- */

/* "H100", "A10G:2", "H100!". */
static int check_gpu(const char *gpu, struct error *err)
{
    size_t kind = strspn(gpu, LETTERS DIGITS "-_!");
    char *end = NULL;
    long count = 1;

    if (strchr(gpu, ',') || gpu[0] == '[') {
        return error_set(err, ERROR_INVALID,
                         "gpu: \"%.64s\" is a list, and a sandbox takes one kind of GPU: name one, "
                         "such as H100, or A10G:2 for two of them",
                         gpu);
    }
    if (kind > 0 && gpu[kind] == ':' && isdigit((unsigned char)gpu[kind + 1])) {
        count = strtol(gpu + kind + 1, &end, 10);
    }
    if (kind > 0 && *(end ? end : gpu + kind) == '\0' && count > 0 && count <= GPU_MOST) {
        return 0;
    }
    return error_set(err, ERROR_INVALID,
                     "gpu: \"%.64s\" is not a kind of GPU, such as H100, or a kind and a number of "
                     "them, such as A10G:2",
                     gpu);
}

static int check_limits(const struct environment *env, struct error *err)
{
    if (env->cpu_limit > 0 && env->cpu_limit < env->cpu) {
        return error_set(err, ERROR_INVALID,
                         "cpu_limit: %g is less than cpu, which is %g and reserved for the sandbox",
                         env->cpu_limit, env->cpu);
    }
    if (env->memory_limit_mib > 0 && env->memory_limit_mib < env->memory_mib) {
        return error_set(err, ERROR_INVALID,
                         "memory_limit_mib: %llu is less than memory_mib, which is %llu and "
                         "reserved for the sandbox",
                         (unsigned long long)env->memory_limit_mib,
                         (unsigned long long)env->memory_mib);
    }
    if (env->max_timeout_seconds > MODAL_LIFETIME_MAX - MODAL_LIFETIME_SPARE) {
        return error_set(err, ERROR_INVALID,
                         "max_timeout_seconds: %g is more than Modal lets a sandbox live: %d at "
                         "most",
                         env->max_timeout_seconds, MODAL_LIFETIME_MAX - MODAL_LIFETIME_SPARE);
    }
    return env->gpu ? check_gpu(env->gpu, err) : 0;
}

/* ---- storage ---- */

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static bool is_within(const char *path, const char *folder)
{
    size_t n = strlen(folder);

    return strncmp(path, folder, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static int check_apart(const char *key, const json_t *one, const json_t *other, struct error *err)
{
    const char *dest = text_of(one, "dest"), *taken = text_of(other, "dest");
    const char *name = text_of(one, "name"), *same = text_of(other, "name");

    if (is_within(dest, taken) || is_within(taken, dest)) {
        return error_set(err, ERROR_INVALID, "%s: dest %s and dest %s are in each other's way", key,
                         dest, taken);
    }
    if (name && same && strcmp(name, same) == 0) {
        return error_set(err, ERROR_INVALID,
                         "%s: \"%.64s\" is at two paths, %s and %s; a sandbox has it at one", key,
                         name, taken, dest);
    }
    return 0;
}

/* One list, and that it is apart from what comes before it in `others`. */
static int check_storage(const char *key, const json_t *list, const json_t *others,
                         struct error *err)
{
    size_t index, at;
    json_t *one, *other;

    json_array_foreach(list, index, one)
    {
        const char *dest = text_of(one, "dest"), *name = text_of(one, "name");

        if (name && check_name(key, name, err) < 0) {
            return -1;
        }
        if (dest[0] != '/' || strcmp(dest, "/root") == 0) {
            return error_set(err, ERROR_INVALID,
                             "%s: dest \"%.200s\": an absolute path is expected, and not /root",
                             key, dest);
        }
        json_array_foreach(others, at, other)
        {
            if (list == others && at >= index) {
                break;
            }
            if (check_apart(key, one, other, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* ---- the whole ---- */

static int check_sharing(const struct environment *env, struct error *err)
{
    bool many = env->mode == MODE_EPHEMERAL || (env->given & SETTING_POOL && env->pool > 0);

    if (env->sandbox_name && many) {
        return error_set(err, ERROR_INVALID,
                         "sandbox_name: only one sandbox can have it at a time, and there are more "
                         "with mode \"ephemeral\" or a pool; leave it out");
    }
    return 0;
}

bool memory_is_id(const char *id)
{
    size_t n = strncmp(id, "sn-", ID_PREFIX) == 0 ? strspn(id + ID_PREFIX, DIGITS LETTERS) : 0;
    const char *process = id + ID_PREFIX + n;
    size_t digits = n > 0 && process[0] == '.' ? strspn(process + 1, DIGITS) : 0;

    return digits > 0 && digits <= PROCESS_DIGITS && process[1 + digits] == '\0';
}

/* A snapshot of memory needs a sandbox that is made for it, and is told with what is in it. */
static int check_memory_of(const struct environment *env, struct error *err)
{
    if (!env->snapshot || strncmp(env->snapshot, "sn-", 3) != 0) {
        return 0;
    }
    if (!env->memory_snapshots) {
        return error_set(err, ERROR_INVALID,
                         "snapshot: \"%.100s\" has the memory of a sandbox; only an environment "
                         "with \"memory_snapshots\": true can begin with it",
                         env->snapshot);
    }
    if (!memory_is_id(env->snapshot)) {
        return error_set(err, ERROR_INVALID,
                         "snapshot: \"%.100s\" is no memory snapshot of ours: their ids end in a "
                         "dot and a number, as create_snapshot tells them",
                         env->snapshot);
    }
    return 0;
}

static int refuse_memory(struct error *err, const char *with, const char *why)
{
    return error_set(err, ERROR_INVALID, "memory_snapshots: not with %s: %s; leave one of them out",
                     with, why);
}

static int check_memory(const struct environment *env, struct error *err)
{
    if (check_memory_of(env, err) < 0) {
        return -1;
    }
    if (!env->memory_snapshots) {
        return 0;
    }
    if (env->gpu) {
        return refuse_memory(err, "gpu", "Modal keeps no memory of a sandbox that has a GPU");
    }
    if (json_array_size(env->network_file_systems) > 0) {
        return refuse_memory(err, "network_file_systems",
                             "only Modal's older sandboxes have them, whose memory is not kept");
    }
    if (env->kernel == KERNEL_JUPYTER) {
        return refuse_memory(err, "kernel \"jupyter\"",
                             "what Modal restores is a sandbox's first process, which the kernel "
                             "is not");
    }
    if (env->mode == MODE_EPHEMERAL) {
        return refuse_memory(err, "mode \"ephemeral\"", "no variable outlives its run");
    }
    if (json_array_size(env->sandbox_command) > 0) {
        return refuse_memory(err, "sandbox_command",
                             "the sandbox's first process is ours, since that is what Modal "
                             "restores");
    }
    if (env->keep) {
        return refuse_memory(err, "keep", "its sessions end with their server");
    }
    return 0;
}

int modal_spec_check(const struct environment *env, struct error *err)
{
    if (env->workdir && env->workdir[0] != '/') {
        return error_set(err, ERROR_INVALID, "workdir: \"%.200s\" is not an absolute path",
                         env->workdir);
    }
    return check_names(env, err) < 0 || check_tags(env, err) < 0 || check_env(env, err) < 0 ||
                   check_limits(env, err) < 0 || spec_check_network(env, err) < 0 ||
                   spec_check_start(env, err) < 0 || check_sharing(env, err) < 0 ||
                   check_memory(env, err) < 0 ||
                   check_storage("volumes", env->volumes, env->volumes, err) < 0 ||
                   check_storage("network_file_systems", env->network_file_systems,
                                 env->network_file_systems, err) < 0 ||
                   check_storage("network_file_systems", env->network_file_systems, env->volumes,
                                 err) < 0
               ? -1
               : 0;
}

bool modal_spec_needs_v1(const struct environment *env)
{
    return env->gpu || json_array_size(env->network_file_systems) > 0;
}

bool modal_spec_is_jupyter(const struct environment *env)
{
    return env->kernel == KERNEL_JUPYTER;
}

unsigned modal_spec_lifetime(const struct environment *env, bool ephemeral)
{
    double seconds = ephemeral ? env->max_timeout_seconds + env->idle_timeout_seconds
                               : env->max_lifetime_seconds;

    return (unsigned)fmin(ceil(seconds) + MODAL_LIFETIME_SPARE, MODAL_LIFETIME_MAX);
}
