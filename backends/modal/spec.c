#include "backends/modal/spec.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/modal/spec_make.h"

/* ---- resources ---- */

static Modal__Client__GPUConfig *gpu_of(struct maker *m, const char *gpu)
{
    Modal__Client__GPUConfig *config = make(m, sizeof(*config));
    const char *colon = strchr(gpu, ':');
    char kind[64];

    if (!config) {
        return NULL;
    }
    modal__client__gpuconfig__init(config);
    (void)snprintf(kind, sizeof(kind), "%.*s", (int)(colon ? colon - gpu : (long)strlen(gpu)), gpu);
    for (char *c = kind; *c; c++) {
        *c = (char)toupper((unsigned char)*c);
    }
    set_text(m, &config->gpu_type, kind);
    config->count = colon ? (uint32_t)strtoul(colon + 1, NULL, 10) : 1;
    return config;
}

static Modal__Client__Resources *resources_of(struct maker *m, const struct environment *env)
{
    Modal__Client__Resources *r = make(m, sizeof(*r));

    if (!r) {
        return NULL;
    }
    modal__client__resources__init(r);
    r->memory_mb = (uint32_t)env->memory_mib;
    r->memory_mb_max = MODAL_MEMORY_SPARE +
                       (uint32_t)(env->memory_limit_mib ? env->memory_limit_mib : env->memory_mib);
    r->milli_cpu = (uint32_t)(env->cpu * 1000);
    r->milli_cpu_max = (uint32_t)(env->cpu_limit * 1000);
    if (env->gpu) {
        r->gpu_config = gpu_of(m, env->gpu);
    }
    return r;
}

static Modal__Client__SchedulerPlacement *placement_of(struct maker *m, const json_t *regions)
{
    Modal__Client__SchedulerPlacement *p = make(m, sizeof(*p));
    size_t index;
    json_t *region;

    if (!p) {
        return NULL;
    }
    modal__client__scheduler_placement__init(p);
    json_array_foreach(regions, index, region)
    {
        add_text(m, &p->regions, &p->n_regions, json_string_value(region));
    }
    return p;
}

/* ---- what is mounted ---- */

static void add_volume(struct maker *m, Modal__Client__Sandbox *sandbox,
                       const struct modal_volume *volume)
{
    Modal__Client__VolumeMount *mount = make(m, sizeof(*mount));

    if (!mount) {
        return;
    }
    modal__client__volume_mount__init(mount);
    if (add_message(m, (void *)&sandbox->volume_mounts, &sandbox->n_volume_mounts, mount)) {
        set_text(m, &mount->volume_id, volume->id);
        set_text(m, &mount->mount_path, volume->dest);
        mount->allow_background_commits = true;
        mount->read_only = volume->read_only;
    }
}

static void add_file_system(struct maker *m, Modal__Client__Sandbox *sandbox,
                            const struct modal_volume *volume)
{
    Modal__Client__SharedVolumeMount *mount = make(m, sizeof(*mount));

    if (!mount) {
        return;
    }
    modal__client__shared_volume_mount__init(mount);
    if (add_message(m, (void *)&sandbox->nfs_mounts, &sandbox->n_nfs_mounts, mount)) {
        set_text(m, &mount->shared_volume_id, volume->id);
        set_text(m, &mount->mount_path, volume->dest);
    }
}

static bool host_ends_in(const char *url, const char *end)
{
    const char *host = strstr(url, "://") ? strstr(url, "://") + 3 : url;
    size_t length = strcspn(host, ":/"), n = strlen(end);

    return length >= n && strncasecmp(host + length - n, end, n) == 0;
}

/* As the official client tells them apart: by the host of the endpoint. */
static Modal__Client__CloudBucketMount__BucketType bucket_type(const char *url)
{
    if (url && host_ends_in(url, "r2.cloudflarestorage.com")) {
        return MODAL__CLIENT__CLOUD_BUCKET_MOUNT__BUCKET_TYPE__R2;
    }
    if (url && host_ends_in(url, "storage.googleapis.com")) {
        return MODAL__CLIENT__CLOUD_BUCKET_MOUNT__BUCKET_TYPE__GCP;
    }
    return MODAL__CLIENT__CLOUD_BUCKET_MOUNT__BUCKET_TYPE__S3;
}

