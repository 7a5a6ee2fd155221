#include <regex.h>
#include <string.h>

#include "backends/base/embedded.h"
#include "mcp/schema.h"

enum shape {
    SHAPE_ANY,
    SHAPE_ARRAY,
    SHAPE_NUMBER,
    SHAPE_PATTERN,
    SHAPE_SCHEMA,
    SHAPE_SCHEMAS,
    SHAPE_SCHEMA_OR_BOOL,
    SHAPE_STRING,
    SHAPE_STRINGS,
    SHAPE_TYPE,
};

static const struct keyword {
    const char *name;
    enum shape shape;
} keywords[] = {
    {"$id", SHAPE_STRING},
    {"$schema", SHAPE_STRING},
    {"additionalProperties", SHAPE_SCHEMA_OR_BOOL},
    {"const", SHAPE_ANY},
    {"default", SHAPE_ANY},
    {"description", SHAPE_STRING},
    {"enum", SHAPE_ARRAY},
    {"examples", SHAPE_ARRAY},
    {"exclusiveMinimum", SHAPE_NUMBER},
    {"items", SHAPE_SCHEMA},
    {"maxItems", SHAPE_NUMBER},
    {"maxLength", SHAPE_NUMBER},
    {"maximum", SHAPE_NUMBER},
    {"minItems", SHAPE_NUMBER},
    {"minLength", SHAPE_NUMBER},
    {"minimum", SHAPE_NUMBER},
    {"pattern", SHAPE_PATTERN},
    {"properties", SHAPE_SCHEMAS},
    {"required", SHAPE_STRINGS},
    {"title", SHAPE_STRING},
    {"type", SHAPE_TYPE},
};

static bool is_strings(const json_t *value, bool types)
{
    size_t i;
    json_t *one;
    json_array_foreach(value, i, one)
    {
        if (!json_is_string(one) || (types && !schema_type_words(json_string_value(one)))) {
            return false;
        }
    }
    return json_is_array(value);
}

static bool is_pattern(const json_t *value)
{
    regex_t regex;
    if (!json_is_string(value) ||
        regcomp(&regex, json_string_value(value), REG_EXTENDED | REG_NOSUB) != 0) {
        return false;
    }
    regfree(&regex);
    return true;
}

static bool is_schemas(const json_t *value, struct error *err)
{
    const char *key;
    json_t *one;
    json_object_foreach((json_t *)value, key, one)
    {
        if (schema_verify(one, err) < 0) {
            error_wrap(err, "%s", key);
            return false;
        }
    }
    return json_is_object(value);
}

static bool has_shape(const json_t *value, enum shape shape, struct error *err)
{
    switch (shape) {
    case SHAPE_ANY:
        return true;
    case SHAPE_ARRAY:
        return json_is_array(value);
    case SHAPE_NUMBER:
        return json_is_number(value);
    case SHAPE_PATTERN:
        return is_pattern(value);
    case SHAPE_SCHEMA:
        return schema_verify(value, err) == 0;
    case SHAPE_SCHEMAS:
        return is_schemas(value, err);
    case SHAPE_SCHEMA_OR_BOOL:
        return json_is_boolean(value) || schema_verify(value, err) == 0;
    case SHAPE_STRING:
        return json_is_string(value);
    case SHAPE_STRINGS:
        return is_strings(value, false);
    case SHAPE_TYPE:
        return json_is_string(value) ? schema_type_words(json_string_value(value)) != NULL
                                     : is_strings(value, true);
    }
    return false;
}

static const struct keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        if (strcmp(keywords[i].name, name) == 0) {
            return &keywords[i];
        }
    }
    return NULL;
}

int schema_verify(const json_t *schema, struct error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(schema)) {
        return error_set(err, ERROR_INTERNAL, "a schema is an object");
    }
    json_object_foreach((json_t *)schema, key, value)
    {
        const struct keyword *keyword = find_keyword(key);
        if (!keyword) {
            return error_set(err, ERROR_INTERNAL, "the keyword \"%s\" is not checked by anyone",
                             key);
        }
        struct error inner = {0};
        if (!has_shape(value, keyword->shape, &inner)) {
            error_set(err, ERROR_INTERNAL, "%s: %s", key,
                      inner.message ? inner.message : "a value of the wrong kind");
            error_clear(&inner);
            return -1;
        }
    }
    return 0;
}

/* Filled by schema_get, emptied by schema_unload; a cache of constants, so no state in effect. */
static json_t *parsed_schemas;

const json_t *schema_get(const char *name)
{
    const json_t *known = json_object_get(parsed_schemas, name);
    if (known) {
        return known;
    }
    const struct embedded_file *file = embedded_find(embedded_schemas, name);
    if (!file) {
        return NULL;
    }
    json_t *schema = json_loadb((const char *)file->data, file->size, JSON_REJECT_DUPLICATES, NULL);
    if (!schema || schema_verify(schema, NULL) < 0) {
        json_decref(schema);
        return NULL;
    }
    if (!parsed_schemas) {
        parsed_schemas = json_object();
    }
    return json_object_set_new(parsed_schemas, name, schema) < 0 ? NULL : schema;
}

void schema_unload(void)
{
    json_decref(parsed_schemas);
    parsed_schemas = NULL;
}
