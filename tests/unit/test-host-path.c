#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mcp/host_path.h"

/*
 * A folder with
 *   shared/file, shared/sub/file, shared/fifo, shared/inside -> sub, shared/outside -> ../secret,
 *   shared-not/file, secret/file, root-link -> shared
 */
struct world {
    char base[64];
    char *roots[2];
    struct config config;
};

static char path_space[512];

static const char *in(const struct world *w, const char *name)
{
    snprintf(path_space, sizeof(path_space), "%s/%s", w->base, name);
    return path_space;
}

static void make_file(const struct world *w, const char *name)
{
    int fd = open(in(w, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    snprintf(w->base, sizeof(w->base), "/tmp/cellblock-host-path-XXXXXX");
    assert_non_null(mkdtemp(w->base));
    assert_int_equal(mkdir(in(w, "shared"), 0700), 0);
    assert_int_equal(mkdir(in(w, "shared/sub"), 0700), 0);
    assert_int_equal(mkdir(in(w, "shared-not"), 0700), 0);
    assert_int_equal(mkdir(in(w, "secret"), 0700), 0);
    make_file(w, "shared/file");
    make_file(w, "shared/sub/file");
    make_file(w, "shared-not/file");
    make_file(w, "secret/file");
    assert_int_equal(mkfifo(in(w, "shared/fifo"), 0600), 0);
    assert_int_equal(symlink("sub", in(w, "shared/inside")), 0);
    assert_int_equal(symlink("../secret", in(w, "shared/outside")), 0);
    assert_int_equal(symlink("shared", in(w, "root-link")), 0);
    w->roots[0] = strdup(in(w, "shared"));
    w->config.share_roots = w->roots;
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"shared/file",    "shared/sub/file", "shared-not/file",
                                        "secret/file",    "shared/fifo",     "shared/inside",
                                        "shared/outside", "root-link",       "shared/sub",
                                        "shared",         "shared-not",      "secret"};
    struct world *w = *state;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)remove(in(w, names[i]));
    }
    assert_int_equal(rmdir(w->base), 0);
    free(w->roots[0]);
    free(w);
    return 0;
}

/* Opens and expects `resolved` (a name in the world). */
static void assert_opens(struct world *w, const json_t *roots, const char *name,
                         const char *resolved, bool is_directory)
{
    struct error err = {0};
    bool directory;
    char *path;
    int fd;

    if (host_path_open(&w->config, roots, in(w, name), &fd, &path, &directory, &err) < 0) {
        fail_msg("%s: %s", name, err.message);
    }
    assert_string_equal(path, in(w, resolved));
    assert_int_equal(directory, is_directory);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fd, F_GETFL) & O_PATH);
    close(fd);
    free(path);
}

static void assert_fails(struct world *w, const json_t *roots, const char *path,
                         enum error_kind kind, const char *says)
{
    struct error err = {0};
    bool directory;
    char *resolved;
    int fd = -7;

    assert_int_equal(host_path_open(&w->config, roots, path, &fd, &resolved, &directory, &err), -1);
    assert_int_equal(fd, -7);
    if (err.kind != kind || !strstr(err.message, says)) {
        fail_msg("%s: kind %d, \"%s\"", path, (int)err.kind, err.message);
    }
    error_clear(&err);
}

static void opens_what_lies_under_a_root(void **state)
{
    struct world *w = *state;

    assert_opens(w, NULL, "shared", "shared", true);
    assert_opens(w, NULL, "shared/file", "shared/file", false);
    assert_opens(w, NULL, "shared/sub/../file", "shared/file", false);
    assert_opens(w, NULL, "shared//sub/", "shared/sub", true);
}

static void follows_links_before_the_check(void **state)
{
    struct world *w = *state;

    assert_opens(w, NULL, "shared/inside/file", "shared/sub/file", false);
    assert_opens(w, NULL, "root-link/file", "shared/file", false);
    assert_fails(w, NULL, in(w, "shared/outside"), ERROR_REFUSED, w->roots[0]);
    assert_fails(w, NULL, in(w, "shared/outside/file"), ERROR_REFUSED, "symbolic links");
    assert_fails(w, NULL, in(w, "shared/../secret/file"), ERROR_REFUSED, "--share-root");
}

static void compares_whole_components(void **state)
{
    struct world *w = *state;

    assert_fails(w, NULL, in(w, "shared-not/file"), ERROR_REFUSED, "not under");
    assert_fails(w, NULL, "/", ERROR_REFUSED, "not under");
    assert_fails(w, NULL, w->base, ERROR_REFUSED, "not under");
}

static void says_which_flag_when_there_are_no_roots(void **state)
{
    struct world *w = *state;
    char *none[] = {NULL};

    w->config.share_roots = none;
    assert_fails(w, NULL, in(w, "shared/file"), ERROR_REFUSED, "--share-root DIR");
    w->config.share_roots = w->roots;
}

static void tells_nothing_of_what_is_outside(void **state)
{
    struct world *w = *state;

    assert_fails(w, NULL, in(w, "shared/none"), ERROR_NOT_FOUND, "does not exist");
    assert_fails(w, NULL, in(w, "secret/none"), ERROR_REFUSED, "not under");
    assert_fails(w, NULL, in(w, "shared/../secret/none"), ERROR_REFUSED, "not under");
    assert_fails(w, NULL, in(w, "secret/file"), ERROR_REFUSED, "not under");
}

