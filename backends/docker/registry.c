#include "backends/docker/registry.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/docker/context.h"

static const char hub[] = "docker.io";

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "out of memory");
}

/* ---- names ---- */

char *registry_of(const char *image)
{
    size_t n = strcspn(image, "/");
    bool is_host =
        image[n] == '/' && (memchr(image, '.', n) || memchr(image, ':', n) ||
                            (n == strlen("localhost") && !strncmp(image, "localhost", n)));

    return is_host ? strndup(image, n) : strdup(hub);
}

/* Is this key of config.json the registry's? It may be an address, "https://index.docker.io/v1/".
 */
static bool is_key_of(const char *key, const char *registry)
{
    static const char *const hubs[] = {"index.docker.io", "docker.io", "registry-1.docker.io"};
    const char *scheme = strstr(key, "://");
    const char *host = scheme ? scheme + strlen("://") : key;
    size_t n = strcspn(host, "/");

    for (size_t i = 0; strcmp(registry, hub) == 0 && i < sizeof(hubs) / sizeof(hubs[0]); i++) {
        if (strlen(hubs[i]) == n && strncmp(host, hubs[i], n) == 0) {
            return true;
        }
    }
    return strlen(registry) == n && strncmp(host, registry, n) == 0;
}

static json_t *value_for(json_t *object, const char *registry, const char **ret_key)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        if (is_key_of(key, registry)) {
            *ret_key = key;
            return value;
        }
    }
    return NULL;
}

/* ---- base64 ---- */

static void forget(char *secret)
{
    if (secret) {
        OPENSSL_cleanse(secret, strlen(secret));
        free(secret);
    }
}

/* NULL when it is no base64 of a text. */
static char *decode(const char *text)
{
    size_t size = strlen(text);
    char *plain = size % 4 == 0 && size <= REGISTRY_LOGIN_CAP ? calloc(1, size + 1) : NULL;
    int n = plain ? EVP_DecodeBlock((unsigned char *)plain, (const unsigned char *)text, (int)size)
                  : -1;

    /* The NULs of its padding are no part of it. */
    if (n < 0 || strlen(plain) + 2 < (size_t)n) {
        free(plain);
        return NULL;
    }
    return plain;
}

/* As in a URL. NULL when out of memory. */
static char *encode(const char *text)
{
    size_t size = strlen(text);
    char *code = calloc(1, 4 * (size / 3 + 1) + 1);

    if (code) {
        EVP_EncodeBlock((unsigned char *)code, (const unsigned char *)text, (int)size);
    }
    for (char *c = code; c && *c; c++) {
        *c = (char)(*c == '+' ? '-' : *c == '/' ? '_' : *c);
    }
    return code;
}

/* ---- a login ---- */

static char *header_of(json_t *what)
{
    char *text = what ? json_dumps(what, JSON_COMPACT) : NULL;
    char *code = text ? encode(text) : NULL;
    char *header = code ? string_format("X-Registry-Auth: %s", code) : NULL;

    forget(text);
    forget(code);
    json_decref(what);
    return header;
}

/* What the engine is told; NULL when the entry holds no login. */
static json_t *login_of(json_t *entry, const char *server)
{
    const char *token = json_string_value(json_object_get(entry, "identitytoken"));
    const char *user = json_string_value(json_object_get(entry, "username"));
    const char *password = json_string_value(json_object_get(entry, "password"));
    const char *both = json_string_value(json_object_get(entry, "auth"));
    char *plain = both && !token ? decode(both) : NULL;
    char *colon = plain ? strchr(plain, ':') : NULL;
    json_t *login = NULL;

    if (colon) {
        *colon = '\0';
        user = plain;
        password = colon + 1;
    }
    if (token && *token) {
        login = json_pack("{s:s, s:s}", "identitytoken", token, "serveraddress", server);
    } else if (user && *user && password) {
        login = json_pack("{s:s, s:s, s:s}", "username", user, "password", password,
                          "serveraddress", server);
    }
    if (colon) {
        *colon = ':';
    }
    forget(plain);
    return login;
}

static bool is_empty(json_t *entry)
{
    const char *both = json_string_value(json_object_get(entry, "auth"));

    return !(both && *both) && !json_object_get(entry, "identitytoken") &&
           !json_object_get(entry, "username");
}

/* The program that keeps this registry's login; NULL. */
static const char *keeper_of(json_t *config, const char *registry)
{
    const char *key;
    json_t *own = value_for(json_object_get(config, "credHelpers"), registry, &key);
    const char *name = json_string_value(own ? own : json_object_get(config, "credsStore"));

    return name && *name ? name : NULL;
}

static char *advice_of(json_t *config, const char *folder, const char *registry, bool known)
{
    const char *keeper = keeper_of(config, registry);

    if (known) {
        return string_format("The login for %.200s in %.500s/config.json was used; `docker login "
                             "%.200s` makes a new one",
                             registry, folder, registry);
    }
    if (keeper) {
        return string_format("Logins for %.200s are kept by the program docker-credential-%.60s, "
                             "which is not run here: bring the image in with `docker pull`",
                             registry, keeper);
    }
    return string_format("If it is private: `docker login %.200s` on this machine (there is no "
                         "login for it in %.500s/config.json)",
                         registry, folder);
}

static int find_in(json_t *config, const char *folder, const char *registry,
                   struct registry_login *ret, struct error *err)
{
    const char *key = registry;
    json_t *entry = value_for(json_object_get(config, "auths"), registry, &key);
    json_t *login = login_of(entry, key);

    if (!login && entry && !is_empty(entry)) {
        return error_set(err, ERROR_INVALID,
                         "the login for %.200s in %.500s/config.json is none (expected \"auth\": "
                         "base64 of USER:PASSWORD): `docker login %.200s` makes a new one",
                         registry, folder, registry);
    }
    ret->advice = advice_of(config, folder, registry, login != NULL);
    if (login) {
        ret->header = header_of(login);
        return ret->header ? 0 : out_of_memory(err);
    }
    return 0;
}

int registry_login_find(const char *image, struct registry_login *ret, struct error *err)
{
    char *folder = docker_config_folder();
    char *registry = registry_of(image);
    struct registry_login found = {0};
    struct error unreadable = {0};
    json_t *config = folder ? docker_config_load(folder, "config.json", &unreadable) : NULL;
    int r;

    if (!registry) {
        r = out_of_memory(err);
    } else if (unreadable.kind != ERROR_NONE) {
        r = error_set(err, unreadable.kind, "%s", unreadable.message);
    } else {
        r = find_in(config, folder ? folder : "~/.docker", registry, &found, err);
    }
    error_clear(&unreadable);
    json_decref(config);
    free(folder);
    free(registry);
    if (r < 0) {
        registry_login_deinit(&found);
        return -1;
    }
    *ret = found;
    return 0;
}

void registry_login_deinit(struct registry_login *login)
{
    forget(login->header);
    free(login->advice);
    *login = (struct registry_login){0};
}
