#include "mcp/schema.h"

#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/nearest.h"

enum {
    GIVEN_CAP = 80, /* bytes of a wrong value that are shown */
};

/* Where we are in the value, linked from the leaf to the root; lives on the stack of check(). */
struct path {
    const struct path *parent;
    const char *key; /* NULL: an array's element */
    size_t index;
};

struct check {
    bool null_is_absent;
    struct error *err;
};

static int check_value(const struct check *c, const json_t *schema, const json_t *value,
                       const struct path *path);

/* ---- words ---- */

const char *nearest_word(const char *word, const char *const *candidates)
{
    enum { CONTAINED = 2, CONTAINED_FROM = 3 };
    size_t size = strlen(word);
    unsigned limit = size / 3 > 2 ? (unsigned)(size / 3) : 2;
    const char *best = NULL;
    for (; *candidates; candidates++) {
        unsigned distance = word_distance(word, *candidates);
        /* A word within the other ("timeout" of "timeout_seconds") is near however long the rest.
         */
        if (distance > CONTAINED && size >= CONTAINED_FROM && strcasestr(*candidates, word)) {
            distance = CONTAINED;
        }
        if (distance < limit || (distance == limit && !best)) {
            best = *candidates;
            limit = distance;
        }
    }
    return best;
}

/* ---- texts ---- */

static void write_path(FILE *out, const struct path *path)
{
    if (!path->parent) {
        return;
    }
    write_path(out, path->parent);
    if (path->key) {
        fprintf(out, "%s%s", path->parent->parent ? "." : "", path->key);
    } else {
        fprintf(out, "[%zu]", path->index);
    }
}

/* `n` bytes at most of valid UTF-8, cut between characters. */
static size_t utf8_cut(const char *text, size_t size, size_t n)
{
    if (size <= n) {
        return size;
    }
    while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80) {
        n--;
    }
    return n;
}

static void write_given(FILE *out, const json_t *value)
{
    json_t *shorter = NULL;
    if (json_is_string(value) && json_string_length(value) > GIVEN_CAP) {
        const char *text = json_string_value(value);
        shorter = json_stringn(text, utf8_cut(text, json_string_length(value), GIVEN_CAP));
        value = shorter;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
    if (text) {
        size_t size = strlen(text);
        size_t n = utf8_cut(text, size, GIVEN_CAP + 2);
        fprintf(out, "%.*s%s", (int)n, text, n < size || shorter ? "…" : "");
    }
    free(text);
    json_decref(shorter);
}

static void write_list(FILE *out, const json_t *values)
{
    size_t i;
    json_t *value;
    json_array_foreach(values, i, value)
    {
        fputs(i ? ", " : "", out);
        write_given(out, value);
    }
}

const char *schema_type_words(const char *type)
{
    static const char *const names[][2] = {
        {"array", "an array"},  {"boolean", "true or false"}, {"integer", "a whole number"},
        {"null", "null"},       {"number", "a number"},       {"object", "an object"},
        {"string", "a string"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i][0], type) == 0) {
            return names[i][1];
        }
    }
    return NULL;
}

static void write_type(FILE *out, const json_t *type)
{
    if (json_is_string(type)) {
        fputs(schema_type_words(json_string_value(type)), out);
        return;
    }
    size_t i;
    json_t *one;
    json_array_foreach(type, i, one)
    {
        fprintf(out, "%s%s", i ? " or " : "", schema_type_words(json_string_value(one)));
    }
    if (!type) {
        fputs("a value", out);
    }
}

static void write_bounds(FILE *out, const json_t *schema)
{
    static const struct {
        const char *keyword, *before, *after;
    } bounds[] = {
        {"exclusiveMinimum", "greater than ", ""},
        {"minimum", "at least ", ""},
        {"maximum", "at most ", ""},
        {"minLength", "at least ", " characters long"},
        {"maxLength", "at most ", " characters long"},
        {"minItems", "at least ", " items long"},
        {"maxItems", "at most ", " items long"},
        {"pattern", "matching ", ""},
    };
    const char *joint = " ";
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        const json_t *value = json_object_get(schema, bounds[i].keyword);
        if (value) {
            fprintf(out, "%s%s", joint, bounds[i].before);
            write_given(out, value);
            fputs(bounds[i].after, out);
            joint = " and ";
        }
    }
}

