#include "backends/modal/blob.h"

#include <stdlib.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/base/buffer.h"
#include "backends/base/hex.h"
#include "backends/base/strings.h"
#include "backends/modal/blob_internal.h"

enum {
    SHA256_BASE64 = 4 * ((SHA256_DIGEST_LENGTH + 2) / 3) + 1,
    MD5_BASE64 = 4 * ((MD5_DIGEST_LENGTH + 2) / 3) + 1,
    ETAG_SIZE = MD5_DIGEST_LENGTH * 2 + 16,
};

struct modal_blob {
    struct modal_client *client;
    struct modal_blob_order order;
    char md5[MD5_BASE64];
    struct modal_rpc *rpc;
    Modal__Client__BlobCreateResponse *to; /* where it goes */
    size_t store;                          /* which of them is tried */
    size_t part;
    struct blob_put *put;
    unsigned char *digests; /* of the parts */
    char *completion;
    char etag[ETAG_SIZE];
    uint64_t moved;
    uv_timer_t soon; /* one request after the other, each begun from the loop */
    struct error last;
    bool gone, soon_over;
    void (*freed)(void *data);
    void *freed_data;
};

/* ---- its end ---- */

static void maybe_free(struct modal_blob *b)
{
    void (*freed)(void *data) = b->freed;
    void *data = b->freed_data;

    if (!b->gone || b->rpc || b->put || !b->soon_over) {
        return;
    }
    if (b->to) {
        modal__client__blob_create_response__free_unpacked(b->to, NULL);
    }
    free(b->digests);
    free(b->completion);
    error_clear(&b->last);
    free(b);
    if (freed) {
        freed(data);
    }
}

static void on_soon_closed(uv_handle_t *handle)
{
    struct modal_blob *b = handle->data;

    b->soon_over = true;
    maybe_free(b);
}

static void on_last_put_freed(void *data)
{
    struct modal_blob *b = data;

    b->put = NULL;
    maybe_free(b);
}

void modal_blob_free(struct modal_blob *b, void (*freed)(void *data), void *data)
{
    b->gone = true;
    b->freed = freed;
    b->freed_data = data;
    if (b->rpc) {
        modal_rpc_cancel(b->rpc);
    }
    if (b->put) {
        blob_put_free(b->put, on_last_put_freed, b);
    }
    uv_close((uv_handle_t *)&b->soon, on_soon_closed);
}

static void fail(struct modal_blob *b, const struct error *err)
{
    b->order.done(b->order.data, NULL, err);
}

/* ---- where it goes ---- */

static size_t store_count(const struct modal_blob *b)
{
    const Modal__Client__BlobCreateResponse *to = b->to;
    size_t count = 0;

    if (to->upload_types_oneof_case ==
        MODAL__CLIENT__BLOB_CREATE_RESPONSE__UPLOAD_TYPES_ONEOF_UPLOAD_URLS) {
        count = to->upload_urls->n_items;
    } else if (to->upload_types_oneof_case ==
               MODAL__CLIENT__BLOB_CREATE_RESPONSE__UPLOAD_TYPES_ONEOF_MULTIPARTS) {
        count = to->multiparts->n_items;
    }
    return count < to->n_blob_ids ? count : to->n_blob_ids;
}

/* NULL: it goes there as one. */
static const Modal__Client__MultiPartUpload *parts_of(const struct modal_blob *b)
{
    return b->to->upload_types_oneof_case ==
                   MODAL__CLIENT__BLOB_CREATE_RESPONSE__UPLOAD_TYPES_ONEOF_MULTIPARTS
               ? b->to->multiparts->items[b->store]
               : NULL;
}

/* Do the parts hold the file, each of them something of it? */
static bool parts_fit(const struct modal_blob *b, const Modal__Client__MultiPartUpload *parts)
{
    uint64_t length = (uint64_t)parts->part_length;

    return parts->part_length > 0 && parts->n_upload_urls > 0 &&
           parts->n_upload_urls <= MODAL_BLOB_PARTS &&
           (b->order.size + length - 1) / length == parts->n_upload_urls;
}

/* ---- the requests ---- */

static void on_soon(uv_timer_t *timer);

