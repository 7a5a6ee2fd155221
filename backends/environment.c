#include "backends/environment.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Words of an enum whose values count from 0. */
struct vocabulary {
    const char *what; /* for messages: "network" */
    const char *const *words;
    size_t count;
};

static const char *const network_words[] = {
    [NETWORK_NONE] = "none",
    [NETWORK_ALL] = "all",
    [NETWORK_HOSTS] = "hosts",
};
static const char *const isolation_words[] = {
    [ISOLATION_AUTO] = "auto",
    [ISOLATION_BWRAP] = "bwrap",
    [ISOLATION_LANDLOCK] = "landlock",
    [ISOLATION_NONE] = "none",
};
static const char *const cells_words[] = {
    [CELLS_AUTO] = "auto",
    [CELLS_FORKED] = "forked",
    [CELLS_SOLO] = "solo",
};
static const char *const mode_words[] = {
    [MODE_STATEFUL] = "stateful",
    [MODE_EPHEMERAL] = "ephemeral",
};
static const char *const kernel_words[] = {
    [KERNEL_DEFAULT] = "default",
    [KERNEL_RUNNER] = "runner",
    [KERNEL_JUPYTER] = "jupyter",
};

enum {
    WORDS_TEXT = 128, /* room for a list of all words of a vocabulary */
    HOSTS_CAP = 100,  /* of network_hosts */
    HOST_CAP = 253,   /* bytes of a host's name */
};

static const struct vocabulary network_vocabulary = {"network", network_words, 2};
static const struct vocabulary isolation_vocabulary = {"isolation", isolation_words, 4};
static const struct vocabulary cells_vocabulary = {"cells", cells_words, 3};
static const struct vocabulary mode_vocabulary = {"mode", mode_words, 2};
static const struct vocabulary kernel_vocabulary = {"kernel", kernel_words, 3};

/* The fields that hold memory of their own, by their place in the structure. */
static const size_t text_fields[] = {
    offsetof(struct environment, name),          offsetof(struct environment, title),
    offsetof(struct environment, backend),       offsetof(struct environment, python),
    offsetof(struct environment, image),         offsetof(struct environment, runtime),
    offsetof(struct environment, user),          offsetof(struct environment, host),
    offsetof(struct environment, url),           offsetof(struct environment, token),
    offsetof(struct environment, kernel_id),     offsetof(struct environment, workdir),
    offsetof(struct environment, gpu),           offsetof(struct environment, app_name),
    offsetof(struct environment, sandbox_name),  offsetof(struct environment, registry_secret),
    offsetof(struct environment, registry_auth), offsetof(struct environment, cloud),
    offsetof(struct environment, proxy),         offsetof(struct environment, custom_domain),
    offsetof(struct environment, snapshot),
};
static const size_t value_fields[] = {
    offsetof(struct environment, env),
    offsetof(struct environment, secrets),
    offsetof(struct environment, shares),
    offsetof(struct environment, packages),
    offsetof(struct environment, apt_packages),
    offsetof(struct environment, headers),
    offsetof(struct environment, command),
    offsetof(struct environment, dockerfile_commands),
    offsetof(struct environment, modal_secrets),
    offsetof(struct environment, volumes),
    offsetof(struct environment, network_file_systems),
    offsetof(struct environment, region),
    offsetof(struct environment, ports),
    offsetof(struct environment, tags),
    offsetof(struct environment, h2_ports),
    offsetof(struct environment, unencrypted_ports),
    offsetof(struct environment, inbound_cidr_allowlist),
    offsetof(struct environment, sandbox_command),
    offsetof(struct environment, readiness_probe),
    offsetof(struct environment, network_hosts),
};

enum {
    TEXT_FIELDS = sizeof(text_fields) / sizeof(*text_fields),
    VALUE_FIELDS = sizeof(value_fields) / sizeof(*value_fields),
};

