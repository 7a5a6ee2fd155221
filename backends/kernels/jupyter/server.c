#include "backends/kernels/jupyter/server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CALL_MS = 30 * 1000,
    PROBE_MS = 10 * 1000,
    HEADERS_CAP = 64,
    BODY_CAP = 4 * 1024 * 1024,
    QUOTE_SIZE = 200,
    SECRET_MIN = 4, /* what is shorter is none */
};

/* ---- making ---- */

static void free_texts(char **texts)
{
    for (char **text = texts; text && *text; text++) {
        free(*text);
    }
    free((void *)texts);
}

static void server_free(struct jupyter_server *server)
{
    json_decref(server->specs);
    free_texts(server->headers);
    free(server->url);
    free(server->unix_socket);
    free(server->ca_file);
    free(server);
}

static int copy_text(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return from && !*to ? -1 : 0;
}

static int copy_headers(struct jupyter_server *server, const struct jupyter_server_options *options)
{
    size_t count = 0;

    server->headers = calloc(HEADERS_CAP + 2, sizeof(char *));
    if (!server->headers) {
        return -1;
    }
    /* "token" and not "bearer": Kernel Gateway knows only this one. */
    if (options->token &&
        asprintf(&server->headers[count++], "Authorization: token %s", options->token) < 0) {
        return -1;
    }
    for (const char *const *header = options->headers; header && *header; header++) {
        if (count >= HEADERS_CAP || copy_text(&server->headers[count++], *header) < 0) {
            return -1;
        }
    }
    return 0;
}

static int copy_options(struct jupyter_server *server, const struct jupyter_server_options *options)
{
    size_t size;

    if (copy_text(&server->url, options->url) < 0 ||
        copy_text(&server->unix_socket, options->unix_socket) < 0 ||
        copy_text(&server->ca_file, options->ca_file) < 0 || copy_headers(server, options) < 0) {
        return -1;
    }
    size = server->url ? strlen(server->url) : 0;
    while (size > 0 && server->url[size - 1] == '/') {
        server->url[--size] = '\0';
    }
    server->insecure = options->insecure;
    server->on_kernel = options->on_kernel;
    server->data = options->data;
    return 0;
}

struct jupyter_server *
jupyter_server_new(uv_loop_t *loop, const struct jupyter_server_options *options, struct error *err)
{
    struct jupyter_server *server = calloc(1, sizeof(*server));

    if (!server || copy_options(server, options) < 0) {
        if (server) {
            server_free(server);
        }
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    server->loop = loop;
    server->http = http_new(loop,
                            &(struct http_options){
                                .base = server->url,
                                .unix_socket = server->unix_socket,
                                .ca_file = server->ca_file,
                                .insecure = server->insecure,
                                .use_proxy = !server->unix_socket,
                                .headers = (const char *const *)server->headers,
                                .quick_ack = true,
                            },
                            err);
    if (!server->http) {
        server_free(server);
        return NULL;
    }
    return server;
}

static void on_http_closed(void *data)
{
    struct jupyter_server *server = data;
    void (*closed)(void *data) = server->closed;
    void *closed_data = server->closed_data;

    server_free(server);
    closed(closed_data);
}

void jupyter_server_close(struct jupyter_server *server, void (*closed)(void *data), void *data)
{
    server->closed = closed;
    server->closed_data = data;
    http_close(server->http, on_http_closed, server);
}

/* ---- one call ---- */

struct call {
    jupyter_answered answered;
    void *data;
    struct jupyter_server *server;
    char *what;       /* "POST /api/kernels" */
    struct error err; /* of a call that could not be started */
    uv_timer_t soon;
};

static void call_free(struct call *call)
{
    error_clear(&call->err);
    free(call->what);
    free(call);
}

/* Does it tell one of our secrets: the token, or what else is in a header? */
static bool tells_secret(const struct jupyter_server *server, const char *text)
{
    for (char **header = server->headers; header && *header; header++) {
        const char *value = strrchr(*header, ' ');
        if (value && strlen(value) > SECRET_MIN && strstr(text, value + 1)) {
            return true;
        }
    }
    return false;
}

/* What the server itself says about its refusal, for a person: nothing that a terminal would obey,
 * nothing that is secret. */
static void quote_refusal(const struct jupyter_server *server, const struct http_reply *reply,
                          json_t *body, char quote[QUOTE_SIZE])
{
    const char *text = json_string_value(json_object_get(body, "message"));

    if (!text || !*text) {
        text = json_string_value(json_object_get(body, "reason"));
    }
    if (!text && reply->size < QUOTE_SIZE && !strchr(reply->body, '<')) {
        text = reply->body;
    }
    if (!text || tells_secret(server, text)) {
        text = "";
    }
    (void)snprintf(quote, QUOTE_SIZE, "%s%.180s", *text ? ": " : "", text);
    for (char *p = quote; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            *p = ' ';
        }
    }
}

