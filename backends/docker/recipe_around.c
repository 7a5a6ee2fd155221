#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/docker/recipe.h"

/* Passed on as they are. */
static const char *const plain[] = {
    "PIP_DEFAULT_TIMEOUT", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_NO_INDEX", "PIP_PROXY",
    "PIP_RETRIES",         "PIP_TRUSTED_HOST",    "http_proxy",    "https_proxy",  "no_proxy",
    "HTTP_PROXY",          "HTTPS_PROXY",         "NO_PROXY",
};

/* Who may name a bundle of certificates, the nearest to pip first. */
static const char *const bundles[] = {"PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
                                      "SSL_CERT_FILE"};

static int read_bundle(const char *path, struct recipe_surroundings *around)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *bytes;
    ssize_t n = 0;
    size_t size = 0;

    if (fd < 0) {
        return -errno;
    }
    bytes = malloc(RECIPE_CA_CAP);
    while (bytes && size < RECIPE_CA_CAP &&
           (n = read(fd, bytes + size, RECIPE_CA_CAP - size)) > 0) {
        size += (size_t)n;
    }
    if (!bytes || n < 0 || size == RECIPE_CA_CAP) {
        int r = !bytes ? -ENOMEM : n < 0 ? -errno : -EFBIG;
        free(bytes);
        close(fd);
        return r;
    }
    close(fd);
    around->ca = bytes;
    around->ca_size = size;
    return 0;
}

static int take_bundle(char *(*get)(const char *name), struct recipe_surroundings *around,
                       struct error *err)
{
    for (size_t i = 0; i < sizeof(bundles) / sizeof(bundles[0]); i++) {
        const char *path = get(bundles[i]);
        int r;
        if (!path || !path[0]) {
            continue;
        }
        r = read_bundle(path, around);
        if (r < 0) {
            return error_set_code(err, ERROR_INVALID, r,
                                  "%s: the certificates in %.200s cannot be given to the build "
                                  "(at most %d bytes)",
                                  bundles[i], path, RECIPE_CA_CAP);
        }
        json_object_set_new(around->arguments, "PIP_CERT", json_string("/tmp/cellblock/ca.pem"));
        return 0;
    }
    return 0;
}

int recipe_look_around(char *(*get)(const char *name), struct recipe_surroundings *ret,
                       struct error *err)
{
    struct recipe_surroundings around = {.arguments = json_object()};

    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        const char *value = get(plain[i]);
        if (value && value[0]) {
            json_object_set_new(around.arguments, plain[i], json_string(value));
        }
    }
    if (take_bundle(get, &around, err) < 0) {
        recipe_surroundings_deinit(&around);
        return -1;
    }
    *ret = around;
    return 0;
}

void recipe_surroundings_deinit(struct recipe_surroundings *around)
{
    json_decref(around->arguments);
    free(around->ca);
    *around = (struct recipe_surroundings){0};
}
