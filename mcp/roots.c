#include "mcp/roots.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/jsonrpc.h"

struct waiter {
    struct waiter *next;
    bool ask;
    void (*done)(void *data, const json_t *paths, const struct error *err);
    void *data;
};

struct roots {
    void (*send)(void *data, json_t *request_owned);
    void *data;
    bool enabled, known, stopped, asking;
    unsigned question; /* number of the newest one; an answer to an older one is stale */
    json_t *paths;
    struct waiter *waiters;
    uv_timer_t soon;  /* answers that are already known, outside the asker's stack */
    uv_timer_t limit; /* of a question */
    unsigned open_handles;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- URIs ---- */

static int hex(char c)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) % 16 : -1;
}

/* The bytes that %XX stand for; 0 when one is broken or a NUL. */
static size_t percent_decode(const char *from, char *to)
{
    size_t n = 0;
    while (*from) {
        if (*from != '%') {
            to[n++] = *from++;
            continue;
        }
        int high = hex(from[1]);
        int low = high < 0 ? -1 : hex(from[2]);
        if (low < 0 || high * 16 + low == 0) {
            return 0;
        }
        to[n++] = (char)(high * 16 + low);
        from += 3;
    }
    return n;
}

json_t *roots_path(const char *uri)
{
    static const char scheme[] = "file://";
    static const char local[] = "localhost";
    if (strncasecmp(uri, scheme, sizeof scheme - 1) != 0) {
        return NULL;
    }
    uri += sizeof scheme - 1;
    if (strncasecmp(uri, local, sizeof local - 1) == 0) {
        uri += sizeof local - 1;
    }
    if (*uri != '/') {
        return NULL;
    }
    char *path = malloc(strlen(uri) + 1);
    size_t size = path ? percent_decode(uri, path) : 0;
    while (size > 1 && path[size - 1] == '/') {
        size--;
    }
    json_t *text = size ? json_stringn(path, size) : NULL; /* NULL as well when it is not UTF-8 */
    free(path);
    return text;
}

static json_t *read_paths(const json_t *result)
{
    const json_t *list = json_object_get(result, "roots");
    json_t *paths = json_is_array(list) ? json_array() : NULL;
    size_t i;
    json_t *root;
    json_array_foreach(paths ? list : NULL, i, root)
    {
        const char *uri = json_text_member(root, "uri");
        json_t *path = uri ? roots_path(uri) : NULL;
        if (path && json_array_size(paths) < ROOTS_CAP) {
            json_array_append(paths, path);
        }
        json_decref(path);
    }
    return paths;
}

/* ---- asking ---- */

static bool is_ready(const struct roots *r, const struct waiter *w)
{
    return !w->ask || !r->enabled || r->known || r->stopped;
}

/* Tells those whose answer is there, or with `err` everybody. */
static void tell(struct roots *r, const struct error *err)
{
    static const struct error ended = {ERROR_LOST,
                                       "the client ended before it said which roots it offers"};
    struct waiter **at = &r->waiters;
    while (*at) {
        struct waiter *w = *at;
        if (!err && !is_ready(r, w)) {
            at = &w->next;
            continue;
        }
        const struct error *why = err ? err : r->stopped && w->ask && r->enabled ? &ended : NULL;
        *at = w->next;
        w->done(w->data, why ? NULL : r->paths, why);
        free(w);
        at = &r->waiters; /* done() may have asked again */
    }
}

static void on_soon(uv_timer_t *timer)
{
    tell(timer->data, NULL);
}

static void fail(struct roots *r, const char *text)
{
    struct error err = {0};
    r->asking = false;
    uv_timer_stop(&r->limit);
    error_set(&err, ERROR_TIMEOUT, "%s", text);
    tell(r, &err);
    error_clear(&err);
}

static void on_limit(uv_timer_t *timer)
{
    fail(timer->data, "the client did not answer roots/list within 5 seconds; start the server "
                      "with --share-root DIR to name the folders that may be shared");
}

static void question_id(const struct roots *r, char id[32])
{
    snprintf(id, 32, "cellblock-roots-%u", r->question);
}

static void send_question(struct roots *r)
{
    char id[32];
    r->asking = true;
    r->question++;
    question_id(r, id);
    uv_timer_start(&r->limit, on_limit, ROOTS_LIMIT_MS, 0);
    r->send(r->data, jsonrpc_request(id, "roots/list", NULL));
}

void roots_ask(struct roots *r, bool ask,
               void (*done)(void *data, const json_t *paths, const struct error *err), void *data)
{
    struct waiter *w = calloc(1, sizeof *w);
    if (!w) {
        abort(); /* a promise that cannot be kept: `done` is called exactly once */
    }
    struct waiter **end = &r->waiters;
    while (*end) {
        end = &(*end)->next;
    }
    *w = (struct waiter){.ask = ask, .done = done, .data = data};
    *end = w;
    if (is_ready(r, w)) {
        uv_timer_start(&r->soon, on_soon, 0, 0);
    } else if (!r->asking) {
        send_question(r);
    }
}

void roots_answer(struct roots *r, const json_t *id, const json_t *result)
{
    char ours[32];
    question_id(r, ours);
    const char *given = json_string_value(id);
    if (!r->asking || !given || strcmp(given, ours) != 0) {
        return;
    }
    json_t *paths = read_paths(result);
    if (!paths) {
        fail(r, "the client answered roots/list with an error; start the server with --share-root "
                "DIR to name the folders that may be shared");
        return;
    }
    json_decref(r->paths);
    r->paths = paths;
    r->known = true;
    r->asking = false;
    uv_timer_stop(&r->limit);
    tell(r, NULL);
}

void roots_changed(struct roots *r)
{
    r->known = false;
    if (r->asking && !r->stopped) {
        send_question(r);
    }
}

void roots_enable(struct roots *r, bool enable)
{
    r->enabled = enable;
    r->known = false;
}

void roots_stop(struct roots *r)
{
    r->stopped = true;
    r->asking = false;
    uv_timer_stop(&r->limit);
    if (r->waiters) {
        uv_timer_start(&r->soon, on_soon, 0, 0);
    }
}

/* ---- life ---- */

struct roots *roots_new(uv_loop_t *loop, void (*send)(void *data, json_t *request_owned),
                        void *data)
{
    struct roots *r = calloc(1, sizeof *r);
    json_t *paths = json_array();
    if (!r || !paths) {
        free(r);
        json_decref(paths);
        return NULL;
    }
    r->send = send;
    r->data = data;
    r->paths = paths;
    uv_timer_init(loop, &r->soon);
    uv_timer_init(loop, &r->limit);
    r->soon.data = r->limit.data = r;
    return r;
}

static void on_closed(uv_handle_t *handle)
{
    struct roots *r = handle->data;
    if (--r->open_handles > 0) {
        return;
    }
    void (*closed)(void *) = r->closed;
    void *data = r->closed_data;
    tell(r, NULL);
    json_decref(r->paths);
    free(r);
    if (closed) {
        closed(data);
    }
}

void roots_close(struct roots *r, void (*closed)(void *data), void *data)
{
    r->stopped = true;
    r->closed = closed;
    r->closed_data = data;
    r->open_handles = 2;
    uv_close((uv_handle_t *)&r->soon, on_closed);
    uv_close((uv_handle_t *)&r->limit, on_closed);
}
