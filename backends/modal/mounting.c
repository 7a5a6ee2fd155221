#include "backends/modal/mounting.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/hex.h"
#include "backends/base/strings.h"
#include "backends/modal/mounting_internal.h"

/* ---- its end ---- */

static void free_it(struct modal_mounting *m)
{
    mount_hashing_deinit(&m->hashing);
    mount_list_free(m->list);
    mount_kept_drop(m->earlier);
    share_free(m->share);
    error_clear(&m->failure);
    free(m->app_id);
    free(m->needed);
    free(m);
}

bool mounting_ended(struct modal_mounting *m)
{
    if (!m->over) {
        return false;
    }
    if (m->gone && m->life_over && !m->working && m->busy == 0 && !m->rpc && !mounting_asks(m)) {
        free_it(m);
    }
    return true;
}

static void give_up(struct modal_mounting *m)
{
    m->over = true;
    mounting_cancel_asks(m);
    mounting_cancel_puts(m);
    if (m->rpc) {
        modal_rpc_cancel(m->rpc);
    }
}

void mounting_fail(struct modal_mounting *m, const struct error *err)
{
    if (!m->over) {
        give_up(m);
        m->order.done(m->order.data, NULL, err);
    }
}

static void fail_memory(struct modal_mounting *m)
{
    struct error err = {0};

    error_set(&err, ERROR_INTERNAL, "out of memory");
    mounting_fail(m, &err);
    error_clear(&err);
}

static void on_life_closed(uv_handle_t *handle)
{
    struct modal_mounting *m = handle->data;

    m->life_over = true;
    (void)mounting_ended(m);
}

void modal_mounting_free(struct modal_mounting *m)
{
    if (!m) {
        return;
    }
    if (!m->over) {
        give_up(m);
    }
    m->gone = true;
    uv_close((uv_handle_t *)&m->life, on_life_closed);
}

/* ---- what people are told ---- */

void mounting_tell(struct modal_mounting *m, const char *format, ...)
{
    uint64_t now = uv_now(modal_client_loop(m->order.client));
    char *line = NULL, *what = NULL;
    va_list list;

    if (m->over || !m->order.on_line || now - m->told < MODAL_MOUNT_TELL_MS) {
        return;
    }
    m->told = now;
    va_start(list, format);
    if (vasprintf(&what, format, list) < 0) {
        what = NULL;
    }
    va_end(list);
    line = what ? string_format("mounting %s: %s", m->share->dest, what) : NULL;
    if (line) {
        m->order.on_line(m->order.data, line);
    }
    free(line);
    free(what);
}

/* ---- the mount ---- */

/* Takes the id: it is there. */
static void succeed(struct modal_mounting *m, const char *id)
{
    struct mount_store *store = m->order.store;
    struct mount_list *list = m->list;
    char *copy = strdup(id); /* it may be of what the list takes the place of */

    for (size_t i = 0; i < list->count; i++) {
        list->files[i].there = true;
    }
    if (!copy) {
        fail_memory(m);
        return;
    }
    m->list = NULL;
    m->over = true;
    if (store->forgotten == m->forgotten) {
        mount_store_keep(store, list, m->share->dest, m->app_id, copy);
    } else {
        mount_list_free(list);
    }
    m->order.done(m->order.data, copy, NULL);
    free(copy);
}

/* The service lacks what it had: all of it is asked for anew, once. */
static bool ask_anew(struct modal_mounting *m, enum grpc_status status)
{
    if (!m->recalled || status != GRPC_NOT_FOUND) {
        return false;
    }
    m->recalled = false;
    mount_store_forget(m->order.store);
    m->forgotten = m->order.store->forgotten;
    for (size_t i = 0; i < m->list->count; i++) {
        m->list->files[i].there = false;
    }
    if (mounting_list_needed(m) < 0) {
        fail_memory(m);
    } else {
        mounting_ask(m);
    }
    return true;
}

static void on_made(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                    const struct error *err)
{
    const Modal__Client__MountGetOrCreateResponse *a = (const void *)answer;
    struct modal_mounting *m = data;
    struct error none = {0};

    m->rpc = NULL;
    if (mounting_ended(m)) {
        return;
    }
    if (answer && a->mount_id[0]) {
        succeed(m, a->mount_id);
    } else if (answer) {
        error_set(&none, ERROR_LOST, "the service gave a mount without an id");
        mounting_fail(m, &none);
    } else if (!ask_anew(m, status)) {
        mounting_fail(m, err);
    }
    error_clear(&none);
}

static void send_list(struct modal_mounting *m, Modal__Client__MountFile **files)
{
    Modal__Client__MountGetOrCreateRequest request =
        MODAL__CLIENT__MOUNT_GET_OR_CREATE_REQUEST__INIT;
    struct modal_rpc_call call = {
        .name = "MountGetOrCreate",
        .request = &request.base,
        .answer = &modal__client__mount_get_or_create_response__descriptor,
        .done = on_made,
        .data = m,
    };
    struct error err = {0};

    request.object_creation_type =
        MODAL__CLIENT__OBJECT_CREATION_TYPE__OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP;
    request.app_id = m->app_id;
    request.files = files;
    request.n_files = m->list->count;
    m->rpc = modal_rpc_start(m->order.client, &call, &err);
    if (!m->rpc) {
        mounting_fail(m, &err);
    }
    error_clear(&err);
}

