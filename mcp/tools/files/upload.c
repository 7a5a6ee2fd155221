#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/strings.h"
#include "mcp/host_path.h"
#include "mcp/server.h"
#include "mcp/tools/files/files_tools.h"
#include "mcp/tools/files/host_walk.h"
#include "mcp/tools/files/transfer.h"

/*
 * Everything is made under a name of its own beside dest, and moved there when it is complete; what
 * is not completed is removed.
 */
struct upload {
    struct transfer t;
    int fd; /* the source, O_PATH; or -1 */
    bool is_directory;
    struct host_walk walk;
    int file; /* that is being read, or -1 */
    bool executable;
    uint64_t at;      /* bytes of it that were sent */
    char *temp;       /* beside dest */
    char *path;       /* of the file, below temp */
    char *chunk;      /* TRANSFER_CHUNK bytes */
    bool made;        /* something is at temp */
    struct error why; /* of the failure that is being cleaned up */
};

static void close_file(struct upload *u)
{
    if (u->file >= 0) {
        close(u->file);
    }
    u->file = -1;
}

static void upload_free(struct upload *u)
{
    close_file(u);
    host_walk_deinit(&u->walk);
    if (u->fd >= 0) {
        close(u->fd);
    }
    file_call_deinit(&u->t.fc);
    error_clear(&u->why);
    free(u->temp);
    free(u->path);
    free(u->chunk);
    free(u);
}

/* ---- the end ---- */

static void answer_failure(struct upload *u)
{
    file_call_fail(&u->t.fc, &u->why);
    upload_free(u);
}

static void on_removed(void *data, const struct file_reply *reply, const struct error *err)
{
    (void)reply;
    (void)err; /* the first error is the one that counts */
    answer_failure(data);
}

static void fail(struct upload *u, const struct error *err)
{
    struct file_request request = {
        .op = FILE_REMOVE, .path = u->temp, .recursive = true, .mode = -1};

    error_copy(&u->why, err);
    /* A sandbox that is gone has lost it too, and must not be started for this. */
    if (u->made && err->kind != ERROR_LOST) {
        file_call_do(&u->t.fc, &request, on_removed, u);
    } else {
        answer_failure(u);
    }
}

static void on_moved(void *data, const struct file_reply *reply, const struct error *err)
{
    struct upload *u = data;

    (void)reply;
    if (err) {
        fail(u, err);
        return;
    }
    u->t.left_out = u->walk.left_out;
    transfer_answer(&u->t, "Uploaded");
    upload_free(u);
}

static void move(struct upload *u)
{
    struct file_request request = {
        .op = FILE_MOVE, .path = u->temp, .dest = u->t.dest, .replace = u->t.replace, .mode = -1};

    file_call_do(&u->t.fc, &request, on_moved, u);
}

/* ---- a step ---- */

static void step(struct upload *u);

static void on_step(void *data, const struct file_reply *reply, const struct error *err)
{
    struct upload *u = data;
    struct error stop = {0};

    (void)reply;
    if (err) {
        fail(u, err);
        return;
    }
    u->made = true;
    transfer_progress(&u->t, "uploaded");
    if (transfer_check(&u->t, &stop) < 0) {
        fail(u, &stop);
        error_clear(&stop);
        return;
    }
    step(u);
}

static void make_directory(struct upload *u, const char *path)
{
    struct file_request request = {.op = FILE_MKDIR, .path = path, .mode = 0755};

    file_call_do(&u->t.fc, &request, on_step, u);
}

static void send_chunk(struct upload *u, size_t size)
{
    struct file_request request = {
        .op = FILE_WRITE,
        .path = u->path,
        .bytes = u->chunk,
        .size = size,
        .append = u->at > 0,
        .mode = u->executable ? 0755 : 0644,
    };

    u->at += size;
    if (size < TRANSFER_CHUNK) {
        close_file(u);
        u->t.files++;
    }
    file_call_do(&u->t.fc, &request, on_step, u);
}

/* A chunk that is not full is the last of its file. */
static int read_chunk(struct upload *u, size_t *ret_size, struct error *err)
{
    size_t size = 0;
    ssize_t n;

    do {
        n = read(u->file, u->chunk + size, TRANSFER_CHUNK - size);
        if (n < 0 && errno != EINTR) {
            return error_set_code(err, ERROR_REFUSED, errno, "source %s cannot be read",
                                  u->t.source);
        }
        size += n > 0 ? (size_t)n : 0;
    } while (n != 0 && size < TRANSFER_CHUNK);
    *ret_size = size;
    return transfer_count_bytes(&u->t, size, err);
}

static int next_entry(struct upload *u, bool *ret_directory, bool *ret_end, struct error *err)
{
    struct host_entry entry;
    int r = host_walk_next(&u->walk, &entry, err);

    *ret_end = r == 0;
    if (r <= 0) {
        return r;
    }
    free(u->path);
    u->path = string_format("%s/%s", u->temp, entry.path);
    u->file = entry.fd;
    u->executable = entry.executable;
    u->at = 0;
    *ret_directory = entry.is_directory;
    if (!u->path) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "upload");
    }
    return transfer_count_entry(&u->t, err);
}

