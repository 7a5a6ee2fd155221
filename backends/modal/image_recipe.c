#include "backends/modal/image_recipe.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "backends/docker/recipe.h"
#include "backends/modal/spec.h"

/* What a Kernel Gateway needs besides an interpreter. */
static const char *const jupyter_packages[] = {"ipykernel", "ipython", "jupyter_kernel_gateway",
                                               "matplotlib"};

enum { IMAGE_CAP = 500 };

/* ---- what is refused ---- */

/* "3.12", "3.12.4". */
static bool is_version(const char *text)
{
    size_t minor, micro;

    if (strncmp(text, "3.", 2) != 0) {
        return false;
    }
    text += 2;
    minor = strspn(text, "0123456789");
    if (minor < 1 || minor > 2 || text[minor] == '\0') {
        return minor >= 1 && minor <= 2;
    }
    micro = strspn(text + minor + 1, "0123456789");
    return text[minor] == '.' && micro >= 1 && micro <= 2 && text[minor + 1 + micro] == '\0';
}

static bool is_image_id(const char *image)
{
    size_t n = strlen(image);
    return strncmp(image, "im-", 3) == 0 && n > 3 && n < 100 && !strpbrk(image, ":/.@");
}

static int check_image(const char *image, struct error *err)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:@";

    if (!isalnum((unsigned char)image[0]) || strlen(image) > IMAGE_CAP ||
        image[strspn(image, allowed)] != '\0') {
        return error_set(err, ERROR_INVALID,
                         "image: \"%.200s\" is no name of an image; expected a registry's "
                         "(\"python:3.12-slim\", \"ghcr.io/me/it@sha256:…\") or an id of Modal's "
                         "(\"im-…\")",
                         image);
    }
    return 0;
}

static int check_snapshot(const char *id, struct error *err)
{
    if (!is_image_id(id) && !memory_is_id(id)) {
        return error_set(err, ERROR_INVALID,
                         "snapshot: \"%.100s\" is no id of a snapshot: those of files at Modal are "
                         "\"im-…\", those of memory as create_snapshot tells them, \"sn-….7\"",
                         id);
    }
    return 0;
}

static int check_python(const struct environment *env, struct error *err)
{
    if (env->python && !env->image && !is_version(env->python)) {
        return error_set(err, ERROR_INVALID,
                         "python: \"%.100s\" is no version of Python; without an `image`, modal "
                         "takes one like \"3.12\" or \"3.12.4\"",
                         env->python);
    }
    if (env->python && env->image &&
        env->python[strspn(env->python, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                        "0123456789._-/+")] != '\0') {
        return error_set(err, ERROR_INVALID,
                         "python: \"%.100s\" is no program of the image; expected a name or path "
                         "of letters, digits and \"._-/+\"",
                         env->python);
    }
    return 0;
}

/* No files of ours are there while the service builds. */
static bool copies_from_here(const char *command)
{
    bool copy = strncasecmp(command, "COPY", 4) == 0, add = strncasecmp(command, "ADD", 3) == 0;
    const char *rest = command + (copy ? 4 : 3);

    if ((!copy && !add) || (*rest != ' ' && *rest != '\t' && *rest != '[')) {
        return false;
    }
    return copy ? !strstr(rest, "--from=") && !strstr(rest, "<<")
                : !strstr(rest, "://") && !strstr(rest, "git@") && !strstr(rest, "<<");
}

static int check_command(const json_t *item, size_t index, struct error *err)
{
    const char *text = json_string_value(item);
    size_t size = json_string_length(item);

    if (!text || size == 0 || strlen(text) != size || size > MODAL_COMMAND_CAP) {
        return error_set(err, ERROR_INVALID,
                         "dockerfile_commands: item %zu must be a text of 1 to %d bytes", index,
                         MODAL_COMMAND_CAP);
    }
    if (copies_from_here(text)) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "dockerfile_commands: item %zu copies files of this machine into the "
                         "image, which is built elsewhere; give them to the sandbox with `shares` "
                         "instead, or fetch them with RUN or ADD https://…",
                         index);
    }
    return 0;
}

