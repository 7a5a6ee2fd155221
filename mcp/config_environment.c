#include "mcp/config_environment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/registry.h"
#include "backends/share.h"
#include "mcp/cloud_share.h"
#include "mcp/config_modal.h"

#define KERNEL_ID_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
/* token of RFC 9110, section 5.6.2. */
#define HEADER_CHARACTERS KERNEL_ID_CHARACTERS "!#$%&'*+.^_`|~"
#define VARIABLE_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

static int out_of_memory(struct error *err)
{
    return error_set_code(err, ERROR_INTERNAL, ENOMEM, "configuration");
}

static int set_backend(struct environment *env, const json_t *value, struct error *err)
{
    return backend_choose(json_string_value(value), env, err);
}

static int set_mode(struct environment *env, const json_t *value, struct error *err)
{
    return mode_parse(json_string_value(value), &env->mode, err);
}

static int set_network(struct environment *env, const json_t *value, struct error *err)
{
    return environment_set_network(env, value, err);
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

/* What it is that is shared. */
static int check_source(const json_t *share, size_t index, struct error *err)
{
    const json_t *source = json_object_get(share, "source");

    if (strcmp(json_string_value(json_object_get(share, "type")), "cloud") == 0) {
        return cloud_share_check(share, err) < 0 ? error_wrap(err, "[%zu]", index) : 0;
    }
    if (!source) {
        return error_set(err, ERROR_INVALID, "[%zu].source is missing", index);
    }
    if (has_nul(source) || json_string_value(source)[0] != '/') {
        return error_set(err, ERROR_INVALID, "[%zu].source: \"%.200s\" is not an absolute path",
                         index, json_string_value(source));
    }
    return 0;
}

static int set_shares(struct environment *env, const json_t *value, struct error *err)
{
    size_t index;
    json_t *share;

    json_array_foreach(value, index, share)
    {
        const json_t *dest = json_object_get(share, "dest");
        char *normal;

        if (check_source(share, index, err) < 0) {
            return -1;
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

static int set_kernel(struct environment *env, const json_t *value, struct error *err)
{
    return kernel_parse(json_string_value(value), &env->kernel, err);
}

/* A text that goes on to another program: no NUL, no control characters. */
static int set_text(char **field, const json_t *value, struct error *err)
{
    const char *text = json_string_value(value);

    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            return error_set(err, ERROR_INVALID, "\"%.200s\" holds a control character", text);
        }
    }
    if (has_nul(value)) {
        return error_set(err, ERROR_INVALID, "\"%.200s\" holds a NUL", text);
    }
    free(*field);
    *field = strdup(text);
    return *field ? 0 : out_of_memory(err);
}

static int set_image(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->image, value, err);
}

static int set_runtime(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->runtime, value, err);
}

static int set_title(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->title, value, err);
}

static int set_user(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->user, value, err);
}

static int set_host(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->host, value, err);
}

static int set_url(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->url, value, err);
}

static int set_token(struct environment *env, const json_t *value, struct error *err)
{
    (void)set_text(&env->token, value, err);
    /* A token is not quoted in an error. */
    return env->token ? 0 : error_set(err, ERROR_INVALID, "it holds a control character");
}

static int set_kernel_id(struct environment *env, const json_t *value, struct error *err)
{
    const char *id = json_string_value(value);

    if (has_nul(value) || strspn(id, KERNEL_ID_CHARACTERS) != strlen(id)) {
        return error_set(err, ERROR_INVALID,
                         "\"%.64s\" is no kernel's id: letters, digits and - are allowed", id);
    }
    return set_text(&env->kernel_id, value, err);
}

static int set_words(json_t *list, const json_t *value, struct error *err)
{
    size_t index;
    json_t *word;

    json_array_foreach(value, index, word)
    {
        if (has_nul(word)) {
            return error_set(err, ERROR_INVALID, "[%zu] holds a NUL", index);
        }
    }
    return json_array_clear(list) < 0 || json_array_extend(list, (json_t *)value) < 0
               ? out_of_memory(err)
               : 0;
}

static int set_packages(struct environment *env, const json_t *value, struct error *err)
{
    return set_words(env->packages, value, err);
}

/* To those that are there, each once. */
static int set_secrets(struct environment *env, const json_t *value, struct error *err)
{
    size_t index, at;
    json_t *name, *known;

    json_array_foreach(value, index, name)
    {
        bool is_there = false;

        if (has_nul(name)) {
            return error_set(err, ERROR_INVALID, "[%zu] holds a NUL", index);
        }
        json_array_foreach(env->secrets, at, known)
        {
            is_there |= json_equal(known, name);
        }
        if (!is_there && json_array_append(env->secrets, name) < 0) {
            return out_of_memory(err);
        }
    }
    return 0;
}

