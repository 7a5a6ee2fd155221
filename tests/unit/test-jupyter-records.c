#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/jupyter/records.h"

#define URL "http://127.0.0.1:8888/prefix"
#define DAY 86400L
#define RECORD "jupyter-0123456789abcdef"

/* A folder for each test: `runtime` below it is $XDG_RUNTIME_DIR, `home` $HOME. */
struct trial {
    char base[64];
    struct record_left left[RECORDS_LEFT_CAP];
};

static char *path_of(const struct trial *t, const char *name)
{
    char *path = string_format("%s/%s", t->base, name);

    assert_non_null(path);
    return path;
}

static void make_folder(const struct trial *t, const char *name, mode_t mode)
{
    char *path = path_of(t, name);

    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chmod(path, mode), 0);
    free(path);
}

static int set_up(void **state)
{
    struct trial *t = calloc(1, sizeof(*t));
    char *path;

    assert_non_null(t);
    (void)snprintf(t->base, sizeof(t->base), "/tmp/test-records-XXXXXX");
    assert_non_null(mkdtemp(t->base));
    make_folder(t, "runtime", 0700);
    make_folder(t, "home", 0755);
    path = path_of(t, "runtime");
    (void)setenv("XDG_RUNTIME_DIR", path, 1);
    free(path);
    path = path_of(t, "home");
    (void)setenv("HOME", path, 1);
    free(path);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct trial *t = *state;
    char *command = string_format("rm -rf %s", t->base);
    int r = system(command); // NOLINT(cert-env33-c)

    free(command);
    free(t);
    return r;
}

static bool exists(const struct trial *t, const char *name)
{
    char *path = path_of(t, name);
    struct stat st;
    bool found = lstat(path, &st) == 0;

    free(path);
    return found;
}

