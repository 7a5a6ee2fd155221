/* What an image is made of, and what a build says. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/modal/image_log.h"
#include "backends/modal/image_recipe.h"

static void set_list(json_t **list, const char *text)
{
    json_decref(*list);
    *list = json_loads(text, 0, NULL);
    assert_non_null(*list);
}

static void set_text(char **to, const char *text)
{
    free(*to);
    *to = text ? strdup(text) : NULL;
}

static int setup(void **state)
{
    struct environment *env = calloc(1, sizeof(*env));

    *state = env;
    return environment_init(env, "x", "modal");
}

static int teardown(void **state)
{
    environment_deinit(*state);
    free(*state);
    return 0;
}

static struct modal_recipe make(const struct environment *env, const char *builder, bool jupyter)
{
    struct modal_recipe r = {0};
    struct error err = {0};

    if (modal_recipe_make(env, builder, jupyter, &r, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return r;
}

static void expect_commands(const struct modal_recipe *r, unsigned layer, const char *first,
                            const char *last)
{
    const struct strings *commands = &r->layers[layer].commands;

    assert_true(layer < r->count);
    assert_string_equal(commands->list[0], first);
    assert_string_equal(commands->list[commands->count - 1], last);
}

static void expect_refused(const struct environment *env, enum error_kind kind, const char *words)
{
    struct modal_recipe r = {0};
    struct error err = {0};

    assert_int_equal(modal_recipe_check(env, &err), -1);
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, words)) {
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
    }
    error_clear(&err);
    assert_int_equal(modal_recipe_make(env, "2025.06", false, &r, NULL), -1);
    assert_int_equal(r.count, 0);
}

static void test_the_services_own_base(void **state)
{
    static const struct {
        const char *python, *builder, *from;
        bool global;
    } bases[] = {{NULL, "2025.06", "FROM python:3.12.10-slim-bookworm", true},
                 {"3.13", "2025.06", "FROM python:3.13.3-slim-bookworm", true},
                 {"3.12.4", "2025.06", "FROM python:3.12.4-slim-bookworm", true},
                 {"3.1", "2025.06", "FROM python:3.1-slim-bookworm", true},
                 {"3.12", "2026.10", "FROM python:3.12-slim-trixie", true},
                 {"3.12", "PREVIEW", "FROM python:3.12-slim-trixie", true},
                 {"3.12", "2024.10", "FROM python:3.12-slim-bookworm", false},
                 {"3.11", "2023.12", "FROM python:3.11-slim-bullseye", false}};
    struct environment *env = *state;

    for (unsigned i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
        struct modal_recipe r;
        set_text(&env->python, bases[i].python);
        r = make(env, bases[i].builder, false);
        assert_int_equal(r.count, 1);
        assert_null(r.image_id);
        assert_int_equal(r.layers[0].global, bases[i].global);
        expect_commands(&r, 0, bases[i].from, "CMD [\"sleep\", \"172800\"]");
        modal_recipe_deinit(&r);
    }
    assert_string_equal(modal_recipe_python(env), "python3");
}

static void test_other_bases(void **state)
{
    struct environment *env = *state;
    struct modal_recipe r;

    set_text(&env->image, "ghcr.io/me/it:1@sha256:00ff");
    set_text(&env->python, "/opt/py/bin/python");
    r = make(env, "2025.06", true);
    assert_int_equal(r.count, 2);
    assert_false(r.layers[0].global);
    expect_commands(&r, 0, "FROM ghcr.io/me/it:1@sha256:00ff", "FROM ghcr.io/me/it:1@sha256:00ff");
    expect_commands(&r, 1, "FROM base",
                    "RUN /opt/py/bin/python -m pip install ipykernel ipython "
                    "jupyter_kernel_gateway matplotlib");
    assert_string_equal(modal_recipe_python(env), "/opt/py/bin/python");
    modal_recipe_deinit(&r);
    set_text(&env->image, "im-0123456789abcdefABCDEF");
    set_text(&env->python, NULL);
    r = make(env, "2025.06", false);
    assert_int_equal(r.count, 0);
    assert_string_equal(r.image_id, "im-0123456789abcdefABCDEF");
    assert_string_equal(modal_recipe_python(env), "python3");
    modal_recipe_deinit(&r);
}

static void test_layers(void **state)
{
    struct environment *env = *state;
    struct modal_recipe r;

    set_list(&env->apt_packages, "[\"git\", \"libpq-dev\"]");
    set_list(&env->packages,
             "[\"torch>=2\", \"numpy\", \"pandas[excel] ; python_version > '3.8'\"]");
    set_list(&env->dockerfile_commands,
             "[\"ENV A=b\", \"COPY --from=x:1 /a /a\", \"ADD https://x /\"]");
    r = make(env, "2025.06", false);
    assert_int_equal(r.count, 4);
    expect_commands(&r, 1, "FROM base", "RUN apt-get install -y git libpq-dev");
    expect_commands(&r, 2, "FROM base",
                    "RUN python -m pip install numpy 'pandas[excel] ; python_version > "
                    "'\"'\"'3.8'\"'\"'' 'torch>=2'");
    expect_commands(&r, 3, "FROM base", "ADD https://x /");
    assert_int_equal(r.layers[3].commands.count, 4);
    modal_recipe_deinit(&r);
}

static void test_what_is_refused(void **state)
{
    struct environment *env = *state;

    set_text(&env->python, "/usr/bin/python3");
    expect_refused(env, ERROR_INVALID, "python:");
    set_text(&env->python, "3.123");
    expect_refused(env, ERROR_INVALID, "python:");
    set_text(&env->image, "python:3.12");
    set_text(&env->python, "python3; rm");
    expect_refused(env, ERROR_INVALID, "python:");
    set_text(&env->python, NULL);
    set_text(&env->image, "a\nRUN x");
    expect_refused(env, ERROR_INVALID, "image:");
    set_text(&env->image, "-x");
    expect_refused(env, ERROR_INVALID, "image:");
    set_text(&env->image, NULL);
    set_list(&env->packages, "[\"--index-url\"]");
    expect_refused(env, ERROR_INVALID, "packages:");
    set_list(&env->packages, "[]");
    set_list(&env->dockerfile_commands, "[\"RUN a\", 1]");
    expect_refused(env, ERROR_INVALID, "item 1");
    set_list(&env->dockerfile_commands, "[\"\"]");
    expect_refused(env, ERROR_INVALID, "item 0");
    set_list(&env->dockerfile_commands, "[\"copy a /a\"]");
    expect_refused(env, ERROR_UNSUPPORTED, "shares");
    set_list(&env->dockerfile_commands, "[\"ADD a /a\"]");
    expect_refused(env, ERROR_UNSUPPORTED, "shares");
    json_array_clear(env->dockerfile_commands);
    for (int i = 0; i <= MODAL_COMMANDS_CAP; i++) {
        json_array_append_new(env->dockerfile_commands, json_string("RUN a"));
    }
    expect_refused(env, ERROR_LIMIT, "at most");
}

/* ---- its log ---- */

