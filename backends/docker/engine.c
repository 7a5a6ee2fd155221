#include "backends/docker/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/docker/waiters.h"

/* A call on its way, or one that could not be started and is told so soon. */
struct call {
    struct call *next; /* of those that failed at once */
    struct engine *engine;
    struct error failed;
    void (*done)(void *data, long status, json_t *reply, const struct error *err);
    void *data;
};

struct engine {
    uv_loop_t *loop;
    const struct environment *env;
    struct http *http;
    bool connecting;
    bool connected;
    struct engine_facts facts;
    char *advice; /* for when TLS fails; NULL: there is none to use */
    struct waiters waiters;
    struct call *failed;
    uv_idle_t soon;
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

void engine_plain(char *text)
{
    for (unsigned char *c = (unsigned char *)text; c && *c; c++) {
        if (*c < 0x20 || *c == 0x7f) {
            *c = ' ';
        } else if (*c > 0x7f) {
            *c = '?';
        }
    }
}

/* ---- life ---- */

struct engine *engine_new(uv_loop_t *loop, const struct environment *env)
{
    struct engine *e = calloc(1, sizeof(*e));

    if (!e) {
        return NULL;
    }
    e->loop = loop;
    e->env = env;
    uv_idle_init(loop, &e->soon);
    e->soon.data = e;
    return e;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct engine *e = handle->data;
    void (*closed)(void *data) = e->closed;
    void *data = e->closed_data;

    free(e->advice);
    free(e);
    closed(data);
}

static void tell_failed(struct engine *e)
{
    while (e->failed) {
        struct call *call = e->failed;
        e->failed = call->next;
        call->done(call->data, 0, NULL, &call->failed);
        error_clear(&call->failed);
        free(call);
    }
}

static void on_http_closed(void *data)
{
    static const struct error gone = {.kind = ERROR_LOST,
                                      .message = (char *)"the backend was closed"};
    struct engine *e = data;

    waiters_tell(&e->waiters, &gone);
    tell_failed(e);
    uv_close((uv_handle_t *)&e->soon, on_handle_closed);
}

void engine_close(struct engine *e, void (*closed)(void *data), void *data)
{
    e->closing = true;
    e->closed = closed;
    e->closed_data = data;
    uv_idle_stop(&e->soon);
    if (e->http) {
        http_close(e->http, on_http_closed, e);
    } else {
        on_http_closed(e);
    }
}

/* ---- connecting ---- */

static void start_soon(struct engine *e);
static void connect_now(struct engine *e);

static void on_soon(uv_idle_t *idle)
{
    struct engine *e = idle->data;

    uv_idle_stop(idle);
    tell_failed(e);
    if (e->waiters.first && !e->connecting) {
        connect_now(e);
    }
}

static void start_soon(struct engine *e)
{
    uv_idle_start(&e->soon, on_soon);
}

static void connect_failed(struct engine *e, const struct error *err)
{
    struct error copy = {0};

    e->connecting = false;
    error_copy(&copy, err);
    waiters_tell(&e->waiters, &copy);
    error_clear(&copy);
}

static bool is_podman(json_t *version)
{
    size_t index;
    json_t *component;

    json_array_foreach(json_object_get(version, "Components"), index, component)
    {
        const char *name = json_string_value(json_object_get(component, "Name"));
        if (name && strncmp(name, "Podman", strlen("Podman")) == 0) {
            return true;
        }
    }
    return false;
}

static int api_minor(json_t *version)
{
    const char *text = json_string_value(json_object_get(version, "ApiVersion"));
    char *end;
    long minor;

    if (!text || strncmp(text, "1.", 2) != 0) {
        return -1;
    }
    minor = strtol(text + 2, &end, 10);
    return *end == '\0' && minor > 0 && minor < 1000 ? (int)minor : -1;
}

static int take_facts(struct engine *e, json_t *version, const char *where, struct error *err)
{
    const char *its = json_string_value(json_object_get(version, "Version"));
    const char *os = json_string_value(json_object_get(version, "Os"));
    int minor = api_minor(version);

    if (!its || minor < 0) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "what answers at %s is no Docker or Podman engine (its /version has no "
                         "Version and ApiVersion)",
                         where);
    }
    if (minor < ENGINE_API_MINOR_LEAST) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "the engine at %s has API 1.%d; 1.%d or newer is needed (Docker 19.03, "
                         "Podman 3)",
                         where, minor, ENGINE_API_MINOR_LEAST);
    }
    if (os && strcmp(os, "linux") != 0) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "the engine at %s runs %.20s containers; Linux containers are needed",
                         where, os);
    }
    e->facts.podman = is_podman(version);
    e->facts.api_minor = minor < ENGINE_API_MINOR ? minor : ENGINE_API_MINOR;
    (void)snprintf(e->facts.version, sizeof(e->facts.version), "%s", its);
    return 0;
}

/* Is it about TLS? The alert with which one side leaves may be lost: then it just ended. */
static bool may_be_tls(const char *message)
{
    static const char *const words[] = {"TLS", "HTTPS", "certificate", "exchange broke",
                                        "closed the connection without"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strstr(message, words[i])) {
            return true;
        }
    }
    return false;
}

static void advise(const struct engine *e, struct error *why)
{
    char *text = may_be_tls(why->message) && e->advice
                     ? string_format("%s. %s", why->message, e->advice)
                     : NULL;

    if (text) {
        error_set(why, why->kind, "%s", text);
    }
    free(text);
}

