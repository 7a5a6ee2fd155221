#include "backends/module.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { REASON_SIZE = 256 };

/* Beside the program, as it is in a build folder. False when that is not known. */
static bool built_path(const char *name, char path[PATH_MAX])
{
    char program[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    char *slash;
    int length;

    if (n <= 0) {
        return false;
    }
    program[n] = '\0';
    slash = strrchr(program, '/');
    if (!slash) {
        return false;
    }
    *slash = '\0';
    length = snprintf(path, PATH_MAX, "%s/backends/%s/cellblock-%s.so", program, name, name);
    return length > 0 && length < PATH_MAX && access(path, F_OK) == 0;
}

static bool installed_path(const char *name, char path[PATH_MAX])
{
    int length = snprintf(path, PATH_MAX, "%s/cellblock-%s.so", CELLBLOCK_MODULE_DIR, name);

    return length > 0 && length < PATH_MAX && access(path, F_OK) == 0;
}

static int cannot(const char *name, const char *path, const char *why, struct error *err)
{
    return error_set(err, ERROR_UNSUPPORTED,
                     "backend \"%s\": %s could not be loaded: %s. It needs libcurl4, "
                     "and libwebsockets17 with libwebsockets-evlib-uv",
                     name, path, why ? why : "no reason was given");
}

static const struct module *load(const char *name, struct error *err)
{
    char path[PATH_MAX];
    char reason[REASON_SIZE];
    const struct module *module;
    void *handle;

    if (!built_path(name, path) && !installed_path(name, path)) {
        error_set(err, ERROR_UNSUPPORTED,
                  "backend \"%s\": its module cellblock-%s.so is neither beside the program nor in "
                  "%s; build or install cellblock whole",
                  name, name, CELLBLOCK_MODULE_DIR);
        return NULL;
    }
    /* It stays loaded: the libraries that it brings have threads and exit handlers. */
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) {
        (void)snprintf(reason, sizeof(reason), "%s", dlerror());
        cannot(name, path, reason, err);
        return NULL;
    }
    module = dlsym(handle, "cellblock_module");
    if (!module || module->version != MODULE_VERSION ||
        strcmp(module->program, CELLBLOCK_VERSION) != 0) {
        error_set(err, ERROR_UNSUPPORTED,
                  "backend \"%s\": %s belongs to another version of cellblock (this is %s); "
                  "install both from one build",
                  name, path, CELLBLOCK_VERSION);
        return NULL;
    }
    return module;
}

int module_open(const char *name, uv_loop_t *loop, const struct environment *env,
                struct place **ret, struct error *err)
{
    const struct module *module = load(name, err);

    return module ? module->ops->open(loop, env, ret, err) : -1;
}
