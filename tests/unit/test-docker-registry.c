#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "backends/docker/registry.h"

static char folder[64];

static int setup(void **state)
{
    (void)state;
    memcpy(folder, "/tmp/cellblock-registry.XXXXXX", sizeof("/tmp/cellblock-registry.XXXXXX"));
    return mkdtemp(folder) && setenv("DOCKER_CONFIG", folder, 1) == 0 ? 0 : -1;
}

static char *config_path(void)
{
    static char path[96];

    (void)snprintf(path, sizeof(path), "%s/config.json", folder);
    return path;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(config_path());
    return rmdir(folder);
}

static void config(const char *text)
{
    FILE *file = fopen(config_path(), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct registry_login find(const char *image)
{
    struct registry_login login = {0};
    struct error err = {0};

    if (registry_login_find(image, &login, &err) < 0) {
        fail_msg("%s: %s", image, err.message);
    }
    assert_non_null(login.advice);
    return login;
}

/* NULL: nobody is told to the registry. */
static void expect(const char *image, const char *header, const char *advice)
{
    struct registry_login login = find(image);

    if (header) {
        assert_non_null(login.header);
        assert_string_equal(login.header, header);
    } else {
        assert_null(login.header);
    }
    if (!strstr(login.advice, advice)) {
        fail_msg("\"%s\" is not in: %s", advice, login.advice);
    }
    registry_login_deinit(&login);
}

static void expect_registry(const char *image, const char *registry)
{
    char *its = registry_of(image);

    assert_string_equal(its, registry);
    free(its);
}

static void registries_of_names(void **state)
{
    (void)state;
    expect_registry("python", "docker.io");
    expect_registry("python:3.11-slim", "docker.io");
    expect_registry("jupyter/base-notebook", "docker.io");
    expect_registry("ghcr.io/a/b:1", "ghcr.io");
    expect_registry("registry:5000/a", "registry:5000");
    expect_registry("localhost/a", "localhost");
    expect_registry("localhosts/a", "docker.io");
}

static void a_login_goes_to_its_registry_only(void **state)
{
    (void)state;
    config("{\"auths\":{\"registry:5000\":{\"auth\":\"bWU6aHVudGVyMg==\"},"
           "\"https://index.docker.io/v1/\":{\"auth\":\"aHViOmE6Yj8/Pg==\"},"
           "\"quay.io\":{\"identitytoken\":\"t\"},\"old.example\":{\"username\":\"u\","
           "\"password\":\"p\"}}}");
    /* {"username":"me","password":"hunter2","serveraddress":"registry:5000"} */
    expect("registry:5000/a/b:1",
           "X-Registry-Auth: eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJodW50ZXIyIiwic2VydmVyYWRkcmVz"
           "cyI6InJlZ2lzdHJ5OjUwMDAifQ==",
           "was used; `docker login registry:5000`");
    /* Its password is "a:b??>", and the letters are those of a URL. */
    struct registry_login hub = find("python:3.11-slim");
    assert_non_null(hub.header);
    assert_null(strpbrk(hub.header + strlen("X-Registry-Auth: "), "+/"));
    registry_login_deinit(&hub);
    expect("quay.io/a",
           "X-Registry-Auth: eyJpZGVudGl0eXRva2VuIjoidCIsInNlcnZlcmFkZHJlc3MiOiJxdWF5LmlvIn0=",
           "was used");
    struct registry_login old = find("old.example/a");
    assert_non_null(old.header);
    registry_login_deinit(&old);
    expect("registry:5001/a", NULL, "If it is private: `docker login registry:5001`");
    expect("registry:5001/registry:5000/a", NULL, "registry:5001");
}

static void programs_are_told_and_not_run(void **state)
{
    (void)state;
    config("{\"auths\":{\"ghcr.io\":{}},\"credsStore\":\"desktop\","
           "\"credHelpers\":{\"ecr.example\":\"ecr-login\"}}");
    expect("ghcr.io/a", NULL, "docker-credential-desktop, which is not run here");
    expect("ecr.example/a", NULL, "docker-credential-ecr-login, which is not run");
}

static void no_config_is_nobody(void **state)
{
    (void)state;
    expect("ghcr.io/a", NULL, "`docker login ghcr.io`");
}

static void what_is_no_login_is_said(void **state)
{
    static const char *const wrong[] = {
        "{\"auths\":{\"ghcr.io\":{\"auth\":\"?\"}}}",
        "{\"auths\":{\"ghcr.io\":{\"auth\":\"bWU=\"}}}",     /* no colon */
        "{\"auths\":{\"ghcr.io\":{\"auth\":\"OnBhc3M=\"}}}", /* no user */
        "{\"auths\":",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct registry_login login = {0};
        struct error err = {0};
        config(wrong[i]);
        assert_int_equal(registry_login_find("ghcr.io/a", &login, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_non_null(strstr(err.message, "config.json"));
        error_clear(&err);
    }
    config("{\"auths\":{\"ghcr.io\":{\"auth\":\"?\"}}}");
    expect("quay.io/a", NULL, "If it is private");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registries_of_names),
        cmocka_unit_test_setup_teardown(a_login_goes_to_its_registry_only, setup, teardown),
        cmocka_unit_test_setup_teardown(programs_are_told_and_not_run, setup, teardown),
        cmocka_unit_test_setup_teardown(no_config_is_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_login_is_said, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
