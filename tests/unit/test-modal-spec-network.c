/* A sandbox's ways in and out, its first process and when it is ready: in the request as the
 * service reads it, and what is refused before anything is asked. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/modal/spec.h"

typedef Modal__Client__Sandbox Definition;

struct trial {
    struct environment env;
    struct modal_ids ids;
    ProtobufCMessage *request; /* unpacked again */
};

static int setup(void **state)
{
    struct trial *t = calloc(1, sizeof(*t));
    json_t *all = json_string("all");

    *state = t;
    assert_int_equal(environment_init(&t->env, "x", "modal"), 0);
    assert_int_equal(environment_set_network(&t->env, all, NULL), 0);
    json_decref(all);
    t->ids = (struct modal_ids){.app_id = "ap-1", .image_id = "im-1"};
    return 0;
}

static void forget(struct trial *t)
{
    if (t->request) {
        protobuf_c_message_free_unpacked(t->request, NULL);
    }
    t->request = NULL;
}

static int teardown(void **state)
{
    struct trial *t = *state;

    forget(t);
    environment_deinit(&t->env);
    free(t);
    return 0;
}

static void set_list(json_t **list, const char *text)
{
    json_decref(*list);
    *list = json_loads(text, 0, NULL);
    assert_non_null(*list);
}

static void set_text(char **to, const char *text)
{
    free(*to);
    *to = text ? strdup(text) : NULL;
}

/* There and back. */
static const Definition *definition(struct trial *t)
{
    static const char *const argv[] = {"sleep", "inf", NULL};
    const struct modal_spec spec = {.env = &t->env,
                                    .ids = &t->ids,
                                    .argv = argv,
                                    .command = t->env.sandbox_command,
                                    .timeout_secs = 60};
    ProtobufCMessage *made = modal_spec_message(&spec);
    size_t size = protobuf_c_message_get_packed_size(made);
    uint8_t *bytes = malloc(size + 1);

    forget(t);
    assert_int_equal(protobuf_c_message_pack(made, bytes), size);
    t->request = protobuf_c_message_unpack(made->descriptor, NULL, size, bytes);
    assert_non_null(t->request);
    free(bytes);
    protobuf_c_message_free_unpacked(made, NULL);
    return modal_spec_needs_v1(&t->env)
               ? ((Modal__Client__SandboxCreateRequest *)t->request)->definition
               : ((Modal__Client__SandboxCreateV2Request *)t->request)->definition;
}

