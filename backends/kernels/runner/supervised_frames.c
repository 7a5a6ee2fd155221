#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kernels/runner/supervised_internal.h"

/* What the supervisor says, checked: it may be anything that has taken its place. */

enum {
    TEXT_CAP = 1024,      /* of a text that is quoted */
    BANNER_LINES_CAP = 5, /* last lines of a banner that are quoted */
    BANNER_TEXT_CAP = 600,
};

static json_t *load(const struct frame *frame)
{
    json_t *json = json_loadb(frame->payload, frame->size, 0, NULL);

    if (!json_is_object(json)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* A whole number from 0 on; absent is 0. */
static int number(const json_t *json, const char *name, json_int_t *ret)
{
    const json_t *value = json_object_get(json, name);

    if (!value || json_is_null(value)) {
        *ret = 0;
        return 0;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return -1;
    }
    *ret = json_integer_value(value);
    return 0;
}

/* A copy without control characters, cut at TEXT_CAP. */
static char *clean(const char *text, size_t size)
{
    char *copy = strndup(text, size < TEXT_CAP ? size : TEXT_CAP);

    for (char *p = copy; p && *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            *p = ' ';
        }
    }
    return copy;
}

char *supervised_last_lines(const char *text, size_t size)
{
    size_t start = size;
    unsigned lines = 0;
    char *copy;

    while (size > 0 && strchr("\r\n\t ", text[size - 1])) {
        size--;
    }
    for (start = size; start > 0 && size - start < BANNER_TEXT_CAP; start--) {
        if (text[start - 1] == '\n' && ++lines == BANNER_LINES_CAP) {
            break;
        }
    }
    copy = calloc(1, size - start + 1);
    for (size_t i = start, to = 0; copy && i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n') {
            copy[to++] = ' ';
        } else if (c >= 0x20 && c < 0x7f) {
            copy[to++] = (char)c;
        }
    }
    return copy;
}

static void broken(struct supervised *s, const char *what)
{
    supervised_break(s, "the far side sent %s with fields missing or of the wrong type", what);
}

/* Of one that was there already: is its worker as well? */
static bool found_worker(struct supervised *s, const json_t *json)
{
    const json_t *worker = json_object_get(json, "worker"), *end = json_object_get(json, "end");
    char *words;

    if (!json_is_boolean(worker) || (end && !json_is_string(end))) {
        broken(s, "a greeting");
        return false;
    }
    if (json_is_false(worker)) {
        words = end ? clean(json_string_value(end), json_string_length(end)) : NULL;
        s->another = true;
        supervised_break(s, "the process that ran its code is gone%s%s", words ? ": " : "",
                         words ? words : "");
        free(words);
        return false;
    }
    return true;
}

static void take_hello(struct supervised *s, const json_t *json)
{
    const char *python = json_string_value(json_object_get(json, "python"));
    const char *folder = json_string_value(json_object_get(json, "folder"));
    json_int_t version, pid;
    char *words;

    if (!python || number(json, "cellblock", &version) < 0 || version != FRAME_SUPERVISOR_VERSION ||
        s->phase != PHASE_HELLO || (s->options.workspace ? folder != NULL : !folder) ||
        (folder && (folder[0] != '/' || strlen(folder) >= TEXT_CAP))) {
        broken(s, "a greeting");
        return;
    }
    if (s->options.secret && !found_worker(s, json)) {
        return;
    }
    words = clean(python, strnlen(python, 64));
    if (number(json, "pid", &pid) == 0 && pid > 0 && pid <= INT_MAX) {
        s->pid = (int)pid;
    }
    s->keeps = json_is_true(json_object_get(json, "output"));
    s->folder = folder ? strdup(folder) : NULL;
    s->phase = PHASE_UP;
    (void)uv_timer_stop(&s->greeting);
    s->events.on_greeting(s->data, words ? words : "");
    free(words);
}

static void take_started(struct supervised *s)
{
    if (s->worker != WORKER_STARTING) {
        supervised_break(s, "the far side started a worker that nobody asked for");
        return;
    }
    s->worker = WORKER_LIVE;
    s->runs_due = 0;
    s->held = 0;
    buffer_reset(&s->early);
    if (!s->kill_sent) {
        s->events.on_worker(s->data, &s->link);
    }
}

static int how_of(const char *word, enum exit_how *ret)
{
    static const struct {
        const char *word;
        enum exit_how how;
    } words[] = {
        {"code", EXIT_CODE},
        {"disk", EXIT_DISK},
        {"failed", EXIT_LOST},
        {"files", EXIT_DISK},
        {"memory", EXIT_OUT_OF_MEMORY},
        {"processes", EXIT_SIGNAL},
        {"protocol", EXIT_PROTOCOL},
        {"signal", EXIT_SIGNAL},
    };

    for (size_t i = 0; word && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(words[i].word, word) == 0) {
            *ret = words[i].how;
            return 0;
        }
    }
    return -1;
}

