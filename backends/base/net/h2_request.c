#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/net/h2_internal.h"

enum {
    REFUSAL_CAP = 4096,
    FIELD_OVERHEAD = 32, /* what RFC 9113 counts for each field besides its text */
    PIECE_SIZE = 64 * 1024,
};

/* --- the end ------------------------------------------------------------------------------ */

static void request_free(struct h2_request *r)
{
    buffer_deinit(&r->held);
    buffer_deinit(&r->refusal);
    error_clear(&r->err);
    error_clear(&r->end_err);
    if (r->body) {
        explicit_bzero(r->body, r->body_size);
    }
    free(r->body);
    free(r->tried);
    free(r);
}

static void work_closed(uv_handle_t *handle)
{
    struct h2_request *r = handle->data;
    struct h2 *h2 = r->h2;
    request_free(r);
    h2_release(h2);
}

static void unlink_request(struct h2_request *r)
{
    *(r->prev ? &r->prev->next : &r->h2->requests) = r->next;
    if (r->next) {
        r->next->prev = r->prev;
    }
}

/* What comes for its stream from now on is nobody's. */
static void detach(struct h2_request *r)
{
    if (r->connection) {
        r->connection->requests--;
        r->connection = NULL;
    }
}

static void finish(struct h2_request *r)
{
    struct http_reply reply = {.content_type = "", .etag = "", .body = ""};
    const struct error *err;

    if (r->cancelled) {
        error_set(&r->err, ERROR_LOST, "%s: cancelled", r->tried);
    }
    err = r->err.kind != ERROR_NONE ? &r->err : &r->end_err;
    reply.reset = r->reset;
    reply.h2_error = r->h2_error;
    if (err->kind == ERROR_NONE) {
        reply.status = r->status;
        reply.size = buffer_size(&r->refusal);
        if (reply.size > 0 && buffer_append(&r->refusal, "", 1) == 0) {
            reply.body = buffer_data(&r->refusal);
        } else {
            reply.size = 0;
        }
    }
    r->ended = true;
    unlink_request(r);
    uv_close((uv_handle_t *)&r->work, work_closed);
    r->done(r->data, &reply, err->kind == ERROR_NONE ? NULL : err);
}

static bool is_over(const struct h2_request *r)
{
    return r->ended || r->cancelled || r->err.kind != ERROR_NONE;
}

static void on_work(uv_timer_t *timer);

static void soon(struct h2_request *r)
{
    uv_timer_start(&r->work, on_work, 0, 0);
}

/* Resets the stream; the end follows from the loop. */
static void give_up(struct h2_request *r)
{
    struct h2_connection *c = r->connection;
    detach(r);
    if (c) {
        nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, r->id, NGHTTP2_CANCEL);
        h2_connection_flush_soon(c);
    }
    soon(r);
}

/* --- the answer --------------------------------------------------------------------------- */

struct h2_request *h2_request_find(const struct h2_connection *connection, int32_t id)
{
    struct h2_request *r = id ? connection->h2->requests : NULL;
    while (r && (r->connection != connection || r->id != id)) {
        r = r->next;
    }
    return r;
}

void h2_request_field(struct h2_request *request, const char *name, const char *value)
{
    struct h2_request *r = request;

    r->head_size += strlen(name) + strlen(value) + FIELD_OVERHEAD;
    if (r->head_size > HTTP_HEAD_CAP) {
        error_set(&r->err, ERROR_LIMIT, "%s: the head of the answer is longer than %d KiB",
                  r->tried, HTTP_HEAD_CAP / 1024);
        give_up(r);
        return;
    }
    if (strcmp(name, ":status") == 0) {
        r->status = strtol(value, NULL, 10);
    } else if (name[0] != ':' && r->status >= 200 && r->on_field) {
        r->on_field(r->data, name, value, r->head_done);
    }
}

void h2_request_head_end(struct h2_request *request)
{
    request->head_done = request->status >= 200;
}

static void consume(struct h2_request *r, size_t size)
{
    if (r->connection) {
        nghttp2_session_consume_stream(r->connection->session, r->id, size);
    }
}

static void hold(struct h2_request *r, const char *bytes, size_t size)
{
    /* The window is the cap: nghttp2 resets a stream whose server does not keep to it. */
    if (buffer_append(&r->held, bytes, size) < 0) {
        error_set(&r->err, ERROR_INTERNAL, "%s: no room for what came while it was held back",
                  r->tried);
        give_up(r);
    }
}

