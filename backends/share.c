#include "backends/share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/strings.h"

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

static int copy_text(const char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return from && !*to ? -ENOMEM : 0;
}

struct share *share_new_cloud(const struct share_cloud *cloud, const char *dest, bool read_only)
{
    struct share *share = calloc(1, sizeof(*share));

    if (!share) {
        return NULL;
    }
    share->type = SHARE_CLOUD;
    share->fd = -1;
    share->is_directory = true;
    share->read_only = read_only;
    share->dest = strdup(dest);
    share->source =
        string_format("%s/%s", cloud->bucket, cloud->key_prefix ? cloud->key_prefix : "");
    if (copy_text(&share->cloud.bucket, cloud->bucket) < 0 ||
        copy_text(&share->cloud.key_prefix, cloud->key_prefix) < 0 ||
        copy_text(&share->cloud.endpoint_url, cloud->endpoint_url) < 0 ||
        copy_text(&share->cloud.secret, cloud->secret) < 0 ||
        copy_text(&share->cloud.role_arn, cloud->role_arn) < 0 || !share->dest || !share->source) {
        share_free(share);
        return NULL;
    }
    return share;
}

static struct share *clone(const struct share *share)
{
    int fd;

    if (share->type == SHARE_CLOUD) {
        return share_new_cloud(&share->cloud, share->dest, share->read_only);
    }
    fd = fcntl(share->fd, F_DUPFD_CLOEXEC, 3);
    return fd < 0 ? NULL : share_new(share->type, fd, share->source, share->dest, share->read_only);
}

struct share *share_clone(const struct share *share)
{
    struct share *copy = clone(share);

    if (copy) {
        copy->consented = share->consented;
    }
    return copy;
}

void share_free(struct share *share)
{
    if (!share) {
        return;
    }
    if (share->fd >= 0) {
        (void)close(share->fd);
    }
    free((char *)share->cloud.bucket);
    free((char *)share->cloud.key_prefix);
    free((char *)share->cloud.endpoint_url);
    free((char *)share->cloud.secret);
    free((char *)share->cloud.role_arn);
    free(share->source);
    free(share->dest);
    free(share);
}

/* ---- buckets ---- */

/* Printable, and at most `most` bytes. */
static int check_cloud_text(const char *field, const char *text, size_t most, struct error *err)
{
    for (const char *p = text; p && *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            return error_set(err, ERROR_INVALID, "%s holds a control character", field);
        }
    }
    if (text && (*text == '\0' || strlen(text) > most)) {
        return error_set(err, ERROR_INVALID, "%s: 1 to %zu bytes are expected", field, most);
    }
    return 0;
}

static bool is_bucket_name(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

    return strchr(letters, name[0]) && name[0] &&
           name[1 + strspn(name + 1, "-._ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "0123456789")] == '\0';
}

static bool is_address(const char *url)
{
    size_t scheme = strncmp(url, "https://", 8) == 0 ? 8 : strncmp(url, "http://", 7) == 0 ? 7 : 0;

    return scheme && url[scheme] && !strpbrk(url, " @?#\"\\");
}

int share_check_cloud(const struct share_cloud *cloud, struct error *err)
{
    size_t n = cloud->key_prefix ? strlen(cloud->key_prefix) : 0;

    if (!cloud->bucket) {
        return error_set(err, ERROR_INVALID,
                         "bucket is missing: a share of type \"cloud\" needs the name of a bucket");
    }
    if (check_cloud_text("bucket", cloud->bucket, 255, err) < 0 ||
        check_cloud_text("key_prefix", cloud->key_prefix, 1024, err) < 0 ||
        check_cloud_text("bucket_endpoint_url", cloud->endpoint_url, 2048, err) < 0 ||
        check_cloud_text("secret", cloud->secret, 255, err) < 0 ||
        check_cloud_text("role_arn", cloud->role_arn, 2048, err) < 0) {
        return -1;
    }
    if (!is_bucket_name(cloud->bucket)) {
        return error_set(err, ERROR_INVALID,
                         "bucket: \"%.100s\" is no name of a bucket: letters, digits, - . and _ "
                         "are expected",
                         cloud->bucket);
    }
    if (n > 0 && (cloud->key_prefix[n - 1] != '/' || cloud->key_prefix[0] == '/')) {
        return error_set(err, ERROR_INVALID,
                         "key_prefix: \"%.100s\" must end in \"/\" and not begin with one, such as "
                         "sales/2025/: the prefix of a folder is expected",
                         cloud->key_prefix);
    }
    if (cloud->endpoint_url && !is_address(cloud->endpoint_url)) {
        return error_set(err, ERROR_INVALID,
                         "bucket_endpoint_url: \"%.100s\" is no address such as "
                         "https://storage.googleapis.com",
                         cloud->endpoint_url);
    }
    if (cloud->secret && cloud->role_arn) {
        return error_set(err, ERROR_INVALID,
                         "secret and role_arn: a bucket is opened by one of them, not by both");
    }
    return 0;
}

/* ---- dest ---- */

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
