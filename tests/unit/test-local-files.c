/* Operations on the files of a root that belongs to somebody else. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "tests/unit/local-files-trial.h"

enum { MANY = 3000, FILE_SIZE = 4096 };

/* ---- the ordinary way ---- */

static void test_what_is_written_is_read(void **state)
{
    struct trial *t = *state;

    assert_int_equal(write_to(t, "a/b/c.txt", "hello"), ERROR_NONE);
    assert_int_equal(t->reply.entry.size, 5);
    assert_int_equal(t->reply.entry.mode, 0644);
    assert_reads(t, "/workspace/a/b/c.txt", "hello");
    assert_reads(t, "a/./b/../b//c.txt", "hello");
    assert_reads(t, "/../../workspace/a/b/c.txt", "hello");
    assert_int_equal(read_from(t, "a/b/c.txt", 1, 3), ERROR_NONE);
    assert_memory_equal(t->reply.bytes, "ell", 3);
    assert_int_equal(t->reply.size, 3);
    assert_int_equal(t->reply.entry.size, 5);
    assert_int_equal(read_from(t, "a/b/c.txt", 100, 3), ERROR_NONE);
    assert_int_equal(t->reply.size, 0);
    assert_int_equal(read_from(t, "a/b/c.txt", INT64_MAX, UINT64_MAX), ERROR_NONE);
    assert_int_equal(simple(t, FILE_STAT, "a/b"), ERROR_NONE);
    assert_int_equal(t->reply.entry.type, FILE_DIRECTORY);
    assert_int_equal(t->reply.entry.mode, 0755);
    assert_int_equal(simple(t, FILE_STAT, "a/x"), ERROR_NOT_FOUND);
    assert_true(mentions(t, "\"a/x\""));
    assert_int_equal(simple(t, FILE_STAT, "a/b/c.txt/"), ERROR_INVALID);
    assert_int_equal(write_to(t, "a/b/", "x"), ERROR_INVALID);
    assert_int_equal(write_to(t, "a/b", "x"), ERROR_INVALID);
    assert_int_equal(read_from(t, "a", 0, 1), ERROR_INVALID);
    assert_int_equal(read_from(t, "a/.", 0, 1), ERROR_INVALID);
}

static void test_modes_are_kept_or_given(void **state)
{
    struct trial *t = *state;
    struct file_request request = {
        .op = FILE_WRITE, .path = "run.sh", .bytes = "1", .size = 1, .mode = 0751};

    assert_int_equal(ask(t, request), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0751);
    assert_int_equal(write_to(t, "run.sh", "23"), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0751);
    request.mode = 0600;
    request.append = true;
    assert_int_equal(ask(t, request), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0600);
    assert_int_equal(t->reply.entry.size, 3);
    assert_reads(t, "run.sh", "231");
    request.path = "new.log";
    assert_int_equal(ask(t, request), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0600);
    assert_int_equal(ask(t, (struct file_request){.op = FILE_MKDIR, .path = "p/q", .mode = 0700}),
                     ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0700);
    assert_int_equal(simple(t, FILE_STAT, "p"), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0755);
    assert_int_equal(simple(t, FILE_MKDIR, "p/q/"), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0700);
    assert_int_equal(simple(t, FILE_MKDIR, "run.sh"), ERROR_INVALID);
    assert_int_equal(simple(t, FILE_MKDIR, "run.sh/x"), ERROR_INVALID);
    assert_int_equal(entries_of(t->workspace), 3);
}

