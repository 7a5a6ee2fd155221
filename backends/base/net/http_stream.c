#include "backends/base/net/http_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/*
 * libcurl makes the connection (name, socket, proxy, TLS) and then only carries bytes; the request
 * that asks for the upgrade is written, and its answer read, here.
 *
 * Each stream has a multi handle of its own: the connections of a shared one are looked through for
 * idle ones to reuse or to close, and a stream's is idle in libcurl's eyes.
 */

enum {
    READ_SIZE = 64 * 1024,
    SEND_MOST = 64 * 1024,
    ROUNDS = 16, /* reads or sends at a time: other users of the loop have their turn too */
    REFUSAL_CAP = 64 * 1024,
    REFUSAL_MS = 1000,
};

/* --- the end ------------------------------------------------------------------------------ */

static void release(struct http_stream *s)
{
    void (*closed)(void *data) = s->closed;
    void *data = s->closed_data;
    if (--s->handles > 0) {
        return;
    }
    http_stream_free(s);
    curl_global_cleanup(); /* counted by libcurl */
    if (closed) {
        closed(data);
    }
}

static void handle_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void multi_closed(void *data)
{
    release(data);
}

static void unlink_stream(struct http_stream *s)
{
    if (!s->http) {
        return;
    }
    if (s->prev) {
        s->prev->next = s->next;
    } else {
        s->http->streams = s->next;
    }
    if (s->next) {
        s->next->prev = s->prev;
    }
    s->http = NULL;
}

/* Closes the connection; nothing of it is read or written after. */
static void let_go(struct http_stream *s)
{
    s->stage = STREAM_ENDED;
    unlink_stream(s);
    uv_timer_stop(&s->limit);
    uv_idle_stop(&s->kick);
    if (s->has_poll) {
        s->has_poll = false;
        uv_poll_stop(&s->poll); /* before libcurl closes the descriptor */
        uv_close((uv_handle_t *)&s->poll, handle_closed);
    }
    if (s->easy) {
        curl_multi_remove_handle(s->multi.curl, s->easy);
        curl_easy_cleanup(s->easy);
        s->easy = NULL;
    }
    http_queue_clear(&s->queue);
}

static void end(struct http_stream *s, struct error *err)
{
    if (s->stage == STREAM_ENDED) {
        error_clear(err);
        return;
    }
    let_go(s);
    s->events.on_end(s->data, s->head.status, err && err->kind != ERROR_NONE ? err : NULL);
    error_clear(err);
}

static void end_curl(struct http_stream *s, CURLcode code)
{
    struct error err = {0};
    struct http_failure failure = {
        .easy = s->easy,
        .code = code,
        .tried = s->tried,
        .peer = s->peer,
        .text = s->text,
        .no_cert = s->no_cert,
    };
    http_failure_tell(&failure, &err);
    end(s, &err);
}

/* TLS is there, and the server speaks something else inside of it. */
static void end_disagreed(struct http_stream *s)
{
    struct error err = {0};
    error_set(&err, ERROR_UNSUPPORTED,
              "%s: the server does not agree to speak %s (ALPN); give the address of the service "
              "itself, not of a proxy before it",
              s->tried, (const char *)s->protocol + 1);
    end(s, &err);
}

static void end_refused(struct http_stream *s)
{
    struct error err = {0};
    size_t size = buffer_size(&s->in);
    bool whole;
    struct http_reply reply = {.status = s->head.status};

    if (s->head.chunked) {
        size = http_unchunk(buffer_data(&s->in), size, &whole);
    } else if (s->head.length >= 0 && (uint64_t)s->head.length < size) {
        size = (size_t)s->head.length;
    }
    reply.body = buffer_data(&s->in);
    reply.size = size;
    http_refusal(&reply, s->tried, &err);
    end(s, &err);
}

static void end_of_bytes(struct http_stream *s)
{
    struct error err = {0};
    if (s->stage == STREAM_REFUSED) {
        end_refused(s);
    } else if (s->stage == STREAM_ASKING) {
        error_set(&err, ERROR_LOST, "%s: the server closed the connection %s", s->tried,
                  buffer_size(&s->in) ? "in the middle of its answer" : "without an answer");
        end(s, &err);
    } else {
        end(s, NULL);
    }
}

/* --- the answer --------------------------------------------------------------------------- */

static void on_limit(uv_timer_t *timer)
{
    struct http_stream *s = timer->data;
    struct error err = {0};
    if (s->stage == STREAM_REFUSED) {
        end_refused(s); /* with as much of the message as there is */
        return;
    }
    error_set(&err, ERROR_TIMEOUT, "%s: %s did not answer within %u ms", s->tried, s->peer,
              s->answer_ms);
    end(s, &err);
}

static bool agreed(const struct http_head *head)
{
    if (head->status == 101) {
        return !head->upgraded_other;
    }
    /* An answer with a body of its own is an answer, not a stream. */
    return head->status == 200 && !head->chunked && head->length < 0;
}

