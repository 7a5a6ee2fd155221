#include "backends/docker/attach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/docker/demux.h"

struct attach {
    struct byte_stream base;
    struct http_stream *stream;
    struct attach_events events;
    void *data;
    struct demux demux;
    char words[ATTACH_LAST_WORDS + 1];
    size_t words_size;
    bool ended;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- the stream that the supervisor's keeper writes to ---- */

static int stream_write(struct byte_stream *base, const void *bytes, size_t size)
{
    struct attach *a = (struct attach *)base;
    return a->ended ? -EPIPE : http_stream_write(a->stream, bytes, size);
}

static size_t stream_queued(const struct byte_stream *base)
{
    const struct attach *a = (const struct attach *)base;
    return a->ended ? 0 : http_stream_queued(a->stream);
}

static void stream_pause(struct byte_stream *base, bool paused)
{
    struct attach *a = (struct attach *)base;
    if (!a->ended) {
        http_stream_pause(a->stream, paused);
    }
}

/* ---- what comes ---- */

static void keep_words(struct attach *a, const char *bytes, size_t size)
{
    if (size > ATTACH_LAST_WORDS) {
        bytes += size - ATTACH_LAST_WORDS;
        size = ATTACH_LAST_WORDS;
    }
    if (a->words_size + size > ATTACH_LAST_WORDS) {
        size_t drop = a->words_size + size - ATTACH_LAST_WORDS;
        memmove(a->words, a->words + drop, a->words_size - drop);
        a->words_size -= drop;
    }
    memcpy(a->words + a->words_size, bytes, size);
    a->words_size += size;
    a->words[a->words_size] = '\0';
}

static void on_frame_bytes(void *data, enum demux_stream stream, const char *bytes, size_t size)
{
    struct attach *a = data;

    if (stream == DEMUX_STDOUT) {
        a->events.on_bytes(a->data, bytes, size);
    } else {
        keep_words(a, bytes, size);
    }
}

static void tell_end(struct attach *a, long status, const struct error *err)
{
    if (!a->ended) {
        a->ended = true;
        a->events.on_end(a->data, status, err);
    }
}

static void on_bytes(void *data, const char *bytes, size_t size)
{
    static const struct error err = {
        .kind = ERROR_LOST, .message = (char *)"the engine's stream is not made of frames"};
    struct attach *a = data;

    if (!a->ended && demux_feed(&a->demux, bytes, size) == -EPROTO) {
        tell_end(a, 0, &err);
    }
}

static void on_open(void *data)
{
    struct attach *a = data;
    a->events.on_open(a->data);
}

static void on_end(void *data, long status, const struct error *err)
{
    tell_end(data, status, err);
}

/* ---- life ---- */

/* Takes the path. */
static struct attach *open_at(struct engine *engine, char *path, const char *body,
                              const struct attach_events *events, void *data, struct error *err)
{
    static const struct http_stream_events stream_events = {on_open, on_bytes, on_end};
    struct attach *a = calloc(1, sizeof(*a));
    char *full = path ? engine_path(engine, path) : NULL;

    if (!a || !full) {
        error_set(err, ERROR_INTERNAL, "out of memory");
    } else {
        a->base = (struct byte_stream){stream_write, stream_queued, stream_pause};
        a->events = *events;
        a->data = data;
        a->demux.on_bytes = on_frame_bytes;
        a->demux.data = a;
        a->stream = http_stream_open(engine_http(engine), "POST", full, body,
                                     body ? strlen(body) : 0, &stream_events, a, err);
    }
    free(path);
    free(full);
    if (a && !a->stream) {
        free(a);
        return NULL;
    }
    return a;
}

struct attach *attach_open(struct engine *engine, const char *container,
                           const struct attach_events *events, void *data, struct error *err)
{
    return open_at(
        engine,
        string_format("/containers/%s/attach?stream=1&stdin=1&stdout=1&stderr=1", container), NULL,
        events, data, err);
}

struct attach *attach_open_exec(struct engine *engine, const char *exec,
                                const struct attach_events *events, void *data, struct error *err)
{
    return open_at(engine, string_format("/exec/%s/start", exec),
                   "{\"Detach\":false,\"Tty\":false}", events, data, err);
}

struct byte_stream *attach_stream(struct attach *a)
{
    return &a->base;
}

const char *attach_last_words(struct attach *a)
{
    for (size_t i = 0; i < a->words_size; i++) {
        if (a->words[i] == '\0') {
            a->words[i] = ' ';
        }
    }
    engine_plain(a->words);
    while (a->words_size > 0 && a->words[a->words_size - 1] == ' ') {
        a->words[--a->words_size] = '\0';
    }
    return a->words;
}

static void on_closed(void *data)
{
    struct attach *a = data;
    void (*closed)(void *closed_data) = a->closed;
    void *closed_data = a->closed_data;

    free(a);
    closed(closed_data);
}

void attach_close(struct attach *a, void (*closed)(void *data), void *data)
{
    a->ended = true;
    a->demux.broken = -ECANCELED; /* also from inside on_bytes */
    a->closed = closed;
    a->closed_data = data;
    http_stream_close(a->stream, on_closed, a);
}
