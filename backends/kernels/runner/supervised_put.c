#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kernels/runner/supervised_internal.h"

/*
 * Shares on their way to the far side, one at a time. The tar writer gives a piece when it is asked
 * for one, and it is asked while fewer than FRAME_PUT_WINDOW bytes are on their way.
 *
 * A put is answered once; it stays the first in the list until the far side has answered too, since
 * that may still be cleaning up what was given up here.
 */

enum { ID_SIZE = 4 };

struct put {
    struct put *next;
    struct supervised *s;
    struct share *share;
    executor_progress progress;
    executor_done done; /* NULL once it is answered */
    void *data;
    unsigned id;
    bool started;
    bool ended;   /* the writer has given all, or failed */
    bool waiting; /* for the window, before the next piece */
    struct tar_writer *writer;
    uint64_t sent, taken;
    uint64_t told; /* how much had moved when progress was called last */
    unsigned char piece[ID_SIZE + TAR_PIECE];
};

static void put_free(struct put *put)
{
    struct supervised *s = put->s;

    share_free(put->share);
    free(put);
    s->open_puts--;
    if (s->closing) {
        supervised_maybe_free(s);
    }
}

static void writer_closed(void *data)
{
    put_free(data);
}

static void answer(struct put *put, const struct error *err)
{
    executor_done done = put->done;

    put->done = NULL;
    if (done) {
        done(put->data, err);
    }
}

/* The far side has answered the first, or never will: it leaves the list. */
static void finish_first(struct supervised *s, const struct error *err)
{
    struct put *put = s->puts;

    s->puts = put->next;
    answer(put, err);
    supervised_show_progress(s, false);
    if (put->writer) {
        tar_writer_close(put->writer, writer_closed, put);
    } else {
        put_free(put);
    }
    supervised_soon(s);
}

/* Nothing more of it follows. What is not whole the far side undoes. */
static void send_end(struct put *put, bool whole)
{
    put->ended = true;
    (void)supervised_send_json(put->s, FRAME_PUT_END,
                               json_pack("{s:i, s:b}", "id", (int)put->id, "whole", whole));
}

/* ---- the writer ---- */

static void ask_for_more(struct put *put)
{
    const struct supervised *s = put->s;
    size_t queued = s->stream->queued ? s->stream->queued(s->stream) : 0;

    put->waiting = put->sent - put->taken >= FRAME_PUT_WINDOW && queued + put->sent > put->taken;
    if (!put->waiting) {
        tar_writer_next(put->writer);
    }
}

static void on_piece(void *data, const char *bytes, size_t size)
{
    struct put *put = data;
    struct supervised *s = put->s;

    if (put->ended || s->phase != PHASE_UP) {
        return;
    }
    for (unsigned i = 0; i < ID_SIZE; i++) {
        put->piece[i] = (unsigned char)(put->id >> (8 * i) & 0xff);
    }
    memcpy(put->piece + ID_SIZE, bytes, size);
    (void)supervised_send(s, FRAME_PIECE, put->piece, ID_SIZE + size);
    put->sent += size;
    ask_for_more(put);
}

static void on_end(void *data, const struct error *err)
{
    struct put *put = data;

    if (put->ended || put->s->phase != PHASE_UP) {
        return;
    }
    send_end(put, !err);
    if (err) {
        answer(put, err);
    }
}

static int start(struct put *put, struct error *err)
{
    static const struct tar_events events = {on_piece, on_end};
    struct supervised *s = put->s;
    uint64_t limit = s->options.disk_mib << 20;
    const struct tar_options options = {.name = "share", .limit = limit};

    put->started = true;
    if (put->ended) {
        return error_set(err, ERROR_TIMEOUT, "the copy was given up before it began");
    }
    if (!put->share) {
        return error_set(err, ERROR_LIMIT, "no descriptor or memory is left for the copy");
    }
    put->writer = tar_writer_new(s->loop, put->share, &options, &events, put, err);
    if (!put->writer) {
        return -1;
    }
    (void)supervised_send_json(s, FRAME_PUT,
                               json_pack("{s:i, s:s, s:I}", "id", (int)put->id, "dest",
                                         put->share->dest, "limit", (json_int_t)limit));
    supervised_show_progress(s, put->progress != NULL);
    return 0;
}

void supervised_puts_go_on(struct supervised *s)
{
    struct put *put = s->puts;
    struct error err = {0};

    if (!put || put->started || s->phase != PHASE_UP) {
        return;
    }
    if (start(put, &err) < 0) {
        finish_first(s, &err);
    }
    error_clear(&err);
}

