/* The contract of what brings files in and out: shell, long output, shares. See contract.c. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness.h"

/* ---- shell ---- */

static void test_shell(void **state)
{
    struct bench *b = *state;
    struct record r;
    struct error err = {0};
    const struct run_options shell = {.language = "shell", .seconds = 0.5};

    if (!has(b, CAP_SHELL)) {
        assert_null(
            executor_run(b->e,
                         &(struct run_request){
                             .id = "r-x", .language = "shell", .code = "", .timeout_seconds = 1},
                         NULL, NULL, &err));
        assert_int_equal(err.kind, ERROR_UNSUPPORTED);
        error_clear(&err);
        return;
    }
    expect(b, "open('made.txt', 'w').write('by python')", "");
    run_with(b, &r, "cat made.txt; echo bad >&2; exit 3",
             &(struct run_options){.language = "shell"});
    assert_int_equal(r.cause, CAUSE_EXIT);
    assert_int_equal(r.exit_code, 3);
    assert_string_equal(r.out, "by python");
    assert_string_equal(r.err, "bad\n");
    run_with(b, &r, "sleep 60", &shell);
    assert_int_equal(r.cause, CAUSE_TIMEOUT);
    assert_int_equal(r.exit_code, 124);
    assert_true(r.duration_ms < 4000);
    expect(b, "print(open('made.txt').read())", "by python\n");
}

static void test_unknown_language_is_unsupported(void **state)
{
    struct bench *b = *state;
    struct error err = {0};
    struct record r;

    if (has(b, CAP_KERNELSPECS)) { /* only the far side knows what it has */
        run_with(b, &r, "1", &(struct run_options){.language = "cobol"});
        assert_int_equal(r.cause, CAUSE_UNSUPPORTED);
        assert_non_null(strstr(r.note, "cobol"));
        return;
    }
    assert_null(executor_run(
        b->e,
        &(struct run_request){.id = "r-x", .language = "cobol", .code = "", .timeout_seconds = 1},
        NULL, NULL, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "python"));
    error_clear(&err);
}

/* ---- long output ---- */

static void test_long_output_is_a_file_in_the_session(void **state)
{
    struct bench *b = *state;
    struct record r;
    char code[512];

    run(b, &r, "print('x' * 99 + '\\n' * 1, end='')\nfor i in range(50000): print('y' * 99)");
    assert_int_equal(r.cause, CAUSE_OK);
    assert_int_equal(r.full[0].total, 5000100);
    if (!r.full_path[0]) {
        return; /* a place without files that we can write */
    }
    assert_int_equal(r.full[0].kept, 5000100);
    if (has(b, CAP_STATEFUL)) {
        (void)snprintf(code, sizeof(code), "t = open('%s').read(); print(len(t), t[:2], t[-3:-1])",
                       r.full_path);
        expect(b, code, "5000100 xx yy\n");
    }
}

/* ---- shares ---- */

