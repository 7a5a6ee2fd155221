#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/internal.h"
#include "router.pb-c.h"

/*
 * A snapshot of a sandbox's files is an image, which its router makes while the sandbox goes on. It
 * is asked for with an id of our own, so that a call whose answer was lost can be sent again and
 * makes no second one. What is mounted is not in it, nor what lives in memory (/dev/shm, /proc):
 * a sandbox that begins with it finds nothing of the old one's processes.
 */
struct snapshot_op {
    struct snapshot_op *next;
    struct modal_place *place;
    struct sandbox *sandbox; /* NULL: it is being closed */
    char id[MODAL_UUID_SIZE];
    bool memory;
    snapshot_done done; /* NULL: nobody waits, and what it comes to is deleted */
    void *data;
};

/* ---- deleting ---- */

struct deletion {
    executor_done done; /* NULL: nobody waits */
    void *data;
};

static void on_deleted(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                       const struct error *err)
{
    struct deletion *d = data;
    struct error own = {0};

    (void)answer;
    if (status == GRPC_NOT_FOUND) {
        error_set(&own, ERROR_NOT_FOUND, "Modal has no such snapshot any more");
        err = &own;
    }
    if (d->done) {
        d->done(d->data, err);
    }
    error_clear(&own);
    free(d);
}

static int delete_image(struct modal_place *place, const char *id, executor_done done, void *data,
                        struct error *err)
{
    Modal__Client__ImageDeleteRequest request = MODAL__CLIENT__IMAGE_DELETE_REQUEST__INIT;
    struct deletion *d = calloc(1, sizeof(*d));
    const struct modal_rpc_call call = {
        .name = "ImageDelete",
        .request = &request.base,
        .answer = &modal__client__empty__descriptor,
        .total_ms = TERMINATE_MS,
        .done = on_deleted,
        .data = d,
    };

    if (!d) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    *d = (struct deletion){done, data};
    request.image_id = (char *)id;
    if (!modal_rpc_start(place->client, &call, err)) {
        free(d);
        return -1;
    }
    return 0;
}

int modal_snapshot_delete(struct place *base, const char *id, executor_done done, void *data,
                          struct error *err)
{
    struct modal_place *place = (struct modal_place *)base;

    if (memory_is_id(id)) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "Modal has no way to delete a memory snapshot; it goes by itself %d days "
                         "after it was made",
                         MEMORY_DAYS);
    }
    return place_connect(place, err) < 0 ? -1 : delete_image(place, id, done, data, err);
}

/* ---- making ---- */

static void unlink_op(struct snapshot_op *op)
{
    if (!op->sandbox) {
        return;
    }
    for (struct snapshot_op **at = &op->sandbox->snapshots; *at; at = &(*at)->next) {
        if (*at == op) {
            *at = op->next;
            break;
        }
    }
    op->sandbox = NULL;
}

/* Tells it, once. The operation stays until its call has ended. */
static void answer(struct snapshot_op *op, const char *id, const struct error *err)
{
    snapshot_done done = op->done;

    op->done = NULL;
    if (done) {
        done(op->data, id, err);
    }
}

/* Nobody is there to be told when it cannot be deleted: it ends with its time. */
static void discard(const struct snapshot_op *op, const char *id)
{
    if (op->place->client) { /* it is closed after the last sandbox */
        (void)delete_image(op->place, id, NULL, NULL, NULL);
    }
}

static void take_image(struct snapshot_op *op, const char *id)
{
    struct error err = {0};

    if (!sandbox_is_id(id) || strlen(id) > SNAPSHOT_ID_CAP) {
        error_set(&err, ERROR_LOST, "the service's answer to a snapshot has no image id");
        answer(op, NULL, &err);
    } else if (!op->done) {
        discard(op, id);
    } else {
        answer(op, id, NULL);
    }
    error_clear(&err);
}

static void on_made(void *data, const ProtobufCMessage *message, enum grpc_status status,
                    const struct error *err)
{
    const Modal__TaskCommandRouter__TaskSnapshotFilesystemResponse *a = (const void *)message;
    struct snapshot_op *op = data;

    (void)status;
    unlink_op(op);
    if (err) {
        answer(op, NULL, err);
    } else {
        take_image(op, a->image_id);
    }
    free(op);
}

static int send_snapshot(struct snapshot_op *op, uint64_t ttl_seconds, struct error *err)
{
    Modal__TaskCommandRouter__TaskSnapshotFilesystemRequest request =
        MODAL__TASK_COMMAND_ROUTER__TASK_SNAPSHOT_FILESYSTEM_REQUEST__INIT;
    const struct modal_command_call call = {
        .name = "TaskSnapshotFilesystem",
        .request = &request.base,
        .answer = &modal__task_command_router__task_snapshot_filesystem_response__descriptor,
        .timeout_ms = SNAPSHOT_MS,
        .patience_ms = SNAPSHOT_MS,
        .done = on_made,
        .data = op,
    };

    if (modal_uuid(op->id) < 0) {
        return error_set(err, ERROR_INTERNAL, "no random bytes");
    }
    request.task_id = op->sandbox->task_id;
    request.snapshot_id = op->id;
    request.ttl_seconds = ttl_seconds < INT64_MAX ? (int64_t)ttl_seconds : INT64_MAX;
    return modal_command_start(op->sandbox->router, &call, err) ? 0 : -1;
}

