#include "mcp/policy_ask.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backends/base/strings.h"
#include "mcp/consent.h"

enum { WAIT_SECONDS = 120 };

static int out_of_memory(struct error *err)
{
    return error_set_code(err, ERROR_INTERNAL, ENOMEM, "policy.ask");
}

/* --- the config's object --- */

/* Resolved when the server starts, as --share-root is. */
static int add_folder(json_t *folders, const char *written, struct error *err)
{
    char *folder = written[0] == '/' ? realpath(written, NULL) : NULL;
    struct stat st;
    int r = 0;

    if (!folder || stat(folder, &st) < 0 || !S_ISDIR(st.st_mode)) {
        error_set(err, ERROR_INVALID,
                  "\"%.200s\" is no folder of this machine: give the absolute path of one that is "
                  "there",
                  written);
        r = -1;
    } else if (json_array_append_new(folders, json_string(folder)) < 0) {
        error_set(err, ERROR_INVALID, "\"%.200s\" is not UTF-8", written);
        r = -1;
    }
    free(folder);
    return r;
}

static int fill_folders(struct policy_ask *ask, const json_t *written, struct error *err)
{
    size_t index;
    json_t *folder;

    ask->shares = json_array();
    if (!ask->shares) {
        return out_of_memory(err);
    }
    json_array_foreach(written, index, folder)
    {
        if (add_folder(ask->shares, json_string_value(folder), err) < 0) {
            return error_wrap(err, "policy.ask.shares[%zu]", index);
        }
    }
    return 0;
}

/* A new list of both; NULL when there are neither. */
static json_t *join(const json_t *one, const json_t *other)
{
    json_t *all = one || other ? json_array() : NULL;

    if (one) {
        json_array_extend(all, (json_t *)one);
    }
    if (other) {
        json_array_extend(all, (json_t *)other);
    }
    return all;
}

/* Of GPUs `true` is all of them. */
static json_t *join_gpus(const json_t *one, const json_t *other)
{
    if (json_is_true(one) || json_is_true(other)) {
        return json_true();
    }
    return join(json_is_array(one) ? one : NULL, json_is_array(other) ? other : NULL);
}

static void widen(struct policy *most, const struct policy *policy)
{
    json_t *images = join(policy->images, most->images);
    json_t *packages = join(policy->packages, most->packages);
    json_t *networks = join(policy->networks, most->networks);
    json_t *gpu = join_gpus(policy->gpu, most->gpu);

    json_decref(most->images);
    json_decref(most->packages);
    json_decref(most->networks);
    json_decref(most->gpu);
    *most = (struct policy){
        .max_memory_mib = fmax(policy->max_memory_mib, most->max_memory_mib),
        .max_disk_mib = fmax(policy->max_disk_mib, most->max_disk_mib),
        .max_cpu = fmax(policy->max_cpu, most->max_cpu),
        .max_lifetime_seconds = fmax(policy->max_lifetime_seconds, most->max_lifetime_seconds),
        .max_idle_timeout_seconds =
            fmax(policy->max_idle_timeout_seconds, most->max_idle_timeout_seconds),
        .max_timeout_seconds = fmax(policy->max_timeout_seconds, most->max_timeout_seconds),
        .max_sessions = policy->max_sessions,
        .images = images,
        .packages = packages,
        .networks = networks,
        .secrets = json_incref(policy->secrets),
        .gpu = gpu,
    };
}

int policy_ask_fill(struct policy *policy, const json_t *object, struct error *err)
{
    struct policy_ask *ask = object ? calloc(1, sizeof(*ask)) : NULL;
    const json_t *wait = json_object_get(object, "wait_seconds");

    if (!object) {
        return 0;
    }
    if (!ask) {
        return out_of_memory(err);
    }
    policy->ask = ask;
    ask->wait_seconds = wait ? json_number_value(wait) : WAIT_SECONDS;
    if (policy_fill(&ask->most, object, err) < 0) {
        return error_wrap(err, "policy.ask");
    }
    widen(&ask->most, policy);
    return fill_folders(ask, json_object_get(object, "shares"), err);
}

void policy_ask_free(struct policy_ask *ask)
{
    if (ask) {
        policy_deinit(&ask->most);
        json_decref(ask->shares);
        free(ask);
    }
}

