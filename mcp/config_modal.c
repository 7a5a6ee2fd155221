#include "mcp/config_modal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(struct error *err)
{
    return error_set_code(err, ERROR_INTERNAL, ENOMEM, "configuration");
}

static bool has_nul(const json_t *string)
{
    return strlen(json_string_value(string)) != json_string_length(string);
}

static int set_text(char **field, const json_t *value, struct error *err)
{
    char *copy;

    if (has_nul(value)) {
        return error_set(err, ERROR_INVALID, "it holds a NUL");
    }
    copy = strdup(json_string_value(value));
    if (!copy) {
        return out_of_memory(err);
    }
    free(*field);
    *field = copy;
    return 0;
}

static int set_list(json_t *list, const json_t *value, struct error *err)
{
    size_t index;
    json_t *one;

    json_array_foreach(value, index, one)
    {
        if (json_is_string(one) && has_nul(one)) {
            return error_set(err, ERROR_INVALID, "[%zu] holds a NUL", index);
        }
    }
    return json_array_clear(list) < 0 || json_array_extend(list, (json_t *)value) < 0
               ? out_of_memory(err)
               : 0;
}

int config_set_cloud(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->cloud, value, err);
}

int config_set_custom_domain(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->custom_domain, value, err);
}

int config_set_h2_ports(struct environment *env, const json_t *value, struct error *err)
{
    return set_list(env->h2_ports, value, err);
}

int config_set_identity_token(struct environment *env, const json_t *value, struct error *err)
{
    (void)err;
    env->identity_token = json_is_true(value);
    return 0;
}

int config_set_inbound_cidr_allowlist(struct environment *env, const json_t *value,
                                      struct error *err)
{
    size_t index;
    json_t *one;

    json_array_foreach(value, index, one)
    {
        if (has_nul(one) || !host_is_range(json_string_value(one))) {
            return error_set(err, ERROR_INVALID,
                             "[%zu]: \"%.100s\" is neither an address nor a range of them, such "
                             "as 203.0.113.0/24",
                             index, json_string_value(one));
        }
    }
    return set_list(env->inbound_cidr_allowlist, value, err);
}

int config_set_proxy(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->proxy, value, err);
}

int config_set_readiness_probe(struct environment *env, const json_t *value, struct error *err)
{
    const json_t *command = json_object_get(value, "command");
    size_t index;
    json_t *word;

    if (!command == !json_object_get(value, "port")) {
        return error_set(err, ERROR_INVALID,
                         "expected either \"port\", which is to be listened on, or \"command\", "
                         "which is to end with 0");
    }
    json_array_foreach(command, index, word)
    {
        if (has_nul(word)) {
            return error_set(err, ERROR_INVALID, "command: [%zu] holds a NUL", index);
        }
    }
    return json_object_clear(env->readiness_probe) < 0 ||
                   json_object_update(env->readiness_probe, (json_t *)value) < 0
               ? out_of_memory(err)
               : 0;
}

int config_set_registry_auth(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->registry_auth, value, err);
}

int config_set_registry_secret(struct environment *env, const json_t *value, struct error *err)
{
    return set_text(&env->registry_secret, value, err);
}

int config_set_sandbox_command(struct environment *env, const json_t *value, struct error *err)
{
    return set_list(env->sandbox_command, value, err);
}

int config_set_unencrypted_ports(struct environment *env, const json_t *value, struct error *err)
{
    return set_list(env->unencrypted_ports, value, err);
}