static int set_apt_packages(struct environment *env, const json_t *value, struct error *err)
{
    return set_words(env->apt_packages, value, err);
}

static int set_command(struct environment *env, const json_t *value, struct error *err)
{
    return set_words(env->command, value, err);
}

/* Which there are, and how many, is for a backend to know. */
static int set_gpu(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->gpu, value, err);
}

static int set_app_name(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->app_name, value, err);
}

static int set_sandbox_name(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->sandbox_name, value, err);
}

static int set_dockerfile_commands(struct environment *env, const json_t *value, struct error *err)
{
    return set_words(env->dockerfile_commands, value, err);
}

static int set_modal_secrets(struct environment *env, const json_t *value, struct error *err)
{
    return set_words(env->modal_secrets, value, err);
}

static int set_region(struct environment *env, const json_t *value, struct error *err)
{
    json_t *one = json_is_string(value) ? json_pack("[O]", value) : NULL;
    int r = set_words(env->region, one ? one : value, err);

    json_decref(one);
    return r;
}

static int set_ports(struct environment *env, const json_t *value, struct error *err)
{
    return json_array_clear(env->ports) < 0 || json_array_extend(env->ports, (json_t *)value) < 0
               ? out_of_memory(err)
               : 0;
}

static int set_tags(struct environment *env, const json_t *value, struct error *err)
{
    const char *name;
    json_t *text;

    json_object_foreach((json_t *)value, name, text)
    {
        if (has_nul(text)) {
            return error_set(err, ERROR_INVALID, "the value of %.64s holds a NUL", name);
        }
    }
    return json_object_update(env->tags, (json_t *)value) < 0 ? out_of_memory(err) : 0;
}

/* Copies of {name, dest, …} with dest in its normal form. */
static int set_storage(json_t *list, const json_t *value, struct error *err)
{
    size_t index;
    json_t *one;

    if (json_array_clear(list) < 0) {
        return out_of_memory(err);
    }
    json_array_foreach(value, index, one)
    {
        const json_t *name = json_object_get(one, "name");
        const json_t *dest = json_object_get(one, "dest");
        json_t *copy = json_copy(one);
        char *normal;

        if ((name && has_nul(name)) || has_nul(dest)) {
            json_decref(copy);
            return error_set(err, ERROR_INVALID, "[%zu] holds a NUL", index);
        }
        if (share_check_dest(json_string_value(dest), &normal, err) < 0) {
            json_decref(copy);
            return error_wrap(err, "[%zu]", index);
        }
        if (json_object_set_new(copy, "dest", json_string(normal)) < 0 ||
            json_array_append(list, copy) < 0) {
            json_decref(copy);
            free(normal);
            return out_of_memory(err);
        }
        json_decref(copy);
        free(normal);
    }
    return 0;
}

static int set_volumes(struct environment *env, const json_t *value, struct error *err)
{
    return set_storage(env->volumes, value, err);
}

static int set_network_file_systems(struct environment *env, const json_t *value, struct error *err)
{
    return set_storage(env->network_file_systems, value, err);
}

static int set_cpu_limit(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->cpu_limit = json_number_value(value);
    return 0;
}

static int set_memory_limit(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->memory_limit_mib = (uint64_t)json_integer_value(value);
    return 0;
}

static int set_workdir(struct environment *env, const json_t *value, struct error *err)
{
    if (json_string_value(value)[0] != '/') {
        return error_set(err, ERROR_INVALID,
                         "\"%.200s\" is not an absolute path in the session, such as "
                         "/workspace/project",
                         json_string_value(value));
    }
    return set_text(&env->workdir, value, err);
}

static int set_headers(struct environment *env, const json_t *value, struct error *err)
{
    const char *name;
    json_t *text;

    json_object_foreach((json_t *)value, name, text)
    {
        if (name[0] == '\0' || strspn(name, HEADER_CHARACTERS) != strlen(name)) {
            return error_set(err, ERROR_INVALID, "\"%.64s\" is no name of a header", name);
        }
        if (has_nul(text) || strpbrk(json_string_value(text), "\r\n")) {
            return error_set(err, ERROR_INVALID, "the value of %.64s holds a line end or a NUL",
                             name);
        }
    }
    return json_object_update(env->headers, (json_t *)value) < 0 ? out_of_memory(err) : 0;
}

static int set_cpu(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->cpu = json_number_value(value);
    return 0;
}