static void go_on(struct modal_blob *b)
{
    uv_timer_start(&b->soon, on_soon, 0, 0);
}

static void on_moved(void *data, int64_t bytes)
{
    struct modal_blob *b = data;

    b->moved += (uint64_t)bytes;
    b->order.on_moved(b->order.data, bytes);
}

/* The next store, or the end. */
static void store_failed(struct modal_blob *b, const struct error *err)
{
    error_clear(&b->last);
    error_copy(&b->last, err);
    b->order.on_moved(b->order.data, -(int64_t)b->moved);
    b->moved = 0;
    b->store++;
    b->part = 0;
    go_on(b);
}

static void on_put_freed(void *data)
{
    struct modal_blob *b = data;

    b->put = NULL;
    if (b->gone) {
        maybe_free(b);
    } else {
        go_on(b);
    }
}

static void on_put(void *data, const unsigned char *md5, const struct error *err)
{
    struct modal_blob *b = data;

    if (err) {
        store_failed(b, err);
    } else {
        if (b->digests && b->part < parts_of(b)->n_upload_urls) {
            memcpy(b->digests + b->part * MD5_DIGEST_LENGTH, md5, MD5_DIGEST_LENGTH);
        }
        b->part++;
    }
    uv_timer_stop(&b->soon);
    blob_put_free(b->put, on_put_freed, b);
}

static void start_put(struct modal_blob *b, const struct blob_put_order *given)
{
    struct blob_put_order order = *given;
    struct error err = {0};

    order.loop = modal_client_loop(b->client);
    order.local = modal_client_is_local(b->client);
    order.fd = b->order.fd;
    order.on_moved = on_moved;
    order.done = on_put;
    order.data = b;
    b->put = blob_put_start(&order, &err);
    if (!b->put) {
        store_failed(b, &err);
    }
    error_clear(&err);
}

static void put_whole(struct modal_blob *b)
{
    const struct blob_put_order order = {
        .url = b->to->upload_urls->items[b->store], .content_md5 = b->md5, .size = b->order.size};

    start_put(b, &order);
}

/* What the store says of all parts together: the MD5 of their MD5s, and how many they were. */
static void set_etag(struct modal_blob *b, size_t count)
{
    unsigned char digest[MD5_DIGEST_LENGTH];
    char text[MD5_DIGEST_LENGTH * 2 + 1];
    MD5_CTX md5;

    MD5Init(&md5);
    MD5Update(&md5, b->digests, count * MD5_DIGEST_LENGTH);
    MD5Final(digest, &md5);
    hex_write(digest, sizeof(digest), text);
    (void)snprintf(b->etag, sizeof(b->etag), "%s-%zu", text, count);
}

static char *completion_of(const struct modal_blob *b, size_t count)
{
    static const char head[] = "<CompleteMultipartUpload>", tail[] = "</CompleteMultipartUpload>";
    struct buffer text;
    char *copy = NULL;
    int r;

    buffer_init(&text, sizeof(head) + sizeof(tail) + (size_t)MODAL_BLOB_PARTS * 128);
    r = buffer_append(&text, head, strlen(head));
    for (size_t i = 0; r == 0 && i < count; i++) {
        char md5[MD5_DIGEST_LENGTH * 2 + 1], part[128];
        int n;

        hex_write(b->digests + i * MD5_DIGEST_LENGTH, MD5_DIGEST_LENGTH, md5);
        n = snprintf(part, sizeof(part),
                     "\n<Part>\n<PartNumber>%zu</PartNumber>\n<ETag>\"%s\"</ETag>\n</Part>", i + 1,
                     md5);
        r = buffer_append(&text, part, (size_t)n);
    }
    if (r == 0 && buffer_append(&text, tail, sizeof(tail)) == 0) {
        copy = strdup(buffer_data(&text));
    }
    buffer_deinit(&text);
    return copy;
}

static void complete(struct modal_blob *b, const Modal__Client__MultiPartUpload *parts)
{
    struct error err = {0};
    struct blob_put_order order = {.url = parts->completion_url};

    set_etag(b, parts->n_upload_urls);
    free(b->completion);
    b->completion = completion_of(b, parts->n_upload_urls);
    if (!b->completion) {
        error_set(&err, ERROR_INTERNAL, "out of memory");
        fail(b, &err);
        error_clear(&err);
        return;
    }
    order.completion = b->completion;
    order.expected = b->etag;
    start_put(b, &order);
}

