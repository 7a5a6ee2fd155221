/* Operations on the files of a root that belongs to somebody else. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "backends/local/files_do.h"
#include "backends/local/user.h"

enum {
    MANY = 3000,
    ROUNDS = 100,
    LOOKS = 20,
    LIMIT = 1000,
    FILE_SIZE = 4096,
    SMALL_DISK = 1024 * 1024,
};

/* A sandbox's root, and a folder of the host's beside it, both of the sandbox's user. */
struct trial {
    struct sandbox_user user;
    char top[64];
    int root, workspace, outside;
    struct file_job job;
    struct file_reply reply;
    struct error err;
};

static void put(int dir, const char *name, const char *text, mode_t mode)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static int folder(int dir, const char *name)
{
    int fd;

    assert_int_equal(mkdirat(dir, name, 0755), 0);
    fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int set_up(void **state)
{
    struct trial *t = calloc(1, sizeof(*t));
    int top, dev;

    assert_non_null(t);
    sandbox_user_init(&t->user);
    sandbox_user_enter(&t->user);
    (void)strcpy(t->top, "/tmp/test-files-XXXXXX");
    assert_non_null(mkdtemp(t->top));
    top = open(t->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(top >= 0);
    t->root = folder(top, "root");
    t->outside = folder(top, "outside");
    t->workspace = folder(t->root, "workspace");
    close(folder(t->root, "tmp"));
    close(folder(t->root, "etc"));
    dev = folder(t->root, "dev");
    close(folder(dev, "shm"));
    close(dev);
    close(top);
    put(t->outside, "secret", "the host's", 0644);
    t->job.way.root_fd = t->root;
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct trial *t = *state;
    char command[256];

    file_reply_deinit(&t->reply);
    error_clear(&t->err);
    close(t->root);
    close(t->workspace);
    close(t->outside);
    sandbox_user_leave(&t->user);
    (void)snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", t->top, t->top);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a fixed name of our own
    free(t);
    return 0;
}

/* ---- asking ---- */

static enum error_kind ask(struct trial *t, struct file_request request)
{
    int r;

    file_reply_deinit(&t->reply);
    error_clear(&t->err);
    if (request.op == FILE_LIST && request.limit == 0) {
        request.limit = LIMIT;
    }
    assert_int_equal(file_request_check(&request, &t->err), 0);
    t->job.request = &request;
    r = files_do(&t->job, &t->reply, &t->err);
    t->job.request = NULL;
    assert_int_equal(r, t->err.kind == ERROR_NONE ? 0 : -1);
    return t->err.kind;
}

static enum error_kind simple(struct trial *t, enum file_op op, const char *path)
{
    return ask(t, (struct file_request){.op = op, .path = path, .mode = -1});
}

static enum error_kind recursive(struct trial *t, enum file_op op, const char *path)
{
    return ask(t, (struct file_request){.op = op, .path = path, .recursive = true});
}

static enum error_kind pair(struct trial *t, enum file_op op, const char *path, const char *dest)
{
    return ask(t, (struct file_request){.op = op, .path = path, .dest = dest, .recursive = true});
}

static enum error_kind replacing(struct trial *t, enum file_op op, const char *path,
                                 const char *dest)
{
    return ask(t, (struct file_request){.op = op, .path = path, .dest = dest, .replace = true});
}

static enum error_kind read_from(struct trial *t, const char *path, uint64_t offset,
                                 uint64_t length)
{
    return ask(t, (struct file_request){
                      .op = FILE_READ, .path = path, .offset = offset, .length = length});
}

static enum error_kind write_to(struct trial *t, const char *path, const char *text)
{
    return ask(
        t, (struct file_request){
               .op = FILE_WRITE, .path = path, .bytes = text, .size = strlen(text), .mode = -1});
}

static void assert_reads(struct trial *t, const char *path, const char *text)
{
    assert_int_equal(read_from(t, path, 0, LIMIT), ERROR_NONE);
    assert_int_equal(t->reply.size, strlen(text));
    assert_memory_equal(t->reply.bytes, text, strlen(text));
}

static void assert_lists(struct trial *t, const char *path, const char *const *names)
{
    size_t count = 0;

    assert_int_equal(simple(t, FILE_LIST, path), ERROR_NONE);
    for (; names[count]; count++) {
        assert_true(count < t->reply.count);
        assert_string_equal(t->reply.entries[count].name, names[count]);
    }
    assert_int_equal(t->reply.count, count);
}

static bool mentions(const struct trial *t, const char *words)
{
    return t->err.message && strstr(t->err.message, words);
}

static unsigned entries_of(int dir)
{
    DIR *list = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    unsigned count = 0;

    assert_non_null(list);
    while (readdir(list)) {
        count++;
    }
    closedir(list);
    return count - 2;
}

/* ---- the ordinary way ---- */

static void test_what_is_written_is_read(void **state)
{
    struct trial *t = *state;

    assert_int_equal(write_to(t, "a/b/c.txt", "hello"), ERROR_NONE);
    assert_int_equal(t->reply.entry.size, 5);
    assert_int_equal(t->reply.entry.mode, 0644);
    assert_reads(t, "/workspace/a/b/c.txt", "hello");
    assert_reads(t, "a/./b/../b//c.txt", "hello");
    assert_reads(t, "/../../workspace/a/b/c.txt", "hello");
    assert_int_equal(read_from(t, "a/b/c.txt", 1, 3), ERROR_NONE);
    assert_memory_equal(t->reply.bytes, "ell", 3);
    assert_int_equal(t->reply.size, 3);
    assert_int_equal(t->reply.entry.size, 5);
    assert_int_equal(read_from(t, "a/b/c.txt", 100, 3), ERROR_NONE);
    assert_int_equal(t->reply.size, 0);
    assert_int_equal(read_from(t, "a/b/c.txt", INT64_MAX, UINT64_MAX), ERROR_NONE);
    assert_int_equal(simple(t, FILE_STAT, "a/b"), ERROR_NONE);
    assert_int_equal(t->reply.entry.type, FILE_DIRECTORY);
    assert_int_equal(t->reply.entry.mode, 0755);
    assert_int_equal(simple(t, FILE_STAT, "a/x"), ERROR_NOT_FOUND);
    assert_true(mentions(t, "\"a/x\""));
    assert_int_equal(simple(t, FILE_STAT, "a/b/c.txt/"), ERROR_INVALID);
    assert_int_equal(write_to(t, "a/b/", "x"), ERROR_INVALID);
    assert_int_equal(write_to(t, "a/b", "x"), ERROR_INVALID);
    assert_int_equal(read_from(t, "a", 0, 1), ERROR_INVALID);
    assert_int_equal(read_from(t, "a/.", 0, 1), ERROR_INVALID);
}

static void test_modes_are_kept_or_given(void **state)
{
    struct trial *t = *state;
    struct file_request request = {
        .op = FILE_WRITE, .path = "run.sh", .bytes = "1", .size = 1, .mode = 0751};

    assert_int_equal(ask(t, request), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0751);
    assert_int_equal(write_to(t, "run.sh", "23"), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0751);
    request.mode = 0600;
    request.append = true;
    assert_int_equal(ask(t, request), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0600);
    assert_int_equal(t->reply.entry.size, 3);
    assert_reads(t, "run.sh", "231");
    request.path = "new.log";
    assert_int_equal(ask(t, request), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0600);
    assert_int_equal(ask(t, (struct file_request){.op = FILE_MKDIR, .path = "p/q", .mode = 0700}),
                     ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0700);
    assert_int_equal(simple(t, FILE_STAT, "p"), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0755);
    assert_int_equal(simple(t, FILE_MKDIR, "p/q/"), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0700);
    assert_int_equal(simple(t, FILE_MKDIR, "run.sh"), ERROR_INVALID);
    assert_int_equal(simple(t, FILE_MKDIR, "run.sh/x"), ERROR_INVALID);
    assert_int_equal(entries_of(t->workspace), 3);
}

static void test_what_its_user_may_not(void **state)
{
    struct trial *t = *state;
    int fd = folder(t->workspace, "closed");
    struct stat before, after;

    put(fd, "file", "old", 0644);
    put(t->workspace, "none", "x", 0);
    put(t->workspace, "read", "x", 0444);
    assert_int_equal(fstatat(fd, "file", &before, 0), 0);
    assert_int_equal(fchmod(fd, 0555), 0);
    assert_int_equal(read_from(t, "none", 0, 1), ERROR_REFUSED);
    assert_int_equal(write_to(t, "read", "y"), ERROR_REFUSED);
    assert_int_equal(write_to(t, "closed/new", "y"), ERROR_REFUSED);
    assert_int_equal(simple(t, FILE_REMOVE, "closed/file"), ERROR_REFUSED);
    assert_int_equal(recursive(t, FILE_REMOVE, "closed"), ERROR_REFUSED);
    assert_true(mentions(t, "closed/file"));
    /* It cannot be replaced, but it may be written, as by a shell. */
    assert_int_equal(write_to(t, "closed/file", "new"), ERROR_NONE);
    assert_int_equal(fstatat(fd, "file", &after, 0), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_reads(t, "closed/file", "new");
    close(fd);
}

static void test_a_list_is_sorted_and_limited(void **state)
{
    struct trial *t = *state;
    static const char *const names[] = {"0", "1", "10", NULL};
    char name[16];
    int fd = folder(t->workspace, "many");

    for (int i = MANY; i-- > 0;) {
        (void)snprintf(name, sizeof(name), "%d", i);
        put(fd, name, "", 0600);
    }
    close(fd);
    for (int deep = 0; deep < 2; deep++) {
        assert_int_equal(ask(t, (struct file_request){.op = FILE_LIST,
                                                      .path = "many",
                                                      .limit = 3,
                                                      .recursive = deep > 0}),
                         ERROR_NONE);
        assert_true(t->reply.more);
        assert_int_equal(t->reply.count, 3);
        for (int i = 0; i < 3; i++) {
            assert_string_equal(t->reply.entries[i].name, names[i]);
        }
    }
    assert_int_equal(ask(t, (struct file_request){.op = FILE_LIST, .path = "many", .limit = MANY}),
                     ERROR_NONE);
    assert_false(t->reply.more);
    assert_int_equal(t->reply.count, MANY);
    assert_int_equal(t->reply.entries[0].type, FILE_REGULAR);
    assert_int_equal(t->reply.entries[0].mode, 0600);
}

static void test_a_tree_is_listed_from_its_top_on(void **state)
{
    struct trial *t = *state;
    static const char *const names[] = {"a", "a.txt", "a/b", "a/b/c", "l"};

    assert_int_equal(write_to(t, "top/a/b/c", "xyz"), ERROR_NONE);
    assert_int_equal(write_to(t, "top/a.txt", ""), ERROR_NONE);
    assert_int_equal(symlinkat("../../../outside", t->workspace, "top/l"), 0);
    assert_int_equal(recursive(t, FILE_LIST, "top"), ERROR_NONE);
    assert_int_equal(t->reply.count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(t->reply.entries[i].name, names[i]);
    }
    assert_int_equal(t->reply.entries[3].size, 3);
    assert_string_equal(t->reply.entries[4].target, "../../../outside");
    assert_int_equal(t->reply.entries[4].size, 16);
    assert_int_equal(simple(t, FILE_LIST, "top/a.txt"), ERROR_INVALID);
    assert_int_equal(simple(t, FILE_LIST, "/"), ERROR_NONE);
    assert_int_equal(t->reply.count, 4);
}

static void test_names_may_be_any_bytes(void **state)
{
    struct trial *t = *state;
    static const char *const names[] = {"a\nb", "caf\xe9", "\xf0\x9f\x98\x80", NULL};

    for (int i = 0; names[i]; i++) {
        assert_int_equal(write_to(t, names[i], "x"), ERROR_NONE);
        assert_reads(t, names[i], "x");
    }
    assert_lists(t, ".", names);
    assert_int_equal(simple(t, FILE_STAT, "x\n\xff\\"), ERROR_NOT_FOUND);
    assert_true(mentions(t, "\"x\\n\\xff\\\\\""));
}

static void test_names_as_text(void **state)
{
    static const char *const pairs[][2] = {
        {"plain \xc3\xa9", "plain \xc3\xa9"},
        {"\t\r\n\\", "\\t\\r\\n\\\\"},
        {"\x1b[2J", "\\x1b[2J"},
        {"\xc2\x85", "\\xc2\\x85"},          /* a control character beyond ASCII */
        {"\xe2\x80\xae", "\\xe2\\x80\\xae"}, /* turns the line around */
        {"\xc0\xaf\xed\xa0\x80", "\\xc0\\xaf\\xed\\xa0\\x80"}, /* too long, a surrogate */
        {"\xf0\x9f\x98", "\\xf0\\x9f\\x98"},
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char *text = file_name_text(pairs[i][0]);
        char *name = NULL;
        assert_string_equal(text, pairs[i][1]);
        assert_int_equal(file_name_parse(text, &name, NULL), 0);
        assert_string_equal(name, pairs[i][0]);
        free(name);
        free(text);
    }
}

/* Every byte comes back, alone and beside another. */
static void test_names_there_and_back(void **state)
{
    char bytes[3] = "", *text, *name;

    (void)state;
    for (unsigned i = 1; i < 256; i++) {
        for (unsigned j = 0; j < 256; j++) {
            bytes[0] = (char)i;
            bytes[1] = (char)j;
            text = file_name_text(bytes);
            assert_int_equal(file_name_parse(text, &name, NULL), 0);
            assert_string_equal(name, bytes);
            free(name);
            free(text);
        }
    }
}

static void test_escapes_that_are_none(void **state)
{
    static const char *const wrong[] = {"a\\",   "\\q",   "\\x", "\\x1",
                                        "\\x1g", "\\xg1", "\\N", "\\x00"};
    struct error err = {0};
    char *name = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(file_name_parse(wrong[i], &name, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_null(name);
        error_clear(&err);
    }
}

static void test_removing(void **state)
{
    struct trial *t = *state;
    static const char *const none[] = {NULL};

    assert_int_equal(write_to(t, "d/e/f", "x"), ERROR_NONE);
    assert_int_equal(write_to(t, "file", "x"), ERROR_NONE);
    assert_int_equal(symlinkat("d", t->workspace, "l"), 0);
    assert_int_equal(simple(t, FILE_REMOVE, "file"), ERROR_NONE);
    assert_int_equal(simple(t, FILE_REMOVE, "file"), ERROR_NOT_FOUND);
    assert_int_equal(simple(t, FILE_REMOVE, "l"), ERROR_NONE);
    assert_reads(t, "d/e/f", "x");
    assert_int_equal(simple(t, FILE_REMOVE, "d"), ERROR_INVALID);
    assert_true(mentions(t, "recursive"));
    assert_int_equal(recursive(t, FILE_REMOVE, "d/e/.."), ERROR_NONE);
    assert_lists(t, ".", none);
    assert_int_equal(simple(t, FILE_MKDIR, "empty"), ERROR_NONE);
    assert_int_equal(simple(t, FILE_REMOVE, "empty/"), ERROR_NONE);
    assert_int_equal(recursive(t, FILE_REMOVE, "/"), ERROR_REFUSED);
    assert_int_equal(recursive(t, FILE_REMOVE, "/workspace"), ERROR_REFUSED);
    assert_int_equal(recursive(t, FILE_REMOVE, "."), ERROR_REFUSED);
}

static void test_copying(void **state)
{
    struct trial *t = *state;
    struct timespec times[2] = {{.tv_sec = 1000, .tv_nsec = 5}, {.tv_sec = 2000, .tv_nsec = 7}};
    static const char *const names[] = {"d", "e", "f", "g", NULL};

    assert_int_equal(write_to(t, "d/sub/file", "text"), ERROR_NONE);
    assert_int_equal(symlinkat("/etc/passwd", t->workspace, "d/link"), 0);
    assert_int_equal(fchmodat(t->workspace, "d/sub/file", 0751, 0), 0);
    assert_int_equal(utimensat(t->workspace, "d/sub/file", times, 0), 0);
    assert_int_equal(fchmodat(t->workspace, "d/sub", 0555, 0), 0);
    assert_int_equal(utimensat(t->workspace, "d/sub", times, 0), 0);
    assert_int_equal(pair(t, FILE_COPY, "d", "e"), ERROR_NONE);
    assert_int_equal(t->reply.entry.type, FILE_DIRECTORY);
    assert_int_equal(simple(t, FILE_STAT, "e/sub/file"), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0751);
    assert_int_equal(t->reply.entry.mtime_ns, 2000000000007);
    assert_int_equal(simple(t, FILE_STAT, "e/sub"), ERROR_NONE);
    assert_int_equal(t->reply.entry.mode, 0555);
    assert_int_equal(t->reply.entry.mtime_ns, 2000000000007);
    assert_int_equal(simple(t, FILE_STAT, "e/link"), ERROR_NONE);
    assert_string_equal(t->reply.entry.target, "/etc/passwd");
    assert_int_equal(pair(t, FILE_COPY, "d", "e"), ERROR_INVALID);
    assert_true(mentions(t, "dest \"e\""));
    assert_int_equal(replacing(t, FILE_COPY, "d", "h"), ERROR_INVALID); /* not recursive */
    assert_int_equal(pair(t, FILE_COPY, "d", "d/sub/x"), ERROR_INVALID);
    assert_int_equal(pair(t, FILE_COPY, "/", "x"), ERROR_INVALID);
    assert_int_equal(pair(t, FILE_COPY, "d/sub/file", "f"), ERROR_NONE);
    assert_int_equal(write_to(t, "g", "old"), ERROR_NONE);
    assert_int_equal(pair(t, FILE_COPY, "f", "g"), ERROR_INVALID);
    assert_int_equal(replacing(t, FILE_COPY, "f", "g"), ERROR_NONE);
    assert_reads(t, "g", "text");
    assert_int_equal(replacing(t, FILE_COPY, "g", "g"), ERROR_INVALID);
    assert_int_equal(
        ask(t,
            (struct file_request){
                .op = FILE_COPY, .path = "d/sub", .dest = "e", .recursive = true, .replace = true}),
        ERROR_NONE);
    assert_reads(t, "e/file", "text");
    assert_int_equal(simple(t, FILE_STAT, "e/sub"), ERROR_NOT_FOUND);
    assert_int_equal(pair(t, FILE_COPY, "f", "missing/g"), ERROR_NOT_FOUND);
    assert_true(mentions(t, "dest"));
    assert_lists(t, ".", names);
}

static void test_moving(void **state)
{
    struct trial *t = *state;
    static const char *const names[] = {"d", "moved", NULL};

    assert_int_equal(write_to(t, "d/e/f", "x"), ERROR_NONE);
    assert_int_equal(write_to(t, "a", "a"), ERROR_NONE);
    assert_int_equal(pair(t, FILE_MOVE, "d/e", "moved"), ERROR_NONE);
    assert_reads(t, "moved/f", "x");
    assert_int_equal(pair(t, FILE_MOVE, "a", "moved/f"), ERROR_INVALID);
    assert_int_equal(replacing(t, FILE_MOVE, "a", "moved/f"), ERROR_NONE);
    assert_reads(t, "moved/f", "a");
    assert_int_equal(pair(t, FILE_MOVE, "moved", "moved"), ERROR_INVALID);
    assert_int_equal(replacing(t, FILE_MOVE, "moved/f", "moved"), ERROR_INVALID); /* around it */
    assert_int_equal(replacing(t, FILE_MOVE, "moved", "moved/f/x"), ERROR_INVALID);
    assert_int_equal(pair(t, FILE_MOVE, "none", "x"), ERROR_NOT_FOUND);
    assert_lists(t, ".", names);
    /* What is replaced may be a tree, or of another kind. */
    assert_int_equal(write_to(t, "d/old/x", "x"), ERROR_NONE);
    assert_int_equal(replacing(t, FILE_MOVE, "moved", "d"), ERROR_NONE);
    assert_int_equal(simple(t, FILE_LIST, "d"), ERROR_NONE);
    assert_int_equal(t->reply.count, 1);
    assert_reads(t, "d/f", "a");
    assert_int_equal(write_to(t, "file", "f"), ERROR_NONE);
    assert_int_equal(replacing(t, FILE_MOVE, "file", "d"), ERROR_NONE);
    assert_reads(t, "d", "f");
    assert_int_equal(simple(t, FILE_MKDIR, "new"), ERROR_NONE);
    assert_int_equal(pair(t, FILE_MOVE, "d", "x/"), ERROR_INVALID);
    assert_int_equal(pair(t, FILE_MOVE, "new", "newer/"), ERROR_NONE);
    assert_int_equal(entries_of(t->workspace), 2);
}

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

/* ---- limits ---- */

static void make_deep(const struct trial *t, int depth)
{
    int at = folder(t->workspace, "deep");

    for (int i = 0; i < depth; i++) {
        int next = folder(at, "d");
        close(at);
        at = next;
    }
    close(at);
}

static void test_trees_of_any_depth(void **state)
{
    struct trial *t = *state;

    make_deep(t, FILE_DEPTH_CAP);
    assert_int_equal(recursive(t, FILE_LIST, "deep"), ERROR_NONE);
    assert_int_equal(t->reply.count, FILE_DEPTH_CAP);
    assert_false(t->reply.more);
    assert_int_equal(pair(t, FILE_COPY, "deep", "copy"), ERROR_NONE);
    assert_int_equal(recursive(t, FILE_REMOVE, "copy"), ERROR_NONE);
    assert_int_equal(pair(t, FILE_MOVE, "deep", "top"), ERROR_NONE);
    make_deep(t, 0);
    assert_int_equal(pair(t, FILE_MOVE, "top", "deep/d"), ERROR_NONE);
    assert_int_equal(recursive(t, FILE_LIST, "deep"), ERROR_NONE);
    assert_true(t->reply.more);
    assert_int_equal(t->reply.count, FILE_DEPTH_CAP + 1);
    assert_int_equal(pair(t, FILE_COPY, "deep", "copy"), ERROR_LIMIT);
    assert_int_equal(recursive(t, FILE_REMOVE, "deep"), ERROR_LIMIT); /* and nothing is gone */
    assert_int_equal(recursive(t, FILE_LIST, "deep"), ERROR_NONE);
    assert_int_equal(t->reply.count, FILE_DEPTH_CAP + 1);
    assert_int_equal(simple(t, FILE_LIST, "deep"), ERROR_NONE);
    assert_int_equal(recursive(t, FILE_REMOVE, "deep/d"), ERROR_NONE);
}

static void test_what_does_not_fit_changes_nothing(void **state)
{
    struct trial *t = *state;
    static char big[2 * FILE_SIZE + 1];
    struct rlimit before, small;
    struct file_request append = {.op = FILE_WRITE,
                                  .path = "file",
                                  .bytes = big,
                                  .size = sizeof(big) - 1,
                                  .append = true,
                                  .mode = -1};

    memset(big, 'x', sizeof(big) - 1);
    assert_int_equal(write_to(t, "file", "old"), ERROR_NONE);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){.rlim_cur = FILE_SIZE, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(ask(t, append), ERROR_LIMIT);
    assert_int_equal(write_to(t, "file", big), ERROR_LIMIT);
    append.path = "new";
    assert_int_equal(ask(t, append), ERROR_LIMIT);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_reads(t, "file", "old");
    assert_int_equal(entries_of(t->workspace), 1);
}

static void test_stopping(void **state)
{
    struct trial *t = *state;

    assert_int_equal(write_to(t, "d/x", "x"), ERROR_NONE);
    t->job.stop = true;
    assert_int_equal(recursive(t, FILE_REMOVE, "d"), ERROR_LOST);
    assert_int_equal(pair(t, FILE_COPY, "d", "e"), ERROR_LOST);
    assert_int_equal(simple(t, FILE_LIST, "d"), ERROR_LOST);
}

static void test_requests_are_checked(void **state)
{
    static char long_path[FILE_PATH_CAP + 2];
    struct error err = {0};
    const struct file_request bad[] = {
        {.op = FILE_STAT},
        {.op = FILE_STAT, .path = ""},
        {.op = FILE_STAT, .path = long_path},
        {.op = FILE_COPY, .path = "a"},
        {.op = FILE_MOVE, .path = "a", .dest = ""},
        {.op = FILE_LIST, .path = "a"},
        {.op = FILE_LIST, .path = "a", .limit = FILE_LIST_CAP + 1},
        {.op = FILE_WRITE, .path = "a", .mode = 01000},
        {.op = FILE_MKDIR, .path = "a", .mode = -2},
        {.op = FILE_READ, .path = "a", .offset = UINT64_MAX},
        {.op = (enum file_op)99, .path = "a"},
    };
    const struct file_request big = {.op = FILE_WRITE, .path = "a", .size = FILE_WRITE_CAP + 1};

    (void)state;
    memset(long_path, 'x', sizeof(long_path) - 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(file_request_check(&bad[i], &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
    }
    assert_int_equal(file_request_check(&big, &err), -1);
    assert_int_equal(err.kind, ERROR_LIMIT);
    error_clear(&err);
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
        CASE(test_what_is_written_is_read),
        CASE(test_modes_are_kept_or_given),
        CASE(test_what_its_user_may_not),
        CASE(test_a_list_is_sorted_and_limited),
        CASE(test_a_tree_is_listed_from_its_top_on),
        CASE(test_names_may_be_any_bytes),
        cmocka_unit_test(test_names_as_text),
        cmocka_unit_test(test_names_there_and_back),
        cmocka_unit_test(test_escapes_that_are_none),
        CASE(test_removing),
        CASE(test_copying),
        CASE(test_moving),
        CASE(test_links_lead_where_they_lead_there),
        CASE(test_no_link_leads_out),
        CASE(test_links_without_end),
        CASE(test_fifos_and_sockets_are_not_opened),
        CASE(test_what_the_kernel_shows_is_not_read),
        CASE(test_what_is_the_systems_is_not_written),
        CASE(test_trees_of_any_depth),
        CASE(test_what_does_not_fit_changes_nothing),
        CASE(test_stopping),
        cmocka_unit_test(test_requests_are_checked),
        CASE(test_a_folder_is_seen_where_the_host_has_it),
        CASE(test_a_folder_has_its_disk_limit),
        CASE(test_a_folder_that_becomes_a_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