static void add_bucket(struct maker *m, Modal__Client__Sandbox *sandbox,
                       const struct modal_bucket *bucket)
{
    const struct share_cloud *cloud = &bucket->share->cloud;
    Modal__Client__CloudBucketMount *mount = make(m, sizeof(*mount));

    if (!mount) {
        return;
    }
    modal__client__cloud_bucket_mount__init(mount);
    if (add_message(m, (void *)&sandbox->cloud_bucket_mounts, &sandbox->n_cloud_bucket_mounts,
                    mount)) {
        set_text(m, &mount->bucket_name, cloud->bucket);
        set_text(m, &mount->mount_path, bucket->share->dest);
        set_text(m, &mount->credentials_secret_id, bucket->secret_id);
        set_text(m, &mount->bucket_endpoint_url, cloud->endpoint_url);
        set_text(m, &mount->key_prefix, cloud->key_prefix);
        set_text(m, &mount->oidc_auth_role_arn, cloud->role_arn);
        mount->read_only = bucket->share->read_only;
        mount->bucket_type = bucket_type(cloud->endpoint_url);
    }
}

static void add_mounts(struct maker *m, Modal__Client__Sandbox *sandbox,
                       const struct modal_spec *spec)
{
    const struct modal_brought *brought = spec->brought;

    for (unsigned i = 0; i < spec->ids->volume_count; i++) {
        add_volume(m, sandbox, &spec->ids->volumes[i]);
    }
    for (unsigned i = 0; i < spec->ids->file_system_count; i++) {
        add_file_system(m, sandbox, &spec->ids->file_systems[i]);
    }
    for (unsigned i = 0; brought && i < brought->bucket_count; i++) {
        add_bucket(m, sandbox, &brought->buckets[i]);
    }
    for (unsigned i = 0; brought && i < brought->mount_count; i++) {
        add_text(m, &sandbox->mount_ids, &sandbox->n_mount_ids, brought->mount_ids[i]);
    }
}

/* ---- the definition ---- */

static void add_argv(struct maker *m, Modal__Client__Sandbox *sandbox,
                     const struct modal_spec *spec)
{
    bool given = json_array_size(spec->command) > 0;
    size_t index;
    json_t *word;

    json_array_foreach(spec->command, index, word)
    {
        add_text(m, &sandbox->entrypoint_args, &sandbox->n_entrypoint_args,
                 json_string_value(word));
    }
    for (const char *const *one = spec->argv; !given && one && *one; one++) {
        add_text(m, &sandbox->entrypoint_args, &sandbox->n_entrypoint_args, *one);
    }
}

/* No workdir: it would have to be there; the runner makes its own, and env->workdir. */
static void fill(struct maker *m, Modal__Client__Sandbox *sandbox, const struct modal_spec *spec)
{
    const struct environment *env = spec->env;

    add_argv(m, sandbox, spec);
    for (const char *const *id = spec->ids->secret_ids; id && *id; id++) {
        add_text(m, &sandbox->secret_ids, &sandbox->n_secret_ids, *id);
    }
    set_text(m, &sandbox->image_id, spec->ids->image_id);
    set_text(m, &sandbox->name, spec->name);
    set_text(m, &sandbox->cloud_provider_str, env->cloud);
    set_text(m, &sandbox->runtime, env->runtime);
    sandbox->include_oidc_identity_token = env->identity_token;
    sandbox->timeout_secs = spec->timeout_secs;
    sandbox->idle_timeout_secs = spec->idle_timeout_secs;
    sandbox->enable_snapshot = env->memory_snapshots;
    sandbox->resources = resources_of(m, env);
    if (json_array_size(env->region) > 0) {
        sandbox->scheduler_placement = placement_of(m, env->region);
    }
    add_mounts(m, sandbox, spec);
    spec_add_network(m, sandbox, spec);
    spec_add_probe(m, sandbox, env);
}

static Modal__Client__Sandbox *definition(struct maker *m, const struct modal_spec *spec)
{
    Modal__Client__Sandbox *sandbox = make(m, sizeof(*sandbox));

    if (sandbox) {
        modal__client__sandbox__init(sandbox);
        fill(m, sandbox, spec);
    }
    return sandbox;
}

/* ---- tags ---- */

static void add_tag(struct maker *m, Modal__Client__SandboxTag ***tags, size_t *count,
                    const char *name, const char *value)
{
    Modal__Client__SandboxTag *tag = make(m, sizeof(*tag));

    if (!tag) {
        return;
    }
    modal__client__sandbox_tag__init(tag);
    if (add_message(m, (void *)tags, count, tag)) {
        set_text(m, &tag->tag_name, name);
        set_text(m, &tag->tag_value, value);
    }
}

