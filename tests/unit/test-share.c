#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/share.h"

static void good(const char *dest, const char *normal)
{
    struct error err = {0};
    char *ret = NULL;

    assert_int_equal(share_check_dest(dest, &ret, &err), 0);
    assert_string_equal(ret, normal);
    assert_int_equal(err.kind, ERROR_NONE);
    free(ret);
}

static void bad(const char *dest, const char *part)
{
    struct error err = {0};
    char *ret = (char *)"untouched";

    assert_int_equal(share_check_dest(dest, &ret, &err), -1);
    assert_string_equal(ret, "untouched");
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_non_null(strstr(err.message, "dest"));
    if (!strstr(err.message, part)) {
        fail_msg("\"%s\" is not in: %s", part, err.message);
    }
    error_clear(&err);
}

static void test_normal_form(void **state)
{
    (void)state;
    good("/workspace/data.csv", "/workspace/data.csv");
    good("/workspace//a/./b/", "/workspace/a/b");
    good("/workspace/a/../b", "/workspace/b");
    good("/../../data", "/data");
    good("/data/grüße", "/data/grüße");
    good("/tmp/x", "/tmp/x");
    good("/devices", "/devices");
    good("/etcetera/x", "/etcetera/x");
}

static void test_what_is_refused(void **state)
{
    char longest[5000], name[400];

    (void)state;
    bad("", "absolute");
    bad("data", "absolute");
    bad("/", "is /");
    bad("//..//", "is /");
    bad("/workspace", "/workspace");
    bad("/workspace/.", "/workspace");
    bad("/tmp/", "/tmp");
    bad("/proc/self", "inside /proc");
    bad("/workspace/../etc/passwd", "inside /etc");
    bad("/usr", "/usr");
    bad("/lib64/x", "/lib*");
    bad("/run/x", "/run");
    bad("/dev", "/dev");
    bad("/workspace/.cellblock/x", ".cellblock");
    bad("/a\nb", "control character 0x0a");
    bad("/a\x7f", "control character 0x7f");
    memset(longest, 'a', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    bad(longest, "4096");
    memset(name, 'a', sizeof(name));
    name[0] = '/';
    name[sizeof(name) - 1] = '\0';
    bad(name, "255");
}

static void test_share_owns_its_descriptor(void **state)
{
    int fd = open("/", O_PATH | O_CLOEXEC);

    (void)state;
    struct share *share = share_new(SHARE_COPY, fd, "/", "/data", true);
    assert_non_null(share);
    assert_true(share->is_directory);
    struct share *clone = share_clone(share);
    assert_non_null(clone);
    assert_int_not_equal(clone->fd, fd);
    assert_true(fcntl(clone->fd, F_GETFD) & FD_CLOEXEC);
    share_free(share);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_string_equal(clone->dest, "/data");
    assert_true(clone->read_only);
    share_free(clone);
    share_free(NULL);
}

static void test_bad_descriptor_is_no_share(void **state)
{
    (void)state;
    assert_null(share_new(SHARE_COPY, -1, "/", "/data", true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normal_form),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_share_owns_its_descriptor),
        cmocka_unit_test(test_bad_descriptor_is_no_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
