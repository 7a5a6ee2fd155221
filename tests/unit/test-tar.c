/* What tar archives hold, and their pace. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/tar-trial.h"

/* ---- what is in it ---- */

static void test_a_file(void **state)
{
    struct scene *s = *state;
    struct found f;
    const struct timespec times[2] = {{.tv_sec = 5}, {.tv_sec = 1234567890, .tv_nsec = 123456789}};
    put_file(s->dir, "data.csv", "a,b\n", 04455);
    assert_int_equal(utimensat(s->dir, "data.csv", times, 0), 0);
    take_all(s, "data.csv", &(struct tar_options){.name = "copy.csv", .uid = 4321, .gid = 99});
    find_kept(s, "copy.csv", &f);
    /* The sandbox's own: writable, without set-id bits. */
    assert_int_equal(f.mode, S_IFREG | 0655);
    assert_int_equal(f.size, 4);
    assert_string_equal(f.text, "a,b\n");
    assert_int_equal(f.uid, 4321);
    assert_int_equal(f.gid, 99);
    assert_int_equal(f.mtime, 1234567890);
    assert_int_equal(f.mtime_ns, 123456789);
    finish(&s->taker);
}

static void make_tree(struct scene *s, const char *long_name)
{
    assert_int_equal(mkdirat(s->dir, "tree", 0755), 0);
    int tree = openat(s->dir, "tree", O_RDONLY | O_DIRECTORY);
    assert_int_equal(mkdirat(tree, "empty", 0750), 0);
    assert_int_equal(mkdirat(tree, "sub", 0555 | 0200), 0);
    put_file(tree, "sub/one", "1", 0644);
    put_file(tree, "zero", "", 0600);
    put_file(tree, "tool", "#!/bin/sh\necho ran\n", 0755);
    put_file(tree, "n\xc3\xa4me with spaces\n\xf0\x9f\x90\x8d", "odd", 0644);
    put_file(tree, "raw\xff\xfe", "raw", 0644);
    put_file(tree, long_name, "long", 0644);
    assert_int_equal(symlinkat("/etc/hostname", tree, "link"), 0);
    assert_int_equal(symlinkat("sub/one", tree, "inside"), 0);
    assert_int_equal(symlinkat("n\xc3\xa4me", tree, "dangling"), 0);
    close(tree);
}

static void test_a_tree(void **state)
{
    struct scene *s = *state;
    struct found f;
    char long_name[251];
    char path[300];
    uint64_t bytes, files;
    memset(long_name, 'l', 250);
    long_name[250] = '\0';
    make_tree(s, long_name);
    take_all(s, "tree", &(struct tar_options){.name = "top"});
    find_kept(s, "top/", &f);
    assert_int_equal(f.mode, S_IFDIR | 0755);
    find_kept(s, "top/empty/", &f);
    assert_int_equal(f.mode, S_IFDIR | 0750);
    find_kept(s, "top/sub/", &f);
    assert_int_equal(f.mode, S_IFDIR | 0755);
    find_kept(s, "top/link", &f);
    assert_int_equal(f.mode & S_IFMT, S_IFLNK);
    assert_string_equal(f.link, "/etc/hostname");
    find_kept(s, "top/inside", &f);
    assert_string_equal(f.link, "sub/one");
    find_kept(s, "top/dangling", &f);
    assert_string_equal(f.link, "n\xc3\xa4me");
    find_kept(s, "top/raw\xff\xfe", &f);
    assert_string_equal(f.text, "raw");
    snprintf(path, sizeof(path), "top/%s", long_name);
    find_kept(s, path, &f);
    assert_string_equal(f.text, "long");
    tar_writer_progress(s->taker.writer, &bytes, &files);
    assert_int_equal(bytes, 1 + 19 + 3 + 3 + 4);
    assert_int_equal(files, 9);
    finish(&s->taker);
}

/* What other programs make of it. */
static void test_other_programs(void **state)
{
    static const char *const programs[] = {
        "tar -C out -xpf archive.tar",
        "python3 -c \"import tarfile; tarfile.open('archive.tar', 'r|').extractall('out')\"",
    };
    struct scene *s = *state;
    make_tree(s, "long");
    take_all(s, "tree", &(struct tar_options){.name = "tree", .uid = getuid(), .gid = getgid()});
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        unpack(s, programs[i], "out");
        char command[512];
        /* Python leaves the times of links as they come. */
        snprintf(
            command, sizeof(command),
            "facts() { (cd $1 && find . -exec sh -c 'for i do test -L \"$i\" && readlink \"$i\" "
            "|| stat -c \"%%a %%Y %%n\" \"$i\"; done' x {} + | LC_ALL=C sort | od -c); }; "
            "cd %s && diff -r --no-dereference tree out/tree && "
            "test \"$(facts tree)\" = \"$(facts out/tree)\" && rm -rf out",
            s->top);
        assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a fixed command
    }
    finish(&s->taker);
}

