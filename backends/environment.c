#include "backends/environment.h"

#include <errno.h>
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
};

static const struct vocabulary network_vocabulary = {"network", network_words, 2};
static const struct vocabulary isolation_vocabulary = {"isolation", isolation_words, 4};
static const struct vocabulary cells_vocabulary = {"cells", cells_words, 3};
static const struct vocabulary mode_vocabulary = {"mode", mode_words, 2};
static const struct vocabulary kernel_vocabulary = {"kernel", kernel_words, 3};

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
    };
    if (!env->name || !env->backend || !env->env || !env->secrets || !env->shares ||
        !env->packages || !env->apt_packages || !env->headers || !env->command) {
        environment_deinit(env);
        return -ENOMEM;
    }
    return 0;
}

void environment_deinit(struct environment *env)
{
    free(env->name);
    free(env->title);
    free(env->backend);
    free(env->python);
    json_decref(env->env);
    json_decref(env->secrets);
    json_decref(env->shares);
    json_decref(env->packages);
    json_decref(env->apt_packages);
    json_decref(env->headers);
    json_decref(env->command);
    free(env->image);
    free(env->runtime);
    free(env->user);
    free(env->host);
    free(env->url);
    free(env->token);
    free(env->kernel_id);
    free(env->gpu);
    free(env->workdir);
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
    char **texts[] = {&to->name,      &to->title,   &to->backend, &to->python, &to->image,
                      &to->runtime,   &to->user,    &to->host,    &to->url,    &to->token,
                      &to->kernel_id, &to->workdir, &to->gpu};
    json_t **values[] = {&to->env,          &to->secrets, &to->shares, &to->packages,
                         &to->apt_packages, &to->headers, &to->command};
    int r = 0;

    *to = *from;
    /* All of them, also past a failure: nothing of `from` may be freed with `to`. */
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        r = copy_text(texts[i]) < 0 ? -ENOMEM : r;
    }
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        r = copy_json(values[i]) < 0 ? -ENOMEM : r;
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

/* "packages" and lists of hosts are network policies that need an egress proxy. */
static bool is_unbuilt_network(const char *word)
{
    return strcasecmp(word, "packages") == 0 || strpbrk(word, ".,:*") != NULL;
}

int network_parse(const char *word, enum network *ret, struct error *err)
{
    int index;

    if (is_unbuilt_network(word)) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "network \"%.64s\" is not supported yet (package indexes and lists of "
                         "hosts need the egress proxy): use none (no network, the default) or "
                         "all (the host's network, nothing held back)",
                         word);
    }
    index = find_word(&network_vocabulary, word, err);
    if (index < 0) {
        return -1;
    }
    *ret = (enum network)index;
    return 0;
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