/* Another process makes a record of these kernels and is killed. */
static void die_with(const char *url, const char *const *kernels)
{
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct records *r = records_new(url);
        for (; r && *kernels; kernels++) {
            records_add(r, *kernels);
        }
        (void)raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

/* Plants a file in the folder of records. */
static void plant(const struct trial *t, const char *name, const char *text, size_t size)
{
    char *path;
    FILE *file;

    if (!exists(t, "runtime/cellblock")) {
        make_folder(t, "runtime/cellblock", 0700);
    }
    path = string_format("%s/runtime/cellblock/%s", t->base, name);
    file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
    free(path);
}

static char *record_of(const char *host, const char *url, const char *rest)
{
    char here[HOST_NAME_MAX + 1] = "";

    assert_int_equal(gethostname(here, HOST_NAME_MAX), 0);
    return string_format("cellblock-kernels 1\nhost %s\nserver %s\n%s", host ? host : here, url,
                         rest);
}

static void plant_record(const struct trial *t, const char *host, const char *url, const char *rest)
{
    char *text = record_of(host, url, rest);

    plant(t, RECORD, text, strlen(text));
    free(text);
}

static const char *const two[] = {"kernel-1", "kernel-2", NULL};

/* ---- our own ---- */

static void test_a_record_is_there_while_a_kernel_is(void **state)
{
    struct trial *t = *state;
    struct records *r = records_new(URL);

    assert_non_null(r);
    assert_false(exists(t, "runtime/cellblock"));
    records_add(r, "kernel-1");
    records_add(r, "kernel-2");
    records_remove(r, "kernel-1");
    records_remove(r, "never-heard-of");
    assert_true(exists(t, "runtime/cellblock"));
    assert_int_equal(records_left(URL, t->left), 0); /* it is held */
    records_remove(r, "kernel-2");
    assert_false(exists(t, "runtime/cellblock"));
    records_add(r, "kernel-3");
    assert_true(exists(t, "runtime/cellblock"));
    records_free(r); /* the server did not delete it */
    assert_int_equal(records_left(URL, t->left), 1);
    assert_string_equal(t->left[0].kernels.list[0], "kernel-3");
    record_left_close(&t->left[0], true);
    assert_false(exists(t, "runtime/cellblock"));
}

static void test_the_home_is_used_where_there_is_no_runtime_folder(void **state)
{
    struct trial *t = *state;

    (void)unsetenv("XDG_RUNTIME_DIR");
    die_with(URL, two);
    assert_true(exists(t, "home/.local/state/cellblock"));
    assert_int_equal(records_left(URL, t->left), 1);
    record_left_close(&t->left[0], true);
    assert_false(exists(t, "home/.local/state/cellblock"));
}

static void test_a_folder_that_others_write_to_is_not_used(void **state)
{
    struct trial *t = *state;
    char *path = path_of(t, "runtime");

    assert_int_equal(chmod(path, 01777), 0);
    die_with(URL, two);
    assert_false(exists(t, "runtime/cellblock"));
    assert_true(exists(t, "home/.local/state/cellblock"));
    free(path);
    path = path_of(t, "home");
    assert_int_equal(chmod(path, 0777), 0);
    assert_int_equal(records_left(URL, t->left), 0);
    die_with(URL, two); /* nothing is recorded, and nothing else happens */
    free(path);
}

static void test_a_link_in_the_place_of_the_folder_is_not_followed(void **state)
{
    struct trial *t = *state;
    char *to = path_of(t, "elsewhere");
    char *link = path_of(t, "runtime/cellblock");

    make_folder(t, "elsewhere", 0700);
    assert_int_equal(symlink(to, link), 0);
    die_with(URL, two);
    assert_int_equal(rmdir(to), 0); /* it is empty */
    assert_int_equal(records_left(URL, t->left), 0);
    free(to);
    free(link);
}

static void test_more_than_the_cap_are_not_recorded(void **state)
{
    struct trial *t = *state;
    struct records *r = records_new(URL);
    char id[RECORD_ID_CAP + 2];

    for (int i = 0; i < RECORD_KERNELS_CAP + 10; i++) {
        (void)snprintf(id, sizeof(id), "%0*d", RECORD_ID_CAP, i);
        records_add(r, id);
    }
    (void)snprintf(id, sizeof(id), "%0*d", RECORD_ID_CAP + 1, 0);
    records_add(r, id);
    records_add(r, "no/id");
    records_free(r);
    assert_int_equal(records_left(URL, t->left), 1);
    assert_int_equal(t->left[0].kernels.count, RECORD_KERNELS_CAP);
    record_left_close(&t->left[0], true);
}

/* ---- those of the dead ---- */

static void test_a_dead_ones_is_found_and_held(void **state)
{
    struct trial *t = *state;
    struct record_left again[RECORDS_LEFT_CAP];

    die_with(URL, two);
    assert_int_equal(records_left(URL, t->left), 1);
    assert_int_equal(t->left[0].kernels.count, 2);
    assert_string_equal(t->left[0].kernels.list[0], "kernel-1");
    assert_string_equal(t->left[0].kernels.list[1], "kernel-2");
    assert_int_equal(records_left(URL, again), 0);
    record_left_close(&t->left[0], false);
    assert_int_equal(records_left(URL, again), 1);
    record_left_close(&again[0], true);
    assert_int_equal(records_left(URL, again), 0);
}

static void test_of_another_server_or_host(void **state)
{
    struct trial *t = *state;

    plant_record(t, NULL, URL "/other", "kernel a\nend\n");
    assert_int_equal(records_left(URL, t->left), 0);
    plant_record(t, "another-host.example", URL, "kernel a\nend\n");
    assert_int_equal(records_left(URL, t->left), 0);
    plant_record(t, NULL, URL, "kernel a\nend\nkern"); /* the rest of a longer one */
    assert_int_equal(records_left(URL, t->left), 1);
    record_left_close(&t->left[0], true);
}

static void test_user_and_password_are_not_written(void **state)
{
    struct trial *t = *state;

    die_with("https://user:pass@w0rd@host:1/p@th", two);
    assert_int_equal(records_left("https://host:1/p@th", t->left), 1);
    record_left_close(&t->left[0], false);
    assert_int_equal(records_left("https://other:secret@host:1/p@th", t->left), 1);
    record_left_close(&t->left[0], true);
}

static void test_what_is_no_record(void **state)
{
    static const char *const bad[] = {
        "",
        "kernel a\n", /* no end */
        "kernel ../../api/shutdown\nend\n",
        "kernel a b\nend\n",
        "kernel \nend\n",
        "server http://x\nend\n",
        "end\n", /* nothing in it */
    };
    struct trial *t = *state;
    char *many = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&many, &size);

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        plant_record(t, NULL, URL, bad[i]);
        assert_int_equal(records_left(URL, t->left), 0);
    }
    assert_non_null(out);
    for (int i = 0; i <= RECORD_KERNELS_CAP; i++) {
        (void)fputs("kernel a\n", out);
    }
    (void)fputs("end\n", out);
    assert_int_equal(fclose(out), 0);
    plant_record(t, NULL, URL, many);
    assert_int_equal(records_left(URL, t->left), 0);
    free(many);
    plant(t, RECORD, "cellblock-kernels 1\0\n", 21);
    assert_int_equal(records_left(URL, t->left), 0);
    plant(t, RECORD, "", 0); /* of one that was killed at its beginning */
    assert_int_equal(records_left(URL, t->left), 0);
    assert_false(exists(t, "runtime/cellblock/" RECORD));
}

