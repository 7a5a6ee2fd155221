#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "backends/base/hex.h"
#include "backends/base/strings.h"
#include "backends/modal/blob_internal.h"

enum {
    ANSWER_CAP = 64 * 1024,
    PAD = 64, /* of base64 */
    MD5_TEXT = MD5_DIGEST_LENGTH * 2 + 1,
};

struct blob_put {
    struct blob_put_order order; /* url: of `base` and `path` */
    char *base;
    const char *path;
    struct http *http;
    struct http_request *request;
    unsigned tries;
    uv_timer_t timer;
    uv_work_t work;
    bool reading; /* a thread is */
    char *space;  /* the newest piece: */
    size_t filled, taken;
    uint64_t read; /* of it all */
    int failed;    /* -errno of a read */
    MD5_CTX md5;
    unsigned char digest[MD5_DIGEST_LENGTH];
    bool over; /* `done` was called */
    bool gone; /* nobody is told anything */
    bool timer_over, http_over;
    void (*freed)(void *data);
    void *freed_data;
};

void blob_base64(const unsigned char *bytes, size_t size, char *ret)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";

    for (size_t i = 0; i < size; i += 3, ret += 4) {
        unsigned n = (unsigned)bytes[i] << 16;

        n |= i + 1 < size ? (unsigned)bytes[i + 1] << 8 : 0;
        n |= i + 2 < size ? bytes[i + 2] : 0;
        ret[0] = digits[n >> 18];
        ret[1] = digits[n >> 12 & 63];
        ret[2] = digits[i + 1 < size ? n >> 6 & 63 : PAD];
        ret[3] = digits[i + 2 < size ? n & 63 : PAD];
    }
    *ret = '\0';
}

int modal_blob_split(const char *url, bool local, char **ret_base, const char **ret_path)
{
    bool tls = strncmp(url, "https://", 8) == 0;
    bool plain = local && strncmp(url, "http://", 7) == 0;
    const char *host = strstr(url, "://");
    size_t size = strlen(url), base;
    char *copy;

    if ((!tls && !plain) || !host || size > MODAL_BLOB_URL_CAP) {
        return -1;
    }
    host += 3;
    base = (size_t)(host - url) + strcspn(host, "/?#@\\ ");
    if (url[base] != '/' || url + base == host) {
        return -1;
    }
    copy = calloc(1, size + 2);
    if (!copy) {
        return -1;
    }
    memcpy(copy, url, base); /* a NUL, and then the path */
    memcpy(copy + base + 1, url + base, size - base);
    *ret_base = copy;
    *ret_path = copy + base + 1;
    return 0;
}

/* ---- its end ---- */