void h2_request_bytes(struct h2_request *request, const char *bytes, size_t size)
{
    struct h2_request *r = request;

    if (r->status / 100 != 2) {
        size_t room = REFUSAL_CAP - buffer_size(&r->refusal);
        (void)buffer_append(&r->refusal, bytes, size < room ? size : room);
        consume(r, size);
    } else if (r->paused || buffer_size(&r->held) > 0) {
        hold(r, bytes, size);
    } else {
        consume(r, size);
        r->on_body(r->data, bytes, size);
    }
}

void h2_request_answered(struct h2_request *request)
{
    struct h2_request *r = request;
    r->answered = true;
    if (r->sent < r->body_size) {
        /* It does not want the rest of what we send. */
        nghttp2_submit_rst_stream(r->connection->session, NGHTTP2_FLAG_NONE, r->id,
                                  NGHTTP2_NO_ERROR);
    }
}

/* The end is told once everything of the body was taken, and by the loop: this may be inside of
 * what another request's user asked for. */
static void end(struct h2_request *r)
{
    detach(r);
    r->closed = true;
    soon(r);
}

void h2_request_stream_closed(struct h2_request *request, unsigned h2_error)
{
    struct h2_request *r = request;

    if (!r->answered || !r->head_done) {
        r->reset = true;
        r->h2_error = h2_error;
        error_set(
            &r->end_err, ERROR_LOST,
            h2_error == NGHTTP2_REFUSED_STREAM
                ? "%s: the server did not begin with it (%s, %u): it is going away or has too "
                  "much to do"
                : "%s: the stream was reset: %s (%u)",
            r->tried, nghttp2_http2_strerror(h2_error), h2_error);
    }
    end(r);
}

void h2_request_lost(struct h2_request *request, const struct error *err)
{
    struct h2_request *r = request;
    error_set(&r->end_err, err->kind, "%s: %s", r->tried, err->message);
    end(r);
}

/* Gives what was held, as far as it is wanted. */
static void go_on(struct h2_request *r)
{
    while (!r->paused && !is_over(r) && buffer_size(&r->held) > 0) {
        size_t n = buffer_size(&r->held);
        n = n < PIECE_SIZE ? n : PIECE_SIZE;
        consume(r, n);
        r->on_body(r->data, buffer_data(&r->held), n);
        buffer_consume(&r->held, n);
    }
    if (buffer_size(&r->held) == 0) {
        buffer_reset(&r->held);
    }
    if (r->connection) {
        h2_connection_flush(r->connection);
    }
}

static void on_work(uv_timer_t *timer)
{
    struct h2_request *r = timer->data;
    if (!is_over(r)) {
        go_on(r);
    }
    if (is_over(r) || (r->closed && buffer_size(&r->held) == 0)) {
        finish(r);
    }
}

/* --- what its user asks for --------------------------------------------------------------- */

void h2_cancel(struct h2_request *request)
{
    if (!request->ended && !request->cancelled) {
        request->cancelled = true;
        give_up(request);
    }
}

void h2_pause(struct h2_request *request, bool paused)
{
    request->paused = paused;
    if (!paused && !request->ended && buffer_size(&request->held) > 0) {
        soon(request);
    }
}

size_t h2_request_read(struct h2_request *request, uint8_t *space, size_t size, bool *ret_end)
{
    struct h2_request *r = request;
    size_t left = r->body_size - r->sent, n = left < size ? left : size;
    memcpy(space, r->body + r->sent, n);
    r->sent += n;
    *ret_end = r->sent == r->body_size;
    return n;
}

/* --- the start ---------------------------------------------------------------------------- */

/* The fields of a request, each with a copy of its texts: "name\0value\0". */
struct fields {
    nghttp2_nv *all;
    size_t count;
    bool failed;
};

static void add(struct fields *f, const char *name, size_t name_size, const char *value)
{
    size_t value_size = strlen(value);
    char *copy = malloc(name_size + value_size + 2), *own_value;

    if (!copy) {
        f->failed = true;
        return;
    }
    for (size_t i = 0; i < name_size; i++) {
        copy[i] = (char)tolower((unsigned char)name[i]);
    }
    copy[name_size] = '\0';
    own_value = copy + name_size + 1;
    memcpy(own_value, value, value_size + 1);
    f->all[f->count++] = (nghttp2_nv){(uint8_t *)copy, (uint8_t *)own_value, name_size, value_size,
                                      NGHTTP2_NV_FLAG_NONE};
}

