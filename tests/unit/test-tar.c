#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "backends/base/buffer.h"
#include "backends/base/net/tar.h"

enum { KEEP_CAP = 64 * 1024 * 1024, LIMIT_MS = 20000 };

/* A loop, a writer on it, and what its taker got. */
struct taker {
    uv_loop_t loop;
    struct tar_writer *writer;
    struct share *share;
    struct buffer kept;
    uint64_t size;   /* of all pieces */
    unsigned pieces; /* so many came */
    unsigned hold;   /* from this piece on none is asked for any more; 0: never */
    bool discard;    /* only counted */
    bool close_in_piece;
    unsigned ended, closed;
    struct error err;
};

/* What a test has: a folder of its own, and the taker. */
struct scene {
    char top[64];
    int dir;
    struct taker taker;
};

static int set_up(void **state)
{
    struct scene *s = calloc(1, sizeof(*s));
    strcpy(s->top, "/tmp/test-tar-XXXXXX");
    assert_non_null(mkdtemp(s->top));
    s->dir = open(s->top, O_RDONLY | O_DIRECTORY);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *s = *state;
    char command[256];
    close(s->dir);
    snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", s->top, s->top);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a fixed name of our own
    free(s);
    return 0;
}

static void put_file(int dir, const char *name, const char *text, mode_t mode)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void put_sparse(int dir, const char *name, off_t size)
{
    put_file(dir, name, "", 0644);
    int fd = openat(dir, name, O_WRONLY);
    assert_int_equal(ftruncate(fd, size), 0);
    close(fd);
}

/* ---- the taker ---- */

static void on_closed(void *data)
{
    ((struct taker *)data)->closed++;
}

static void on_piece(void *data, const char *bytes, size_t size)
{
    struct taker *t = data;
    assert_int_equal(t->ended + t->closed, 0);
    assert_true(size > 0 && size <= TAR_PIECE);
    t->pieces++;
    t->size += size;
    if (!t->discard) {
        assert_int_equal(buffer_append(&t->kept, bytes, size), 0);
    }
    if (t->close_in_piece) {
        tar_writer_close(t->writer, on_closed, t);
    } else if (!t->hold || t->pieces < t->hold) {
        tar_writer_next(t->writer);
    }
}

static void on_end(void *data, const struct error *err)
{
    struct taker *t = data;
    t->ended++;
    if (err) {
        error_copy(&t->err, err);
    }
}

