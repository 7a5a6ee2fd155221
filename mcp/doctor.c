#include "mcp/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/buffer.h"
#include "backends/registry.h"
#include "mcp/cmd.h"
#include "mcp/one_run.h"

/*
 * The machine is looked at in two ways: the backend's own probes say why something cannot work, and
 * a sandbox made exactly as the server would make it says that it does.
 */
enum {
    TRIAL_OUTPUT_CAP = 64 * 1024,
    TRIAL_SECONDS = 60,
};

/* Run in the sandbox. Nothing of it is imported that is not needed: it is quick. */
static const char trial_code[] =
    "import importlib.util as _u, json as _j, os as _o, sys as _s\n"
    "def _has(name):\n"
    "    try:\n"
    "        from importlib.metadata import version\n"
    "        return version(name) if _u.find_spec(name) else None\n"
    "    except Exception:\n"
    "        return 'yes' if _u.find_spec(name) else None\n"
    "print(_j.dumps({'python': _s.version.split()[0], 'executable': _s.executable,\n"
    "    'uid': _o.getuid(), 'ipython': _has('IPython'),\n"
    "    'numpy': _has('numpy'), 'pandas': _has('pandas'), 'matplotlib': _has('matplotlib')}))\n";

/* --- the report --- */

void report_init(struct report *report)
{
    *report = (struct report){.checks = json_array(), .works = true};
}

void report_deinit(struct report *report)
{
    json_decref(report->checks);
    *report = (struct report){0};
}

static const char *state_name(enum check_state state)
{
    static const char *const names[] = {
        [CHECK_OK] = "ok", [CHECK_MISSING] = "missing", [CHECK_FAILED] = "failed"};

    return names[state];
}

void report_add(struct report *report, const char *name, enum check_state state, const char *fix,
                const char *format, ...)
{
    char *detail = NULL;
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&detail, format, arguments) < 0) {
        detail = NULL;
    }
    va_end(arguments);
    json_array_append_new(report->checks,
                          json_pack("{s:s, s:s, s:s*, s:s?}", "name", name, "state",
                                    state_name(state), "detail", detail, "fix", fix));
    report->works &= state != CHECK_FAILED;
    free(detail);
}

/* --- the trial --- */

struct trial {
    struct report *report;  /* the backend's checks, which come first */
    struct report findings; /* what the run showed */
    struct buffer output;
    const char *packages; /* of the backend's row */
};

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct trial *trial = data;

    if (stream == STREAM_STDOUT) {
        buffer_append(&trial->output, bytes, size);
    }
}

/* On this machine Debian's interpreter gets Debian's packages, any other its own. */
static void report_package(struct trial *trial, const json_t *found, const char *name,
                           const char *use)
{
    const char *version = json_string_value(json_object_get(found, name));
    const char *python = json_string_value(json_object_get(found, "executable"));
    char fix[512];

    if (version) {
        report_add(&trial->findings, name, CHECK_OK, NULL, "%s", version);
        return;
    }
    if (trial->packages) {
        snprintf(fix, sizeof(fix), "%s", trial->packages);
    } else if (!python || strncmp(python, "/usr/bin/", strlen("/usr/bin/")) == 0) {
        snprintf(fix, sizeof(fix), "apt-get install python3-%s", name);
    } else {
        snprintf(fix, sizeof(fix), "%s -m pip install %s", python, name);
    }
    report_add(&trial->findings, name, CHECK_MISSING, fix, "not there: %s", use);
}

static void report_findings(struct trial *trial, const json_t *found)
{
    report_add(&trial->findings, "sandbox", CHECK_OK, NULL,
               "started, and ran %s (Python %s) as uid %d",
               json_string_value(json_object_get(found, "executable")),
               json_string_value(json_object_get(found, "python")),
               (int)json_integer_value(json_object_get(found, "uid")));
    report_package(trial, found, "ipython", "magics and the richest displays need it");
    report_package(trial, found, "numpy", "arrays");
    report_package(trial, found, "pandas", "data frames");
    report_package(trial, found, "matplotlib", "figures");
}

