#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/files_wire.h"
#include "backends/kernels/runner/supervised_internal.h"

/*
 * Requests about files on their way to the far side and back. All of them go at once; what a write
 * brings is sent in pieces, of which fewer than FRAME_PUT_WINDOW bytes are on their way, so that
 * nothing else waits long behind it. Answers come in pieces too, and are collected up to what was
 * asked for: more than that, or an answer that fits no request, is the end of the connection.
 */

enum {
    ID_SIZE = 4,
    PIECE = 64 * 1024,
};

struct errand {
    struct errand *next;
    unsigned id;
    struct file_asked asked;
    file_done done;
    void *data;
    struct buffer answer;
    struct error failed; /* it is not with the far side: this is its answer */
    char *bytes;         /* of a write; `size` of them */
    size_t size, sent, taken;
};

static void errand_free(struct errand *errand)
{
    file_asked_deinit(&errand->asked);
    buffer_deinit(&errand->answer);
    error_clear(&errand->failed);
    free(errand->bytes);
    free(errand);
}

static struct errand *find(const struct supervised *s, json_int_t id)
{
    struct errand *errand = s->errands;

    while (errand && (errand->id != id || errand->failed.kind != ERROR_NONE)) {
        errand = errand->next;
    }
    return errand;
}

/* Off the list first: whoever is told may do anything. */
static void finish(struct supervised *s, struct errand *errand, const struct file_reply *reply,
                   const struct error *err)
{
    struct errand **at = &s->errands;

    while (*at != errand) {
        at = &(*at)->next;
    }
    *at = errand->next;
    errand->done(errand->data, reply, err);
    errand_free(errand);
}

/* ---- asking ---- */

static void fail(struct supervised *s, struct errand *errand, enum error_kind kind,
                 const char *message)
{
    (void)error_set(&errand->failed, kind, "%s", message);
    supervised_soon(s);
}

/* Told from the loop: whoever asks is not to be answered before that has returned. */
static void choke(struct supervised *s)
{
    s->choked = true;
    supervised_soon(s);
}

static int send_piece(struct supervised *s, struct errand *errand)
{
    size_t left = errand->size - errand->sent;
    size_t size = left < PIECE ? left : PIECE;
    unsigned char piece[ID_SIZE + PIECE];
    int r;

    for (unsigned i = 0; i < ID_SIZE; i++) {
        piece[i] = (unsigned char)(errand->id >> (8 * i) & 0xff);
    }
    memcpy(piece + ID_SIZE, errand->bytes + errand->sent, size);
    r = supervised_send(s, FRAME_PIECE, piece, ID_SIZE + size);
    errand->sent += size;
    return r;
}

static void send_more(struct supervised *s, struct errand *errand)
{
    while (errand->sent < errand->size && errand->sent - errand->taken < FRAME_PUT_WINDOW) {
        if (send_piece(s, errand) < 0) {
            choke(s);
            return;
        }
    }
}

static void ask(struct supervised *s, struct errand *errand, const struct file_request *request)
{
    json_t *json = file_wire_request(request);

    if (s->phase != PHASE_UP) {
        json_decref(json);
        fail(s, errand, ERROR_LOST, "the sandbox has ended");
        return;
    }
    if (!json || json_object_set_new(json, "id", json_integer((json_int_t)errand->id)) < 0) {
        json_decref(json);
        fail(s, errand, ERROR_INTERNAL, "out of memory");
        return;
    }
    if (supervised_send_json(s, FRAME_FILE, json) < 0) {
        choke(s);
        return;
    }
    send_more(s, errand);
}

