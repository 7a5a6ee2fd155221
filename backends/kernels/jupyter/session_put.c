#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/net/tar.h"
#include "backends/kernels/jupyter/session_internal.h"

/*
 * A copy: a tar stream in pieces, each a question to the helper, some of them at a time. The helper
 * unpacks into a hidden folder beside dest, which gets its name when all is there.
 */
enum {
    WINDOW = 16, /* pieces that are on their way */
    ASK_MS = 600 * 1000,
    PROGRESS_MS = 500,
    AGAIN_MAX = 5, /* so often a copy begins anew after a cut */
};

struct put {
    struct jupyter_session *session;
    const struct share *share;
    struct share *read; /* the writer's own: its thread may outlive us */
    executor_progress progress;
    executor_done done;
    void *data;
    struct tar_writer *writer;
    unsigned number;
    unsigned waiting; /* for so many answers of this number */
    unsigned again;
    bool held; /* the writer waits for us */
    bool all;  /* the stream has ended */
    uint64_t told_at;
};

#define TOP "share"

static void on_begun(void *data, json_t *content, const struct error *err);
static void on_piece_taken(void *data, json_t *content, const struct error *err);

/* Who is answered: a put that was given up meanwhile is another one's number, or none. */
struct ticket {
    struct jupyter_session *session;
    unsigned number;
};

static struct put *redeem(struct ticket *ticket)
{
    struct put *put = ticket->session->put;
    unsigned number = ticket->number;

    free(ticket);
    return put && put->number == number ? put : NULL;
}

static void ask(struct put *put, const char *step, const char *name, const char *value,
                const void *bytes, size_t size, ask_answered answered)
{
    struct session_kernel *k = session_python(put->session);
    struct ticket *ticket = malloc(sizeof(*ticket));
    json_t *content =
        json_pack("{s:s, s:s, s:i}", "op", "put", "step", step, "put", (int)put->number);

    if (!ticket || !content) {
        abort();
    }
    if (name) {
        json_object_set_new(content, name, json_string(value));
    }
    *ticket = (struct ticket){put->session, put->number};
    put->waiting++;
    session_ask(k, content, bytes, size, ASK_MS, answered, ticket);
}

static void ignore(void *data, json_t *content, const struct error *err)
{
    (void)content;
    (void)err;
    free(data);
}

/* ---- ending ---- */

static void free_share(void *data)
{
    share_free(data);
}

static void close_writer(struct put *put)
{
    if (put->writer) {
        tar_writer_close(put->writer, free_share, put->read);
        put->writer = NULL;
    }
}

static void finish(struct put *put, const struct error *err)
{
    executor_done done = put->done;
    void *data = put->data;

    put->session->put = NULL;
    close_writer(put);
    free(put);
    done(data, err);
}

static void give_up(struct put *put, const struct error *err)
{
    const struct session_kernel *k = session_python(put->session);

    if (k && k->ready && put->number) {
        ask(put, "cancel", NULL, NULL, NULL, 0, ignore);
    }
    finish(put, err);
}

static void put_fail_with(struct put *put, json_t *content)
{
    const char *text = json_string_value(json_object_get(content, "error"));
    json_int_t number = json_integer_value(json_object_get(content, "errno"));
    struct error err = {0};

    if (number == EEXIST) {
        (void)error_set(&err, ERROR_INVALID,
                        "dest %s exists in the sandbox already: choose another dest, or remove it "
                        "first",
                        put->share->dest);
    } else {
        enum error_kind kind =
            number == EACCES || number == EPERM || number == EROFS
                ? ERROR_REFUSED
                : (number == ENOSPC || number == EDQUOT ? ERROR_LIMIT : ERROR_INVALID);
        (void)error_set(&err, kind, "copying %s to %s: %.500s", put->share->source,
                        put->share->dest, text ? text : "the kernel did not say why");
    }
    give_up(put, &err);
    error_clear(&err);
}

/* NULL when the answer is none to go on with; then it has been dealt with. */
static struct put *take_answer(void *data, json_t *content, const struct error *err)
{
    struct put *put = redeem(data);

    if (!put) {
        return NULL;
    }
    put->waiting--;
    if (err) {
        if (err->kind != ERROR_LOST) {
            give_up(put, err);
        }
        return NULL; /* cut: session_put_again or session_put_fail follows */
    }
    if (json_object_get(content, "error")) {
        put_fail_with(put, content);
        return NULL;
    }
    return put;
}

