#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "backends/local/copy.h"

/* Two folders: what is copied from, and a sandbox's root. */
struct folders {
    char top[64];
    int source;
    int root;
};

static int set_up(void **state)
{
    struct folders *f = calloc(1, sizeof(*f));
    strcpy(f->top, "/tmp/test-copy-XXXXXX");
    assert_non_null(mkdtemp(f->top));
    int top = open(f->top, O_RDONLY | O_DIRECTORY);
    assert_int_equal(mkdirat(top, "source", 0755), 0);
    assert_int_equal(mkdirat(top, "root", 0755), 0);
    f->source = openat(top, "source", O_RDONLY | O_DIRECTORY);
    f->root = openat(top, "root", O_RDONLY | O_DIRECTORY);
    close(top);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct folders *f = *state;
    char command[256];
    close(f->source);
    close(f->root);
    snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", f->top, f->top);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a fixed name of our own
    free(f);
    return 0;
}

static void put_file(int dir, const char *name, const char *text, mode_t mode)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void assert_file(int dir, const char *name, const char *text, mode_t mode)
{
    char space[64] = "";
    struct stat st;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW);
    assert_true(fd >= 0);
    assert_true(read(fd, space, sizeof(space) - 1) >= 0);
    assert_string_equal(space, text);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, mode);
    close(fd);
}

/* Copies source/NAME to `dest`; what copy_in answered. */
static int copy(struct folders *f, const char *name, const char *dest, struct error *err)
{
    struct copy c = {.root_fd = f->root, .dest = dest, .source = name, .uid = geteuid()};
    c.source_fd = openat(f->source, name, O_PATH | O_NOFOLLOW);
    assert_true(c.source_fd >= 0);
    int r = copy_in(&c, err);
    close(c.source_fd);
    return r;
}

static void test_file(void **state)
{
    struct folders *f = *state;
    struct error err = {0};
    put_file(f->source, "data.csv", "a,b\n", 04555);
    assert_int_equal(copy(f, "data.csv", "/deep/er/copy.csv", &err), 0);
    /* The sandbox's own: writable, without set-id bits. */
    assert_file(f->root, "deep/er/copy.csv", "a,b\n", 0755);
}

static void test_tree(void **state)
{
    struct folders *f = *state;
    struct error err = {0};
    assert_int_equal(mkdirat(f->source, "tree", 0755), 0);
    assert_int_equal(mkdirat(f->source, "tree/empty", 0700), 0);
    put_file(f->source, "tree/one", "1", 0644);
    assert_int_equal(symlinkat("/etc/hostname", f->source, "tree/link"), 0);
    assert_int_equal(copy(f, "tree", "/workspace/tree", &err), 0);
    assert_file(f->root, "workspace/tree/one", "1", 0644);
    char target[64] = "";
    assert_int_equal(readlinkat(f->root, "workspace/tree/link", target, sizeof(target)), 13);
    assert_string_equal(target, "/etc/hostname");
    assert_int_equal(faccessat(f->root, "workspace/tree/empty", X_OK, 0), 0);
}

static void assert_refused(struct folders *f, const char *name, const char *dest,
                           enum error_kind kind, const char *part)
{
    struct error err = {0};
    assert_int_equal(copy(f, name, dest, &err), -1);
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, part)) {
        fail_msg("\"%s\" is not in: %s", part, err.message);
    }
    error_clear(&err);
}

static void test_existing_dest(void **state)
{
    struct folders *f = *state;
    put_file(f->source, "data", "new", 0644);
    put_file(f->root, "there", "old", 0644);
    assert_refused(f, "data", "/there", ERROR_INVALID, "exists in the sandbox already");
    assert_file(f->root, "there", "old", 0644);
}

/* What the code in the sandbox may have put in the way. */
static void test_links_in_the_way(void **state)
{
    struct folders *f = *state;
    struct stat st;
    put_file(f->source, "data", "x", 0644);
    assert_int_equal(mkdirat(f->source, "outside", 0755), 0);
    assert_int_equal(symlinkat("../source/outside", f->root, "out"), 0);
    assert_refused(f, "data", "/out/data", ERROR_INVALID, "Not a directory");
    assert_int_equal(fstatat(f->source, "outside/data", &st, 0), -1);
    assert_int_equal(errno, ENOENT);
}

static void test_only_files_folders_links(void **state)
{
    struct folders *f = *state;
    struct stat st;
    assert_int_equal(mkdirat(f->source, "tree", 0755), 0);
    assert_int_equal(mkfifoat(f->source, "tree/pipe", 0644), 0);
    assert_refused(f, "tree", "/tree", ERROR_INVALID,
                   "pipe is neither a file, a folder nor a link");
    assert_int_equal(fstatat(f->root, "tree", &st, 0), -1); /* nothing half made */
    assert_int_equal(fstatat(f->root, ".cellblock-copy-in-progress", &st, 0), -1);
}

static void test_stopped(void **state)
{
    struct folders *f = *state;
    struct error err = {0};
    put_file(f->source, "data", "x", 0644);
    struct copy c = {.root_fd = f->root, .dest = "/data", .source = "data", .stop = true};
    c.source_fd = openat(f->source, "data", O_PATH);
    assert_int_equal(copy_in(&c, &err), -1);
    assert_non_null(err.message);
    error_clear(&err);
    close(c.source_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tree, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_existing_dest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_links_in_the_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_files_folders_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopped, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