static size_t count(const char *const *headers)
{
    size_t n = 0;
    while (headers && headers[n]) {
        n++;
    }
    return n;
}

static void add_headers(struct fields *f, const char *const *headers)
{
    for (size_t i = 0; headers && headers[i]; i++) {
        size_t name = strcspn(headers[i], ":");
        const char *value = headers[i] + name + 1;
        add(f, headers[i], name, value + strspn(value, " \t"));
    }
}

static void add_own(struct fields *f, const struct http *http, const char *path)
{
    static const char *const names[] = {":method", ":scheme", ":authority", ":path"};
    const char *const values[] = {"POST", http->tls ? "https" : "http", http->host, path};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        add(f, names[i], strlen(names[i]), values[i]);
    }
}

static void fields_free(struct fields *f)
{
    for (size_t i = 0; i < f->count; i++) {
        free(f->all[i].name);
    }
    free(f->all);
}

static int32_t submit(const struct h2 *h2, struct h2_connection *c, const struct h2_call *call)
{
    enum { OWN = 4 };
    const char *const *common = (const char *const *)h2->http->headers;
    struct fields f = {0};
    char *path = NULL;
    int32_t id = NGHTTP2_ERR_NOMEM;

    f.all = calloc(OWN + count(common) + count(call->headers), sizeof(*f.all));
    if (f.all && asprintf(&path, "%s%s", h2->http->prefix, call->path) >= 0) {
        add_own(&f, h2->http, path);
        add_headers(&f, common);
        add_headers(&f, call->headers);
        if (!f.failed) {
            id = nghttp2_submit_request(c->session, NULL, f.all, f.count, &h2_body_provider, NULL);
        }
        free(path);
    }
    fields_free(&f);
    return id;
}

static struct h2_request *request_new(struct h2 *h2, const struct h2_call *call)
{
    struct h2_request *r = calloc(1, sizeof(*r));
    if (!r) {
        return NULL;
    }
    r->h2 = h2;
    r->on_field = call->on_field;
    r->on_body = call->on_body;
    r->done = call->done;
    r->data = call->data;
    buffer_init(&r->held, H2_WINDOW);
    buffer_init(&r->refusal, REFUSAL_CAP + 1);
    r->body_size = call->body_size;
    r->body = malloc(call->body_size + 1);
    r->tried = http_tried(h2->http, "POST", call->path);
    if (!r->body || !r->tried) {
        request_free(r);
        return NULL;
    }
    if (call->body_size > 0) {
        memcpy(r->body, call->body, call->body_size);
    }
    return r;
}

static void begin(struct h2_request *r, struct h2_connection *c, int32_t id)
{
    struct h2 *h2 = r->h2;
    r->connection = c;
    r->id = id;
    c->requests++;
    r->next = h2->requests;
    if (r->next) {
        r->next->prev = r;
    }
    h2->requests = r;
    h2->users++;
    uv_timer_init(h2->loop, &r->work);
    r->work.data = r;
    h2_connection_flush_soon(c);
}

static int check_call(const struct h2 *h2, const struct h2_call *call, struct error *err)
{
    if (h2->closing) {
        return error_set(err, ERROR_LOST, "the connection to %s is being closed", h2->http->base);
    }
    if (http_check_target("POST", call->path, err) < 0) {
        return -1;
    }
    for (size_t i = 0; call->headers && call->headers[i]; i++) {
        if (http_check_header(call->headers[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

struct h2_request *h2_start(struct h2 *h2, const struct h2_call *call, struct error *err)
{
    struct h2_connection *c;
    struct h2_request *r;
    int32_t id;

    if (check_call(h2, call, err) < 0 || !(c = h2_connection_get(h2, err))) {
        return NULL;
    }
    r = request_new(h2, call);
    id = r ? submit(h2, c, call) : NGHTTP2_ERR_NOMEM;
    if (id < 0) {
        error_set(err, ERROR_INTERNAL, "a request to %s cannot be made: %s", h2->http->base,
                  nghttp2_strerror(id));
        if (r) {
            request_free(r);
        }
        return NULL;
    }
    begin(r, c, id);
    return r;
}