static void put_part(struct modal_blob *b, const Modal__Client__MultiPartUpload *parts)
{
    uint64_t length = (uint64_t)parts->part_length, offset = b->part * length;
    uint64_t left = b->order.size - offset;
    const struct blob_put_order order = {.url = parts->upload_urls[b->part],
                                         .offset = offset,
                                         .size = left < length ? left : length};

    start_put(b, &order);
}

static void next_of_parts(struct modal_blob *b, const Modal__Client__MultiPartUpload *parts)
{
    struct error err = {0};

    if (!parts_fit(b, parts)) {
        error_set(&err, ERROR_LOST, "the service's parts of an upload do not hold the file");
        store_failed(b, &err);
    } else if (b->part < parts->n_upload_urls) {
        free(b->part == 0 ? b->digests : NULL);
        if (b->part == 0) {
            b->digests = calloc(parts->n_upload_urls, MD5_DIGEST_LENGTH);
        }
        if (b->digests) {
            put_part(b, parts);
            return;
        }
        error_set(&err, ERROR_INTERNAL, "out of memory");
        fail(b, &err);
    } else if (b->part == parts->n_upload_urls) {
        complete(b, parts);
    } else {
        b->order.done(b->order.data, b->to->blob_ids[b->store], NULL);
    }
    error_clear(&err);
}

static void on_soon(uv_timer_t *timer)
{
    struct modal_blob *b = timer->data;
    const Modal__Client__MultiPartUpload *parts;

    if (b->put) {
        return; /* it is being freed, and comes here again */
    }
    if (b->store >= store_count(b)) {
        if (b->last.kind == ERROR_NONE) {
            error_set(&b->last, ERROR_LOST, "the service named no store for a blob");
        }
        fail(b, &b->last);
        return;
    }
    parts = parts_of(b);
    if (parts) {
        next_of_parts(b, parts);
    } else if (b->part == 0) {
        put_whole(b);
    } else {
        b->order.done(b->order.data, b->to->blob_ids[b->store], NULL);
    }
}

/* ---- its beginning ---- */

static void on_created(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                       const struct error *err)
{
    struct modal_blob *b = data;
    struct error none = {0};
    size_t size;
    void *packed;

    (void)status;
    b->rpc = NULL;
    if (b->gone) {
        maybe_free(b);
        return;
    }
    if (!answer) {
        fail(b, err);
        return;
    }
    /* It is borrowed: a copy of ours. */
    packed = modal_pack(answer, &size);
    b->to = packed ? modal__client__blob_create_response__unpack(NULL, size, packed) : NULL;
    free(packed);
    if (b->to) {
        go_on(b);
    } else {
        error_set(&none, ERROR_INTERNAL, "out of memory");
        fail(b, &none);
        error_clear(&none);
    }
}

struct modal_blob *modal_blob_start(struct modal_client *client,
                                    const struct modal_blob_order *order, struct error *err)
{
    Modal__Client__BlobCreateRequest request = MODAL__CLIENT__BLOB_CREATE_REQUEST__INIT;
    struct modal_blob *b = calloc(1, sizeof(*b));
    char sha256[SHA256_BASE64];
    struct modal_rpc_call call = {
        .name = "BlobCreate",
        .request = &request.base,
        .answer = &modal__client__blob_create_response__descriptor,
        .done = on_created,
        .data = b,
    };

    if (!b) {
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    b->client = client;
    b->order = *order;
    blob_base64(order->sha256, SHA256_DIGEST_LENGTH, sha256);
    blob_base64(order->md5, MD5_DIGEST_LENGTH, b->md5);
    b->order.sha256 = b->order.md5 = NULL;
    request.content_md5 = b->md5;
    request.content_sha256_base64 = sha256;
    request.content_length = (int64_t)order->size;
    b->rpc = modal_rpc_start(client, &call, err);
    if (!b->rpc) {
        free(b);
        return NULL;
    }
    uv_timer_init(modal_client_loop(client), &b->soon);
    b->soon.data = b;
    return b;
}
