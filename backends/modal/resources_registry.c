#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/modal/resources_internal.h"

/* How a private registry is opened: as the variables of the secret say, which the official client
 * goes by, too. */

enum { KEYS_MOST = 3, KEYS_TOLD = 12 };

#define AUTH(name) MODAL__CLIENT__REGISTRY_AUTH_TYPE__REGISTRY_AUTH_TYPE_##name

#define EXPECTED                                                                                   \
    "exactly one of these is expected: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION "   \
    "(or AWS_ROLE_ARN and AWS_REGION) for ECR, SERVICE_ACCOUNT_JSON for Artifact Registry, "       \
    "REGISTRY_USERNAME and REGISTRY_PASSWORD for others"

static const struct way {
    const char *word; /* of registry_auth */
    int auth;
    const char *keys[KEYS_MOST];
} ways[] = {
    {"aws", AUTH(AWS), {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}},
    {"aws", AUTH(AWS), {"AWS_ROLE_ARN", "AWS_REGION"}},
    {"gcp", AUTH(GCP), {"SERVICE_ACCOUNT_JSON"}},
    {"static", AUTH(STATIC_CREDS), {"REGISTRY_USERNAME", "REGISTRY_PASSWORD"}},
};

enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

static bool has(char *const *keys, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static bool fits(const struct way *way, char *const *keys, size_t count)
{
    for (unsigned i = 0; i < KEYS_MOST && way->keys[i]; i++) {
        if (!has(keys, count, way->keys[i])) {
            return false;
        }
    }
    return true;
}

/* "A, B and 3 more". To be freed. */
static char *list_keys(char *const *keys, size_t count)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out) {
        return NULL;
    }
    for (size_t i = 0; i < count && i < KEYS_TOLD; i++) {
        (void)fprintf(out, "%s%.64s", i > 0 ? ", " : "", keys[i]);
    }
    if (count > KEYS_TOLD) {
        (void)fprintf(out, " and %zu more", count - KEYS_TOLD);
    }
    (void)fputs(count == 0 ? "none" : "", out);
    return fclose(out) == 0 ? text : NULL;
}

static int refuse(struct modal_resources *r, char *const *keys, size_t count, const char *why)
{
    char *list = list_keys(keys, count);

    if (r->failure.kind == ERROR_NONE) {
        error_set(&r->failure, ERROR_INVALID,
                  "registry_secret: \"%.100s\" has the variables %s, %s: " EXPECTED
                  ". Where there are more, say registry_auth",
                  r->env->registry_secret, list ? list : "", why);
    }
    free(list);
    return -1;
}

static int auth_of_word(const char *word)
{
    for (unsigned i = 0; i < WAYS; i++) {
        if (strcmp(ways[i].word, word) == 0) {
            return ways[i].auth;
        }
    }
    return AUTH(UNSPECIFIED);
}

int resources_take_registry(struct modal_resources *r, const char *id, char *const *keys,
                            size_t count)
{
    int found = AUTH(UNSPECIFIED);

    if (r->env->registry_auth) {
        found = auth_of_word(r->env->registry_auth);
    }
    for (unsigned i = 0; i < WAYS && !r->env->registry_auth; i++) {
        if (!fits(&ways[i], keys, count)) {
            continue;
        }
        if (found != AUTH(UNSPECIFIED) && found != ways[i].auth) {
            return refuse(r, keys, count, "which open more than one kind of registry");
        }
        found = ways[i].auth;
    }
    if (found == AUTH(UNSPECIFIED)) {
        return refuse(r, keys, count, "which open no registry");
    }
    r->registry = (struct modal_registry){.auth = found, .secret_id = id};
    return 0;
}