/* --- in words --- */

char *policy_ask_seconds(double seconds)
{
    static const struct {
        double seconds;
        const char *name;
    } units[] = {{86400, "days"}, {3600, "hours"}, {60, "minutes"}};

    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
        if (seconds >= 2 * units[i].seconds) {
            return string_format("%.15g seconds (%.3g %s)", seconds, seconds / units[i].seconds,
                                 units[i].name);
        }
    }
    return string_format("%.15g seconds", seconds);
}

static char *describe_time(const char *what, double wish, double most)
{
    char *wished = policy_ask_seconds(wish), *allowed = policy_ask_seconds(most);
    char *text = wished && allowed
                     ? string_format("%s %s (without asking: %s)", what, wished, allowed)
                     : NULL;

    free(wished);
    free(allowed);
    return text;
}

static char *describe_number(const char *key, double wish, double most)
{
    static const struct {
        const char *key, *words;
    } amounts[] = {{"memory_mib", "MiB of memory"},
                   {"disk_mib", "MiB of disk"},
                   {"cpu", "processors at once"}};
    static const struct {
        const char *key, *words;
    } times[] = {{"timeout_seconds", "runs that take up to"},
                 {"idle_timeout_seconds", "to be kept without use for up to"},
                 {"max_lifetime_seconds", "to live for up to"}};

    for (size_t i = 0; i < sizeof(amounts) / sizeof(*amounts); i++) {
        if (strcmp(amounts[i].key, key) == 0) {
            return string_format("%.15g %s (without asking: %.15g)", wish, amounts[i].words, most);
        }
    }
    for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++) {
        if (strcmp(times[i].key, key) == 0) {
            return describe_time(times[i].words, wish, most);
        }
    }
    return NULL;
}

static char *describe_word(const char *key, const json_t *word)
{
    char *shown = consent_quote(json_string_value(word));
    char *text = NULL;

    if (shown && strcmp(key, "network") == 0) {
        text = string_format("the network %s%s", shown,
                             strcmp(json_string_value(word), "all") == 0
                                 ? ": everything that this computer can reach"
                                 : "");
    } else if (shown) {
        text = string_format("the %s %s",
                             strcmp(key, "packages") == 0 ? "package"
                             : strcmp(key, "gpu") == 0    ? "GPU"
                                                          : key,
                             shown);
    }
    free(shown);
    return text;
}

/* --- what is beyond --- */

/* A line for one wish by itself, if it is beyond the policy. -1 when out of memory. */
static int want(const struct policy *policy, const struct environment *base, const char *key,
                json_t *value, json_t *lines)
{
    bool is_list = strcmp(key, "packages") == 0;
    json_t *one = is_list ? json_pack("{s[O]}", key, value) : json_pack("{sO}", key, value);
    int r = one ? 0 : -1;

    if (one && policy_check(policy, base, one, NULL) < 0) {
        char *line = json_is_string(value) ? describe_word(key, value)
                                           : describe_number(key, json_number_value(value),
                                                             policy_most(policy, base, key));

        r = line ? json_array_append_new(lines, json_string(line)) : -1;
        free(line);
    }
    json_decref(one);
    return r;
}

json_t *policy_ask_wants(const struct policy *policy, const struct environment *base,
                         const json_t *wishes)
{
    static const char *const keys[] = {"memory_mib",
                                       "disk_mib",
                                       "cpu",
                                       "timeout_seconds",
                                       "idle_timeout_seconds",
                                       "max_lifetime_seconds",
                                       "image",
                                       "network",
                                       "gpu"};
    json_t *lines = policy->ask ? json_array() : NULL, *value;
    bool may = lines && policy_check(&policy->ask->most, base, wishes, NULL) == 0;
    size_t index;

    for (size_t i = 0; may && i < sizeof(keys) / sizeof(*keys); i++) {
        value = json_object_get(wishes, keys[i]);
        may = !value || want(policy, base, keys[i], value, lines) == 0;
    }
    json_array_foreach(may ? json_object_get(wishes, "packages") : NULL, index, value)
    {
        may = may && want(policy, base, "packages", value, lines) == 0;
    }
    if (!may || json_array_size(lines) == 0) {
        json_decref(lines);
        return NULL;
    }
    return lines;
}