static void test_one_that_is_too_long(void **state)
{
    struct trial *t = *state;
    char *text = record_of(NULL, URL, "kernel a\nend\n");
    char *padded = string_format("%-*s", RECORD_SIZE_CAP + 1, text);

    plant(t, RECORD, padded, RECORD_SIZE_CAP + 1);
    assert_int_equal(records_left(URL, t->left), 0);
    plant(t, RECORD, padded, RECORD_SIZE_CAP);
    assert_int_equal(records_left(URL, t->left), 1);
    record_left_close(&t->left[0], true);
    free(padded);
    free(text);
}

static void test_one_of_long_ago_is_forgotten(void **state)
{
    struct trial *t = *state;
    char *path = path_of(t, "runtime/cellblock/" RECORD);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - 29 * DAY}};

    plant_record(t, NULL, URL "/other", "kernel a\nend\n");
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(records_left(URL, t->left), 0);
    assert_true(exists(t, "runtime/cellblock/" RECORD));
    times[1].tv_sec -= 2 * DAY;
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(records_left(URL, t->left), 0);
    assert_false(exists(t, "runtime/cellblock/" RECORD));
    free(path);
}

static void test_links_and_pipes_are_none(void **state)
{
    struct trial *t = *state;
    char *path = path_of(t, "runtime/cellblock/" RECORD);
    char *other = path_of(t, "other");

    plant_record(t, NULL, URL, "kernel a\nend\n");
    assert_int_equal(link(path, other), 0);
    assert_int_equal(records_left(URL, t->left), 0); /* it has two names */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(other, path), 0);
    assert_int_equal(records_left(URL, t->left), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(records_left(URL, t->left), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(chmod(path, 0620), 0);
    assert_int_equal(records_left(URL, t->left), 0);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(records_left(URL, t->left), 1);
    record_left_close(&t->left[0], true);
    free(path);
    free(other);
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(test_a_record_is_there_while_a_kernel_is),
        WITH_FOLDER(test_the_home_is_used_where_there_is_no_runtime_folder),
        WITH_FOLDER(test_a_folder_that_others_write_to_is_not_used),
        WITH_FOLDER(test_a_link_in_the_place_of_the_folder_is_not_followed),
        WITH_FOLDER(test_more_than_the_cap_are_not_recorded),
        WITH_FOLDER(test_a_dead_ones_is_found_and_held),
        WITH_FOLDER(test_of_another_server_or_host),
        WITH_FOLDER(test_user_and_password_are_not_written),
        WITH_FOLDER(test_what_is_no_record),
        WITH_FOLDER(test_one_that_is_too_long),
        WITH_FOLDER(test_one_of_long_ago_is_forgotten),
        WITH_FOLDER(test_links_and_pipes_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
