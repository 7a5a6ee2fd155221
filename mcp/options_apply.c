#include "mcp/options.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/registry.h"
#include "backends/share.h"

int options_split_share(const char *text, char **ret_source, char **ret_dest, bool *ret_read_only,
                        struct error *err)
{
    size_t length = strlen(text);
    bool writable = length > 3 && strcmp(text + length - 3, ":rw") == 0;
    size_t end = writable ? length - 3 : length;
    size_t at = end;
    char *source;
    char *dest;

    /* The destination is absolute: the last ":/" parts the two, whatever else the source holds. */
    while (at > 0 && !(text[at] == ':' && text[at + 1] == '/' && at + 1 < end)) {
        at--;
    }
    if (at == 0) {
        return error_set(err, ERROR_INVALID,
                         "\"%.200s\" is not SRC:DEST or SRC:DEST:rw with an absolute DEST, such as "
                         "data.csv:/data/data.csv",
                         text);
    }
    dest = strndup(text + at + 1, end - at - 1);
    source = strndup(text, at);
    if (!source || !dest) {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "command line");
    } else if (share_check_dest(dest, ret_dest, err) == 0) {
        *ret_source = source;
        *ret_read_only = !writable;
        free(dest);
        return 0;
    }
    free(source);
    free(dest);
    return -1;
}

/* --- over the configuration --- */

/* A path with a slash is meant from here, and the server may have gone elsewhere when it is used; a
 * name without one is looked up in PATH by the backend. Symlinks stay: a venv's python is one. */
static int apply_python(const char *python, struct environment *env, struct error *err)
{
    char here[PATH_MAX];
    char *path = NULL;

    if (python[0] == '/' || !strchr(python, '/')) {
        path = strdup(python);
    } else if (!getcwd(here, sizeof(here)) || asprintf(&path, "%s/%s", here, python) < 0) {
        path = NULL;
    }
    if (!path) {
        return error_set_code(err, ERROR_INTERNAL, errno, "--python %.200s", python);
    }
    free(env->python);
    env->python = path;
    env->given |= SETTING_PYTHON;
    return 0;
}

static int apply_network(const char *network, struct environment *env, struct error *err)
{
    json_t *value = json_string(network);
    int r = value ? environment_set_network(env, value, err)
                  : error_set(err, ERROR_INVALID, "--network: not UTF-8");

    json_decref(value);
    return r;
}

static int apply_to_environment(const struct options *o, struct environment *env, struct error *err)
{
    env->mode = o->has_mode ? o->mode : env->mode;
    if (o->has_network && apply_network(o->network, env, err) < 0) {
        return -1;
    }
    if (o->has_isolation) {
        env->isolation = o->isolation;
        env->given |= SETTING_ISOLATION;
    }
    if (o->has_timeout) {
        env->timeout_seconds = o->timeout_seconds;
        env->max_timeout_seconds = fmax(o->timeout_seconds, env->max_timeout_seconds);
    }
    if (o->python && apply_python(o->python, env, err) < 0) {
        return -1;
    }
    return o->backend ? backend_choose(o->backend, env, err) : 0;
}

/* Told at the start and not with the first session: a list of hosts is for backends that hold their
 * sandboxes to it. */
static int check_networks(const struct config *config, bool by_option, struct error *err)
{
    for (size_t i = 0; i < config->environment_count; i++) {
        const struct environment *env = config->environments[i];

        if (backend_check_network(backend_find(env->backend, NULL), env, err) < 0) {
            return by_option && env == config->default_environment
                       ? error_wrap(err, "--network")
                       : error_wrap(err, "environment %s", env->name);
        }
    }
    return 0;
}

int options_apply(const struct options *options, struct config *config, struct error *err)
{
    if (options->environment) {
        struct environment *env = config_environment(config, options->environment, err);

        if (!env) {
            return error_wrap(err, "--environment");
        }
        config->default_environment = env;
    }
    for (size_t i = 0; i < options->share_root_count; i++) {
        if (config_add_share_root(config, options->share_roots[i], err) < 0) {
            return error_wrap(err, "--share-root");
        }
    }
    config->structured |= options->structured;
    config->toolsets |= options->toolsets;
    config->warm |= options->warm;
    config->log_level = options->has_log_level ? options->log_level : config->log_level;
    if (apply_to_environment(options, config->default_environment, err) < 0) {
        return -1;
    }
    return check_networks(config, options->network != NULL, err);
}
