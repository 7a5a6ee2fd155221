#include <stdlib.h>
#include <string.h>

#include "backends/base/hex.h"
#include "backends/modal/mounting_internal.h"

enum { HEX = SHA256_DIGEST_LENGTH * 2 + 1 };

/* ---- which files ---- */

static int by_hash(const void *a, const void *b, void *data)
{
    const struct mount_file *files = data;

    return memcmp(files[*(const size_t *)a].sha256, files[*(const size_t *)b].sha256,
                  SHA256_DIGEST_LENGTH);
}

/* One of those from `first` on that have the same content; `ret_end` is past them. */
static size_t one_of(const struct mount_file *files, const size_t *order, size_t count,
                     size_t first, size_t *ret_end)
{
    size_t best = order[first], end = first;

    for (; end < count &&
           memcmp(files[order[end]].sha256, files[best].sha256, SHA256_DIGEST_LENGTH) == 0;
         end++) {
        if (files[order[end]].there) {
            best = order[end];
        }
    }
    *ret_end = end;
    return best;
}

int mounting_list_needed(struct modal_mounting *m)
{
    struct mount_list *list = m->list;
    size_t *order = calloc(list->count, sizeof(*order));

    if (!order) {
        return -1;
    }
    for (size_t i = 0; i < list->count; i++) {
        order[i] = i;
    }
    qsort_r(order, list->count, sizeof(*order), by_hash, list->files);
    m->needed_count = 0;
    for (size_t i = 0, end; i < list->count; i = end) {
        size_t one = one_of(list->files, order, list->count, i, &end);

        if (!list->files[one].there) {
            order[m->needed_count++] = one; /* never past i */
        }
    }
    free(m->needed);
    m->needed = order;
    m->next = 0;
    return 0;
}

/* ---- the questions ---- */

static bool is_missing(const Modal__Client__MountBatchedCheckExistenceResponse *answer,
                       const struct mount_file *file)
{
    char hex[HEX];

    hex_write(file->sha256, sizeof(file->sha256), hex);
    for (size_t i = 0; i < answer->n_missing_sha256_hex_hashes; i++) {
        if (strcmp(answer->missing_sha256_hex_hashes[i], hex) == 0) {
            return true;
        }
    }
    return false;
}

static void on_answer(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                      const struct error *err)
{
    struct mounting_ask *ask = data;
    struct modal_mounting *m = ask->m;

    (void)status;
    ask->rpc = NULL;
    if (mounting_ended(m)) {
        return;
    }
    if (!answer) {
        mounting_fail(m, err);
        return;
    }
    for (size_t i = ask->first; i < ask->first + ask->count; i++) {
        struct mount_file *file = &m->list->files[m->needed[i]];
        file->there = !is_missing((const void *)answer, file);
    }
    mounting_ask(m);
}

static void start(struct modal_mounting *m, struct mounting_ask *ask)
{
    Modal__Client__MountBatchedCheckExistenceRequest request =
        MODAL__CLIENT__MOUNT_BATCHED_CHECK_EXISTENCE_REQUEST__INIT;
    size_t left = m->needed_count - m->next;
    char hashes[MODAL_MOUNT_BATCH][HEX];
    char *list[MODAL_MOUNT_BATCH];
    struct modal_rpc_call call = {
        .name = "MountBatchedCheckExistence",
        .request = &request.base,
        .answer = &modal__client__mount_batched_check_existence_response__descriptor,
        .done = on_answer,
        .data = ask,
    };
    struct error err = {0};

    *ask = (struct mounting_ask){
        .m = m, .first = m->next, .count = left < MODAL_MOUNT_BATCH ? left : MODAL_MOUNT_BATCH};
    for (size_t i = 0; i < ask->count; i++) {
        hex_write(m->list->files[m->needed[ask->first + i]].sha256, SHA256_DIGEST_LENGTH,
                  hashes[i]);
        list[i] = hashes[i];
    }
    request.sha256_hex_hashes = list;
    request.n_sha256_hex_hashes = ask->count;
    m->next += ask->count;
    ask->rpc = modal_rpc_start(m->order.client, &call, &err);
    if (!ask->rpc) {
        mounting_fail(m, &err);
    }
    error_clear(&err);
}

bool mounting_asks(const struct modal_mounting *m)
{
    for (unsigned i = 0; i < MODAL_MOUNT_ASKS; i++) {
        if (m->asks[i].rpc) {
            return true;
        }
    }
    return false;
}

void mounting_cancel_asks(struct modal_mounting *m)
{
    for (unsigned i = 0; i < MODAL_MOUNT_ASKS; i++) {
        if (m->asks[i].rpc) {
            modal_rpc_cancel(m->asks[i].rpc);
        }
    }
}

/* What is left of `needed` is what the service lacks. */
static void keep_missing(struct modal_mounting *m)
{
    size_t count = 0;

    m->to_send = m->sent = 0;
    m->files_sent = 0;
    for (size_t i = 0; i < m->needed_count; i++) {
        const struct mount_file *file = &m->list->files[m->needed[i]];

        if (!file->there) {
            m->needed[count++] = m->needed[i];
            m->to_send += file->facts.size;
        }
    }
    m->needed_count = count;
    m->next = 0;
}

void mounting_ask(struct modal_mounting *m)
{
    for (unsigned i = 0; i < MODAL_MOUNT_ASKS && m->next < m->needed_count && !m->over; i++) {
        if (!m->asks[i].rpc) {
            start(m, &m->asks[i]);
        }
    }
    if (!m->over && m->next == m->needed_count && !mounting_asks(m)) {
        keep_missing(m);
        mounting_send(m);
    }
}
