#include "backends/base/net/http_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
    CONNECT_MS = 10000,
    ANSWER_MS = 60000,
    READ_SIZE = 128 * 1024,
};

/* --- checks ------------------------------------------------------------------------------- */

static bool is_plain(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text <= ' ' || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

int http_check_target(const char *method, const char *path, struct error *err)
{
    if (!method || !*method || strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(method)) {
        return error_set(err, ERROR_INVALID, "an HTTP method is a word of capital letters");
    }
    if (!path || path[0] != '/' || !is_plain(path) || strchr(path, '#')) {
        return error_set(err, ERROR_INVALID,
                         "a request's path begins with \"/\" and has its spaces, control "
                         "characters and \"#\" percent-encoded");
    }
    return 0;
}

int http_check_header(const char *header, struct error *err)
{
    const char *colon = strchr(header, ':');
    size_t name = colon ? (size_t)(colon - header) : strlen(header);

    if (!colon || name == 0 || strcspn(header, " \t") < name || strpbrk(header, "\r\n")) {
        return error_set(err, ERROR_INVALID,
                         "the header \"%.*s\" is not of the form \"Name: value\" on one line",
                         (int)strcspn(header, ":\r\n"), header);
    }
    return 0;
}

/* --- the server --------------------------------------------------------------------------- */

/* A part of a URL as a string of ours; NULL when it has none, -ENOMEM when there is no memory. */
static int url_part(CURLU *url, CURLUPart part, char **ret)
{
    char *text = NULL, *copy = NULL;
    CURLUcode code = curl_url_get(url, part, &text, 0);

    if (code == CURLUE_OUT_OF_MEMORY) {
        return -ENOMEM;
    }
    if (code == CURLUE_OK) {
        copy = strdup(text);
        curl_free(text);
        if (!copy) {
            return -ENOMEM;
        }
    }
    *ret = copy;
    return 0;
}

static bool url_has(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    bool has = curl_url_get(url, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return has;
}

static void cut_slashes(char *text)
{
    size_t size = strlen(text);
    while (size > 0 && text[size - 1] == '/') {
        text[--size] = '\0';
    }
}

/* host, peer and prefix of a URL that has been read. */
static int name_parts(struct http *http, CURLU *url)
{
    char *scheme = NULL, *host = NULL, *port = NULL;
    int r = -ENOMEM;

    if (url_part(url, CURLUPART_SCHEME, &scheme) < 0 || url_part(url, CURLUPART_HOST, &host) < 0 ||
        url_part(url, CURLUPART_PORT, &port) < 0 ||
        url_part(url, CURLUPART_PATH, &http->prefix) < 0 || !scheme || !host || !http->prefix) {
        goto out;
    }
    http->tls = strcmp(scheme, "https") == 0;
    cut_slashes(http->prefix);
    if (asprintf(&http->host, port ? "%s:%s" : "%s", host, port) < 0) {
        http->host = NULL;
        goto out;
    }
    http->peer = strdup(http->unix_socket ? http->unix_socket : http->host);
    r = http->peer ? 0 : -ENOMEM;
out:
    free(scheme);
    free(host);
    free(port);
    return r;
}

/* The text is not quoted in errors: a password or token may be in it. */
static int read_base(struct http *http, const char *base, struct error *err)
{
    CURLU *url = curl_url();
    int r;

    if (!url) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    if (!base || curl_url_set(url, CURLUPART_URL, base, 0) != CURLUE_OK ||
        (strncasecmp(base, "http://", 7) != 0 && strncasecmp(base, "https://", 8) != 0)) {
        r = error_set(err, ERROR_INVALID,
                      "the server's address is no URL of the form http://HOST[:PORT][/PREFIX] "
                      "or https://…");
    } else if (url_has(url, CURLUPART_QUERY) || url_has(url, CURLUPART_FRAGMENT)) {
        r = error_set(err, ERROR_INVALID,
                      "the server's address has a query (\"?…\") or a fragment (\"#…\"); give the "
                      "address without it, and a token by its own setting");
    } else if (url_has(url, CURLUPART_USER) || url_has(url, CURLUPART_PASSWORD)) {
        r = error_set(err, ERROR_INVALID,
                      "the server's address has a user or password in it; give them as an "
                      "Authorization header");
    } else if (name_parts(http, url) < 0 || !(http->base = strdup(base))) {
        r = error_set(err, ERROR_INTERNAL, "out of memory");
    } else {
        cut_slashes(http->base);
        r = 0;
    }
    curl_url_cleanup(url);
    return r;
}

static int copy_text(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return from && !*to ? -ENOMEM : 0;
}

static int copy_headers(struct http *http, const char *const *headers, struct error *err)
{
    size_t n = 0;
    while (headers && headers[n]) {
        n++;
    }
    http->headers = calloc(n + 1, sizeof(*http->headers));
    if (!http->headers) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        if (http_check_header(headers[i], err) < 0) {
            return -1;
        }
        if (copy_text(&http->headers[i], headers[i]) < 0) {
            return error_set(err, ERROR_INTERNAL, "out of memory");
        }
    }
    return 0;
}

static int copy_options(struct http *http, const struct http_options *o, struct error *err)
{
    http->insecure = o->insecure;
    http->use_proxy = o->use_proxy && !o->unix_socket;
    http->connect_timeout_ms = o->connect_timeout_ms ? o->connect_timeout_ms : CONNECT_MS;
    http->answer_timeout_ms = o->answer_timeout_ms ? o->answer_timeout_ms : ANSWER_MS;
    if (o->unix_socket && strlen(o->unix_socket) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return error_set(err, ERROR_INVALID,
                         "the socket's path %s is longer than the %zu bytes that the system allows",
                         o->unix_socket, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    }
    if (copy_text(&http->unix_socket, o->unix_socket) < 0 ||
        copy_text(&http->ca_file, o->ca_file) < 0 ||
        copy_text(&http->cert_file, o->cert_file) < 0 ||
        copy_text(&http->key_file, o->key_file) < 0) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    return copy_headers(http, o->headers, err);
}

static void http_free(struct http *http)
{
    for (size_t i = 0; http->headers && http->headers[i]; i++) {
        explicit_bzero(http->headers[i], strlen(http->headers[i]));
        free(http->headers[i]);
    }
    free(http->headers);
    free(http->base);
    free(http->host);
    free(http->prefix);
    free(http->peer);
    free(http->unix_socket);
    free(http->ca_file);
    free(http->cert_file);
    free(http->key_file);
    free(http);
    curl_global_cleanup(); /* counted by libcurl */
}

struct http *http_new(uv_loop_t *loop, const struct http_options *options, struct error *err)
{
    struct http *http = calloc(1, sizeof(*http));

    if (!http || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(http);
        error_set(err, ERROR_INTERNAL, "libcurl cannot start");
        return NULL;
    }
    if (copy_options(http, options, err) < 0 || read_base(http, options->base, err) < 0) {
        http_free(http);
        return NULL;
    }
    http_multi_init(&http->multi, loop, options->quick_ack && !options->unix_socket,
                    http_request_finished, http);
    uv_timer_init(loop, &http->work);
    http->work.data = http;
    http->users = 2; /* multi and work */
    return http;
}

/* --- what every transfer has -------------------------------------------------------------- */

/* libcurl's own sockets would be inherited by every program that is started meanwhile. */
static curl_socket_t on_open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)data;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static CURLcode set_reach(const struct http *http, CURL *easy)
{
    CURLcode c = CURLE_OK;
    if (http->unix_socket) {
        c = curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, http->unix_socket);
    }
    if (c == CURLE_OK && !http->use_proxy) {
        c = curl_easy_setopt(easy, CURLOPT_PROXY, "");
    }
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)http->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* A lookup that is given up is left to its thread: to wait for it would hold the loop up. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    return c;
}