static void report_failure(struct report *report, const struct outcome *outcome)
{
    const char *why = outcome->note;

    if (!why) {
        why = outcome->error.evalue ? outcome->error.evalue : "no reason was given";
    }
    report_add(report, "sandbox", CHECK_FAILED, NULL, "%s: %s", cause_name(outcome->cause), why);
}

static void on_done(void *data, const struct outcome *outcome)
{
    struct trial *trial = data;
    json_t *found;

    if (outcome->cause != CAUSE_OK) {
        report_failure(&trial->findings, outcome);
        return;
    }
    found = json_loadb(buffer_data(&trial->output), buffer_size(&trial->output), 0, NULL);
    if (json_is_object(found)) {
        report_findings(trial, found);
    } else {
        report_add(&trial->findings, "sandbox", CHECK_FAILED, NULL,
                   "started, but what the code printed did not come back");
    }
    json_decref(found);
}

/* --- the backend's own checks --- */

static void on_check(void *data, const struct place_check *check)
{
    enum check_state failure = check->required ? CHECK_FAILED : CHECK_MISSING;

    report_add(data, check->name, check->ok ? CHECK_OK : failure, check->fix, "%s", check->detail);
}

static void before_close(void *data, struct place *place)
{
    struct trial *trial = data;

    if (place->ops->check) {
        place->ops->check(place, on_check, trial->report);
    }
}

static void try_sandbox(struct report *report, const struct environment *env)
{
    static const struct run_events events = {.on_output = on_output, .on_done = on_done};
    struct trial trial = {.report = report};
    struct error err = {0};
    const struct backend *backend = backend_find(env->backend, &err);
    struct one_run run = {
        .env = env,
        .request = {.id = "r-00000001",
                    .language = "python",
                    .code = trial_code,
                    .code_size = sizeof(trial_code) - 1,
                    .timeout_seconds = TRIAL_SECONDS},
        .events = &events,
        .before_close = before_close,
        .data = &trial,
    };

    trial.packages = backend ? backend->packages : NULL;
    error_clear(&err);
    report_init(&trial.findings);
    buffer_init(&trial.output, TRIAL_OUTPUT_CAP);
    if (one_run_execute(&run, &err) < 0) {
        report_add(&trial.findings, "sandbox", CHECK_FAILED, NULL, "%s", err.message);
        error_clear(&err);
    }
    json_array_extend(report->checks, trial.findings.checks);
    report->works &= trial.findings.works;
    report_deinit(&trial.findings);
    buffer_deinit(&trial.output);
}

/* --- the answer --- */

static int print_json(const struct report *report, const struct environment *env)
{
    json_t *root =
        json_pack("{s:b, s:s, s:s, s:s, s:O}", "ok", report->works, "version", CELLBLOCK_VERSION,
                  "environment", env->name, "backend", env->backend, "checks", report->checks);
    int r = json_dumpf(root, stdout, JSON_INDENT(2));

    putchar('\n');
    json_decref(root);
    return r;
}

static void print_check(const json_t *check)
{
    const char *fix = json_string_value(json_object_get(check, "fix"));

    printf("%-8s %-22s %s\n", json_string_value(json_object_get(check, "state")),
           json_string_value(json_object_get(check, "name")),
           json_string_value(json_object_get(check, "detail")));
    if (fix) {
        printf("%-8s %-22s to mend it: %s\n", "", "", fix);
    }
}

static void print_text(const struct report *report, const struct environment *env)
{
    char *network = environment_network(env);
    size_t index;
    const json_t *check;

    printf("cellblock %s, environment %s: %s backend, isolation %s, network %s\n\n",
           CELLBLOCK_VERSION, env->name, env->backend, isolation_name(env->isolation),
           network ? network : "?");
    free(network);
    json_array_foreach(report->checks, index, check)
    {
        print_check(check);
    }
    printf("\n%s\n", report->works ? "This configuration works here."
                                   : "This configuration does not work here.");
}

int cmd_doctor(const struct options *options, const struct config *config)
{
    const struct environment *env = config->default_environment;
    struct report report;
    int status;

    report_init(&report);
    try_sandbox(&report, env);
    status = report.works ? STATUS_OK : STATUS_FAILED;
    if (!options->json) {
        print_text(&report, env);
    } else if (print_json(&report, env) < 0) {
        status = STATUS_FAILED;
    }
    report_deinit(&report);
    return status;
}
