/* Buckets: what is one, and which of them an agent may have. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "mcp/cloud_share.h"

static json_t *read_json(const char *text)
{
    json_t *object = json_loads(text, JSON_ALLOW_NUL, NULL);

    assert_non_null(object);
    return object;
}

static void a_bucket_with_all_there_is_to_say(void **state)
{
    json_t *object = read_json("{\"bucket\": \"my.data-1\", \"key_prefix\": \"a/b/\", "
                               "\"bucket_endpoint_url\": \"https://s3.example.org:9000\", "
                               "\"secret\": \"key\"}");
    struct share *share = cloud_share_new(object, "/data", true, NULL), *copy;

    (void)state;
    json_decref(object);
    assert_non_null(share);
    copy = share_clone(share);
    share_free(share);
    assert_int_equal(copy->type, SHARE_CLOUD);
    assert_int_equal(copy->fd, -1);
    assert_true(copy->is_directory);
    assert_true(copy->read_only);
    assert_string_equal(copy->dest, "/data");
    assert_string_equal(copy->source, "my.data-1/a/b/");
    assert_string_equal(copy->cloud.bucket, "my.data-1");
    assert_string_equal(copy->cloud.key_prefix, "a/b/");
    assert_string_equal(copy->cloud.endpoint_url, "https://s3.example.org:9000");
    assert_string_equal(copy->cloud.secret, "key");
    assert_null(copy->cloud.role_arn);
    share_free(copy);
}

static void what_is_no_bucket(void **state)
{
    static const struct {
        const char *text, *word;
    } rows[] = {
        {"{}", "bucket is missing"},
        {"{\"bucket\": \"\"}", "bucket"},
        {"{\"bucket\": \"a/b\"}", "bucket: \"a/b\""},
        {"{\"bucket\": \"-a\"}", "bucket"},
        {"{\"bucket\": \"a\\u0000b\"}", "NUL"},
        {"{\"bucket\": \"a\\nb\"}", "control character"},
        {"{\"bucket\": \"b\", \"key_prefix\": \"a\"}", "must end in \"/\""},
        {"{\"bucket\": \"b\", \"key_prefix\": \"/a/\"}", "not begin"},
        {"{\"bucket\": \"b\", \"bucket_endpoint_url\": \"s3.example.org\"}", "no address"},
        {"{\"bucket\": \"b\", \"bucket_endpoint_url\": \"https://\"}", "no address"},
        {"{\"bucket\": \"b\", \"bucket_endpoint_url\": \"https://u@h\"}", "no address"},
        {"{\"bucket\": \"b\", \"bucket_endpoint_url\": \"file:///etc\"}", "no address"},
        {"{\"bucket\": \"b\", \"secret\": \"s\", \"role_arn\": \"r\"}", "not by both"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        json_t *object = read_json(rows[i].text);
        struct error err = {0};

        assert_null(cloud_share_new(object, "/data", true, &err));
        assert_int_equal(err.kind, ERROR_INVALID);
        if (!strstr(err.message, rows[i].word)) {
            fail_msg("\"%s\" is not in: %s", rows[i].word, err.message);
        }
        error_clear(&err);
        json_decref(object);
    }
}

static void allow(struct policy *policy)
{
    json_t *object = read_json(
        "{\"buckets\": [{\"bucket\": \"data\", \"key_prefix\": \"public/\", \"secret\": \"key\", "
        "\"bucket_endpoint_url\": \"https://s3.example.org\"}, "
        "{\"bucket\": \"out\", \"role_arn\": \"arn:1\", \"read_only\": false}]}");

    assert_int_equal(policy_fill(policy, object, NULL), 0);
    json_decref(object);
}

static void an_agent_gets_the_owners_way_to_a_bucket(void **state)
{
    static const struct {
        const char *wish, *prefix;
        bool read_only;
    } rows[] = {
        {"{\"bucket\": \"data\"}", "public/", true},
        {"{\"bucket\": \"data\", \"key_prefix\": \"public/2025/\"}", "public/2025/", true},
        {"{\"bucket\": \"data\", \"secret\": \"key\", \"bucket_endpoint_url\": "
         "\"https://s3.example.org\"}",
         "public/", true},
        {"{\"bucket\": \"data\", \"secret\": null, \"key_prefix\": null}", "public/", true},
        {"{\"bucket\": \"out\"}", NULL, false},
        {"{\"bucket\": \"out\"}", NULL, true},
    };
    struct policy policy;

    (void)state;
    allow(&policy);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        json_t *wish = read_json(rows[i].wish);
        json_t *got = cloud_share_allow(&policy, wish, rows[i].read_only, NULL);
        const char *prefix = json_string_value(json_object_get(got, "key_prefix"));

        assert_non_null(got);
        if (rows[i].prefix) {
            assert_string_equal(prefix, rows[i].prefix);
            assert_string_equal(json_string_value(json_object_get(got, "secret")), "key");
            assert_string_equal(json_string_value(json_object_get(got, "bucket_endpoint_url")),
                                "https://s3.example.org");
        } else {
            assert_null(prefix);
            assert_string_equal(json_string_value(json_object_get(got, "role_arn")), "arn:1");
        }
        json_decref(got);
        json_decref(wish);
    }
    policy_deinit(&policy);
}

static void an_agent_gets_no_more(void **state)
{
    static const struct {
        const char *wish;
        bool read_only;
    } rows[] = {
        {"{\"bucket\": \"other\"}", true},
        {"{\"bucket\": \"DATA\"}", true},
        {"{\"bucket\": \"data\"}", false},
        {"{\"bucket\": \"data\", \"key_prefix\": \"private/\"}", true},
        {"{\"bucket\": \"data\", \"key_prefix\": \"pub/\"}", true},
        {"{\"bucket\": \"data\", \"secret\": \"another\"}", true},
        {"{\"bucket\": \"data\", \"bucket_endpoint_url\": \"https://evil.example\"}", true},
        {"{\"bucket\": \"data\", \"role_arn\": \"arn:2\"}", true},
        {"{\"bucket\": \"out\", \"secret\": \"key\"}", true},
    };
    struct policy policy, none = {0};

    (void)state;
    allow(&policy);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        json_t *wish = read_json(rows[i].wish);
        struct error err = {0};

        if (cloud_share_allow(&policy, wish, rows[i].read_only, &err)) {
            fail_msg("allowed: %s", rows[i].wish);
        }
        assert_int_equal(err.kind, ERROR_REFUSED);
        assert_non_null(strstr(err.message, "policy.buckets"));
        error_clear(&err);
        assert_null(cloud_share_allow(&none, wish, rows[i].read_only, &err));
        assert_int_equal(err.kind, ERROR_REFUSED);
        error_clear(&err);
        json_decref(wish);
    }
    policy_deinit(&policy);
}

static void a_policy_with_a_wrong_bucket_is_refused(void **state)
{
    json_t *object = read_json("{\"buckets\": [{\"bucket\": \"a\"}, {\"bucket\": \"b/c\"}]}");
    struct policy policy;
    struct error err = {0};

    (void)state;
    assert_int_equal(policy_fill(&policy, object, &err), -1);
    assert_non_null(strstr(err.message, "policy.buckets[1]"));
    error_clear(&err);
    policy_deinit(&policy);
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_with_all_there_is_to_say),
        cmocka_unit_test(what_is_no_bucket),
        cmocka_unit_test(an_agent_gets_the_owners_way_to_a_bucket),
        cmocka_unit_test(an_agent_gets_no_more),
        cmocka_unit_test(a_policy_with_a_wrong_bucket_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
