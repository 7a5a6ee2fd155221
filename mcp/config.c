#include "mcp/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mcp/config_environment.h"
#include "mcp/schema.h"
#include "mcp/secrets.h"
#include "mcp/toolsets.h"

enum {
    FILE_CAP = 1024 * 1024, /* bytes of a config file */
    NAME_CAP = 64,          /* of an environment's name */
    ENVIRONMENTS_CAP = 256,
    MAX_FOREGROUND = 50, /* seconds; common hosts give a call 60 */
};

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

/* --- the environments --- */

static int out_of_memory(struct error *err)
{
    return error_set_code(err, ERROR_INTERNAL, ENOMEM, "configuration");
}

/* Appends a new environment with the defaults. NULL with `err`. */
static struct environment *add_environment(struct config *config, const char *name,
                                           struct error *err)
{
    size_t count = config->environment_count;
    struct environment **grown =
        reallocarray(config->environments, count + 1, sizeof(struct environment *));
    struct environment *env = calloc(1, sizeof(*env));

    if (grown) {
        config->environments = grown;
    }
    if (!grown || !env || environment_init(env, name, "local") < 0) {
        free(env);
        out_of_memory(err);
        return NULL;
    }
    config->environments[config->environment_count++] = env;
    return env;
}

static struct environment *find_environment(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->environment_count; i++) {
        if (strcmp(config->environments[i]->name, name) == 0) {
            return config->environments[i];
        }
    }
    return NULL;
}

/* "a, b, c" of all names, and the one that is nearest to `name`, into an error. */
static void set_unknown_environment(const struct config *config, const char *name,
                                    struct error *err)
{
    const char **names = calloc(config->environment_count + 1, sizeof(*names));
    const char *nearest;
    char list[1024] = "";
    size_t used = 0;

    if (!names) {
        out_of_memory(err);
        return;
    }
    for (size_t i = 0; i < config->environment_count && used < sizeof(list) - 1; i++) {
        names[i] = config->environments[i]->name;
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", names[i]);
    }
    nearest = nearest_word(name, names);
    error_set(err, ERROR_NOT_FOUND, "there is no environment \"%.64s\"%s%s%s; there are: %s", name,
              nearest ? ", did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "",
              list);
    free(names);
}

struct environment *config_environment(const struct config *config, const char *name,
                                       struct error *err)
{
    struct environment *env = find_environment(config, name);

    if (!env) {
        set_unknown_environment(config, name, err);
    }
    return env;
}

/* --- the file --- */

