/* What is made on the host, and what is read there: nothing through a link. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "mcp/tools/files/host_copy.h"
#include "mcp/tools/files/host_walk.h"

/* `in` is where copies are made, `out` is what links lead to: all that it holds is `kept`. */
struct world {
    char root[64];
    int in; /* O_PATH */
};

static const char *in_root(const struct world *w, char space[128], const char *name)
{
    snprintf(space, 128, "%s/%s", w->root, name);
    return space;
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    char space[128];
    int fd;

    snprintf(w->root, sizeof(w->root), "/tmp/cellblock-host-copy-XXXXXX");
    assert_non_null(mkdtemp(w->root));
    assert_int_equal(mkdir(in_root(w, space, "in"), 0700), 0);
    assert_int_equal(mkdir(in_root(w, space, "out"), 0700), 0);
    fd = open(in_root(w, space, "out/kept"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    w->in = open(in_root(w, space, "in"), O_PATH | O_CLOEXEC);
    assert_true(w->in >= 0);
    *state = w;
    return 0;
}

/* Nothing was made in `out` or left in `in`. */
static int tear_down(void **state)
{
    struct world *w = *state;
    char space[128];

    close(w->in);
    assert_int_equal(unlink(in_root(w, space, "out/kept")), 0);
    assert_int_equal(rmdir(in_root(w, space, "out")), 0);
    assert_int_equal(rmdir(in_root(w, space, "in")), 0);
    assert_int_equal(rmdir(w->root), 0);
    free(w);
    return 0;
}

static void init(struct world *w, struct host_copy *copy, bool replace)
{
    int folder = openat(w->in, ".", O_PATH | O_CLOEXEC);

    assert_int_equal(host_copy_init(copy, folder, "/in", "new", replace, NULL), 0);
}

static void links_in_the_way_lead_nowhere(void **state)
{
    struct world *w = *state;
    struct host_copy copy;
    char out[128];

    init(w, &copy, false);
    assert_int_equal(host_copy_mkdir(&copy, NULL, NULL), 0);
    assert_int_equal(host_copy_mkdir(&copy, "d", NULL), 0);
    assert_int_equal(host_copy_mkdir(&copy, "d/e", NULL), 0);
    /* Somebody else puts links where folders were. */
    assert_int_equal(renameat(copy.tree, "d", copy.tree, "other"), 0);
    assert_int_equal(symlinkat(in_root(w, out, "out"), copy.tree, "d"), 0);
    assert_int_equal(symlinkat("../../out/new", copy.tree, "f"), 0);
    assert_int_equal(host_copy_open(&copy, "d/x", false, NULL), -1);
    assert_int_equal(host_copy_mkdir(&copy, "d/x", NULL), -1);
    assert_int_equal(host_copy_open(&copy, "f", false, NULL), -1);
    assert_int_equal(host_copy_open(&copy, "other/e/x", true, NULL), 0);
    assert_int_equal(host_copy_write(&copy, "abc", 3, NULL), 0);
    host_copy_deinit(&copy); /* removes the links and not what they lead to */
}

static void make_temp_file(struct host_copy *copy)
{
    assert_int_equal(host_copy_open(copy, NULL, false, NULL), 0);
    assert_int_equal(host_copy_close(copy, NULL), 0);
}

static void a_name_that_is_taken_meanwhile_is_kept(void **state)
{
    struct world *w = *state;
    struct host_copy copy;
    struct error err = {0};

    init(w, &copy, false);
    make_temp_file(&copy);
    assert_int_equal(symlinkat("../out/kept", w->in, "new"), 0);
    assert_int_equal(host_copy_commit(&copy, false, &err), -1);
    assert_non_null(strstr(err.message, "is there already"));
    error_clear(&err);
    host_copy_deinit(&copy);
    assert_int_equal(unlinkat(w->in, "new", 0), 0);
}

static void a_link_is_replaced_itself_and_a_folder_never(void **state)
{
    struct world *w = *state;
    struct host_copy copy;
    struct error err = {0};
    struct stat st;

    init(w, &copy, true);
    make_temp_file(&copy);
    assert_int_equal(mkdirat(w->in, "new", 0700), 0);
    assert_int_equal(host_copy_commit(&copy, true, &err), -1);
    assert_non_null(strstr(err.message, "never replaced"));
    error_clear(&err);
    assert_int_equal(unlinkat(w->in, "new", AT_REMOVEDIR), 0);
    assert_int_equal(symlinkat("../out/kept", w->in, "new"), 0);
    assert_int_equal(host_copy_commit(&copy, true, NULL), 0);
    host_copy_deinit(&copy);
    assert_int_equal(fstatat(w->in, "new", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(unlinkat(w->in, "new", 0), 0);
}

static void only_paths_down_are_relative(void **state)
{
    char deep[2 * HOST_DEPTH_CAP + 2], wide[HOST_NAME_CAP + 2];

    (void)state;
    assert_true(host_copy_is_relative("a"));
    assert_true(host_copy_is_relative("a/..b/..."));
    for (size_t i = 0; i < sizeof(deep); i++) {
        deep[i] = i % 2 ? '/' : 'x';
    }
    deep[2 * HOST_DEPTH_CAP - 1] = '\0';
    assert_true(host_copy_is_relative(deep));
    deep[2 * HOST_DEPTH_CAP - 1] = '/';
    deep[2 * HOST_DEPTH_CAP + 1] = '\0';
    assert_false(host_copy_is_relative(deep));
    memset(wide, 'n', sizeof(wide));
    wide[HOST_NAME_CAP] = '\0';
    assert_true(host_copy_is_relative(wide));
    wide[HOST_NAME_CAP] = 'n';
    wide[HOST_NAME_CAP + 1] = '\0';
    assert_false(host_copy_is_relative(wide));
}

static void a_walk_follows_no_link(void **state)
{
    struct world *w = *state;
    struct host_walk walk;
    struct host_entry entry;
    char out[128];

    assert_int_equal(symlinkat(in_root(w, out, "out"), w->in, "link"), 0);
    assert_int_equal(mkfifoat(w->in, "pipe", 0600), 0);
    assert_int_equal(mkdirat(w->in, "d", 0700), 0);
    assert_int_equal(symlinkat("../../out/kept", w->in, "d/link"), 0);
    assert_int_equal(host_walk_init(&walk, w->in), 0);
    assert_int_equal(host_walk_next(&walk, &entry, NULL), 1);
    assert_string_equal(entry.path, "d");
    assert_true(entry.is_directory);
    assert_int_equal(host_walk_next(&walk, &entry, NULL), 0);
    assert_int_equal(walk.left_out, 3);
    host_walk_deinit(&walk);
    unlinkat(w->in, "d/link", 0);
    unlinkat(w->in, "d", AT_REMOVEDIR);
    unlinkat(w->in, "pipe", 0);
    unlinkat(w->in, "link", 0);
}

static void a_walk_goes_so_deep_and_no_deeper(void **state)
{
    enum { DEEPER = HOST_WALK_DEPTH + 3 };
    struct world *w = *state;
    struct error err = {0};
    struct host_walk walk;
    struct host_entry entry;
    char path[2 * DEEPER + 2] = "";
    size_t end = 0;
    int found = 0, r;

    for (int i = 0; i < DEEPER; i++) {
        if (i > 0) {
            path[end++] = '/';
        }
        path[end++] = 'd';
        assert_int_equal(mkdirat(w->in, path, 0700), 0);
    }
    assert_int_equal(host_walk_init(&walk, w->in), 0);
    while ((r = host_walk_next(&walk, &entry, &err)) == 1) {
        found++;
    }
    assert_int_equal(r, -1);
    assert_int_equal(found, HOST_WALK_DEPTH - 1);
    error_clear(&err);
    host_walk_deinit(&walk);
    for (size_t n = end; n > 0; n = n > 2 ? n - 2 : 0) {
        path[n] = '\0';
        assert_int_equal(unlinkat(w->in, path, AT_REMOVEDIR), 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(links_in_the_way_lead_nowhere),
        TEST(a_name_that_is_taken_meanwhile_is_kept),
        TEST(a_link_is_replaced_itself_and_a_folder_never),
        TEST(only_paths_down_are_relative),
        TEST(a_walk_follows_no_link),
        TEST(a_walk_goes_so_deep_and_no_deeper),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