static void not_http(struct http_stream *s, enum error_kind kind, const char *what)
{
    struct error err = {0};
    error_set(&err, kind, "%s: %s", s->tried, what);
    end(s, &err);
}

static void answered(struct http_stream *s)
{
    if (agreed(&s->head)) {
        s->stage = STREAM_OPEN;
        uv_timer_stop(&s->limit);
        s->events.on_open(s->data);
    } else if (s->head.status == 101 || s->head.status / 100 == 2) {
        not_http(s, ERROR_UNSUPPORTED,
                 "the server answered, but did not upgrade the connection to a stream; is there a "
                 "proxy between that does not know how to?");
    } else {
        s->stage = STREAM_REFUSED;
        uv_timer_start(&s->limit, on_limit, REFUSAL_MS, 0);
    }
}

/* Looks for heads at the front of `in`; those of 1xx but 101 are passed over. */
static void take_head(struct http_stream *s)
{
    while (s->stage == STREAM_ASKING) {
        ssize_t n = http_head_parse(buffer_data(&s->in), buffer_size(&s->in), &s->head);
        if (n < 0) {
            not_http(s, ERROR_LOST, "what the server answers is not HTTP/1.1");
        }
        if (n <= 0) {
            return;
        }
        buffer_consume(&s->in, (size_t)n);
        if (s->head.status >= 200 || s->head.status == 101) {
            answered(s);
        }
        if (buffer_size(&s->in) == 0) {
            return;
        }
    }
}

static bool refusal_whole(struct http_stream *s)
{
    size_t size = buffer_size(&s->in);
    if (s->head.length >= 0) {
        return size >= (size_t)s->head.length || size >= REFUSAL_CAP;
    }
    return size >= REFUSAL_CAP || (s->head.chunked && size >= 5 &&
                                   memcmp(buffer_data(&s->in) + size - 5, "0\r\n\r\n", 5) == 0);
}

/* --- reading ------------------------------------------------------------------------------ */

static bool may_read(const struct http_stream *s)
{
    return s->stage == STREAM_ASKING || s->stage == STREAM_REFUSED ||
           (s->stage == STREAM_OPEN && !s->paused);
}

static void take(struct http_stream *s, const char *bytes, size_t size)
{
    if (s->stage == STREAM_OPEN) {
        s->events.on_bytes(s->data, bytes, size);
        return;
    }
    if (buffer_append(&s->in, bytes, size) < 0) {
        not_http(s, ERROR_LIMIT, "the head of the answer is too long");
        return;
    }
    take_head(s);
    if (s->stage == STREAM_REFUSED && refusal_whole(s)) {
        end_refused(s);
    }
}

/* What came with the head, when its taker is ready for it. */
static void take_glued(struct http_stream *s)
{
    struct buffer glued = s->in;
    buffer_init(&s->in, HTTP_HEAD_CAP);
    s->events.on_bytes(s->data, buffer_data(&glued), buffer_size(&glued));
    buffer_deinit(&glued);
}

/* false when there is nothing to be read now. */
static bool read_once(struct http_stream *s)
{
    char space[READ_SIZE];
    size_t n = 0;
    CURLcode code;

    if (s->stage == STREAM_OPEN && buffer_size(&s->in) > 0) {
        take_glued(s);
        return true;
    }
    code = curl_easy_recv(s->easy, space, sizeof(space), &n);
    if (code == CURLE_AGAIN) {
        return false;
    }
    if (code != CURLE_OK) {
        end_curl(s, code);
    } else if (n == 0) {
        end_of_bytes(s);
    } else {
        take(s, space, n);
    }
    return true;
}

static void update(struct http_stream *s);

static void on_kick(uv_idle_t *kick);

static void read_some(struct http_stream *s)
{
    int rounds = 0;
    if (s->quick_ack) {
        http_quick_ack(s->fd);
    }
    while (may_read(s)) {
        if (rounds++ == ROUNDS) {
            /* TLS may hold bytes that no socket event tells of. */
            uv_idle_start(&s->kick, on_kick);
            return;
        }
        if (!read_once(s)) {
            return;
        }
    }
}

static void on_kick(uv_idle_t *kick)
{
    struct http_stream *s = kick->data;
    uv_idle_stop(kick);
    read_some(s);
    update(s);
}

/* --- writing ------------------------------------------------------------------------------ */

/* What may go out now: until the server has agreed, the request only. */
static const char *sendable(const struct http_stream *s, size_t *ret_size)
{
    size_t size = 0;
    const char *bytes = s->no_writes ? NULL : http_queue_peek(&s->queue, &size);
    if (!bytes || (s->stage != STREAM_OPEN && s->request_left == 0) ||
        s->stage == STREAM_CONNECTING || s->stage == STREAM_ENDED) {
        return NULL;
    }
    if (s->request_left > 0 && size > s->request_left) {
        size = s->request_left;
    }
    if (s->retry) {
        size = s->retry;
    } else if (size > SEND_MOST) {
        size = SEND_MOST;
    }
    *ret_size = size;
    return bytes;
}