static void assert_refused(const struct environment *env, const char *setting, const char *word)
{
    struct error err = {0};

    assert_int_equal(modal_spec_check(env, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    if (strncmp(err.message, setting, strlen(setting)) != 0 || !strstr(err.message, word)) {
        fail_msg("not \"%s: … %s\": %s", setting, word, err.message);
    }
    error_clear(&err);
}

static void nothing_is_said_that_was_not_given(void **state)
{
    const Definition *d = definition(*state);

    assert_int_equal(d->n_inbound_cidr_allowlist, 0);
    assert_null(d->readiness_probe);
    assert_string_equal(d->proxy_id, "");
    assert_string_equal(d->custom_domain, "");
    assert_string_equal(d->cloud_provider_str, "");
    assert_string_equal(d->runtime, "");
    assert_false(d->include_oidc_identity_token);
    assert_int_equal(modal_spec_probe_seconds(&((struct trial *)*state)->env), 0);
}

static void ports_of_three_kinds(void **state)
{
    struct trial *t = *state;
    Modal__Client__PortSpec **ports;

    set_list(&t->env.ports, "[80]");
    set_list(&t->env.unencrypted_ports, "[22]");
    set_list(&t->env.h2_ports, "[50051]");
    assert_int_equal(definition(t)->open_ports->n_ports, 3);
    ports = definition(t)->open_ports->ports;
    assert_true(ports[0]->port == 80 && !ports[0]->unencrypted && ports[0]->tunnel_type == 0);
    assert_true(ports[1]->port == 22 && ports[1]->unencrypted && ports[1]->tunnel_type == 0);
    assert_true(ports[2]->port == 50051 && !ports[2]->unencrypted && ports[2]->tunnel_type == 1);
    assert_int_equal(modal_spec_check(&t->env, NULL), 0);
    set_list(&t->env.h2_ports, "[50051, 22]");
    assert_refused(&t->env, "unencrypted_ports", "h2_ports");
    set_list(&t->env.h2_ports, "[8888]");
    assert_int_equal(modal_spec_check(&t->env, NULL), 0);
    t->env.kernel = KERNEL_JUPYTER;
    assert_refused(&t->env, "h2_ports", "8888");
}

static void who_may_come_in(void **state)
{
    struct trial *t = *state;
    const Definition *d;

    set_list(&t->env.inbound_cidr_allowlist, "[\"203.0.113.0/24\", \"198.51.100.7\", \"::1\"]");
    set_list(&t->env.ports, "[80]");
    set_text(&t->env.custom_domain, "boxes.example.org");
    assert_int_equal(modal_spec_check(&t->env, NULL), 0);
    t->ids.proxy_id = "pr-1";
    d = definition(t);
    assert_int_equal(d->n_inbound_cidr_allowlist, 3);
    assert_string_equal(d->inbound_cidr_allowlist[0], "203.0.113.0/24");
    assert_string_equal(d->inbound_cidr_allowlist[1], "198.51.100.7/32");
    assert_string_equal(d->inbound_cidr_allowlist[2], "::1/128");
    assert_string_equal(d->custom_domain, "boxes.example.org");
    assert_string_equal(d->proxy_id, "pr-1");
    set_text(&t->env.custom_domain, "boxes example.org");
    assert_refused(&t->env, "custom_domain", "boxes example");
    set_text(&t->env.custom_domain, "boxes.example.org");
    set_list(&t->env.ports, "[]");
    assert_refused(&t->env, "custom_domain", "no ports");
}

static void what_a_cut_network_cannot_have(void **state)
{
    struct trial *t = *state;
    json_t **lists[] = {&t->env.ports, &t->env.h2_ports, &t->env.unencrypted_ports,
                        &t->env.inbound_cidr_allowlist};
    static const char *const names[] = {"ports", "h2_ports", "unencrypted_ports",
                                        "inbound_cidr_allowlist"};

    t->env.network = NETWORK_NONE;
    for (unsigned i = 0; i < 4; i++) {
        set_list(lists[i], i < 3 ? "[80]" : "[\"10.0.0.0/8\"]");
        assert_refused(&t->env, names[i], "\"none\"");
        set_list(lists[i], "[]");
    }
    set_text(&t->env.proxy, "p");
    assert_refused(&t->env, "proxy", "\"none\"");
    set_text(&t->env.proxy, "a b");
    assert_refused(&t->env, "proxy", "no name at Modal");
}

static void its_first_process(void **state)
{
    struct trial *t = *state;
    char *text = malloc(MODAL_ARGV_MAX + 1);

    assert_string_equal(definition(t)->entrypoint_args[0], "sleep");
    set_list(&t->env.sandbox_command, "[\"postgres\", \"\"]");
    assert_int_equal(modal_spec_check(&t->env, NULL), 0);
    assert_int_equal(definition(t)->n_entrypoint_args, 2);
    assert_string_equal(definition(t)->entrypoint_args[0], "postgres");
    assert_string_equal(definition(t)->entrypoint_args[1], "");
    set_list(&t->env.sandbox_command, "[\"\", \"x\"]");
    assert_refused(&t->env, "sandbox_command", "empty");
    memset(text, 'x', MODAL_ARGV_MAX);
    text[MODAL_ARGV_MAX] = '\0';
    json_array_set_new(t->env.sandbox_command, 0, json_string(text));
    assert_refused(&t->env, "sandbox_command", "65536 at most");
    free(text);
}

static void when_it_is_ready(void **state)
{
    struct trial *t = *state;
    const Modal__Client__Probe *probe;

    set_list(&t->env.readiness_probe, "{\"port\": 5432}");
    probe = definition(t)->readiness_probe;
    assert_int_equal(probe->probe_oneof_case, MODAL__CLIENT__PROBE__PROBE_ONEOF_TCP_PORT);
    assert_int_equal(probe->tcp_port, 5432);
    assert_int_equal(probe->interval_ms, 100);
    assert_int_equal(modal_spec_probe_seconds(&t->env), 300);
    set_list(&t->env.readiness_probe, "{\"command\": [\"test\", \"-e\", \"/x\"], "
                                      "\"interval_ms\": 50, \"timeout_seconds\": 7}");
    t->env.gpu = strdup("H100"); /* V1 has it, too */
    probe = definition(t)->readiness_probe;
    assert_int_equal(probe->probe_oneof_case, MODAL__CLIENT__PROBE__PROBE_ONEOF_EXEC_COMMAND);
    assert_int_equal(probe->exec_command->n_argv, 3);
    assert_string_equal(probe->exec_command->argv[2], "/x");
    assert_int_equal(probe->interval_ms, 50);
    assert_int_equal(modal_spec_probe_seconds(&t->env), 7);
    assert_int_equal(modal_spec_check(&t->env, NULL), 0);
    set_list(&t->env.readiness_probe, "{\"command\": [\"\"]}");
    assert_refused(&t->env, "readiness_probe", "empty");
    set_list(&t->env.readiness_probe, "{\"port\": 8888}");
    assert_int_equal(modal_spec_check(&t->env, NULL), 0);
    t->env.kernel = KERNEL_JUPYTER;
    assert_refused(&t->env, "readiness_probe", "Kernel Gateway");
}

static void where_it_runs(void **state)
{
    struct trial *t = *state;
    const Definition *d;

    set_text(&t->env.cloud, "aws");
    set_text(&t->env.runtime, "vm");
    t->env.identity_token = true;
    assert_int_equal(modal_spec_check(&t->env, NULL), 0);
    d = definition(t);
    assert_string_equal(d->cloud_provider_str, "aws");
    assert_string_equal(d->runtime, "vm");
    assert_true(d->include_oidc_identity_token);
    set_text(&t->env.runtime, "runsc");
    assert_refused(&t->env, "runtime", "gvisor");
    set_text(&t->env.runtime, NULL);
    set_text(&t->env.cloud, "a cloud");
    assert_refused(&t->env, "cloud", "a cloud");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_said_that_was_not_given, setup, teardown),
        cmocka_unit_test_setup_teardown(ports_of_three_kinds, setup, teardown),
        cmocka_unit_test_setup_teardown(who_may_come_in, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_cut_network_cannot_have, setup, teardown),
        cmocka_unit_test_setup_teardown(its_first_process, setup, teardown),
        cmocka_unit_test_setup_teardown(when_it_is_ready, setup, teardown),
        cmocka_unit_test_setup_teardown(where_it_runs, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
