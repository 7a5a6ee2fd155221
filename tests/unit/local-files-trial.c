#include "tests/unit/local-files-trial.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

void put(int dir, const char *name, const char *text, mode_t mode)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

int folder(int dir, const char *name)
{
    int fd;

    assert_int_equal(mkdirat(dir, name, 0755), 0);
    fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

int set_up(void **state)
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

int tear_down(void **state)
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

enum error_kind ask(struct trial *t, struct file_request request)
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

enum error_kind simple(struct trial *t, enum file_op op, const char *path)
{
    return ask(t, (struct file_request){.op = op, .path = path, .mode = -1});
}

enum error_kind recursive(struct trial *t, enum file_op op, const char *path)
{
    return ask(t, (struct file_request){.op = op, .path = path, .recursive = true});
}

enum error_kind pair(struct trial *t, enum file_op op, const char *path, const char *dest)
{
    return ask(t, (struct file_request){.op = op, .path = path, .dest = dest, .recursive = true});
}

enum error_kind replacing(struct trial *t, enum file_op op, const char *path, const char *dest)
{
    return ask(t, (struct file_request){.op = op, .path = path, .dest = dest, .replace = true});
}

enum error_kind read_from(struct trial *t, const char *path, uint64_t offset, uint64_t length)
{
    return ask(t, (struct file_request){
                      .op = FILE_READ, .path = path, .offset = offset, .length = length});
}

enum error_kind write_to(struct trial *t, const char *path, const char *text)
{
    return ask(
        t, (struct file_request){
               .op = FILE_WRITE, .path = path, .bytes = text, .size = strlen(text), .mode = -1});
}

void assert_reads(struct trial *t, const char *path, const char *text)
{
    assert_int_equal(read_from(t, path, 0, LIMIT), ERROR_NONE);
    assert_int_equal(t->reply.size, strlen(text));
    assert_memory_equal(t->reply.bytes, text, strlen(text));
}

void assert_lists(struct trial *t, const char *path, const char *const *names)
{
    size_t count = 0;

    assert_int_equal(simple(t, FILE_LIST, path), ERROR_NONE);
    for (; names[count]; count++) {
        assert_true(count < t->reply.count);
        assert_string_equal(t->reply.entries[count].name, names[count]);
    }
    assert_int_equal(t->reply.count, count);
}

bool mentions(const struct trial *t, const char *words)
{
    return t->err.message && strstr(t->err.message, words);
}

unsigned entries_of(int dir)
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
