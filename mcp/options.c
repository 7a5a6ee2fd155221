#include "mcp/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/registry.h"
#include "mcp/options_table.h"
#include "mcp/schema.h"
#include "mcp/toolsets.h"

enum {
    TIMEOUT_MOST = 604800, /* a week, as in schemas/config.schema.json */
};

static const char *const command_names[] = {
    [COMMAND_SERVE] = "serve",       [COMMAND_RUN] = "run",
    [COMMAND_DOCTOR] = "doctor",     [COMMAND_BACKENDS] = "backends",
    [COMMAND_SESSIONS] = "sessions", [COMMAND_ATTACH] = "attach",
    [COMMAND_LOGS] = "logs",         [COMMAND_STOP] = "stop",
    [COMMAND_VERSION] = "version",   NULL,
};

const char *command_name(enum command command)
{
    return command_names[command];
}

/* --- handlers: one an option, `value` is NULL for a flag --- */

static int take_config(struct options *o, const char *value, struct error *err)
{
    (void)err;
    o->config_path = value;
    return 0;
}

static int take_backend(struct options *o, const char *value, struct error *err)
{
    o->backend = value;
    return backend_find(value, err) ? 0 : -1;
}

static int take_environment(struct options *o, const char *value, struct error *err)
{
    (void)err;
    o->environment = value;
    return 0;
}

/* The parsers of environment.h list what is allowed; which of it is nearest is added here. */
static int add_nearest(const char *value, const char *const *words, struct error *err)
{
    const char *nearest = nearest_word(value, words);

    if (nearest && err && err->kind == ERROR_INVALID) {
        char *message = err->message;

        err->message = NULL;
        error_set(err, ERROR_INVALID, "%s; did you mean %s?", message, nearest);
        free(message);
    }
    return -1;
}

static int take_mode(struct options *o, const char *value, struct error *err)
{
    static const char *const words[] = {"stateful", "ephemeral", NULL};

    o->has_mode = true;
    return mode_parse(value, &o->mode, err) < 0 ? add_nearest(value, words, err) : 0;
}

static int take_network(struct options *o, const char *value, struct error *err)
{
    static const char *const words[] = {"none", "all", NULL};

    enum network ignored;

    o->has_network = true;
    o->network = value;
    return network_parse(value, &ignored, err) < 0 ? add_nearest(value, words, err) : 0;
}

static int take_isolation(struct options *o, const char *value, struct error *err)
{
    static const char *const words[] = {"auto", "bwrap", "landlock", "none", NULL};

    o->has_isolation = true;
    return isolation_parse(value, &o->isolation, err) < 0 ? add_nearest(value, words, err) : 0;
}

static int take_timeout(struct options *o, const char *value, struct error *err)
{
    char *end;

    errno = 0;
    o->timeout_seconds = strtod(value, &end);
    o->has_timeout = true;
    if (end == value || *end != '\0' || errno || !isfinite(o->timeout_seconds) ||
        o->timeout_seconds <= 0 || o->timeout_seconds > TIMEOUT_MOST) {
        return error_set(err, ERROR_INVALID,
                         "\"%.64s\" is not a number of seconds above 0 and up to %d (a week)",
                         value, TIMEOUT_MOST);
    }
    return 0;
}

static int append_text(const char ***texts, size_t *count, const char *value, struct error *err)
{
    const char **grown = reallocarray(*texts, *count + 1, sizeof(*grown));

    if (!grown) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "command line");
    }
    grown[(*count)++] = value;
    *texts = grown;
    return 0;
}

static int take_toolsets(struct options *o, const char *value, struct error *err)
{
    return toolsets_parse(value, &o->toolsets, err);
}

static int take_share_root(struct options *o, const char *value, struct error *err)
{
    return append_text(&o->share_roots, &o->share_root_count, value, err);
}

static int take_share(struct options *o, const char *value, struct error *err)
{
    char *source;
    char *dest;
    bool read_only;

    if (options_split_share(value, &source, &dest, &read_only, err) < 0) {
        return -1;
    }
    free(source);
    free(dest);
    return append_text(&o->shares, &o->share_count, value, err);
}

static int take_python(struct options *o, const char *value, struct error *err)
{
    (void)err;
    o->python = value;
    return 0;
}

static int take_log_level(struct options *o, const char *value, struct error *err)
{
    static const char *const words[] = {"debug",    "info",  "notice",    "warning", "error",
                                        "critical", "alert", "emergency", NULL};

    o->has_log_level = true;
    if (log_level_parse(value, &o->log_level) < 0) {
        error_set(err, ERROR_INVALID,
                  "\"%.64s\" is not one of: debug, info, notice, warning, error, critical, alert, "
                  "emergency",
                  value);
        return add_nearest(value, words, err);
    }
    return 0;
}