static int check_commands(const json_t *list, struct error *err)
{
    if (json_array_size(list) > MODAL_COMMANDS_CAP) {
        return error_set(err, ERROR_LIMIT,
                         "dockerfile_commands: %zu of them; at most %d are allowed",
                         json_array_size(list), MODAL_COMMANDS_CAP);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (check_command(json_array_get(list, i), i, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int check_registry(const struct environment *env, struct error *err)
{
    if (env->registry_auth && !env->registry_secret) {
        return error_set(err, ERROR_INVALID,
                         "registry_auth: it says how registry_secret is used, which is not given; "
                         "name the service's secret there");
    }
    if (env->registry_secret && (!env->image || is_image_id(env->image))) {
        return error_set(err, ERROR_INVALID,
                         "registry_secret: nothing is fetched from a registry, as image is %s; "
                         "give the image of a registry there, or leave registry_secret out",
                         env->image ? "one of Modal's own" : "not given");
    }
    return 0;
}

int modal_recipe_check(const struct environment *env, struct error *err)
{
    if (recipe_check(env, err) < 0 || check_python(env, err) < 0 ||
        (env->image && check_image(env->image, err) < 0) ||
        (env->snapshot && check_snapshot(env->snapshot, err) < 0) || check_registry(env, err) < 0) {
        return -1;
    }
    return check_commands(env->dockerfile_commands, err);
}

/* ---- the layers ---- */

static struct modal_layer *add_layer(struct modal_recipe *r, const char *what, const char *from)
{
    struct modal_layer *layer = &r->layers[r->count++];

    layer->what = what;
    strings_add_format(&layer->commands, "FROM %s", from);
    return layer;
}

/* Which Debian a builder's debian_slim is of. */
static const char *debian_of(const char *builder)
{
    if (strcmp(builder, "2025.06") > 0) {
        return "trixie";
    }
    return strcmp(builder, "2023.12") == 0 ? "bullseye" : "bookworm";
}

/* The builder of 2025.06 has one release of each version ready; later ones follow the registry. */
static const char *release_of(const char *version, const char *builder)
{
    static const char *const releases[] = {"3.9.22", "3.10.17", "3.11.12", "3.12.10",
                                           "3.13.3", "3.14.2",  "3.15.0"};
    size_t n = strlen(version);

    for (size_t i = 0; i < sizeof(releases) / sizeof(releases[0]); i++) {
        if (strcmp(builder, "2025.06") == 0 && strncmp(releases[i], version, n) == 0 &&
            releases[i][n] == '.' && strchr(version + 2, '.') == NULL) {
            return releases[i];
        }
    }
    return version;
}

static void add_debian_slim(struct modal_recipe *r, const char *python, const char *builder)
{
    struct modal_layer *layer = &r->layers[r->count++];
    struct strings *commands = &layer->commands;

    layer->what = "the base";
    layer->global = strcmp(builder, "2024.10") > 0;
    strings_add_format(commands, "FROM python:%s-slim-%s", release_of(python, builder),
                       debian_of(builder));
    strings_add(commands, "RUN apt-get update");
    strings_add(commands, "RUN apt-get install -y gcc gfortran build-essential");
    strings_add(commands, "RUN pip install --upgrade pip wheel uv");
    strings_add(commands, "RUN echo 'debconf debconf/frontend select Noninteractive' | "
                          "debconf-set-selections");
    strings_add(commands, "CMD [\"sleep\", \"172800\"]");
}

static int add_base(struct modal_recipe *r, const struct environment *env, const char *builder)
{
    if (!env->image) {
        add_debian_slim(r, env->python ? env->python : MODAL_PYTHON_DEFAULT, builder);
    } else if (is_image_id(env->image)) {
        r->image_id = strdup(env->image);
        return r->image_id ? 0 : -1;
    } else {
        add_layer(r, "the base", env->image)->from_registry = true;
    }
    return 0;
}

/* For a shell: as it is where nothing in it means anything there. */
static void put_word(FILE *out, const char *word)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_";

    if (word[0] && word[strspn(word, plain)] == '\0') {
        (void)fprintf(out, " %s", word);
        return;
    }
    (void)fputs(" '", out);
    for (; *word; word++) {
        if (*word == '\'') {
            (void)fputs("'\"'\"'", out);
        } else {
            (void)fputc(*word, out);
        }
    }
    (void)fputc('\'', out);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "RUN PROGRAM a b c"; -1 when out of memory. */
static int add_run(struct strings *commands, const char *program, const struct strings *words)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out) {
        return -1;
    }
    (void)fprintf(out, "RUN %s", program);
    for (size_t i = 0; i < words->count; i++) {
        put_word(out, words->list[i]);
    }
    if (fclose(out) != 0) {
        free(text);
        return -1;
    }
    strings_add(commands, text);
    free(text);
    return 0;
}

static void list_texts(const json_t *array, struct strings *list)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        strings_add(list, json_string_value(json_array_get(array, i)));
    }
}

