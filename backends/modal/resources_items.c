#include "api.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/modal/resources_internal.h"

#define APP_NAME "cellblock"

/* ---- what there is ---- */

static void add_item(struct modal_resources *r, enum resources_kind kind, const char *name)
{
    r->items[r->item_count++] =
        (struct resources_item){.r = r, .kind = kind, .name = name, .create = true};
}

static void add_mounts(struct modal_resources *r, enum resources_kind kind, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *given = json_array_get(list, i);
        const json_t *create = json_object_get(given, "create");
        struct resources_item *item = &r->items[r->item_count];

        add_item(r, kind, json_string_value(json_object_get(given, "name")));
        item->dest = json_string_value(json_object_get(given, "dest"));
        item->read_only = json_is_true(json_object_get(given, "read_only"));
        item->create = !json_is_false(create);
    }
}

int resources_make_items(struct modal_resources *r)
{
    const struct environment *env = r->env;
    size_t count = 4 + json_array_size(env->modal_secrets) + json_array_size(env->volumes) +
                   json_array_size(env->network_file_systems);

    r->items = calloc(count, sizeof(*r->items));
    if (!r->items) {
        return -ENOMEM;
    }
    add_item(r, ITEM_APP, env->app_name ? env->app_name : APP_NAME);
    add_item(r, ITEM_BUILDER, modal_client_environment(r->client));
    for (size_t i = 0; i < json_array_size(env->modal_secrets); i++) {
        add_item(r, ITEM_SECRET, json_string_value(json_array_get(env->modal_secrets, i)));
    }
    if (env->registry_secret) {
        add_item(r, ITEM_REGISTRY, env->registry_secret);
    }
    if (env->proxy) {
        add_item(r, ITEM_PROXY, env->proxy);
    }
    add_mounts(r, ITEM_VOLUME, env->volumes);
    add_mounts(r, ITEM_FILE_SYSTEM, env->network_file_systems);
    return 0;
}

const char *resources_app(const struct modal_resources *r)
{
    return r->items[0].id;
}

const char *resources_builder(const struct modal_resources *r)
{
    return r->items[1].id;
}

/* ---- an answer ---- */

static const char *id_of(const struct resources_item *item, const ProtobufCMessage *answer)
{
    const Modal__Client__EnvironmentGetOrCreateResponse *environment = (const void *)answer;
    const Modal__Client__ProxyGetResponse *proxy = (const void *)answer;

    switch (item->kind) {
    case ITEM_APP:
        return ((const Modal__Client__AppGetOrCreateResponse *)(const void *)answer)->app_id;
    case ITEM_PROXY:
        return proxy->proxy ? proxy->proxy->proxy_id : "";
    case ITEM_SECRET:
    case ITEM_REGISTRY:
        return ((const Modal__Client__SecretGetOrCreateResponse *)(const void *)answer)->secret_id;
    case ITEM_VOLUME:
        return ((const Modal__Client__VolumeGetOrCreateResponse *)(const void *)answer)->volume_id;
    case ITEM_FILE_SYSTEM:
        return ((const Modal__Client__SharedVolumeGetOrCreateResponse *)(const void *)answer)
            ->shared_volume_id;
    default:
        return environment->metadata && environment->metadata->settings
                   ? environment->metadata->settings->image_builder_version
                   : "";
    }
}

static const char *setting_of(const struct resources_item *item)
{
    static const char *const names[] = {[ITEM_APP] = "app_name",
                                        [ITEM_BUILDER] = "Modal's environment",
                                        [ITEM_SECRET] = "modal_secrets",
                                        [ITEM_REGISTRY] = "registry_secret",
                                        [ITEM_PROXY] = "proxy",
                                        [ITEM_VOLUME] = "volumes",
                                        [ITEM_FILE_SYSTEM] = "network_file_systems"};
    return names[item->kind];
}

