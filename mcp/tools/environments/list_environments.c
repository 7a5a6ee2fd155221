#include "mcp/tools/environments/list_environments.h"

#include <stdlib.h>

#include "backends/registry.h"
#include "mcp/server.h"
#include "mcp/tools/sessions/session_tools.h"

enum {
    ROWS = 100,
};

static json_t *words(const char *const *list)
{
    json_t *array = json_array();

    for (; *list; list++) {
        json_array_append_new(array, json_string(*list));
    }
    return array;
}

/* What its sandboxes may take, as far as the backend holds them to it. */
static json_t *resources(const struct environment *env, uint64_t knows)
{
    json_t *object = json_object();

    if (env->cpu > 0) {
        json_object_set_new(object, "cpu", json_real(env->cpu));
    }
    if (env->gpu) {
        json_object_set_new(object, "gpu", json_string(env->gpu));
    }
    if (knows & SETTING_MEMORY_MIB) {
        json_object_set_new(object, "memory_mib", json_integer((json_int_t)env->memory_mib));
    }
    if (knows & SETTING_DISK_MIB) {
        json_object_set_new(object, "disk_mib", json_integer((json_int_t)env->disk_mib));
    }
    if (knows & SETTING_PROCESSES) {
        json_object_set_new(object, "processes", json_integer(env->processes));
    }
    json_object_set_new(object, "timeout_seconds", json_real(env->timeout_seconds));
    json_object_set_new(object, "max_timeout_seconds", json_real(env->max_timeout_seconds));
    return object;
}

json_t *environment_facts(const struct environment *env, bool is_default)
{
    const struct backend *backend = backend_find(env->backend, NULL);
    char *network;
    json_t *object;

    if (!backend) {
        return NULL;
    }
    network = environment_network(env);
    object = json_pack("{ss ss* sb ss ss so ss* ss so ss}", "name", env->name, "title", env->title,
                       "default", (int)is_default, "backend", env->backend, "mode",
                       mode_name(env->mode), "languages", words(backend->ops->languages), "image",
                       env->image, "network", network ? network : "?", "resources",
                       resources(env, backend->settings), "start", backend->start);
    free(network);
    if (object && json_array_size(env->packages) > 0) {
        json_object_set(object, "packages", env->packages);
    }
    if (object && json_array_size(env->secrets) > 0) {
        json_object_set(object, "secrets", env->secrets);
    }
    if (object && backend->ops->capabilities & CAP_KERNELSPECS) {
        json_array_append_new(json_object_get(object, "languages"),
                              json_string("any kernelspec of the server"));
    }
    return object;
}

static void start(struct call *call)
{
    const struct config *config = server_config(call_server(call));
    json_t *list = json_array();

    for (size_t i = 0; i < config->environment_count; i++) {
        const struct environment *env = config->environments[i];

        json_array_append_new(list, environment_facts(env, env == config->default_environment));
    }
    session_tool_show(
        call, NULL,
        session_tool_page("environments", list, session_argument_number(call, "offset", 0), ROWS));
}

const struct tool list_environments_tool = {
    .name = "list_environments",
    .title = "List environments",
    .description =
        "What sessions can be made in: backend, languages, packages, resources, network, cost "
        "of a start.",
    .schema = "tools/list_environments",
    .read_only = true,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