static int add_apt(struct modal_recipe *r, const struct environment *env)
{
    struct strings words = {0};
    struct modal_layer *layer;
    int result;

    list_texts(env->apt_packages, &words);
    if (words.count == 0) {
        return 0;
    }
    layer = add_layer(r, "the Debian packages", "base");
    strings_add(&layer->commands, "RUN apt-get update");
    result = strings_ok(&words) < 0 ? -1 : add_run(&layer->commands, "apt-get install -y", &words);
    strings_free(&words);
    return result;
}

/* In alphabetical order, so that the same packages are the same image. */
static int add_pip(struct modal_recipe *r, const struct environment *env, bool jupyter)
{
    size_t count = jupyter ? sizeof(jupyter_packages) / sizeof(jupyter_packages[0]) : 0;
    const char *program = env->image ? modal_recipe_python(env) : "python";
    struct strings words = {0};
    char *pip;
    int result = -1;

    list_texts(env->packages, &words);
    for (size_t i = 0; i < count; i++) {
        strings_add(&words, jupyter_packages[i]);
    }
    if (words.count == 0) {
        return 0;
    }
    pip = string_format("%s -m pip install", program);
    if (pip && strings_ok(&words) == 0) {
        qsort(words.list, words.count, sizeof(words.list[0]), by_name);
        result = add_run(&add_layer(r, "the Python packages", "base")->commands, pip, &words);
    }
    free(pip);
    strings_free(&words);
    return result;
}

static void add_commands(struct modal_recipe *r, const struct environment *env)
{
    if (json_array_size(env->dockerfile_commands) > 0) {
        list_texts(env->dockerfile_commands,
                   &add_layer(r, "the dockerfile_commands", "base")->commands);
    }
}

int modal_recipe_make(const struct environment *env, const char *builder, bool jupyter,
                      struct modal_recipe *ret, struct error *err)
{
    struct modal_recipe r = {0};
    int result;

    if (modal_recipe_check(env, err) < 0) {
        return -1;
    }
    if (env->snapshot) {
        r.image_id = strdup(env->snapshot);
        result = r.image_id ? 0 : -1;
    } else {
        result = add_base(&r, env, builder);
        result = result < 0 ? result : add_apt(&r, env);
        result = result < 0 ? result : add_pip(&r, env, jupyter);
        add_commands(&r, env);
    }
    for (unsigned i = 0; i < r.count; i++) {
        result = strings_ok(&r.layers[i].commands) < 0 ? -1 : result;
    }
    if (result < 0) {
        modal_recipe_deinit(&r);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    *ret = r;
    return 0;
}

void modal_recipe_deinit(struct modal_recipe *recipe)
{
    free(recipe->image_id);
    for (unsigned i = 0; i < recipe->count; i++) {
        strings_free(&recipe->layers[i].commands);
    }
    *recipe = (struct modal_recipe){0};
}

const char *modal_recipe_python(const struct environment *env)
{
    return env->image && env->python ? env->python : "python3";
}
