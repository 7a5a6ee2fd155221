#include "backends/local/interpreter.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/embedded.h"
#include "backends/local/child.h"

enum {
    PROBE_LIMIT_MS = 10000,
    CANDIDATES_CAP = 16,
    FOLDERS_CAP = 16,
    OLDEST_MINOR = 8, /* Python 3.8 */
};

struct interpreter_search {
    uv_loop_t *loop;
    const struct sandbox_user *user;
    char *candidates[CANDIDATES_CAP];
    int count;
    int next;
    struct child child;
    uv_idle_t soon; /* the end is never told before interpreter_find has returned */
    struct error reasons;
    struct interpreter *result;
    bool cancelled;
    void (*found)(void *data, struct interpreter *it, const struct error *err);
    void *data;
};

char *find_program(const char *name, unsigned nth)
{
    const char *path = getenv("PATH");
    char full[4096];
    while (path && *path) {
        size_t size = strcspn(path, ":");
        int n = snprintf(full, sizeof(full), "%.*s/%s", (int)size, path, name);
        if (path[0] == '/' && n > 0 && (size_t)n < sizeof(full) && access(full, X_OK) == 0 &&
            nth-- == 0) {
            return strdup(full);
        }
        path += size + (path[size] == ':');
    }
    return NULL;
}

void interpreter_free(struct interpreter *it)
{
    if (!it) {
        return;
    }
    for (char **folder = it->folders; folder && *folder; folder++) {
        free(*folder);
    }
    free(it->folders);
    free(it->executable);
    free(it->version);
    free(it->implementation);
    free(it);
}

/* Binding one of these would show more than an interpreter. */
static bool too_wide(const char *folder)
{
    const char *home = getenv("HOME");
    static const char *const wide[] = {"/",    "/home", "/root", "/tmp", "/var", "/etc", "/opt",
                                       "/run", "/proc", "/sys",  "/dev", "/mnt", "/srv", "/media"};
    for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++) {
        if (strcmp(folder, wide[i]) == 0) {
            return true;
        }
    }
    return home && strcmp(folder, home) == 0;
}

static int take_folders(struct interpreter *it, const json_t *list, struct error *err)
{
    size_t index;
    const json_t *value;
    size_t count = 0;
    it->folders = calloc(FOLDERS_CAP + 1, sizeof(char *));
    if (!it->folders) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "python");
    }
    json_array_foreach(list, index, value)
    {
        const char *folder = json_string_value(value);
        if (!folder || folder[0] != '/' || count == FOLDERS_CAP) {
            continue;
        }
        if (strcmp(folder, "/usr") == 0 || strncmp(folder, "/usr/", 5) == 0) {
            continue; /* shown anyway */
        }
        if (too_wide(folder)) {
            return error_set(err, ERROR_INVALID,
                             "its folder is %s, which holds more than an interpreter; use one that "
                             "is installed in a folder of its own",
                             folder);
        }
        it->folders[count++] = strdup(folder);
    }
    return 0;
}

static unsigned take_modules(const json_t *list)
{
    static const char *const names[] = {"ctypes", "IPython", "pip", "pandas", "matplotlib"};
    unsigned modules = 0;
    size_t index;
    const json_t *value;
    json_array_foreach(list, index, value)
    {
        for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            if (json_is_string(value) && strcmp(json_string_value(value), names[i]) == 0) {
                modules |= 1u << i;
            }
        }
    }
    return modules;
}

static int check_answer(const struct interpreter *it, int major, int minor, struct error *err)
{
    if (major != 3 || minor < OLDEST_MINOR) {
        return error_set(err, ERROR_INVALID, "it is Python %d.%d, and 3.%d or newer is needed",
                         major, minor, OLDEST_MINOR);
    }
    if (!(it->modules & MODULE_CTYPES)) {
        return error_set(err, ERROR_INVALID, "it was built without ctypes");
    }
    return 0;
}

static struct interpreter *read_answer(struct child *child, struct error *err)
{
    json_t *answer = json_loadb(buffer_data(&child->out_text) ? buffer_data(&child->out_text) : "",
                                buffer_size(&child->out_text), JSON_DISABLE_EOF_CHECK, NULL);
    const char *executable = NULL;
    const char *version = NULL;
    const char *implementation = NULL;
    json_t *folders = NULL;
    json_t *modules = NULL;
    int major = 0;
    int minor = 0;
    struct interpreter *it = calloc(1, sizeof(*it));
    if (!it || json_unpack(answer, "{s:s, s:s, s:s, s:o, s:o, s:[ii]}", "executable", &executable,
                           "version", &version, "implementation", &implementation, "folders",
                           &folders, "modules", &modules, "number", &major, &minor) < 0) {
        error_set(err, ERROR_INVALID, "it did not answer as a Python interpreter does");
    } else {
        it->executable = strdup(executable);
        it->version = strdup(version);
        it->implementation = strdup(implementation);
        it->modules = take_modules(modules);
        if (take_folders(it, folders, err) == 0 && check_answer(it, major, minor, err) == 0) {
            json_decref(answer);
            return it;
        }
    }
    interpreter_free(it);
    json_decref(answer);
    return NULL;
}

