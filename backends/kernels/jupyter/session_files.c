#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/files_wire.h"
#include "backends/kernels/jupyter/session_internal.h"

/*
 * A request about files: questions to the helper on the control channel, one after the other. The
 * first brings the request (files_wire.h), others what a write has, then each asks for the next
 * piece of the answer, which comes as {"bytes":"…","done":null|{"more":bool,"error":…}} with the
 * bytes in hexadecimal digits: it is JSON, which has no other bytes than those of texts. The helper
 * does the work in a thread, so a question never waits long, and nothing else behind it.
 */
enum {
    ASK_MS = 60 * 1000,
    ALL_MS = 120 * 1000, /* of one request; the executor gives it up long before */
    PIECE = 512 * 1024,  /* servers take messages of 10 MiB, or fewer */
};

struct errand {
    struct jupyter_session *session;
    unsigned number;
    uint64_t deadline;
    struct file_asked asked;
    file_done done;
    void *data;
    char *bytes; /* of a write; `size` of them */
    size_t size, sent;
    struct buffer answer;
};

static void finish(struct errand *errand, const struct file_reply *reply, const struct error *err)
{
    errand->done(errand->data, reply, err);
    file_asked_deinit(&errand->asked);
    buffer_deinit(&errand->answer);
    free(errand->bytes);
    free(errand);
}

static void fail(struct errand *errand, enum error_kind kind, const char *message)
{
    struct error err = {0};

    (void)error_set(&err, kind, "%s", message);
    finish(errand, NULL, &err);
    error_clear(&err);
}

/* ---- the answer ---- */

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int keep_bytes(struct errand *errand, const json_t *json)
{
    const char *text = json_string_value(json);
    size_t size = json_string_length(json) / 2;
    char *space;

    if (!text || json_string_length(json) % 2 != 0 ||
        buffer_size(&errand->answer) + size > file_wire_cap(&errand->asked)) {
        return -EPROTO;
    }
    if (size == 0) {
        return 0;
    }
    if (buffer_reserve(&errand->answer, size, &space) < 0) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < size; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return -EPROTO;
        }
        space[i] = (char)(high << 4 | low);
    }
    buffer_commit(&errand->answer, size);
    return 0;
}

static void take_end(struct errand *errand, const json_t *done)
{
    const json_t *error = json_object_get(done, "error");
    const json_t *more = json_object_get(done, "more");
    struct file_reply reply = {0};
    struct error err = {0};
    int r = -EPROTO;

    if (json_is_object(error)) {
        r = file_wire_error(&errand->asked, error, &err);
    } else if (json_is_null(error) && json_is_boolean(more)) {
        r = file_wire_reply(&errand->asked, buffer_data(&errand->answer),
                            buffer_size(&errand->answer), json_is_true(more), &reply);
    }
    if (r < 0) {
        fail(errand, r == -ENOMEM ? ERROR_INTERNAL : ERROR_LOST,
             r == -ENOMEM ? "out of memory"
                          : "the kernel gave an answer about files that is none to what was asked");
        return;
    }
    finish(errand, err.kind == ERROR_NONE ? &reply : NULL, err.kind == ERROR_NONE ? NULL : &err);
    file_reply_deinit(&reply);
    error_clear(&err);
}

/* ---- asking ---- */

static void on_answer(void *data, json_t *content, const struct error *err);

static void ask(struct errand *errand, const char *step, json_t *request_owned)
{
    struct session_kernel *k = session_python(errand->session);
    json_t *content = json_pack("{s:s, s:s, s:i, s:o*}", "op", "file", "step", step, "number",
                                (int)errand->number, "request", request_owned);
    size_t left = errand->size - errand->sent;
    size_t size = strcmp(step, "data") == 0 ? (left < PIECE ? left : PIECE) : 0;

    if (!content) {
        abort(); /* so few bytes, and nobody could be told */
    }
    if (!k || !k->ready || errand->session->state != SESSION_LIVE) {
        json_decref(content);
        session_ask_nobody(errand->session, on_answer, errand);
        return;
    }
    session_ask(k, content, size > 0 ? errand->bytes + errand->sent : NULL, size, ASK_MS, on_answer,
                errand);
    errand->sent += size;
}

static void on_answer(void *data, json_t *content, const struct error *err)
{
    struct errand *errand = data;
    const json_t *done = json_object_get(content, "done");
    int r;

    if (err) {
        fail(errand, ERROR_LOST, err->kind == ERROR_LOST ? err->message : "the kernel has ended");
        return;
    }
    if (json_object_get(content, "error")) {
        fail(errand, ERROR_INTERNAL, "the kernel could not be asked about its files");
        return;
    }
    r = keep_bytes(errand, json_object_get(content, "bytes"));
    if (r < 0 || !done) {
        fail(errand, r == -ENOMEM ? ERROR_INTERNAL : ERROR_LOST,
             r == -ENOMEM ? "out of memory"
                          : "the kernel answered a request about files with what was not asked");
    } else if (!json_is_null(done)) {
        take_end(errand, done);
    } else if (uv_now(errand->session->server->loop) >= errand->deadline) {
        fail(errand, ERROR_TIMEOUT, "the kernel did not come to an end with it");
    } else {
        ask(errand, errand->sent < errand->size ? "data" : "next", NULL);
    }
}

void jupyter_session_file(struct jupyter_session *s, const struct file_request *request,
                          file_done done, void *data)
{
    struct errand *errand = calloc(1, sizeof(*errand));
    json_t *json = file_wire_request(request);

    if (!errand || !json || file_asked_init(&errand->asked, request) < 0 ||
        file_wire_content(request, &errand->bytes, &errand->size) < 0) {
        abort(); /* there is nothing left to say it with */
    }
    errand->session = s;
    errand->number = ++s->file_number;
    errand->deadline = uv_now(s->server->loop) + ALL_MS;
    errand->done = done;
    errand->data = data;
    buffer_init(&errand->answer, file_wire_cap(&errand->asked) + 1);
    ask(errand, "begin", json);
}