static void on_version(void *data, long status, json_t *reply, const struct error *err)
{
    struct engine *e = data;
    struct error why = {0};
    char where[sizeof(e->facts.name)];

    (void)status;
    memcpy(where, e->facts.name, sizeof(where));
    if (err) {
        error_copy(&why, err);
        error_wrap(&why, "the engine at %s does not answer", where);
        why.kind = ERROR_LOST;
        advise(e, &why);
        connect_failed(e, &why);
    } else if (take_facts(e, reply, where, &why) < 0) {
        connect_failed(e, &why);
    } else {
        e->connecting = false;
        e->connected = true;
        waiters_tell(&e->waiters, NULL);
    }
    error_clear(&why);
}

static int open_http(struct engine *e, struct error *err)
{
    struct endpoint at = {0};
    struct http_options options = {0};

    if (endpoint_find(e->env, &at, err) < 0) {
        return -1;
    }
    options.base = at.base;
    options.unix_socket = at.unix_socket;
    options.ca_file = at.ca;
    options.cert_file = at.cert;
    options.key_file = at.key;
    options.insecure = at.insecure;
    options.use_proxy = at.remote;
    options.quick_ack = at.remote;
    (void)snprintf(e->facts.name, sizeof(e->facts.name), "%s", at.name);
    e->facts.remote = at.remote;
    e->http = http_new(e->loop, &options, err);
    free(e->advice);
    e->advice = endpoint_advice(&at);
    endpoint_deinit(&at);
    return e->http ? 0 : -1;
}

/* An engine that was found stays the one that is asked: containers of ours are in it. */
static void connect_now(struct engine *e)
{
    struct error err = {0};

    e->connecting = true;
    if (e->connected) {
        e->connecting = false;
        waiters_tell(&e->waiters, NULL);
    } else if (!e->http && open_http(e, &err) < 0) {
        connect_failed(e, &err);
    } else {
        engine_call(e, &(struct engine_call){.method = "GET",
                                             .path = strdup("/version"),
                                             .timeout_ms = 10 * 1000,
                                             .done = on_version,
                                             .data = e});
    }
    error_clear(&err);
}

void engine_connect(struct engine *e, engine_done done, void *data)
{
    if (waiters_add(&e->waiters, done, data)) {
        start_soon(e);
    }
}

const struct engine_facts *engine_facts(const struct engine *e)
{
    return e->connected ? &e->facts : NULL;
}

struct http *engine_http(struct engine *e)
{
    return e->http;
}

char *engine_path(const struct engine *e, const char *path)
{
    return string_format("/v1.%d%s", e->facts.api_minor, path);
}

/* ---- calls ---- */

/* The engine's own words: {"message": "…"}, or Podman's {"cause", "message"}. */
static void refusal(const struct http_reply *reply, json_t *json, struct error *err)
{
    const char *message = json_string_value(json_object_get(json, "message"));
    enum error_kind kind = reply->status == 404 ? ERROR_NOT_FOUND : ERROR_LOST;

    if (!message || !message[0]) {
        message = reply->size ? reply->body : "no reason was given";
    }
    error_set(err, kind, "%.2000s (status %ld)", message, reply->status);
    engine_plain(err->message);
}

static void on_reply(void *data, const struct http_reply *reply, const struct error *err)
{
    struct call *call = data;
    struct error why = {0};
    json_t *json = NULL;

    if (err) {
        call->engine->connected = false; /* asked for its version anew before the next use */
        call->done(call->data, 0, NULL, err);
        free(call);
        return;
    }
    if (reply->size) {
        json = json_loadb(reply->body, reply->size, JSON_DECODE_ANY, NULL);
    }
    if (reply->status >= 400) {
        refusal(reply, json, &why);
    }
    call->done(call->data, reply->status, json, why.kind == ERROR_NONE ? NULL : &why);
    json_decref(json);
    error_clear(&why);
    free(call);
}

static int start_call(struct engine *e, const struct engine_call *asked, struct call *call)
{
    struct http_call http = {.method = asked->method, .done = on_reply, .data = call};
    bool versioned = strcmp(asked->path ? asked->path : "", "/version") != 0;
    char *path = NULL;
    char *body = NULL;
    int r = -1;

    if (asked->path) {
        path = versioned ? engine_path(e, asked->path) : strdup(asked->path);
    }
    if (asked->body) {
        body = json_dumps(asked->body, JSON_COMPACT);
    }
    if (!e->http || e->closing) {
        error_set(&call->failed, ERROR_LOST, "there is no connection to an engine");
    } else if (!path || (asked->body && !body)) {
        error_set(&call->failed, ERROR_INTERNAL, "out of memory");
    } else {
        http.path = path;
        http.body = body;
        http.body_size = body ? strlen(body) : 0;
        http.timeout_ms = asked->timeout_ms ? asked->timeout_ms : ENGINE_CALL_MS;
        r = http_start(e->http, &http, &call->failed) ? 0 : -1;
    }
    free(path);
    free(body);
    return r;
}

void engine_call(struct engine *e, const struct engine_call *asked)
{
    struct call *call = calloc(1, sizeof(*call));

    if (!call) {
        static const struct error err = {.kind = ERROR_INTERNAL,
                                         .message = (char *)"out of memory"};
        asked->done(asked->data, 0, NULL, &err);
    } else {
        call->engine = e;
        call->done = asked->done;
        call->data = asked->data;
        if (start_call(e, asked, call) < 0) {
            call->next = e->failed;
            e->failed = call;
            start_soon(e);
        }
    }
    free(asked->path);
    json_decref(asked->body);
}