/* ---- what the far side says ---- */

static struct put *current(const struct supervised *s, json_int_t id)
{
    return s->puts && s->puts->started && s->puts->id == id ? s->puts : NULL;
}

void supervised_put_taken(struct supervised *s, json_int_t id, json_int_t bytes)
{
    struct put *put = current(s, id);

    if (!put || (uint64_t)bytes > put->sent || (uint64_t)bytes < put->taken) {
        supervised_break(s, "the far side took bytes that nobody sent");
        return;
    }
    put->taken = (uint64_t)bytes;
    if (put->waiting && !put->ended) {
        ask_for_more(put);
    }
}

static void problem_words(const struct put *put, const char *kind, const char *text,
                          struct error *err)
{
    const struct share *share = put->share;
    uint64_t bytes = 0, files = 0;

    if (put->writer) {
        tar_writer_progress(put->writer, &bytes, &files);
    }
    if (strcmp(kind, "exists") == 0) {
        (void)error_set(err, ERROR_INVALID,
                        "dest %s exists in the sandbox already: choose another dest, or remove it "
                        "first",
                        share->dest);
    } else if (strcmp(kind, "space") == 0) {
        (void)error_set(err, ERROR_LIMIT,
                        "the sandbox's disk limit was reached while copying %s (%" PRIu64
                        " MiB were copied): raise disk_mib in the environment, or copy less",
                        share->source, bytes >> 20);
    } else {
        enum error_kind as = strcmp(kind, "refused") == 0 ? ERROR_REFUSED
                             : strcmp(kind, "limit") == 0 ? ERROR_LIMIT
                                                          : ERROR_INVALID;
        (void)error_set(err, as, "copying %s to %s: %s", share->source, share->dest, text);
    }
}

void supervised_put_done(struct supervised *s, json_int_t id, const char *kind, const char *text)
{
    struct put *put = current(s, id);
    struct error err = {0};

    if (!put || (!kind && !put->ended)) {
        supervised_break(s, "the far side ended a copy that is not going");
        return;
    }
    put->ended = true;
    if (kind) {
        problem_words(put, kind, text, &err);
    }
    finish_first(s, kind ? &err : NULL);
    error_clear(&err);
}

/* Grows with all that moves: what is read here, has left here, and has arrived there. */
static uint64_t moved(const struct put *put, uint64_t read)
{
    const struct supervised *s = put->s;
    size_t queued = s->stream->queued ? s->stream->queued(s->stream) : 0;

    return read + put->sent + put->taken - queued;
}

void supervised_put_progress(struct supervised *s)
{
    struct put *put = s->puts;
    uint64_t bytes, files, now;
    char line[4096 + 96];

    if (!put || !put->writer || !put->done || !put->progress) {
        return;
    }
    tar_writer_progress(put->writer, &bytes, &files);
    now = moved(put, bytes);
    if (now == put->told) {
        return;
    }
    put->told = now;
    (void)snprintf(line, sizeof(line), "copying %s: %" PRIu64 " MiB in %" PRIu64 " files so far",
                   put->share->source, put->taken >> 20, files);
    put->progress(put->data, line);
}

/* ---- what the place calls ---- */

void supervised_put_cancel(struct supervised *s)
{
    struct put *put = s->puts;

    while (put && !put->done) {
        put = put->next; /* answered here, and still being undone there */
    }
    if (!put || put->ended) {
        return;
    }
    if (!put->started) {
        put->ended = true; /* supervised_puts_go_on answers it in its turn */
    } else if (s->phase == PHASE_UP) {
        send_end(put, false);
    }
}

void supervised_puts_lost(struct supervised *s)
{
    struct error err = {0};

    (void)error_set(&err, ERROR_LOST, "the sandbox has ended");
    while (s->puts) {
        s->puts->ended = true;
        finish_first(s, &err);
    }
    error_clear(&err);
}

void supervised_put(struct supervised *s, const struct share *share, executor_progress progress,
                    executor_done done, void *data)
{
    struct put **end = &s->puts;
    struct put *put = calloc(1, sizeof(*put));

    if (!put) {
        abort(); /* there is nothing left to say it with */
    }
    while (*end) {
        end = &(*end)->next;
    }
    put->s = s;
    put->share = share_clone(share);
    put->progress = progress;
    put->done = done;
    put->data = data;
    put->id = ++s->number;
    s->open_puts++;
    *end = put;
    supervised_soon(s);
}