/* ---- of memory ---- */

/* The snapshot's id as it is told (memory_is_id); to be freed. */
static char *told_id(const struct sandbox *s, const char *id)
{
    char *told = sandbox_is_id(id) && strlen(id) + 16 < SNAPSHOT_ID_CAP
                     ? string_format("%s.%d", id, s->process)
                     : NULL;

    if (told && !memory_is_id(told)) {
        free(told);
        told = NULL;
    }
    return told;
}

/* The sandbox sleeps from here on, or where nothing was taken is found again as it was. */
static void memory_answered(struct sandbox *s, struct snapshot_op *op, const char *id,
                            const struct error *err)
{
    char *told = id ? told_id(s, id) : NULL;
    struct error own = {0};

    if (!err && !told) {
        error_set(&own, ERROR_LOST, "the service's answer to a memory snapshot has no id");
        err = &own;
    }
    answer(op, told, err);
    memory_sleep(s, told ? id : NULL);
    error_clear(&own);
    free(told);
}

static void on_memory(void *data, const ProtobufCMessage *message, enum grpc_status status,
                      const struct error *err)
{
    const Modal__TaskCommandRouter__TaskSnapshotMemoryResponse *a = (const void *)message;
    struct snapshot_op *op = data;
    struct sandbox *s = op->sandbox;

    (void)status;
    unlink_op(op);
    if (s) {
        memory_answered(s, op, err ? NULL : a->snapshot_id, err);
    }
    free(op);
}

static int send_memory(struct snapshot_op *op, struct error *err)
{
    Modal__TaskCommandRouter__TaskSnapshotMemoryRequest request =
        MODAL__TASK_COMMAND_ROUTER__TASK_SNAPSHOT_MEMORY_REQUEST__INIT;
    const struct modal_command_call call = {
        .name = "TaskSnapshotMemory",
        .request = &request.base,
        .answer = &modal__task_command_router__task_snapshot_memory_response__descriptor,
        .timeout_ms = SNAPSHOT_MS,
        .patience_ms = MEMORY_PATIENCE_MS,
        .done = on_memory,
        .data = op,
    };

    if (modal_uuid(op->id) < 0) {
        return error_set(err, ERROR_INTERNAL, "no random bytes");
    }
    request.task_id = op->sandbox->task_id;
    request.idempotency_key = op->id;
    return modal_command_start(op->sandbox->router, &call, err) ? 0 : -1;
}

void snapshot_relay_ended(struct sandbox *s)
{
    struct snapshot_op *op = s->snapshots;
    struct error err = {0};

    if (s->nap != NAP_LEAVING) {
        return;
    }
    s->nap = NAP_TAKING;
    while (op && !op->memory) {
        op = op->next;
    }
    if (op && send_memory(op, &err) < 0) {
        unlink_op(op);
        memory_answered(s, op, NULL, &err);
        free(op);
    }
    error_clear(&err);
}

/* The relay leaves first: no exec may be there. */
static void begin_memory(struct sandbox *s)
{
    s->process = runner_occupant_pid(s->base.occupant);
    s->nap = NAP_LEAVING;
    s->base.state = CRATE_ATTACHING;
    s->phase = NULL;
    modal_exec_eof(s->exec);
}

int sandbox_snapshot(struct crate *c, const struct snapshot_request *request, snapshot_done done,
                     void *data, struct error *err)
{
    struct sandbox *s = (struct sandbox *)c;
    struct snapshot_op *op;

    if (!s->router) {
        return error_set(err, ERROR_LOST, "the sandbox is ending");
    }
    op = calloc(1, sizeof(*op));
    if (!op) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    *op = (struct snapshot_op){
        .next = s->snapshots, .place = s->place, .sandbox = s, .done = done, .data = data};
    op->memory = request->memory;
    s->snapshots = op;
    if (op->memory) {
        begin_memory(s);
        return 0;
    }
    if (send_snapshot(op, request->ttl_seconds, err) < 0) {
        s->snapshots = op->next;
        free(op);
        return -1;
    }
    return 0;
}

void sandbox_snapshot_drop(struct crate *c, const void *data)
{
    struct sandbox *s = (struct sandbox *)c;

    for (struct snapshot_op *op = s->snapshots; op; op = op->next) {
        if (op->data == data) {
            op->done = NULL;
            if (op->memory) {
                memory_dropped(s);
            }
        }
    }
}

void sandbox_lose_snapshots(struct sandbox *s)
{
    struct error err = {0};
    struct snapshot_op *next;

    error_set(&err, ERROR_LOST, "the sandbox ended while a snapshot of it was made");
    for (struct snapshot_op *op = s->snapshots; op; op = next) {
        next = op->next;
        op->next = NULL;
        op->sandbox = NULL; /* it ends with the router, which is closed next */
        answer(op, NULL, &err);
    }
    s->snapshots = NULL;
    error_clear(&err);
}