static void takes_the_clients_roots(void **state)
{
    struct world *w = *state;
    json_t *roots = json_pack("[s s s]", "relative", "/does/not/exist", in(w, "secret"));
    json_t *linked = json_pack("[s]", in(w, "shared/outside"));
    json_t *everything = json_pack("[s]", "/");
    char *none[] = {NULL};

    assert_opens(w, roots, "secret/file", "secret/file", false);
    assert_opens(w, linked, "secret/file", "secret/file", false);
    assert_opens(w, linked, "shared/outside/file", "secret/file", false);
    assert_opens(w, everything, "shared-not/file", "shared-not/file", false);
    w->config.share_roots = none;
    assert_fails(w, roots, in(w, "shared/file"), ERROR_REFUSED, "/does/not/exist");
    w->config.share_roots = w->roots;
    json_decref(roots);
    json_decref(linked);
    json_decref(everything);
}

static void refuses_what_is_neither_file_nor_directory(void **state)
{
    struct world *w = *state;
    json_t *everything = json_pack("[s]", "/");

    assert_fails(w, NULL, in(w, "shared/fifo"), ERROR_INVALID, "neither a file nor a directory");
    assert_fails(w, everything, "/dev/null", ERROR_INVALID, "devices");
    assert_fails(w, NULL, "/dev/null", ERROR_REFUSED, "not under");
    json_decref(everything);
}

static void refuses_what_is_no_path(void **state)
{
    struct world *w = *state;
    char longest[5001];

    memset(longest, 'a', sizeof(longest) - 1);
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    assert_fails(w, NULL, "file", ERROR_INVALID, "absolute");
    assert_fails(w, NULL, "~/file", ERROR_INVALID, "absolute");
    assert_fails(w, NULL, "", ERROR_INVALID, "absolute");
    assert_fails(w, NULL, longest, ERROR_INVALID, "4096");
}

/* Names in /proc lead to things that have no path. */
static void refuses_descriptors_that_lead_to_no_path(void **state)
{
    struct world *w = *state;
    json_t *everything = json_pack("[s]", "/");
    char name[64];
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fds[0]);
    assert_fails(w, everything, name, ERROR_REFUSED, "not under");
    close(fds[0]);
    close(fds[1]);
    json_decref(everything);
}

static void a_swap_after_the_check_changes_nothing(void **state)
{
    struct world *w = *state;
    struct stat before, after;
    bool directory;
    char *path;
    int fd;

    assert_int_equal(
        host_path_open(&w->config, NULL, in(w, "shared/inside"), &fd, &path, &directory, NULL), 0);
    assert_int_equal(fstat(fd, &before), 0);
    assert_int_equal(unlink(in(w, "shared/inside")), 0);
    assert_int_equal(symlink("../secret", in(w, "shared/inside")), 0);
    assert_int_equal(fstat(fd, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    close(fd);
    free(path);
}

static void assert_parent(struct world *w, const char *name, const char *parent, const char *last)
{
    struct error err = {0};
    const char *found;
    char *path;
    int fd;

    if (host_path_open_parent(&w->config, NULL, in(w, name), &fd, &path, &found, &err) < 0) {
        fail_msg("%s: %s", name, err.message);
    }
    assert_string_equal(found, last);
    assert_string_equal(path, in(w, parent));
    assert_true(fcntl(fd, F_GETFL) & O_PATH);
    close(fd);
    free(path);
}

static void assert_no_parent(struct world *w, const char *name, enum error_kind kind,
                             const char *says)
{
    struct error err = {0};
    const char *found;
    char *path;
    int fd = -7;

    assert_int_equal(host_path_open_parent(&w->config, NULL, in(w, name), &fd, &path, &found, &err),
                     -1);
    assert_int_equal(fd, -7);
    if (err.kind != kind || !strstr(err.message, says)) {
        fail_msg("%s: kind %d, \"%s\"", name, (int)err.kind, err.message);
    }
    error_clear(&err);
}

static void something_new_needs_its_folder_under_a_root(void **state)
{
    struct world *w = *state;

    assert_parent(w, "shared/new", "shared", "new");
    assert_parent(w, "shared/file", "shared", "file");
    assert_parent(w, "shared/inside/...", "shared/sub", "...");
    assert_parent(w, "shared/outside", "shared", "outside");
    assert_no_parent(w, "shared", ERROR_REFUSED, "dest's folder");
    assert_no_parent(w, "shared/outside/new", ERROR_REFUSED, "symbolic links");
    assert_no_parent(w, "shared/../secret/new", ERROR_REFUSED, "--share-root");
    assert_no_parent(w, "shared/none/new", ERROR_NOT_FOUND, "does not exist");
    assert_no_parent(w, "shared/file/new", ERROR_INVALID, "is a file");
    assert_no_parent(w, "shared/fifo/new", ERROR_INVALID, "neither a file nor a directory");
    assert_no_parent(w, "shared/", ERROR_INVALID, "does not end in a name");
    assert_no_parent(w, "shared/sub/..", ERROR_INVALID, "does not end in a name");
    assert_no_parent(w, "shared/.", ERROR_INVALID, "does not end in a name");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_what_lies_under_a_root, set_up, tear_down),
        cmocka_unit_test_setup_teardown(follows_links_before_the_check, set_up, tear_down),
        cmocka_unit_test_setup_teardown(compares_whole_components, set_up, tear_down),
        cmocka_unit_test_setup_teardown(says_which_flag_when_there_are_no_roots, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tells_nothing_of_what_is_outside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(takes_the_clients_roots, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_what_is_neither_file_nor_directory, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(refuses_what_is_no_path, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_descriptors_that_lead_to_no_path, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(something_new_needs_its_folder_under_a_root, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_swap_after_the_check_changes_nothing, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
