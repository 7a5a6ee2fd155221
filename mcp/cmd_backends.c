#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "backends/executor.h"
#include "backends/registry.h"
#include "mcp/cmd.h"

enum {
    NAME_WIDTH = 16,
};

static void print_list(const char *title, const char *const *words)
{
    if (!words || !words[0]) {
        return;
    }
    printf("  %s:", title);
    for (size_t i = 0; words[i]; i++) {
        printf("%s %s", i ? "," : "", words[i]);
    }
    putchar('\n');
}

static void print_backends(void)
{
    for (const struct backend *b = backends; b->name; b++) {
        printf("%s: %s\n", b->name, b->summary);
        print_list("also called", b->aliases);
        print_list("languages", b->ops->languages);
    }
}

static void print_matrix(void)
{
    enum capability bit;
    const char *name;

    printf("\n%-*s", NAME_WIDTH, "");
    for (const struct backend *b = backends; b->name; b++) {
        printf("  %s", b->name);
    }
    putchar('\n');
    for (unsigned i = 0; (name = capability_name(i, &bit)); i++) {
        printf("%-*s", NAME_WIDTH, name);
        for (const struct backend *b = backends; b->name; b++) {
            bool last = !b[1].name;

            printf("  %-*s", last ? 0 : (int)strlen(b->name),
                   b->ops->capabilities & bit ? "yes" : "-");
        }
        putchar('\n');
    }
}

static json_t *words_json(const char *const *words)
{
    json_t *array = json_array();

    for (size_t i = 0; words && words[i]; i++) {
        json_array_append_new(array, json_string(words[i]));
    }
    return array;
}

static json_t *backend_json(const struct backend *b)
{
    json_t *capabilities = json_object();
    enum capability bit;
    const char *name;

    for (unsigned i = 0; (name = capability_name(i, &bit)); i++) {
        json_object_set_new(capabilities, name, json_boolean((b->ops->capabilities & bit) != 0));
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", b->name, "summary", b->summary, "aliases",
                     words_json(b->aliases), "languages", words_json(b->ops->languages),
                     "capabilities", capabilities);
}

static int print_json(void)
{
    json_t *list = json_array();
    json_t *root;
    int r;

    for (const struct backend *b = backends; b->name; b++) {
        json_array_append_new(list, backend_json(b));
    }
    root = json_pack("{s:o}", "backends", list);
    r = json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
    return r;
}

int cmd_backends(const struct options *options)
{
    if (options->json) {
        return print_json() < 0 ? STATUS_FAILED : STATUS_OK;
    }
    print_backends();
    print_matrix();
    return STATUS_OK;
}
