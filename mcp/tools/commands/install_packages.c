#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/tools/commands/commands_tools.h"
#include "mcp/tools/commands/package_name.h"
#include "mcp/tools/result.h"
#include "mcp/tools/run_call.h"

enum {
    TITLE_SIZE = 64,
    SHOWN = 80, /* bytes of a name that is quoted */
};

/* pip as %pip runs it: into the session's own folder, nothing asked, nothing drawn. A version that
 * is there already is replaced. */
static const char *const pip[] = {
    "-m",
    "pip",
    "install",
    "--upgrade",
    "--no-input",
    "--no-color",
    "--disable-pip-version-check",
    "--progress-bar=off",
    "--root-user-action=ignore",
    NULL,
};

static const char no_network[] =
    "This session's environment has no network (network: none), so that only what is in the "
    "session can be installed: a wheel that was brought in with add_share or upload, as "
    "/workspace/NAME.whl. For more the owner can set the environment's network, or have the "
    "packages in its image.";

/* Names are arguments of it, never part of its text. */
static const char system_script[] =
    "if [ \"$(id -u)\" != 0 ] || ! [ -w /usr ]; then\n"
    "  echo 'System packages cannot be installed in this sandbox: its system is read-only for the "
    "user that it runs as. Use an environment whose image has them, or name them in the "
    "environment (docker: \"apt_packages\"); Python packages work with manager \"python\".' >&2\n"
    "  exit 77\n"
    "elif command -v apt-get >/dev/null; then\n"
    "  export DEBIAN_FRONTEND=noninteractive\n"
    "  apt-get -q update && exec apt-get -q -y -o APT::Cmd::Pattern-Only=true \\\n"
    "    --no-install-recommends install -- \"$@\"\n"
    "elif command -v apk >/dev/null; then\n"
    "  exec apk add --no-progress -- \"$@\"\n"
    "elif command -v dnf >/dev/null; then\n"
    "  exec dnf -y -q install -- \"$@\"\n"
    "fi\n"
    "echo 'There is no apt-get, apk or dnf in this sandbox to install system packages with.' >&2\n"
    "exit 77\n";

static int refuse_name(size_t index, const char *name, bool python, struct error *err)
{
    return error_set(err, ERROR_INVALID, "packages: item %zu, \"%.*s\", %s. Nothing was installed",
                     index, SHOWN, name,
                     python ? "is not what pip is given here: name, name[extra], name==1.2, "
                              "name>=1,<2, or a wheel in the session, /workspace/NAME.whl; no "
                              "options, addresses or other paths"
                            : "is no name of a system package: letters, digits and . + - _ are "
                              "allowed, and =VERSION; no options, addresses or paths");
}

/* A wheel is named from the workspace, which is where the command works: it may be elsewhere. */
static void add_package(struct strings *argv, const char *name)
{
    if (package_is_wheel(name)) {
        strings_add_format(argv, ".%s", name + strlen("/workspace"));
    } else {
        strings_add(argv, name);
    }
}

static int add_packages(struct strings *argv, const json_t *packages, bool python,
                        struct error *err)
{
    json_t *item;
    size_t i;

    json_array_foreach(packages, i, item)
    {
        const char *name = json_string_value(item);
        size_t size = json_string_length(item);

        if (python ? !package_python_ok(name, size) : !package_system_ok(name, size)) {
            return refuse_name(i, name, python, err);
        }
        add_package(argv, name);
    }
    return strings_ok(argv) == 0 ? 0 : error_set_code(err, ERROR_INTERNAL, ENOMEM, "packages");
}

/* Without a network nothing comes of a second try. */
static void add_manager(struct strings *argv, bool python, bool alone)
{
    if (python) {
        strings_add_all(argv, pip);
        if (alone) {
            strings_add(argv, "--retries=0");
        }
        strings_add(argv, "--");
        return;
    }
    strings_add(argv, "sh");
    strings_add(argv, "-c");
    strings_add(argv, system_script);
    strings_add(argv, "sh");
}

/* Whether the session that is meant has no network. */
static bool is_alone(struct call *call, const struct run_ask *ask)
{
    struct sessions *sessions = server_sessions(call_server(call));
    struct session *session = ask->session ? sessions_find(sessions, ask->session, NULL) : NULL;
    const struct environment *env = session
                                        ? session_environment(session)
                                        : sessions_meant(sessions, ask->session, ask->environment);

    return env && env->network == NETWORK_NONE;
}

static int take_arguments(struct call *call, struct run_ask *ask, struct strings *argv,
                          struct error *err)
{
    const json_t *object = call_arguments(call);
    const char *manager = json_string_value(json_object_get(object, "manager"));
    bool python = !manager || strcmp(manager, "python") == 0;

    ask->timeout = json_object_get(object, "timeout_seconds");
    if (argument_name(call, "session", &ask->session, err) < 0 ||
        argument_name(call, "environment", &ask->environment, err) < 0) {
        return -1;
    }
    if (is_alone(call, ask)) {
        ask->failure_note = no_network;
    }
    add_manager(argv, python, ask->failure_note);
    if (add_packages(argv, json_object_get(object, "packages"), python, err) < 0) {
        return -1;
    }
    ask->request.argv = (const char *const *)argv->list;
    ask->request.python = python;
    ask->request.workdir = python ? "/workspace" : NULL;
    return 0;
}

static void start(struct call *call)
{
    struct run_ask ask = {.tool = "install_packages", .title = "install_packages"};
    struct strings argv = {0};
    struct error err = {0};

    if (take_arguments(call, &ask, &argv, &err) < 0) {
        call_fail(call, &err);
    } else {
        run_call_start(call, &ask);
    }
    strings_free(&argv);
    error_clear(&err);
}

const struct tool install_packages_tool = {
    .name = "install_packages",
    .title = "Install packages",
    .description = "Installs packages in a session's sandbox: with pip, or of the system where it "
                   "may.",
    .schema = "tools/install_packages",
    .output_schema = "results/run_code",
    .read_only = false,
    .destructive = false,
    .idempotent = true,
    .open_world = true,
    .start = start,
};
