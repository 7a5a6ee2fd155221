/* Operations on files do not lead out, and wait for nobody, whatever the code does there. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "tests/unit/local-files-trial.h"

enum { ROUNDS = 100, LOOKS = 20, SMALL_DISK = 1024 * 1024 };

/* ---- links ---- */

static void test_links_lead_where_they_lead_there(void **state)
{
    struct trial *t = *state;

    assert_int_equal(write_to(t, "d/file", "in"), ERROR_NONE);
    assert_int_equal(symlinkat("/workspace/d", t->workspace, "l"), 0);
    assert_int_equal(symlinkat("l/file", t->workspace, "m"), 0);
    assert_int_equal(symlinkat("d/new", t->workspace, "dangling"), 0);
    assert_reads(t, "l/file", "in");
    assert_reads(t, "m", "in");
    assert_int_equal(write_to(t, "m", "out"), ERROR_NONE);
    assert_reads(t, "d/file", "out");
    assert_int_equal(write_to(t, "dangling", "made"), ERROR_NONE);
    assert_reads(t, "d/new", "made");
    assert_int_equal(simple(t, FILE_STAT, "dangling"), ERROR_NONE);
    assert_int_equal(t->reply.entry.type, FILE_SYMLINK);
    assert_int_equal(simple(t, FILE_STAT, "l/"), ERROR_NONE);
    assert_int_equal(t->reply.entry.type, FILE_DIRECTORY);
    assert_int_equal(simple(t, FILE_MKDIR, "l/sub"), ERROR_NONE);
    assert_int_equal(simple(t, FILE_STAT, "d/sub"), ERROR_NONE);
    assert_int_equal(simple(t, FILE_LIST, "l"), ERROR_NONE);
    assert_int_equal(t->reply.count, 3);
}

static void test_no_link_leads_out(void **state)
{
    struct trial *t = *state;
    static const char *const ways[] = {"../../outside", "../../../../../../../../../..%s/outside",
                                       "%s/outside"};
    char way[256], name[16], path[64];

    for (int i = 0; i < 3; i++) {
        (void)snprintf(way, sizeof(way), ways[i], t->top); // NOLINT: formats of our own
        (void)snprintf(name, sizeof(name), "l%d", i);
        (void)snprintf(path, sizeof(path), "%s/secret", name);
        assert_int_equal(symlinkat(way, t->workspace, name), 0);
        /* The control: the host's own walk gets there. */
        int fd = openat(t->workspace, path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(read_from(t, path, 0, 1), ERROR_NOT_FOUND);
        assert_int_equal(simple(t, FILE_LIST, name), ERROR_NOT_FOUND);
        assert_int_equal(recursive(t, FILE_REMOVE, path), ERROR_NOT_FOUND);
        assert_int_equal(pair(t, FILE_COPY, path, "stolen"), ERROR_NOT_FOUND);
        assert_int_equal(recursive(t, FILE_REMOVE, name), ERROR_NONE);
    }
    assert_int_equal(read_from(t, "../../outside/secret", 0, 1), ERROR_NOT_FOUND);
    assert_int_equal(entries_of(t->outside), 1);
}

static void test_links_without_end(void **state)
{
    struct trial *t = *state;
    char long_name[300];

    assert_int_equal(symlinkat("loop", t->workspace, "loop"), 0);
    assert_int_equal(symlinkat("b/x", t->workspace, "a"), 0);
    assert_int_equal(symlinkat("a/x", t->workspace, "b"), 0);
    assert_int_equal(read_from(t, "loop", 0, 1), ERROR_INVALID);
    assert_int_equal(write_to(t, "a", "x"), ERROR_INVALID);
    assert_int_equal(simple(t, FILE_LIST, "b"), ERROR_INVALID);
    memset(long_name, 'x', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(write_to(t, long_name, "x"), ERROR_INVALID);
    assert_int_equal(simple(t, FILE_STAT, long_name), ERROR_INVALID);
}

/* ---- what is no file ---- */

static void bind_socket(int dir)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/special/socket",
                   dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
}

/* Opening the FIFO would wait for somebody at its other end. */
static void test_fifos_and_sockets_are_not_opened(void **state)
{
    struct trial *t = *state;
    static const char *const paths[] = {"special/fifo", "special/socket"};

    close(folder(t->workspace, "special"));
    assert_int_equal(mkfifoat(t->workspace, "special/fifo", 0666), 0);
    bind_socket(t->workspace);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(read_from(t, paths[i], 0, 1), ERROR_INVALID);
        assert_int_equal(write_to(t, paths[i], "x"), ERROR_INVALID);
        assert_int_equal(ask(t,
                             (struct file_request){
                                 .op = FILE_WRITE, .path = paths[i], .append = true, .mode = -1}),
                         ERROR_INVALID);
        assert_int_equal(pair(t, FILE_COPY, paths[i], "copy"), ERROR_INVALID);
        assert_int_equal(simple(t, FILE_STAT, paths[i]), ERROR_NONE);
        assert_int_equal(t->reply.entry.type, FILE_OTHER);
    }
    assert_int_equal(write_to(t, "special/a", "x"), ERROR_NONE);
    assert_int_equal(pair(t, FILE_COPY, "special", "copy"), ERROR_INVALID);
    assert_true(mentions(t, "special/"));
    assert_int_equal(entries_of(t->workspace), 1); /* nothing half made, nothing hidden */
    assert_int_equal(recursive(t, FILE_REMOVE, "special"), ERROR_NONE);
}