/* Reads all of the regular file `fd`. NULL with `err`. */
static char *read_open_file(int fd, size_t *ret_size, struct error *err)
{
    struct stat st;
    size_t size = 0;
    ssize_t n;
    char *text;

    if (fstat(fd, &st) < 0) {
        error_set_code(err, ERROR_INVALID, errno, "cannot be read");
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        error_set(err, ERROR_INVALID, "is %s, a JSON file is expected",
                  S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
        return NULL;
    }
    text = malloc(FILE_CAP + 1);
    while (text && (n = read(fd, text + size, FILE_CAP + 1 - size)) > 0) {
        size += (size_t)n;
    }
    if (!text || n < 0 || size > FILE_CAP) {
        error_set(err, ERROR_INVALID, "%s",
                  size > FILE_CAP ? "is larger than 1 MiB, the most that a config may have"
                                  : "cannot be read");
        free(text);
        return NULL;
    }
    *ret_size = size;
    return text;
}

/* Parses the file. NULL with `err`; *ret_absent when there is none. */
static json_t *parse_file(const char *path, bool *ret_absent, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    json_error_t where;
    size_t size;
    json_t *root;
    char *text;

    *ret_absent = fd < 0 && (errno == ENOENT || errno == ENOTDIR);
    if (fd < 0) {
        error_set_code(err, ERROR_INVALID, errno, "cannot be opened");
        return NULL;
    }
    text = read_open_file(fd, &size, err);
    close(fd);
    if (!text) {
        return NULL;
    }
    root = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    free(text);
    if (!root) {
        error_set(err, ERROR_INVALID, "line %d, column %d: %s%s", where.line, where.column,
                  json_error_code(&where) == json_error_invalid_utf8 ? "not UTF-8: " : "",
                  where.text);
    }
    return root;
}

static bool is_environment_name(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= NAME_CAP && strspn(name, NAME_CHARACTERS) == length;
}

/* A network policy that is known and not built gets its own answer before the schema's enum. */
static int check_networks(const json_t *environments, struct error *err)
{
    const char *name;
    const json_t *object;

    json_object_foreach((json_t *)environments, name, object)
    {
        const char *word = json_string_value(json_object_get(object, "network"));
        enum network ignored;
        struct error found = {0};

        if (word && network_parse(word, &ignored, &found) < 0 && found.kind == ERROR_UNSUPPORTED) {
            error_set(err, found.kind, "environments.%.64s.network: %s", name, found.message);
            error_clear(&found);
            return -1;
        }
        error_clear(&found);
    }
    return 0;
}

static int fill_environments(struct config *config, const json_t *environments, struct error *err)
{
    const char *name;
    const json_t *object;

    if (json_object_size(environments) > ENVIRONMENTS_CAP) {
        return error_set(err, ERROR_INVALID, "environments: there are %zu, at most %d are allowed",
                         json_object_size(environments), ENVIRONMENTS_CAP);
    }
    json_object_foreach((json_t *)environments, name, object)
    {
        struct environment *env;

        if (!is_environment_name(name)) {
            return error_set(err, ERROR_INVALID,
                             "environments: \"%.80s\" is no name for an environment: 1 to 64 of "
                             "A-Z a-z 0-9 _ . - are allowed",
                             name);
        }
        env = add_environment(config, name, err);
        if (!env) {
            return -1;
        }
        if (config_fill_environment(env, object, err) < 0 ||
            secrets_check_names(config->secrets, env->secrets, err) < 0) {
            return error_wrap(err, "environments.%s", name);
        }
    }
    return 0;
}

/* Which environment is the default. The built-in one is there only when the file chooses no other:
 * an owner who named a default has listed all that may be used. */
static int choose_default(struct config *config, const char *name, struct error *err)
{
    struct environment *env = find_environment(config, name ? name : "default");

    if (!env && !name) {
        env = add_environment(config, "default", err);
        if (!env) {
            return -1;
        }
    }
    if (!env) {
        set_unknown_environment(config, name, err);
        return error_wrap(err, "default_environment");
    }
    config->default_environment = env;
    return 0;
}

static int fill_toolsets(struct config *config, const json_t *names, struct error *err)
{
    size_t index;
    json_t *name;

    json_array_foreach(names, index, name)
    {
        if (toolset_add(json_string_value(name), &config->toolsets, err) < 0) {
            return error_wrap(err, "toolsets[%zu]", index);
        }
    }
    return 0;
}

static int fill_secrets(struct config *config, json_t *table, struct error *err)
{
    config->secrets = json_incref(table);
    return secrets_check_table(table, err);
}

/* What may be asked for is there. */
static int check_policy_secrets(const struct config *config, struct error *err)
{
    const json_t *allowed = config->policy.secrets, *name;

    for (size_t i = 0; (name = json_array_get(allowed, i)); i++) {
        json_t *one = json_pack("[O]", name);
        int r = secrets_check_names(config->secrets, one, err);

        json_decref(one);
        if (r < 0) {
            return error_wrap(err, "policy.secrets[%zu]", i);
        }
    }
    return 0;
}

static int fill_config(struct config *config, const json_t *root, struct error *err)
{
    const json_t *environments = json_object_get(root, "environments");
    const json_t *name = json_object_get(root, "default_environment");
    const json_t *foreground = json_object_get(root, "max_foreground_seconds");

    if (check_networks(environments, err) < 0 ||
        schema_check(schema_get("config"), root, false, err) < 0 ||
        fill_toolsets(config, json_object_get(root, "toolsets"), err) < 0 ||
        policy_fill(&config->policy, json_object_get(root, "policy"), err) < 0 ||
        fill_secrets(config, json_object_get(root, "secrets"), err) < 0 ||
        check_policy_secrets(config, err) < 0 || fill_environments(config, environments, err) < 0) {
        return -1;
    }
    if (foreground) {
        config->max_foreground_seconds = json_number_value(foreground);
    }
    return choose_default(config, json_string_value(name), err);
}

/* $XDG_CONFIG_HOME/cellblock/config.json or ~/.config/cellblock/config.json; NULL when neither
 * variable says where that is. To be freed. */
static char *default_path(void)
{
    const char *base = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    char *path = NULL;
    int n = 0;

    if (base && base[0] == '/') {
        n = asprintf(&path, "%s/cellblock/config.json", base);
    } else if (home && home[0] == '/') {
        n = asprintf(&path, "%s/.config/cellblock/config.json", home);
    }
    return n < 0 ? NULL : path;
}

static int load_file(struct config *config, const char *path, bool may_be_absent, struct error *err)
{
    bool absent;
    json_t *root = parse_file(path, &absent, err);
    int r;

    if (!root && absent && may_be_absent) {
        error_clear(err);
        return choose_default(config, NULL, err);
    }
    r = root ? fill_config(config, root, err) : -1;
    json_decref(root);
    return r < 0 ? error_wrap(err, "%s", path) : 0;
}

int config_load(struct config *config, const char *path, struct error *err)
{
    char *found = path ? NULL : default_path();
    int r;

    config->log_level = LOG_LEVEL_WARNING;
    config->max_foreground_seconds = MAX_FOREGROUND;
    config->share_roots = calloc(1, sizeof(*config->share_roots));
    if (!config->share_roots) {
        r = out_of_memory(err);
    } else if (path || found) {
        r = load_file(config, path ? path : found, !path, err);
    } else {
        r = choose_default(config, NULL, err);
    }
    free(found);
    if (r < 0) {
        config_deinit(config);
    }
    return r;
}

void config_deinit(struct config *config)
{
    for (size_t i = 0; i < config->environment_count; i++) {
        environment_deinit(config->environments[i]);
        free(config->environments[i]);
    }
    free(config->environments);
    for (char **root = config->share_roots; root && *root; root++) {
        free(*root);
    }
    free(config->share_roots);
    policy_deinit(&config->policy);
    json_decref(config->secrets);
    *config = (struct config){0};
}

/* --- share roots --- */

static int append_root(struct config *config, char *root_owned)
{
    size_t count = 0;
    char **grown;

    while (config->share_roots[count]) {
        count++;
    }
    grown = reallocarray(config->share_roots, count + 2, sizeof(*grown));
    if (!grown) {
        free(root_owned);
        return -ENOMEM;
    }
    grown[count] = root_owned;
    grown[count + 1] = NULL;
    config->share_roots = grown;
    return 0;
}

int config_add_share_root(struct config *config, const char *dir, struct error *err)
{
    char *root = realpath(dir, NULL);
    struct stat st;

    if (!root || stat(root, &st) < 0) {
        free(root);
        return error_set_code(err, ERROR_INVALID, errno, "share root \"%.200s\"", dir);
    }
    if (!S_ISDIR(st.st_mode)) {
        free(root);
        return error_set(err, ERROR_INVALID, "share root \"%.200s\" is not a directory", dir);
    }
    return append_root(config, root) < 0 ? out_of_memory(err) : 0;
}
