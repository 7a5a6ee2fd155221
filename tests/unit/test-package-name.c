/* Names of packages that are given to an installer. */
#include <string.h>

#include "mcp/tools/commands/package_name.h"
#include "tests/unit/cmocka_all.h"

static bool python_ok(const char *text)
{
    return package_python_ok(text, strlen(text));
}

static bool system_ok(const char *text)
{
    return package_system_ok(text, strlen(text));
}

static void python_names(void **state)
{
    static const char *const good[] = {
        "a",
        "numpy",
        "zope.interface",
        "ruamel_yaml",
        "x2-y",
        "requests[socks]",
        "a[b,c-d]",
        "a [ b , c ]",
        "numpy==1.2",
        "numpy>=1,<2",
        "numpy >= 1.0, != 1.5.*, < 2",
        "a~=1.4.2",
        "a===1.0+local",
        "a[b]==1!2.0rc1",
        "/workspace/a-1.0-py3-none-any.whl",
        "/workspace/sub/a-1.0+x-py3-none-any.whl",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        if (!python_ok(good[i])) {
            fail_msg("refused: %s", good[i]);
        }
    }
}

static void what_pip_must_not_get(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        " a",
        "-r",
        "--index-url=http://x",
        "-",
        "a-",
        ".a",
        ".",
        "..",
        "a b",
        "a\n",
        "a\nb",
        "a;python_version>'3'",
        "a@http://x/y.whl",
        "a @ file:///etc",
        "http://x/y.whl",
        "git+https://x/y",
        "./a.whl",
        "a/b",
        "/etc/a.whl",
        "/workspace/a",
        "/workspace/.whl",
        "/workspace/../etc/a.whl",
        "/workspace/-x.whl",
        "/workspace/a b.whl",
        "/workspace/a.whl[x]",
        "a[",
        "a[]",
        "a[b",
        "a[b,]",
        "a]",
        "a==",
        "a=1",
        "a==1,",
        "a==1 2",
        "a==-1",
        "a==$HOME",
        "a{b}",
        "\xc3\xbc",
    };
    char with_nul[] = "ab";

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        if (python_ok(bad[i])) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    with_nul[1] = '\0';
    assert_false(package_python_ok(with_nul, 2));
    assert_false(package_system_ok(with_nul, 2));
}

static void system_names(void **state)
{
    static const char *const good[] = {
        "g++", "libc6", "python3.11", "git", "a", "hello=2.10-3", "x=1:2.3~rc1-1+b1", "gtk+3.0",
    };
    static const char *const bad[] = {
        "",   "-y", "--x", "hello-", "+x",   ".",  "./x.deb", "/x",  "a b",   "a;b",
        "a*", "a?", "a=",  "a=-1",   "a-=1", "a^", "a/sid",   "a\n", "a=1 2", "a=1-",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        if (!system_ok(good[i])) {
            fail_msg("refused: %s", good[i]);
        }
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        if (system_ok(bad[i])) {
            fail_msg("taken: %s", bad[i]);
        }
    }
}

static void long_names(void **state)
{
    char name[PACKAGE_NAME_CAP + 1];

    (void)state;
    memset(name, 'a', sizeof(name));
    name[PACKAGE_NAME_CAP] = '\0';
    assert_true(python_ok(name));
    assert_true(system_ok(name));
    assert_false(package_python_ok(name, PACKAGE_NAME_CAP + 1));
    assert_false(package_system_ok(name, PACKAGE_NAME_CAP + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(python_names),
        cmocka_unit_test(what_pip_must_not_get),
        cmocka_unit_test(system_names),
        cmocka_unit_test(long_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
