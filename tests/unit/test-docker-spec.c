/* What a container is made with, whose containers are whose, names of images. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/base/strings.h"
#include "backends/docker/internal.h"

/* ---- users ---- */

static void expect_user(const char *setting, const char *of_image, const char *name, int uid,
                        int gid)
{
    struct environment env = {.user = (char *)setting};
    struct spec_user user;

    assert_int_equal(spec_user(&env, of_image, &user, NULL), 0);
    assert_string_equal(user.name, name);
    assert_int_equal(user.known, uid >= 0);
    if (uid >= 0) {
        assert_int_equal(user.uid, uid);
        assert_int_equal(user.gid, gid);
    }
}

static void test_users(void **state)
{
    struct environment env = {.user = ":5"};
    struct spec_user user;
    struct error err = {0};

    (void)state;
    expect_user(NULL, NULL, "65534:65534", 65534, 65534);
    expect_user(NULL, "", "65534:65534", 65534, 65534);
    expect_user(NULL, "root", "65534:65534", 65534, 65534);
    expect_user(NULL, "0", "65534:65534", 65534, 65534);
    expect_user(NULL, "00:5", "65534:65534", 65534, 65534);
    expect_user(NULL, "root:staff", "65534:65534", 65534, 65534);
    expect_user(NULL, "rooty", "rooty", -1, 0);
    expect_user(NULL, "1000", "1000", 1000, 1000);
    expect_user(NULL, "1000:100", "1000:100", 1000, 100);
    expect_user(NULL, "jovyan", "jovyan", -1, 0);
    expect_user("0", "jovyan", "0", 0, 0);
    expect_user("12:x", NULL, "12:x", -1, 0);
    expect_user("99999999999", NULL, "99999999999", -1, 0);
    assert_int_equal(spec_user(&env, NULL, &user, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    error_clear(&err);
}

/* ---- the body ---- */

static struct share file_share(enum share_type type, char *dest)
{
    return (struct share){
        .type = type, .fd = -1, .read_only = true, .source = "/host/file", .dest = dest};
}

static json_t *body_of(struct environment *env, struct share *mount, struct share *copy,
                       json_t *volumes)
{
    static const char *const command[] = {"python3", "-c", "pass", NULL};
    struct share *const mounts[] = {mount};
    struct share *const copies[] = {copy};
    struct spec_user user;
    json_t *labels = json_pack("{s:s}", "cellblock.server", "x");
    struct spec spec = {.env = env,
                        .image = "python:3.11-slim",
                        .user = &user,
                        .command = command,
                        .labels = labels,
                        .volumes = volumes,
                        .mounts = mounts,
                        .mount_count = mount ? 1 : 0,
                        .copies = copies,
                        .copy_count = copy ? 1 : 0};
    json_t *body;

    assert_int_equal(spec_user(env, NULL, &user, NULL), 0);
    body = spec_create(&spec);
    json_decref(labels);
    assert_non_null(body);
    return body;
}

static const char *text_at(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void test_hardened(void **state)
{
    struct environment env = {0};
    json_t *body;
    json_t *host;

    (void)state;
    assert_int_equal(environment_init(&env, "default", "docker"), 0);
    body = body_of(&env, NULL, NULL, NULL);
    host = json_object_get(body, "HostConfig");
    assert_string_equal(text_at(body, "User"), "65534:65534");
    assert_false(json_is_true(json_object_get(body, "Tty")));
    assert_true(json_is_true(json_object_get(body, "StdinOnce")));
    assert_true(json_is_true(json_object_get(host, "AutoRemove")));
    assert_true(json_is_true(json_object_get(host, "ReadonlyRootfs")));
    assert_true(json_is_false(json_object_get(host, "Privileged")));
    assert_string_equal(text_at(host, "NetworkMode"), "none");
    assert_string_equal(json_string_value(json_array_get(json_object_get(host, "CapDrop"), 0)),
                        "ALL");
    assert_string_equal(json_string_value(json_array_get(json_object_get(host, "SecurityOpt"), 0)),
                        "no-new-privileges");
    assert_int_equal(json_array_size(json_object_get(host, "SecurityOpt")), 1);
    assert_int_equal(json_integer_value(json_object_get(host, "Memory")), 1024LL << 20);
    assert_int_equal(json_integer_value(json_object_get(host, "MemorySwap")), 1024LL << 20);
    assert_int_equal(json_integer_value(json_object_get(host, "PidsLimit")), 257);
    assert_null(json_object_get(host, "NanoCpus"));
    assert_null(json_object_get(host, "Runtime"));
    json_decref(body);
    environment_deinit(&env);
}

static void test_what_was_said_otherwise(void **state)
{
    struct environment env = {0};
    json_t *body;
    json_t *host;

    (void)state;
    assert_int_equal(environment_init(&env, "default", "docker"), 0);
    env.read_only_root = false;
    env.network = NETWORK_ALL;
    env.cpu = 1.5;
    env.runtime = strdup("runsc");
    env.user = strdup("jovyan");
    body = body_of(&env, NULL, NULL, NULL);
    host = json_object_get(body, "HostConfig");
    assert_true(json_is_false(json_object_get(host, "ReadonlyRootfs")));
    assert_string_equal(text_at(host, "NetworkMode"), "bridge");
    assert_string_equal(text_at(host, "Runtime"), "runsc");
    assert_int_equal(json_integer_value(json_object_get(host, "NanoCpus")), 1500000000);
    /* A user whose number is not known gets a folder that all may write. */
    assert_non_null(strstr(text_at(json_object_get(host, "Tmpfs"), "/workspace"), "mode=1777"));
    json_decref(body);
    environment_deinit(&env);
}

static void test_folders_for_shares(void **state)
{
    struct environment env = {0};
    struct share mount = file_share(SHARE_MOUNT, "/data");
    struct share copy = file_share(SHARE_COPY, "/srv/in/file");
    json_t *volumes = json_pack("{s:{}, s:{}, s:{}}", "/var/cache/x", "/", "relative");
    json_t *tmpfs;
    json_t *mounts;
    json_t *body;

    (void)state;
    assert_int_equal(environment_init(&env, "default", "docker"), 0);
    body = body_of(&env, &mount, &copy, volumes);
    tmpfs = json_object_get(json_object_get(body, "HostConfig"), "Tmpfs");
    mounts = json_object_get(json_object_get(body, "HostConfig"), "Mounts");
    assert_null(json_object_get(tmpfs, "/data")); /* the mount is there */
    assert_null(json_object_get(tmpfs, "/"));
    assert_null(json_object_get(tmpfs, "relative"));
    assert_non_null(json_object_get(tmpfs, "/var/cache/x"));
    assert_non_null(json_object_get(tmpfs, "/srv/in"));
    assert_non_null(strstr(text_at(tmpfs, "/srv/in"), "size=1024m"));
    assert_non_null(strstr(text_at(tmpfs, "/srv/in"), "uid=65534"));
    assert_int_equal(json_array_size(mounts), 1);
    assert_string_equal(text_at(json_array_get(mounts, 0), "Source"), "/host/file");
    assert_true(json_is_true(json_object_get(json_array_get(mounts, 0), "ReadOnly")));
    json_decref(body);
    json_decref(volumes);
    environment_deinit(&env);
}

static void test_dests(void **state)
{
    (void)state;
    assert_true(spec_dest_is_usual("/workspace/x"));
    assert_true(spec_dest_is_usual("/data/deep/x"));
    assert_false(spec_dest_is_usual("/data"));
    assert_false(spec_dest_is_usual("/database/x"));
    assert_false(spec_dest_is_usual("/srv/x"));
    assert_true(spec_dest_is_possible("/srv/x"));
    assert_false(spec_dest_is_possible("/srv"));
}

static void test_a_mount_that_was_replaced(void **state)
{
    char dir[] = "/tmp/cellblock-spec.XXXXXX";
    char path[64];
    char other[64];
    struct share share = file_share(SHARE_MOUNT, "/data/x");
    struct error err = {0};

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/a", dir);
    (void)snprintf(other, sizeof(other), "%s/b", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    share.source = path;
    share.fd = open(path, O_PATH | O_CLOEXEC);
    assert_int_equal(spec_check_mount(&share, NULL), 0);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(spec_check_mount(&share, &err), -1);
    assert_int_equal(err.kind, ERROR_REFUSED);
    error_clear(&err);
    assert_int_equal(symlink(other, path), 0); /* leads to the same folder, and is a link */
    assert_int_equal(spec_check_mount(&share, NULL), -1);
    close(share.fd);
    unlink(path);
    rmdir(other);
    rmdir(dir);
}

/* ---- orphans ---- */

static void test_only_the_dead_of_this_host_are_orphans(void **state)
{
    json_t *labels = orphans_labels("abc");
    json_t *dead;
    char *text;
    pid_t pid = fork();
    char number[24];

    (void)state;
    assert_non_null(labels);
    if (pid == 0) {
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(orphans_is_dead(labels)); /* that is us */
    dead = json_deep_copy(labels);
    (void)snprintf(number, sizeof(number), "%d", (int)pid);
    json_object_set_new(dead, "cellblock.pid", json_string(number));
    assert_true(orphans_is_dead(dead));
    /* The same process id, started at another time. */
    json_object_update(dead, labels);
    text = string_format("%s1", text_at(labels, "cellblock.boot"));
    json_object_set_new(dead, "cellblock.boot", json_string(text));
    free(text);
    assert_true(orphans_is_dead(dead));
    /* Another boot of this host. */
    text = string_format("x%s", text_at(labels, "cellblock.boot"));
    json_object_set_new(dead, "cellblock.boot", json_string(text));
    free(text);
    assert_true(orphans_is_dead(dead));
    json_object_set_new(dead, "cellblock.host", json_string("elsewhere"));
    assert_false(orphans_is_dead(dead));
    json_decref(dead);
    json_decref(labels);
}

static void test_labels_that_say_nothing(void **state)
{
    static const char *const boots[] = {"", "x", "a b", "  ", " pid:[1] 5"};
    json_t *labels = orphans_labels("abc");
    char *text;

    (void)state;
    assert_false(orphans_is_dead(NULL));
    for (size_t i = 0; i < sizeof(boots) / sizeof(boots[0]); i++) {
        json_t *bad = json_deep_copy(labels);
        json_object_set_new(bad, "cellblock.boot", json_string(boots[i]));
        (void)orphans_is_dead(bad);
        json_object_set_new(bad, "cellblock.pid", json_string("-3"));
        assert_false(orphans_is_dead(bad));
        json_decref(bad);
    }
    /* The same boot, seen from another pid namespace. */
    text = string_format("%.*s pid:[1] 5", (int)strcspn(text_at(labels, "cellblock.boot"), " "),
                         text_at(labels, "cellblock.boot"));
    json_object_set_new(labels, "cellblock.boot", json_string(text));
    free(text);
    assert_false(orphans_is_dead(labels));
    json_decref(labels);
}

static void test_full_names_of_images(void **state)
{
    static const char *const names[][2] = {
        {"python", "python:latest"},           {"python:3.11", "python:3.11"},
        {"host:5000/x", "host:5000/x:latest"}, {"host:5000/x:1", "host:5000/x:1"},
        {"a/b@sha256:00", "a/b@sha256:00"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *full = image_full_name(names[i][0]);
        assert_string_equal(full, names[i][1]);
        free(full);
    }
}

/* ---- what the engine made of it ---- */

static const struct environment limited = {
    .memory_mib = 64, .processes = 9, .cpu = 1.5, .read_only_root = true};

/* The key that is not held when one of a container that is held to all is another value. */
static const char *lost_with(const char *key, json_t *value)
{
    json_t *told = json_pack("{s:i, s:i, s:I, s:b, s:b, s:s}", "Memory", 64 << 20, "PidsLimit", 10,
                             "NanoCpus", (json_int_t)1500000000, "ReadonlyRootfs", 1, "Privileged",
                             0, "NetworkMode", "none");
    const char *lost;

    if (key) {
        json_object_set_new(told, key, value);
    }
    lost = spec_not_held(&limited, 0, told);
    json_decref(told);
    return lost;
}

static void test_a_limit_that_was_left_out(void **state)
{
    (void)state;
    assert_null(lost_with(NULL, NULL));
    assert_string_equal(lost_with("Memory", json_integer(0)), "Memory");
    assert_string_equal(lost_with("Memory", json_string("64")), "Memory");
    assert_string_equal(lost_with("PidsLimit", json_null()), "PidsLimit");
    assert_string_equal(lost_with("PidsLimit", json_integer(-1)), "PidsLimit");
    assert_string_equal(lost_with("NanoCpus", json_integer(0)), "NanoCpus");
    assert_string_equal(lost_with("ReadonlyRootfs", json_false()), "ReadonlyRootfs");
    assert_string_equal(lost_with("Privileged", json_true()), "Privileged");
    assert_string_equal(lost_with("NetworkMode", json_string("bridge")), "NetworkMode");
    assert_string_equal(spec_not_held(&limited, 0, NULL), "Memory");
}

static void test_limits_told_in_other_words(void **state)
{
    const struct environment open = {.memory_mib = 64, .processes = 9, .network = NETWORK_ALL};
    json_t *quota = json_pack("{s:i, s:i, s:i, s:i, s:b, s:b, s:s}", "Memory", 64 << 20,
                              "PidsLimit", 15, "CpuQuota", 150000, "CpuPeriod", 100000,
                              "ReadonlyRootfs", 1, "Privileged", 0, "NetworkMode", "none");
    json_t *wide = json_pack("{s:i, s:i, s:b, s:s}", "Memory", 64 << 20, "PidsLimit", 10,
                             "Privileged", 0, "NetworkMode", "bridge");

    (void)state;
    assert_null(spec_not_held(&limited, 5, quota));
    json_object_set_new(quota, "CpuQuota", json_integer(250000));
    assert_string_equal(spec_not_held(&limited, 5, quota), "NanoCpus");
    assert_null(spec_not_held(&open, 0, wide));
    json_decref(quota);
    json_decref(wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_hardened),
        cmocka_unit_test(test_what_was_said_otherwise),
        cmocka_unit_test(test_folders_for_shares),
        cmocka_unit_test(test_dests),
        cmocka_unit_test(test_a_mount_that_was_replaced),
        cmocka_unit_test(test_only_the_dead_of_this_host_are_orphans),
        cmocka_unit_test(test_labels_that_say_nothing),
        cmocka_unit_test(test_full_names_of_images),
        cmocka_unit_test(test_a_limit_that_was_left_out),
        cmocka_unit_test(test_limits_told_in_other_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
