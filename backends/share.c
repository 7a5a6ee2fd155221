#include "backends/share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    DEST_MAX = 4096,
    COMPONENT_MAX = 255, /* NAME_MAX of every file system that a sandbox has */
};

#define DEST_RULE                                                                                  \
    "dest must be an absolute path in the sandbox such as /workspace/data.csv, outside /proc, "    \
    "/sys, /dev, /usr, /bin, /sbin, /lib*, /etc and /run, and not /, /workspace or /tmp "          \
    "themselves"

static int is_directory(int fd, bool *ret)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    *ret = S_ISDIR(st.st_mode);
    return 0;
}

struct share *share_new(enum share_type type, int fd_owned, const char *source, const char *dest,
                        bool read_only)
{
    struct share *share = calloc(1, sizeof(*share));

    if (!share) {
        (void)close(fd_owned);
        return NULL;
    }
    share->type = type;
    share->fd = fd_owned;
    share->read_only = read_only;
    share->source = strdup(source);
    share->dest = strdup(dest);
    if (!share->source || !share->dest || is_directory(fd_owned, &share->is_directory) < 0) {
        share_free(share);
        return NULL;
    }
    return share;
}

struct share *share_clone(const struct share *share)
{
    int fd = fcntl(share->fd, F_DUPFD_CLOEXEC, 3);
    struct share *clone =
        fd < 0 ? NULL : share_new(share->type, fd, share->source, share->dest, share->read_only);

    if (clone) {
        clone->consented = share->consented;
    }
    return clone;
}

void share_free(struct share *share)
{
    if (!share) {
        return;
    }
    (void)close(share->fd);
    free(share->source);
    free(share->dest);
    free(share);
}

/* Appends "/name" to the normal form, or takes the last name away for "..". */
static int step(char *normal, size_t *size, const char *name, size_t length)
{
    if (length == 0 || (length == 1 && name[0] == '.')) {
        return 0;
    }
    if (length == 2 && name[0] == '.' && name[1] == '.') {
        while (*size > 0 && normal[--*size] != '/') {
        }
        return 0;
    }
    if (length > COMPONENT_MAX) {
        return -ENAMETOOLONG;
    }
    normal[(*size)++] = '/';
    memcpy(normal + *size, name, length);
    *size += length;
    return 0;
}

/* `normal` has room for strlen(dest) + 1 bytes: the normal form is never longer. */
static int normalise(const char *dest, char *normal)
{
    size_t size = 0;

    for (const char *p = dest; *p;) {
        const char *name = p + (*p == '/');
        size_t length = strcspn(name, "/");
        int r = step(normal, &size, name, length);
        if (r < 0) {
            return r;
        }
        p = name + length;
    }
    if (size == 0) {
        normal[size++] = '/';
    }
    normal[size] = '\0';
    return 0;
}

/* Is `path` (in normal form) the folder `root`, or in it? */
static bool is_under(const char *path, const char *root)
{
    size_t n = strlen(root);
    return strncmp(path, root, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static const char *forbidden_root(const char *normal)
{
    static const char *const roots[] = {
        "/proc", "/sys", "/dev", "/usr", "/bin", "/sbin", "/etc", "/run", "/workspace/.cellblock"};
    static const char *const alone[] = {"/", "/workspace", "/tmp"};

    for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
        if (is_under(normal, roots[i])) {
            return roots[i];
        }
    }
    for (size_t i = 0; i < sizeof(alone) / sizeof(alone[0]); i++) {
        if (strcmp(normal, alone[i]) == 0) {
            return alone[i];
        }
    }
    return strncmp(normal, "/lib", 4) == 0 ? "/lib*" : NULL;
}

static int check_bytes(const char *dest, struct error *err)
{
    if (dest[0] != '/') {
        return error_set(err, ERROR_INVALID, "dest: \"%.200s\" is not absolute; " DEST_RULE, dest);
    }
    if (strnlen(dest, DEST_MAX + 1) > DEST_MAX) {
        return error_set(err, ERROR_INVALID, "dest: longer than %d bytes; choose a shorter path",
                         DEST_MAX);
    }
    for (const char *p = dest; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            return error_set(err, ERROR_INVALID,
                             "dest: control character 0x%02x at byte %zu; " DEST_RULE,
                             (unsigned)(unsigned char)*p, (size_t)(p - dest));
        }
    }
    return 0;
}

int share_check_dest(const char *dest, char **ret_dest, struct error *err)
{
    const char *root;
    char *normal;

    if (check_bytes(dest, err) < 0) {
        return -1;
    }
    normal = calloc(1, strlen(dest) + 2);
    if (!normal) {
        return error_set(err, ERROR_INTERNAL, "dest: out of memory");
    }
    if (normalise(dest, normal) < 0) {
        free(normal);
        return error_set(err, ERROR_INVALID, "dest: a name in it is longer than %d bytes",
                         COMPONENT_MAX);
    }
    root = forbidden_root(normal);
    if (root) {
        (void)error_set(err, ERROR_INVALID, "dest: \"%.200s\" is %s%s; " DEST_RULE, dest,
                        strcmp(root, normal) == 0 ? "" : "inside ", root);
        free(normal);
        return -1;
    }
    *ret_dest = normal;
    return 0;
}