static int take_structured(struct options *o, const char *value, struct error *err)
{
    (void)value;
    (void)err;
    o->structured = true;
    return 0;
}

static int take_warm(struct options *o, const char *value, struct error *err)
{
    (void)value;
    (void)err;
    o->warm = true;
    return 0;
}

static int take_json(struct options *o, const char *value, struct error *err)
{
    (void)value;
    (void)err;
    o->json = true;
    return 0;
}

static int take_kill(struct options *o, const char *value, struct error *err)
{
    (void)value;
    (void)err;
    o->kill = true;
    return 0;
}

static int take_help(struct options *o, const char *value, struct error *err)
{
    (void)value;
    (void)err;
    o->help = true;
    return 0;
}

/* --- the table --- */

const struct option_row option_rows[] = {
    {"--config", "FILE", FOR_SANDBOX, take_config,
     "read FILE (default: $XDG_CONFIG_HOME/cellblock/config.json)"},
    {"--environment", "NAME", FOR_SANDBOX, take_environment,
     "use this environment of the config file by default"},
    {"--backend", "NAME", FOR_SANDBOX, take_backend,
     "where code runs; `cellblock backends` lists them (default: local)"},
    {"--mode", "MODE", FOR_SERVE, take_mode,
     "stateful: variables live from run to run (default);\n"
     "ephemeral: a fresh sandbox for each run"},
    {"--network", "WHICH", FOR_SANDBOX, take_network,
     "none: no network (default); all: the host's, nothing held back;\n"
     "HOST,… (modal): these alone, such as pypi.org,*.example.org,10.0.0.0/8"},
    {"--timeout", "SECONDS", FOR_SERVE | FOR_RUN, take_timeout,
     "limit of a run that names none (default: 50)"},
    {"--share-root", "DIR", FOR_SERVE, take_share_root,
     "clients may share files under DIR, and download into\n"
     "it (toolset files); may be given again"},
    {"--share", "SRC:DEST[:rw]", FOR_RUN, take_share,
     "show the file or folder SRC as DEST in the sandbox,\n"
     "read-only unless :rw; may be given again"},
    {"--toolsets", "LIST", FOR_SERVE, take_toolsets,
     "more tools than core: files, commands, sessions, runs,\n"
     "environments, with commas between them, or all"},
    {"--structured", NULL, FOR_SERVE, take_structured,
     "results carry structuredContent, and run_code an outputSchema"},
    {"--python", "PATH", FOR_SANDBOX, take_python,
     "the interpreter (default: the first python3 that works)"},
    {"--isolation", "HOW", FOR_SANDBOX, take_isolation,
     "auto (default), bwrap, landlock, or none: no sandbox at all\n"
     "(only with --network all)"},
    {"--warm", NULL, FOR_SERVE, take_warm, "start the interpreter now, not at the first call"},
    {"--log-level", "LEVEL", FOR_SERVE | FOR_RUN | FOR_LEFT, take_log_level,
     "debug, info, notice, warning (default), error, …: log on stderr"},
    {"--json", NULL, FOR_DOCTOR | FOR_BACKENDS | FOR_SESSIONS, take_json, "answer in JSON"},
    {"--kill", NULL, FOR_STOP, take_kill, "end it at once, without waiting for what goes on in it"},
    {"--help", NULL, FOR_ALL, take_help, "show this"},
    {0},
};

enum {
    ROW_COUNT = sizeof(option_rows) / sizeof(option_rows[0]) - 1, /* without the last, empty one */
};

/* --- parsing --- */

static const struct option_row *find_row(const char *name, size_t length)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (strlen(option_rows[i].name) == length &&
            strncmp(option_rows[i].name, name, length) == 0) {
            return &option_rows[i];
        }
    }
    return NULL;
}

/* The commands that take an option, "serve, run", into `text`. */
static void list_commands(unsigned commands, char *text, size_t room)
{
    size_t used = 0;

    text[0] = '\0';
    for (unsigned i = 0; command_names[i] && used < room; i++) {
        if (commands & (1u << i)) {
            used += (size_t)snprintf(text + used, room - used, "%s%s", used ? ", " : "",
                                     command_names[i]);
        }
    }
}

static int unknown_option(enum command command, const char *name, size_t length, struct error *err)
{
    const char *words[ROW_COUNT + 1] = {0};
    const char *nearest;
    size_t count = 0;
    char *copy = strndup(name, length);

    if (!copy) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "command line");
    }
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (option_rows[i].commands & (1u << command)) {
            words[count++] = option_rows[i].name;
        }
    }
    nearest = nearest_word(copy, words);
    error_set(err, ERROR_INVALID, "unknown option %.64s%s%s%s", copy,
              nearest ? ", did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
    free(copy);
    return -1;
}