static void add_reason(struct interpreter_search *s, const char *candidate, const char *reason)
{
    struct error before = s->reasons;
    s->reasons = (struct error){0};
    error_set(&s->reasons, ERROR_NOT_FOUND, "%s%s%s: %s", before.message ? before.message : "",
              before.message ? "; " : "", candidate, reason);
    error_clear(&before);
}

static void search_closed(uv_handle_t *handle)
{
    struct interpreter_search *s = handle->data;
    for (int i = 0; i < s->count; i++) {
        free(s->candidates[i]);
    }
    error_clear(&s->reasons);
    free(s);
}

static void finish(uv_idle_t *soon)
{
    struct interpreter_search *s = soon->data;
    uv_idle_stop(soon);
    if (!s->result) {
        struct error all = {0};
        error_set(&all, ERROR_NOT_FOUND,
                  "no Python that the sandbox's user (uid %u) can run: %s. Name one with --python, "
                  "or install Debian's python3",
                  (unsigned)s->user->uid, s->reasons.message);
        error_clear(&s->reasons);
        s->reasons = all;
    }
    s->found(s->data, s->result, s->result ? NULL : &s->reasons);
    uv_close((uv_handle_t *)soon, search_closed);
}

static void try_next(struct interpreter_search *s);

static void child_gone(struct child *child)
{
    struct interpreter_search *s = child->data;
    try_next(s);
}

static void probe_exited(struct child *child)
{
    struct interpreter_search *s = child->data;
    const char *candidate = s->candidates[s->next - 1];
    struct error err = {0};
    if (child->timed_out) {
        add_reason(s, candidate, "it did not answer within 10 s");
    } else if (child->status != 0 || child->term_signal != 0) {
        const char *words = child_last_words(child);
        const char *last = strrchr(words, '\n');
        add_reason(s, candidate, *words ? (last ? last + 1 : words) : "it failed without a word");
    } else {
        s->result = read_answer(child, &err);
        if (!s->result) {
            add_reason(s, candidate, err.message);
        }
    }
    error_clear(&err);
    child_close(child, child_gone);
}

static int start_probe(struct interpreter_search *s, const char *candidate)
{
    const struct embedded_file *script = embedded_find(embedded_runtime, "interpreter_probe.py");
    char *argv[] = {(char *)candidate, "-I", "-c", (char *)script->data, NULL};
    char path[4096 + 8];
    char home[4096 + 8];
    const char *host_path = getenv("PATH");
    const char *host_home = getenv("HOME");
    /* A shim (pyenv's, say) finds its interpreter by these two. */
    snprintf(path, sizeof(path), "PATH=%s", host_path ? host_path : "/usr/bin:/bin");
    snprintf(home, sizeof(home), "HOME=%s", host_home ? host_home : "/");
    char *envp[] = {path, home, "LANG=C.UTF-8", NULL};
    struct child_options options = {
        .file = candidate,
        .argv = argv,
        .envp = envp,
        .read_stdout = true,
        .user = s->user,
        .timeout_ms = PROBE_LIMIT_MS,
    };
    return child_spawn(s->loop, &s->child, &options, probe_exited, s);
}

static void try_next(struct interpreter_search *s)
{
    if (s->result || s->cancelled || s->next == s->count) {
        if (s->cancelled) {
            interpreter_free(s->result);
            s->result = NULL;
            error_set(&s->reasons, ERROR_LOST, "the search was taken back");
        }
        uv_idle_start(&s->soon, finish);
        return;
    }
    const char *candidate = s->candidates[s->next++];
    int r = start_probe(s, candidate);
    if (r < 0) {
        add_reason(s, candidate, uv_strerror(r));
        child_close(&s->child, child_gone);
    }
}

static void add_candidate(struct interpreter_search *s, char *path_owned)
{
    for (int i = 0; path_owned && i < s->count; i++) {
        if (strcmp(s->candidates[i], path_owned) == 0) {
            free(path_owned);
            return;
        }
    }
    if (path_owned && s->count < CANDIDATES_CAP) {
        s->candidates[s->count++] = path_owned;
    } else {
        free(path_owned);
    }
}

static void list_candidates(struct interpreter_search *s, const char *wanted)
{
    if (wanted) {
        add_candidate(s, strchr(wanted, '/') ? strdup(wanted) : find_program(wanted, 0));
        if (!s->count) {
            add_reason(s, wanted, "there is no such program on PATH");
        }
        return;
    }
    for (unsigned nth = 0; nth < CANDIDATES_CAP - 1; nth++) {
        char *path = find_program("python3", nth);
        if (!path) {
            break;
        }
        add_candidate(s, path);
    }
    add_candidate(s, strdup("/usr/bin/python3"));
}

struct interpreter_search *
interpreter_find(uv_loop_t *loop, const char *wanted, const struct sandbox_user *user,
                 void (*found)(void *data, struct interpreter *it, const struct error *err),
                 void *data)
{
    struct interpreter_search *s = calloc(1, sizeof(*s));
    if (!s) {
        return NULL;
    }
    s->loop = loop;
    s->user = user;
    s->found = found;
    s->data = data;
    uv_idle_init(loop, &s->soon);
    s->soon.data = s;
    list_candidates(s, wanted);
    try_next(s);
    return s;
}

void interpreter_search_cancel(struct interpreter_search *search)
{
    search->cancelled = true;
    if (search->next > 0 && !uv_is_active((uv_handle_t *)&search->soon)) {
        child_kill(&search->child);
    }
}