static char **text_at(struct environment *env, size_t index)
{
    return (char **)((char *)env + text_fields[index]);
}

static json_t **value_at(struct environment *env, size_t index)
{
    return (json_t **)((char *)env + value_fields[index]);
}

static bool has_values(struct environment *env)
{
    for (size_t i = 0; i < VALUE_FIELDS; i++) {
        if (!*value_at(env, i)) {
            return false;
        }
    }
    return true;
}

int environment_init(struct environment *env, const char *name, const char *backend)
{
    *env = (struct environment){
        .name = strdup(name),
        .backend = strdup(backend),
        .mode = MODE_STATEFUL,
        .env = json_object(),
        .network = NETWORK_NONE,
        .isolation = ISOLATION_AUTO,
        .cells = CELLS_AUTO,
        .memory_mib = 1024,
        .disk_mib = 1024,
        .processes = 256,
        .timeout_seconds = 50,
        .max_timeout_seconds = 3600,
        .idle_timeout_seconds = 30 * 60.0,
        .max_lifetime_seconds = 24 * 3600.0,
        .pool = 2,
        .secrets = json_array(),
        .shares = json_array(),
        .packages = json_array(),
        .apt_packages = json_array(),
        .read_only_root = true,
        .headers = json_object(),
        .command = json_array(),
        .dockerfile_commands = json_array(),
        .modal_secrets = json_array(),
        .volumes = json_array(),
        .network_file_systems = json_array(),
        .region = json_array(),
        .ports = json_array(),
        .tags = json_object(),
        .h2_ports = json_array(),
        .unencrypted_ports = json_array(),
        .inbound_cidr_allowlist = json_array(),
        .sandbox_command = json_array(),
        .readiness_probe = json_object(),
        .network_hosts = json_array(),
    };
    if (!env->name || !env->backend || !has_values(env)) {
        environment_deinit(env);
        return -ENOMEM;
    }
    return 0;
}

void environment_deinit(struct environment *env)
{
    for (size_t i = 0; i < TEXT_FIELDS; i++) {
        free(*text_at(env, i));
    }
    for (size_t i = 0; i < VALUE_FIELDS; i++) {
        json_decref(*value_at(env, i));
    }
    *env = (struct environment){0};
}

static int copy_text(char **text)
{
    const char *from = *text;

    *text = from ? strdup(from) : NULL;
    return from && !*text ? -ENOMEM : 0;
}

static int copy_json(json_t **value)
{
    *value = json_deep_copy(*value);
    return *value ? 0 : -ENOMEM;
}

int environment_copy(struct environment *to, const struct environment *from)
{
    int r = 0;

    *to = *from;
    /* All of them, also past a failure: nothing of `from` may be freed with `to`. */
    for (size_t i = 0; i < TEXT_FIELDS; i++) {
        r = copy_text(text_at(to, i)) < 0 ? -ENOMEM : r;
    }
    for (size_t i = 0; i < VALUE_FIELDS; i++) {
        r = copy_json(value_at(to, i)) < 0 ? -ENOMEM : r;
    }
    if (r < 0) {
        environment_deinit(to);
    }
    return r;
}

/* "none, all" */
static void list_words(const struct vocabulary *v, char text[WORDS_TEXT])
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < v->count; i++) {
        int n = snprintf(text + used, WORDS_TEXT - used, "%s%s", i ? ", " : "", v->words[i]);
        if (n < 0 || (size_t)n >= WORDS_TEXT - used) {
            return;
        }
        used += (size_t)n;
    }
}

/* The index of `word`, or -1 with `err`. */
static int find_word(const struct vocabulary *v, const char *word, struct error *err)
{
    char words[WORDS_TEXT];

    for (size_t i = 0; i < v->count; i++) {
        if (strcasecmp(word, v->words[i]) == 0) {
            return (int)i;
        }
    }
    list_words(v, words);
    return error_set(err, ERROR_INVALID, "%s \"%.64s\" is not one of: %s", v->what, word, words);
}

