#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/nearest.h"
#include "backends/command/internal.h"

/* The command with its placeholders filled in. */

#define KNOWN                                                                                      \
    "{cpu}, {disk_mib}, {max_lifetime_seconds}, {memory_mib}, {name}, {processes}, "               \
    "{timeout_seconds}"

static const char *const names[] = {
    "cpu", "disk_mib", "max_lifetime_seconds", "memory_mib", "name", "processes", "timeout_seconds",
};

enum { NAMES = sizeof(names) / sizeof(names[0]), VALUE_SIZE = 64, ARG_CAP = 128 * 1024 };

static int unknown(const char *name, struct error *err)
{
    const char *near = word_nearest(name, names, NAMES);

    return error_set(err, ERROR_INVALID,
                     "command: {%.64s} is not a placeholder%s%s%s; there are " KNOWN
                     ", and {{ is a brace",
                     name, near ? " (did you mean {" : "", near ? near : "", near ? "}?)" : "");
}

static int value_of(const struct environment *env, const char *machine, const char *name,
                    char value[VALUE_SIZE], struct error *err)
{
    const struct {
        const char *name;
        double number;
    } numbers[] = {
        {"cpu", env->cpu},
        {"disk_mib", (double)env->disk_mib},
        {"max_lifetime_seconds", env->max_lifetime_seconds},
        {"memory_mib", (double)env->memory_mib},
        {"processes", env->processes},
        {"timeout_seconds", env->timeout_seconds},
    };

    if (strcmp(name, "name") == 0) {
        (void)snprintf(value, VALUE_SIZE, "%s", machine);
        return 0;
    }
    if (strcmp(name, "cpu") == 0 && env->cpu <= 0) {
        return error_set(err, ERROR_INVALID,
                         "command: {cpu} is used and the environment sets no cpu; set it, or write "
                         "the number itself");
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(numbers[i].name, name) == 0) {
            (void)snprintf(value, VALUE_SIZE, "%.15g", numbers[i].number);
            return 0;
        }
    }
    return unknown(name, err);
}

/* Takes the placeholder that `*text` is at and moves past it. */
static int fill_one(const struct environment *env, const char *machine, const char **text,
                    struct buffer *out, struct error *err)
{
    const char *end = strchr(*text, '}');
    char name[VALUE_SIZE];
    char value[VALUE_SIZE];
    size_t size = end ? (size_t)(end - *text) - 1 : 0;

    if (!end) {
        return error_set(err, ERROR_INVALID,
                         "command: \"%.64s\" has a { without a }; {{ is a brace, and there are "
                         "the placeholders " KNOWN,
                         *text);
    }
    (void)snprintf(name, sizeof(name), "%.*s", size < sizeof(name) ? (int)size : (int)sizeof(name),
                   *text + 1);
    if (value_of(env, machine, name, value, err) < 0) {
        return -1;
    }
    *text = end + 1;
    return buffer_append(out, value, strlen(value)) < 0
               ? error_set(err, ERROR_INVALID, "command: it is too long")
               : 0;
}

/* One argument, to be freed. */
static char *fill(const struct environment *env, const char *machine, const char *text,
                  struct error *err)
{
    struct buffer out;
    char *copy = NULL;
    int r = 0;

    buffer_init(&out, ARG_CAP);
    while (*text && r == 0) {
        if (text[0] == '{' && text[1] != '{') {
            r = fill_one(env, machine, &text, &out, err);
            continue;
        }
        if (buffer_append(&out, text, 1) < 0) {
            r = error_set(err, ERROR_INVALID, "command: it is too long");
        }
        text += (text[0] == '{' || text[0] == '}') && text[1] == text[0] ? 2 : 1;
    }
    if (r == 0) {
        copy = strndup(buffer_size(&out) ? buffer_data(&out) : "", buffer_size(&out));
    }
    buffer_deinit(&out);
    return copy;
}

void command_argv_free(char **argv)
{
    for (char **arg = argv; arg && *arg; arg++) {
        free(*arg);
    }
    free(argv);
}

static int add_far_command(const struct environment *env, char **argv, struct error *err)
{
    char *space = NULL;
    const char *python = env->python ? env->python : "python3";
    const char *const *far = supervised_command(python, true, &space);

    if (!far) {
        return error_set(err, ERROR_INVALID,
                         "python: \"%.200s\" would not survive a shell at the other end; use a "
                         "path of letters, digits and _.,:+/@%%-",
                         python);
    }
    for (size_t i = 0; far[i]; i++) {
        argv[i] = strdup(far[i]);
        if (!argv[i]) {
            break;
        }
    }
    free(space);
    return 0;
}

enum { FAR_ARGS = 8 }; /* more than the far command has */

char **command_argv(const struct environment *env, const char *name, struct error *err)
{
    size_t count = json_array_size(env->command);
    char **argv = calloc(count + FAR_ARGS, sizeof(*argv));

    if (!argv) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        argv[i] = fill(env, name, json_string_value(json_array_get(env->command, i)), err);
        if (!argv[i]) {
            command_argv_free(argv);
            return NULL;
        }
    }
    if (add_far_command(env, argv + count, err) < 0) {
        command_argv_free(argv);
        return NULL;
    }
    return argv;
}

int command_check_args(const struct environment *env, struct error *err)
{
    size_t count = json_array_size(env->command);
    char **argv;

    if (count == 0) {
        return error_set(err, ERROR_INVALID,
                         "command: the environment \"%s\" needs the command that reaches the other "
                         "machine, an array such as [\"ssh\", \"host\"], [\"srun\", "
                         "\"--mem={memory_mib}M\"] or [\"podman\", \"run\", \"-i\", \"--rm\", "
                         "\"IMAGE\"]",
                         env->name);
    }
    if (count > COMMAND_ARGS_CAP) {
        return error_set(err, ERROR_INVALID, "command: %zu arguments; at most %d are allowed",
                         count, COMMAND_ARGS_CAP);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *arg = json_array_get(env->command, i);
        if (!json_is_string(arg) || strlen(json_string_value(arg)) != json_string_length(arg) ||
            (i == 0 && json_string_length(arg) == 0)) {
            return error_set(err, ERROR_INVALID, "command: item %zu must be a string without NUL%s",
                             i, i == 0 ? ", the name of a program" : "");
        }
    }
    argv = command_argv(env, "cellblock-check", err);
    if (!argv) {
        return -1;
    }
    command_argv_free(argv);
    return 0;
}

char *command_find_program(const char *name)
{
    const char *path = getenv("PATH");
    char *found = NULL;

    if (strchr(name, '/')) {
        return access(name, X_OK) == 0 ? strdup(name) : NULL;
    }
    for (path = path ? path : "/usr/bin:/bin"; *path;) {
        size_t size = strcspn(path, ":");
        if (asprintf(&found, "%.*s%s%s", (int)size, path, size ? "/" : "./", name) < 0) {
            return NULL;
        }
        if (access(found, X_OK) == 0) {
            return found;
        }
        free(found);
        found = NULL;
        path += size + (path[size] == ':');
    }
    return NULL;
}
