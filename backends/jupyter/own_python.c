#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/jupyter/own_server.h"

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* The first of its name on PATH; relative entries do not count. */
static char *on_path(const char *name)
{
    const char *path = getenv("PATH");

    while (path && *path) {
        size_t n = strcspn(path, ":");
        char *candidate = NULL;
        if (*path == '/' && asprintf(&candidate, "%.*s/%s", (int)n, path, name) >= 0) {
            if (is_program(candidate)) {
                return candidate;
            }
            free(candidate);
        }
        path += n + (path[n] == ':');
    }
    return NULL;
}

/* The interpreter that a script names in its first line, when it is a Python. */
static char *interpreter_of(const char *script)
{
    char line[PATH_MAX + 3];
    FILE *file = fopen(script, "re");
    char *found = NULL;

    if (!file) {
        return NULL;
    }
    if (fgets(line, sizeof(line), file) && strncmp(line, "#!/", 3) == 0) {
        line[2 + strcspn(line + 2, " \t\r\n")] = '\0';
        const char *name = strrchr(line, '/') + 1;
        if (strncmp(name, "python", 6) == 0 && is_program(line + 2)) {
            found = strdup(line + 2);
        }
    }
    (void)fclose(file);
    return found;
}

char *own_python_find(const char *python)
{
    static const char *const scripts[] = {"jupyter-server", "jupyter-kernelgateway", "jupyter"};

    if (python) {
        return strchr(python, '/') ? strdup(python) : on_path(python);
    }
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        char *script = on_path(scripts[i]);
        char *found = script ? interpreter_of(script) : NULL;
        free(script);
        if (found) {
            return found;
        }
    }
    return on_path("python3");
}