static int wrong_command(const struct option_row *row, enum command command, struct error *err)
{
    char list[128];

    list_commands(row->commands, list, sizeof(list));
    return error_set(err, ERROR_INVALID, "%s is not an option of `cellblock %s`, but of: %s",
                     row->name, command_names[command], list);
}

/* One option at argv[*at]; moves *at to the last argument that it used. */
static int parse_option(struct options *o, int argc, char *const *argv, int *at, struct error *err)
{
    const char *text = argv[*at];
    const char *equals = strchr(text, '=');
    size_t length = equals ? (size_t)(equals - text) : strlen(text);
    const struct option_row *row =
        strcmp(text, "-h") == 0 ? find_row("--help", strlen("--help")) : find_row(text, length);
    const char *value = equals ? equals + 1 : NULL;

    if (!row) {
        return unknown_option(o->command, text, length, err);
    }
    if (!(row->commands & (1u << o->command))) {
        return wrong_command(row, o->command, err);
    }
    if (!row->argument && value) {
        return error_set(err, ERROR_INVALID, "%s takes no value", row->name);
    }
    if (row->argument && !value) {
        if (*at + 1 >= argc) {
            return error_set(err, ERROR_INVALID, "%s needs a value: %s %s", row->name, row->name,
                             row->argument);
        }
        value = argv[++*at];
    }
    if (row->argument && value[0] == '\0') {
        return error_set(err, ERROR_INVALID, "the value of %s is empty: %s %s", row->name,
                         row->name, row->argument);
    }
    return row->take(o, value, err) < 0 ? error_wrap(err, "%s", row->name) : 0;
}

/* A file, or a session's id. */
static bool takes_one(enum command command)
{
    return command == COMMAND_RUN || command == COMMAND_ATTACH || command == COMMAND_LOGS ||
           command == COMMAND_STOP;
}

static int parse_positional(struct options *o, const char *text, struct error *err)
{
    const char *nearest;

    if (takes_one(o->command) && !o->file) {
        o->file = text;
        return 0;
    }
    if (takes_one(o->command)) {
        return error_set(err, ERROR_INVALID,
                         "\"%.200s\": `cellblock %s` takes one %s, and \"%.200s\" is given "
                         "already",
                         text, command_names[o->command],
                         o->command == COMMAND_RUN ? "file" : "session", o->file);
    }
    nearest = nearest_word(text, command_names);
    return error_set(err, ERROR_INVALID,
                     "unexpected argument \"%.64s\"%s%s%s; the commands are: serve, run, doctor, "
                     "backends, sessions, attach, logs, stop, version",
                     text, nearest ? ", did you mean " : "", nearest ? nearest : "",
                     nearest ? "?" : "");
}

/* A command is the first argument; without one it is serve. */
static bool parse_command(struct options *o, const char *text)
{
    for (unsigned i = 0; command_names[i]; i++) {
        if (strcmp(text, command_names[i]) == 0) {
            o->command = (enum command)i;
            return true;
        }
    }
    if (strcmp(text, "--version") == 0) {
        o->command = COMMAND_VERSION;
        return true;
    }
    if (strcmp(text, "help") == 0) {
        o->help = true;
        return true;
    }
    return false;
}

static int check_together(const struct options *o, struct error *err)
{
    if (o->help) {
        return 0;
    }
    if (o->backend && o->environment) {
        return error_set(err, ERROR_INVALID,
                         "--backend and --environment exclude each other: an environment has its "
                         "backend from the config file");
    }
    if (o->command == COMMAND_RUN && !o->file) {
        return error_set(err, ERROR_INVALID,
                         "`cellblock run` needs a file with code, or - for standard input");
    }
    if (takes_one(o->command) && !o->file) {
        return error_set(err, ERROR_INVALID,
                         "`cellblock %s` needs a session's id; `cellblock sessions` lists them",
                         command_names[o->command]);
    }
    return 0;
}

int options_parse(struct options *options, int argc, char *const *argv, struct error *err)
{
    int first = argc > 1 && parse_command(options, argv[1]) ? 2 : 1;
    bool only_files = false;

    for (int i = first; i < argc; i++) {
        const char *text = argv[i];
        int r;

        if (!only_files && strcmp(text, "--") == 0) {
            only_files = true;
            continue;
        }
        if (!only_files && text[0] == '-' && text[1] != '\0') {
            r = parse_option(options, argc, argv, &i, err);
        } else {
            r = parse_positional(options, text, err);
        }
        if (r < 0) {
            return -1;
        }
    }
    return check_together(options, err);
}

void options_deinit(struct options *options)
{
    free(options->share_roots);
    free(options->shares);
    *options = (struct options){0};
}