static CURLcode set_tls(const struct http *http, CURL *easy)
{
    CURLcode c = CURLE_OK;
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, http->insecure ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, http->insecure ? 0L : 2L);
    if (http->ca_file) {
        c = curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca_file);
        /* Else the system's authorities would count beside it. */
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    if (c == CURLE_OK && http->cert_file) {
        c = curl_easy_setopt(easy, CURLOPT_SSLCERT, http->cert_file);
    }
    if (c == CURLE_OK && http->key_file) {
        c = curl_easy_setopt(easy, CURLOPT_SSLKEY, http->key_file);
    }
    return c;
}

int http_set_up(const struct http *http, CURL *easy, char *error_text)
{
    CURLcode c = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");

    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_text);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)READ_SIZE);
    if (c == CURLE_OK) {
        c = set_reach(http, easy);
    }
    if (c == CURLE_OK) {
        c = set_tls(http, easy);
    }
    return c == CURLE_OK ? 0 : -ENOMEM;
}

char *http_tried(const struct http *http, const char *method, const char *path)
{
    char *text = NULL;
    int r = http->unix_socket
                ? asprintf(&text, "%s %s%.*s through %s", method, http->base,
                           (int)strcspn(path, "?"), path, http->unix_socket)
                : asprintf(&text, "%s %s%.*s", method, http->base, (int)strcspn(path, "?"), path);
    return r < 0 ? NULL : text;
}

/* --- work and closing --------------------------------------------------------------------- */

void http_release(struct http *http)
{
    if (--http->users == 0) {
        void (*closed)(void *data) = http->closed;
        void *data = http->closed_data;
        http_free(http);
        if (closed) {
            closed(data);
        }
    }
}

static void multi_closed(void *data)
{
    http_release(data);
}

static void work_closed(uv_handle_t *handle)
{
    http_release(handle->data);
}

static void on_work(uv_timer_t *timer)
{
    struct http *http = timer->data;

    while (http_request_work(http)) {
    }
    if (http->closing && !http->torn_down) {
        while (http_stream_abandon_one(http)) {
        }
        if (!http->requests) {
            http->torn_down = true;
            http_multi_close(&http->multi, multi_closed);
            uv_close((uv_handle_t *)&http->work, work_closed);
        }
    }
}

void http_schedule(struct http *http)
{
    if (!http->torn_down) {
        uv_timer_start(&http->work, on_work, 0, 0);
    }
}

void http_close(struct http *http, void (*closed)(void *data), void *data)
{
    http->closing = true;
    http->closed = closed;
    http->closed_data = data;
    for (struct http_request *r = http->requests; r; r = http_request_next(r)) {
        http_cancel(r);
    }
    http_schedule(http);
}

char *http_escape(const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    char *out = malloc(strlen(text) * 3 + 1), *p = out;

    if (!out) {
        return NULL;
    }
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c < 0x80 && isalnum(c)) || strchr("-._~", c)) {
            *p++ = (char)c;
        } else {
            *p++ = '%';
            *p++ = digits[c >> 4];
            *p++ = digits[c & 15];
        }
    }
    *p = '\0';
    return out;
}