static void sent(struct http_stream *s, size_t size)
{
    s->retry = 0;
    s->request_left -= size < s->request_left ? size : s->request_left;
    http_queue_consume(&s->queue, size);
}

static void send_some(struct http_stream *s)
{
    const char *bytes;
    size_t size;

    for (int rounds = 0; rounds < ROUNDS && (bytes = sendable(s, &size)); rounds++) {
        size_t n = 0;
        CURLcode code = curl_easy_send(s->easy, bytes, size, &n);
        if (code == CURLE_AGAIN) {
            s->retry = s->tls ? size : 0;
            return;
        }
        if (code != CURLE_OK) {
            /* What the far side said before it stopped taking is still to be read; the reading's
             * end is the stream's. */
            s->no_writes = true;
            http_queue_clear(&s->queue);
            s->text[0] = '\0';
            return;
        }
        sent(s, n);
    }
    if (s->shut && !s->shut_done && s->queue.size == 0 && s->stage == STREAM_OPEN) {
        s->shut_done = true;
        shutdown(s->fd, SHUT_WR);
    }
}

/* --- events ------------------------------------------------------------------------------- */

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct http_stream *s = poll->data;

    if (status < 0) {
        /* libuv has stopped watching; what is left, and then the error, can be read. */
        s->watched = 0;
        events = UV_READABLE | UV_WRITABLE;
    }
    if (s->tls || (events & UV_WRITABLE)) {
        send_some(s);
    }
    if (s->tls || (events & UV_READABLE)) {
        read_some(s);
    }
    update(s);
}

/* Waits for what is wanted now. */
static void update(struct http_stream *s)
{
    size_t size;
    int wanted;

    if (!s->has_poll) {
        return;
    }
    wanted = (may_read(s) ? UV_READABLE : 0) | (sendable(s, &size) ? UV_WRITABLE : 0);
    if (wanted == s->watched) {
        return;
    }
    s->watched = wanted;
    if (wanted == 0) {
        uv_poll_stop(&s->poll);
    } else {
        uv_poll_start(&s->poll, wanted, on_event);
    }
}

void http_stream_connected(void *data, CURL *easy, CURLcode code)
{
    struct http_stream *s = data;
    curl_socket_t fd = CURL_SOCKET_BAD;

    if (code == CURLE_OK) {
        code = curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd);
    }
    if (code != CURLE_OK || fd == CURL_SOCKET_BAD) {
        end_curl(s, code == CURLE_OK ? CURLE_COULDNT_CONNECT : code);
        return;
    }
    if (uv_poll_init_socket(s->multi.loop, &s->poll, fd) < 0) {
        end_curl(s, CURLE_FAILED_INIT);
        return;
    }
    s->fd = fd;
    s->poll.data = s;
    s->has_poll = true;
    s->handles++;
    if (s->bare && s->tls && !s->agreed) {
        end_disagreed(s);
        return;
    }
    if (s->bare) {
        s->stage = STREAM_OPEN;
        s->events.on_open(s->data);
    } else {
        s->stage = STREAM_ASKING;
        uv_timer_start(&s->limit, on_limit, s->answer_ms, 0);
    }
    send_some(s);
    update(s);
}

/* --- what its user asks for --------------------------------------------------------------- */

size_t http_stream_queued(const struct http_stream *stream)
{
    return stream->queue.size - stream->request_left;
}

int http_stream_write(struct http_stream *stream, const void *bytes, size_t size)
{
    int r;
    if (stream->stage == STREAM_ENDED || stream->no_writes || stream->shut) {
        return -EPIPE;
    }
    r = http_queue_append(&stream->queue, bytes, size);
    if (r == 0 && stream->stage == STREAM_OPEN && !(stream->watched & UV_WRITABLE)) {
        send_some(stream);
        update(stream);
    }
    return r;
}

void http_stream_shutdown(struct http_stream *stream)
{
    stream->shut = true;
    if (stream->stage == STREAM_OPEN) {
        send_some(stream);
        update(stream);
    }
}

void http_stream_pause(struct http_stream *stream, bool paused)
{
    stream->paused = paused;
    if (!paused && stream->stage == STREAM_OPEN) {
        uv_idle_start(&stream->kick, on_kick); /* what came with the head, or TLS holds */
    }
    update(stream);
}

bool http_stream_abandon_one(struct http *http)
{
    struct http_stream *s = http->streams;
    struct error err = {0};
    if (!s) {
        return false;
    }
    error_set(&err, ERROR_LOST, "%s: cancelled", s->tried);
    end(s, &err);
    return true;
}

void http_stream_close(struct http_stream *stream, void (*closed)(void *data), void *data)
{
    struct http_stream *s = stream;
    s->closed = closed;
    s->closed_data = data;
    let_go(s);
    uv_close((uv_handle_t *)&s->limit, handle_closed);
    uv_close((uv_handle_t *)&s->kick, handle_closed);
    http_multi_close(&s->multi, multi_closed);
}
