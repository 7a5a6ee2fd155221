#include "backends/docker/context.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/base/strings.h"

enum {
    PATH_CAP = 4096,
    TRIED_CAP = 2048,
    PORT_PLAIN = 2375,
    PORT_TLS = 2376,
};

static const char how_to_start[] =
    "Start one (`systemctl start docker`, `systemctl --user start podman.socket`, or `podman "
    "system service --time=0 unix:///tmp/podman.sock`), or name one by the setting `host` or "
    "DOCKER_HOST";

void endpoint_deinit(struct endpoint *e)
{
    free(e->base);
    free(e->unix_socket);
    free(e->ca);
    free(e->cert);
    free(e->key);
    free(e->certs);
    free(e->name);
    *e = (struct endpoint){0};
}

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "out of memory");
}

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

/* ---- one address ---- */

static bool has_prefix(const char *text, const char *prefix)
{
    return text && strncmp(text, prefix, strlen(prefix)) == 0;
}

static int parse_unix(const char *path, const char *origin, struct endpoint *ret, struct error *err)
{
    struct sockaddr_un address;

    if (path[0] != '/' || strlen(path) >= sizeof(address.sun_path)) {
        return error_set(err, ERROR_INVALID,
                         "%s: \"unix://%.200s\" must hold the absolute path of a socket, of at "
                         "most %zu bytes",
                         origin, path, sizeof(address.sun_path) - 1);
    }
    *ret = (struct endpoint){.base = strdup("http://docker"),
                             .unix_socket = strdup(path),
                             .name = string_format("unix://%s (%s)", path, origin)};
    return ret->base && ret->unix_socket && ret->name ? 0 : out_of_memory(err);
}

/* "host", "host:port", "[::1]:port" and nothing else: a user, path or query has no meaning. */
static bool good_authority(const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]";
    size_t n = strspn(text, allowed);

    return n > 0 && n < 300 && (text[n] == '\0' || (text[n] == '/' && text[n + 1] == '\0'));
}

static bool has_port(const char *authority)
{
    const char *after = strrchr(authority, ']');
    return strchr(after ? after : authority, ':') != NULL;
}

static int parse_tcp(const char *scheme, const char *authority, const char *origin,
                     struct endpoint *ret, struct error *err)
{
    bool tls = strcmp(scheme, "https") == 0;
    int length = (int)strcspn(authority, "/");
    char port[8] = "";

    if (!good_authority(authority)) {
        return error_set(err, ERROR_INVALID, "%s: \"%.200s\" is not HOST:PORT", origin, authority);
    }
    if (!has_port(authority)) {
        (void)snprintf(port, sizeof(port), ":%d", tls ? PORT_TLS : PORT_PLAIN);
    }
    *ret = (struct endpoint){.base = string_format("%s://%.*s%s", scheme, length, authority, port),
                             .remote = true};
    ret->name = string_format("%s (%s)", ret->base ? ret->base : "", origin);
    return ret->base && ret->name ? 0 : out_of_memory(err);
}

static int refuse_ssh(const char *address, const char *origin, struct error *err)
{
    return error_set(
        err, ERROR_UNSUPPORTED,
        "%s: %.200s needs an ssh client, which the docker backend does not start. Forward the "
        "engine's socket (`ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST`) and say host "
        "\"unix:///tmp/docker.sock\", or use the backend command with [\"ssh\", \"HOST\"]",
        origin, address);
}

int endpoint_parse(const char *address, const char *origin, struct endpoint *ret, struct error *err)
{
    int r;

    if (has_prefix(address, "unix://")) {
        r = parse_unix(address + strlen("unix://"), origin, ret, err);
    } else if (has_prefix(address, "tcp://")) {
        r = parse_tcp("http", address + strlen("tcp://"), origin, ret, err);
    } else if (has_prefix(address, "http://")) {
        r = parse_tcp("http", address + strlen("http://"), origin, ret, err);
    } else if (has_prefix(address, "https://")) {
        r = parse_tcp("https", address + strlen("https://"), origin, ret, err);
    } else if (has_prefix(address, "ssh://")) {
        return refuse_ssh(address, origin, err);
    } else {
        return error_set(err, ERROR_INVALID,
                         "%s: \"%.200s\" is no engine's address; expected unix:///PATH, "
                         "tcp://HOST:PORT or https://HOST:PORT",
                         origin, address);
    }
    if (r < 0) {
        endpoint_deinit(ret);
    }
    return r;
}

/* ---- TLS ---- */

static char *file_in(const char *folder, const char *name)
{
    char *path = string_format("%s/%s", folder, name);

    if (path && access(path, R_OK) < 0) {
        free(path);
        path = NULL;
    }
    return path;
}

