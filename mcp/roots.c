#include "mcp/roots.h"

#include <stdlib.h>
#include <string.h>

#include "backends/base/hex.h"
#include "mcp/jsonrpc.h"

struct waiter {
    struct waiter *next;
    bool ask;
    void (*done)(void *data, const json_t *paths, const struct error *err);
    void *data;
};

struct roots {
    struct client_requests *requests;
    struct client_request *question; /* NULL: none is open */
    bool enabled, known, stopped;
    json_t *paths;
    struct waiter *waiters;
    uv_timer_t soon; /* answers that are already known, outside the asker's stack */
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- URIs ---- */

/* The bytes that %XX stand for; 0 when one is broken or a NUL. */
static size_t percent_decode(const char *from, char *to)
{
    size_t n = 0;
    while (*from) {
        if (*from != '%') {
            to[n++] = *from++;
            continue;
        }
        int high = hex_value(from[1]);
        int low = high < 0 ? -1 : hex_value(from[2]);
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

static void fail(struct roots *r, enum error_kind kind, const char *text)
{
    struct error err = {0};
    error_set(&err, kind, "%s", text);
    tell(r, &err);
    error_clear(&err);
}

static void on_answer(void *data, enum client_answer how, const json_t *result)
{
    struct roots *r = data;
    json_t *paths = read_paths(result);
    r->question = NULL;
    if (how == CLIENT_LATE) {
        fail(r, ERROR_TIMEOUT,
             "the client did not answer roots/list within 5 seconds; start the server with "
             "--share-root DIR to name the folders that may be shared");
    } else if (how != CLIENT_GONE && !paths) {
        fail(r, ERROR_LOST,
             "the client answered roots/list with an error; start the server with --share-root "
             "DIR to name the folders that may be shared");
    } else if (paths) {
        json_decref(r->paths);
        r->paths = paths;
        r->known = true;
        tell(r, NULL);
    }
}

static void send_question(struct roots *r)
{
    r->question =
        client_request(r->requests, "roots", "roots/list", NULL, ROOTS_LIMIT_MS, on_answer, r);
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
    } else if (!r->question) {
        send_question(r);
    }
}

void roots_changed(struct roots *r)
{
    r->known = false;
    if (r->question && !r->stopped) {
        client_request_forget(r->requests, r->question); /* its answer would be stale */
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
    if (r->waiters) {
        uv_timer_start(&r->soon, on_soon, 0, 0);
    }
}

/* ---- life ---- */

struct roots *roots_new(uv_loop_t *loop, struct client_requests *requests)
{
    struct roots *r = calloc(1, sizeof *r);
    json_t *paths = json_array();
    if (!r || !paths) {
        free(r);
        json_decref(paths);
        return NULL;
    }
    r->requests = requests;
    r->paths = paths;
    uv_timer_init(loop, &r->soon);
    r->soon.data = r;
    return r;
}

static void on_closed(uv_handle_t *handle)
{
    struct roots *r = handle->data;
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
    uv_close((uv_handle_t *)&r->soon, on_closed);
}
