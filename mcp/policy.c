#include "mcp/policy.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/cloud_share.h"
#include "mcp/config_environment.h"
#include "mcp/policy_ask.h"

enum {
    GPU_DIGITS = 4, /* of a count of GPUs; what has more is a name */
};

static int out_of_memory(struct error *err)
{
    return error_set_code(err, ERROR_INTERNAL, ENOMEM, "policy");
}

/* --- the config's object --- */

static double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static json_t *list_of(const json_t *object, const char *key)
{
    return json_incref(json_object_get(object, key));
}

int policy_fill(struct policy *policy, const json_t *object, struct error *err)
{
    size_t index;
    json_t *word;

    *policy = (struct policy){
        .max_memory_mib = number_of(object, "max_memory_mib"),
        .max_disk_mib = number_of(object, "max_disk_mib"),
        .max_cpu = number_of(object, "max_cpu"),
        .max_lifetime_seconds = number_of(object, "max_lifetime_seconds"),
        .max_idle_timeout_seconds = number_of(object, "max_idle_timeout_seconds"),
        .max_timeout_seconds = number_of(object, "max_timeout_seconds"),
        .max_sessions = (unsigned)json_integer_value(json_object_get(object, "max_sessions")),
        .images = list_of(object, "images"),
        .packages = list_of(object, "packages"),
        .networks = list_of(object, "networks"),
        .secrets = list_of(object, "secrets"),
        .gpu = list_of(object, "gpu"),
        .buckets = list_of(object, "buckets"),
    };
    json_array_foreach(policy->buckets, index, word)
    {
        if (cloud_share_check(word, err) < 0) {
            return error_wrap(err, "policy.buckets[%zu]", index);
        }
    }
    json_array_foreach(policy->networks, index, word)
    {
        enum network ignored;

        if (network_parse(json_string_value(word), &ignored, err) < 0) {
            return error_wrap(err, "policy.networks[%zu]", index);
        }
    }
    return policy_ask_fill(policy, json_object_get(object, "ask"), err);
}

void policy_deinit(struct policy *policy)
{
    policy_ask_free(policy->ask);
    json_decref(policy->images);
    json_decref(policy->packages);
    json_decref(policy->networks);
    json_decref(policy->secrets);
    json_decref(policy->gpu);
    json_decref(policy->buckets);
    *policy = (struct policy){0};
}

/* --- numbers --- */

double policy_lifetime(const struct policy *policy, const struct environment *base)
{
    return fmax(policy->max_lifetime_seconds, base->max_lifetime_seconds);
}

/* The numbers that may be asked for, and what the owner would set to allow more. */
static const struct number {
    const char *key;
    const char *widened_by;
} numbers[] = {
    {"memory_mib", "policy.max_memory_mib"},
    {"disk_mib", "policy.max_disk_mib"},
    {"cpu", "policy.max_cpu"},
    {"timeout_seconds", "the environment's max_timeout_seconds"},
    {"idle_timeout_seconds", "policy.max_idle_timeout_seconds"},
    {"max_lifetime_seconds", "policy.max_lifetime_seconds"},
};

double policy_most(const struct policy *policy, const struct environment *base, const char *key)
{
    const struct {
        const char *key;
        double most;
    } limits[] = {
        {"memory_mib", fmax(policy->max_memory_mib, (double)base->memory_mib)},
        {"disk_mib", fmax(policy->max_disk_mib, (double)base->disk_mib)},
        {"cpu", base->cpu > 0 ? fmax(policy->max_cpu, base->cpu) : INFINITY},
        {"timeout_seconds", fmax(policy->max_timeout_seconds, base->max_timeout_seconds)},
        {"idle_timeout_seconds",
         fmax(policy->max_idle_timeout_seconds, base->idle_timeout_seconds)},
        {"max_lifetime_seconds", policy_lifetime(policy, base)},
    };

    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
        if (strcmp(limits[i].key, key) == 0) {
            return limits[i].most;
        }
    }
    return INFINITY;
}

static int check_numbers(const struct policy *policy, const struct environment *base,
                         const json_t *wishes, struct error *err)
{
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        const json_t *wish = json_object_get(wishes, numbers[i].key);
        double most = policy_most(policy, base, numbers[i].key);

        if (wish && json_number_value(wish) > most) {
            return error_set(err, ERROR_REFUSED,
                             "%s %g is more than environment \"%s\" allows: %g at most. Nothing "
                             "was made; ask for less, or have the owner of this machine set %s",
                             numbers[i].key, json_number_value(wish), base->name, most,
                             numbers[i].widened_by);
        }
    }
    return 0;
}