static void use_tls_files(struct endpoint *e, const char *folder)
{
    e->ca = file_in(folder, "ca.pem");
    e->cert = file_in(folder, "cert.pem");
    e->key = file_in(folder, "key.pem");
    e->certs = strdup(folder);
}

static int to_https(struct endpoint *e, struct error *err)
{
    char *base, *name;

    if (has_prefix(e->base, "https://")) {
        return 0;
    }
    base = string_format("https://%s", e->base + strlen("http://"));
    name = string_format("https://%s", e->name + strlen("http://"));
    if (!base || !name) {
        free(base);
        free(name);
        return out_of_memory(err);
    }
    free(e->base);
    free(e->name);
    e->base = base;
    e->name = name;
    return 0;
}

static const char *found(const char *path)
{
    return path ? "found" : "not found";
}

char *endpoint_advice(const struct endpoint *e)
{
    if (!e->remote) {
        return NULL;
    }
    if (has_prefix(e->base, "http://")) {
        return strdup("No TLS is used. If the engine wants it, set DOCKER_TLS_VERIFY=1, and "
                      "DOCKER_CERT_PATH to a folder with ca.pem, cert.pem and key.pem");
    }
    return string_format(
        "TLS is used (%s) with these files in %s: ca.pem, the engine's authority (%s); cert.pem "
        "and key.pem, our client certificate (%s, %s). %s",
        e->of_context ? "as the docker context has it" : "DOCKER_TLS_VERIFY, or https://",
        e->certs ? e->certs : "no folder", found(e->ca), found(e->cert), found(e->key),
        e->of_context ? "`docker context update` changes them"
                      : "DOCKER_CERT_PATH names another folder");
}

/* As Docker's client: DOCKER_TLS_VERIFY turns TLS on, DOCKER_CERT_PATH says where the files are. */
static int tls_of_environment(struct endpoint *e, struct error *err)
{
    const char *folder = setting("DOCKER_CERT_PATH");
    bool wanted = setting("DOCKER_TLS_VERIFY") || has_prefix(e->base, "https://");
    char *own = NULL;

    if (e->unix_socket || !wanted) {
        return 0;
    }
    if (!folder) {
        folder = own = docker_config_folder();
    }
    if (folder) {
        use_tls_files(e, folder);
    }
    if (setting("DOCKER_CERT_PATH") && !e->ca && !e->cert) {
        return error_set(err, ERROR_INVALID,
                         "DOCKER_CERT_PATH: no readable ca.pem, cert.pem or key.pem in %.200s",
                         folder);
    }
    free(own);
    return to_https(e, err);
}

/* ---- docker contexts ---- */

char *docker_config_folder(void)
{
    const char *folder = setting("DOCKER_CONFIG");
    const char *home = setting("HOME");

    if (folder) {
        return strdup(folder);
    }
    return home ? string_format("%s/.docker", home) : NULL;
}

