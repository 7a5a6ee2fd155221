#include "tests/unit/tar-trial.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

int set_up(void **state)
{
    struct scene *s = calloc(1, sizeof(*s));
    strcpy(s->top, "/tmp/test-tar-XXXXXX");
    assert_non_null(mkdtemp(s->top));
    s->dir = open(s->top, O_RDONLY | O_DIRECTORY);
    *state = s;
    return 0;
}

int tear_down(void **state)
{
    struct scene *s = *state;
    char command[256];
    close(s->dir);
    snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", s->top, s->top);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a fixed name of our own
    free(s);
    return 0;
}

void put_file(int dir, const char *name, const char *text, mode_t mode)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

void put_sparse(int dir, const char *name, off_t size)
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

struct share *share_of(struct scene *s, const char *name)
{
    char source[PATH_MAX];
    int fd = openat(s->dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    assert_true(fd >= 0);
    snprintf(source, sizeof(source), "%s/%s", s->top, name);
    return share_new(SHARE_COPY, fd, source, "/workspace/x", true);
}

void begin(struct scene *s, const char *name, const struct tar_options *options)
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

void turn(struct taker *t, const unsigned *count, unsigned want, unsigned limit_ms)
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

void finish(struct taker *t)
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

void take_all(struct scene *s, const char *name, const struct tar_options *options)
{
    struct taker *t = &s->taker;
    begin(s, name, options);
    turn(t, &t->ended, 1, LIMIT_MS);
    assert_int_equal(t->ended, 1);
    if (t->err.kind != ERROR_NONE) {
        fail_msg("%s", t->err.message);
    }
}

void assert_fails(struct scene *s, const char *name, const struct tar_options *options,
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

void find(const void *bytes, size_t size, const char *name, struct found *f)
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

void find_kept(struct scene *s, const char *name, struct found *f)
{
    find(buffer_data(&s->taker.kept), buffer_size(&s->taker.kept), name, f);
    if (f->count != 1) {
        fail_msg("%s is there %u times", name, f->count);
    }
}

void unpack(struct scene *s, const char *program, const char *to)
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
