#include <stddef.h>
#include <string.h>

#include "backends/modal/ports.h"
#include "backends/modal/spec.h"
#include "backends/modal/spec_check.h"

#define HOST_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."

/* ---- ports ---- */

struct port_list {
    const char *key;
    const json_t *numbers;
};

enum { PORT_LISTS = 3 };

static int check_apart(const struct port_list *one, const struct port_list *other,
                       struct error *err)
{
    size_t index;
    json_t *number;

    json_array_foreach(one->numbers, index, number)
    {
        if (modal_holds_port(other->numbers, json_integer_value(number))) {
            return error_set(err, ERROR_INVALID,
                             "%s: %d is in %s, too; one tunnel leads to a port, so take it out of "
                             "one of them",
                             other->key, (int)json_integer_value(number), one->key);
        }
    }
    return 0;
}

static int check_gateway(const struct environment *env, const struct port_list *list,
                         struct error *err)
{
    if (!modal_spec_is_jupyter(env) || list->numbers == env->ports ||
        !modal_holds_port(list->numbers, MODAL_GATEWAY_PORT)) {
        return 0;
    }
    return error_set(err, ERROR_INVALID,
                     "%s: with kernel \"jupyter\" %d is the Kernel Gateway's, which is reached "
                     "through an encrypted tunnel; choose another port",
                     list->key, MODAL_GATEWAY_PORT);
}

static int refuse_cut(const char *key, struct error *err)
{
    return error_set(err, ERROR_INVALID,
                     "%s: nothing is reached in a sandbox with network \"none\", or out of it; "
                     "leave %s out, or say network \"all\" or a list of hosts",
                     key, key);
}

static int check_ports(const struct environment *env, struct error *err)
{
    const struct port_list lists[PORT_LISTS] = {{"ports", env->ports},
                                                {"h2_ports", env->h2_ports},
                                                {"unencrypted_ports", env->unencrypted_ports}};

    for (unsigned i = 0; i < PORT_LISTS; i++) {
        if (env->network == NETWORK_NONE && json_array_size(lists[i].numbers) > 0) {
            return refuse_cut(lists[i].key, err);
        }
        if (check_gateway(env, &lists[i], err) < 0) {
            return -1;
        }
        for (unsigned k = 0; k < i; k++) {
            if (check_apart(&lists[k], &lists[i], err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* ---- names ---- */

static bool has_ports(const struct environment *env)
{
    return modal_spec_is_jupyter(env) || json_array_size(env->ports) > 0 ||
           json_array_size(env->h2_ports) > 0 || json_array_size(env->unencrypted_ports) > 0;
}

static int check_domain(const struct environment *env, struct error *err)
{
    const char *domain = env->custom_domain;

    if (!domain) {
        return 0;
    }
    if (domain[strspn(domain, HOST_CHARACTERS)] != '\0' || !strchr(domain, '.') ||
        domain[0] == '.' || strstr(domain, "..")) {
        return error_set(err, ERROR_INVALID,
                         "custom_domain: \"%.100s\" is no domain's name, such as "
                         "sandboxes.example.org",
                         domain);
    }
    if (env->network == NETWORK_NONE || !has_ports(env)) {
        return error_set(err, ERROR_INVALID,
                         "custom_domain: the sandbox has no ports that a name would lead to; give "
                         "some (ports, h2_ports), or leave it out");
    }
    return 0;
}

int spec_check_network(const struct environment *env, struct error *err)
{
    if (check_ports(env, err) < 0 || check_domain(env, err) < 0) {
        return -1;
    }
    if (env->network == NETWORK_NONE && json_array_size(env->inbound_cidr_allowlist) > 0) {
        return refuse_cut("inbound_cidr_allowlist", err);
    }
    return env->network == NETWORK_NONE && env->proxy ? refuse_cut("proxy", err) : 0;
}

/* ---- what it starts with ---- */

static int check_argv(const char *key, const json_t *words, struct error *err)
{
    const char *first = json_string_value(json_array_get(words, 0));
    size_t index, size = 0;
    json_t *word;

    json_array_foreach(words, index, word)
    {
        size += json_string_length(word) + 1;
    }
    if (first && !first[0]) {
        return error_set(err, ERROR_INVALID, "%s: its first word is empty; a program is expected",
                         key);
    }
    if (size > MODAL_ARGV_MAX) {
        return error_set(err, ERROR_INVALID,
                         "%s: it has %zu bytes, and Modal takes %d at most; put it into a script "
                         "of the image",
                         key, size, MODAL_ARGV_MAX);
    }
    return 0;
}

static int check_probe(const struct environment *env, struct error *err)
{
    const json_t *port = json_object_get(env->readiness_probe, "port");

    if (port && modal_spec_is_jupyter(env) && json_integer_value(port) == MODAL_GATEWAY_PORT) {
        return error_set(err, ERROR_INVALID,
                         "readiness_probe: port %d is the Kernel Gateway's, which is started when "
                         "the sandbox is ready and waited for anyway; name another port, or leave "
                         "it out",
                         MODAL_GATEWAY_PORT);
    }
    return check_argv("readiness_probe.command", json_object_get(env->readiness_probe, "command"),
                      err);
}

static int check_machine(const struct environment *env, struct error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";

    if (env->runtime && strcmp(env->runtime, "gvisor") != 0 && strcmp(env->runtime, "vm") != 0) {
        return error_set(err, ERROR_INVALID,
                         "runtime: \"%.64s\" is none of Modal's, which are \"gvisor\" and \"vm\"",
                         env->runtime);
    }
    if (env->cloud && env->cloud[strspn(env->cloud, letters)] != '\0') {
        return error_set(err, ERROR_INVALID,
                         "cloud: \"%.64s\" is no name of a cloud, such as \"aws\" or \"gcp\"",
                         env->cloud);
    }
    return 0;
}

int spec_check_start(const struct environment *env, struct error *err)
{
    return check_argv("sandbox_command", env->sandbox_command, err) < 0 ||
                   check_probe(env, err) < 0 || check_machine(env, err) < 0
               ? -1
               : 0;
}

unsigned modal_spec_probe_seconds(const struct environment *env)
{
    const json_t *seconds = json_object_get(env->readiness_probe, "timeout_seconds");

    if (json_object_size(env->readiness_probe) == 0) {
        return 0;
    }
    return seconds ? (unsigned)json_integer_value(seconds) : MODAL_PROBE_TIMEOUT_SECS;
}