static void make_source(char *dir)
{
    char path[256];

    (void)snprintf(dir, 64, "/tmp/cellblock-contract-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)chmod(dir, 0755);
    (void)snprintf(path, sizeof(path), "%s/data.txt", dir);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    (void)fputs("precious", file);
    (void)fclose(file);
}

static void remove_source(const char *dir)
{
    char command[256];

    (void)snprintf(command, sizeof(command), "%s/data.txt", dir);
    (void)unlink(command);
    (void)snprintf(command, sizeof(command), "%s/new.txt", dir);
    (void)unlink(command);
    assert_int_equal(rmdir(dir), 0);
}

static void check_source(const char *dir, const char *expected)
{
    char path[256], text[64] = "";

    (void)snprintf(path, sizeof(path), "%s/data.txt", dir);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    (void)fclose(file);
    assert_string_equal(text, expected);
}

static void test_copies(void **state)
{
    struct bench *b = *state;
    char dir[64];
    struct answer a;
    struct record r;

    make_source(dir);
    add_share(b, b->e, SHARE_COPY, dir, "/workspace/early", true, &a);
    if (!has(b, CAP_COPY)) {
        assert_int_equal(a.kind, ERROR_UNSUPPORTED);
        remove_source(dir);
        return;
    }
    assert_int_equal(a.kind, ERROR_NONE);
    assert_false(executor_started(b->e));
    expect(b, "print(open('early/data.txt').read())", "precious\n");
    add_share(b, b->e, SHARE_COPY, dir, "/workspace/late", true, &a);
    assert_int_equal(a.kind, ERROR_NONE);
    expect(b, "print(open('late/data.txt').read())", "precious\n");
    expect(b, "print(open('late/data.txt', 'w').write('changed'))", "7\n");
    check_source(dir, "precious");
    add_share(b, b->e, SHARE_COPY, dir, "/workspace/late", true, &a);
    assert_int_equal(a.kind, ERROR_INVALID);
    add_share(b, b->e, SHARE_COPY, dir, "/workspace/late/in", true, &a);
    assert_int_equal(a.kind, ERROR_INVALID);
    /* After a restart both are there again, as they were; or still, as the code left them. */
    if (has(b, CAP_STATEFUL)) {
        run(b, &r, "import os; os._exit(1)");
        expect(b, "print(open('early/data.txt').read(), open('late/data.txt').read())",
               has(b, CAP_KEEPS_FILES) ? "precious changed\n" : "precious precious\n");
    }
    remove_source(dir);
}

static void test_copy_during_a_run(void **state)
{
    struct bench *b = *state;
    char dir[64];
    struct answer a;
    struct record r;

    if (!has(b, CAP_COPY)) {
        skip();
    }
    make_source(dir);
    expect(b, "1", "");
    (void)begin(b, b->e, &r,
                "import os, time\n"
                "while not os.path.exists('now/data.txt'): time.sleep(0.01)\n"
                "print('seen')",
                NULL);
    until(b, &r.started);
    add_share(b, b->e, SHARE_COPY, dir, "/workspace/now", true, &a);
    assert_int_equal(a.kind, ERROR_NONE);
    until(b, &r.done);
    assert_string_equal(r.out, "seen\n");
    remove_source(dir);
}

static void test_mounts(void **state)
{
    struct bench *b = *state;
    char dir[64];
    struct answer a;
    struct record r;

    make_source(dir);
    add_share(b, b->e, SHARE_MOUNT, dir, "/workspace/mounted", true, &a);
    if (!has(b, CAP_MOUNT) && !has(b, CAP_MOUNT_COPY)) {
        assert_int_equal(a.kind, ERROR_UNSUPPORTED);
        remove_source(dir);
        return;
    }
    assert_int_equal(a.kind, ERROR_NONE);
    expect(b, "print(open('mounted/data.txt').read())", "precious\n");
    run(b, &r, "open('mounted/data.txt', 'w')");
    assert_int_equal(r.cause, CAUSE_ERROR);
    check_source(dir, "precious");
    add_share(b, b->e, SHARE_MOUNT, dir, "/workspace/second", true, &a);
    assert_int_equal(a.kind, ERROR_REFUSED);
    assert_non_null(strstr(a.message, "reset_session"));
    run(b, &r, "import os; os._exit(1)");
    expect(b, "print(open('mounted/data.txt').read())", "precious\n");
    remove_source(dir);
}

static void test_writable_mount(void **state)
{
    struct bench *b = *state;
    char dir[64], path[128];
    struct answer a;

    make_source(dir);
    (void)chmod(dir, 0777);
    (void)snprintf(path, sizeof(path), "%s/data.txt", dir);
    (void)chmod(path, 0666);
    add_share(b, b->e, SHARE_MOUNT, dir, "/workspace/rw", false, &a);
    if (has(b, CAP_MOUNT) && has(b, CAP_MOUNT_WRITE)) {
        assert_int_equal(a.kind, ERROR_NONE);
        expect(b, "print(open('rw/data.txt', 'w').write('new'))", "3\n");
        check_source(dir, "new");
    } else {
        assert_int_equal(a.kind, ERROR_UNSUPPORTED);
    }
    remove_source(dir);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, bench_setup, bench_teardown)

int contract_of_files(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_shell),
        CASE(test_unknown_language_is_unsupported),
        CASE(test_long_output_is_a_file_in_the_session),
        CASE(test_copies),
        CASE(test_copy_during_a_run),
        CASE(test_mounts),
        CASE(test_writable_mount),
    };

    return cmocka_run_group_tests_name("contract of files", tests, NULL, NULL);
}