/* --- words --- */

static bool is_listed(const json_t *list, const json_t *word)
{
    size_t index;
    json_t *listed;

    json_array_foreach(list, index, listed)
    {
        if (json_equal(listed, word)) {
            return true;
        }
    }
    return false;
}

/* Says what may be asked for instead. */
static int refuse_word(const char *key, const json_t *word, const struct environment *base,
                       const json_t *allowed, struct error *err)
{
    char list[512] = "";
    size_t index, used = 0;
    json_t *one;

    json_array_foreach(allowed, index, one)
    {
        int n = snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "",
                         json_string_value(one));

        if (n < 0 || (size_t)n >= sizeof(list) - used) {
            list[used] = '\0'; /* the first of them say enough */
            break;
        }
        used += (size_t)n;
    }
    return error_set(err, ERROR_REFUSED,
                     "%s \"%.100s\" may not be asked for in environment \"%s\"; besides the "
                     "environment's own, %s%s. Nothing was made; the owner of this machine allows "
                     "more with policy.%s%s",
                     key, json_string_value(word), base->name, used ? "these may: " : "nothing may",
                     list, key, strcmp(key, "gpu") == 0 ? "" : "s");
}

static int check_image(const struct policy *policy, const struct environment *base,
                       const json_t *wishes, struct error *err)
{
    const json_t *image = json_object_get(wishes, "image");
    const char *own = base->image ? base->image : "";

    if (!image || strcmp(json_string_value(image), own) == 0 || is_listed(policy->images, image)) {
        return 0;
    }
    return refuse_word("image", image, base, policy->images, err);
}

static int check_packages(const struct policy *policy, const struct environment *base,
                          const json_t *wishes, struct error *err)
{
    size_t index;
    json_t *package;

    json_array_foreach(json_object_get(wishes, "packages"), index, package)
    {
        if (!is_listed(base->packages, package) && !is_listed(policy->packages, package)) {
            return refuse_word("package", package, base, policy->packages, err);
        }
    }
    return 0;
}

static int check_network(const struct policy *policy, const struct environment *base,
                         const json_t *wishes, struct error *err)
{
    const json_t *word = json_object_get(wishes, "network");
    enum network network;

    if (!word) {
        return 0;
    }
    if (strlen(json_string_value(word)) != json_string_length(word)) {
        return error_set(err, ERROR_INVALID, "network holds a NUL character, which is not allowed");
    }
    if (network_parse(json_string_value(word), &network, err) < 0) {
        return -1;
    }
    /* A list of hosts is another than the environment's, for all that is known here. */
    if (network == NETWORK_NONE || (network == base->network && network != NETWORK_HOSTS) ||
        is_listed(policy->networks, word)) {
        return 0;
    }
    return refuse_word("network", word, base, policy->networks, err);
}

static int check_secrets(const struct policy *policy, const struct environment *base,
                         const json_t *wishes, struct error *err)
{
    size_t index;
    json_t *name;

    json_array_foreach(json_object_get(wishes, "secrets"), index, name)
    {
        if (!is_listed(base->secrets, name) && !is_listed(policy->secrets, name)) {
            return refuse_word("secret", name, base, policy->secrets, err);
        }
    }
    return 0;
}

/* "A10G:2" is two of a kind, "A10G" one. The size of the kind's name. */
static size_t parse_gpu(const char *gpu, unsigned long *ret_count)
{
    const char *colon = strrchr(gpu, ':');
    const char *digits = colon ? colon + 1 : "";
    size_t size = strspn(digits, "0123456789");

    *ret_count = 1;
    if (size == 0 || size > GPU_DIGITS || digits[size] != '\0' || strtoul(digits, NULL, 10) == 0) {
        return strlen(gpu);
    }
    *ret_count = strtoul(digits, NULL, 10);
    return (size_t)(colon - gpu);
}

/* Is it no more than what is there? Another kind is never less. */
static bool gpu_covers(const char *allowed, const char *wished)
{
    unsigned long most, count;
    size_t size = parse_gpu(allowed, &most);

    return parse_gpu(wished, &count) == size && strncmp(allowed, wished, size) == 0 &&
           count <= most;
}