static struct share *share_of(struct scene *s, const char *name)
{
    char source[PATH_MAX];
    int fd = openat(s->dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    assert_true(fd >= 0);
    snprintf(source, sizeof(source), "%s/%s", s->top, name);
    return share_new(SHARE_COPY, fd, source, "/workspace/x", true);
}

static void begin(struct scene *s, const char *name, const struct tar_options *options)
{
    static const struct tar_events events = {on_piece, on_end};
    struct taker *t = &s->taker;
    struct error err = {0};
    assert_int_equal(uv_loop_init(&t->loop), 0);
    buffer_init(&t->kept, KEEP_CAP);
    t->share = share_of(s, name);
    t->writer = tar_writer_new(&t->loop, t->share, options, &events, t, &err);
    assert_non_null(t->writer);
    assert_int_equal(t->pieces + t->ended, 0); /* nothing before it has returned */
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void free_tick(uv_handle_t *handle)
{
    free(handle);
}

/* Turns the loop until *count is `want`, or for `limit_ms`. */
static void turn(struct taker *t, const unsigned *count, unsigned want, unsigned limit_ms)
{
    uv_timer_t *tick = malloc(sizeof(*tick));
    uint64_t end = uv_hrtime() + limit_ms * 1000000ull;
    uv_timer_init(&t->loop, tick);
    uv_timer_start(tick, on_tick, 5, 5);
    while (*count < want && uv_hrtime() < end) {
        uv_run(&t->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)tick, free_tick);
}

static void finish(struct taker *t)
{
    if (!t->close_in_piece) {
        tar_writer_close(t->writer, on_closed, t);
    }
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_int_equal(t->closed, 1);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    share_free(t->share);
    error_clear(&t->err);
    buffer_deinit(&t->kept);
}

/* All of `name`, kept. */
static void take_all(struct scene *s, const char *name, const struct tar_options *options)
{
    struct taker *t = &s->taker;
    begin(s, name, options);
    turn(t, &t->ended, 1, LIMIT_MS);
    assert_int_equal(t->ended, 1);
    if (t->err.kind != ERROR_NONE) {
        fail_msg("%s", t->err.message);
    }
}

/* `name` must end in an error of this kind with `part` in it. */
static void assert_fails(struct scene *s, const char *name, const struct tar_options *options,
                         enum error_kind kind, const char *part)
{
    struct taker *t = &s->taker;
    begin(s, name, options);
    turn(t, &t->ended, 1, LIMIT_MS);
    assert_int_equal(t->ended, 1);
    assert_int_equal(t->err.kind, kind);
    if (!strstr(t->err.message, part) || !strstr(t->err.message, name)) {
        fail_msg("\"%s\" or \"%s\" is not in: %s", part, name, t->err.message);
    }
    finish(t);
}

/* ---- looking into the archive ---- */

struct found {
    mode_t mode;
    int64_t size, uid, gid, mtime;
    long mtime_ns;
    char link[PATH_MAX];
    char text[64];
    unsigned count;
};

/* Finds the entry `name`; its count is 0 when it is not there. */
static void find(const void *bytes, size_t size, const char *name, struct found *f)
{
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    *f = (struct found){0};
    archive_read_support_format_tar(a);
    assert_int_equal(archive_read_open_memory(a, bytes, size), ARCHIVE_OK);
    while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
        if (strcmp(archive_entry_pathname(e), name) == 0) {
            f->count++;
            f->mode = archive_entry_mode(e);
            f->size = archive_entry_size(e);
            f->uid = archive_entry_uid(e);
            f->gid = archive_entry_gid(e);
            f->mtime = archive_entry_mtime(e);
            f->mtime_ns = archive_entry_mtime_nsec(e);
            snprintf(f->link, sizeof(f->link), "%s",
                     archive_entry_symlink(e) ? archive_entry_symlink(e) : "");
            archive_read_data(a, f->text, sizeof(f->text) - 1);
        }
    }
    archive_read_free(a);
}

static void find_kept(struct scene *s, const char *name, struct found *f)
{
    find(buffer_data(&s->taker.kept), buffer_size(&s->taker.kept), name, f);
    if (f->count != 1) {
        fail_msg("%s is there %u times", name, f->count);
    }
}

/* Unpacks it with another program into the folder `to`. */
static void unpack(struct scene *s, const char *program, const char *to)
{
    char command[512];
    put_file(s->dir, "archive.tar", "", 0600);
    int fd = openat(s->dir, "archive.tar", O_WRONLY);
    size_t size = buffer_size(&s->taker.kept);
    assert_int_equal(write(fd, buffer_data(&s->taker.kept), size), (ssize_t)size);
    close(fd);
    assert_int_equal(mkdirat(s->dir, to, 0700), 0);
    snprintf(command, sizeof(command), "cd %s && %s", s->top, program);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): fixed commands
    unlinkat(s->dir, "archive.tar", 0);
}

/* ---- what is in it ---- */

static void test_a_file(void **state)
{
    struct scene *s = *state;
    struct found f;
    const struct timespec times[2] = {{.tv_sec = 5}, {.tv_sec = 1234567890, .tv_nsec = 123456789}};
    put_file(s->dir, "data.csv", "a,b\n", 04455);
    assert_int_equal(utimensat(s->dir, "data.csv", times, 0), 0);
    take_all(s, "data.csv", &(struct tar_options){.name = "copy.csv", .uid = 4321, .gid = 99});
    find_kept(s, "copy.csv", &f);
    /* The sandbox's own: writable, without set-id bits. */
    assert_int_equal(f.mode, S_IFREG | 0655);
    assert_int_equal(f.size, 4);
    assert_string_equal(f.text, "a,b\n");
    assert_int_equal(f.uid, 4321);
    assert_int_equal(f.gid, 99);
    assert_int_equal(f.mtime, 1234567890);
    assert_int_equal(f.mtime_ns, 123456789);
    finish(&s->taker);
}

static void make_tree(struct scene *s, const char *long_name)
{
    assert_int_equal(mkdirat(s->dir, "tree", 0755), 0);
    int tree = openat(s->dir, "tree", O_RDONLY | O_DIRECTORY);
    assert_int_equal(mkdirat(tree, "empty", 0750), 0);
    assert_int_equal(mkdirat(tree, "sub", 0555 | 0200), 0);
    put_file(tree, "sub/one", "1", 0644);
    put_file(tree, "zero", "", 0600);
    put_file(tree, "tool", "#!/bin/sh\necho ran\n", 0755);
    put_file(tree, "n\xc3\xa4me with spaces\n\xf0\x9f\x90\x8d", "odd", 0644);
    put_file(tree, "raw\xff\xfe", "raw", 0644);
    put_file(tree, long_name, "long", 0644);
    assert_int_equal(symlinkat("/etc/hostname", tree, "link"), 0);
    assert_int_equal(symlinkat("sub/one", tree, "inside"), 0);
    assert_int_equal(symlinkat("n\xc3\xa4me", tree, "dangling"), 0);
    close(tree);
}

