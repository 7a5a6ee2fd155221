#include "backends/base/net/http_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IDLE_MS = 60000 };

struct http_request {
    struct http *http;
    struct http_request *next, *prev;
    CURL *easy;
    struct curl_slist *headers;
    char *tried;
    char text[CURL_ERROR_SIZE];

    ptrdiff_t (*read_body)(void *data, char *space, size_t size);
    void (*on_head)(void *data, long status, const char *content_type);
    void (*on_body)(void *data, const char *bytes, size_t size);
    void (*done)(void *data, const struct http_reply *reply, const struct error *err);
    void *data;
    unsigned idle_ms;

    struct buffer body;
    uint64_t streamed, body_cap; /* what on_body got, the most that it gets (0: no end) */
    size_t head_size;
    long status;
    bool head_done;

    bool added;       /* to the multi handle; else it waits until libcurl may be called */
    bool cancelled;   /* `done` is to say so */
    bool paused;      /* its taker does not want more */
    bool read_held;   /* libcurl was told so */
    bool write_held;  /* read_body had nothing */
    bool wake;        /* one of the two is to go on */
    struct error err; /* found in a callback: says more than libcurl's code */

    uv_timer_t idle;
    uint64_t moved; /* loop time of the newest byte */
    bool doubted;   /* the idle time is over, but for one more turn of the loop */
    uint64_t sum;   /* of the bytes of both bodies then */
    bool ended;     /* `done` was called, or is being called */
};

struct http_request *http_request_next(const struct http_request *request)
{
    return request->next;
}

/* --- what comes and goes ------------------------------------------------------------------ */

static void note_move(struct http_request *r)
{
    r->moved = uv_now(r->http->multi.loop);
    r->doubted = false;
}

static const char *content_type_of(const struct http_request *r)
{
    char *type = NULL;
    curl_easy_getinfo(r->easy, CURLINFO_CONTENT_TYPE, &type);
    return type ? type : "";
}

static const char *etag_of(const struct http_request *r)
{
    struct curl_header *header = NULL;
    return curl_easy_header(r->easy, "ETag", 0, CURLH_HEADER, -1, &header) == CURLHE_OK
               ? header->value
               : "";
}

/* The empty line after a head. Heads of 1xx come before the one that counts. */
static int head_ended(struct http_request *r)
{
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->status);
    if (r->status == 101) {
        return error_set(&r->err, ERROR_LOST,
                         "%s: the server changed to another protocol (101) unasked", r->tried);
    }
    if (r->status < 200) {
        return 0;
    }
    r->head_done = true;
    if (r->on_head) {
        r->on_head(r->data, r->status, content_type_of(r));
    }
    return 0;
}

static size_t on_header(char *bytes, size_t one, size_t size, void *data)
{
    struct http_request *r = data;
    (void)one;

    note_move(r);
    r->head_size += size;
    if (r->cancelled) {
        return 0;
    }
    if (r->head_size > HTTP_HEAD_CAP) {
        error_set(&r->err, ERROR_LIMIT, "%s: the head of the answer is longer than %d KiB",
                  r->tried, HTTP_HEAD_CAP / 1024);
        return 0;
    }
    bool empty = (size == 2 && memcmp(bytes, "\r\n", 2) == 0) || (size == 1 && *bytes == '\n');
    /* After a chunked body more header lines may come, and another empty one. */
    if (empty && !r->head_done && head_ended(r) < 0) {
        return 0;
    }
    return size;
}

static int too_long(struct http_request *r, uint64_t cap)
{
    return error_set(&r->err, ERROR_LIMIT, "%s: the answer is longer than %llu bytes", r->tried,
                     (unsigned long long)cap);
}

static int keep(struct http_request *r, const char *bytes, size_t size)
{
    int e = buffer_append(&r->body, bytes, size);
    if (e == -ENOBUFS) {
        return too_long(r, r->body.cap - 1);
    }
    if (e == 0 && buffer_size(&r->body) == r->body.cap) {
        return too_long(r, r->body.cap - 1); /* the last one is for the NUL */
    }
    return e < 0 ? error_set(&r->err, ERROR_INTERNAL, "%s: out of memory", r->tried) : 0;
}

