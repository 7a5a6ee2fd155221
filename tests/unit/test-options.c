#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mcp/cmd.h"
#include "mcp/options.h"
#include "mcp/schema.h"

enum {
    ARGUMENTS_MOST = 16,
};

/* Parses words that end with NULL, the program's name left out. */
static int parse(struct options *options, struct error *err, const char *const *words)
{
    char *argv[ARGUMENTS_MOST] = {(char *)"cellblock"};
    int argc = 1;

    *options = (struct options){0};
    while (words[argc - 1]) {
        argv[argc] = (char *)words[argc - 1];
        argc++;
    }
    return options_parse(options, argc, argv, err);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The parse fails with an error that says both texts. */
static void assert_refused(const char *const *words, const char *given, const char *allowed)
{
    struct options options;
    struct error err = {0};

    assert_int_equal(parse(&options, &err, words), -1);
    assert_non_null(err.message);
    if (!strstr(err.message, given) || !strstr(err.message, allowed)) {
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", err.message, given, allowed);
    }
    error_clear(&err);
    options_deinit(&options);
}

static void serves_when_nothing_is_said(void **state)
{
    struct options options;

    (void)state;
    assert_int_equal(parse(&options, NULL, (const char *const[]){NULL}), 0);
    assert_int_equal(options.command, COMMAND_SERVE);
    assert_false(options.has_mode);
    options_deinit(&options);
}

static void takes_values_in_both_forms(void **state)
{
    struct options options;

    (void)state;
    assert_int_equal(parse(&options, NULL,
                           WORDS("--mode", "ephemeral", "--timeout=2.5", "--share-root", "/a",
                                 "--share-root=/b=c", "--warm")),
                     0);
    assert_int_equal(options.mode, MODE_EPHEMERAL);
    assert_true(options.timeout_seconds == 2.5);
    assert_int_equal(options.share_root_count, 2);
    assert_string_equal(options.share_roots[1], "/b=c");
    assert_true(options.warm);
    options_deinit(&options);
}

static void takes_the_file_anywhere_and_anything_after_two_dashes(void **state)
{
    struct options options;

    (void)state;
    assert_int_equal(parse(&options, NULL, WORDS("run", "a.py", "--timeout", "3")), 0);
    assert_string_equal(options.file, "a.py");
    options_deinit(&options);
    assert_int_equal(parse(&options, NULL, WORDS("run", "--", "--help")), 0);
    assert_string_equal(options.file, "--help");
    assert_false(options.help);
    options_deinit(&options);
    assert_int_equal(parse(&options, NULL, WORDS("run", "-")), 0);
    assert_string_equal(options.file, "-");
    options_deinit(&options);
}

static void names_the_nearest_right_word(void **state)
{
    (void)state;
    assert_refused(WORDS("--share-rot", "/a"), "--share-rot", "--share-root");
    assert_refused(WORDS("--mode=ephemerol"), "ephemerol", "did you mean ephemeral");
    assert_refused(WORDS("--isolation", "landlok"), "landlok", "did you mean landlock");
    assert_refused(WORDS("--log-level", "warn1ng"), "warn1ng", "did you mean warning");
    assert_refused(WORDS("docter"), "docter", "did you mean doctor");
    assert_refused(WORDS("--backend", "locale"), "locale", "local");
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    assert_refused(WORDS("--timeout"), "--timeout", "needs a value");
    assert_refused(WORDS("--python="), "--python", "empty");
    assert_refused(WORDS("--warm=yes"), "--warm", "takes no value");
    assert_refused(WORDS("run"), "run", "needs a file");
    assert_refused(WORDS("run", "a", "b"), "\"b\"", "\"a\"");
    assert_refused(WORDS("run", "--warm", "a"), "--warm", "of: serve");
    assert_refused(WORDS("--backend", "local", "--environment", "x"), "--backend", "exclude");
    assert_refused(WORDS("--toolsets", "file"), "--toolsets", "did you mean \"files\"");
    assert_refused(WORDS("--toolsets", "files,,runs"), "--toolsets", "there is no toolset \"\"");
    assert_refused(WORDS("--audit", "x"), "--audit", "unknown option");
}

static void refuses_times_that_are_none(void **state)
{
    static const char *const wrong[] = {"0", "-1", "nan", "inf", "1e9", "5s", "", " ", "0x"};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_refused(WORDS("--timeout", wrong[i]), "--timeout", "");
    }
}

static void a_network_that_is_not_built_is_unsupported(void **state)
{
    struct options options;
    struct error err = {0};

    (void)state;
    assert_int_equal(parse(&options, &err, WORDS("--network", "packages")), -1);
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    error_clear(&err);
    options_deinit(&options);
}