static const char *advice_of(const struct resources_item *item)
{
    static const char *const advice[] = {
        [ITEM_APP] = "",
        [ITEM_BUILDER] = "`modal environment list` shows those that are there (MODAL_ENVIRONMENT)",
        [ITEM_SECRET] = "`modal secret list` shows those that are there",
        [ITEM_REGISTRY] = "`modal secret list` shows those that are there",
        [ITEM_PROXY] = "Modal's dashboard shows those that are there, and makes them",
        [ITEM_VOLUME] = "`modal volume list` shows those that are there, `create` makes one",
        [ITEM_FILE_SYSTEM] = "`modal nfs list` shows those that are there, `create` makes one"};
    return advice[item->kind];
}

static void note_failure(struct resources_item *item, const struct error *err)
{
    struct error *failure = &item->r->failure;
    const char *name = item->name ? item->name : "";

    if (failure->kind != ERROR_NONE) {
        return;
    }
    if (err->kind == ERROR_NOT_FOUND) {
        error_set(failure, ERROR_NOT_FOUND,
                  "%s: the service has none that is called \"%.100s\". %s", setting_of(item), name,
                  advice_of(item));
    } else if (!name[0] || item->kind == ITEM_APP || item->kind == ITEM_BUILDER) {
        error_set(failure, err->kind, "%s", err->message);
    } else {
        error_set(failure, err->kind, "%s: \"%.100s\": %s", setting_of(item), name, err->message);
    }
}

/* The variables' names come with the id. */
static void take_registry(const struct resources_item *item,
                          const Modal__Client__SecretGetOrCreateResponse *answer)
{
    const Modal__Client__SecretMetadata *told = answer->metadata;

    (void)resources_take_registry(item->r, item->id, told ? told->keys : NULL,
                                  told ? told->n_keys : 0);
}

static void on_answer(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                      const struct error *err)
{
    struct resources_item *item = data;
    struct error own = {0};

    (void)status;
    item->rpc = NULL;
    if (answer && !id_of(item, answer)[0]) {
        error_set(&own, ERROR_LOST, "the service's answer holds no id");
    } else if (answer && !(item->id = strdup(id_of(item, answer)))) {
        error_set(&own, ERROR_INTERNAL, "out of memory");
    }
    if (err || own.kind != ERROR_NONE) {
        note_failure(item, err ? err : &own);
    } else if (answer && item->kind == ITEM_REGISTRY) {
        take_registry(item, (const void *)answer);
    }
    error_clear(&own);
    resources_item_done(item->r);
}

/* ---- a question ---- */

static int ask(struct resources_item *item, const char *name, const ProtobufCMessage *request,
               const ProtobufCMessageDescriptor *answer)
{
    struct modal_rpc_call call = {
        .name = name, .request = request, .answer = answer, .done = on_answer, .data = item};
    struct error err = {0};

    item->rpc = modal_rpc_start(item->r->client, &call, &err);
    if (!item->rpc) {
        note_failure(item, &err);
        error_clear(&err);
        return -1;
    }
    return 0;
}

static Modal__Client__ObjectCreationType creation_of(const struct resources_item *item)
{
    if (!item->name) {
        return MODAL__CLIENT__OBJECT_CREATION_TYPE__OBJECT_CREATION_TYPE_EPHEMERAL;
    }
    return item->create
               ? MODAL__CLIENT__OBJECT_CREATION_TYPE__OBJECT_CREATION_TYPE_CREATE_IF_MISSING
               : MODAL__CLIENT__OBJECT_CREATION_TYPE__OBJECT_CREATION_TYPE_UNSPECIFIED;
}

static int ask_app(struct resources_item *item, char *environment)
{
    Modal__Client__AppGetOrCreateRequest request = MODAL__CLIENT__APP_GET_OR_CREATE_REQUEST__INIT;

    request.app_name = (char *)item->name;
    request.environment_name = environment;
    request.object_creation_type = creation_of(item);
    return ask(item, "AppGetOrCreate", &request.base,
               &modal__client__app_get_or_create_response__descriptor);
}

