#include "mcp/config_environment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/registry.h"
#include "backends/share.h"

#define VARIABLE_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

static int out_of_memory(struct error *err)
{
    return error_set_code(err, ERROR_INTERNAL, ENOMEM, "configuration");
}

static int set_backend(struct environment *env, const json_t *value, struct error *err)
{
    const struct backend *backend = backend_find(json_string_value(value), err);
    char *name;

    if (!backend) {
        return -1;
    }
    name = strdup(backend->name);
    if (!name) {
        return out_of_memory(err);
    }
    free(env->backend);
    env->backend = name;
    return 0;
}

static int set_mode(struct environment *env, const json_t *value, struct error *err)
{
    return mode_parse(json_string_value(value), &env->mode, err);
}

static int set_network(struct environment *env, const json_t *value, struct error *err)
{
    return network_parse(json_string_value(value), &env->network, err);
}

static int set_isolation(struct environment *env, const json_t *value, struct error *err)
{
    return isolation_parse(json_string_value(value), &env->isolation, err);
}

static int set_cells(struct environment *env, const json_t *value, struct error *err)
{
    return cells_parse(json_string_value(value), &env->cells, err);
}

static bool has_nul(const json_t *string)
{
    return strlen(json_string_value(string)) != json_string_length(string);
}

static int set_python(struct environment *env, const json_t *value, struct error *err)
{
    const char *path = json_string_value(value);

    if (has_nul(value) || (path[0] != '/' && strchr(path, '/'))) {
        return error_set(err, ERROR_INVALID,
                         "\"%.200s\" is neither an absolute path nor a name to be looked up in "
                         "PATH",
                         path);
    }
    env->python = strdup(path);
    return env->python ? 0 : out_of_memory(err);
}

static bool is_variable_name(const char *name)
{
    return name[0] != '\0' && strspn(name, VARIABLE_CHARACTERS) == strlen(name) &&
           !(name[0] >= '0' && name[0] <= '9');
}

static int set_env(struct environment *env, const json_t *value, struct error *err)
{
    const char *name;
    json_t *text;

    json_object_foreach((json_t *)value, name, text)
    {
        if (!is_variable_name(name)) {
            return error_set(err, ERROR_INVALID,
                             "\"%.64s\" is no name of a variable: letters, digits and _ are "
                             "allowed, not starting with a digit",
                             name);
        }
        if (has_nul(text)) {
            return error_set(err, ERROR_INVALID, "the value of %.64s holds a NUL", name);
        }
    }
    return json_object_update(env->env, (json_t *)value) < 0 ? out_of_memory(err) : 0;
}

static int set_shares(struct environment *env, const json_t *value, struct error *err)
{
    size_t index;
    json_t *share;

    json_array_foreach(value, index, share)
    {
        const json_t *source = json_object_get(share, "source");
        const json_t *dest = json_object_get(share, "dest");
        char *normal;

        if (has_nul(source) || json_string_value(source)[0] != '/') {
            return error_set(err, ERROR_INVALID, "[%zu].source: \"%.200s\" is not an absolute path",
                             index, json_string_value(source));
        }
        if (has_nul(dest)) {
            return error_set(err, ERROR_INVALID, "[%zu].dest holds a NUL", index);
        }
        if (share_check_dest(json_string_value(dest), &normal, err) < 0) {
            return error_wrap(err, "[%zu]", index);
        }
        free(normal);
        if (json_array_append(env->shares, share) < 0) {
            return out_of_memory(err);
        }
    }
    return 0;
}

static int set_memory(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->memory_mib = (uint64_t)json_integer_value(value);
    return 0;
}

static int set_disk(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->disk_mib = (uint64_t)json_integer_value(value);
    return 0;
}

static int set_processes(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->processes = (unsigned)json_integer_value(value);
    return 0;
}

static int set_pool(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->pool = (unsigned)json_integer_value(value);
    return 0;
}

static int set_timeout(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->timeout_seconds = json_number_value(value);
    return 0;
}

static int set_max_timeout(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->max_timeout_seconds = json_number_value(value);
    return 0;
}

static int set_idle_timeout(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->idle_timeout_seconds = json_number_value(value);
    return 0;
}

static int set_lifetime(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->max_lifetime_seconds = json_number_value(value);
    return 0;
}

/* Types and ranges have been checked by the schema; the setters check what a schema cannot say. */
static const struct key {
    const char *name;
    int (*set)(struct environment *env, const json_t *value, struct error *err);
} keys[] = {
    {"backend", set_backend},
    {"cells", set_cells},
    {"disk_mib", set_disk},
    {"env", set_env},
    {"idle_timeout_seconds", set_idle_timeout},
    {"isolation", set_isolation},
    {"max_lifetime_seconds", set_lifetime},
    {"max_timeout_seconds", set_max_timeout},
    {"memory_mib", set_memory},
    {"mode", set_mode},
    {"network", set_network},
    {"pool", set_pool},
    {"processes", set_processes},
    {"python", set_python},
    {"shares", set_shares},
    {"timeout_seconds", set_timeout},
};

/* A default that the file did not set follows the one that it did set. */
static int check_timeouts(struct environment *env, const json_t *object, struct error *err)
{
    if (env->timeout_seconds <= env->max_timeout_seconds) {
        return 0;
    }
    if (!json_object_get(object, "max_timeout_seconds")) {
        env->max_timeout_seconds = env->timeout_seconds;
        return 0;
    }
    if (!json_object_get(object, "timeout_seconds")) {
        env->timeout_seconds = env->max_timeout_seconds;
        return 0;
    }
    return error_set(err, ERROR_INVALID,
                     "timeout_seconds: %g is more than max_timeout_seconds, which is %g",
                     env->timeout_seconds, env->max_timeout_seconds);
}

int config_fill_environment(struct environment *env, const json_t *object, struct error *err)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const json_t *value = json_object_get(object, keys[i].name);

        if (value && keys[i].set(env, value, err) < 0) {
            return error_wrap(err, "%s", keys[i].name);
        }
    }
    return check_timeouts(env, object, err);
}