static size_t on_write(char *bytes, size_t one, size_t size, void *data)
{
    struct http_request *r = data;
    (void)one;

    note_move(r);
    if (r->cancelled) {
        return 0;
    }
    if (r->paused) {
        r->read_held = true;
        return CURL_WRITEFUNC_PAUSE; /* libcurl gives the same bytes again */
    }
    if (!r->on_body || r->status / 100 != 2) {
        return keep(r, bytes, size) < 0 ? 0 : size;
    }
    r->streamed += size;
    if (r->body_cap && r->streamed > r->body_cap) {
        too_long(r, r->body_cap);
        return 0;
    }
    r->on_body(r->data, bytes, size);
    return size;
}

static size_t on_read(char *space, size_t one, size_t size, void *data)
{
    struct http_request *r = data;
    ptrdiff_t n;
    (void)one;

    if (r->cancelled) {
        return CURL_READFUNC_ABORT;
    }
    note_move(r);
    n = r->read_body(r->data, space, size);
    if (n == -EAGAIN) {
        r->write_held = true;
        return CURL_READFUNC_PAUSE;
    }
    if (n < 0 || (size_t)n > size) {
        error_set_code(&r->err, ERROR_INTERNAL, n < 0 ? (int)n : -EOVERFLOW,
                       "%s: the request's body cannot be read on", r->tried);
        return CURL_READFUNC_ABORT;
    }
    return (size_t)n;
}

/* libcurl calls this often, also while a body from memory goes out. */
static int on_progress(void *data, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
    struct http_request *r = data;
    uint64_t sum = (uint64_t)down + (uint64_t)up;
    (void)down_total;
    (void)up_total;
    if (sum != r->sum) {
        r->sum = sum;
        note_move(r);
    }
    return r->cancelled;
}

/* --- the end ------------------------------------------------------------------------------ */

static void idle_closed(uv_handle_t *handle)
{
    struct http_request *r = handle->data;
    struct http *http = r->http;

    curl_slist_free_all(r->headers);
    buffer_deinit(&r->body);
    error_clear(&r->err);
    free(r->tried);
    free(r);
    http_release(http);
}

static void unlink_request(struct http_request *r)
{
    struct http *http = r->http;
    *(r->prev ? &r->prev->next : &http->requests) = r->next;
    *(r->next ? &r->next->prev : &http->last_request) = r->prev;
}

static void tell_failure(struct http_request *r, CURLcode code)
{
    struct http_failure failure = {
        .easy = r->easy,
        .code = code,
        .tried = r->tried,
        .peer = r->http->peer,
        .text = r->text,
        .no_cert = r->http->tls && !r->http->cert_file,
    };
    if (r->err.kind == ERROR_NONE && code == CURLE_OUT_OF_MEMORY && !r->head_done) {
        /* How libcurl 7.88 says that one line is longer than it keeps (100 KiB). */
        error_set(&r->err, ERROR_LIMIT, "%s: a line in the head of the answer is too long",
                  r->tried);
    } else if (r->err.kind == ERROR_NONE) {
        http_failure_tell(&failure, &r->err);
    }
}

/* Calls `done`; the request is freed by the loop. Not from inside libcurl. */
static void finish(struct http_request *r, CURLcode code)
{
    struct http_reply reply = {.content_type = "", .etag = "", .body = ""};

    if (r->cancelled) {
        error_set(&r->err, ERROR_LOST, "%s: cancelled", r->tried);
    } else if (code != CURLE_OK || r->err.kind != ERROR_NONE) {
        tell_failure(r, code);
    } else if (!r->head_done) {
        error_set(&r->err, ERROR_LOST,
                  "%s: the connection was cut in the middle of the answer's head", r->tried);
    } else if (buffer_append(&r->body, "", 1) < 0) {
        error_set(&r->err, ERROR_INTERNAL, "%s: out of memory", r->tried);
    }
    if (r->err.kind == ERROR_NONE) {
        reply.status = r->status;
        reply.content_type = content_type_of(r);
        reply.etag = etag_of(r);
        reply.body = buffer_data(&r->body);
        reply.size = buffer_size(&r->body) - 1;
    }
    if (r->added) {
        curl_multi_remove_handle(r->http->multi.curl, r->easy);
    }
    unlink_request(r);
    uv_timer_stop(&r->idle);
    r->ended = true;
    r->done(r->data, &reply, r->err.kind == ERROR_NONE ? NULL : &r->err);
    curl_easy_cleanup(r->easy);
    uv_close((uv_handle_t *)&r->idle, idle_closed);
}

void http_request_finished(void *data, CURL *easy, CURLcode code)
{
    char *request = NULL;
    (void)data;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &request);
    finish((struct http_request *)(void *)request, code);
}