static void test_a_tree(void **state)
{
    struct scene *s = *state;
    struct found f;
    char long_name[251];
    char path[300];
    uint64_t bytes, files;
    memset(long_name, 'l', 250);
    long_name[250] = '\0';
    make_tree(s, long_name);
    take_all(s, "tree", &(struct tar_options){.name = "top"});
    find_kept(s, "top/", &f);
    assert_int_equal(f.mode, S_IFDIR | 0755);
    find_kept(s, "top/empty/", &f);
    assert_int_equal(f.mode, S_IFDIR | 0750);
    find_kept(s, "top/sub/", &f);
    assert_int_equal(f.mode, S_IFDIR | 0755);
    find_kept(s, "top/link", &f);
    assert_int_equal(f.mode & S_IFMT, S_IFLNK);
    assert_string_equal(f.link, "/etc/hostname");
    find_kept(s, "top/inside", &f);
    assert_string_equal(f.link, "sub/one");
    find_kept(s, "top/dangling", &f);
    assert_string_equal(f.link, "n\xc3\xa4me");
    find_kept(s, "top/raw\xff\xfe", &f);
    assert_string_equal(f.text, "raw");
    snprintf(path, sizeof(path), "top/%s", long_name);
    find_kept(s, path, &f);
    assert_string_equal(f.text, "long");
    tar_writer_progress(s->taker.writer, &bytes, &files);
    assert_int_equal(bytes, 1 + 19 + 3 + 3 + 4);
    assert_int_equal(files, 9);
    finish(&s->taker);
}

/* What other programs make of it. */
static void test_other_programs(void **state)
{
    static const char *const programs[] = {
        "tar -C out -xpf archive.tar",
        "python3 -c \"import tarfile; tarfile.open('archive.tar', 'r|').extractall('out')\"",
    };
    struct scene *s = *state;
    make_tree(s, "long");
    take_all(s, "tree", &(struct tar_options){.name = "tree", .uid = getuid(), .gid = getgid()});
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        unpack(s, programs[i], "out");
        char command[512];
        /* Python leaves the times of links as they come. */
        snprintf(
            command, sizeof(command),
            "facts() { (cd $1 && find . -exec sh -c 'for i do test -L \"$i\" && readlink \"$i\" "
            "|| stat -c \"%%a %%Y %%n\" \"$i\"; done' x {} + | LC_ALL=C sort | od -c); }; "
            "cd %s && diff -r --no-dereference tree out/tree && "
            "test \"$(facts tree)\" = \"$(facts out/tree)\" && rm -rf out",
            s->top);
        assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a fixed command
    }
    finish(&s->taker);
}

/* More than fits in the eleven octal digits of the oldest tar. */
static void test_a_huge_file(void **state)
{
    struct scene *s = *state;
    struct taker *t = &s->taker;
    struct found f;
    put_sparse(s->dir, "huge", 9ll << 30);
    t->hold = 2;
    begin(s, "huge", &(struct tar_options){.name = "huge"});
    turn(t, &t->pieces, 2, LIMIT_MS);
    find_kept(s, "huge", &f);
    assert_int_equal(f.size, 9ll << 30);
    finish(t);
    assert_int_equal(t->ended, 0);
}

static long peak_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static void test_is_never_all_in_memory(void **state)
{
    struct scene *s = *state;
    struct taker *t = &s->taker;
    put_sparse(s->dir, "large", 400 << 20);
    t->discard = true;
    long before = peak_kib();
    take_all(s, "large", &(struct tar_options){.name = "large"});
    assert_true(t->size > 400 << 20 && t->size < (400 << 20) + 16384);
    assert_true(peak_kib() - before < 8192);
    finish(t);
}

/* ---- pace and closing ---- */