static void add_tags(struct maker *m, const struct modal_spec *spec,
                     Modal__Client__SandboxTag ***tags, size_t *count)
{
    const char *name;
    json_t *value;

    json_object_foreach(spec->env->tags, name, value)
    {
        add_tag(m, tags, count, name, json_string_value(value));
    }
    for (const char *const *tag = spec->tags; tag && tag[0]; tag += 2) {
        add_tag(m, tags, count, tag[0], tag[1]);
    }
}

/* ---- secrets of V2, which go by value or by id ---- */

static Modal__Client__SecretSource *add_source(struct maker *m,
                                               Modal__Client__SandboxCreateV2Request *request)
{
    Modal__Client__SecretSource *source = make(m, sizeof(*source));

    if (!source) {
        return NULL;
    }
    modal__client__secret_source__init(source);
    return add_message(m, (void *)&request->secret_sources, &request->n_secret_sources, source)
               ? source
               : NULL;
}

static void add_named_source(struct maker *m, Modal__Client__SandboxCreateV2Request *request,
                             const char *id)
{
    Modal__Client__SecretSource *source = add_source(m, request);

    if (source) {
        source->source_case = MODAL__CLIENT__SECRET_SOURCE__SOURCE_SECRET_ID;
        source->secret_id = strdup(id);
        m->failed |= !source->secret_id;
    }
}

static void add_variable(struct maker *m, Modal__Client__StringMap *map, const char *name,
                         const char *value)
{
    Modal__Client__StringMap__ContentsEntry *entry = make(m, sizeof(*entry));

    if (!entry) {
        return;
    }
    modal__client__string_map__contents_entry__init(entry);
    if (add_message(m, (void *)&map->contents, &map->n_contents, entry)) {
        set_text(m, &entry->key, name);
        set_text(m, &entry->value, value);
    }
}

static void add_variables(struct maker *m, Modal__Client__SandboxCreateV2Request *request,
                          const char *const *variables)
{
    Modal__Client__SecretSource *source = add_source(m, request);
    Modal__Client__StringMap *map = source ? make(m, sizeof(*map)) : NULL;

    if (!map) {
        return;
    }
    modal__client__string_map__init(map);
    source->source_case = MODAL__CLIENT__SECRET_SOURCE__SOURCE_ENV;
    source->env = map;
    for (; variables[0]; variables += 2) {
        add_variable(m, map, variables[0], variables[1]);
    }
}

/* ---- the requests ---- */

static ProtobufCMessage *request_v1(struct maker *m, const struct modal_spec *spec)
{
    Modal__Client__SandboxCreateRequest *request = make(m, sizeof(*request));

    if (!request) {
        return NULL;
    }
    modal__client__sandbox_create_request__init(request);
    set_text(m, &request->app_id, spec->ids->app_id);
    request->definition = definition(m, spec);
    if (request->definition && spec->variables_secret_id) {
        add_text(m, &request->definition->secret_ids, &request->definition->n_secret_ids,
                 spec->variables_secret_id);
    }
    add_tags(m, spec, &request->tags, &request->n_tags);
    return &request->base;
}

static ProtobufCMessage *request_v2(struct maker *m, const struct modal_spec *spec)
{
    Modal__Client__SandboxCreateV2Request *request = make(m, sizeof(*request));

    if (!request) {
        return NULL;
    }
    modal__client__sandbox_create_v2_request__init(request);
    set_text(m, &request->app_id, spec->ids->app_id);
    request->definition = definition(m, spec);
    add_tags(m, spec, &request->tags, &request->n_tags);
    for (const char *const *id = spec->ids->secret_ids; id && *id; id++) {
        add_named_source(m, request, *id);
    }
    if (spec->variables) {
        add_variables(m, request, spec->variables);
    }
    return &request->base;
}

ProtobufCMessage *modal_spec_message(const struct modal_spec *spec)
{
    struct maker m = {0};
    ProtobufCMessage *message =
        modal_spec_needs_v1(spec->env) ? request_v1(&m, spec) : request_v2(&m, spec);

    if (m.failed && message) {
        protobuf_c_message_free_unpacked(message, NULL);
        return NULL;
    }
    return message;
}
