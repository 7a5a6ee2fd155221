#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api.pb-c.h"
#include "backends/modal/spec.h"

/* Every setting is in the field of the request that the service reads it from: what was packed is
 * unpacked again and looked at. */

struct trial {
    struct environment env;
    struct modal_ids ids;
    struct modal_spec spec;
};

static void begin(struct trial *t)
{
    static const char *const argv[] = {"sleep", "inf", NULL};

    assert_int_equal(environment_init(&t->env, "x", "modal"), 0);
    t->ids = (struct modal_ids){.app_id = "ap-1", .image_id = "im-1"};
    t->spec = (struct modal_spec){.env = &t->env, .ids = &t->ids, .argv = argv, .timeout_secs = 60};
}

static void end(struct trial *t)
{
    environment_deinit(&t->env);
}

static void set_list(json_t **list, const char *text)
{
    json_decref(*list);
    *list = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(*list);
}

static void set_network(struct trial *t, const char *text)
{
    json_t *value = json_string(text);

    assert_int_equal(environment_set_network(&t->env, value, NULL), 0);
    json_decref(value);
}

/* There and back. */
static ProtobufCMessage *travelled(const struct modal_spec *spec)
{
    ProtobufCMessage *made = modal_spec_message(spec), *read;
    uint8_t *bytes;
    size_t size;

    assert_non_null(made);
    size = protobuf_c_message_get_packed_size(made);
    bytes = malloc(size + 1);
    assert_non_null(bytes);
    assert_int_equal(protobuf_c_message_pack(made, bytes), size);
    read = protobuf_c_message_unpack(made->descriptor, NULL, size, bytes);
    assert_non_null(read);
    free(bytes);
    protobuf_c_message_free_unpacked(made, NULL);
    return read;
}

static Modal__Client__SandboxCreateV2Request *v2(const struct trial *t)
{
    ProtobufCMessage *m = travelled(&t->spec);

    assert_ptr_equal(m->descriptor, &modal__client__sandbox_create_v2_request__descriptor);
    return (Modal__Client__SandboxCreateV2Request *)m;
}

static Modal__Client__SandboxCreateRequest *v1(const struct trial *t)
{
    ProtobufCMessage *m = travelled(&t->spec);

    assert_ptr_equal(m->descriptor, &modal__client__sandbox_create_request__descriptor);
    return (Modal__Client__SandboxCreateRequest *)m;
}

static void drop(void *message)
{
    protobuf_c_message_free_unpacked(message, NULL);
}

static void what_every_sandbox_has(void **state)
{
    Modal__Client__SandboxCreateV2Request *r;
    Modal__Client__Sandbox *d;
    struct trial t;

    (void)state;
    begin(&t);
    r = v2(&t);
    d = r->definition;
    assert_string_equal(r->app_id, "ap-1");
    assert_string_equal(d->image_id, "im-1");
    assert_int_equal(d->n_entrypoint_args, 2);
    assert_string_equal(d->entrypoint_args[1], "inf");
    assert_int_equal(d->timeout_secs, 60);
    assert_int_equal(d->idle_timeout_secs, 0);
    assert_int_equal(d->resources->memory_mb, 1024);
    assert_int_equal(d->resources->memory_mb_max, 1024 + MODAL_MEMORY_SPARE);
    assert_int_equal(d->resources->milli_cpu, 0);
    assert_null(d->resources->gpu_config);
    assert_int_equal(d->network_access->network_access_type,
                     MODAL__CLIENT__NETWORK_ACCESS__NETWORK_ACCESS_TYPE__BLOCKED);
    assert_int_equal(d->open_ports->n_ports, 0);
    assert_null(d->scheduler_placement);
    assert_string_equal(d->name, "");
    assert_int_equal(r->n_tags, 0);
    assert_int_equal(r->n_secret_sources, 0);
    drop(r);
    end(&t);
}