/* One entry of the list; its texts are to be freed. False: out of memory. */
static bool fill_file(const struct modal_mounting *m, const struct mount_file *from,
                      Modal__Client__MountFile *to)
{
    modal__client__mount_file__init(to);
    to->filename = mount_file_dest(m->share, from);
    to->sha256_hex = malloc(SHA256_DIGEST_LENGTH * 2 + 1);
    to->mode = from->mode;
    if (!to->filename || !to->sha256_hex) {
        return false;
    }
    hex_write(from->sha256, sizeof(from->sha256), to->sha256_hex);
    return true;
}

void mounting_make(struct modal_mounting *m)
{
    const size_t count = m->list->count;
    Modal__Client__MountFile *files = calloc(count, sizeof(*files));
    Modal__Client__MountFile **list = calloc(count, sizeof(Modal__Client__MountFile *));
    bool ok = files && list;

    for (size_t i = 0; ok && i < count; i++) {
        list[i] = &files[i];
        ok = fill_file(m, &m->list->files[i], &files[i]);
    }
    if (ok) {
        send_list(m, list);
    } else {
        fail_memory(m);
    }
    for (size_t i = 0; files && list && i < count && list[i]; i++) {
        free(files[i].filename);
        free(files[i].sha256_hex);
    }
    free(files);
    free(list);
}

/* ---- what is known of it ---- */

static bool same_list(const struct mount_list *a, const struct mount_list *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        const struct mount_file *f = &a->files[i], *g = &b->files[i];
        if (f->mode != g->mode || strcmp(f->path, g->path) != 0 ||
            memcmp(f->sha256, g->sha256, sizeof(f->sha256)) != 0) {
            return false;
        }
    }
    return true;
}

/* What the service is known to have, of files whose content is what it was. */
static void recall(struct modal_mounting *m)
{
    const struct mount_list *was = m->earlier->list;

    for (size_t i = 0; i < m->list->count; i++) {
        struct mount_file *file = &m->list->files[i];
        if (file->earlier != SIZE_MAX && was->files[file->earlier].there) {
            file->there = m->recalled = true;
        }
    }
}

static void on_hashed(struct modal_mounting *m)
{
    const struct mount_kept *was = m->earlier;

    if (was && was->id && strcmp(was->app_id, m->app_id) == 0 && same_list(m->list, was->list)) {
        succeed(m, was->id);
        return;
    }
    if (was) {
        recall(m);
    }
    if (mounting_list_needed(m) < 0) {
        fail_memory(m);
    } else {
        mounting_ask(m);
    }
}

/* ---- the thread's part ---- */

static void work(struct modal_mounting *m, uv_work_cb step, uv_after_work_cb done)
{
    m->work.data = m;
    m->working = true;
    if (uv_queue_work(modal_client_loop(m->order.client), &m->work, step, done) < 0) {
        m->working = false;
        fail_memory(m);
    }
}

static void on_hash(uv_work_t *it)
{
    struct modal_mounting *m = it->data;

    m->worked = mount_hash(&m->hashing, m->list, m->share, &m->failure);
}

static void on_hash_done(uv_work_t *it, int status)
{
    struct modal_mounting *m = it->data;

    (void)status; /* it is never cancelled */
    m->working = false;
    if (mounting_ended(m)) {
        return;
    }
    if (m->worked < 0) {
        mounting_fail(m, &m->failure);
    } else if (m->worked == 1) {
        on_hashed(m);
    } else {
        mounting_tell(m, "%llu of %llu MiB in %zu files are read",
                      (unsigned long long)(m->hashing.bytes >> 20),
                      (unsigned long long)(m->list->bytes >> 20), m->list->count);
        work(m, on_hash, on_hash_done);
    }
}

static void on_walk(uv_work_t *it)
{
    struct modal_mounting *m = it->data;

    m->worked =
        mount_list_walk(m->list, m->share, m->earlier ? m->earlier->list : NULL, &m->failure);
}

static void on_walk_done(uv_work_t *it, int status)
{
    struct modal_mounting *m = it->data;

    (void)status;
    m->working = false;
    if (mounting_ended(m)) {
        return;
    }
    if (m->worked < 0) {
        mounting_fail(m, &m->failure);
        return;
    }
    if (m->list->empty_folders > 0) {
        mounting_tell(m, "folders without a file are left out: %u", m->list->empty_folders);
    }
    work(m, on_hash, on_hash_done);
}

/* Not in the start itself: it cannot fail at once. */
static void on_begin(uv_timer_t *timer)
{
    work(timer->data, on_walk, on_walk_done);
}

struct modal_mounting *modal_mounting_start(const struct modal_mounting_order *order)
{
    struct modal_mounting *m = calloc(1, sizeof(*m));

    if (!m) {
        return NULL;
    }
    m->order = *order;
    m->hashing.fd = -1;
    m->share = share_clone(order->share);
    m->app_id = strdup(order->app_id);
    m->list = mount_list_new();
    if (!m->share || !m->app_id || !m->list) {
        free_it(m);
        return NULL;
    }
    m->earlier = mount_store_find(order->store, m->share);
    m->forgotten = order->store->forgotten;
    uv_timer_init(modal_client_loop(order->client), &m->life);
    m->life.data = m;
    uv_timer_start(&m->life, on_begin, 0, 0);
    return m;
}