static int ask_builder(struct resources_item *item, char *environment)
{
    Modal__Client__EnvironmentGetOrCreateRequest request =
        MODAL__CLIENT__ENVIRONMENT_GET_OR_CREATE_REQUEST__INIT;

    request.deployment_name = environment;
    return ask(item, "EnvironmentGetOrCreate", &request.base,
               &modal__client__environment_get_or_create_response__descriptor);
}

static int ask_secret(struct resources_item *item, char *environment)
{
    Modal__Client__SecretGetOrCreateRequest request =
        MODAL__CLIENT__SECRET_GET_OR_CREATE_REQUEST__INIT;

    request.deployment_name = (char *)item->name;
    request.environment_name = environment;
    return ask(item, "SecretGetOrCreate", &request.base,
               &modal__client__secret_get_or_create_response__descriptor);
}

static int ask_proxy(struct resources_item *item, char *environment)
{
    Modal__Client__ProxyGetRequest request = MODAL__CLIENT__PROXY_GET_REQUEST__INIT;

    request.name = (char *)item->name;
    request.environment_name = environment;
    return ask(item, "ProxyGet", &request.base, &modal__client__proxy_get_response__descriptor);
}

static int ask_volume(struct resources_item *item, char *environment)
{
    Modal__Client__VolumeGetOrCreateRequest request =
        MODAL__CLIENT__VOLUME_GET_OR_CREATE_REQUEST__INIT;

    request.deployment_name = item->name ? (char *)item->name : "";
    request.environment_name = environment;
    request.object_creation_type = creation_of(item);
    return ask(item, "VolumeGetOrCreate", &request.base,
               &modal__client__volume_get_or_create_response__descriptor);
}

static int ask_file_system(struct resources_item *item, char *environment)
{
    Modal__Client__SharedVolumeGetOrCreateRequest request =
        MODAL__CLIENT__SHARED_VOLUME_GET_OR_CREATE_REQUEST__INIT;

    request.deployment_name = (char *)item->name;
    request.environment_name = environment;
    request.object_creation_type = creation_of(item);
    return ask(item, "SharedVolumeGetOrCreate", &request.base,
               &modal__client__shared_volume_get_or_create_response__descriptor);
}

/* True: nothing is to be asked. */
static bool is_known(const struct resources_item *item)
{
    return item->kind == ITEM_BUILDER &&
           modal_client_credentials(item->r->client)->builder_version != NULL;
}

int resources_item_ask(struct resources_item *item)
{
    char *environment = (char *)modal_client_environment(item->r->client);

    if (is_known(item)) {
        return -1;
    }
    switch (item->kind) {
    case ITEM_APP:
        return ask_app(item, environment);
    case ITEM_BUILDER:
        return ask_builder(item, environment);
    case ITEM_SECRET:
    case ITEM_REGISTRY:
        return ask_secret(item, environment);
    case ITEM_PROXY:
        return ask_proxy(item, environment);
    case ITEM_VOLUME:
        return ask_volume(item, environment);
    default:
        return ask_file_system(item, environment);
    }
}

/* ---- volumes without a name ---- */

static bool is_ephemeral(const struct resources_item *item)
{
    return item->kind == ITEM_VOLUME && !item->name;
}

static void on_beat_answer(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                           const struct error *err)
{
    (void)data, (void)answer, (void)status, (void)err; /* the next one is soon enough */
}

static void on_beat(uv_timer_t *timer)
{
    struct modal_resources *r = timer->data;
    Modal__Client__VolumeHeartbeatRequest request = MODAL__CLIENT__VOLUME_HEARTBEAT_REQUEST__INIT;
    struct modal_rpc_call call = {.name = "VolumeHeartbeat",
                                  .request = &request.base,
                                  .answer = &modal__client__empty__descriptor,
                                  .done = on_beat_answer};

    for (unsigned i = 0; i < r->item_count; i++) {
        if (is_ephemeral(&r->items[i]) && r->items[i].id) {
            request.volume_id = r->items[i].id;
            (void)modal_rpc_start(r->client, &call, NULL);
        }
    }
}

