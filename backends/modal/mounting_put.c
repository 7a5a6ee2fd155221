#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/hex.h"
#include "backends/modal/mounting_internal.h"

/* ---- its end ---- */

static bool is_blob(const struct mounting_put *p)
{
    return p->m->list->files[p->file].facts.size >= MOUNT_INLINE_CAP;
}

static void release(struct mounting_put *p)
{
    struct modal_mounting *m = p->m;

    if (p->fd >= 0) {
        (void)close(p->fd);
    }
    if (is_blob(p)) {
        m->blobs--;
    } else {
        m->in_memory -= m->list->files[p->file].facts.size;
    }
    free(p->bytes);
    free(p->blob_id);
    error_clear(&p->failure);
    p->busy = false;
    m->busy--;
}

static void on_blob_freed(void *data)
{
    struct mounting_put *p = data;
    struct modal_mounting *m = p->m;

    p->blob = NULL;
    release(p);
    if (!mounting_ended(m)) {
        mounting_send(m);
    }
}

/* Nothing of it goes on: the slot is free, now or when its blob is gone. */
static void leave(struct mounting_put *p)
{
    p->leaving = true;
    if (p->blob) {
        modal_blob_free(p->blob, on_blob_freed, p);
    } else {
        release(p);
    }
}

static void fail(struct mounting_put *p, const struct error *err)
{
    struct modal_mounting *m = p->m;
    struct error told = {0};
    const char *path = m->list->files[p->file].path;

    if (!m->over) {
        error_set(&told, err->kind, "uploading %s%s%s: %s", m->share->source, *path ? "/" : "",
                  path, err->message);
    }
    leave(p);
    if (!mounting_ended(m)) {
        mounting_fail(m, &told);
    }
    error_clear(&told);
}

static void succeed(struct mounting_put *p)
{
    struct modal_mounting *m = p->m;
    const uint64_t size = m->list->files[p->file].facts.size;

    m->list->files[p->file].there = true;
    m->files_sent++;
    if (!is_blob(p)) {
        m->sent += size;
    }
    leave(p);
    if (!mounting_ended(m)) {
        mounting_send(m);
    }
}

/* ---- MountPutFile ---- */

static void put(struct mounting_put *p, unsigned delay_ms);

static void on_put(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                   const struct error *err)
{
    const Modal__Client__MountPutFileResponse *a = (const void *)answer;
    struct mounting_put *p = data;
    struct error none = {0};

    (void)status;
    p->rpc = NULL;
    if (p->m->over) {
        fail(p, err ? err : &none);
    } else if (!answer) {
        fail(p, err);
    } else if (a->exists) {
        succeed(p);
    } else if (++p->again < MODAL_MOUNT_AGAIN) {
        put(p, MODAL_MOUNT_AGAIN_MS);
    } else {
        error_set(&none, ERROR_TIMEOUT, "the service took it, and does not have it");
        fail(p, &none);
    }
    error_clear(&none);
}

static void put(struct mounting_put *p, unsigned delay_ms)
{
    const struct mount_file *file = &p->m->list->files[p->file];
    Modal__Client__MountPutFileRequest request = MODAL__CLIENT__MOUNT_PUT_FILE_REQUEST__INIT;
    char hash[SHA256_DIGEST_LENGTH * 2 + 1];
    struct modal_rpc_call call = {
        .name = "MountPutFile",
        .request = &request.base,
        .answer = &modal__client__mount_put_file_response__descriptor,
        .timeout_ms = MODAL_MOUNT_PUT_MS,
        .delay_ms = delay_ms,
        .done = on_put,
        .data = p,
    };
    struct error err = {0};

    hex_write(file->sha256, sizeof(file->sha256), hash);
    request.sha256_hex = hash;
    if (p->blob_id) {
        request.data_oneof_case = MODAL__CLIENT__MOUNT_PUT_FILE_REQUEST__DATA_ONEOF_DATA_BLOB_ID;
        request.data_blob_id = p->blob_id;
    } else {
        request.data_oneof_case = MODAL__CLIENT__MOUNT_PUT_FILE_REQUEST__DATA_ONEOF_DATA;
        request.data.data = p->bytes;
        request.data.len = (size_t)file->facts.size;
    }
    p->rpc = modal_rpc_start(p->m->order.client, &call, &err);
    if (!p->rpc) {
        fail(p, &err);
    }
    error_clear(&err);
}

/* ---- a blob ---- */

