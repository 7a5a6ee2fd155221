#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/host_path.h"
#include "mcp/server.h"
#include "mcp/tools/files/files_tools.h"
#include "mcp/tools/files/host_copy.h"
#include "mcp/tools/files/transfer.h"

/* What the sandbox says is in a folder: its names, checked, and what they are. */
struct item {
    char *name;
    bool is_directory;
    bool executable;
};

struct download {
    struct transfer t;
    struct host_copy copy; /* parent -1 until it is opened */
    struct item *items;    /* of a folder */
    size_t count;
    size_t next;
    char *path;    /* of the file in the sandbox that is being read; NULL: source itself */
    uint64_t size; /* of it, when reading began */
    uint64_t at;
};

static void download_free(struct download *d)
{
    host_copy_deinit(&d->copy);
    for (size_t i = 0; i < d->count; i++) {
        free(d->items[i].name);
    }
    file_call_deinit(&d->t.fc);
    free(d->items);
    free(d->path);
    free(d);
}

static void fail(struct download *d, const struct error *err)
{
    file_call_fail(&d->t.fc, err);
    download_free(d);
}

/* ---- the end ---- */

static void finish(struct download *d)
{
    struct error err = {0};

    if (host_copy_commit(&d->copy, d->t.replace, &err) < 0) {
        fail(d, &err);
    } else {
        transfer_answer(&d->t, "Downloaded");
        download_free(d);
    }
    error_clear(&err);
}

/* ---- a file ---- */

static void step(struct download *d);
static void on_bytes(void *data, const struct file_reply *reply, const struct error *err);

static void read_on(struct download *d)
{
    struct file_request request = {
        .op = FILE_READ,
        .path = d->path ? d->path : d->t.source,
        .offset = d->at,
        .length = TRANSFER_CHUNK,
        .mode = -1,
    };

    file_call_do(&d->t.fc, &request, on_bytes, d);
}

/* A file that grows is read as far as it went when reading began; what has no size (the kernel's
 * own) is read to its end. */
static int take_bytes(struct download *d, const struct file_reply *reply, bool *ret_more,
                      struct error *err)
{
    size_t size = reply->size;

    if (d->at == 0) {
        d->size = reply->entry.size > 0 ? reply->entry.size : UINT64_MAX;
    }
    if (size > TRANSFER_CHUNK) {
        return error_set(err, ERROR_INTERNAL, "the sandbox sent more than was asked for");
    }
    if (size > d->size - d->at) {
        size = (size_t)(d->size - d->at);
    }
    d->at += size;
    *ret_more = size > 0 && d->at < d->size;
    if (transfer_check(&d->t, err) < 0 || transfer_count_bytes(&d->t, size, err) < 0) {
        return -1;
    }
    return host_copy_write(&d->copy, reply->bytes, size, err);
}

static void on_bytes(void *data, const struct file_reply *reply, const struct error *err)
{
    struct download *d = data;
    struct error own = {0};
    bool more = false;

    if (err) {
        fail(d, err);
    } else if (take_bytes(d, reply, &more, &own) < 0 ||
               (!more && host_copy_close(&d->copy, &own) < 0)) {
        fail(d, &own);
    } else {
        d->t.files += !more;
        transfer_progress(&d->t, "downloaded");
        if (more) {
            read_on(d);
        } else {
            step(d);
        }
    }
    error_clear(&own);
}

/* ---- a folder ---- */

static int begin_item(struct download *d, const struct item *item, struct error *err)
{
    size_t n = strlen(d->t.source);
    bool slash = n > 0 && d->t.source[n - 1] == '/';

    if (item->is_directory) {
        return host_copy_mkdir(&d->copy, item->name, err);
    }
    free(d->path);
    d->at = 0;
    if (asprintf(&d->path, "%s%s%s", d->t.source, slash ? "" : "/", item->name) < 0) {
        d->path = NULL;
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "download");
    }
    return host_copy_open(&d->copy, item->name, item->executable, err);
}

/* Makes folders until there is a file to read, or nothing more to do. */
static void step(struct download *d)
{
    struct error err = {0};

    while (d->next < d->count) {
        const struct item *item = &d->items[d->next++];

        if (begin_item(d, item, &err) < 0) {
            fail(d, &err);
            error_clear(&err);
            return;
        }
        if (!item->is_directory) {
            read_on(d);
            return;
        }
    }
    finish(d);
}