static int set_read_only_root(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->read_only_root = json_is_true(value);
    return 0;
}

static int set_keep(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->keep = json_is_true(value);
    return 0;
}

static int set_memory_snapshots(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->memory_snapshots = json_is_true(value);
    return 0;
}

/* Types and ranges have been checked by the schema; the setters check what a schema cannot say. */
static const struct key {
    const char *name;
    int (*set)(struct environment *env, const json_t *value, struct error *err);
    uint64_t setting; /* of enum setting; 0: every backend has it */
} keys[] = {
    {"app_name", set_app_name, SETTING_APP_NAME},
    {"apt_packages", set_apt_packages, SETTING_APT_PACKAGES},
    {"backend", set_backend},
    {"cells", set_cells, SETTING_CELLS},
    {"cloud", config_set_cloud, SETTING_CLOUD},
    {"command", set_command, SETTING_COMMAND},
    {"cpu", set_cpu, SETTING_CPU},
    {"cpu_limit", set_cpu_limit, SETTING_CPU_LIMIT},
    {"custom_domain", config_set_custom_domain, SETTING_CUSTOM_DOMAIN},
    {"disk_mib", set_disk, SETTING_DISK_MIB},
    {"dockerfile_commands", set_dockerfile_commands, SETTING_DOCKERFILE_COMMANDS},
    {"env", set_env},
    {"gpu", set_gpu, SETTING_GPU},
    {"h2_ports", config_set_h2_ports, SETTING_H2_PORTS},
    {"headers", set_headers, SETTING_HEADERS},
    {"host", set_host, SETTING_HOST},
    {"idle_timeout_seconds", set_idle_timeout},
    {"image", set_image, SETTING_IMAGE},
    {"inbound_cidr_allowlist", config_set_inbound_cidr_allowlist, SETTING_INBOUND_CIDR_ALLOWLIST},
    {"include_oidc_identity_token", config_set_identity_token, SETTING_INCLUDE_OIDC_IDENTITY_TOKEN},
    {"isolation", set_isolation, SETTING_ISOLATION},
    {"keep", set_keep},
    {"kernel", set_kernel, SETTING_KERNEL},
    {"kernel_id", set_kernel_id, SETTING_KERNEL_ID},
    {"max_lifetime_seconds", set_lifetime},
    {"max_timeout_seconds", set_max_timeout},
    {"memory_limit_mib", set_memory_limit, SETTING_MEMORY_LIMIT_MIB},
    {"memory_mib", set_memory, SETTING_MEMORY_MIB},
    {"memory_snapshots", set_memory_snapshots, SETTING_MEMORY_SNAPSHOTS},
    {"modal_secrets", set_modal_secrets, SETTING_MODAL_SECRETS},
    {"mode", set_mode},
    {"network", set_network},
    {"network_file_systems", set_network_file_systems, SETTING_NETWORK_FILE_SYSTEMS},
    {"packages", set_packages, SETTING_PACKAGES},
    {"pool", set_pool, SETTING_POOL},
    {"ports", set_ports, SETTING_PORTS},
    {"processes", set_processes, SETTING_PROCESSES},
    {"proxy", config_set_proxy, SETTING_PROXY},
    {"python", set_python, SETTING_PYTHON},
    {"read_only_root", set_read_only_root, SETTING_READ_ONLY_ROOT},
    {"readiness_probe", config_set_readiness_probe, SETTING_READINESS_PROBE},
    {"region", set_region, SETTING_REGION},
    {"registry_auth", config_set_registry_auth, SETTING_REGISTRY_AUTH},
    {"registry_secret", config_set_registry_secret, SETTING_REGISTRY_SECRET},
    {"runtime", set_runtime, SETTING_RUNTIME},
    {"sandbox_command", config_set_sandbox_command, SETTING_SANDBOX_COMMAND},
    {"sandbox_name", set_sandbox_name, SETTING_SANDBOX_NAME},
    {"secrets", set_secrets},
    {"shares", set_shares},
    {"tags", set_tags, SETTING_TAGS},
    {"timeout_seconds", set_timeout},
    {"title", set_title},
    {"token", set_token, SETTING_TOKEN},
    {"unencrypted_ports", config_set_unencrypted_ports, SETTING_UNENCRYPTED_PORTS},
    {"url", set_url, SETTING_URL},
    {"user", set_user, SETTING_USER},
    {"volumes", set_volumes, SETTING_VOLUMES},
    {"workdir", set_workdir},
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
        env->given |= value ? keys[i].setting : 0;
    }
    return check_timeouts(env, object, err);
}
