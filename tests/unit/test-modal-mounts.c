/* What of a folder is uploaded as a mount: the walk and its refusals, hashes and when they are
 * taken again, what is remembered, and where blobs may go. */
#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/modal/blob.h"
#include "backends/modal/mount_store.h"

static const char secret[] = "of the host";

struct trial {
    char top[64];      /* holds both of: */
    char shared[128];  /* what is shared, */
    char outside[128]; /* and what is not */
    struct share *share;
};

static void put_at(const char *folder, const char *name, const char *text)
{
    char path[512];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void link_at(const char *folder, const char *name, const char *target)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(symlink(target, path), 0);
}

static void folder_at(const char *folder, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

/* Its times are past: what was hashed of it stays known. */
static void make_old(const char *folder, const char *name)
{
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static int set_up(void **state)
{
    struct trial *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    (void)snprintf(t->top, sizeof(t->top), "/tmp/cellblock-mounts-XXXXXX");
    assert_non_null(mkdtemp(t->top));
    (void)snprintf(t->shared, sizeof(t->shared), "%s/shared", t->top);
    (void)snprintf(t->outside, sizeof(t->outside), "%s/outside", t->top);
    folder_at(t->top, "shared");
    folder_at(t->top, "outside");
    put_at(t->outside, "data", secret);
    t->share =
        share_new(SHARE_MOUNT, open(t->shared, O_PATH | O_CLOEXEC), t->shared, "/data", true);
    assert_non_null(t->share);
    *state = t;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

static int tear_down(void **state)
{
    struct trial *t = *state;

    share_free(t->share);
    (void)nftw(t->top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(t);
    return 0;
}

static struct mount_list *walk(struct trial *t, const struct mount_list *earlier)
{
    struct mount_list *list = mount_list_new();
    struct error err = {0};

    assert_non_null(list);
    if (mount_list_walk(list, t->share, earlier, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return list;
}

static void hash(struct trial *t, struct mount_list *list)
{
    struct mount_hashing h = {.fd = -1};
    struct error err = {0};
    int r;

    while ((r = mount_hash(&h, list, t->share, &err)) == 0) {
    }
    if (r < 0) {
        fail_msg("%s", err.message);
    }
    mount_hashing_deinit(&h);
}

static void assert_refused(struct trial *t, enum error_kind kind, const char *words)
{
    struct mount_list *list = mount_list_new();
    struct error err = {0};

    assert_int_equal(mount_list_walk(list, t->share, NULL, &err), -1);
    if (err.kind != kind || !strstr(err.message, words)) {
        fail_msg("%d: %s", (int)err.kind, err.message);
    }
    error_clear(&err);
    mount_list_free(list);
}

/* ---- the walk ---- */

static void all_files_are_listed_by_path(void **state)
{
    static const char *const paths[] = {".hidden", "also/file", "link", "sub/file", "zero"};
    struct trial *t = *state;
    struct mount_list *list;
    char *dest, path[512];

    put_at(t->shared, ".hidden", "h");
    put_at(t->shared, "zero", "");
    folder_at(t->shared, "empty");
    folder_at(t->shared, "sub");
    put_at(t->shared, "sub/file", "abc");
    (void)snprintf(path, sizeof(path), "%s/sub/file", t->shared);
    assert_int_equal(chmod(path, 04751), 0);
    link_at(t->shared, "link", "sub/../zero");
    link_at(t->shared, "also", "sub");
    list = walk(t, NULL);
    assert_int_equal(list->count, 5);
    for (size_t i = 0; i < list->count; i++) {
        assert_string_equal(list->files[i].path, paths[i]);
    }
    assert_int_equal(list->files[3].mode, 0751); /* no set-id bits */
    assert_int_equal(list->files[3].facts.size, 3);
    assert_int_equal(list->bytes, 1 + 3 + 3);
    assert_int_equal(list->empty_folders, 1);
    dest = mount_file_dest(t->share, &list->files[3]);
    assert_string_equal(dest, "/data/sub/file");
    free(dest);
    mount_list_free(list);
}

static void a_file_alone_is_its_dest(void **state)
{
    struct trial *t = *state;
    struct mount_list *list;
    char path[256], *dest;

    (void)snprintf(path, sizeof(path), "%s/data", t->outside);
    share_free(t->share);
    t->share = share_new(SHARE_MOUNT, open(path, O_PATH | O_CLOEXEC), path, "/data/f", true);
    list = walk(t, NULL);
    hash(t, list);
    assert_int_equal(list->count, 1);
    dest = mount_file_dest(t->share, &list->files[0]);
    assert_string_equal(dest, "/data/f");
    free(dest);
    mount_list_free(list);
}

static void no_link_leads_out(void **state)
{
    static const char *const targets[] = {"../../outside/data",
                                          "../../outside",
                                          "/etc/passwd",
                                          "/",
                                          "../sub/../../outside/data",
                                          "/proc/self/root/etc/passwd"};
    struct trial *t = *state;
    char path[256];

    put_at(t->shared, "fine", "fine");
    folder_at(t->shared, "sub");
    (void)snprintf(path, sizeof(path), "%s/sub/link", t->shared);
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        link_at(t->shared, "sub/link", targets[i]);
        assert_refused(t, ERROR_INVALID, "link sub/link leads out of what is shared");
        assert_int_equal(unlink(path), 0);
    }
    link_at(t->shared, "sub/link", "nothing");
    assert_refused(t, ERROR_INVALID, "leads nowhere");
    assert_int_equal(unlink(path), 0);
    link_at(t->shared, "sub/link", "..");
    assert_refused(t, ERROR_INVALID, "in a circle");
}

static void what_is_no_mount_is_refused(void **state)
{
    struct trial *t = *state;
    char path[256], deep[3 * (MOUNT_DEPTH_CAP + 1)];

    assert_refused(t, ERROR_INVALID, "holds no file");
    folder_at(t->shared, "empty");
    assert_refused(t, ERROR_INVALID, "holds no file");
    (void)snprintf(path, sizeof(path), "%s/pipe", t->shared);
    assert_int_equal(mkfifo(path, 0666), 0);
    assert_refused(t, ERROR_INVALID, "pipe is neither a file");
    assert_int_equal(unlink(path), 0);
    put_at(t->shared, "\xff", "x");
    assert_refused(t, ERROR_INVALID, "not UTF-8");
    (void)snprintf(path, sizeof(path), "%s/\xff", t->shared);
    assert_int_equal(unlink(path), 0);
    for (size_t i = 0; i <= MOUNT_DEPTH_CAP; i++) { /* d, d/d, d/d/d … */
        deep[i * 2] = 'd';
        deep[i * 2 + 1] = '\0';
        folder_at(t->shared, deep);
        deep[i * 2 + 1] = '/';
    }
    assert_refused(t, ERROR_LIMIT, "nested deeper");
}

/* ---- the walk, while it is led astray ---- */

struct swapping {
    char one[256], two[256];
    atomic_bool stop;
};

/* With a pause, or a valgrind that runs one thread at a time runs no other. */
static void *swap(void *data)
{
    const struct timespec pause = {.tv_nsec = 20000};
    struct swapping *s = data;

    while (!s->stop) {
        (void)renameat2(AT_FDCWD, s->one, AT_FDCWD, s->two, RENAME_EXCHANGE);
        (void)nanosleep(&pause, NULL);
    }
    return NULL;
}

/* One look at the folder: 1 when a file of it was read, 0 when something was in the way. */
static int look(struct trial *t)
{
    struct mount_list *list = mount_list_new();
    struct mount_hashing h = {.fd = -1};
    struct error err = {0};
    int r = mount_list_walk(list, t->share, NULL, &err);

    while (r == 0 && (r = mount_hash(&h, list, t->share, &err)) == 0) {
    }
    for (size_t i = 0; r == 1 && i < list->count; i++) {
        char *bytes = mount_read(t->share, &list->files[i], &err);

        if (bytes) {
            assert_memory_not_equal(bytes, secret, 2);
        }
        free(bytes);
        error_clear(&err);
    }
    mount_hashing_deinit(&h);
    mount_list_free(list);
    error_clear(&err);
    return r == 1;
}

static void a_folder_that_turns_into_a_link(void **state)
{
    struct trial *t = *state;
    struct swapping s = {0};
    unsigned went = 0, refused = 0;
    pthread_t thread;

    folder_at(t->shared, "sub");
    put_at(t->shared, "sub/data", "public");
    link_at(t->top, "other", t->outside);
    (void)snprintf(s.one, sizeof(s.one), "%s/sub", t->shared);
    (void)snprintf(s.two, sizeof(s.two), "%s/other", t->top);
    assert_int_equal(pthread_create(&thread, NULL, swap, &s), 0);
    for (unsigned i = 0; i < 20000 && (i < 200 || went < 5 || refused < 5); i++) {
        if (look(t)) {
            went++;
        } else {
            refused++;
        }
    }
    s.stop = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(went > 0 && refused > 0); /* else it shows nothing */
}

/* ---- hashes ---- */

static void a_file_that_changes_is_noticed(void **state)
{
    struct trial *t = *state;
    struct mount_list *list;
    struct mount_hashing h = {.fd = -1};
    struct error err = {0};
    void *bytes;

    put_at(t->shared, "f", "before");
    list = walk(t, NULL);
    put_at(t->shared, "f", "longer than before");
    assert_int_equal(mount_hash(&h, list, t->share, &err), -1);
    assert_non_null(strstr(err.message, "f changed while it was uploaded"));
    error_clear(&err);
    mount_hashing_deinit(&h);
    mount_list_free(list);

    list = walk(t, NULL);
    hash(t, list);
    bytes = mount_read(t->share, &list->files[0], &err);
    assert_non_null(bytes);
    free(bytes);
    put_at(t->shared, "f", "after, and longer than that");
    assert_null(mount_read(t->share, &list->files[0], &err));
    assert_non_null(strstr(err.message, "changed"));
    error_clear(&err);
    mount_list_free(list);
}

static void what_is_young_is_hashed_again(void **state)
{
    struct trial *t = *state;
    struct mount_list *first, *second;

    put_at(t->shared, "a", "a");
    put_at(t->shared, "b", "b");
    first = walk(t, NULL);
    assert_false(first->files[0].hashed);
    hash(t, first);
    assert_true(first->files[0].hashed && !first->files[0].settled);
    second = walk(t, first);
    assert_false(second->files[0].hashed); /* it may have changed within the same tick */
    mount_list_free(second);

    /* As if it had been hashed later. */
    first->files[0].settled = first->files[1].settled = true;
    put_at(t->shared, "b", "other");
    second = walk(t, first);
    assert_true(second->files[0].hashed && second->files[0].settled);
    assert_int_equal(second->files[0].earlier, 0);
    assert_memory_equal(second->files[0].sha256, first->files[0].sha256, SHA256_DIGEST_LENGTH);
    assert_false(second->files[1].hashed);
    mount_list_free(second);

    make_old(t->shared, "a"); /* its ctime is now, whatever its mtime says */
    second = walk(t, first);
    assert_false(second->files[0].hashed);
    hash(t, second);
    assert_false(second->files[0].settled);
    mount_list_free(second);
    mount_list_free(first);
}

static void a_large_file_takes_several_steps(void **state)
{
    enum { STEPS = 3 };
    struct trial *t = *state;
    struct mount_list *list;
    struct mount_hashing h = {.fd = -1};
    char path[256];
    unsigned steps = 1;

    put_at(t->shared, "large", "");
    (void)snprintf(path, sizeof(path), "%s/large", t->shared);
    assert_int_equal(truncate(path, (off_t)(STEPS - 1) * MOUNT_HASH_STEP + 1), 0);
    list = walk(t, NULL);
    while (mount_hash(&h, list, t->share, NULL) == 0) {
        steps++;
    }
    assert_int_equal(steps, STEPS);
    assert_int_equal(h.bytes, list->bytes);
    assert_true(list->files[0].hashed);
    mount_list_free(list);
}

/* ---- the store ---- */

static void what_was_uploaded_is_found_again(void **state)
{
    struct trial *t = *state;
    struct mount_store store = {0};
    struct mount_kept *kept;
    char dest[32];

    put_at(t->shared, "f", "x");
    assert_null(mount_store_find(&store, t->share));
    mount_store_keep(&store, walk(t, NULL), "/data", "ap-1", "mo-1");
    mount_store_keep(&store, walk(t, NULL), "/data", "ap-1", "mo-2");
    assert_int_equal(store.count, 1);
    kept = mount_store_find(&store, t->share);
    assert_string_equal(kept->id, "mo-2");
    kept->list->files[0].there = true;
    for (int i = 0; i < MOUNT_STORE_CAP; i++) {
        (void)snprintf(dest, sizeof(dest), "/other/%d", i);
        mount_store_keep(&store, walk(t, NULL), dest, "ap-1", "mo-3");
    }
    assert_int_equal(store.count, MOUNT_STORE_CAP);
    assert_null(mount_store_find(&store, t->share)); /* the oldest had to go */
    assert_string_equal(kept->id, "mo-2");           /* and is there for whoever holds it */
    mount_kept_drop(kept);
    mount_store_keep(&store, walk(t, NULL), "/data", "ap-1", "mo-4");
    kept = mount_store_find(&store, t->share);
    kept->list->files[0].there = true;
    mount_store_forget(&store);
    assert_null(kept->id);
    assert_false(kept->list->files[0].there);
    mount_kept_drop(kept);
    mount_store_deinit(&store);
}

/* ---- where blobs go ---- */

static void assert_split(const char *url, bool local, const char *base, const char *path)
{
    char *found = NULL;
    const char *rest = NULL;
    int r = modal_blob_split(url, local, &found, &rest);

    assert_int_equal(r, base ? 0 : -1);
    if (base) {
        assert_string_equal(found, base);
        assert_string_equal(rest, path);
    }
    free(found);
}

static void an_address_is_https_and_has_a_path(void **state)
{
    (void)state;
    assert_split("https://b.s3.amazonaws.com/a/b?X-Amz=1%2F", false, "https://b.s3.amazonaws.com",
                 "/a/b?X-Amz=1%2F");
    assert_split("http://127.0.0.1:9/b", true, "http://127.0.0.1:9", "/b");
    assert_split("http://127.0.0.1:9/b", false, NULL, NULL);
    assert_split("https://user@host/b", true, NULL, NULL);
    assert_split("https:///b", true, NULL, NULL);
    assert_split("https://host", true, NULL, NULL);
    assert_split("file:///etc/passwd", true, NULL, NULL);
    assert_split("", true, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_files_are_listed_by_path, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_alone_is_its_dest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_link_leads_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_mount_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_folder_that_turns_into_a_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_changes_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_young_is_hashed_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_large_file_takes_several_steps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_uploaded_is_found_again, set_up, tear_down),
        cmocka_unit_test(an_address_is_https_and_has_a_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