static void assert_split(const char *text, const char *source, const char *dest, bool read_only)
{
    char *got_source;
    char *got_dest;
    bool got_read_only;

    assert_int_equal(options_split_share(text, &got_source, &got_dest, &got_read_only, NULL), 0);
    assert_string_equal(got_source, source);
    assert_string_equal(got_dest, dest);
    assert_int_equal(got_read_only, read_only);
    free(got_source);
    free(got_dest);
}

static void splits_shares(void **state)
{
    (void)state;
    assert_split("a:/b", "a", "/b", true);
    assert_split("a:/b:rw", "a", "/b", false);
    assert_split("/x/a:b:/c:d", "/x/a:b", "/c:d", true);
    assert_split(":/a:/b", ":/a", "/b", true);
    assert_refused(WORDS("run", "--share", "a", "f"), "\"a\"", "SRC:DEST");
    assert_refused(WORDS("run", "--share", "a:b", "f"), "\"a:b\"", "absolute");
    assert_refused(WORDS("run", "--share", ":/b", "f"), "\":/b\"", "SRC:DEST");
    assert_refused(WORDS("run", "--share", "a:rw", "f"), "\"a:rw\"", "SRC:DEST");
    assert_refused(WORDS("run", "--share", "a:/", "f"), "dest", "absolute");
}

static void apply(const char *const *words, struct config *config)
{
    struct options options;
    struct error err = {0};

    setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
    assert_int_equal(parse(&options, &err, words), 0);
    *config = (struct config){0};
    assert_int_equal(config_load(config, NULL, &err), 0);
    if (options_apply(&options, config, &err) < 0) {
        fail_msg("%s", err.message);
    }
    options_deinit(&options);
}

static void goes_over_the_configuration(void **state)
{
    struct config config;

    (void)state;
    apply(WORDS("--mode=ephemeral", "--network=all", "--timeout=7200", "--backend=Local_Eval",
                "--isolation=landlock", "--share-root=/", "--structured", "--log-level=debug"),
          &config);
    assert_int_equal(config.default_environment->mode, MODE_EPHEMERAL);
    assert_int_equal(config.default_environment->network, NETWORK_ALL);
    assert_int_equal(config.default_environment->isolation, ISOLATION_LANDLOCK);
    assert_string_equal(config.default_environment->backend, "local");
    assert_true(config.default_environment->timeout_seconds == 7200);
    assert_true(config.default_environment->max_timeout_seconds == 7200);
    assert_string_equal(config.share_roots[0], "/");
    assert_null(config.share_roots[1]);
    assert_true(config.structured);
    assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
    config_deinit(&config);
}

static void makes_pythons_path_absolute(void **state)
{
    struct config config;

    (void)state;
    assert_int_equal(chdir("/usr"), 0);
    apply(WORDS("--python", "bin/python3"), &config);
    assert_string_equal(config.default_environment->python, "/usr/bin/python3");
    config_deinit(&config);
    apply(WORDS("--python", "python3.11"), &config);
    assert_string_equal(config.default_environment->python, "python3.11");
    config_deinit(&config);
}

static void an_outcome_has_its_exit_status(void **state)
{
    static const struct {
        struct outcome outcome;
        int signal;
        int status;
    } rows[] = {
        {{.cause = CAUSE_OK}, 0, 0},
        {{.cause = CAUSE_ERROR}, 0, 1},
        {{.cause = CAUSE_EXIT, .has_exit_code = true, .exit_code = 7}, 0, 7},
        {{.cause = CAUSE_EXIT, .has_exit_code = true, .exit_code = 256}, 0, 1},
        {{.cause = CAUSE_EXIT, .has_exit_code = true, .exit_code = -1}, 0, 255},
        {{.cause = CAUSE_TIMEOUT}, 0, 124},
        {{.cause = CAUSE_CANCELLED}, SIGINT, 130},
        {{.cause = CAUSE_CANCELLED}, SIGTERM, 143},
        {{.cause = CAUSE_OUT_OF_MEMORY}, 0, 137},
        {{.cause = CAUSE_KILLED, .signal = SIGSEGV}, 0, 139},
        {{.cause = CAUSE_LOST}, 0, 4},
        {{.cause = CAUSE_REFUSED}, 0, 3},
        {{.cause = CAUSE_UNSUPPORTED}, 0, 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(outcome_status(&rows[i].outcome, rows[i].signal), rows[i].status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_when_nothing_is_said),
        cmocka_unit_test(takes_values_in_both_forms),
        cmocka_unit_test(takes_the_file_anywhere_and_anything_after_two_dashes),
        cmocka_unit_test(names_the_nearest_right_word),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(refuses_times_that_are_none),
        cmocka_unit_test(a_network_that_is_not_built_is_unsupported),
        cmocka_unit_test(splits_shares),
        cmocka_unit_test(goes_over_the_configuration),
        cmocka_unit_test(makes_pythons_path_absolute),
        cmocka_unit_test(an_outcome_has_its_exit_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