static void test_the_taker_sets_the_pace(void **state)
{
    struct scene *s = *state;
    struct taker *t = &s->taker;
    unsigned never = 0;
    put_sparse(s->dir, "large", 1 << 20);
    t->hold = 3;
    begin(s, "large", &(struct tar_options){.name = "large"});
    turn(t, &t->pieces, 3, LIMIT_MS);
    turn(t, &never, 1, 50);
    assert_int_equal(t->pieces, 3);
    assert_int_equal(t->ended, 0);
    t->hold = 9;
    tar_writer_next(t->writer);
    turn(t, &t->pieces, 9, LIMIT_MS);
    turn(t, &never, 1, 20);
    assert_int_equal(t->ended, 0); /* the last piece is still with the taker */
    tar_writer_next(t->writer);
    turn(t, &t->ended, 1, LIMIT_MS);
    assert_int_equal(t->pieces, 9);
    finish(t);
}

static void test_closed_at_once(void **state)
{
    struct scene *s = *state;
    put_sparse(s->dir, "large", 100 << 20);
    begin(s, "large", &(struct tar_options){.name = "large"});
    finish(&s->taker);
    assert_int_equal(s->taker.pieces + s->taker.ended, 0);
}

static void test_closed_in_a_piece(void **state)
{
    struct scene *s = *state;
    put_sparse(s->dir, "large", 100 << 20);
    s->taker.close_in_piece = true;
    begin(s, "large", &(struct tar_options){.name = "large"});
    finish(&s->taker);
    assert_int_equal(s->taker.pieces, 1);
    assert_int_equal(s->taker.ended, 0);
}

static void test_closed_while_a_piece_is_taken(void **state)
{
    struct scene *s = *state;
    struct taker *t = &s->taker;
    unsigned never = 0;
    put_sparse(s->dir, "large", 100 << 20);
    t->hold = 5;
    begin(s, "large", &(struct tar_options){.name = "large"});
    turn(t, &t->pieces, 5, LIMIT_MS);
    turn(t, &never, 1, 20); /* the thread waits now */
    finish(t);
    assert_int_equal(t->pieces, 5);
    assert_int_equal(t->ended, 0);
}

/* ---- what is refused ---- */

static void put_socket(struct scene *s, const char *name)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s", s->top, name);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    close(fd);
}

static void test_only_files_folders_links(void **state)
{
    static const char rule[] = "is neither a file, a folder nor a link";
    const struct tar_options options = {.name = "x"};
    struct scene *s = *state;
    assert_int_equal(mkdirat(s->dir, "tree", 0755), 0);
    assert_int_equal(mkfifoat(s->dir, "pipe", 0644), 0);
    put_socket(s, "socket");
    assert_fails(s, "pipe", &options, ERROR_INVALID, rule);
    s->taker = (struct taker){0};
    assert_fails(s, "socket", &options, ERROR_INVALID, rule);
    s->taker = (struct taker){0};
    put_socket(s, "tree/within");
    assert_fails(s, "tree", &options, ERROR_INVALID, "x/within is neither");
}

/* Root reads no more than its mode allows. */
static void test_unreadable(void **state)
{
    const struct tar_options options = {.name = "x"};
    struct scene *s = *state;
    struct error err = {0};
    put_file(s->dir, "secret", "x", 0);
    assert_fails(s, "secret", &options, ERROR_REFUSED, "may not read");
    s->taker = (struct taker){0};
    assert_int_equal(mkdirat(s->dir, "tree", 0755), 0);
    put_file(s->dir, "tree/secret", "x", 0);
    assert_fails(s, "tree", &options, ERROR_REFUSED, "x/secret: Permission denied");
    s->taker = (struct taker){0};
    assert_int_equal(fchmodat(s->dir, "tree", 0, 0), 0);
    assert_fails(s, "tree", &options, ERROR_REFUSED, "may not read");

    struct share *share = share_of(s, "secret");
    assert_int_equal(tar_check(share, &err), -1);
    assert_int_equal(err.kind, ERROR_REFUSED);
    assert_non_null(strstr(err.message, "may not read"));
    error_clear(&err);
    assert_int_equal(fchmodat(s->dir, "secret", 0400, 0), 0);
    assert_int_equal(tar_check(share, &err), 0);
    share_free(share);
}

/* The check gives back what it laid down: where root could read before it can afterwards. */
static void test_the_check_keeps_privilege(void **state)
{
    struct scene *s = *state;
    put_file(s->dir, "secret", "x", 0);
    int before = openat(s->dir, "secret", O_RDONLY | O_CLOEXEC);
    struct share *share = share_of(s, "secret");
    assert_int_equal(tar_check(share, NULL), -1);
    int after = openat(s->dir, "secret", O_RDONLY | O_CLOEXEC);
    assert_int_equal(before >= 0, after >= 0);
    if (before >= 0) {
        close(before);
        close(after);
    }
    share_free(share);
}