static int check_gpu(const struct policy *policy, const struct environment *base,
                     const json_t *wishes, struct error *err)
{
    const json_t *word = json_object_get(wishes, "gpu"), *allowed;
    const char *gpu = json_string_value(word);
    size_t index;

    if (!word) {
        return 0;
    }
    if (strlen(gpu) != json_string_length(word)) {
        return error_set(err, ERROR_INVALID, "gpu holds a NUL character, which is not allowed");
    }
    if (json_is_true(policy->gpu) || (base->gpu && gpu_covers(base->gpu, gpu))) {
        return 0;
    }
    json_array_foreach(policy->gpu, index, allowed)
    {
        if (gpu_covers(json_string_value(allowed), gpu)) {
            return 0;
        }
    }
    return refuse_word("gpu", word, base, policy->gpu, err);
}

int policy_check(const struct policy *policy, const struct environment *base, const json_t *wishes,
                 struct error *err)
{
    return check_numbers(policy, base, wishes, err) < 0 ||
                   check_image(policy, base, wishes, err) < 0 ||
                   check_packages(policy, base, wishes, err) < 0 ||
                   check_network(policy, base, wishes, err) < 0 ||
                   check_secrets(policy, base, wishes, err) < 0 ||
                   check_gpu(policy, base, wishes, err) < 0
               ? -1
               : 0;
}

/* --- the environment that comes of it --- */

/* What changes the sandboxes themselves, and what is only about when they end. */
static const char *const place_keys[] = {"cpu",  "disk_mib", "gpu",      "image",    "memory_mib",
                                         "mode", "network",  "packages", "snapshot", "workdir"};
static const char *const session_keys[] = {"timeout_seconds", "idle_timeout_seconds",
                                           "max_lifetime_seconds", "secrets"};

/* The wishes among `keys`, taken into `ret`. */
static int take(const json_t *wishes, const char *const *keys, size_t count, json_t *ret)
{
    for (size_t i = 0; i < count; i++) {
        json_t *value = json_object_get(wishes, keys[i]);

        if (value && json_object_set(ret, keys[i], value) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Packages are wished for besides the environment's. */
static int join_packages(const struct environment *base, json_t *wishes)
{
    const json_t *wished = json_object_get(wishes, "packages");
    json_t *all = wished ? json_copy(base->packages) : NULL, *package;
    size_t index;

    json_array_foreach(wished, index, package)
    {
        if (!is_listed(all, package)) {
            json_array_append(all, package);
        }
    }
    return wished ? json_object_set_new(wishes, "packages", all) : 0;
}

/* No key of the config's: an environment of that kind has an image. */
static int begin_with(struct environment *env, const json_t *wishes, struct error *err)
{
    const char *snapshot = json_string_value(json_object_get(wishes, "snapshot"));

    if (snapshot) {
        env->snapshot = strdup(snapshot);
        env->given |= SETTING_SNAPSHOT;
    }
    return env->snapshot || !snapshot ? 0 : out_of_memory(err);
}

static int make(const struct environment *base, const json_t *wishes, struct derived *derived,
                struct error *err)
{
    struct environment *env = malloc(sizeof(*env));

    if (!env || environment_copy(env, base) < 0) {
        free(env);
        return out_of_memory(err);
    }
    derived->env = env;
    if (config_fill_environment(env, wishes, err) < 0 || begin_with(env, wishes, err) < 0) {
        derived_deinit(derived);
        return -1;
    }
    /* It is for one session: fresh sandboxes in store would never be used by a stateful one. */
    if (derived->own_place && env->mode == MODE_STATEFUL) {
        env->pool = 0;
    }
    return 0;
}

int policy_derive(const struct policy *policy, const struct environment *base, const json_t *wishes,
                  struct derived *ret, struct error *err)
{
    return policy_check(policy, base, wishes, err) < 0
               ? -1
               : policy_derive_unchecked(base, wishes, ret, err);
}

int policy_derive_unchecked(const struct environment *base, const json_t *wishes,
                            struct derived *ret, struct error *err)
{
    json_t *taken = json_object();
    struct derived derived = {0};
    int r = -1;

    if (!taken || take(wishes, place_keys, sizeof(place_keys) / sizeof(*place_keys), taken) < 0) {
        out_of_memory(err);
    } else {
        derived.own_place = json_object_size(taken) > 0;
        r = take(wishes, session_keys, sizeof(session_keys) / sizeof(*session_keys), taken) < 0 ||
                    join_packages(base, taken) < 0
                ? out_of_memory(err)
                : 0;
    }
    if (r == 0 && json_object_size(taken) > 0) {
        r = make(base, taken, &derived, err);
    }
    json_decref(taken);
    if (r == 0) {
        *ret = derived;
    }
    return r;
}

void derived_deinit(struct derived *derived)
{
    if (derived->env) {
        environment_deinit(derived->env);
        free(derived->env);
    }
    *derived = (struct derived){0};
}
