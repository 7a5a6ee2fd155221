#include "backends/docker/recipe.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/hex.h"
#include "backends/base/net/tar.h"

/* What every image has. The least versions that our side of the kernel was tried with; no newest
 * ones, but for the gateway, whose next major version may speak otherwise. */
static const char always[] = "jupyter_kernel_gateway>=3.0.1,<4\n"
                             "ipykernel>=6.29\n"
                             "ipython>=8.12\n"
                             "matplotlib>=3.6\n"
                             "matplotlib-inline>=0.1.6\n";

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "out of memory");
}

/* ---- the Dockerfile ---- */

/* An instruction in the form that no shell reads: a JSON array. */
static int write_exec(FILE *out, const char *instruction, json_t *words)
{
    char *text = json_dumps(words, JSON_COMPACT);

    if (text) {
        (void)fprintf(out, "%s %s\n", instruction, text);
    }
    free(text);
    json_decref(words);
    return text ? 0 : -1;
}

/* The base's own user comes from outside: what is no plain name is not written into a file that a
 * builder reads (spec_user would not take it from the image's config either). */
static bool plain_user(const char *user)
{
    size_t n = user ? strspn(user, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                   "_.:-")
                    : 0;
    return n > 0 && n < 200 && user[n] == '\0';
}

static int write_apt(FILE *out, const struct environment *env)
{
    size_t index;
    json_t *name;
    json_t *words;

    if (json_array_size(env->apt_packages) == 0) {
        return 0;
    }
    words = json_pack("[s, s, s, s]", "/bin/sh", "-c",
                      "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y "
                      "--no-install-recommends -- \"$@\" && rm -rf /var/lib/apt/lists/*",
                      "apt");
    json_array_foreach(env->apt_packages, index, name)
    {
        json_array_append(words, name);
    }
    (void)fputs("USER root\n", out);
    return write_exec(out, "RUN", words);
}

static int write_venv(FILE *out, const struct environment *env)
{
    return write_exec(out, "RUN",
                      json_pack("[s, s, s, s, s, s]", env->python ? env->python : "python3", "-m",
                                "venv", "--without-pip", "--system-site-packages", RECIPE_FOLDER));
}

static int write_pip(FILE *out)
{
    return write_exec(out, "RUN",
                      json_pack("[s, s, s, s, s, s, s, s, s, s]", RECIPE_PYTHON, "-m", "pip",
                                "install", "--no-cache-dir", "--no-input",
                                "--disable-pip-version-check", "--progress-bar=off", "-r",
                                "/tmp/cellblock/requirements.txt"));
}

/* Kernels of other languages, packages called …_kernel by custom, are made known to the server by a
 * program of theirs. */
static const char register_kernels[] =
    "import importlib.util, subprocess, sys\n"
    "for name in sys.argv[1:]:\n"
    "    if importlib.util.find_spec(name) and importlib.util.find_spec(name + '.install'):\n"
    "        subprocess.check_call([sys.executable, '-m', name + '.install', '--sys-prefix'])\n";

/* NULL when it is not called so. */
static json_t *kernel_module(const char *package)
{
    size_t n = strspn(package, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    char name[RECIPE_PACKAGE_CAP + 1];

    memcpy(name, package, n); /* of a size that was checked */
    name[n] = '\0';
    for (char *c = name; *c; c++) {
        *c = (char)(*c == '-' ? '_' : tolower((unsigned char)*c));
    }
    return n > strlen("_kernel") && strcmp(name + n - strlen("_kernel"), "_kernel") == 0
               ? json_string(name)
               : NULL;
}

static int write_kernels(FILE *out, const struct environment *env)
{
    json_t *words = json_pack("[s, s, s]", RECIPE_PYTHON, "-c", register_kernels);
    size_t before = json_array_size(words);
    size_t index;
    json_t *item;

    json_array_foreach(env->packages, index, item)
    {
        json_array_append_new(words, kernel_module(json_string_value(item)));
    }
    if (json_array_size(words) > before) {
        return write_exec(out, "RUN", words);
    }
    json_decref(words);
    return 0;
}

/* `stage` labels the stage that is removed after the build; the hash is over the text without. */
static int write_before(FILE *out, const struct environment *env, const struct recipe_base *base,
                        const char *stage)
{
    (void)fprintf(out, "FROM %s AS machine\n", base->id);
    if (write_apt(out, env) < 0) {
        return -1;
    }
    (void)fputs("FROM machine AS packages\n", out);
    if (stage) {
        (void)fprintf(out, "LABEL " RECIPE_STAGE_LABEL "=%s\n", stage);
    }
    (void)fputs("USER root\n", out);
    if (write_venv(out, env) < 0) {
        return -1;
    }
    (void)fputs("COPY cellblock /tmp/cellblock\n", out);
    return 0;
}

static int write_after(FILE *out, const struct environment *env, const struct recipe_base *base,
                       const char *stage)
{
    (void)stage;
    if (write_pip(out) < 0 || write_kernels(out, env) < 0) {
        return -1;
    }
    (void)fprintf(out, "FROM machine\nCOPY --from=packages %s %s\nENV PATH=%s/bin:$PATH\nUSER %s\n",
                  RECIPE_FOLDER, RECIPE_FOLDER, RECIPE_FOLDER,
                  plain_user(base->user) ? base->user : "root");
    return 0;
}

typedef int (*write_part)(FILE *out, const struct environment *env, const struct recipe_base *base,
                          const char *stage);

static char *text_of(write_part write, const struct environment *env,
                     const struct recipe_base *base, const char *stage)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int r;

    if (!out) {
        return NULL;
    }
    r = write(out, env, base, stage);
    if (fclose(out) != 0 || r < 0) {
        free(text);
        return NULL;
    }
    return text;
}