static void on_idle(uv_timer_t *timer)
{
    struct http_request *r = timer->data;
    uint64_t quiet = uv_now(timer->loop) - r->moved;
    curl_off_t connected = 0;

    curl_easy_getinfo(r->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
    /* Until it is connected another limit holds, and what we hold back is not the server's doing.
     */
    if (!connected || r->paused || r->read_held || r->write_held) {
        r->moved = uv_now(timer->loop);
        quiet = 0;
    }
    if (quiet < r->idle_ms) {
        uv_timer_start(timer, on_idle, r->idle_ms - quiet, 0);
        return;
    }
    if (!r->doubted) {
        /* The loop runs its timers before it looks at the sockets: where it was held up, what came
         * meanwhile is not read yet. */
        r->doubted = true;
        uv_timer_start(timer, on_idle, 1, 0);
        return;
    }
    error_set(&r->err, ERROR_TIMEOUT,
              "%s: nothing came or went for %u ms; the server hangs or the "
              "network is cut",
              r->tried, r->idle_ms);
    finish(r, CURLE_OPERATION_TIMEDOUT);
}

/* --- what was noted ----------------------------------------------------------------------- */

static void add(struct http_request *r)
{
    struct http_multi *multi = &r->http->multi;
    r->added = true;
    if (http_multi_open(multi) < 0 || curl_multi_add_handle(multi->curl, r->easy) != CURLM_OK) {
        r->added = false;
        finish(r, CURLE_FAILED_INIT);
    }
}

/* Tells libcurl what goes on. It may call on_write from inside. */
static void go_on(struct http_request *r)
{
    struct http_multi *multi = &r->http->multi;
    CURLcode code;

    r->wake = false;
    if (!r->paused) {
        r->read_held = false;
    }
    r->write_held = false;
    note_move(r);
    code = curl_easy_pause(r->easy, r->read_held ? CURLPAUSE_RECV : CURLPAUSE_CONT);
    if (code != CURLE_OK) {
        finish(r, code);
    }
    http_multi_drain(multi);
}

bool http_request_work(struct http *http)
{
    for (struct http_request *r = http->requests; r; r = r->next) {
        if (r->cancelled || !r->added) {
            if (r->cancelled) {
                finish(r, CURLE_ABORTED_BY_CALLBACK);
            } else {
                add(r);
            }
            return true; /* the list may be another one now */
        }
        if (r->wake) {
            go_on(r);
            return true;
        }
    }
    return false;
}

void http_cancel(struct http_request *request)
{
    if (!request->ended) {
        request->cancelled = true;
        http_schedule(request->http);
    }
}

void http_request_pause(struct http_request *request, bool paused)
{
    request->paused = paused;
    note_move(request);
    if (!paused && request->read_held && !request->ended) {
        request->wake = true;
        http_schedule(request->http);
    }
}

void http_request_resume(struct http_request *request)
{
    if (!request->ended) {
        request->wake = true;
        http_schedule(request->http);
    }
}

/* --- the start ---------------------------------------------------------------------------- */

static int add_header(struct http_request *r, const char *header)
{
    struct curl_slist *list = curl_slist_append(r->headers, header);
    if (!list) {
        return -ENOMEM;
    }
    r->headers = list;
    return 0;
}

static int add_headers(struct http_request *r, const char *const *headers)
{
    for (size_t i = 0; headers && headers[i]; i++) {
        if (add_header(r, headers[i]) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

static int set_headers(struct http_request *r, const struct http_call *call)
{
    if (add_headers(r, (const char *const *)r->http->headers) < 0 ||
        add_headers(r, call->headers) < 0 || add_header(r, "Expect:") < 0) {
        return -ENOMEM;
    }
    if (call->body || call->read_body) {
        const char *type = call->content_type ? call->content_type : "application/json";
        char *line = NULL;
        int e;
        if (asprintf(&line, *type ? "Content-Type: %s" : "Content-Type:%s", type) < 0) {
            return -ENOMEM;
        }
        e = add_header(r, line);
        free(line);
        return e;
    }
    return add_header(r, "Content-Type:"); /* libcurl would make one up for an empty POST */
}

static bool wants_body(const char *method)
{
    return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
           strcmp(method, "PATCH") == 0;
}

static CURLcode set_body(struct http_request *r, const struct http_call *call)
{
    if (call->read_body) {
        /* Such a body cannot be sent a second time, so no connection that may have gone stale. */
        curl_easy_setopt(r->easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(r->easy, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(r->easy, CURLOPT_READDATA, r);
        curl_easy_setopt(r->easy, CURLOPT_UPLOAD, 1L);
        return curl_easy_setopt(r->easy, CURLOPT_INFILESIZE_LARGE,
                                call->read_size ? (curl_off_t)call->read_size : (curl_off_t)-1);
    }
    if (call->body || wants_body(call->method)) {
        curl_easy_setopt(r->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body_size);
        return curl_easy_setopt(r->easy, CURLOPT_COPYPOSTFIELDS, call->body ? call->body : "");
    }
    if (strcmp(call->method, "HEAD") == 0) {
        return curl_easy_setopt(r->easy, CURLOPT_NOBODY, 1L);
    }
    return CURLE_OK;
}

static int set_url(struct http_request *r, const struct http_call *call)
{
    char *url = NULL;
    CURLcode c;
    if (asprintf(&url, "%s%s", r->http->base, call->path) < 0) {
        return -ENOMEM;
    }
    c = curl_easy_setopt(r->easy, CURLOPT_URL, url);
    free(url);
    return c == CURLE_OK ? 0 : -ENOMEM;
}

static int set_easy(struct http_request *r, const struct http_call *call)
{
    if (http_set_up(r->http, r->easy, r->text) < 0 || set_url(r, call) < 0 ||
        set_headers(r, call) < 0 || set_body(r, call) != CURLE_OK ||
        curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, call->method) != CURLE_OK) {
        return -ENOMEM;
    }
    curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
    curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
    curl_easy_setopt(r->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(r->easy, CURLOPT_HEADERDATA, r);
    curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(r->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(r->easy, CURLOPT_XFERINFODATA, r);
    curl_easy_setopt(r->easy, CURLOPT_NOPROGRESS, 0L);
    if (call->timeout_ms) {
        long most = call->timeout_ms > INT_MAX ? INT_MAX : (long)call->timeout_ms;
        curl_easy_setopt(r->easy, CURLOPT_TIMEOUT_MS, most);
    }
    return 0;
}

static void set_call(struct http_request *r, const struct http_call *call)
{
    size_t cap = call->body_cap && call->body_cap < SIZE_MAX ? call->body_cap : HTTP_BODY_CAP;
    r->read_body = call->read_body;
    r->on_head = call->on_head;
    r->on_body = call->on_body;
    r->done = call->done;
    r->data = call->data;
    r->idle_ms = call->idle_ms ? call->idle_ms : IDLE_MS;
    r->body_cap = call->body_cap;
    buffer_init(&r->body, cap + 1);
}

static int check_call(const struct http *http, const struct http_call *call, struct error *err)
{
    if (http->closing) {
        return error_set(err, ERROR_LOST, "the connection to %s is being closed", http->base);
    }
    if (http_check_target(call->method, call->path, err) < 0) {
        return -1;
    }
    for (size_t i = 0; call->headers && call->headers[i]; i++) {
        if (http_check_header(call->headers[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void link_request(struct http_request *r)
{
    struct http *http = r->http;
    r->prev = http->last_request;
    *(r->prev ? &r->prev->next : &http->requests) = r;
    http->last_request = r;
    http->users++;
}

static struct http_request *request_new(struct http *http, const struct http_call *call)
{
    struct http_request *r = calloc(1, sizeof(*r));
    if (!r) {
        return NULL;
    }
    r->http = http;
    set_call(r, call);
    r->tried = http_tried(http, call->method, call->path);
    r->easy = curl_easy_init();
    if (r->tried && r->easy && set_easy(r, call) == 0) {
        return r;
    }
    curl_easy_cleanup(r->easy);
    curl_slist_free_all(r->headers);
    free(r->tried);
    free(r);
    return NULL;
}

struct http_request *http_start(struct http *http, const struct http_call *call, struct error *err)
{
    struct http_request *r;

    if (check_call(http, call, err) < 0) {
        return NULL;
    }
    r = request_new(http, call);
    if (!r) {
        error_set(err, ERROR_INTERNAL, "out of memory for a request to %s", http->base);
        return NULL;
    }
    uv_timer_init(http->multi.loop, &r->idle);
    r->idle.data = r;
    note_move(r);
    if (r->idle_ms != UINT_MAX) {
        uv_timer_start(&r->idle, on_idle, r->idle_ms, 0);
    }
    link_request(r);
    /* Added by the loop's next turn: this may have been called from inside libcurl. */
    http_schedule(http);
    return r;
}