static void test_lines_of_a_log(void **state)
{
    struct image_log log = {0};

    (void)state;
    assert_string_equal(image_log_newest(&log), "");
    assert_false(image_log_take(&log, "Collecting "));
    assert_true(image_log_take(&log, "numpy\nDown"));
    assert_string_equal(image_log_newest(&log), "Collecting numpy");
    assert_true(image_log_take(&log, "loading\r\n\x1b[31mred\x1b[0m\x07 \n\n"));
    assert_string_equal(image_log_newest(&log), "red");
    assert_int_equal(log.lines, 3);
}

static void test_long_lines_are_cut(void **state)
{
    struct image_log log = {0};

    (void)state;
    for (int i = 0; i < 300; i++) {
        (void)image_log_take(&log, "é");
    }
    (void)image_log_take(&log, "\n");
    assert_int_equal(strlen(image_log_newest(&log)), IMAGE_LINE_CAP - 2); /* no half of one */
}

static void test_the_last_lines(void **state)
{
    struct image_log log = {0};
    char line[16], *text;

    (void)state;
    text = image_log_failure(&log, "why");
    assert_string_equal(text, "why");
    free(text);
    for (int i = 0; i < 20; i++) {
        (void)snprintf(line, sizeof(line), "line %d\n", i);
        (void)image_log_take(&log, line);
    }
    text = image_log_failure(&log, "why");
    assert_non_null(strstr(text, "why. The last lines of its log:\nline 5\n"));
    assert_null(strstr(text, "line 4\n"));
    assert_string_equal(text + strlen(text) - 8, "\nline 19");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_services_own_base, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_bases, setup, teardown),
        cmocka_unit_test_setup_teardown(test_layers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_refused, setup, teardown),
        cmocka_unit_test(test_lines_of_a_log),
        cmocka_unit_test(test_long_lines_are_cut),
        cmocka_unit_test(test_the_last_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