void supervised_file(struct supervised *s, const struct file_request *request, file_done done,
                     void *data)
{
    struct errand **end = &s->errands;
    struct errand *errand = calloc(1, sizeof(*errand));

    if (!errand) {
        abort(); /* there is nothing left to say it with */
    }
    while (*end) {
        end = &(*end)->next;
    }
    *end = errand;
    errand->done = done;
    errand->data = data;
    errand->id = ++s->number;
    buffer_init(&errand->answer, 1);
    if (file_asked_init(&errand->asked, request) < 0 ||
        file_wire_content(request, &errand->bytes, &errand->size) < 0) {
        fail(s, errand, ERROR_INTERNAL, "out of memory");
        return;
    }
    buffer_init(&errand->answer, file_wire_cap(&errand->asked) + 1);
    ask(s, errand, request);
}

/* ---- what the far side says ---- */

bool supervised_file_taken(struct supervised *s, json_int_t id, json_int_t bytes)
{
    struct errand *errand = find(s, id);

    if (!errand) {
        return false;
    }
    if ((uint64_t)bytes > errand->sent || (uint64_t)bytes < errand->taken) {
        supervised_break(s, "the far side took bytes that nobody sent");
        return true;
    }
    errand->taken = (size_t)bytes;
    send_more(s, errand);
    return true;
}

void supervised_file_bytes(struct supervised *s, const char *bytes, size_t size)
{
    json_int_t id = 0;
    struct errand *errand;

    for (unsigned i = 0; i < ID_SIZE && size >= ID_SIZE; i++) {
        id |= (json_int_t)(unsigned char)bytes[i] << (8 * i);
    }
    errand = size >= ID_SIZE ? find(s, id) : NULL;
    if (!errand) {
        supervised_break(s, "the far side answered a request about files that nobody made");
        return;
    }
    size -= ID_SIZE;
    if (buffer_size(&errand->answer) + size > file_wire_cap(&errand->asked)) {
        supervised_break(s, "the far side answered a request about files with more than was asked");
    } else if (size > 0 && buffer_append(&errand->answer, bytes + ID_SIZE, size) < 0) {
        supervised_break(s, "out of memory");
    }
}

/* 0 when it is one to what was asked; 1 when it is an error. */
static int take_apart(const struct errand *errand, const json_t *json, struct file_reply *reply,
                      struct error *err)
{
    const json_t *error = json_object_get(json, "error");
    const json_t *more = json_object_get(json, "more");

    if (!error || !json_is_boolean(more)) {
        return -EPROTO;
    }
    if (!json_is_null(error)) {
        return file_wire_error(&errand->asked, error, err) < 0 ? -EPROTO : 1;
    }
    return file_wire_reply(&errand->asked, buffer_data(&errand->answer),
                           buffer_size(&errand->answer), json_is_true(more), reply);
}

void supervised_file_done(struct supervised *s, json_int_t id, const json_t *json)
{
    struct errand *errand = find(s, id);
    struct file_reply reply = {0};
    struct error err = {0};
    int r = errand ? take_apart(errand, json, &reply, &err) : -EPROTO;

    if (r < 0) {
        supervised_break(s, r == -ENOMEM ? "out of memory"
                                         : "the far side sent an answer about files that is none "
                                           "to what was asked");
        return;
    }
    finish(s, errand, r == 0 ? &reply : NULL, r == 0 ? NULL : &err);
    file_reply_deinit(&reply);
    error_clear(&err);
}

/* ---- those that it has not ---- */

void supervised_files_go_on(struct supervised *s)
{
    struct errand *errand = s->errands;

    while (errand) {
        if (errand->failed.kind == ERROR_NONE) {
            errand = errand->next;
            continue;
        }
        struct error err = errand->failed;
        errand->failed = (struct error){0};
        finish(s, errand, NULL, &err);
        error_clear(&err);
        errand = s->errands; /* the list may have changed */
    }
}

void supervised_files_lost(struct supervised *s)
{
    struct error err = {0};

    (void)error_set(&err, ERROR_LOST, "the sandbox has ended");
    while (s->errands) {
        finish(s, s->errands, NULL, &err);
    }
    error_clear(&err);
}
