/* What the service says of a sandbox's tunnels: which of it are addresses, and whose. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "backends/modal/ports.h"

enum { LIST_MAX = 300 };

struct trial {
    struct environment env;
    Modal__Client__TunnelData tunnels[LIST_MAX], *list[LIST_MAX];
    size_t count;
    json_t *ports;
    char *note;
};

static void set_list(json_t **list, const char *text)
{
    json_decref(*list);
    *list = json_loads(text, 0, NULL);
    assert_non_null(*list);
}

static int setup(void **state)
{
    struct trial *t = calloc(1, sizeof(*t));
    json_t *all = json_string("all");

    *state = t;
    assert_int_equal(environment_init(&t->env, "x", "modal"), 0);
    assert_int_equal(environment_set_network(&t->env, all, NULL), 0);
    json_decref(all);
    set_list(&t->env.ports, "[80, 8888]");
    set_list(&t->env.h2_ports, "[50051]");
    set_list(&t->env.unencrypted_ports, "[22]");
    return 0;
}

static void forget(struct trial *t)
{
    json_decref(t->ports);
    free(t->note);
    t->ports = NULL;
    t->note = NULL;
}

static int teardown(void **state)
{
    struct trial *t = *state;

    forget(t);
    environment_deinit(&t->env);
    free(t);
    return 0;
}

static void add(struct trial *t, uint32_t inner, const char *host, uint32_t port)
{
    Modal__Client__TunnelData *one = &t->tunnels[t->count];

    assert_true(t->count < LIST_MAX);
    modal__client__tunnel_data__init(one);
    one->container_port = inner;
    one->host = one->unencrypted_host = (char *)host;
    one->port = one->unencrypted_port = port;
    t->list[t->count++] = one;
}

static const char *address(struct trial *t, const char *port)
{
    return json_string_value(json_object_get(t->ports, port));
}

static void ask(struct trial *t)
{
    forget(t);
    t->ports = modal_ports_of(&t->env, t->list, t->count, &t->note);
    assert_non_null(t->ports);
}

static void add_good(struct trial *t)
{
    add(t, 80, "a.modal.host", 443);
    add(t, 8888, "b.modal.host", 8443);
    add(t, 50051, "c.modal.host", 443);
    add(t, 22, "r5.modal.host", 40123);
}

static void those_that_were_asked_for(void **state)
{
    struct trial *t = *state;

    add_good(t);
    t->tunnels[3].host = "tls.modal.host";
    ask(t);
    assert_null(t->note);
    assert_int_equal(json_object_size(t->ports), 4);
    assert_string_equal(address(t, "80"), "https://a.modal.host");
    assert_string_equal(address(t, "8888"), "https://b.modal.host:8443");
    assert_string_equal(address(t, "50051"), "https://c.modal.host");
    assert_string_equal(address(t, "22"), "tcp://r5.modal.host:40123");
    assert_true(modal_has_ports(&t->env));
}

static void the_gateway_s_own_is_not_listed(void **state)
{
    struct trial *t = *state;

    add_good(t);
    t->env.kernel = KERNEL_JUPYTER;
    ask(t);
    assert_null(t->note);
    assert_int_equal(json_object_size(t->ports), 3);
    assert_null(address(t, "8888"));
    set_list(&t->env.ports, "[8888]");
    set_list(&t->env.h2_ports, "[]");
    assert_true(modal_has_ports(&t->env));
    set_list(&t->env.unencrypted_ports, "[]");
    assert_false(modal_has_ports(&t->env));
}

/* The one for 80 is as said, all others are good. */
static void refused(struct trial *t, const char *host, uint32_t port)
{
    t->count = 0;
    add_good(t);
    t->tunnels[0].host = (char *)host;
    t->tunnels[0].port = port;
    ask(t);
    assert_int_equal(json_object_size(t->ports), 3);
    assert_null(address(t, "80"));
    assert_non_null(strstr(t->note, "no usable address of port 80"));
    assert_non_null(strstr(t->note, "1 of the 4"));
    assert_null(strstr(t->note, "8888"));
}

static void what_is_no_address(void **state)
{
    static const char *const hosts[] = {"",         "a b",   "a/b", "u@a", "a:1",  "a\nb",
                                        "a\x1b[m",  "[::1]", ".a",  "a.",  "-a",   "a..b",
                                        "\xc3\xa4", "a%41",  "a?b", "a#b", "a\"b", "a`b"};
    struct trial *t = *state;
    char longest[MODAL_HOST_CAP + 2];

    for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
        refused(t, hosts[i], 443);
    }
    refused(t, "a.modal.host", 0);
    refused(t, "a.modal.host", 65536);
    memset(longest, 'a', sizeof(longest));
    longest[MODAL_HOST_CAP + 1] = '\0';
    refused(t, longest, 443);
    longest[MODAL_HOST_CAP] = '\0';
    assert_true(modal_is_host(longest));
    assert_false(modal_is_host(NULL));
}

/* Of a port without TLS the other pair counts. */
static void without_tls(void **state)
{
    struct trial *t = *state;

    add_good(t);
    t->tunnels[3].unencrypted_host = "";
    ask(t);
    assert_null(address(t, "22"));
    assert_non_null(strstr(t->note, "port 22"));
    t->tunnels[3].unencrypted_host = "r5.modal.host";
    t->tunnels[3].unencrypted_port = 0;
    ask(t);
    assert_null(address(t, "22"));
}

static void what_nobody_asked_for(void **state)
{
    struct trial *t = *state;

    add_good(t);
    add(t, 81, "a.modal.host", 443);
    add(t, 80, "evil.example", 443);
    add(t, UINT32_MAX, "a.modal.host", 443);
    ask(t);
    assert_int_equal(json_object_size(t->ports), 4);
    assert_string_equal(address(t, "80"), "https://a.modal.host");
    assert_non_null(strstr(t->note, "3 of the 7"));
    assert_null(strstr(t->note, "no usable address"));
}

static void too_many_of_them(void **state)
{
    struct trial *t = *state;

    add_good(t);
    while (t->count <= MODAL_TUNNELS_CAP) {
        add(t, 80, "a.modal.host", 443);
    }
    ask(t);
    assert_int_equal(json_object_size(t->ports), 0);
    assert_non_null(strstr(t->note, "80, 8888, 50051, 22"));
    t->count = 0;
    ask(t);
    assert_int_equal(json_object_size(t->ports), 0);
    assert_non_null(strstr(t->note, "80, 8888, 50051, 22"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(those_that_were_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(the_gateway_s_own_is_not_listed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_address, setup, teardown),
        cmocka_unit_test_setup_teardown(without_tls, setup, teardown),
        cmocka_unit_test_setup_teardown(what_nobody_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_of_them, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
