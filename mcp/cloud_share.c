#include "mcp/cloud_share.h"

#include <errno.h>
#include <string.h>

static const char *const opening_keys[] = {"bucket_endpoint_url", "secret", "role_arn"};

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static int check_whole(const json_t *object, struct error *err)
{
    static const char *const keys[] = {"bucket", "key_prefix", "bucket_endpoint_url", "secret",
                                       "role_arn"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        const json_t *value = json_object_get(object, keys[i]);

        if (json_is_string(value) &&
            strlen(json_string_value(value)) != json_string_length(value)) {
            return error_set(err, ERROR_INVALID, "%s holds a NUL", keys[i]);
        }
    }
    return 0;
}

static struct share_cloud cloud_of(const json_t *object)
{
    return (struct share_cloud){
        .bucket = text_of(object, "bucket"),
        .key_prefix = text_of(object, "key_prefix"),
        .endpoint_url = text_of(object, "bucket_endpoint_url"),
        .secret = text_of(object, "secret"),
        .role_arn = text_of(object, "role_arn"),
    };
}

int cloud_share_check(const json_t *object, struct error *err)
{
    struct share_cloud cloud = cloud_of(object);

    return check_whole(object, err) < 0 ? -1 : share_check_cloud(&cloud, err);
}

struct share *cloud_share_new(const json_t *object, const char *dest, bool read_only,
                              struct error *err)
{
    struct share_cloud cloud = cloud_of(object);
    struct share *share;

    if (cloud_share_check(object, err) < 0) {
        return NULL;
    }
    share = share_new_cloud(&cloud, dest, read_only);
    if (!share) {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "share %s", dest);
    }
    return share;
}

/* ---- what an agent may ask for ---- */

/* Is what is wished for within this one of the owner's? */
static bool is_within(const json_t *allowed, const json_t *wish, bool read_only)
{
    const char *inside = text_of(allowed, "key_prefix");
    const char *prefix = text_of(wish, "key_prefix");

    if (strcmp(text_of(allowed, "bucket"), text_of(wish, "bucket")) != 0 ||
        (!read_only && !json_is_false(json_object_get(allowed, "read_only")))) {
        return false;
    }
    if (inside && prefix && strncmp(prefix, inside, strlen(inside)) != 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(opening_keys) / sizeof(*opening_keys); i++) {
        const json_t *wished = json_object_get(wish, opening_keys[i]);

        if (json_is_string(wished) &&
            !json_equal(wished, json_object_get(allowed, opening_keys[i]))) {
            return false;
        }
    }
    return true;
}

/* The owner's, with the narrower prefix. */
static json_t *narrowed(const json_t *allowed, const json_t *wish)
{
    json_t *prefix = json_object_get(wish, "key_prefix");
    json_t *object = json_copy((json_t *)allowed);

    if (object && json_is_string(prefix) && json_string_length(prefix) > 0 &&
        json_object_set(object, "key_prefix", prefix) < 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

json_t *cloud_share_allow(const struct policy *policy, const json_t *wish, bool read_only,
                          struct error *err)
{
    size_t index;
    json_t *allowed, *object;

    if (cloud_share_check(wish, err) < 0) {
        return NULL;
    }
    json_array_foreach(policy->buckets, index, allowed)
    {
        if (is_within(allowed, wish, read_only)) {
            object = narrowed(allowed, wish);
            if (!object) {
                error_set_code(err, ERROR_INTERNAL, ENOMEM, "add_share");
            }
            return object;
        }
    }
    error_set(
        err, ERROR_REFUSED,
        "bucket \"%.100s\" may not be asked for in this way: the owner of this machine allows "
        "buckets%s, with their prefix, endpoint and secret, in policy.buckets. Leave "
        "bucket_endpoint_url and secret out to have the owner's",
        text_of(wish, "bucket"), read_only ? "" : " to be written (read_only false)");
    return NULL;
}