static void resources_are_reserved_and_limited(void **state)
{
    Modal__Client__SandboxCreateV2Request *r;
    struct trial t;

    (void)state;
    begin(&t);
    t.env.memory_mib = 512;
    t.env.memory_limit_mib = 2048;
    t.env.cpu = 0.5;
    t.env.cpu_limit = 4;
    t.spec.idle_timeout_secs = 90;
    t.spec.name = "cellblock-7";
    set_list(&t.env.region, "[\"eu-west\", \"uk\"]");
    r = v2(&t);
    assert_int_equal(r->definition->resources->memory_mb, 512);
    assert_int_equal(r->definition->resources->memory_mb_max, 2048 + MODAL_MEMORY_SPARE);
    assert_int_equal(r->definition->resources->milli_cpu, 500);
    assert_int_equal(r->definition->resources->milli_cpu_max, 4000);
    assert_int_equal(r->definition->idle_timeout_secs, 90);
    assert_string_equal(r->definition->name, "cellblock-7");
    assert_int_equal(r->definition->scheduler_placement->n_regions, 2);
    assert_string_equal(r->definition->scheduler_placement->regions[1], "uk");
    drop(r);
    end(&t);
}

static void a_network_is_said_outright(void **state)
{
    Modal__Client__SandboxCreateV2Request *r;
    Modal__Client__NetworkAccess *n;
    struct trial t;

    (void)state;
    begin(&t);
    set_network(&t, "all");
    r = v2(&t);
    assert_int_equal(r->definition->network_access->network_access_type,
                     MODAL__CLIENT__NETWORK_ACCESS__NETWORK_ACCESS_TYPE__OPEN);
    drop(r);
    set_network(&t, "pypi.org,10.0.0.0/8,192.0.2.1,*.example.org,2001:db8::1");
    r = v2(&t);
    n = r->definition->network_access;
    assert_int_equal(n->network_access_type,
                     MODAL__CLIENT__NETWORK_ACCESS__NETWORK_ACCESS_TYPE__ALLOWLIST);
    assert_int_equal(n->n_allowed_domains, 2);
    assert_string_equal(n->allowed_domains[1], "*.example.org");
    assert_int_equal(n->n_allowed_cidrs, 3);
    assert_string_equal(n->allowed_cidrs[0], "10.0.0.0/8");
    assert_string_equal(n->allowed_cidrs[1], "192.0.2.1/32");
    assert_string_equal(n->allowed_cidrs[2], "2001:db8::1/128");
    drop(r);
    end(&t);
}

static void ports_are_encrypted_and_there_once(void **state)
{
    Modal__Client__SandboxCreateV2Request *r;
    Modal__Client__PortSpecs *p;
    struct trial t;

    (void)state;
    begin(&t);
    set_network(&t, "all");
    set_list(&t.env.ports, "[80, 8888, 80]");
    t.spec.jupyter = true;
    r = v2(&t);
    p = r->definition->open_ports;
    assert_int_equal(p->n_ports, 2);
    assert_int_equal(p->ports[0]->port, MODAL_GATEWAY_PORT);
    assert_false(p->ports[0]->unencrypted);
    assert_int_equal(p->ports[1]->port, 80);
    drop(r);
    end(&t);
}

static void a_gpu_needs_v1(void **state)
{
    static const struct {
        const char *given, *kind;
        unsigned count;
    } rows[] = {{"h100", "H100", 1}, {"A10G:2", "A10G", 2}, {"A100-80GB:8", "A100-80GB", 8}};
    Modal__Client__SandboxCreateRequest *r;
    struct trial t;

    (void)state;
    begin(&t);
    assert_false(modal_spec_needs_v1(&t.env));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        free(t.env.gpu);
        t.env.gpu = strdup(rows[i].given);
        assert_true(modal_spec_needs_v1(&t.env));
        r = v1(&t);
        assert_string_equal(r->definition->resources->gpu_config->gpu_type, rows[i].kind);
        assert_int_equal(r->definition->resources->gpu_config->count, rows[i].count);
        drop(r);
    }
    end(&t);
}

