#include "backends/base/net/http_internal.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void http_stream_free(struct http_stream *s)
{
    http_queue_clear(&s->queue);
    buffer_deinit(&s->in);
    free(s->tried);
    free(s->peer);
    free(s);
}

static int append_text(struct http_stream *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int append_text(struct http_stream *s, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    int n;

    va_start(args, format);
    n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0) {
        return -ENOMEM;
    }
    n = http_queue_append(&s->queue, text, (size_t)n);
    free(text);
    return n;
}

static int write_request(struct http_stream *s, const struct http *http, const char *method,
                         const char *path, const void *body, size_t body_size)
{
    int r = append_text(s,
                        "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: cellblock/%s\r\n"
                        "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %zu\r\n",
                        method, http->prefix, path, http->host, CELLBLOCK_VERSION, body_size);
    for (size_t i = 0; r == 0 && http->headers[i]; i++) {
        r = append_text(s, "%s\r\n", http->headers[i]);
    }
    if (r == 0) {
        r = append_text(s, "%s\r\n", body_size ? "Content-Type: application/json\r\n" : "");
    }
    if (r == 0 && body_size) {
        r = http_queue_append(&s->queue, body, body_size);
    }
    s->request_left = s->queue.size;
    s->queue.cap = HTTP_STREAM_QUEUE_CAP + s->request_left;
    return r;
}

static void on_tls_event(const SSL *ssl, int where, int code)
{
    struct http_stream *s = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const unsigned char *chosen = NULL;
    unsigned size = 0;
    (void)code;

    if (where & SSL_CB_HANDSHAKE_DONE) {
        SSL_get0_alpn_selected(ssl, &chosen, &size);
        s->agreed = size == s->protocol[0] && memcmp(chosen, s->protocol + 1, size) == 0;
    }
}

static CURLcode on_tls(CURL *easy, void *context, void *data)
{
    struct http_stream *s = data;
    (void)easy;
    SSL_CTX_set_app_data(context, s);
    SSL_CTX_set_info_callback(context, on_tls_event);
    return SSL_CTX_set_alpn_protos(context, s->protocol, s->protocol[0] + 1U) == 0
               ? CURLE_OK
               : CURLE_OUT_OF_MEMORY;
}

static int set_easy(struct http_stream *s, const struct http *http)
{
    CURLcode c;
    if (http_set_up(http, s->easy, s->text) < 0) {
        return -ENOMEM;
    }
    c = curl_easy_setopt(s->easy, CURLOPT_URL, http->base);
    curl_easy_setopt(s->easy, CURLOPT_CONNECT_ONLY, 1L);
    /* Through a proxy plain http needs a tunnel too. */
    curl_easy_setopt(s->easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
    if (s->tls && s->protocol[0] > 0) {
        /* libcurl would speak HTTP/2 itself, where it has asked for it. */
        curl_easy_setopt(s->easy, CURLOPT_SSL_ENABLE_ALPN, 0L);
        curl_easy_setopt(s->easy, CURLOPT_SSL_CTX_DATA, s);
        c = curl_easy_setopt(s->easy, CURLOPT_SSL_CTX_FUNCTION, on_tls);
    }
    return c == CURLE_OK ? 0 : -ENOMEM;
}

static void link_stream(struct http_stream *s, struct http *http)
{
    s->http = http;
    s->next = http->streams;
    if (s->next) {
        s->next->prev = s;
    }
    http->streams = s;
}

static void init_handles(struct http_stream *s)
{
    uv_timer_init(s->multi.loop, &s->limit);
    s->limit.data = s;
    uv_idle_init(s->multi.loop, &s->kick);
    s->kick.data = s;
    s->handles = 3; /* limit, kick, multi */
}

static struct http_stream *stream_new(const struct http *http, const char *method, const char *path)
{
    struct http_stream *s = calloc(1, sizeof(*s));
    if (!s) {
        return NULL;
    }
    s->answer_ms = http->answer_timeout_ms;
    s->tls = http->tls;
    s->no_cert = http->tls && !http->cert_file;
    s->quick_ack = http->multi.quick_ack;
    s->head.length = -1;
    s->queue.cap = SIZE_MAX; /* until the request is in */
    buffer_init(&s->in, HTTP_HEAD_CAP);
    s->tried = http_tried(http, method, path);
    s->peer = strdup(http->peer);
    if (!s->tried || !s->peer) {
        http_stream_free(s);
        return NULL;
    }
    return s;
}

/* The parts of libcurl's. With -1 nothing of them is left. */
static int stream_connect(struct http_stream *s, const struct http *http)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return -1;
    }
    s->easy = curl_easy_init();
    if (s->easy && set_easy(s, http) == 0 && http_multi_open(&s->multi) == 0) {
        http_multi_init(&s->multi, http->multi.loop, s->quick_ack, http_stream_connected, s);
        return 0;
    }
    curl_easy_cleanup(s->easy);
    curl_global_cleanup();
    return -1;
}

static struct http_stream *out_of_memory(const struct http *http, struct http_stream *s,
                                         struct error *err)
{
    error_set(err, ERROR_INTERNAL, "out of memory for a stream to %s", http->base);
    if (s) {
        http_stream_free(s);
    }
    return NULL;
}

static int is_closing(const struct http *http, struct error *err)
{
    return http->closing
               ? error_set(err, ERROR_LOST, "the connection to %s is being closed", http->base)
               : 0;
}

static void begin(struct http_stream *s, struct http *http, const struct http_stream_events *events,
                  void *data)
{
    s->events = *events;
    s->data = data;
    init_handles(s);
    link_stream(s, http);
    curl_multi_add_handle(s->multi.curl, s->easy);
}

struct http_stream *http_connect(struct http *http, const char *protocol,
                                 const struct http_stream_events *events, void *data,
                                 struct error *err)
{
    struct http_stream *s;

    if (is_closing(http, err) < 0) {
        return NULL;
    }
    s = stream_new(http, "connect to", "");
    if (s) {
        s->bare = true;
        s->queue.cap = HTTP_STREAM_QUEUE_CAP;
        s->protocol[0] = (unsigned char)strnlen(protocol, sizeof(s->protocol) - 1);
        memcpy(s->protocol + 1, protocol, s->protocol[0]);
    }
    if (!s || stream_connect(s, http) < 0) {
        return out_of_memory(http, s, err);
    }
    begin(s, http, events, data);
    return s;
}

struct http_stream *http_stream_open(struct http *http, const char *method, const char *path,
                                     const void *body, size_t body_size,
                                     const struct http_stream_events *events, void *data,
                                     struct error *err)
{
    struct http_stream *s;

    if (is_closing(http, err) < 0 || http_check_target(method, path, err) < 0) {
        return NULL;
    }
    s = stream_new(http, method, path);
    if (!s || write_request(s, http, method, path, body, body_size) < 0 ||
        stream_connect(s, http) < 0) {
        return out_of_memory(http, s, err);
    }
    begin(s, http, events, data);
    return s;
}
