#include "backends/registry.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/nearest.h"
#include "backends/local/local.h"

enum { NAMES_MAX = 64 };

static const char *const local_aliases[] = {"eval", "in-process", "local-eval", NULL};

const struct backend backends[] = {
    {"local", "a warm, isolated interpreter on this machine (bubblewrap)", local_aliases,
     &local_place_ops},
    {0},
};

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        int x = *a == '_' ? '-' : tolower((unsigned char)*a);
        int y = *b == '_' ? '-' : tolower((unsigned char)*b);
        if (x != y) {
            return false;
        }
    }
    return *a == *b;
}

static bool answers_to(const struct backend *backend, const char *name)
{
    if (same_name(backend->name, name)) {
        return true;
    }
    for (const char *const *alias = backend->aliases; *alias; alias++) {
        if (same_name(*alias, name)) {
            return true;
        }
    }
    return false;
}

/* Appends to a list that is joined with ", "; on failure the list is freed and NULL. */
static void list_add(char **list, const char *name)
{
    char *longer = NULL;

    if (*list && asprintf(&longer, "%s%s%s", *list, **list ? ", " : "", name) < 0) {
        longer = NULL;
    }
    free(*list);
    *list = longer;
}

static const char *nearest_backend(const char *name)
{
    const char *words[NAMES_MAX];
    size_t count = 0;

    for (const struct backend *b = backends; b->name; b++) {
        if (count < NAMES_MAX) {
            words[count++] = b->name;
        }
        for (const char *const *alias = b->aliases; *alias && count < NAMES_MAX; alias++) {
            words[count++] = *alias;
        }
    }
    return word_nearest(name, words, count);
}

const struct backend *backend_find(const char *name, struct error *err)
{
    const char *nearest;
    char *list;

    for (const struct backend *b = backends; b->name; b++) {
        if (answers_to(b, name)) {
            return b;
        }
    }
    nearest = nearest_backend(name);
    list = strdup("");
    for (const struct backend *b = backends; b->name; b++) {
        list_add(&list, b->name);
    }
    (void)error_set(err, ERROR_INVALID, "no backend is called \"%.100s\"%s%s%s; there is: %s", name,
                    nearest ? " (did you mean \"" : "", nearest ? nearest : "",
                    nearest ? "\"?)" : "", list ? list : "");
    free(list);
    return NULL;
}

char *backends_with(enum capability capability)
{
    char *list = strdup("");

    for (const struct backend *b = backends; b->name; b++) {
        if (b->ops->capabilities & (unsigned)capability) {
            list_add(&list, b->name);
        }
    }
    if (list && !*list) {
        free(list);
        list = strdup("none of those built in");
    }
    return list;
}

int place_needs(const struct place *place, enum capability needed, const char *what,
                struct error *err)
{
    char *others;

    if (place_capabilities(place) & (unsigned)needed) {
        return 0;
    }
    if (place->ops->capabilities & (unsigned)needed) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "%s is not supported with this environment's settings (isolation \"%s\"); "
                         "backend \"%s\" has it with isolation \"auto\". A copy works with each",
                         what, isolation_name(place->env->isolation), place->ops->name);
    }
    others = backends_with(needed);
    error_set(err, ERROR_UNSUPPORTED,
              "%s is not supported by backend \"%s\". Backends that have it: %s", what,
              place->ops->name, others ? others : "?");
    free(others);
    return -1;
}