/* What comes next: a chunk of the file that is being read, the next entry, or the end. */
static int choose(struct upload *u, bool *ret_directory, bool *ret_end, size_t *ret_size,
                  struct error *err)
{
    if (u->file < 0 && next_entry(u, ret_directory, ret_end, err) < 0) {
        return -1;
    }
    return *ret_directory || *ret_end ? 0 : read_chunk(u, ret_size, err);
}

static void step(struct upload *u)
{
    bool is_directory = false, end = false;
    struct error err = {0};
    size_t size = 0;

    if (choose(u, &is_directory, &end, &size, &err) < 0) {
        fail(u, &err);
    } else if (end) {
        move(u);
    } else if (is_directory) {
        make_directory(u, u->path);
    } else {
        send_chunk(u, size);
    }
    error_clear(&err);
}

/* ---- the beginning ---- */

static void on_stat(void *data, const struct file_reply *reply, const struct error *err)
{
    struct upload *u = data;
    struct error taken = {0};
    char *dest = file_shown(u->t.dest);

    (void)reply;
    if (err && err->kind != ERROR_NOT_FOUND) {
        fail(u, err);
    } else if (!err && !u->t.replace) {
        error_set(&taken, ERROR_INVALID,
                  "dest %s is there already: choose another name, or pass \"replace\": true", dest);
        fail(u, &taken);
        error_clear(&taken);
    } else if (u->is_directory) {
        make_directory(u, u->temp);
    } else {
        step(u);
    }
    free(dest);
}

/* A name beside dest that nothing has. */
static int set_temp(struct upload *u, struct error *err)
{
    const char *dest = u->t.dest, *slash = strrchr(dest, '/'), *name = slash ? slash + 1 : dest;
    char temp[FILE_TEMPORARY_SIZE];

    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        char *shown = file_shown(dest);
        error_set(err, ERROR_INVALID,
                  "dest %s does not end in a name: give the new file's or folder's own name",
                  shown);
        free(shown);
        return -1;
    }
    if (file_temporary_name(temp) < 0) {
        return error_set_code(err, ERROR_INTERNAL, EIO, "upload");
    }
    u->temp = string_format("%.*s%s", (int)(name - dest), dest, temp);
    u->path = u->temp ? strdup(u->temp) : NULL;
    u->chunk = malloc(TRANSFER_CHUNK);
    return u->path && u->chunk ? 0 : error_set_code(err, ERROR_INTERNAL, ENOMEM, "upload");
}

static int open_source(struct upload *u, const json_t *roots, struct error *err)
{
    const struct config *config = server_config(call_server(u->t.fc.call));
    uint64_t size = 0;
    char *path;
    int r;

    if (host_path_open(config, roots, u->t.source, &u->fd, &path, &u->is_directory, err) < 0) {
        return -1;
    }
    free(path);
    if (!u->is_directory) {
        u->file = host_reopen_file(u->fd, u->t.source, &u->executable, &size, err);
        return u->file < 0 ? -1 : transfer_check_size(size, err);
    }
    r = host_walk_init(&u->walk, u->fd);
    return r < 0 ? error_set_code(err, ERROR_REFUSED, r, "source %s cannot be read", u->t.source)
                 : 0;
}

static void on_roots(void *data, const json_t *paths, const struct error *roots_err)
{
    struct upload *u = data;
    struct file_request request = {.op = FILE_STAT, .path = u->t.dest, .mode = -1};
    struct error err = {0};

    (void)roots_err; /* a client without an answer offers no roots */
    if (open_source(u, paths, &err) < 0 || transfer_enter(&u->t, true, &err) < 0) {
        fail(u, &err);
    } else {
        file_call_do(&u->t.fc, &request, on_stat, u);
    }
    error_clear(&err);
}

static void start(struct call *call)
{
    struct upload *u = calloc(1, sizeof(*u));
    struct error err = {0};

    if (!u) {
        error_set_code(&err, ERROR_INTERNAL, ENOMEM, "upload");
        call_fail(call, &err);
    } else {
        u->fd = u->file = -1;
        if (transfer_init(&u->t, call, true, &err) < 0 || set_temp(u, &err) < 0) {
            fail(u, &err);
        } else {
            call_roots(call, on_roots, u);
        }
    }
    error_clear(&err);
}

const struct tool upload_tool = {
    .name = "upload",
    .title = "Upload",
    .description =
        "Copies a file or folder of the host, where the owner shares it, to the sandbox.",
    .schema = "tools/upload",
    .read_only = false,
    .destructive = true,
    .idempotent = false,
    .open_world = false,
    .start = start,
};
