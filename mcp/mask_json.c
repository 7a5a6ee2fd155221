#include "mcp/mask.h"

#include <stdlib.h>
#include <string.h>

static json_t *masked_array(struct mask *mask, json_t *array, bool keys)
{
    json_t *copy = NULL, *value, *masked;
    size_t index;

    json_array_foreach(array, index, value)
    {
        masked = mask_json(mask, value, keys);
        if (masked != value && !copy) {
            copy = json_copy(array);
        }
        if (!masked || (copy && json_array_set(copy, index, masked) < 0)) {
            json_decref(masked);
            json_decref(copy);
            return NULL;
        }
        json_decref(masked);
    }
    return copy ? copy : json_incref(array);
}

/* {"type": "image", "data": …}, {"blob": …}, {"image/png": …}: base64. */
static bool is_binary(const json_t *object, const char *key)
{
    const char *type = json_string_value(json_object_get(object, "type"));

    if (strcmp(key, "data") == 0) {
        return type && strcmp(type, "image") == 0;
    }
    return strcmp(key, "blob") == 0 ||
           (strncmp(key, "image/", 6) == 0 && strcmp(key, "image/svg+xml") != 0);
}

/* Puts the member into the copy; two keys that become one share it. */
static int put_member(struct mask *mask, json_t *copy, const char *key, json_t *value,
                      bool *ret_changed)
{
    size_t size;
    char *name = mask ? mask_text(mask, key, strlen(key), &size) : NULL;
    int r = json_object_set_nocheck(copy, name ? name : key, value);

    *ret_changed |= name != NULL;
    free(name);
    return r;
}

static json_t *masked_object(struct mask *mask, json_t *object, bool keys)
{
    json_t *copy = json_object(), *value, *masked;
    bool changed = false;
    const char *key;

    json_object_foreach(object, key, value)
    {
        masked = is_binary(object, key) ? json_incref(value) : mask_json(mask, value, keys);
        changed |= masked != value;
        if (!masked || put_member(keys ? mask : NULL, copy, key, masked, &changed) < 0) {
            json_decref(masked);
            json_decref(copy);
            return NULL;
        }
        json_decref(masked);
    }
    if (!changed) {
        json_decref(copy);
        return json_incref(object);
    }
    return copy;
}

static json_t *masked_string(struct mask *mask, json_t *string)
{
    size_t size;
    char *text = mask_text(mask, json_string_value(string), json_string_length(string), &size);
    json_t *masked = text ? json_stringn_nocheck(text, size) : json_incref(string);

    free(text);
    return masked;
}

json_t *mask_json(struct mask *mask, json_t *value, bool keys)
{
    if (mask && json_is_string(value)) {
        return masked_string(mask, value);
    }
    if (mask && json_is_array(value)) {
        return masked_array(mask, value, keys);
    }
    if (mask && json_is_object(value)) {
        return masked_object(mask, value, keys);
    }
    return json_incref(value);
}