/* --- the network --- */

static int wrong_host(const char *host, struct error *err)
{
    return error_set(err, ERROR_INVALID,
                     "network: \"%.64s\" is no host: a name with a dot in it (pypi.org), one for "
                     "all names below it (*.example.org), an address, or a range of addresses "
                     "(10.0.0.0/8) is expected; or the one word none or all",
                     host);
}

/* An address, or a range of them ("10.0.0.0/8"). */
bool host_is_range(const char *host)
{
    char address[INET6_ADDRSTRLEN];
    unsigned char bytes[sizeof(struct in6_addr)];
    size_t length = strcspn(host, "/");
    char *end;
    long bits = 0;
    bool six;

    if (length >= sizeof(address)) {
        return false;
    }
    memcpy(address, host, length);
    address[length] = '\0';
    six = inet_pton(AF_INET6, address, bytes) == 1;
    if (!six && inet_pton(AF_INET, address, bytes) != 1) {
        return false;
    }
    if (host[length] == '\0') {
        return true;
    }
    if (!isdigit((unsigned char)host[length + 1])) {
        return false;
    }
    bits = strtol(host + length + 1, &end, 10);
    return *end == '\0' && bits <= (six ? 128 : 32);
}

/* "pypi.org", "*.example.org": labels of letters, digits and "-", two of them at least. */
static bool is_host_name(const char *host)
{
    const char *at = strncmp(host, "*.", 2) == 0 ? host + 2 : host;
    unsigned labels = 0;

    if (strlen(host) > HOST_CAP) {
        return false;
    }
    for (;; at++) {
        size_t length = 0;

        while (isalnum((unsigned char)at[length]) || (at[length] == '-' && length > 0)) {
            length++;
        }
        if (length == 0 || length > 63 || at[length - 1] == '-') {
            return false;
        }
        labels++;
        at += length;
        if (*at == '\0') {
            /* All digits at the end are an address that is none. */
            return labels >= 2 && !isdigit((unsigned char)at[-1]);
        }
        if (*at != '.') {
            return false;
        }
    }
}

static int add_host(json_t *hosts, const char *host, size_t length, struct error *err)
{
    char text[HOST_CAP + 3];
    json_t *value, *known;
    size_t index;

    (void)snprintf(text, sizeof(text), "%.*s", (int)length, host);
    if (length >= sizeof(text) || (!host_is_range(text) && !is_host_name(text))) {
        return wrong_host(text, err);
    }
    if (json_array_size(hosts) >= HOSTS_CAP) {
        return error_set(err, ERROR_INVALID, "network: more than %d hosts", HOSTS_CAP);
    }
    value = json_string(text);
    json_array_foreach(hosts, index, known)
    {
        if (json_equal(known, value)) {
            json_decref(value);
            return 0;
        }
    }
    return json_array_append_new(hosts, value) < 0
               ? error_set(err, ERROR_INTERNAL, "network: out of memory")
               : 0;
}

/* "a.org, b.org" */
static int add_hosts(json_t *hosts, const char *text, struct error *err)
{
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        size_t blank = strspn(at, " ");
        size_t end = length;

        while (end > blank && at[end - 1] == ' ') {
            end--;
        }
        if (add_host(hosts, at + (blank < end ? blank : 0), blank < end ? end - blank : 0, err) <
            0) {
            return -1;
        }
        at += length;
        if (*at == '\0') {
            return 0;
        }
    }
}

/* Does the word look like hosts, and not like a misspelt policy? */
static bool is_hosts(const char *word)
{
    return strpbrk(word, ".,:/*") != NULL;
}