static void write_expected(FILE *out, const json_t *schema)
{
    const json_t *words = json_object_get(schema, "enum");
    const json_t *only = json_object_get(schema, "const");
    if (words) {
        fputs("one of ", out);
        write_list(out, words);
    } else if (only) {
        write_given(out, only);
    } else {
        write_type(out, json_object_get(schema, "type"));
        write_bounds(out, schema);
    }
}

/* The nearest of an array's strings or an object's keys. */
static const char *nearest_in(const char *word, const json_t *strings, const json_t *object)
{
    size_t count = strings ? json_array_size(strings) : json_object_size(object);
    const char **words = calloc(count + 1, sizeof *words);
    if (!words) {
        return NULL;
    }
    size_t n = 0;
    size_t i;
    json_t *value;
    const char *key;
    json_array_foreach(strings, i, value)
    {
        if (json_is_string(value)) {
            words[n++] = json_string_value(value);
        }
    }
    json_object_foreach((json_t *)object, key, value)
    {
        words[n++] = key;
    }
    const char *best = nearest_word(word, words);
    free(words);
    return best;
}

static int fail_text(const struct check *c, FILE *out, char **text)
{
    bool broken = fclose(out) != 0;
    int rc = error_set(c->err, ERROR_INVALID, "%s", broken || !*text ? "out of memory" : *text);
    free(*text);
    return rc;
}

/* "timeout_seconds: given -1, expected a number greater than 0". */
static int fail_expected(const struct check *c, const json_t *schema, const json_t *value,
                         const struct path *path)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        return error_set(c->err, ERROR_INTERNAL, "out of memory");
    }
    write_path(out, path);
    fputs(path->parent ? ": given " : "given ", out);
    write_given(out, value);
    fputs(", expected ", out);
    write_expected(out, schema);
    if (json_is_string(value)) {
        const char *near =
            nearest_in(json_string_value(value), json_object_get(schema, "enum"), NULL);
        if (near) {
            fprintf(out, "; did you mean \"%s\"?", near);
        }
    }
    return fail_text(c, out, &text);
}

static void write_keys(FILE *out, const json_t *properties)
{
    const char *key;
    json_t *value;
    const char *joint = "";
    json_object_foreach((json_t *)properties, key, value)
    {
        fprintf(out, "%s%s", joint, key);
        joint = ", ";
    }
}

static int fail_key(const struct check *c, const json_t *schema, const struct path *path,
                    const char *problem)
{
    const json_t *properties = json_object_get(schema, "properties");
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        return error_set(c->err, ERROR_INTERNAL, "out of memory");
    }
    write_path(out, path);
    fprintf(out, ": %s", problem);
    const char *near = nearest_in(path->key, NULL, properties);
    if (near && strcmp(near, path->key) != 0) {
        fprintf(out, "; did you mean \"%s\"?", near);
    } else {
        fputs(".", out);
    }
    fputs(" Allowed here: ", out);
    write_keys(out, properties);
    return fail_text(c, out, &text);
}

static int fail_missing(const struct check *c, const json_t *schema, const struct path *path)
{
    const json_t *property = json_object_get(json_object_get(schema, "properties"), path->key);
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        return error_set(c->err, ERROR_INTERNAL, "out of memory");
    }
    write_path(out, path);
    fputs(": missing, expected ", out);
    write_expected(out, property);
    return fail_text(c, out, &text);
}

/* ---- checking ---- */

static bool is_type(const json_t *value, const char *type)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return strcmp(type, "object") == 0;
    case JSON_ARRAY:
        return strcmp(type, "array") == 0;
    case JSON_STRING:
        return strcmp(type, "string") == 0;
    case JSON_INTEGER:
        return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
    case JSON_REAL:
        return strcmp(type, "number") == 0;
    case JSON_TRUE:
    case JSON_FALSE:
        return strcmp(type, "boolean") == 0;
    case JSON_NULL:
        return strcmp(type, "null") == 0;
    }
    return false;
}

static bool type_fits(const json_t *type, const json_t *value)
{
    if (!type) {
        return true;
    }
    if (json_is_string(type)) {
        return is_type(value, json_string_value(type));
    }
    size_t i;
    json_t *one;
    json_array_foreach(type, i, one)
    {
        if (is_type(value, json_string_value(one))) {
            return true;
        }
    }
    return false;
}

static bool words_fit(const json_t *schema, const json_t *value)
{
    const json_t *only = json_object_get(schema, "const");
    const json_t *words = json_object_get(schema, "enum");
    if (only && !json_equal(only, value)) {
        return false;
    }
    size_t i;
    json_t *word;
    json_array_foreach(words, i, word)
    {
        if (json_equal(word, value)) {
            return true;
        }
    }
    return !words;
}