static void test_what_its_user_may_not(void **state)
{
    struct trial *t = *state;
    int fd = folder(t->workspace, "closed");
    struct stat before, after;

    put(fd, "file", "old", 0644);
    put(t->workspace, "none", "x", 0);
    put(t->workspace, "read", "x", 0444);
    assert_int_equal(fstatat(fd, "file", &before, 0), 0);
    assert_int_equal(fchmod(fd, 0555), 0);
    assert_int_equal(read_from(t, "none", 0, 1), ERROR_REFUSED);
    assert_int_equal(write_to(t, "read", "y"), ERROR_REFUSED);
    assert_int_equal(write_to(t, "closed/new", "y"), ERROR_REFUSED);
    assert_int_equal(simple(t, FILE_REMOVE, "closed/file"), ERROR_REFUSED);
    assert_int_equal(recursive(t, FILE_REMOVE, "closed"), ERROR_REFUSED);
    assert_true(mentions(t, "closed/file"));
    /* It cannot be replaced, but it may be written, as by a shell. */
    assert_int_equal(write_to(t, "closed/file", "new"), ERROR_NONE);
    assert_int_equal(fstatat(fd, "file", &after, 0), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_reads(t, "closed/file", "new");
    close(fd);
}

static void test_a_list_is_sorted_and_limited(void **state)
{
    struct trial *t = *state;
    static const char *const names[] = {"0", "1", "10", NULL};
    char name[16];
    int fd = folder(t->workspace, "many");

    for (int i = MANY; i-- > 0;) {
        (void)snprintf(name, sizeof(name), "%d", i);
        put(fd, name, "", 0600);
    }
    close(fd);
    for (int deep = 0; deep < 2; deep++) {
        assert_int_equal(ask(t, (struct file_request){.op = FILE_LIST,
                                                      .path = "many",
                                                      .limit = 3,
                                                      .recursive = deep > 0}),
                         ERROR_NONE);
        assert_true(t->reply.more);
        assert_int_equal(t->reply.count, 3);
        for (int i = 0; i < 3; i++) {
            assert_string_equal(t->reply.entries[i].name, names[i]);
        }
    }
    assert_int_equal(ask(t, (struct file_request){.op = FILE_LIST, .path = "many", .limit = MANY}),
                     ERROR_NONE);
    assert_false(t->reply.more);
    assert_int_equal(t->reply.count, MANY);
    assert_int_equal(t->reply.entries[0].type, FILE_REGULAR);
    assert_int_equal(t->reply.entries[0].mode, 0600);
}

static void test_a_tree_is_listed_from_its_top_on(void **state)
{
    struct trial *t = *state;
    static const char *const names[] = {"a", "a.txt", "a/b", "a/b/c", "l"};

    assert_int_equal(write_to(t, "top/a/b/c", "xyz"), ERROR_NONE);
    assert_int_equal(write_to(t, "top/a.txt", ""), ERROR_NONE);
    assert_int_equal(symlinkat("../../../outside", t->workspace, "top/l"), 0);
    assert_int_equal(recursive(t, FILE_LIST, "top"), ERROR_NONE);
    assert_int_equal(t->reply.count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(t->reply.entries[i].name, names[i]);
    }
    assert_int_equal(t->reply.entries[3].size, 3);
    assert_string_equal(t->reply.entries[4].target, "../../../outside");
    assert_int_equal(t->reply.entries[4].size, 16);
    assert_int_equal(simple(t, FILE_LIST, "top/a.txt"), ERROR_INVALID);
    assert_int_equal(simple(t, FILE_LIST, "/"), ERROR_NONE);
    assert_int_equal(t->reply.count, 4);
}

static void test_names_may_be_any_bytes(void **state)
{
    struct trial *t = *state;
    static const char *const names[] = {"a\nb", "caf\xe9", "\xf0\x9f\x98\x80", NULL};

    for (int i = 0; names[i]; i++) {
        assert_int_equal(write_to(t, names[i], "x"), ERROR_NONE);
        assert_reads(t, names[i], "x");
    }
    assert_lists(t, ".", names);
    assert_int_equal(simple(t, FILE_STAT, "x\n\xff\\"), ERROR_NOT_FOUND);
    assert_true(mentions(t, "\"x\\n\\xff\\\\\""));
}

static void test_names_as_text(void **state)
{
    static const char *const pairs[][2] = {
        {"plain \xc3\xa9", "plain \xc3\xa9"},
        {"\t\r\n\\", "\\t\\r\\n\\\\"},
        {"\x1b[2J", "\\x1b[2J"},
        {"\xc2\x85", "\\xc2\\x85"},          /* a control character beyond ASCII */
        {"\xe2\x80\xae", "\\xe2\\x80\\xae"}, /* turns the line around */
        {"\xc0\xaf\xed\xa0\x80", "\\xc0\\xaf\\xed\\xa0\\x80"}, /* too long, a surrogate */
        {"\xf0\x9f\x98", "\\xf0\\x9f\\x98"},
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char *text = file_name_text(pairs[i][0]);
        char *name = NULL;
        assert_string_equal(text, pairs[i][1]);
        assert_int_equal(file_name_parse(text, &name, NULL), 0);
        assert_string_equal(name, pairs[i][0]);
        free(name);
        free(text);
    }
}

/* Every byte comes back, alone and beside another. */
static void test_names_there_and_back(void **state)
{
    char bytes[3] = "", *text, *name;

    (void)state;
    for (unsigned i = 1; i < 256; i++) {
        for (unsigned j = 0; j < 256; j++) {
            bytes[0] = (char)i;
            bytes[1] = (char)j;
            text = file_name_text(bytes);
            assert_int_equal(file_name_parse(text, &name, NULL), 0);
            assert_string_equal(name, bytes);
            free(name);
            free(text);
        }
    }
}

static void test_escapes_that_are_none(void **state)
{
    static const char *const wrong[] = {"a\\",   "\\q",   "\\x", "\\x1",
                                        "\\x1g", "\\xg1", "\\N", "\\x00"};
    struct error err = {0};
    char *name = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(file_name_parse(wrong[i], &name, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_null(name);
        error_clear(&err);
    }
}

static void test_removing(void **state)
{
    struct trial *t = *state;
    static const char *const none[] = {NULL};

    assert_int_equal(write_to(t, "d/e/f", "x"), ERROR_NONE);
    assert_int_equal(write_to(t, "file", "x"), ERROR_NONE);
    assert_int_equal(symlinkat("d", t->workspace, "l"), 0);
    assert_int_equal(simple(t, FILE_REMOVE, "file"), ERROR_NONE);
    assert_int_equal(simple(t, FILE_REMOVE, "file"), ERROR_NOT_FOUND);
    assert_int_equal(simple(t, FILE_REMOVE, "l"), ERROR_NONE);
    assert_reads(t, "d/e/f", "x");
    assert_int_equal(simple(t, FILE_REMOVE, "d"), ERROR_INVALID);
    assert_true(mentions(t, "recursive"));
    assert_int_equal(recursive(t, FILE_REMOVE, "d/e/.."), ERROR_NONE);
    assert_lists(t, ".", none);
    assert_int_equal(simple(t, FILE_MKDIR, "empty"), ERROR_NONE);
    assert_int_equal(simple(t, FILE_REMOVE, "empty/"), ERROR_NONE);
    assert_int_equal(recursive(t, FILE_REMOVE, "/"), ERROR_REFUSED);
    assert_int_equal(recursive(t, FILE_REMOVE, "/workspace"), ERROR_REFUSED);
    assert_int_equal(recursive(t, FILE_REMOVE, "."), ERROR_REFUSED);
}

static void test_copying(void **state)
{
    struct trial *t = *state;
    struct timespec times[2] = {{.tv_sec = 1000, .tv_nsec = 5}, {.tv_sec = 2000, .tv_nsec = 7}};
    static const char *const names[] = {"d", "e", "f", "g", NULL};

    assert_int_equal(write_to(t, "d/sub/file", "text"), ERROR_NONE);
    assert_int_equal(symlinkat("/etc/passwd", t->workspace, "d/link"), 0);
    assert_int_equal(fchmodat(t->workspace, "d/sub/file", 0751, 0), 0);
    assert_int_equal(utimensat(t->workspace, "d/sub/file", times, 0), 0);
    assert_int_equal(fchmodat(t->workspace, "d/sub", 0555, 0), 0);
    assert_int_equal(utimensat(t->workspace, "d/sub", times, 0), 0);
    assert_int_equal(pair(t, FILE_COPY, "d", "e"), ERROR_NONE);
    assert_int_equal(t->reply.entry.type, FILE_DIRECTORY);
    assert_int_equal(simple(t, FILE_STAT, "e/sub/file"), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0751);
    assert_int_equal(t->reply.entry.mtime_ns, 2000000000007);
    assert_int_equal(simple(t, FILE_STAT, "e/sub"), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0555);
    assert_int_equal(t->reply.entry.mtime_ns, 2000000000007);
    assert_int_equal(simple(t, FILE_STAT, "e/link"), ERROR_NONE);
    assert_string_equal(t->reply.entry.target, "/etc/passwd");
    assert_int_equal(pair(t, FILE_COPY, "d", "e"), ERROR_INVALID);
    assert_true(mentions(t, "dest \"e\""));
    assert_int_equal(replacing(t, FILE_COPY, "d", "h"), ERROR_INVALID); /* not recursive */
    assert_int_equal(pair(t, FILE_COPY, "d", "d/sub/x"), ERROR_INVALID);
    assert_int_equal(pair(t, FILE_COPY, "/", "x"), ERROR_INVALID);
    assert_int_equal(pair(t, FILE_COPY, "d/sub/file", "f"), ERROR_NONE);
    assert_int_equal(write_to(t, "g", "old"), ERROR_NONE);
    assert_int_equal(pair(t, FILE_COPY, "f", "g"), ERROR_INVALID);
    assert_int_equal(replacing(t, FILE_COPY, "f", "g"), ERROR_NONE);
    assert_reads(t, "g", "text");
    assert_int_equal(replacing(t, FILE_COPY, "g", "g"), ERROR_INVALID);
    assert_int_equal(
        ask(t,
            (struct file_request){
                .op = FILE_COPY, .path = "d/sub", .dest = "e", .recursive = true, .replace = true}),
        ERROR_NONE);
    assert_reads(t, "e/file", "text");
    assert_int_equal(simple(t, FILE_STAT, "e/sub"), ERROR_NOT_FOUND);
    assert_int_equal(pair(t, FILE_COPY, "f", "missing/g"), ERROR_NOT_FOUND);
    assert_true(mentions(t, "dest"));
    assert_lists(t, ".", names);
}

static void test_moving(void **state)
{
    struct trial *t = *state;
    static const char *const names[] = {"d", "moved", NULL};

    assert_int_equal(write_to(t, "d/e/f", "x"), ERROR_NONE);
    assert_int_equal(write_to(t, "a", "a"), ERROR_NONE);
    assert_int_equal(pair(t, FILE_MOVE, "d/e", "moved"), ERROR_NONE);
    assert_reads(t, "moved/f", "x");
    assert_int_equal(pair(t, FILE_MOVE, "a", "moved/f"), ERROR_INVALID);
    assert_int_equal(replacing(t, FILE_MOVE, "a", "moved/f"), ERROR_NONE);
    assert_reads(t, "moved/f", "a");
    assert_int_equal(pair(t, FILE_MOVE, "moved", "moved"), ERROR_INVALID);
    assert_int_equal(replacing(t, FILE_MOVE, "moved/f", "moved"), ERROR_INVALID); /* around it */
    assert_int_equal(replacing(t, FILE_MOVE, "moved", "moved/f/x"), ERROR_INVALID);
    assert_int_equal(pair(t, FILE_MOVE, "none", "x"), ERROR_NOT_FOUND);
    assert_lists(t, ".", names);
    /* What is replaced may be a tree, or of another kind. */
    assert_int_equal(write_to(t, "d/old/x", "x"), ERROR_NONE);
    assert_int_equal(replacing(t, FILE_MOVE, "moved", "d"), ERROR_NONE);
    assert_int_equal(simple(t, FILE_LIST, "d"), ERROR_NONE);
    assert_int_equal(t->reply.count, 1);
    assert_reads(t, "d/f", "a");
    assert_int_equal(write_to(t, "file", "f"), ERROR_NONE);
    assert_int_equal(replacing(t, FILE_MOVE, "file", "d"), ERROR_NONE);
    assert_reads(t, "d", "f");
    assert_int_equal(simple(t, FILE_MKDIR, "new"), ERROR_NONE);
    assert_int_equal(pair(t, FILE_MOVE, "d", "x/"), ERROR_INVALID);
    assert_int_equal(pair(t, FILE_MOVE, "new", "newer/"), ERROR_NONE);
    assert_int_equal(entries_of(t->workspace), 2);
}

/* ---- limits ---- */

static void make_deep(const struct trial *t, int depth)
{
    int at = folder(t->workspace, "deep");

    for (int i = 0; i < depth; i++) {
        int next = folder(at, "d");
        close(at);
        at = next;
    }
    close(at);
}

static void test_trees_of_any_depth(void **state)
{
    struct trial *t = *state;

    make_deep(t, FILE_DEPTH_CAP);
    assert_int_equal(recursive(t, FILE_LIST, "deep"), ERROR_NONE);
    assert_int_equal(t->reply.count, FILE_DEPTH_CAP);
    assert_false(t->reply.more);
    assert_int_equal(pair(t, FILE_COPY, "deep", "copy"), ERROR_NONE);
    assert_int_equal(recursive(t, FILE_REMOVE, "copy"), ERROR_NONE);
    assert_int_equal(pair(t, FILE_MOVE, "deep", "top"), ERROR_NONE);
    make_deep(t, 0);
    assert_int_equal(pair(t, FILE_MOVE, "top", "deep/d"), ERROR_NONE);
    assert_int_equal(recursive(t, FILE_LIST, "deep"), ERROR_NONE);
    assert_true(t->reply.more);
    assert_int_equal(t->reply.count, FILE_DEPTH_CAP + 1);
    assert_int_equal(pair(t, FILE_COPY, "deep", "copy"), ERROR_LIMIT);
    assert_int_equal(recursive(t, FILE_REMOVE, "deep"), ERROR_LIMIT); /* and nothing is gone */
    assert_int_equal(recursive(t, FILE_LIST, "deep"), ERROR_NONE);
    assert_int_equal(t->reply.count, FILE_DEPTH_CAP + 1);
    assert_int_equal(simple(t, FILE_LIST, "deep"), ERROR_NONE);
    assert_int_equal(recursive(t, FILE_REMOVE, "deep/d"), ERROR_NONE);
}

static void test_what_does_not_fit_changes_nothing(void **state)
{
    struct trial *t = *state;
    static char big[2 * FILE_SIZE + 1];
    struct rlimit before, small;
    struct file_request append = {.op = FILE_WRITE,
                                  .path = "file",
                                  .bytes = big,
                                  .size = sizeof(big) - 1,
                                  .append = true,
                                  .mode = -1};

    memset(big, 'x', sizeof(big) - 1);
    assert_int_equal(write_to(t, "file", "old"), ERROR_NONE);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){.rlim_cur = FILE_SIZE, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(ask(t, append), ERROR_LIMIT);
    assert_int_equal(write_to(t, "file", big), ERROR_LIMIT);
    append.path = "new";
    assert_int_equal(ask(t, append), ERROR_LIMIT);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_reads(t, "file", "old");
    assert_int_equal(entries_of(t->workspace), 1);
}

static void test_stopping(void **state)
{
    struct trial *t = *state;

    assert_int_equal(write_to(t, "d/x", "x"), ERROR_NONE);
    t->job.stop = true;
    assert_int_equal(recursive(t, FILE_REMOVE, "d"), ERROR_LOST);
    assert_int_equal(pair(t, FILE_COPY, "d", "e"), ERROR_LOST);
    assert_int_equal(simple(t, FILE_LIST, "d"), ERROR_LOST);
}

static void test_requests_are_checked(void **state)
{
    static char long_path[FILE_PATH_CAP + 2];
    struct error err = {0};
    const struct file_request bad[] = {
        {.op = FILE_STAT},
        {.op = FILE_STAT, .path = ""},
        {.op = FILE_STAT, .path = long_path},
        {.op = FILE_COPY, .path = "a"},
        {.op = FILE_MOVE, .path = "a", .dest = ""},
        {.op = FILE_LIST, .path = "a"},
        {.op = FILE_LIST, .path = "a", .limit = FILE_LIST_CAP + 1},
        {.op = FILE_WRITE, .path = "a", .mode = 01000},
        {.op = FILE_MKDIR, .path = "a", .mode = -2},
        {.op = FILE_READ, .path = "a", .offset = UINT64_MAX},
        {.op = (enum file_op)99, .path = "a"},
    };
    const struct file_request big = {.op = FILE_WRITE, .path = "a", .size = FILE_WRITE_CAP + 1};

    (void)state;
    memset(long_path, 'x', sizeof(long_path) - 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(file_request_check(&bad[i], &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
    }
    assert_int_equal(file_request_check(&big, &err), -1);
    assert_int_equal(err.kind, ERROR_LIMIT);
    error_clear(&err);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_what_is_written_is_read),
        CASE(test_modes_are_kept_or_given),
        CASE(test_what_its_user_may_not),
        CASE(test_a_list_is_sorted_and_limited),
        CASE(test_a_tree_is_listed_from_its_top_on),
        CASE(test_names_may_be_any_bytes),
        cmocka_unit_test(test_names_as_text),
        cmocka_unit_test(test_names_there_and_back),
        cmocka_unit_test(test_escapes_that_are_none),
        CASE(test_removing),
        CASE(test_copying),
        CASE(test_moving),
        CASE(test_trees_of_any_depth),
        CASE(test_what_does_not_fit_changes_nothing),
        CASE(test_stopping),
        cmocka_unit_test(test_requests_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