static void on_moved(void *data, int64_t bytes)
{
    struct modal_mounting *m = ((struct mounting_put *)data)->m;

    m->sent += (uint64_t)bytes;
    mounting_tell(m, "%zu of %zu files, %llu of %llu MiB are uploaded", m->files_sent,
                  m->needed_count, (unsigned long long)(m->sent >> 20),
                  (unsigned long long)(m->to_send >> 20));
}

static void on_blob(void *data, const char *blob_id, const struct error *err)
{
    struct mounting_put *p = data;
    struct modal_mounting *m = p->m;
    struct error none = {0};

    p->blob_id = blob_id ? strdup(blob_id) : NULL;
    if (err) {
        fail(p, err);
    } else if (!p->blob_id) {
        error_set(&none, ERROR_INTERNAL, "out of memory");
        fail(p, &none);
    } else if (mount_unchanged(m->share, &m->list->files[p->file], p->fd, &none) < 0) {
        fail(p, &none);
    } else {
        put(p, 0);
    }
    error_clear(&none);
}

static void start_blob(struct mounting_put *p)
{
    const struct mount_file *file = &p->m->list->files[p->file];
    const struct modal_blob_order order = {.fd = p->fd,
                                           .size = file->facts.size,
                                           .sha256 = file->sha256,
                                           .md5 = file->md5,
                                           .on_moved = on_moved,
                                           .done = on_blob,
                                           .data = p};
    struct error err = {0};

    p->blob = modal_blob_start(p->m->order.client, &order, &err);
    if (!p->blob) {
        fail(p, &err);
    }
    error_clear(&err);
}

/* ---- the file ---- */

static void on_work(uv_work_t *work)
{
    struct mounting_put *p = work->data;
    const struct mount_file *file = &p->m->list->files[p->file];

    if (is_blob(p)) {
        p->fd = mount_open(p->m->share, file, &p->failure);
    } else {
        p->bytes = mount_read(p->m->share, file, &p->failure);
    }
}

static void on_worked(uv_work_t *work, int status)
{
    struct mounting_put *p = work->data;

    (void)status; /* it is never cancelled */
    p->working = false;
    if (p->m->over || p->failure.kind != ERROR_NONE) {
        struct error err = p->failure;

        p->failure = (struct error){0};
        fail(p, &err);
        error_clear(&err);
    } else if (is_blob(p)) {
        start_blob(p);
    } else {
        put(p, 0);
    }
}

static void start(struct modal_mounting *m, struct mounting_put *p, size_t file)
{
    const uint64_t size = m->list->files[file].facts.size;

    *p = (struct mounting_put){.m = m, .file = file, .busy = true, .working = true, .fd = -1};
    m->busy++;
    m->blobs += size >= MOUNT_INLINE_CAP;
    m->in_memory += size >= MOUNT_INLINE_CAP ? 0 : size;
    p->work.data = p;
    if (uv_queue_work(modal_client_loop(m->order.client), &p->work, on_work, on_worked) < 0) {
        struct error err = {0};

        p->working = false;
        error_set(&err, ERROR_INTERNAL, "out of memory");
        fail(p, &err);
        error_clear(&err);
    }
}

/* ---- all of them ---- */

static bool may_start(const struct modal_mounting *m, size_t file)
{
    const uint64_t size = m->list->files[file].facts.size;

    if (m->busy == MODAL_MOUNT_PUTS) {
        return false;
    }
    return size >= MOUNT_INLINE_CAP ? m->blobs < MODAL_MOUNT_BLOBS
                                    : m->in_memory + size <= MODAL_MOUNT_MEMORY;
}

static struct mounting_put *free_slot(struct modal_mounting *m)
{
    struct mounting_put *p = m->puts;

    while (p->busy) {
        p++;
    }
    return p;
}

void mounting_send(struct modal_mounting *m)
{
    if (m->needed_count > 0) {
        mounting_tell(m, "%zu of %zu files, %llu of %llu MiB are uploaded", m->files_sent,
                      m->needed_count, (unsigned long long)(m->sent >> 20),
                      (unsigned long long)(m->to_send >> 20));
    }
    while (!m->over && m->next < m->needed_count && may_start(m, m->needed[m->next])) {
        start(m, free_slot(m), m->needed[m->next++]);
    }
    if (!m->over && m->next == m->needed_count && m->busy == 0 && !m->rpc) {
        mounting_make(m);
    }
}

void mounting_cancel_puts(struct modal_mounting *m)
{
    for (unsigned i = 0; i < MODAL_MOUNT_PUTS; i++) {
        struct mounting_put *p = &m->puts[i];

        if (!p->busy || p->leaving) {
            continue;
        }
        if (p->rpc) {
            modal_rpc_cancel(p->rpc);
        } else if (p->blob && !p->blob_id) {
            leave(p);
        }
    }
}
