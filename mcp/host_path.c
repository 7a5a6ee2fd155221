#include "mcp/host_path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ROOTS_TOLD = 8, /* roots that a refusal names */
};

/* Is `path` the directory `root` or below it? Both absolute; compared component by component. */
static bool is_under(const char *path, const char *root)
{
    size_t n = strlen(root);

    while (n > 1 && root[n - 1] == '/') {
        n--;
    }
    if (n == 1) {
        return true; /* the root is "/" */
    }
    return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static bool has_dot_dot(const char *path)
{
    for (const char *p = strstr(path, ".."); p; p = strstr(p + 1, "..")) {
        if ((p == path || p[-1] == '/') && (p[2] == '/' || p[2] == '\0')) {
            return true;
        }
    }
    return false;
}

/* A root that the client offers, where it really leads; NULL when it is no path of this machine. */
static char *client_root(const json_t *roots, size_t index)
{
    const char *root = json_string_value(json_array_get(roots, index));

    return root && root[0] == '/' ? realpath(root, NULL) : NULL;
}

static bool under_client_root(const json_t *roots, const char *path)
{
    bool under = false;

    for (size_t i = 0; i < json_array_size(roots) && !under; i++) {
        char *root = client_root(roots, i);

        under = root && is_under(path, root);
        free(root);
    }
    return under;
}

static bool under_any_root(const struct config *config, const json_t *roots, const char *path)
{
    for (char **root = config->share_roots; *root; root++) {
        if (is_under(path, *root)) {
            return true;
        }
    }
    return under_client_root(roots, path);
}

/* Would the path as it is written lie under a root? Then it may be said that it does not exist;
 * elsewhere an answer would tell what there is on the host. */
static bool may_be_told(const struct config *config, const json_t *roots, const char *path)
{
    if (has_dot_dot(path)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(roots); i++) {
        const char *root = json_string_value(json_array_get(roots, i));

        if (root && root[0] == '/' && is_under(path, root)) {
            return true;
        }
    }
    return under_any_root(config, roots, path);
}

static void append_root(char *list, size_t room, const char *root)
{
    size_t used = strlen(list);

    snprintf(list + used, room - used, "%s%s", used > 0 ? ", " : "", root);
}

static int refuse(const struct config *config, const json_t *roots, const char *what,
                  const char *path, struct error *err)
{
    char list[2048] = "";
    size_t told = 0;

    for (char **root = config->share_roots; *root && told < ROOTS_TOLD; root++, told++) {
        append_root(list, sizeof(list), *root);
    }
    for (size_t i = 0; i < json_array_size(roots) && told < ROOTS_TOLD; i++, told++) {
        const char *root = json_string_value(json_array_get(roots, i));

        append_root(list, sizeof(list), root ? root : "");
    }
    if (told == 0) {
        return error_set(err, ERROR_REFUSED,
                         "%s %s is not shared: nothing of this machine is. The person who runs "
                         "this server can allow a folder by starting it with --share-root DIR, or "
                         "by a client that offers roots",
                         what, path);
    }
    return error_set(err, ERROR_REFUSED,
                     "%s %s is not under a folder that may be shared (symbolic links are "
                     "followed first). Allowed: %s. Another folder is allowed by starting the "
                     "server with --share-root DIR",
                     what, path, list);
}

static int refuse_open(const struct config *config, const json_t *roots, const char *what,
                       const char *path, int code, struct error *err)
{
    if (!may_be_told(config, roots, path)) {
        return refuse(config, roots, what, path, err);
    }
    if (code == ENOENT || code == ENOTDIR) {
        return error_set(err, ERROR_NOT_FOUND, "%s %s does not exist", what, path);
    }
    if (code == EACCES || code == ELOOP || code == ENAMETOOLONG) {
        return error_set_code(err, ERROR_REFUSED, code, "%s %s cannot be opened", what, path);
    }
    return error_set_code(err, ERROR_INTERNAL, code, "%s %s cannot be opened", what, path);
}

static int check_written(const char *what, const char *path, struct error *err)
{
    if (path[0] != '/') {
        return error_set(err, ERROR_INVALID,
                         "%s \"%.200s\" is not an absolute path: give one such as "
                         "/home/me/data.csv (\"~\" and variables are not expanded)",
                         what, path);
    }
    if (strlen(path) >= PATH_MAX) {
        return error_set(err, ERROR_INVALID, "%s has %zu bytes; a path has fewer than %d", what,
                         strlen(path), PATH_MAX);
    }
    return 0;
}

/* Where the descriptor leads; NULL when that is no path (a pipe, a file in memory). To be freed. */
static char *path_of(int fd)
{
    char name[32], target[PATH_MAX];
    ssize_t n;

    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    n = readlink(name, target, sizeof(target) - 1);
    if (n <= 0 || n >= (ssize_t)sizeof(target) - 1 || target[0] != '/') {
        return NULL;
    }
    target[n] = '\0';
    return strdup(target);
}

static int check_opened(const struct config *config, const json_t *roots, const char *what,
                        const char *path, int fd, const char *resolved, bool *ret_is_directory,
                        struct error *err)
{
    struct stat st;

    if (!resolved || !under_any_root(config, roots, resolved)) {
        return refuse(config, roots, what, path, err);
    }
    if (fstat(fd, &st) < 0) {
        return error_set_code(err, ERROR_INTERNAL, errno, "%s %s", what, path);
    }
    if (st.st_nlink == 0) {
        return error_set(err, ERROR_NOT_FOUND, "%s %s was removed just now", what, path);
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        return error_set(err, ERROR_INVALID,
                         "%s %s is neither a file nor a directory; pipes, sockets and devices "
                         "cannot be shared",
                         what, path);
    }
    *ret_is_directory = S_ISDIR(st.st_mode);
    return 0;
}

/* What is named is called `what` in errors. */
static int open_checked(const struct config *config, const json_t *roots, const char *what,
                        const char *path, int *ret_fd, char **ret_path, bool *ret_is_directory,
                        struct error *err)
{
    char *resolved;
    int fd;

    /* O_PATH opens nothing for real: no pipe blocks and no device is woken. */
    fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return refuse_open(config, roots, what, path, errno, err);
    }
    resolved = path_of(fd);
    if (check_opened(config, roots, what, path, fd, resolved, ret_is_directory, err) < 0) {
        free(resolved);
        close(fd);
        return -1;
    }
    *ret_fd = fd;
    *ret_path = resolved;
    return 0;
}