static void secrets_and_variables_of_v2(void **state)
{
    static const char *const ids[] = {"st-1", "st-2", NULL};
    static const char *const variables[] = {"KG_AUTH_TOKEN", "abc", "B", "", NULL};
    Modal__Client__SandboxCreateV2Request *r;
    Modal__Client__StringMap *map;
    struct trial t;

    (void)state;
    begin(&t);
    t.ids.secret_ids = ids;
    t.spec.variables = variables;
    r = v2(&t);
    assert_int_equal(r->definition->n_secret_ids, 2);
    assert_string_equal(r->definition->secret_ids[1], "st-2");
    assert_int_equal(r->n_secret_sources, 3);
    assert_string_equal(r->secret_sources[0]->secret_id, "st-1");
    assert_int_equal(r->secret_sources[2]->source_case, MODAL__CLIENT__SECRET_SOURCE__SOURCE_ENV);
    map = r->secret_sources[2]->env;
    assert_int_equal(map->n_contents, 2);
    assert_string_equal(map->contents[0]->key, "KG_AUTH_TOKEN");
    assert_string_equal(map->contents[0]->value, "abc");
    assert_string_equal(map->contents[1]->value, "");
    drop(r);
    end(&t);
}

static void variables_of_v1_are_a_secret(void **state)
{
    static const char *const ids[] = {"st-1", NULL};
    Modal__Client__SandboxCreateRequest *r;
    struct trial t;

    (void)state;
    begin(&t);
    t.env.gpu = strdup("any");
    t.ids.secret_ids = ids;
    t.spec.variables_secret_id = "st-9";
    r = v1(&t);
    assert_string_equal(r->app_id, "ap-1");
    assert_int_equal(r->definition->n_secret_ids, 2);
    assert_string_equal(r->definition->secret_ids[0], "st-1");
    assert_string_equal(r->definition->secret_ids[1], "st-9");
    drop(r);
    end(&t);
}

static void volumes_and_file_systems(void **state)
{
    const struct modal_volume volumes[] = {{"vo-1", "/data", false}, {"vo-2", "/models", true}};
    const struct modal_volume shared[] = {{"sv-1", "/nfs", false}};
    Modal__Client__SandboxCreateRequest *r;
    Modal__Client__Sandbox *d;
    struct trial t;

    (void)state;
    begin(&t);
    t.ids.volumes = volumes;
    t.ids.volume_count = 2;
    t.ids.file_systems = shared;
    t.ids.file_system_count = 1;
    set_list(&t.env.network_file_systems, "[{\"name\": \"n\", \"dest\": \"/nfs\"}]");
    r = v1(&t);
    d = r->definition;
    assert_int_equal(d->n_volume_mounts, 2);
    assert_string_equal(d->volume_mounts[0]->volume_id, "vo-1");
    assert_string_equal(d->volume_mounts[0]->mount_path, "/data");
    assert_true(d->volume_mounts[0]->allow_background_commits);
    assert_false(d->volume_mounts[0]->read_only);
    assert_true(d->volume_mounts[1]->read_only);
    assert_int_equal(d->n_nfs_mounts, 1);
    assert_string_equal(d->nfs_mounts[0]->shared_volume_id, "sv-1");
    assert_string_equal(d->nfs_mounts[0]->mount_path, "/nfs");
    drop(r);
    end(&t);
}

static void tags_are_theirs_and_ours(void **state)
{
    static const char *const ours[] = {"cellblock", "1", "cellblock-server", "ab", NULL};
    Modal__Client__SandboxCreateV2Request *r;
    struct trial t;

    (void)state;
    begin(&t);
    set_list(&t.env.tags, "{\"team\": \"blue\"}");
    t.spec.tags = ours;
    r = v2(&t);
    assert_int_equal(r->n_tags, 3);
    assert_string_equal(r->tags[0]->tag_name, "team");
    assert_string_equal(r->tags[0]->tag_value, "blue");
    assert_string_equal(r->tags[2]->tag_name, "cellblock-server");
    assert_string_equal(r->tags[2]->tag_value, "ab");
    drop(r);
    end(&t);
}

/* The type that a bucket at this address is mounted as. */
static int type_of(struct trial *t, const char *url)
{
    const struct share_cloud cloud = {.bucket = "b", .endpoint_url = url};
    struct share *share = share_new_cloud(&cloud, "/b", true);
    const struct modal_bucket bucket = {.share = share};
    const struct modal_brought brought = {.buckets = &bucket, .bucket_count = 1};
    Modal__Client__SandboxCreateV2Request *r;
    int type;

    assert_non_null(share);
    t->spec.brought = &brought;
    r = v2(t);
    type = (int)r->definition->cloud_bucket_mounts[0]->bucket_type;
    drop(r);
    share_free(share);
    t->spec.brought = NULL;
    return type;
}

