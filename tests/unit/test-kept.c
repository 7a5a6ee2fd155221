#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mcp/kept.h"

#define ID "s-abcdefgh"

static char home[64];

static void in_home(char path[256], const char *rest)
{
    (void)snprintf(path, 256, "%s/%s", home, rest);
}

static int make_home(void **state)
{
    (void)state;
    (void)snprintf(home, sizeof(home), "/tmp/cellblock-kept.XXXXXX");
    if (!mkdtemp(home)) {
        return -1;
    }
    return setenv("XDG_STATE_HOME", home, 1);
}

static int remove_home(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", home);
    return system(command);
}

static struct kept_store *open_store(void)
{
    struct error err = {0};
    struct kept_store *store = kept_store_open(true, &err);

    assert_null(err.message);
    assert_non_null(store);
    return store;
}

static void write_one(struct kept_store *store)
{
    struct kept_hold *hold = kept_hold(store, ID, NULL);
    json_t *record = json_pack("{ss s{ss}}", "id", ID, "where", "url", "http://a/");

    assert_non_null(hold);
    assert_int_equal(kept_write(hold, record, NULL), 0);
    json_decref(record);
    kept_release(hold, false);
}

/* RFC 4231 has no keys of 32 bytes; this one is from an implementation that passes it. */
static void test_mac(void **state)
{
    unsigned char key[MAC_KEY_SIZE];
    char mac[MAC_SIZE], other[MAC_SIZE];

    (void)state;
    for (int i = 0; i < MAC_KEY_SIZE; i++) {
        key[i] = (unsigned char)i;
    }
    mac_of(key, "", 0, mac);
    assert_string_equal(mac, "d38b42096d80f45f826b44a9d5607de72496a415d3f4a1a8c88e3bb9da8dc1cb");
    mac_of(key, "0123456789012345678901234567890123456789012345678901234567890123456789", 70, mac);
    assert_string_equal(mac, "c8ce0015916956ddf3d85c4e9a23c02986805cebabd184a62b6cd28a81902e4b");
    memcpy(other, mac, sizeof(other));
    assert_true(mac_equal(mac, other));
    other[63] ^= 1;
    assert_false(mac_equal(mac, other));
    assert_false(mac_equal(mac, NULL) || mac_equal("", ""));
}

static void test_a_record_comes_back(void **state)
{
    struct kept_store *store = open_store();
    struct stat st;
    char path[256];
    json_t *record, *list;

    (void)state;
    write_one(store);
    record = kept_read(store, ID, NULL);
    assert_string_equal(json_string_value(json_object_get(record, "id")), ID);
    assert_null(json_object_get(record, "mac"));
    json_decref(record);
    list = kept_list(store);
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
    assert_true(kept_exists(ID));
    assert_false(kept_exists("s-aaaaaaaa") || kept_exists("../../key"));
    in_home(path, "cellblock/key");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    in_home(path, "cellblock/sessions/" ID ".json");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    kept_store_free(store);
}

/* Puts `text` over the first place where `old` is. */
static void change(const char *old, const char *text)
{
    char path[256], bytes[4096] = "", *at;
    FILE *file;

    in_home(path, "cellblock/sessions/" ID ".json");
    file = fopen(path, "r+");
    assert_non_null(file);
    assert_true(fread(bytes, 1, sizeof(bytes) - 1, file) > 0);
    at = strstr(bytes, old);
    assert_non_null(at);
    memcpy(at, text, strlen(text));
    rewind(file);
    assert_true(fputs(bytes, file) >= 0);
    fclose(file);
}

static void test_a_changed_record_is_none(void **state)
{
    struct kept_store *store = open_store();
    struct error err = {0};

    (void)state;
    write_one(store);
    change("http://a/", "http://b/");
    assert_null(kept_read(store, ID, &err));
    assert_int_equal(err.kind, ERROR_REFUSED);
    assert_non_null(strstr(err.message, "was changed"));
    assert_false(kept_exists(ID));
    change("http://b/", "http://a/");
    assert_true(kept_exists(ID));
    error_clear(&err);
    kept_store_free(store);
}

static void test_another_key_is_another_user(void **state)
{
    struct kept_store *store = open_store();
    char tag[MAC_SIZE], other[MAC_SIZE], path[256];

    (void)state;
    write_one(store);
    kept_tag(store, ID, "1", tag);
    kept_tag(store, ID, "2", other);
    assert_false(mac_equal(tag, other));
    kept_store_free(store);
    in_home(path, "cellblock/key");
    assert_int_equal(unlink(path), 0);
    store = open_store();
    assert_false(kept_exists(ID));
    kept_tag(store, ID, "1", other);
    assert_false(mac_equal(tag, other));
    kept_store_free(store);
}

static void test_one_process_has_it(void **state)
{
    struct kept_store *store = open_store();
    struct kept_hold *hold = kept_hold(store, ID, NULL);
    struct error err = {0};
    char pid[16];

    (void)state;
    assert_non_null(hold);
    assert_null(kept_hold(store, ID, &err));
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    assert_non_null(strstr(err.message, pid));
    kept_release(hold, true);
    hold = kept_hold(store, ID, NULL);
    assert_non_null(hold);
    kept_release(hold, true);
    error_clear(&err);
    kept_store_free(store);
}

static void refused(const char *word)
{
    struct error err = {0};

    assert_null(kept_store_open(true, &err));
    assert_int_equal(err.kind, ERROR_REFUSED);
    assert_non_null(strstr(err.message, word));
    assert_false(kept_exists(ID));
    error_clear(&err);
}

static void test_what_others_may_touch_is_refused(void **state)
{
    char path[256], key[256], folder[256], away[256];

    (void)state;
    kept_store_free(open_store());
    in_home(key, "cellblock/key");
    assert_int_equal(chmod(key, 0640), 0);
    refused("chmod 600");
    assert_int_equal(chmod(key, 0600), 0);
    kept_store_free(open_store());
    in_home(path, "elsewhere");
    assert_int_equal(rename(key, path), 0);
    assert_int_equal(symlink(path, key), 0);
    refused("symlink");
    assert_int_equal(rename(path, key), 0);
    in_home(folder, "cellblock/sessions");
    assert_int_equal(chmod(folder, 0777), 0);
    refused("written to by others");
    assert_int_equal(chmod(folder, 0700), 0);
    in_home(away, "away");
    assert_int_equal(rename(folder, away), 0);
    assert_int_equal(symlink(away, folder), 0);
    refused("symlink");
    assert_int_equal(rename(away, path), 0);
}

static void test_nothing_is_made_by_looking(void **state)
{
    char path[256];
    struct error err = {0};

    (void)state;
    assert_null(kept_store_open(false, &err));
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    in_home(path, "cellblock");
    assert_int_equal(access(path, F_OK), -1);
    error_clear(&err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mac),
        cmocka_unit_test_setup_teardown(test_a_record_comes_back, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_a_changed_record_is_none, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_another_key_is_another_user, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_one_process_has_it, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_what_others_may_touch_is_refused, make_home,
                                        remove_home),
        cmocka_unit_test_setup_teardown(test_nothing_is_made_by_looking, make_home, remove_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