static int take_entry(struct download *d, const struct file_entry *entry, struct error *err)
{
    struct item *item = &d->items[d->count];

    if (!entry->name || !host_copy_is_relative(entry->name)) {
        char *shown = file_shown(entry->name ? entry->name : "");

        error_set(err, ERROR_REFUSED,
                  "the sandbox has a name in source that no download can have: \"%s\" (too long, "
                  "too deep, or leading out of the folder)",
                  shown ? shown : "?");
        free(shown);
        return -1;
    }
    if (entry->type != FILE_REGULAR && entry->type != FILE_DIRECTORY) {
        d->t.left_out++;
        return 0;
    }
    item->name = strdup(entry->name);
    item->is_directory = entry->type == FILE_DIRECTORY;
    item->executable = (entry->mode & 0111) != 0;
    d->count += item->name != NULL;
    return item->name ? transfer_count_entry(&d->t, err)
                      : error_set_code(err, ERROR_INTERNAL, ENOMEM, "download");
}

static int take_list(struct download *d, const struct file_reply *reply, struct error *err)
{
    uint64_t size = 0;

    d->items = calloc(reply->count + 1, sizeof(*d->items));
    if (!d->items) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "download");
    }
    for (size_t i = 0; i < reply->count; i++) {
        size += reply->entries[i].type == FILE_REGULAR ? reply->entries[i].size : 0;
        if (take_entry(d, &reply->entries[i], err) < 0 || transfer_check_size(size, err) < 0) {
            return -1;
        }
    }
    if (reply->more) {
        d->t.entries = TRANSFER_ENTRIES_CAP;
        return transfer_count_entry(&d->t, err);
    }
    return host_copy_mkdir(&d->copy, NULL, err);
}

static void on_list(void *data, const struct file_reply *reply, const struct error *err)
{
    struct download *d = data;
    struct error own = {0};

    if (err) {
        fail(d, err);
    } else if (take_list(d, reply, &own) < 0 || transfer_check(&d->t, &own) < 0) {
        fail(d, &own);
    } else {
        step(d);
    }
    error_clear(&own);
}

/* ---- the beginning ---- */

static void list(struct download *d)
{
    struct file_request request = {.op = FILE_LIST,
                                   .path = d->t.source,
                                   .recursive = true,
                                   .limit = FILE_LIST_CAP,
                                   .mode = -1};

    file_call_do(&d->t.fc, &request, on_list, d);
}

static void on_stat(void *data, const struct file_reply *reply, const struct error *err)
{
    struct download *d = data;
    struct error own = {0};

    if (err) {
        fail(d, err);
    } else if (reply->entry.type == FILE_DIRECTORY) {
        list(d);
    } else if (reply->entry.type == FILE_OTHER) {
        char *shown = file_shown(d->t.source);
        error_set(&own, ERROR_INVALID,
                  "source %s is neither a file nor a folder; pipes, sockets and devices are not "
                  "downloaded",
                  shown);
        free(shown);
        fail(d, &own);
    } else if (transfer_check_size(reply->entry.size, &own) < 0 ||
               host_copy_open(&d->copy, NULL,
                              (reply->entry.mode & 0111) != 0 && reply->entry.type == FILE_REGULAR,
                              &own) < 0) {
        fail(d, &own);
    } else {
        read_on(d);
    }
    error_clear(&own);
}

static int open_dest(struct download *d, const json_t *roots, struct error *err)
{
    const struct config *config = server_config(call_server(d->t.fc.call));
    const char *name;
    char *folder;
    int fd, r;

    if (host_path_open_parent(config, roots, d->t.dest, &fd, &folder, &name, err) < 0) {
        return -1;
    }
    r = host_copy_init(&d->copy, fd, folder, name, d->t.replace, err);
    free(folder);
    return r;
}

static void on_roots(void *data, const json_t *paths, const struct error *roots_err)
{
    struct download *d = data;
    struct file_request request = {.op = FILE_STAT, .path = d->t.source, .mode = -1};
    struct error err = {0};

    (void)roots_err; /* a client without an answer offers no roots */
    if (open_dest(d, paths, &err) < 0 || transfer_enter(&d->t, false, &err) < 0) {
        fail(d, &err);
    } else {
        file_call_do(&d->t.fc, &request, on_stat, d);
    }
    error_clear(&err);
}

static void start(struct call *call)
{
    struct download *d = calloc(1, sizeof(*d));
    struct error err = {0};

    if (!d) {
        error_set_code(&err, ERROR_INTERNAL, ENOMEM, "download");
        call_fail(call, &err);
    } else {
        d->copy = (struct host_copy){.parent = -1, .tree = -1, .file = -1};
        if (transfer_init(&d->t, call, false, &err) < 0) {
            fail(d, &err);
        } else {
            call_roots(call, on_roots, d);
        }
    }
    error_clear(&err);
}

const struct tool download_tool = {
    .name = "download",
    .title = "Download",
    .description = "Copies a sandbox file or folder to the host, where the owner shares a folder.",
    .schema = "tools/download",
    .read_only = false,
    .destructive = true,
    .idempotent = false,
    .open_world = false,
    .start = start,
};