json_t *docker_config_load(const char *folder, const char *name, struct error *err)
{
    char *path = string_format("%s/%s", folder, name);
    char *text = malloc(CONTEXT_FILE_CAP + 1);
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    ssize_t size = fd >= 0 && text ? read(fd, text, CONTEXT_FILE_CAP + 1) : -1;
    json_error_t why;
    json_t *json = NULL;

    if (size > CONTEXT_FILE_CAP) {
        error_set(err, ERROR_INVALID, "%s is larger than %d bytes", path, CONTEXT_FILE_CAP);
    } else if (size >= 0) {
        json = json_loadb(text, (size_t)size, JSON_REJECT_DUPLICATES, &why);
        if (!json_is_object(json)) {
            error_set(err, ERROR_INVALID, "%s is not a JSON object: %s (line %d)", path, why.text,
                      why.line);
            json_decref(json);
            json = NULL;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    free(text);
    free(path);
    return json;
}

/* Whose name the context is: contexts/meta has a folder for each, named by a hash. */
static json_t *find_context(const char *folder, const char *wanted, char hash[NAME_MAX + 1])
{
    char *meta = string_format("%s/contexts/meta", folder);
    DIR *dir = meta ? opendir(meta) : NULL;
    json_t *found = NULL;
    const struct dirent *entry;

    while (dir && !found && (entry = readdir(dir))) {
        char name[NAME_MAX + 16];
        json_t *json;
        const char *its;

        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(name, sizeof(name), "%s/meta.json", entry->d_name);
        json = docker_config_load(meta, name, NULL);
        its = json_string_value(json_object_get(json, "Name"));
        if (its && strcmp(its, wanted) == 0) {
            memcpy(hash, entry->d_name, strlen(entry->d_name) + 1);
            found = json_incref(json);
        }
        json_decref(json);
    }
    if (dir) {
        closedir(dir);
    }
    free(meta);
    return found;
}

static int of_context(const char *folder, const char *context, struct endpoint *ret,
                      struct error *err)
{
    char hash[NAME_MAX + 1];
    char origin[300];
    json_t *meta = find_context(folder, context, hash);
    json_t *docker = json_object_get(json_object_get(meta, "Endpoints"), "docker");
    const char *host = json_string_value(json_object_get(docker, "Host"));
    char *tls = NULL;
    int r = -1;

    (void)snprintf(origin, sizeof(origin), "docker context \"%.200s\"", context);
    if (!meta || !host) {
        error_set(err, ERROR_NOT_FOUND,
                  "%s: %s in %s/contexts. `docker context ls` lists those that there are", origin,
                  meta ? "it names no engine" : "there is none of this name", folder);
    } else if (endpoint_parse(host, origin, ret, err) == 0) {
        r = 0;
        ret->insecure = json_is_true(json_object_get(docker, "SkipTLSVerify"));
        tls = string_format("%s/contexts/tls/%s/docker", folder, hash);
        if (tls && !ret->unix_socket) {
            use_tls_files(ret, tls);
            ret->of_context = true;
        }
        if (ret->ca || ret->cert || (ret->insecure && !ret->unix_socket)) {
            r = to_https(ret, err);
        }
    }
    free(tls);
    json_decref(meta);
    return r;
}

/* 1 when a context is in use, 0 when not, -1 with `err`. */
static int find_by_context(struct endpoint *ret, struct error *err)
{
    const char *context = setting("DOCKER_CONTEXT");
    char *folder = docker_config_folder();
    struct error unreadable = {0};
    json_t *config = NULL;
    int r = 0;

    if (folder && !context) {
        config = docker_config_load(folder, "config.json", &unreadable);
        context = json_string_value(json_object_get(config, "currentContext"));
    }
    if (unreadable.kind != ERROR_NONE) {
        r = error_set(err, unreadable.kind, "%s", unreadable.message);
    } else if (context && context[0] && strcmp(context, "default") != 0) {
        r = of_context(folder ? folder : "~/.docker", context, ret, err) < 0 ? -1 : 1;
    }
    error_clear(&unreadable);
    json_decref(config);
    free(folder);
    return r;
}

/* ---- the usual sockets ---- */

static int try_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;
    int r = 0;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 && errno != EAGAIN) {
        r = -errno;
    }
    close(fd);
    return r;
}

struct search {
    char tried[TRIED_CAP];
    size_t used;
    bool denied;
};

static void note_tried(struct search *s, const char *path, int code)
{
    int n = snprintf(s->tried + s->used, sizeof(s->tried) - s->used, "%s%s (%s)",
                     s->used ? ", " : "", path, strerror(-code));

    if (n > 0 && (size_t)n < sizeof(s->tried) - s->used) {
        s->used += (size_t)n;
    }
    s->denied |= code == -EACCES || code == -EPERM;
}

/* 1 when somebody listens there. */
static int try_socket(struct search *s, const char *folder, const char *name, struct endpoint *ret,
                      struct error *err)
{
    char path[PATH_CAP];
    int n = folder ? snprintf(path, sizeof(path), "%s/%s", folder, name) : -1;
    int r;

    if (n < 0 || (size_t)n >= sizeof(path)) {
        return 0;
    }
    r = try_connect(path);
    if (r < 0) {
        note_tried(s, path, r);
        return 0;
    }
    return parse_unix(path, "found", ret, err) < 0 ? -1 : 1;
}

static int find_by_socket(struct endpoint *ret, struct error *err)
{
    const char *runtime = setting("XDG_RUNTIME_DIR");
    const char *home = setting("HOME");
    const char *const places[][2] = {
        {"/var/run", "docker.sock"},       {runtime, "docker.sock"},
        {home, ".docker/run/docker.sock"}, {runtime, "podman/podman.sock"},
        {"/run/podman", "podman.sock"},
    };
    struct search s = {0};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        int r = try_socket(&s, places[i][0], places[i][1], ret, err);
        if (r != 0) {
            return r < 0 ? -1 : 0;
        }
    }
    return error_set(err, ERROR_LOST, "no Docker or Podman engine was found. Tried: %s.%s %s",
                     s.tried,
                     s.denied ? " A user in the group docker may use Docker's socket "
                                "(`usermod -aG docker $USER`)."
                              : "",
                     how_to_start);
}

int endpoint_find(const struct environment *env, struct endpoint *ret, struct error *err)
{
    const char *host = env->host ? env->host : setting("DOCKER_HOST");
    struct endpoint found = {0};
    int r;

    if (host) {
        r = endpoint_parse(host, env->host ? "host" : "DOCKER_HOST", &found, err);
        r = r < 0 ? r : tls_of_environment(&found, err);
    } else {
        r = find_by_context(&found, err);
        r = r == 0 ? find_by_socket(&found, err) : r;
    }
    if (r < 0) {
        endpoint_deinit(&found);
        return -1;
    }
    *ret = found;
    return 0;
}