/* More than fits in the eleven octal digits of the oldest tar. */
static void test_a_huge_file(void **state)
{
    struct scene *s = *state;
    struct taker *t = &s->taker;
    struct found f;
    put_sparse(s->dir, "huge", 9ll << 30);
    t->hold = 2;
    begin(s, "huge", &(struct tar_options){.name = "huge"});
    turn(t, &t->pieces, 2, LIMIT_MS);
    find_kept(s, "huge", &f);
    assert_int_equal(f.size, 9ll << 30);
    finish(t);
    assert_int_equal(t->ended, 0);
}

static long peak_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static void test_is_never_all_in_memory(void **state)
{
    struct scene *s = *state;
    struct taker *t = &s->taker;
    put_sparse(s->dir, "large", 400 << 20);
    t->discard = true;
    long before = peak_kib();
    take_all(s, "large", &(struct tar_options){.name = "large"});
    assert_true(t->size > 400 << 20 && t->size < (400 << 20) + 16384);
    assert_true(peak_kib() - before < 8192);
    finish(t);
}

/* ---- pace and closing ---- */

static void test_the_taker_sets_the_pace(void **state)
{
    struct scene *s = *state;
    struct taker *t = &s->taker;
    unsigned never = 0;
    put_sparse(s->dir, "large", 1 << 20);
    t->hold = 3;
    begin(s, "large", &(struct tar_options){.name = "large"});
    turn(t, &t->pieces, 3, LIMIT_MS);
    turn(t, &never, 1, 50);
    assert_int_equal(t->pieces, 3);
    assert_int_equal(t->ended, 0);
    t->hold = 9;
    tar_writer_next(t->writer);
    turn(t, &t->pieces, 9, LIMIT_MS);
    turn(t, &never, 1, 20);
    assert_int_equal(t->ended, 0); /* the last piece is still with the taker */
    tar_writer_next(t->writer);
    turn(t, &t->ended, 1, LIMIT_MS);
    assert_int_equal(t->pieces, 9);
    finish(t);
}

static void test_closed_at_once(void **state)
{
    struct scene *s = *state;
    put_sparse(s->dir, "large", 100 << 20);
    begin(s, "large", &(struct tar_options){.name = "large"});
    finish(&s->taker);
    assert_int_equal(s->taker.pieces + s->taker.ended, 0);
}

static void test_closed_in_a_piece(void **state)
{
    struct scene *s = *state;
    put_sparse(s->dir, "large", 100 << 20);
    s->taker.close_in_piece = true;
    begin(s, "large", &(struct tar_options){.name = "large"});
    finish(&s->taker);
    assert_int_equal(s->taker.pieces, 1);
    assert_int_equal(s->taker.ended, 0);
}

static void test_closed_while_a_piece_is_taken(void **state)
{
    struct scene *s = *state;
    struct taker *t = &s->taker;
    unsigned never = 0;
    put_sparse(s->dir, "large", 100 << 20);
    t->hold = 5;
    begin(s, "large", &(struct tar_options){.name = "large"});
    turn(t, &t->pieces, 5, LIMIT_MS);
    turn(t, &never, 1, 20); /* the thread waits now */
    finish(t);
    assert_int_equal(t->pieces, 5);
    assert_int_equal(t->ended, 0);
}

/* ---- files in memory ---- */

static void test_of_files(void **state)
{
    const struct tar_file files[] = {
        {"Dockerfile", "FROM x\n", 7, 0644},
        {"app/run.py", "print(1)\n", 9, 0755},
        {"empty", "", 0, 0600},
    };
    char *bytes = NULL, *again = NULL;
    size_t size = 0, size_again = 0;
    struct found f;
    struct error err = {0};
    (void)state;
    assert_int_equal(tar_of_files(files, 3, &bytes, &size, &err), 0);
    find(bytes, size, "app/run.py", &f);
    assert_int_equal(f.count, 1);
    assert_int_equal(f.mode, S_IFREG | 0755);
    assert_string_equal(f.text, "print(1)\n");
    find(bytes, size, "empty", &f);
    assert_int_equal(f.count, 1);
    assert_int_equal(tar_of_files(files, 3, &again, &size_again, &err), 0);
    assert_int_equal(size, size_again);
    assert_memory_equal(bytes, again, size);
    free(bytes);
    free(again);
}

static void test_of_too_many_files(void **state)
{
    char *bytes = NULL;
    size_t size = 0;
    struct error err = {0};
    struct tar_file file = {"large", calloc(1, TAR_MEMORY_CAP), TAR_MEMORY_CAP, 0644};
    (void)state;
    assert_int_equal(tar_of_files(&file, 1, &bytes, &size, &err), -1);
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_non_null(strstr(err.message, "large"));
    assert_null(bytes);
    error_clear(&err);
    free((void *)file.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_tree, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_programs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_huge_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_is_never_all_in_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_taker_sets_the_pace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed_in_a_piece, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed_while_a_piece_is_taken, set_up, tear_down),
        cmocka_unit_test(test_of_files),
        cmocka_unit_test(test_of_too_many_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
