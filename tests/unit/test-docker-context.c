/* Where the engine is looked for: addresses, variables, docker contexts, sockets. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/docker/context.h"

static char home[64];

static const char *const variables[] = {"DOCKER_HOST",       "DOCKER_CONTEXT",   "DOCKER_CONFIG",
                                        "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "XDG_RUNTIME_DIR"};

static int setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        unsetenv(variables[i]);
    }
    memcpy(home, "/tmp/cellblock-docker.XXXXXX", sizeof("/tmp/cellblock-docker.XXXXXX"));
    return mkdtemp(home) && setenv("HOME", home, 1) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    char command[96];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf %s", home);
    return system(command) == 0 ? 0 : -1; /* NOLINT(cert-env33-c): our own folder */
}

static void write_file(const char *name, const char *text)
{
    char path[256];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", home, name);
    for (char *slash = strchr(path + strlen(home) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0755);
        *slash = '/';
    }
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int find(const char *host, struct endpoint *at, struct error *err)
{
    struct environment env = {.host = (char *)host};

    *at = (struct endpoint){0};
    return endpoint_find(&env, at, err);
}

static void expect_found(const char *host, const char *base, const char *socket_path)
{
    struct endpoint at;
    struct error err = {0};

    if (find(host, &at, &err) < 0) {
        fail_msg("%s: %s", host ? host : "(none)", err.message);
    }
    assert_string_equal(at.base, base);
    if (socket_path) {
        assert_string_equal(at.unix_socket, socket_path);
        assert_false(at.remote);
    } else {
        assert_null(at.unix_socket);
        assert_true(at.remote);
    }
    endpoint_deinit(&at);
}

static void expect_refused(char *host, enum error_kind kind, const char *word)
{
    struct endpoint at;
    struct error err = {0};

    assert_int_equal(find(host, &at, &err), -1);
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, word)) {
        fail_msg("no \"%s\" in: %s", word, err.message);
    }
    error_clear(&err);
}

static void test_addresses(void **state)
{
    (void)state;
    expect_found("unix:///run/x.sock", "http://docker", "/run/x.sock");
    expect_found("tcp://engine:2375", "http://engine:2375", NULL);
    expect_found("tcp://engine", "http://engine:2375", NULL);
    expect_found("https://engine/", "https://engine:2376", NULL);
    expect_found("tcp://[::1]:99", "http://[::1]:99", NULL);
}

static void test_bad_addresses(void **state)
{
    char longer[400];

    (void)state;
    memset(longer, 'a', sizeof(longer) - 1);
    memcpy(longer, "unix:///", 8);
    longer[sizeof(longer) - 1] = '\0';
    expect_refused("ssh://host", ERROR_UNSUPPORTED, "Forward");
    expect_refused("unix://relative", ERROR_INVALID, "absolute");
    expect_refused(longer, ERROR_INVALID, "at most");
    expect_refused("tcp://user@host:1", ERROR_INVALID, "HOST:PORT");
    expect_refused("tcp://host:1/path", ERROR_INVALID, "HOST:PORT");
    expect_refused("tcp://host:1?x", ERROR_INVALID, "HOST:PORT");
    expect_refused("tcp://", ERROR_INVALID, "HOST:PORT");
    expect_refused("npipe:////./pipe", ERROR_INVALID, "expected unix://");
    expect_refused("", ERROR_INVALID, "expected unix://");
}

static void test_variables(void **state)
{
    (void)state;
    setenv("DOCKER_HOST", "unix:///from/variable", 1);
    setenv("DOCKER_CONTEXT", "nosuch", 1);
    expect_found(NULL, "http://docker", "/from/variable");
    expect_found("unix:///from/setting", "http://docker", "/from/setting");
    setenv("DOCKER_HOST", "rubbish", 1);
    expect_refused(NULL, ERROR_INVALID, "DOCKER_HOST");
}

static void expect_advice(const struct endpoint *at, const char *words)
{
    char *advice = endpoint_advice(at);

    assert_non_null(advice);
    if (!strstr(advice, words)) {
        fail_msg("\"%s\" is not in: %s", words, advice);
    }
    free(advice);
}

