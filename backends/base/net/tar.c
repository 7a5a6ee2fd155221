#include "backends/base/net/tar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/net/tar_walk.h"

/*
 * Two pieces of memory go to and fro: the thread fills one while the taker has the other. `lock`
 * guards what stands below it; the loop never waits for the thread, only the thread for the loop.
 */
struct tar_writer {
    uv_async_t async; /* to the loop: a piece is full, the thread has ended, or the taker is done */
    uv_thread_t thread;
    struct tar_walk walk;
    struct error err; /* the thread's, read after it has ended */
    char *filling;    /* the thread's, until `full` */
    size_t filled;
    char *given; /* the taker's */
    uv_mutex_t lock;
    uv_cond_t taken;
    bool full;  /* `filling` waits to be given */
    bool ended; /* the thread touches nothing any more */

    bool taker_busy, joined, told, closing; /* of the loop */
    struct tar_events events;
    void *data;
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- the thread ---- */

/* Waits until the loop has taken what is full, or wants nothing more. */
static void hand_over(struct tar_writer *w)
{
    uv_mutex_lock(&w->lock);
    w->full = true;
    uv_async_send(&w->async);
    while (w->full && !w->walk.stop) {
        uv_cond_wait(&w->taken, &w->lock);
    }
    uv_mutex_unlock(&w->lock);
}

static la_ssize_t on_write(struct archive *archive, void *data, const void *bytes, size_t size)
{
    struct tar_writer *w = data;
    const char *from = bytes;
    (void)archive;
    if (w->walk.abandoned) {
        return -1;
    }
    for (size_t left = size; left > 0 && !w->walk.stop;) {
        size_t n = left < TAR_PIECE - w->filled ? left : TAR_PIECE - w->filled;
        memcpy(w->filling + w->filled, from, n);
        w->filled += n;
        from += n;
        left -= n;
        if (w->filled == TAR_PIECE) {
            hand_over(w);
        }
    }
    return (la_ssize_t)size;
}

static void run(void *data)
{
    struct tar_writer *w = data;
    if (tar_walk(&w->walk, &w->err) == 0 && w->filled > 0) {
        hand_over(w);
    }
    uv_mutex_lock(&w->lock);
    w->ended = true;
    uv_async_send(&w->async);
    uv_mutex_unlock(&w->lock);
}

/* ---- the loop ---- */

static void free_writer(struct tar_writer *w)
{
    if (w->walk.archive) {
        w->walk.library.write_free(w->walk.archive);
    }
    uv_cond_destroy(&w->taken);
    uv_mutex_destroy(&w->lock);
    error_clear(&w->err);
    free((char *)w->walk.options.name);
    free(w->walk.space);
    free(w->filling);
    free(w->given);
    free(w);
}

static void async_closed(uv_handle_t *handle)
{
    struct tar_writer *w = handle->data;
    void (*closed)(void *data) = w->closed;
    void *data = w->closed_data;
    free_writer(w);
    if (closed) {
        closed(data);
    }
}

/* Takes over what is full, if the taker is free. Its size, or 0. */
static size_t take(struct tar_writer *w)
{
    size_t size = 0;
    uv_mutex_lock(&w->lock);
    if (w->full && !w->taker_busy) {
        char *given = w->given;
        w->given = w->filling;
        w->filling = given;
        size = w->filled;
        w->filled = 0;
        w->full = false;
        uv_cond_signal(&w->taken);
    }
    uv_mutex_unlock(&w->lock);
    return size;
}

/* The thread has ended and nothing of it is still to be given. */
static bool is_over(struct tar_writer *w)
{
    uv_mutex_lock(&w->lock);
    bool ended = w->ended;
    bool full = w->full;
    uv_mutex_unlock(&w->lock);
    if (ended && !w->joined) {
        uv_thread_join(&w->thread);
        w->joined = true;
    }
    return ended && (w->closing || w->err.kind != ERROR_NONE || (!full && !w->taker_busy));
}

static void on_async(uv_async_t *async)
{
    struct tar_writer *w = async->data;
    size_t size = w->closing || w->told ? 0 : take(w);
    if (size > 0) {
        w->taker_busy = true;
        w->events.on_piece(w->data, w->given, size);
    }
    if (!is_over(w)) {
        return;
    }
    if (!w->told && !w->closing) {
        w->told = true;
        w->events.on_end(w->data, w->err.kind != ERROR_NONE ? &w->err : NULL);
    }
    if (w->closing && !uv_is_closing((uv_handle_t *)async)) {
        uv_close((uv_handle_t *)async, async_closed);
    }
}

void tar_writer_next(struct tar_writer *w)
{
    w->taker_busy = false;
    uv_async_send(&w->async);
}

void tar_writer_progress(const struct tar_writer *w, uint64_t *ret_bytes, uint64_t *ret_files)
{
    *ret_bytes = w->walk.bytes;
    *ret_files = w->walk.files;
}

void tar_writer_close(struct tar_writer *w, void (*closed)(void *data), void *data)
{
    w->closing = true;
    w->closed = closed;
    w->closed_data = data;
    uv_mutex_lock(&w->lock);
    w->walk.stop = true;
    uv_cond_signal(&w->taken);
    uv_mutex_unlock(&w->lock);
    uv_async_send(&w->async);
}

/* Everything that can fail before the loop knows of it. */
static int prepare(struct tar_writer *w, const struct tar_options *options)
{
    w->walk.options = *options;
    w->walk.options.name = strdup(options->name);
    w->walk.space = malloc(TAR_PIECE);
    w->filling = malloc(TAR_PIECE);
    w->given = malloc(TAR_PIECE);
    w->walk.archive = tar_archive_new(&w->walk.library, on_write, w);
    if (!w->walk.options.name || !w->walk.space || !w->filling || !w->given || !w->walk.archive) {
        return -ENOMEM;
    }
    return 0;
}

struct tar_writer *tar_writer_new(uv_loop_t *loop, const struct share *share,
                                  const struct tar_options *options,
                                  const struct tar_events *events, void *data, struct error *err)
{
    struct tar_writer *w = calloc(1, sizeof(*w));
    if (!w || uv_mutex_init(&w->lock) < 0) {
        free(w);
        error_set(err, ERROR_INTERNAL, "copying %s: out of memory", share->source);
        return NULL;
    }
    uv_cond_init(&w->taken);
    if (tar_library_load(&w->walk.library, err) < 0) {
        free_writer(w);
        return NULL;
    }
    w->walk.share = share;
    w->events = *events;
    w->data = data;
    w->async.data = w;
    int r = prepare(w, options);
    if (r < 0 || (r = uv_async_init(loop, &w->async, on_async)) < 0) {
        error_set_code(err, ERROR_INTERNAL, r, "copying %s", share->source);
        free_writer(w);
        return NULL;
    }
    r = uv_thread_create(&w->thread, run, w);
    if (r < 0) {
        error_set_code(err, ERROR_INTERNAL, r, "copying %s: starting a thread", share->source);
        uv_close((uv_handle_t *)&w->async, async_closed);
        return NULL;
    }
    return w;
}