static void maybe_free(struct blob_put *p)
{
    void (*freed)(void *data) = p->freed;
    void *data = p->freed_data;

    if (!p->gone || !p->timer_over || !p->http_over || p->reading) {
        return;
    }
    free(p->space);
    free(p->base);
    free(p);
    if (freed) {
        freed(data);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct blob_put *p = handle->data;

    p->timer_over = true;
    maybe_free(p);
}

static void on_http_closed(void *data)
{
    struct blob_put *p = data;

    p->http_over = true;
    maybe_free(p);
}

void blob_put_free(struct blob_put *p, void (*freed)(void *data), void *data)
{
    p->gone = true;
    p->freed = freed;
    p->freed_data = data;
    uv_close((uv_handle_t *)&p->timer, on_timer_closed);
    http_close(p->http, on_http_closed, p);
}

static void finish(struct blob_put *p, const struct error *err)
{
    p->over = true;
    p->order.done(p->order.data, err ? NULL : p->digest, err);
}

/* ---- reading ---- */

static void on_read_it(uv_work_t *work)
{
    struct blob_put *p = work->data;
    uint64_t left = p->order.size - p->read;
    size_t want = left < MODAL_BLOB_PIECE ? (size_t)left : MODAL_BLOB_PIECE;
    ssize_t n;

    do {
        n = pread(p->order.fd, p->space, want, (off_t)(p->order.offset + p->read));
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        p->failed = n < 0 ? -errno : -EIO; /* it has become shorter */
        return;
    }
    MD5Update(&p->md5, (const uint8_t *)p->space, (size_t)n);
    p->filled = (size_t)n;
}

static void on_read_done(uv_work_t *work, int status)
{
    struct blob_put *p = work->data;

    (void)status; /* it is never cancelled */
    p->reading = false;
    p->read += p->filled;
    if (p->gone) {
        maybe_free(p);
    } else if (p->request) {
        http_request_resume(p->request);
    }
}

static void read_more(struct blob_put *p)
{
    p->filled = p->taken = 0;
    p->reading = true;
    p->work.data = p;
    if (uv_queue_work(p->order.loop, &p->work, on_read_it, on_read_done) < 0) {
        p->reading = false;
        p->failed = -ENOMEM;
    }
}

static ptrdiff_t read_body(void *data, char *space, size_t size)
{
    struct blob_put *p = data;
    size_t n = p->filled - p->taken;

    if (p->reading) {
        return -EAGAIN;
    }
    if (p->failed) {
        return p->failed;
    }
    if (n == 0 && p->read == p->order.size) {
        return 0;
    }
    if (n == 0) {
        read_more(p);
        return p->reading ? -EAGAIN : p->failed;
    }
    n = n < size ? n : size;
    memcpy(space, p->space + p->taken, n);
    p->taken += n;
    p->order.on_moved(p->order.data, (int64_t)n);
    return (ptrdiff_t)n;
}

/* ---- a request ---- */

static void attempt(struct blob_put *p);

static void on_again(uv_timer_t *timer)
{
    attempt(timer->data);
}

static void failed(struct blob_put *p, const struct error *err)
{
    if (p->tries < MODAL_BLOB_TRIES && !p->failed) {
        uv_timer_start(&p->timer, on_again, (uint64_t)MODAL_BLOB_AGAIN_MS << (p->tries - 1), 0);
    } else {
        finish(p, err);
    }
}

/* The MD5 of what the store has, which it may quote, or call weak. */
static bool etag_is(const char *etag, const char *md5)
{
    size_t n = strlen(md5);

    etag += strncasecmp(etag, "W/", 2) == 0 ? 2 : 0;
    if (etag[0] == '"') {
        return strncmp(etag + 1, md5, n) == 0 && strcmp(etag + 1 + n, "\"") == 0;
    }
    return strcmp(etag, md5) == 0;
}

static int check_reply(struct blob_put *p, const struct http_reply *reply, struct error *err)
{
    char md5[MD5_TEXT];

    if (reply->status != 200) {
        return http_refusal(reply, "the store of Modal's blobs", err);
    }
    if (p->order.completion) {
        return strstr(reply->body, p->order.expected)
                   ? 0
                   : error_set(err, ERROR_LOST,
                               "the store put the parts together to something "
                               "else than was sent");
    }
    MD5Final(p->digest, &p->md5);
    hex_write(p->digest, sizeof(p->digest), md5);
    return etag_is(reply->etag, md5) ? 0
                                     : error_set(err, ERROR_LOST,
                                                 "the store has other bytes than were sent (its "
                                                 "checksum is not theirs)");
}

static void on_done(void *data, const struct http_reply *reply, const struct error *given)
{
    struct blob_put *p = data;
    struct error err = {0};
    int r = 0;

    p->request = NULL;
    if (p->gone) {
        return;
    }
    if (p->failed) {
        error_set_code(&err, ERROR_INVALID, p->failed,
                       "the file cannot be read on, or has become shorter");
    } else if (given) {
        error_copy(&err, given);
    } else {
        r = check_reply(p, reply, &err);
    }
    if (err.kind == ERROR_NONE && r == 0) {
        finish(p, NULL);
    } else {
        failed(p, &err);
    }
    error_clear(&err);
}

/* These two stores check it; of others it is not known. */
static bool takes_md5(const char *base)
{
    static const char *const ends[] = {".amazonaws.com", ".r2.cloudflarestorage.com"};
    const char *host = strstr(base, "//") + 2;
    size_t n = strcspn(host, ":");

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        size_t size = strlen(ends[i]);
        if (n > size && strncasecmp(host + n - size, ends[i], size) == 0) {
            return true;
        }
    }
    return false;
}

static void start_request(struct blob_put *p, struct error *err)
{
    const struct blob_put_order *order = &p->order;
    char *md5 = order->content_md5 && takes_md5(p->base)
                    ? string_format("Content-MD5: %s", order->content_md5)
                    : NULL;
    const char *const headers[] = {md5, NULL};
    struct http_call call = {
        .method = "PUT",
        .path = p->path,
        .headers = headers,
        .content_type = order->content_md5 ? "application/octet-stream" : "",
        .body_cap = ANSWER_CAP,
        .done = on_done,
        .data = p,
    };

    if (order->completion) {
        call.method = "POST";
        call.body = order->completion;
        call.body_size = strlen(order->completion);
    } else {
        call.read_body = read_body;
        call.read_size = order->size;
    }
    p->request = http_start(p->http, &call, err);
    free(md5);
}

static void attempt(struct blob_put *p)
{
    struct error err = {0};

    /* What the last one had read is not there any more. */
    if (p->reading) {
        uv_timer_start(&p->timer, on_again, 10, 0);
        return;
    }
    if (!p->order.completion) {
        p->order.on_moved(p->order.data, -(int64_t)(p->read - (p->filled - p->taken)));
    }
    p->read = 0;
    p->filled = p->taken = 0;
    MD5Init(&p->md5);
    p->tries++;
    start_request(p, &err);
    if (!p->request) {
        finish(p, &err);
    }
    error_clear(&err);
}

/* Its address, its connection and its memory. */
static int prepare(struct blob_put *p, const struct blob_put_order *order, struct error *err)
{
    struct http_options options = {.use_proxy = !order->local};

    if (modal_blob_split(order->url, order->local, &p->base, &p->path) < 0) {
        return error_set(err, ERROR_LOST,
                         "the service's answer names no address that a file can be uploaded to");
    }
    p->space = order->completion ? NULL : malloc(MODAL_BLOB_PIECE);
    if (!p->space && !order->completion) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    options.base = p->base;
    p->http = http_new(order->loop, &options, err);
    return p->http ? 0 : -1;
}

struct blob_put *blob_put_start(const struct blob_put_order *order, struct error *err)
{
    struct blob_put *p = calloc(1, sizeof(*p));

    if (!p) {
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    if (prepare(p, order, err) < 0) {
        free(p->space);
        free(p->base);
        free(p);
        return NULL;
    }
    p->order = *order;
    p->order.url = NULL;
    uv_timer_init(order->loop, &p->timer);
    p->timer.data = p;
    uv_timer_start(&p->timer, on_again, 0, 0);
    return p;
}
