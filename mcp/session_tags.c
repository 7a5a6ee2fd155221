#include "mcp/session_tags.h"

#include <errno.h>
#include <string.h>

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

static bool is_name(const char *name, size_t most)
{
    size_t length = strlen(name);

    return length > 0 && length <= most && strspn(name, NAME_CHARACTERS) == length;
}

static int check_tag(const char *name, const json_t *value, struct error *err)
{
    const char *text = json_string_value(value);

    if (!is_name(name, SESSION_TAG_NAME_CAP)) {
        return error_set(err, ERROR_INVALID,
                         "tags: \"%.80s\" is no name of a tag: 1 to %d of A-Z a-z 0-9 _ . - are "
                         "allowed",
                         name, SESSION_TAG_NAME_CAP);
    }
    if (json_is_null(value)) {
        return 0;
    }
    if (!text) {
        return error_set(err, ERROR_INVALID, "tags.%s is not a string", name);
    }
    if (json_string_length(value) > SESSION_TAG_VALUE_CAP) {
        return error_set(err, ERROR_INVALID, "tags.%s has %zu bytes, at most %d are allowed", name,
                         json_string_length(value), SESSION_TAG_VALUE_CAP);
    }
    for (size_t i = 0; i < json_string_length(value); i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) {
            return error_set(err, ERROR_INVALID, "tags.%s holds a control character", name);
        }
    }
    return 0;
}

static int change(json_t *tags, const char *name, json_t *value)
{
    if (!json_is_null(value)) {
        return json_object_set(tags, name, value);
    }
    json_object_del(tags, name); /* one that is not there is gone already */
    return 0;
}

int session_tags_merge(const json_t *tags, const json_t *changes, json_t **ret, struct error *err)
{
    json_t *merged = tags ? json_copy((json_t *)tags) : json_object(), *value;
    const char *name;
    int r = merged ? 0 : error_set_code(err, ERROR_INTERNAL, ENOMEM, "tags");

    json_object_foreach((json_t *)changes, name, value)
    {
        if (r == 0 && (r = check_tag(name, value, err)) == 0 && change(merged, name, value) < 0) {
            r = error_set_code(err, ERROR_INTERNAL, ENOMEM, "tags");
        }
    }
    if (r == 0 && json_object_size(merged) > SESSION_TAGS_CAP) {
        r = error_set(err, ERROR_INVALID, "tags: there would be %zu, at most %d are allowed",
                      json_object_size(merged), SESSION_TAGS_CAP);
    }
    if (r < 0) {
        json_decref(merged);
        return -1;
    }
    *ret = merged;
    return 0;
}

bool session_tags_match(const json_t *tags, const json_t *wanted)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)wanted, name, value)
    {
        if (!json_equal(json_object_get(tags, name), value)) {
            return false;
        }
    }
    return true;
}

int session_name_check(const char *name, struct error *err)
{
    if (!is_name(name, SESSION_NAME_CAP)) {
        return error_set(err, ERROR_INVALID,
                         "name \"%.80s\" is none for a session: 1 to %d of A-Z a-z 0-9 _ . - are "
                         "allowed",
                         name, SESSION_NAME_CAP);
    }
    if (strncmp(name, "s-", 2) == 0) {
        return error_set(err, ERROR_INVALID,
                         "name \"%s\" begins as the ids of sessions do (\"s-\"); choose another",
                         name);
    }
    return 0;
}