int network_parse(const char *word, enum network *ret, struct error *err)
{
    json_t *hosts;
    int index, r;

    if (strcasecmp(word, "packages") == 0) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "network \"%.64s\" is not supported yet (it needs the egress proxy): use "
                         "none (no network, the default), all (nothing held back), or with the "
                         "backend modal a list of hosts such as pypi.org,files.pythonhosted.org",
                         word);
    }
    if (is_hosts(word)) {
        hosts = json_array();
        r = hosts ? add_hosts(hosts, word, err) : error_set(err, ERROR_INTERNAL, "out of memory");
        json_decref(hosts);
        *ret = r < 0 ? *ret : NETWORK_HOSTS;
        return r;
    }
    index = find_word(&network_vocabulary, word, err);
    if (index < 0) {
        return -1;
    }
    *ret = (enum network)index;
    return 0;
}

/* The hosts of a text or of an array of them, in *ret. */
static int take_hosts(const json_t *value, json_t **ret, struct error *err)
{
    json_t *hosts = json_array(), *one;
    size_t index;
    int r = hosts ? 0 : error_set(err, ERROR_INTERNAL, "out of memory");

    if (r == 0 && json_is_string(value)) {
        r = add_hosts(hosts, json_string_value(value), err);
    }
    json_array_foreach(value, index, one)
    {
        r = r == 0 ? add_host(hosts, json_string_value(one), strlen(json_string_value(one)), err)
                   : r;
    }
    if (r == 0 && json_array_size(hosts) == 0) {
        r = error_set(err, ERROR_INVALID,
                      "network: the list of hosts is empty; say none for no "
                      "network at all");
    }
    if (r < 0) {
        json_decref(hosts);
        return -1;
    }
    *ret = hosts;
    return 0;
}

int environment_set_network(struct environment *env, const json_t *value, struct error *err)
{
    enum network network = NETWORK_HOSTS;
    json_t *hosts = NULL;

    if (json_is_string(value) && network_parse(json_string_value(value), &network, err) < 0) {
        return -1;
    }
    if (network == NETWORK_HOSTS && take_hosts(value, &hosts, err) < 0) {
        return -1;
    }
    env->network = network;
    json_decref(env->network_hosts);
    env->network_hosts = hosts ? hosts : json_array();
    return env->network_hosts ? 0 : error_set(err, ERROR_INTERNAL, "out of memory");
}

char *environment_network(const struct environment *env)
{
    char *text = strdup(env->network == NETWORK_HOSTS ? "" : network_name(env->network)), *longer;
    size_t index;
    json_t *host;

    json_array_foreach(env->network_hosts, index, host)
    {
        if (!text ||
            asprintf(&longer, "%s%s%s", text, index ? "," : "", json_string_value(host)) < 0) {
            longer = NULL;
        }
        free(text);
        text = longer;
    }
    return text;
}

int isolation_parse(const char *word, enum isolation *ret, struct error *err)
{
    int index = find_word(&isolation_vocabulary, word, err);

    if (index < 0) {
        return -1;
    }
    *ret = (enum isolation)index;
    return 0;
}

int cells_parse(const char *word, enum cells *ret, struct error *err)
{
    int index = find_word(&cells_vocabulary, word, err);

    if (index < 0) {
        return -1;
    }
    *ret = (enum cells)index;
    return 0;
}

int mode_parse(const char *word, enum mode *ret, struct error *err)
{
    int index = find_word(&mode_vocabulary, word, err);

    if (index < 0) {
        return -1;
    }
    *ret = (enum mode)index;
    return 0;
}

const char *network_name(enum network v)
{
    return network_words[v];
}

const char *isolation_name(enum isolation v)
{
    return isolation_words[v];
}

const char *cells_name(enum cells v)
{
    return cells_words[v];
}

const char *mode_name(enum mode v)
{
    return mode_words[v];
}

int kernel_parse(const char *word, enum kernel_choice *ret, struct error *err)
{
    int index = find_word(&kernel_vocabulary, word, err);

    if (index < 0) {
        return -1;
    }
    *ret = (enum kernel_choice)index;
    return 0;
}

const char *kernel_choice_name(enum kernel_choice v)
{
    return kernel_words[v];
}
