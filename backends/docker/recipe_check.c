#include <ctype.h>
#include <string.h>

#include "backends/docker/recipe.h"

static bool is_name_end(char c)
{
    return isalnum((unsigned char)c) != 0;
}

/* PEP 508's name: letters, digits, and ". _ -" between them. */
static size_t name_length(const char *text)
{
    size_t n = 0;

    while (is_name_end(text[n]) || (n > 0 && text[n] && strchr("._-", text[n]))) {
        n++;
    }
    return n > 0 && is_name_end(text[n - 1]) ? n : 0;
}

static const char *skip_blanks(const char *text)
{
    while (*text == ' ') {
        text++;
    }
    return text;
}

/* "[excel,html]"; NULL when it is none. */
static const char *skip_extras(const char *text)
{
    size_t n;

    if (*text != '[') {
        return text;
    }
    n = strspn(text + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-, ");
    return text[n + 1] == ']' ? skip_blanks(text + n + 2) : NULL;
}

/* What comes after the name: a version, a marker, or "@ https://…". No variable, no comment, no
 * continued line, and no word that begins as an option does. */
static bool good_rest(const char *rest)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "<>=!~;@(),.*+-_ '\"[]:/%&?#";

    if (*rest == '\0') {
        return true;
    }
    if (*rest == '@') {
        const char *url = skip_blanks(rest + 1);
        if (strncmp(url, "https://", strlen("https://")) != 0 || strchr(url, ' ')) {
            return false;
        }
    } else if (!strchr("<>=!~;(", *rest) || strpbrk(rest, "@/%&?#:")) {
        return false;
    }
    return strspn(rest, allowed) == strlen(rest) && !strstr(rest, " -");
}

int recipe_check_package(const char *text, struct error *err)
{
    size_t size = strlen(text);
    size_t name = name_length(text);
    const char *rest = name ? skip_extras(skip_blanks(text + name)) : NULL;

    if (size > RECIPE_PACKAGE_CAP || !rest || !good_rest(rest)) {
        return error_set(err, ERROR_INVALID,
                         "packages: \"%.100s\" is no requirement as pip knows it; expected a name "
                         "with extras, version and marker (\"pandas[excel]>=2,<3\"), or NAME @ "
                         "https://…, of at most %d bytes",
                         text, RECIPE_PACKAGE_CAP);
    }
    return 0;
}

static bool is_apt_letter(char c)
{
    return islower((unsigned char)c) || isdigit((unsigned char)c);
}

int recipe_check_apt_package(const char *text, struct error *err)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+.-");
    const char *rest = text + n;
    bool good = n >= 2 && is_apt_letter(text[0]) && text[n - 1] != '-';

    if (good && *rest == ':') {
        size_t arch = strspn(rest + 1, "abcdefghijklmnopqrstuvwxyz0123456789");
        good = arch > 0;
        rest += 1 + arch;
    }
    if (good && *rest == '=') {
        size_t version =
            strspn(rest + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+~:-");
        good = version > 0;
        rest += 1 + version;
    }
    if (!good || *rest || strlen(text) > RECIPE_PACKAGE_CAP) {
        return error_set(err, ERROR_INVALID,
                         "apt_packages: \"%.100s\" is no name of a Debian package; expected "
                         "lower-case letters, digits, \"+\", \"-\" and \".\", with :ARCH and "
                         "=VERSION where needed",
                         text);
    }
    return 0;
}

static int check_all(json_t *list, const char *what, int (*check)(const char *, struct error *),
                     struct error *err)
{
    size_t index;
    json_t *item;

    if (json_array_size(list) > RECIPE_PACKAGES_CAP) {
        return error_set(err, ERROR_LIMIT, "%s: %zu of them; at most %d are allowed", what,
                         json_array_size(list), RECIPE_PACKAGES_CAP);
    }
    json_array_foreach(list, index, item)
    {
        const char *text = json_string_value(item);
        if (!text || strlen(text) != json_string_length(item)) {
            return error_set(err, ERROR_INVALID, "%s: item %zu is not a text", what, index);
        }
        if (check(text, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int recipe_check(const struct environment *env, struct error *err)
{
    if (check_all(env->packages, "packages", recipe_check_package, err) < 0 ||
        check_all(env->apt_packages, "apt_packages", recipe_check_apt_package, err) < 0) {
        return -1;
    }
    if (env->python &&
        (strlen(env->python) > RECIPE_PACKAGE_CAP || env->python[0] == '-' || !env->python[0])) {
        return error_set(err, ERROR_INVALID, "python: \"%.100s\" is no program of the image",
                         env->python);
    }
    return 0;
}