static void test_what_the_kernel_shows_is_not_read(void **state)
{
    struct trial *t = *state;

    t->job.way.root_fd = open("/", O_PATH | O_CLOEXEC);
    assert_int_equal(read_from(t, "/proc/self/environ", 0, 1), ERROR_REFUSED);
    assert_true(mentions(t, "run_code"));
    assert_int_equal(simple(t, FILE_LIST, "/proc"), ERROR_REFUSED);
    assert_int_equal(simple(t, FILE_STAT, "/proc/self/root/etc"), ERROR_REFUSED);
    assert_int_equal(simple(t, FILE_STAT, "/proc"), ERROR_NONE);
    close(t->job.way.root_fd);
}

static void test_what_is_the_systems_is_not_written(void **state)
{
    struct trial *t = *state;
    static const char *const paths[] = {"/x",
                                        "/new/x",
                                        "/etc/x",
                                        "/dev/x",
                                        "/dev/sub/x",
                                        "/workspace/../etc/y",
                                        "/.cellblock/0/x",
                                        "/libx/x"};

    close(folder(t->root, ".cellblock"));
    close(folder(t->root, "libx"));
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        assert_int_equal(write_to(t, paths[i], "x"), ERROR_REFUSED);
        assert_int_equal(simple(t, FILE_MKDIR, paths[i]), ERROR_REFUSED);
    }
    assert_int_equal(write_to(t, "/dev/shm/x", "x"), ERROR_NONE);
    assert_int_equal(write_to(t, "/tmp/x", "x"), ERROR_NONE);
    assert_int_equal(pair(t, FILE_MOVE, "/etc", "/tmp/etc"), ERROR_REFUSED);
    assert_int_equal(pair(t, FILE_COPY, "/tmp/x", "/etc/x"), ERROR_REFUSED);
    assert_int_equal(entries_of(t->root), 6);
}

/* ---- without a root of its own ---- */

static void test_a_folder_is_seen_where_the_host_has_it(void **state)
{
    struct trial *t = *state;
    char root[80], path[160];

    (void)snprintf(root, sizeof(root), "%s/root", t->top);
    t->job.way.folder = root;
    assert_int_equal(write_to(t, "d/file", "x"), ERROR_NONE);
    (void)snprintf(path, sizeof(path), "%s/workspace/d", root);
    assert_int_equal(symlinkat(path, t->workspace, "l"), 0);
    assert_int_equal(symlinkat("/workspace/d", t->workspace, "m"), 0);
    (void)snprintf(path, sizeof(path), "%s/workspace/d/file", root);
    assert_reads(t, path, "x");
    assert_reads(t, "/workspace/d/file", "x");
    assert_reads(t, "l/file", "x");
    assert_int_equal(write_to(t, "/tmp/x", "x"), ERROR_NONE);
    /* That one leads to the host's /workspace there. */
    assert_int_equal(read_from(t, "m/file", 0, 1), ERROR_REFUSED);
    assert_true(mentions(t, "/workspace and /tmp"));
    assert_int_equal(read_from(t, "/etc/passwd", 0, 1), ERROR_REFUSED);
    assert_int_equal(simple(t, FILE_LIST, "/"), ERROR_REFUSED);
    assert_int_equal(simple(t, FILE_LIST, "../dev"), ERROR_REFUSED);
    assert_int_equal(simple(t, FILE_STAT, root), ERROR_REFUSED);
}