static void on_ended(void *data, json_t *content, const struct error *err)
{
    struct put *put = take_answer(data, content, err);

    if (put) {
        finish(put, NULL);
    }
}

/* ---- the stream ---- */

static void tell_progress(struct put *put)
{
    uint64_t now = uv_now(put->session->server->loop);
    uint64_t bytes = 0, files = 0;
    char line[512];

    if (!put->progress || now - put->told_at < PROGRESS_MS) {
        return;
    }
    put->told_at = now;
    tar_writer_progress(put->writer, &bytes, &files);
    (void)snprintf(line, sizeof(line), "copying %.300s: %llu MiB in %llu files so far",
                   put->share->source, (unsigned long long)(bytes >> 20),
                   (unsigned long long)files);
    put->progress(put->data, line);
}

static void go_on(struct put *put)
{
    if (put->all && put->waiting == 0) {
        put->all = false;
        ask(put, "end", "name", TOP, NULL, 0, on_ended);
    } else if (put->held && put->waiting < WINDOW) {
        put->held = false;
        tar_writer_next(put->writer);
    }
}

static void on_piece(void *data, const char *bytes, size_t size)
{
    struct put *put = data;

    put->held = true;
    ask(put, "data", NULL, NULL, bytes, size, on_piece_taken);
    tell_progress(put);
    go_on(put);
}

static void on_piece_taken(void *data, json_t *content, const struct error *err)
{
    struct put *put = take_answer(data, content, err);

    if (put) {
        tell_progress(put); /* also when all has been read and is on its way */
        go_on(put);
    }
}

static void on_stream_end(void *data, const struct error *err)
{
    struct put *put = data;

    if (err) {
        give_up(put, err);
        return;
    }
    put->all = true;
    put->held = false;
    go_on(put);
}

static void on_begun(void *data, json_t *content, const struct error *err)
{
    static const struct tar_events events = {on_piece, on_stream_end};
    struct put *put = take_answer(data, content, err);
    struct error failure = {0};

    if (!put) {
        return;
    }
    put->read = share_clone(put->share);
    if (!put->read) {
        (void)error_set(&failure, ERROR_LIMIT, "no descriptor or memory is left for the copy");
    } else {
        put->writer = tar_writer_new(put->session->server->loop, put->read,
                                     &(struct tar_options){.name = TOP}, &events, put, &failure);
    }
    if (!put->writer) {
        share_free(put->read);
        give_up(put, &failure);
        error_clear(&failure);
    }
}

/* ---- for others ---- */

static void begin(struct put *put)
{
    put->number = ++put->session->put_number;
    put->waiting = 0;
    put->all = put->held = false;
    ask(put, "begin", "dest", put->share->dest, NULL, 0, on_begun);
}

void session_put_again(struct jupyter_session *s)
{
    struct put *put = s->put;
    struct error err = {0};

    if (!put) {
        return;
    }
    close_writer(put);
    ask(put, "cancel", NULL, NULL, NULL, 0, ignore);
    if (++put->again > AGAIN_MAX) {
        (void)error_set(&err, ERROR_LOST, "the connection to the kernel was cut again and again");
        finish(put, &err);
        error_clear(&err);
        return;
    }
    begin(put);
}

void session_put_fail(struct jupyter_session *s, const char *why)
{
    struct error err = {0};

    if (s->put) {
        (void)error_set(&err, ERROR_LOST, "%s", why);
        finish(s->put, &err);
        error_clear(&err);
    }
}

void jupyter_session_put_cancel(struct jupyter_session *s)
{
    struct error err = {0};

    if (s->put) {
        (void)error_set(&err, ERROR_TIMEOUT, "the copy was given up");
        give_up(s->put, &err);
        error_clear(&err);
    }
}

void jupyter_session_put(struct jupyter_session *s, const struct share *share,
                         executor_progress progress, executor_done done, void *data)
{
    struct put *put = calloc(1, sizeof(*put));
    const struct session_kernel *k = session_python(s);
    struct error err = {0};

    if (!put || !k || !k->ready || s->put) {
        free(put);
        (void)error_set(&err, ERROR_LOST, "the kernel has ended");
        done(data, &err);
        error_clear(&err);
        return;
    }
    *put = (struct put){.session = s,
                        .share = share,
                        .progress = progress,
                        .done = done,
                        .data = data,
                        .told_at = uv_now(s->server->loop)};
    s->put = put;
    begin(put);
}