static bool between(const json_t *schema, const char *least, const char *most, double n)
{
    const json_t *low = json_object_get(schema, least);
    const json_t *high = json_object_get(schema, most);
    return (!low || n >= json_number_value(low)) && (!high || n <= json_number_value(high));
}

static bool number_fits(const json_t *schema, const json_t *value)
{
    const json_t *above = json_object_get(schema, "exclusiveMinimum");
    double n = json_number_value(value);
    return isfinite(n) && between(schema, "minimum", "maximum", n) &&
           (!above || n > json_number_value(above));
}

static bool pattern_fits(const char *pattern, const json_t *value)
{
    regex_t regex;
    if (regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB) != 0) {
        return false;
    }
    /* REG_STARTEND: a NUL in the text is a character like another. */
    regmatch_t whole = {0, (regoff_t)json_string_length(value)};
    int rc = regexec(&regex, json_string_value(value), 1, &whole, REG_STARTEND);
    regfree(&regex);
    return rc == 0;
}

static bool string_fits(const json_t *schema, const json_t *value)
{
    const char *text = json_string_value(value);
    const json_t *pattern = json_object_get(schema, "pattern");
    size_t characters = 0;
    for (size_t i = 0; i < json_string_length(value); i++) {
        characters += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    return between(schema, "minLength", "maxLength", (double)characters) &&
           (!pattern || pattern_fits(json_string_value(pattern), value));
}

static int check_property(const struct check *c, const json_t *schema, const char *key,
                          const json_t *value, const struct path *path)
{
    const json_t *property = json_object_get(json_object_get(schema, "properties"), key);
    const json_t *others = json_object_get(schema, "additionalProperties");
    if (property) {
        return check_value(c, property, value, path);
    }
    if (json_is_false(others)) {
        return fail_key(c, schema, path, "there is no such field");
    }
    return json_is_object(others) ? check_value(c, others, value, path) : 0;
}

static bool is_required(const json_t *schema, const char *key)
{
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(schema, "required"), i, name)
    {
        if (strcmp(json_string_value(name), key) == 0) {
            return true;
        }
    }
    return false;
}

static int check_object(const struct check *c, const json_t *schema, const json_t *value,
                        const struct path *path)
{
    size_t i;
    json_t *member;
    const char *key;
    json_object_foreach((json_t *)value, key, member)
    {
        struct path at = {.parent = path, .key = key};
        bool absent = c->null_is_absent && json_is_null(member) && !is_required(schema, key) &&
                      json_object_get(json_object_get(schema, "properties"), key);
        if (!absent && check_property(c, schema, key, member, &at) < 0) {
            return -1;
        }
    }
    json_array_foreach(json_object_get(schema, "required"), i, member)
    {
        if (!json_object_get(value, json_string_value(member))) {
            struct path at = {.parent = path, .key = json_string_value(member)};
            return fail_missing(c, schema, &at);
        }
    }
    return 0;
}

static int check_array(const struct check *c, const json_t *schema, const json_t *value,
                       const struct path *path)
{
    const json_t *items = json_object_get(schema, "items");
    size_t i;
    json_t *item;
    if (!between(schema, "minItems", "maxItems", (double)json_array_size(value))) {
        return fail_expected(c, schema, value, path);
    }
    json_array_foreach(value, i, item)
    {
        struct path at = {.parent = path, .index = i};
        if (items && check_value(c, items, item, &at) < 0) {
            return -1;
        }
    }
    return 0;
}

static int check_value(const struct check *c, const json_t *schema, const json_t *value,
                       const struct path *path)
{
    if (!type_fits(json_object_get(schema, "type"), value) || !words_fit(schema, value) ||
        (json_is_number(value) && !number_fits(schema, value)) ||
        (json_is_string(value) && !string_fits(schema, value))) {
        return fail_expected(c, schema, value, path);
    }
    if (json_is_object(value)) {
        return check_object(c, schema, value, path);
    }
    return json_is_array(value) ? check_array(c, schema, value, path) : 0;
}

int schema_check(const json_t *schema, const json_t *value, bool null_is_absent, struct error *err)
{
    const struct check c = {.null_is_absent = null_is_absent, .err = err};
    const struct path root = {0};
    return check_value(&c, schema, value, &root);
}