static void test_a_folder_has_its_disk_limit(void **state)
{
    struct trial *t = *state;
    static char half[SMALL_DISK / 2 + 1];

    t->job.disk_limit = SMALL_DISK;
    memset(half, 'x', sizeof(half) - 1);
    assert_int_equal(write_to(t, "a", half), ERROR_NONE);
    assert_int_equal(pair(t, FILE_COPY, "a", "/tmp/b"), ERROR_NONE);
    assert_int_equal(write_to(t, "c", half), ERROR_LIMIT);
    assert_int_equal(pair(t, FILE_COPY, "a", "c"), ERROR_LIMIT);
    assert_int_equal(entries_of(t->workspace), 1);
    assert_int_equal(simple(t, FILE_REMOVE, "/tmp/b"), ERROR_NONE);
    assert_int_equal(write_to(t, "c", "x"), ERROR_NONE);
}

/* ---- the code is at it as well ---- */

struct swapper {
    pthread_t thread;
    int workspace;
    _Atomic bool stop;
};

/* "d" is a folder and a link out of the root by turns. */
static void *swap(void *data)
{
    struct swapper *s = data;

    while (!s->stop) {
        renameat2(s->workspace, "d", s->workspace, "out", RENAME_EXCHANGE);
        sched_yield();
    }
    return NULL;
}

static void list_it(struct trial *t)
{
    if (recursive(t, FILE_LIST, ".") == ERROR_NONE) {
        for (size_t i = 0; i < t->reply.count; i++) {
            assert_null(strstr(t->reply.entries[i].name, "bait"));
        }
    }
}

/* Both are removed, and made anew. */
static void remove_it(struct trial *t, const char *outside)
{
    recursive(t, FILE_REMOVE, "d");
    recursive(t, FILE_REMOVE, "out");
    recursive(t, FILE_REMOVE, "d");
    simple(t, FILE_MKDIR, "d");
    (void)!symlinkat(outside, t->workspace, "out");
    write_to(t, "d/secret", "inside");
}

static void do_everything(struct trial *t)
{
    if (read_from(t, "d/secret", 0, LIMIT) == ERROR_NONE) {
        assert_memory_equal(t->reply.bytes, "inside", 6);
    }
    write_to(t, "d/new", "x");
    write_to(t, "d/made/new", "x");
    write_to(t, "d/secret", "inside");
    pair(t, FILE_COPY, "d", "copy");
    assert_int_equal(simple(t, FILE_STAT, "copy/bait"), ERROR_NOT_FOUND);
    recursive(t, FILE_REMOVE, "copy");
    recursive(t, FILE_REMOVE, "d/made");
    simple(t, FILE_MKDIR, "d/folder");
    pair(t, FILE_MOVE, "d/new", "d/moved");
    simple(t, FILE_REMOVE, "d/moved");
    simple(t, FILE_REMOVE, "d/bait");
}

static void test_a_folder_that_becomes_a_link(void **state)
{
    struct trial *t = *state;
    struct swapper s = {.workspace = t->workspace};
    char outside[80], space[16] = "";
    int fd;

    (void)snprintf(outside, sizeof(outside), "%s/outside", t->top);
    put(t->outside, "bait", "bait", 0644);
    assert_int_equal(symlinkat(outside, t->workspace, "out"), 0);
    assert_int_equal(write_to(t, "d/secret", "inside"), ERROR_NONE);
    /* The control: who follows it is out. */
    fd = openat(t->workspace, "out/bait", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(pthread_create(&s.thread, NULL, swap, &s), 0);
    for (int i = 0; i < ROUNDS; i++) {
        do_everything(t);
        for (int j = 0; j < LOOKS; j++) {
            list_it(t);
        }
        remove_it(t, outside);
    }
    s.stop = true;
    pthread_join(s.thread, NULL);
    assert_int_equal(entries_of(t->outside), 2);
    fd = openat(t->outside, "secret", O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, space, sizeof(space)), 10);
    assert_memory_equal(space, "the host's", 10);
    close(fd);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_links_lead_where_they_lead_there),
        CASE(test_no_link_leads_out),
        CASE(test_links_without_end),
        CASE(test_fifos_and_sockets_are_not_opened),
        CASE(test_what_the_kernel_shows_is_not_read),
        CASE(test_what_is_the_systems_is_not_written),
        CASE(test_a_folder_is_seen_where_the_host_has_it),
        CASE(test_a_folder_has_its_disk_limit),
        CASE(test_a_folder_that_becomes_a_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