static void refused(const struct call *call, const struct http_reply *reply, json_t *body,
                    struct error *err)
{
    char quote[QUOTE_SIZE];

    quote_refusal(call->server, reply, body, quote);
    if (reply->status == 401 || reply->status == 403) {
        (void)error_set(err, ERROR_REFUSED,
                        "the Jupyter server at %s did not let us in (HTTP %ld to %s%s): give its "
                        "token (\"token\", or ?token= in \"url\"), or the headers that it wants",
                        call->server->url, reply->status, call->what, quote);
        return;
    }
    (void)error_set(err, reply->status == 404 ? ERROR_NOT_FOUND : ERROR_LOST,
                    "the Jupyter server at %s answered HTTP %ld to %s%s", call->server->url,
                    reply->status, call->what, quote);
}

static void on_answer(void *data, const struct http_reply *reply, const struct error *failure)
{
    struct call *call = data;
    struct error err = {0};
    json_t *body = NULL;
    long status = failure ? 0 : reply->status;

    if (failure) {
        error_copy(&err, failure);
        (void)error_wrap(&err, "the Jupyter server at %s could not be asked (%s)",
                         call->server->url, call->what);
    } else {
        body = reply->size > 0 ? json_loadb(reply->body, reply->size, JSON_ALLOW_NUL, NULL) : NULL;
        if (status < 200 || status > 299) {
            refused(call, reply, body, &err);
        }
    }
    call->answered(call->data, status, body, err.kind == ERROR_NONE ? NULL : &err);
    json_decref(body);
    error_clear(&err);
    call_free(call);
}

static void on_soon_closed(uv_handle_t *handle)
{
    call_free(handle->data);
}

static void on_soon(uv_timer_t *timer)
{
    struct call *call = timer->data;

    call->answered(call->data, 0, call->server->specs,
                   call->err.kind == ERROR_NONE ? NULL : &call->err);
    uv_close((uv_handle_t *)timer, on_soon_closed);
}

/* The answer is known already, but comes from the loop like every other. */
static void answer_soon(struct call *call)
{
    uv_timer_init(call->server->loop, &call->soon);
    call->soon.data = call;
    uv_timer_start(&call->soon, on_soon, 0, 0);
}

static struct call *call_new(struct jupyter_server *server, const char *method, const char *path,
                             jupyter_answered answered, void *data)
{
    struct call *call = calloc(1, sizeof(*call));

    if (!call || asprintf(&call->what, "%s %s", method, path) < 0) {
        abort(); /* so few bytes, and nobody could be told */
    }
    call->answered = answered;
    call->data = data;
    call->server = server;
    return call;
}

void jupyter_server_call(struct jupyter_server *server, const char *method, const char *path,
                         json_t *body, unsigned timeout_ms, jupyter_answered answered, void *data)
{
    struct call *call = call_new(server, method, path, answered, data);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct http_call http = {
        .method = method,
        .path = path,
        .body = text,
        .body_size = text ? strlen(text) : 0,
        .body_cap = BODY_CAP,
        .timeout_ms = timeout_ms ? timeout_ms : CALL_MS,
        .done = on_answer,
        .data = call,
    };

    if (!http_start(server->http, &http, &call->err)) {
        answer_soon(call);
    }
    free(text);
}

/* ---- what is asked ---- */

struct probe {
    void (*done)(void *data, const struct error *err);
    void *data;
    struct jupyter_server *server;
};