static void test_limit(void **state)
{
    struct scene *s = *state;
    assert_int_equal(mkdirat(s->dir, "tree", 0755), 0);
    put_sparse(s->dir, "tree/a", 1000);
    put_sparse(s->dir, "tree/b", 1000);
    take_all(s, "tree", &(struct tar_options){.name = "x", .limit = 2000});
    finish(&s->taker);
    s->taker = (struct taker){0};
    assert_fails(s, "tree", &(struct tar_options){.name = "x", .limit = 1999}, ERROR_LIMIT,
                 "disk limit was reached");
}

static void test_too_deep(void **state)
{
    struct scene *s = *state;
    int dir = dup(s->dir);
    assert_int_equal(mkdirat(dir, "tree", 0755), 0);
    for (int i = 0; i <= TAR_DEPTH_CAP + 1; i++) {
        int next = openat(dir, i == 0 ? "tree" : "d", O_RDONLY | O_DIRECTORY);
        close(dir);
        dir = next;
        assert_int_equal(mkdirat(dir, "d", 0755), 0);
    }
    close(dir);
    assert_fails(s, "tree", &(struct tar_options){.name = "x"}, ERROR_LIMIT, "deeper than 256");
}

/* Holds the taker after a piece, changes the file, and goes on. */
static void assert_change_is_told(struct scene *s, off_t size)
{
    struct taker *t = &s->taker;
    *t = (struct taker){.hold = 1};
    unlinkat(s->dir, "data", 0);
    put_sparse(s->dir, "data", 1 << 20);
    begin(s, "data", &(struct tar_options){.name = "x"});
    turn(t, &t->pieces, 1, LIMIT_MS);
    int fd = openat(s->dir, "data", O_WRONLY);
    assert_int_equal(ftruncate(fd, size), 0);
    if (size == 1 << 20) {
        assert_int_equal(pwrite(fd, "y", 1, 0), 1);
    }
    close(fd);
    t->hold = 0;
    tar_writer_next(t->writer);
    turn(t, &t->ended, 1, LIMIT_MS);
    assert_int_equal(t->err.kind, ERROR_INVALID);
    assert_non_null(strstr(t->err.message, "changed while it was read"));
    finish(t);
}

static void test_a_file_that_changes(void **state)
{
    struct scene *s = *state;
    assert_change_is_told(s, 1000);    /* shorter */
    assert_change_is_told(s, 2 << 20); /* longer */
    assert_change_is_told(s, 1 << 20); /* other bytes */
}

/* ---- files in memory ---- */

static void test_of_files(void **state)
{
    const struct tar_file files[] = {
        {"Dockerfile", "FROM x\n", 7, 0644},
        {"app/run.py", "print(1)\n", 9, 0755},
        {"empty", "", 0, 0600},
    };
    char *bytes = NULL, *again = NULL;
    size_t size = 0, size_again = 0;
    struct found f;
    struct error err = {0};
    (void)state;
    assert_int_equal(tar_of_files(files, 3, &bytes, &size, &err), 0);
    find(bytes, size, "app/run.py", &f);
    assert_int_equal(f.count, 1);
    assert_int_equal(f.mode, S_IFREG | 0755);
    assert_string_equal(f.text, "print(1)\n");
    find(bytes, size, "empty", &f);
    assert_int_equal(f.count, 1);
    assert_int_equal(tar_of_files(files, 3, &again, &size_again, &err), 0);
    assert_int_equal(size, size_again);
    assert_memory_equal(bytes, again, size);
    free(bytes);
    free(again);
}

static void test_of_too_many_files(void **state)
{
    char *bytes = NULL;
    size_t size = 0;
    struct error err = {0};
    struct tar_file file = {"large", calloc(1, TAR_MEMORY_CAP), TAR_MEMORY_CAP, 0644};
    (void)state;
    assert_int_equal(tar_of_files(&file, 1, &bytes, &size, &err), -1);
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_non_null(strstr(err.message, "large"));
    assert_null(bytes);
    error_clear(&err);
    free((void *)file.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_tree, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_programs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_huge_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_is_never_all_in_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_taker_sets_the_pace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed_in_a_piece, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed_while_a_piece_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_files_folders_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unreadable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_check_keeps_privilege, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_deep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_that_changes, set_up, tear_down),
        cmocka_unit_test(test_of_files),
        cmocka_unit_test(test_of_too_many_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