static void a_bucket_is_of_the_type_of_its_host(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    assert_int_equal(type_of(&t, NULL), 1);
    assert_int_equal(type_of(&t, "https://s3.eu-west-1.amazonaws.com"), 1);
    assert_int_equal(type_of(&t, "https://1.R2.cloudflarestorage.com:443/x"), 2);
    assert_int_equal(type_of(&t, "https://storage.googleapis.com"), 3);
    assert_int_equal(type_of(&t, "https://example.org/storage.googleapis.com"), 1);
    end(&t);
}

static void buckets_with_all_there_is_to_say(void **state)
{
    const struct share_cloud full = {.bucket = "data",
                                     .key_prefix = "sales/",
                                     .endpoint_url = "https://minio.example.org:9000",
                                     .secret = "key"};
    const struct share_cloud role = {.bucket = "other", .role_arn = "arn:aws:iam::1:role/r"};
    struct share *one = share_new_cloud(&full, "/data", false);
    struct share *two = share_new_cloud(&role, "/other", true), *copy;
    const struct modal_bucket buckets[] = {{one, "st-5"}, {two, NULL}};
    const struct modal_brought brought = {buckets, 2};
    Modal__Client__SandboxCreateV2Request *r;
    Modal__Client__CloudBucketMount **b;
    struct trial t;

    (void)state;
    copy = share_clone(one);
    assert_string_equal(copy->cloud.secret, "key");
    assert_string_equal(copy->source, "data/sales/");
    share_free(copy);
    begin(&t);
    t.spec.brought = &brought;
    r = v2(&t);
    assert_int_equal(r->definition->n_cloud_bucket_mounts, 2);
    b = r->definition->cloud_bucket_mounts;
    assert_string_equal(b[0]->bucket_name, "data");
    assert_string_equal(b[0]->mount_path, "/data");
    assert_string_equal(b[0]->key_prefix, "sales/");
    assert_string_equal(b[0]->bucket_endpoint_url, "https://minio.example.org:9000");
    assert_string_equal(b[0]->credentials_secret_id, "st-5");
    assert_false(b[0]->read_only);
    assert_string_equal(b[1]->oidc_auth_role_arn, "arn:aws:iam::1:role/r");
    assert_string_equal(b[1]->credentials_secret_id, "");
    assert_string_equal(b[1]->key_prefix, "");
    assert_true(b[1]->read_only);
    drop(r);
    share_free(one);
    share_free(two);
    end(&t);
}

static void lifetimes(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    assert_int_equal(modal_spec_lifetime(&t.env, false), MODAL_LIFETIME_MAX);
    t.env.max_lifetime_seconds = 600;
    assert_int_equal(modal_spec_lifetime(&t.env, false), 600 + MODAL_LIFETIME_SPARE);
    t.env.max_timeout_seconds = 99.5;
    t.env.idle_timeout_seconds = 10;
    assert_int_equal(modal_spec_lifetime(&t.env, true), 110 + MODAL_LIFETIME_SPARE);
    end(&t);
}

/* ---- what is refused early ---- */

static void assert_refused(const struct environment *env, enum error_kind kind, const char *word)
{
    struct error err = {0};

    assert_int_equal(modal_spec_check(env, &err), -1);
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, word)) {
        fail_msg("\"%s\" is not in: %s", word, err.message);
    }
    error_clear(&err);
}