static int check_specs(const struct jupyter_server *server, json_t *body, struct error *err)
{
    if (json_is_object(json_object_get(body, "kernelspecs"))) {
        return 0;
    }
    return error_set(err, ERROR_INVALID,
                     "what answers at %s is no Jupyter server: its /api/kernelspecs holds none",
                     server->url);
}

static void on_probed(void *data, long status, json_t *body, const struct error *failure)
{
    struct probe *probe = data;
    struct error err = {0};

    (void)status;
    if (!failure && check_specs(probe->server, body, &err) < 0) {
        failure = &err;
    }
    probe->done(probe->data, failure);
    error_clear(&err);
    free(probe);
}

void jupyter_server_probe(struct jupyter_server *server,
                          void (*done)(void *data, const struct error *err), void *data)
{
    struct probe *probe = calloc(1, sizeof(*probe));

    if (!probe) {
        abort();
    }
    *probe = (struct probe){done, data, server};
    jupyter_server_call(server, "GET", "/api/kernelspecs", NULL, PROBE_MS, on_probed, probe);
}

struct asking {
    jupyter_answered answered;
    void *data;
    struct jupyter_server *server;
};

static void on_specs(void *data, long status, json_t *body, const struct error *failure)
{
    struct asking *asking = data;
    struct error err = {0};

    if (!failure && check_specs(asking->server, body, &err) < 0) {
        failure = &err;
    }
    if (!failure && !asking->server->specs) {
        asking->server->specs = json_incref(body);
    }
    asking->answered(asking->data, status, asking->server->specs, failure);
    error_clear(&err);
    free(asking);
}

void jupyter_server_specs(struct jupyter_server *server, jupyter_answered answered, void *data)
{
    struct asking *asking;

    if (server->specs) {
        answer_soon(call_new(server, "GET", "/api/kernelspecs", answered, data));
        return;
    }
    asking = calloc(1, sizeof(*asking));
    if (!asking) {
        abort();
    }
    *asking = (struct asking){answered, data, server};
    jupyter_server_call(server, "GET", "/api/kernelspecs", NULL, 0, on_specs, asking);
}

static char *spec_names(json_t *specs)
{
    const char *name;
    json_t *spec;
    size_t size = 0;
    char *text = NULL;
    FILE *out = open_memstream(&text, &size);
    unsigned count = 0;

    if (!out) {
        return NULL;
    }
    json_object_foreach(specs, name, spec)
    {
        (void)fprintf(out, "%s%.60s", count++ ? ", " : "", name);
        if (count >= 40) {
            break;
        }
    }
    return fclose(out) == 0 ? text : NULL;
}

const char *jupyter_server_spec(const struct jupyter_server *server, const char *name,
                                const char **ret_language, struct error *err)
{
    json_t *specs = json_object_get(server->specs, "kernelspecs");
    const char *wanted = name ? name : json_string_value(json_object_get(server->specs, "default"));
    json_t *spec = wanted ? json_object_get(specs, wanted) : NULL;
    const char *language =
        json_string_value(json_object_get(json_object_get(spec, "spec"), "language"));
    char *names;

    if (spec) {
        *ret_language = language ? language : "";
        return wanted;
    }
    names = spec_names(specs);
    (void)error_set(err, ERROR_UNSUPPORTED,
                    "language: the Jupyter server at %s has no kernel \"%.60s\"; it runs python, "
                    "shell, and by the names of its kernels: %s",
                    server->url, wanted ? wanted : "(default)", names ? names : "none");
    free(names);
    return NULL;
}

char *jupyter_server_channels_url(const struct jupyter_server *server, const char *kernel,
                                  const char *session)
{
    bool tls = strncmp(server->url, "https:", 6) == 0;
    const char *rest = strstr(server->url, "://");
    char *escaped = http_escape(kernel);
    char *url = NULL;

    if (!rest || !escaped ||
        asprintf(&url, "%s%s/api/kernels/%s/channels?session_id=%s", tls ? "wss" : "ws", rest,
                 escaped, session) < 0) {
        url = NULL;
    }
    free(escaped);
    return url;
}
