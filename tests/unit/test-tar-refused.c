/* What does not get into an archive. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/tar-trial.h"

/* ---- what is refused ---- */

static void put_socket(struct scene *s, const char *name)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s", s->top, name);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    close(fd);
}

static void test_only_files_folders_links(void **state)
{
    static const char rule[] = "is neither a file, a folder nor a link";
    const struct tar_options options = {.name = "x"};
    struct scene *s = *state;
    assert_int_equal(mkdirat(s->dir, "tree", 0755), 0);
    assert_int_equal(mkfifoat(s->dir, "pipe", 0644), 0);
    put_socket(s, "socket");
    assert_fails(s, "pipe", &options, ERROR_INVALID, rule);
    s->taker = (struct taker){0};
    assert_fails(s, "socket", &options, ERROR_INVALID, rule);
    s->taker = (struct taker){0};
    put_socket(s, "tree/within");
    assert_fails(s, "tree", &options, ERROR_INVALID, "x/within is neither");
}

/* Root reads no more than its mode allows. */
static void test_unreadable(void **state)
{
    const struct tar_options options = {.name = "x"};
    struct scene *s = *state;
    struct error err = {0};
    put_file(s->dir, "secret", "x", 0);
    assert_fails(s, "secret", &options, ERROR_REFUSED, "may not read");
    s->taker = (struct taker){0};
    assert_int_equal(mkdirat(s->dir, "tree", 0755), 0);
    put_file(s->dir, "tree/secret", "x", 0);
    assert_fails(s, "tree", &options, ERROR_REFUSED, "x/secret: Permission denied");
    s->taker = (struct taker){0};
    assert_int_equal(fchmodat(s->dir, "tree", 0, 0), 0);
    assert_fails(s, "tree", &options, ERROR_REFUSED, "may not read");

    struct share *share = share_of(s, "secret");
    assert_int_equal(tar_check(share, &err), -1);
    assert_int_equal(err.kind, ERROR_REFUSED);
    assert_non_null(strstr(err.message, "may not read"));
    error_clear(&err);
    assert_int_equal(fchmodat(s->dir, "secret", 0400, 0), 0);
    assert_int_equal(tar_check(share, &err), 0);
    share_free(share);
}

/* The check gives back what it laid down: where root could read before it can afterwards. */
static void test_the_check_keeps_privilege(void **state)
{
    struct scene *s = *state;
    put_file(s->dir, "secret", "x", 0);
    int before = openat(s->dir, "secret", O_RDONLY | O_CLOEXEC);
    struct share *share = share_of(s, "secret");
    assert_int_equal(tar_check(share, NULL), -1);
    int after = openat(s->dir, "secret", O_RDONLY | O_CLOEXEC);
    assert_int_equal(before >= 0, after >= 0);
    if (before >= 0) {
        close(before);
        close(after);
    }
    share_free(share);
}

static void test_limit(void **state)
{
    struct scene *s = *state;
    assert_int_equal(mkdirat(s->dir, "tree", 0755), 0);
    put_sparse(s->dir, "tree/a", 1000);
    put_sparse(s->dir, "tree/b", 1000);
    take_all(s, "tree", &(struct tar_options){.name = "x", .limit = 2000});
    finish(&s->taker);
    s->taker = (struct taker){0};
    assert_fails(s, "tree", &(struct tar_options){.name = "x", .limit = 1999}, ERROR_LIMIT,
                 "disk limit was reached");
}

static void test_too_deep(void **state)
{
    struct scene *s = *state;
    int dir = dup(s->dir);
    assert_int_equal(mkdirat(dir, "tree", 0755), 0);
    for (int i = 0; i <= TAR_DEPTH_CAP + 1; i++) {
        int next = openat(dir, i == 0 ? "tree" : "d", O_RDONLY | O_DIRECTORY);
        close(dir);
        dir = next;
        assert_int_equal(mkdirat(dir, "d", 0755), 0);
    }
    close(dir);
    assert_fails(s, "tree", &(struct tar_options){.name = "x"}, ERROR_LIMIT, "deeper than 256");
}

/* Holds the taker after a piece, changes the file, and goes on. */
static void assert_change_is_told(struct scene *s, off_t size)
{
    struct taker *t = &s->taker;
    *t = (struct taker){.hold = 1};
    unlinkat(s->dir, "data", 0);
    put_sparse(s->dir, "data", 1 << 20);
    begin(s, "data", &(struct tar_options){.name = "x"});
    turn(t, &t->pieces, 1, LIMIT_MS);
    int fd = openat(s->dir, "data", O_WRONLY);
    assert_int_equal(ftruncate(fd, size), 0);
    if (size == 1 << 20) {
        assert_int_equal(pwrite(fd, "y", 1, 0), 1);
    }
    close(fd);
    t->hold = 0;
    tar_writer_next(t->writer);
    turn(t, &t->ended, 1, LIMIT_MS);
    assert_int_equal(t->err.kind, ERROR_INVALID);
    assert_non_null(strstr(t->err.message, "changed while it was read"));
    finish(t);
}

static void test_a_file_that_changes(void **state)
{
    struct scene *s = *state;
    assert_change_is_told(s, 1000);    /* shorter */
    assert_change_is_told(s, 2 << 20); /* longer */
    assert_change_is_told(s, 1 << 20); /* other bytes */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_files_folders_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unreadable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_check_keeps_privilege, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_deep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_that_changes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
