#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/buffer.h"
#include "backends/docker/engine.h"

/*
 * Streams of JSON values: /events, the progress of a pull or a build. One value a line, whatever
 * blanks are between; a line that is too long or is no JSON ends the stream.
 */
struct engine_lines {
    struct http_request *request;
    struct engine_lines_events events;
    void *data;
    struct buffer in;
    struct error broken;
};

static void lines_free(struct engine_lines *l)
{
    buffer_deinit(&l->in);
    error_clear(&l->broken);
    free(l);
}

static bool is_blank(const char *line, size_t size)
{
    while (size > 0 && strchr(" \t\r\n", *line)) {
        line++;
        size--;
    }
    return size == 0;
}

static void break_off(struct engine_lines *l, const char *why)
{
    error_set(&l->broken, ERROR_LOST, "the engine's stream %s", why);
    http_cancel(l->request);
}

static void take_line(struct engine_lines *l, const char *line, size_t size)
{
    json_t *value;

    if (is_blank(line, size)) {
        return;
    }
    value = json_loadb(line, size, 0, NULL);
    if (value) {
        l->events.on_value(l->data, value);
    } else {
        break_off(l, "has a line that is no JSON");
    }
    json_decref(value);
}

static void on_body(void *data, const char *bytes, size_t size)
{
    struct engine_lines *l = data;

    if (l->broken.kind != ERROR_NONE) {
        return;
    }
    if (buffer_append(&l->in, bytes, size) < 0) {
        break_off(l, "has a line that is too long");
        return;
    }
    while (l->broken.kind == ERROR_NONE) {
        const char *start = buffer_data(&l->in);
        const char *end = memchr(start, '\n', buffer_size(&l->in));
        if (!end) {
            return;
        }
        take_line(l, start, (size_t)(end - start));
        buffer_consume(&l->in, (size_t)(end - start) + 1);
    }
}

static void on_done(void *data, const struct http_reply *reply, const struct error *err)
{
    struct engine_lines *l = data;
    struct error why = {0};
    long status = reply ? reply->status : 0;
    json_t *json;

    if (!err && status < 300 && l->broken.kind == ERROR_NONE && buffer_size(&l->in)) {
        take_line(l, buffer_data(&l->in), buffer_size(&l->in));
    }
    if (l->broken.kind != ERROR_NONE) {
        error_copy(&why, &l->broken);
    } else if (err) {
        error_copy(&why, err);
    } else if (status >= 300) {
        json = json_loadb(reply->body, reply->size, 0, NULL);
        const char *message = json_string_value(json_object_get(json, "message"));
        error_set(&why, status == 404 ? ERROR_NOT_FOUND : ERROR_LOST, "%.2000s (status %ld)",
                  message ? message : reply->body, status);
        json_decref(json);
        engine_plain(why.message);
    }
    l->events.on_end(l->data, status, why.kind == ERROR_NONE ? NULL : &why);
    error_clear(&why);
    lines_free(l);
}

/* Takes the path. */
static struct engine_lines *lines_start(struct engine *e, char *path, struct http_call *call,
                                        const struct engine_lines_events *events, void *data,
                                        struct error *err)
{
    struct engine_lines *l = calloc(1, sizeof(*l));
    char *full = path && engine_http(e) ? engine_path(e, path) : NULL;

    call->path = full;
    call->idle_ms = (unsigned)-1;
    call->on_body = on_body;
    call->done = on_done;
    call->data = l;
    if (l && full) {
        l->events = *events;
        l->data = data;
        buffer_init(&l->in, ENGINE_LINE_CAP);
        l->request = http_start(engine_http(e), call, err);
    } else {
        error_set(err, ERROR_LOST, "there is no connection to an engine, or no memory");
    }
    free(path);
    free(full);
    if (l && !l->request) {
        free(l);
        return NULL;
    }
    return l;
}

struct engine_lines *engine_lines_open(struct engine *e, const char *method, char *path,
                                       const char *const *headers,
                                       const struct engine_lines_events *events, void *data,
                                       struct error *err)
{
    struct http_call call = {.method = method, .headers = headers};

    return lines_start(e, path, &call, events, data, err);
}

struct engine_lines *engine_lines_post(struct engine *e, char *path, const char *content_type,
                                       const void *body, size_t size,
                                       const struct engine_lines_events *events, void *data,
                                       struct error *err)
{
    struct http_call call = {
        .method = "POST", .content_type = content_type, .body = body, .body_size = size};

    return lines_start(e, path, &call, events, data, err);
}

void engine_lines_cancel(struct engine_lines *l)
{
    http_cancel(l->request);
}