static void a_good_environment_is_good(void **state)
{
    struct trial t;
    struct error err = {0};

    (void)state;
    begin(&t);
    assert_int_equal(modal_spec_check(&t.env, &err), 0);
    t.env.gpu = strdup("A10G:2");
    t.env.app_name = strdup("my-app.v2_x");
    t.env.kernel = KERNEL_JUPYTER;
    t.env.cpu = 2;
    t.env.cpu_limit = 2;
    t.env.memory_limit_mib = 1024;
    set_network(&t, "pypi.org");
    set_list(&t.env.ports, "[80]");
    set_list(&t.env.tags, "{\"team\": \"blue.1\"}");
    set_list(&t.env.modal_secrets, "[\"huggingface\"]");
    set_list(&t.env.volumes, "[{\"name\": \"a\", \"dest\": \"/data/a\"}, {\"dest\": \"/data/b\"}, "
                             "{\"dest\": \"/data/c\"}]");
    set_list(&t.env.network_file_systems, "[{\"name\": \"a\", \"dest\": \"/nfs\"}]");
    assert_int_equal(modal_spec_check(&t.env, &err), -1); /* the same name in both lists */
    error_clear(&err);
    set_list(&t.env.network_file_systems, "[{\"name\": \"n\", \"dest\": \"/nfs\"}]");
    assert_int_equal(modal_spec_check(&t.env, &err), 0);
    end(&t);
}

static void what_a_cut_network_cannot_have(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    set_list(&t.env.ports, "[80]");
    assert_refused(&t.env, ERROR_INVALID, "ports");
    set_list(&t.env.ports, "[]");
    t.env.kernel = KERNEL_JUPYTER; /* which is reached without a port then */
    assert_int_equal(modal_spec_check(&t.env, NULL), 0);
    end(&t);
}

static void gpus_that_are_none(void **state)
{
    static const char *const bad[] = {"H100,A100", "[\"H100\"]", "",        ":2",    "H100:",
                                      "H100:0",    "H100:two",   "H100:-1", "H 100", "H100:99"};
    struct trial t;

    (void)state;
    begin(&t);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        free(t.env.gpu);
        t.env.gpu = strdup(bad[i]);
        assert_refused(&t.env, ERROR_INVALID, i < 2 ? "list" : "gpu");
    }
    end(&t);
}

static void storage_in_each_others_way(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    set_list(&t.env.volumes,
             "[{\"name\": \"a\", \"dest\": \"/a\"}, {\"name\": \"a\", \"dest\": \"/b\"}]");
    assert_refused(&t.env, ERROR_INVALID, "two paths");
    set_list(&t.env.volumes, "[{\"dest\": \"/a\"}, {\"dest\": \"/a/b\"}]");
    assert_refused(&t.env, ERROR_INVALID, "each other's way");
    set_list(&t.env.volumes, "[{\"dest\": \"/root\"}]");
    assert_refused(&t.env, ERROR_INVALID, "/root");
    set_list(&t.env.volumes, "[{\"dest\": \"/a\", \"name\": \"a b\"}]");
    assert_refused(&t.env, ERROR_INVALID, "\"a b\"");
    set_list(&t.env.volumes, "[{\"dest\": \"/a\"}]");
    set_list(&t.env.network_file_systems, "[{\"name\": \"n\", \"dest\": \"/a\"}]");
    assert_refused(&t.env, ERROR_INVALID, "network_file_systems");
    end(&t);
}

static void names_limits_and_the_rest(void **state)
{
    struct trial t;

    (void)state;
    begin(&t);
    t.env.workdir = strdup("project");
    assert_refused(&t.env, ERROR_INVALID, "workdir");
    free(t.env.workdir);
    t.env.workdir = NULL;
    set_list(&t.env.env, "{\"A-B\": \"x\"}");
    assert_refused(&t.env, ERROR_INVALID, "\"A-B\"");
    set_list(&t.env.env, "{}");
    set_list(&t.env.tags, "{\"a b\": \"x\"}");
    assert_refused(&t.env, ERROR_INVALID, "tags");
    set_list(&t.env.tags, "{\"cellblock-server\": \"x\"}");
    assert_refused(&t.env, ERROR_INVALID, "our own");
    set_list(&t.env.tags, "{}");
    t.env.cpu = 2;
    t.env.cpu_limit = 1;
    assert_refused(&t.env, ERROR_INVALID, "cpu_limit");
    t.env.cpu_limit = 0;
    t.env.memory_limit_mib = 512;
    assert_refused(&t.env, ERROR_INVALID, "memory_limit_mib");
    t.env.memory_limit_mib = 0;
    t.env.max_timeout_seconds = 86400;
    assert_refused(&t.env, ERROR_INVALID, "max_timeout_seconds");
    t.env.max_timeout_seconds = 60;
    t.env.app_name = strdup("ap-0123456789abcdefghijkl");
    assert_refused(&t.env, ERROR_INVALID, "app_name");
    free(t.env.app_name);
    t.env.app_name = NULL;
    t.env.sandbox_name = strdup("one");
    assert_int_equal(modal_spec_check(&t.env, NULL), 0);
    t.env.mode = MODE_EPHEMERAL;
    assert_refused(&t.env, ERROR_INVALID, "sandbox_name");
    end(&t);
}