static void test_tls(void **state)
{
    struct endpoint at;
    struct error err = {0};

    (void)state;
    write_file("certs/ca.pem", "x");
    write_file("certs/key.pem", "x");
    setenv("DOCKER_TLS_VERIFY", "1", 1);
    setenv("DOCKER_CERT_PATH", "/nonexistent", 1);
    expect_refused("tcp://engine:2376", ERROR_INVALID, "DOCKER_CERT_PATH");
    setenv("DOCKER_CERT_PATH", home, 1);
    expect_refused("tcp://engine:2376", ERROR_INVALID, "DOCKER_CERT_PATH");
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/certs", home);
    setenv("DOCKER_CERT_PATH", path, 1);
    assert_int_equal(find("tcp://engine:2376", &at, &err), 0);
    assert_string_equal(at.base, "https://engine:2376");
    assert_non_null(strstr(at.ca, "/certs/ca.pem"));
    assert_non_null(at.key);
    assert_null(at.cert);
    assert_false(at.insecure);
    assert_string_equal(at.name, "https://engine:2376 (host)");
    expect_advice(&at, "/certs: ca.pem, the engine's authority (found)");
    expect_advice(&at, "our client certificate (not found, found). DOCKER_CERT_PATH");
    endpoint_deinit(&at);
}

static void test_advice_without_tls(void **state)
{
    struct endpoint at;
    struct error err = {0};

    (void)state;
    assert_int_equal(find("tcp://engine:2375", &at, &err), 0);
    expect_advice(&at, "set DOCKER_TLS_VERIFY=1");
    endpoint_deinit(&at);
    assert_int_equal(find("unix:///run/docker.sock", &at, &err), 0);
    assert_null(endpoint_advice(&at));
    endpoint_deinit(&at);
}

#define META "{\"Name\":\"%s\",\"Endpoints\":{\"docker\":{\"Host\":\"%s\"%s}}}"

static void test_contexts(void **state)
{
    char text[256];
    struct endpoint at;
    struct error err = {0};

    (void)state;
    (void)snprintf(text, sizeof(text), META, "one", "unix:///of/one", "");
    write_file(".docker/contexts/meta/aaaa/meta.json", text);
    (void)snprintf(text, sizeof(text), META, "two", "tcp://two:2376", ",\"SkipTLSVerify\":true");
    write_file(".docker/contexts/meta/bbbb/meta.json", text);
    write_file(".docker/contexts/tls/bbbb/docker/ca.pem", "x");
    write_file(".docker/contexts/meta/cccc/meta.json", "no JSON");
    write_file(".docker/config.json", "{\"currentContext\":\"one\"}");
    expect_found(NULL, "http://docker", "/of/one");
    setenv("DOCKER_CONTEXT", "two", 1);
    assert_int_equal(find(NULL, &at, &err), 0);
    assert_string_equal(at.base, "https://two:2376");
    assert_true(at.insecure);
    assert_non_null(strstr(at.ca, "/contexts/tls/bbbb/docker/ca.pem"));
    assert_string_equal(at.name, "https://two:2376 (docker context \"two\")");
    expect_advice(&at, "`docker context update`");
    endpoint_deinit(&at);
    (void)snprintf(text, sizeof(text), META, "four", "tcp://four:2376", ",\"SkipTLSVerify\":true");
    write_file(".docker/contexts/meta/dddd/meta.json", text);
    setenv("DOCKER_CONTEXT", "four", 1);
    expect_found(NULL, "https://four:2376", NULL); /* TLS all the same */
    setenv("DOCKER_CONTEXT", "three", 1);
    expect_refused(NULL, ERROR_NOT_FOUND, "\"three\"");
}

static void test_broken_config_is_said(void **state)
{
    (void)state;
    write_file(".docker/config.json", "{\"currentContext\":");
    expect_refused(NULL, ERROR_INVALID, "config.json");
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static void test_sockets_of_a_user(void **state)
{
    char path[128];
    struct endpoint at;
    struct error err = {0};
    int fd;

    (void)state;
    if (access("/var/run/docker.sock", F_OK) == 0 || access("/run/podman/podman.sock", F_OK) == 0) {
        skip(); /* this machine has an engine of its own */
    }
    setenv("XDG_RUNTIME_DIR", home, 1);
    expect_refused(NULL, ERROR_LOST, "podman/podman.sock");
    write_file("podman/x", "");
    (void)snprintf(path, sizeof(path), "%s/podman/podman.sock", home);
    fd = listen_at(path);
    expect_found(NULL, "http://docker", path);
    close(fd); /* a socket that nobody listens on any more */
    expect_refused(NULL, ERROR_LOST, "Connection refused");
    (void)snprintf(path, sizeof(path), "%s/docker.sock", home);
    fd = listen_at(path);
    assert_int_equal(find(NULL, &at, &err), 0);
    assert_string_equal(at.unix_socket, path);
    endpoint_deinit(&at);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_variables, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_advice_without_tls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_contexts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_config_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sockets_of_a_user, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