static void on_deleted(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                       const struct error *err)
{
    (void)answer, (void)status, (void)err; /* without a heartbeat it goes by itself */
    resources_deleted(data);
}

void resources_delete_volumes(struct modal_resources *r)
{
    Modal__Client__VolumeDeleteRequest request = MODAL__CLIENT__VOLUME_DELETE_REQUEST__INIT;
    struct modal_rpc_call call = {.name = "VolumeDelete",
                                  .request = &request.base,
                                  .answer = &modal__client__empty__descriptor,
                                  .timeout_ms = RESOURCES_DELETE_MS,
                                  .total_ms = RESOURCES_DELETE_MS,
                                  .done = on_deleted,
                                  .data = r};

    for (unsigned i = 0; i < r->item_count; i++) {
        if (is_ephemeral(&r->items[i]) && r->items[i].id) {
            request.volume_id = r->items[i].id;
            r->deleting += modal_rpc_start(r->client, &call, NULL) ? 1 : 0;
        }
    }
}

/* ---- all of it ---- */

static unsigned count_of(const struct modal_resources *r, enum resources_kind kind)
{
    unsigned n = 0;

    for (unsigned i = 0; i < r->item_count; i++) {
        n += r->items[i].kind == kind ? 1 : 0;
    }
    return n;
}

static const char *id_of_kind(const struct modal_resources *r, enum resources_kind kind)
{
    for (unsigned i = 0; i < r->item_count; i++) {
        if (r->items[i].kind == kind) {
            return r->items[i].id;
        }
    }
    return NULL;
}

static struct modal_volume *list_mounts(const struct modal_resources *r, enum resources_kind kind,
                                        unsigned count)
{
    struct modal_volume *list = calloc(count + 1, sizeof(*list));
    unsigned n = 0;

    for (unsigned i = 0; list && i < r->item_count; i++) {
        const struct resources_item *item = &r->items[i];
        if (item->kind == kind) {
            list[n++] = (struct modal_volume){
                .id = item->id, .dest = item->dest, .read_only = item->read_only};
        }
    }
    return list;
}

static const char **list_secrets(const struct modal_resources *r)
{
    const char **list = calloc(count_of(r, ITEM_SECRET) + 1, sizeof(*list));
    unsigned n = 0;

    for (unsigned i = 0; list && i < r->item_count; i++) {
        if (r->items[i].kind == ITEM_SECRET) {
            list[n++] = r->items[i].id;
        }
    }
    return list;
}

int resources_list(struct modal_resources *r)
{
    struct modal_ids *ids = &r->ids;

    ids->app_id = resources_app(r);
    ids->image_id = r->image_id;
    ids->proxy_id = id_of_kind(r, ITEM_PROXY);
    ids->volume_count = count_of(r, ITEM_VOLUME);
    ids->file_system_count = count_of(r, ITEM_FILE_SYSTEM);
    ids->secret_ids = list_secrets(r);
    ids->volumes = list_mounts(r, ITEM_VOLUME, ids->volume_count);
    ids->file_systems = list_mounts(r, ITEM_FILE_SYSTEM, ids->file_system_count);
    for (unsigned i = 0; i < r->item_count && !r->closing; i++) {
        if (is_ephemeral(&r->items[i]) && !uv_is_active((uv_handle_t *)&r->beat)) {
            uv_timer_start(&r->beat, on_beat, RESOURCES_BEAT_MS, RESOURCES_BEAT_MS);
        }
    }
    return ids->secret_ids && ids->volumes && ids->file_systems ? 0 : -ENOMEM;
}

void resources_clear(struct modal_resources *r, bool all)
{
    for (unsigned i = 0; i < r->item_count; i++) {
        if (all || !is_ephemeral(&r->items[i])) {
            free(r->items[i].id);
            r->items[i].id = NULL;
        }
    }
    r->registry = (struct modal_registry){0};
    free(r->image_id);
    r->image_id = NULL;
    free((void *)r->ids.secret_ids);
    free((void *)r->ids.volumes);
    free((void *)r->ids.file_systems);
    r->ids = (struct modal_ids){0};
}