static void memory_is_kept_where_the_service_can(void **state)
{
    Modal__Client__SandboxCreateV2Request *r;
    struct trial t;

    (void)state;
    begin(&t);
    r = v2(&t);
    assert_false(r->definition->enable_snapshot);
    drop(r);
    t.env.memory_snapshots = true;
    assert_int_equal(modal_spec_check(&t.env, NULL), 0);
    r = v2(&t);
    assert_true(r->definition->enable_snapshot);
    drop(r);
    t.env.gpu = strdup("T4");
    assert_refused(&t.env, ERROR_INVALID, "gpu");
    free(t.env.gpu);
    t.env.gpu = NULL;
    set_list(&t.env.network_file_systems, "[{\"name\": \"n\", \"dest\": \"/n\"}]");
    assert_refused(&t.env, ERROR_INVALID, "not with network_file_systems");
    set_list(&t.env.network_file_systems, "[]");
    set_list(&t.env.sandbox_command, "[\"db\"]");
    assert_refused(&t.env, ERROR_INVALID, "not with sandbox_command");
    set_list(&t.env.sandbox_command, "[]");
    t.env.kernel = KERNEL_JUPYTER;
    assert_refused(&t.env, ERROR_INVALID, "jupyter");
    t.env.kernel = KERNEL_RUNNER;
    t.env.mode = MODE_EPHEMERAL;
    assert_refused(&t.env, ERROR_INVALID, "ephemeral");
    t.env.mode = MODE_STATEFUL;
    t.env.keep = true;
    assert_refused(&t.env, ERROR_INVALID, "keep");
    end(&t);
}

static void ids_of_memory_name_a_process(void **state)
{
    static const char *const wrong[] = {"sn-1",   "sn-.7",  "sn-1.",           "sn-1.x", "sn-1.7.7",
                                        "im-1.7", "sn-1/7", "sn-1.1234567890", "sn-",    ""};
    struct trial t;

    (void)state;
    assert_true(memory_is_id("sn-Ab12.7"));
    assert_true(memory_is_id("sn-1.123456789"));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_false(memory_is_id(wrong[i]));
    }
    begin(&t);
    t.env.snapshot = strdup("sn-1.7");
    assert_refused(&t.env, ERROR_INVALID, "\"memory_snapshots\": true");
    t.env.memory_snapshots = true;
    assert_int_equal(modal_spec_check(&t.env, NULL), 0);
    t.env.snapshot[4] = '\0';
    assert_refused(&t.env, ERROR_INVALID, "a dot and a number");
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_kept_where_the_service_can),
        cmocka_unit_test(ids_of_memory_name_a_process),
        cmocka_unit_test(what_every_sandbox_has),
        cmocka_unit_test(resources_are_reserved_and_limited),
        cmocka_unit_test(a_network_is_said_outright),
        cmocka_unit_test(ports_are_encrypted_and_there_once),
        cmocka_unit_test(a_gpu_needs_v1),
        cmocka_unit_test(secrets_and_variables_of_v2),
        cmocka_unit_test(variables_of_v1_are_a_secret),
        cmocka_unit_test(volumes_and_file_systems),
        cmocka_unit_test(tags_are_theirs_and_ours),
        cmocka_unit_test(a_bucket_is_of_the_type_of_its_host),
        cmocka_unit_test(buckets_with_all_there_is_to_say),
        cmocka_unit_test(lifetimes),
        cmocka_unit_test(a_good_environment_is_good),
        cmocka_unit_test(what_a_cut_network_cannot_have),
        cmocka_unit_test(gpus_that_are_none),
        cmocka_unit_test(storage_in_each_others_way),
        cmocka_unit_test(names_limits_and_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