int host_path_open(const struct config *config, const json_t *roots, const char *path, int *ret_fd,
                   char **ret_path, bool *ret_is_directory, struct error *err)
{
    if (check_written("source", path, err) < 0) {
        return -1;
    }
    return open_checked(config, roots, "source", path, ret_fd, ret_path, ret_is_directory, err);
}

/* The folder of a path, to be freed, and the part after the last slash when that is a name. */
static char *split(const char *path, const char **ret_name, struct error *err)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *parent;

    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        error_set(err, ERROR_INVALID,
                  "dest %s does not end in a name: give the new file's or folder's own name", path);
        return NULL;
    }
    parent = name - path <= 1 ? strdup("/") : strndup(path, (size_t)(name - path) - 1);
    if (!parent) {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "dest %s", path);
    }
    *ret_name = name;
    return parent;
}

int host_path_open_parent(const struct config *config, const json_t *roots, const char *path,
                          int *ret_fd, char **ret_path, const char **ret_name, struct error *err)
{
    bool is_directory = false;
    char *parent, *resolved = NULL;
    int fd = -1, r;

    if (check_written("dest", path, err) < 0) {
        return -1;
    }
    parent = split(path, ret_name, err);
    if (!parent) {
        return -1;
    }
    r = open_checked(config, roots, "dest's folder", parent, &fd, &resolved, &is_directory, err);
    free(parent);
    if (r < 0) {
        return -1;
    }
    if (!is_directory) {
        error_set(err, ERROR_INVALID, "dest's folder %s is a file", resolved);
        free(resolved);
        close(fd);
        return -1;
    }
    *ret_fd = fd;
    *ret_path = resolved;
    return 0;
}