static char *requirements(const struct environment *env)
{
    char *text = NULL;
    size_t size = 0;
    size_t index;
    json_t *item;
    FILE *out = open_memstream(&text, &size);

    if (!out) {
        return NULL;
    }
    (void)fputs(always, out);
    json_array_foreach(env->packages, index, item)
    {
        (void)fprintf(out, "%s\n", json_string_value(item));
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- the hash ---- */

/* Each part with its NUL, so that no two different recipes look the same. */
static int hash_of(const char *const *parts, char ret[RECIPE_HASH_SIZE])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;

    for (; good && *parts; parts++) {
        good = EVP_DigestUpdate(context, *parts, strlen(*parts) + 1) == 1;
    }
    good = good && EVP_DigestFinal_ex(context, digest, NULL) == 1;
    EVP_MD_CTX_free(context);
    if (good) {
        hex_write(digest, (RECIPE_HASH_SIZE - 1) / 2, ret);
    }
    return good ? 0 : -1;
}

static bool good_id(const char *id)
{
    static const char prefix[] = "sha256:";
    size_t n = strlen(prefix);

    if (strncmp(id, prefix, n) == 0) {
        id += n;
    }
    return strspn(id, "0123456789abcdef") == strlen(id) && strlen(id) == RECIPE_HASH_SIZE - 1;
}

int recipe_make(const struct environment *env, const struct recipe_base *base, struct recipe *ret,
                struct error *err)
{
    struct recipe made = {0};
    char *plain;

    if (recipe_check(env, err) < 0) {
        return -1;
    }
    if (!good_id(base->id)) {
        return error_set(err, ERROR_LOST,
                         "the engine calls the image %.100s by \"%.100s\", which "
                         "is no id of an image",
                         env->image ? env->image : "", base->id);
    }
    plain = text_of(write_before, env, base, NULL);
    made.after = text_of(write_after, env, base, NULL);
    made.requirements = requirements(env);
    if (plain && made.after && made.requirements &&
        hash_of((const char *const[]){plain, made.after, made.requirements, NULL}, made.hash) ==
            0) {
        (void)snprintf(made.tag, sizeof(made.tag), "cellblock-kernel:%s", made.hash);
        made.before = text_of(write_before, env, base, made.hash);
    }
    free(plain);
    if (!made.before) {
        recipe_deinit(&made);
        return out_of_memory(err);
    }
    *ret = made;
    return 0;
}

void recipe_deinit(struct recipe *recipe)
{
    free(recipe->before);
    free(recipe->after);
    free(recipe->requirements);
    *recipe = (struct recipe){0};
}

/* ---- the context ---- */

/* Arguments of pip's are declared; a builder knows the proxies by itself. The engine keeps them
 * with what is made while they are declared: nothing that outlives the build, nor one that fails.
 */
static char *dockerfile(const struct recipe *recipe, const struct recipe_surroundings *around)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    const char *name;
    json_t *value;

    if (!out) {
        return NULL;
    }
    (void)fputs(recipe->before, out);
    json_object_foreach(around->arguments, name, value)
    {
        if (strncmp(name, "PIP_", 4) == 0) {
            (void)fprintf(out, "ARG %s\n", name);
        }
    }
    (void)fputs(recipe->after, out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

int recipe_context(const struct recipe *recipe, const struct recipe_surroundings *around,
                   char **ret, size_t *ret_size, struct error *err)
{
    char *text = dockerfile(recipe, around);
    int r;

    if (!text) {
        return out_of_memory(err);
    }
    r = tar_of_files(
        (const struct tar_file[]){
            {"Dockerfile", text, strlen(text), 0644},
            {"cellblock/requirements.txt", recipe->requirements, strlen(recipe->requirements),
             0644},
            {"cellblock/ca.pem", around->ca, around->ca_size, 0644},
        },
        around->ca ? 3 : 2, ret, ret_size, err);
    free(text);
    return r;
}