static char *process_words(json_int_t used, json_int_t limit)
{
    char *words = NULL;

    return asprintf(&words,
                    "it had %" JSON_INTEGER_FORMAT " processes of the %" JSON_INTEGER_FORMAT
                    " that it may have and was ended",
                    used, limit) < 0
               ? NULL
               : words;
}

static int fill_exit(const json_t *json, struct exit_frame *ret)
{
    const char *how = json_string_value(json_object_get(json, "how"));
    const json_t *text = json_object_get(json, "text");
    json_int_t code, sig, used, limit, cpu, rss;

    if (how_of(how, &ret->exit.how) < 0 || number(json, "code", &code) < 0 || code > 255 ||
        number(json, "signal", &sig) < 0 || sig > 64 || number(json, "used", &used) < 0 ||
        number(json, "limit", &limit) < 0 || number(json, "cpu_ms", &cpu) < 0 ||
        number(json, "peak_rss_kib", &rss) < 0 || (text && !json_is_string(text))) {
        return -1;
    }
    ret->exit.code = (int)code;
    ret->exit.signal = strcmp(how, "processes") == 0 ? 9 : (int)sig;
    ret->exit.used = (uint64_t)used;
    ret->exit.limit = (uint64_t)limit;
    ret->exit.cpu_ms = (uint64_t)cpu;
    ret->exit.peak_rss_kib = (uint64_t)rss;
    ret->exit.kind = ERROR_LOST;
    ret->exit.changed = json_object_get(json, "changed"); /* checked by who parses it */
    ret->text = text ? clean(json_string_value(text), json_string_length(text)) : NULL;
    if (strcmp(how, "processes") == 0) {
        free(ret->text);
        ret->text = process_words(used, limit);
    }
    ret->exit.message = strcmp(how, "files") == 0 ? "files" : ret->text;
    return 0;
}

static void take_exit(struct supervised *s, const json_t *json)
{
    struct exit_frame frame = {0};

    if (s->worker == WORKER_NONE || fill_exit(json, &frame) < 0) {
        broken(s, "the end of a worker");
        return;
    }
    frame.exit.unbegun = s->runs_due > 0;
    s->worker = WORKER_NONE;
    s->kill_sent = false;
    s->runs_due = 0;
    buffer_reset(&s->early);
    buffer_reset(&s->plan);
    s->events.on_worker_exit(s->data, &frame.exit);
    free(frame.text);
}

static void take_begun(struct supervised *s)
{
    if (s->runs_due == 0) {
        supervised_break(s, "the far side began a run that nobody asked for");
        return;
    }
    s->runs_due--;
}

static void take_taken(struct supervised *s, const json_t *json)
{
    json_int_t id, bytes;

    if (number(json, "id", &id) < 0 || number(json, "bytes", &bytes) < 0) {
        broken(s, "a receipt");
        return;
    }
    if (!supervised_file_taken(s, id, bytes)) {
        supervised_put_taken(s, id, bytes);
    }
}

static void take_put_done(struct supervised *s, const json_t *json)
{
    const json_t *error = json_object_get(json, "error");
    const json_t *text = json_object_get(error, "text");
    const char *kind = json_string_value(json_object_get(error, "kind"));
    json_int_t id;
    char *words;

    if (number(json, "id", &id) < 0 || !error || (!json_is_null(error) && !kind)) {
        broken(s, "the end of a copy");
        return;
    }
    words = json_is_string(text) ? clean(json_string_value(text), json_string_length(text)) : NULL;
    supervised_put_done(s, id, kind, words ? words : "");
    free(words);
}

static void take_file_done(struct supervised *s, const json_t *json)
{
    json_int_t id;

    if (number(json, "id", &id) < 0) {
        broken(s, "an answer about files");
        return;
    }
    supervised_file_done(s, id, json);
}

static void take_object(struct supervised *s, unsigned type, const json_t *json)
{
    switch (type) {
    case FRAME_HELLO:
        take_hello(s, json);
        break;
    case FRAME_STARTED:
        take_started(s);
        break;
    case FRAME_EXIT:
        take_exit(s, json);
        break;
    case FRAME_TAKEN:
        take_taken(s, json);
        break;
    case FRAME_FILE_DONE:
        take_file_done(s, json);
        break;
    case FRAME_HELD:
        supervised_held(s, json);
        break;
    case FRAME_KEPT:
        supervised_kept(s, json);
        break;
    default:
        take_put_done(s, json);
        break;
    }
}

void supervised_take_frame(struct supervised *s, const struct frame *frame)
{
    json_t *json;

    if (frame->type == FRAME_BEGUN) {
        take_begun(s);
        return;
    }
    if (frame->type == FRAME_FILE_BYTES) {
        supervised_file_bytes(s, frame->payload, frame->size);
        return;
    }
    if (frame->type == FRAME_SAMPLE) {
        supervised_sample(s, frame->payload, frame->size);
        return;
    }
    json = load(frame);
    if (json) {
        take_object(s, frame->type, json);
    } else {
        supervised_break(s, "the far side sent a frame that is not a JSON object");
    }
    json_decref(json);
}
