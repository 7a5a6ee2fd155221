#include "backends/kernels/runner/runner_message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CUT_MARK_SIZE = 64 };

static int wrong(const char **why, const char *text)
{
    *why = text;
    return -1;
}

static bool too_deep(const json_t *value, unsigned levels)
{
    const char *key;
    json_t *item;
    size_t i;

    if (!json_is_object(value) && !json_is_array(value)) {
        return false;
    }
    if (levels == 0) {
        return true;
    }
    json_array_foreach(value, i, item)
    {
        if (too_deep(item, levels - 1)) {
            return true;
        }
    }
    json_object_foreach((json_t *)value, key, item)
    {
        if (too_deep(item, levels - 1)) {
            return true;
        }
    }
    return false;
}

/*
 * Of two equal keys the last one counts: Python writes {1: …, "1": …} so, and a display is no
 * reason to end a session.
 */
static json_t *load_object(const struct frame *frame, const char **why)
{
    json_t *json = json_loadb(frame->payload, frame->size, JSON_ALLOW_NUL, NULL);

    if (!json) {
        *why = "sent a frame that is not JSON";
        return NULL;
    }
    if (!json_is_object(json) || too_deep(json, MESSAGE_DEPTH_CAP)) {
        *why = json_is_object(json) ? "sent JSON nested too deeply"
                                    : "sent a frame that is not a JSON object";
        json_decref(json);
        return NULL;
    }
    return json;
}

static bool absent(const json_t *value)
{
    return !value || json_is_null(value);
}

static size_t without_half_character(const char *text, size_t size)
{
    while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80) {
        size--;
    }
    return size;
}

static char *cut_middle(const char *text, size_t size, size_t cap)
{
    size_t head = without_half_character(text, cap / 2);
    size_t tail = without_half_character(text, size - (cap - cap / 2));
    char *cut = malloc(head + CUT_MARK_SIZE + (size - tail) + 1);
    int mark;

    if (!cut) {
        return NULL;
    }
    memcpy(cut, text, head);
    mark = snprintf(cut + head, CUT_MARK_SIZE, "\n[… %zu bytes left out …]\n", tail - head);
    memcpy(cut + head + mark, text + tail, size - tail);
    cut[head + (size_t)mark + (size - tail)] = '\0';
    return cut;
}

static char *show_nuls(const char *text, size_t size)
{
    static const char replacement[] = "\xef\xbf\xbd";
    size_t nuls = 0, used = 0;
    char *shown;

    for (size_t i = 0; i < size; i++) {
        nuls += text[i] == '\0';
    }
    shown = calloc(1, size + 2 * nuls + 1);
    for (size_t i = 0; shown && i < size; i++) {
        if (text[i] == '\0') {
            memcpy(shown + used, replacement, 3);
            used += 3;
        } else {
            shown[used++] = text[i];
        }
    }
    if (shown) {
        shown[used] = '\0';
    }
    return shown;
}

char *message_text(const char *text, size_t size, size_t cap)
{
    char *shown = show_nuls(text, size);
    size_t length = shown ? strlen(shown) : 0;
    char *cut;

    if (!shown || length <= cap) {
        return shown;
    }
    cut = cut_middle(shown, length, cap);
    free(shown);
    return cut;
}

/* A string, or null or nothing at all where `optional`. */
static int text_field(const json_t *object, const char *key, size_t cap, bool optional, char **ret)
{
    const json_t *value = json_object_get(object, key);

    if (optional && absent(value)) {
        *ret = NULL;
        return 0;
    }
    if (!json_is_string(value)) {
        return -EINVAL;
    }
    *ret = message_text(json_string_value(value), json_string_length(value), cap);
    return *ret ? 0 : -ENOMEM;
}

static int number_field(const json_t *object, const char *key, json_int_t most, json_int_t *ret)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_integer_value(value);

    if (absent(value)) {
        *ret = 0;
        return 0;
    }
    if (!json_is_integer(value) || number < 0 || number > most) {
        return -EINVAL;
    }
    *ret = number;
    return 0;
}

/* ---- GREETING ---- */

static int describe(const json_t *json, struct greeting *ret)
{
    char *python = NULL, *implementation = NULL, *ipython = NULL;
    int r = text_field(json, "python", 64, false, &python);

    if (r == 0) {
        r = text_field(json, "implementation", 64, false, &implementation);
    }
    if (r == 0) {
        r = text_field(json, "ipython", 64, true, &ipython);
    }
    if (r == 0) {
        bool usual = strcmp(implementation, "CPython") == 0;
        (void)snprintf(ret->description, sizeof(ret->description), "%s %s%s%s",
                       usual ? "Python" : implementation, python, ipython ? ", IPython " : "",
                       ipython ? ipython : "");
    }
    free(python);
    free(implementation);
    free(ipython);
    return r;
}

int greeting_parse(const struct frame *frame, struct greeting *ret, const char **why)
{
    json_t *json = load_object(frame, why);
    int r = 0;

    if (!json) {
        return -1;
    }
    if (json_integer_value(json_object_get(json, "cellblock")) != FRAME_VERSION) {
        r = wrong(why, "speaks another version of the frames than this server");
    } else if (describe(json, ret) < 0) {
        r = wrong(why, "sent a greeting with fields missing or of the wrong type");
    }
    json_decref(json);
    return r;
}

/* ---- DISPLAY, CLEAR, NOTE ---- */

static int display_kind_of(const json_t *json, enum display_kind *ret)
{
    static const char *const words[] = {
        [DISPLAY_RESULT] = "result", [DISPLAY_DATA] = "display", [DISPLAY_UPDATE] = "update"};
    const char *word = json_string_value(json_object_get(json, "kind"));

    for (unsigned i = 0; word && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(words[i], word) == 0) {
            *ret = (enum display_kind)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int display_fill(json_t *json, struct display *d)
{
    json_t *id = json_object_get(json, "display_id");

    d->data = json_object_get(json, "data");
    d->metadata = json_object_get(json, "metadata");
    if (display_kind_of(json, &d->kind) < 0 || !json_is_object(d->data) ||
        json_object_size(d->data) > MESSAGE_MIMES_CAP) {
        return -EINVAL;
    }
    if (absent(d->metadata)) {
        if (json_object_set_new(json, "metadata", json_object()) < 0) {
            return -ENOMEM;
        }
        d->metadata = json_object_get(json, "metadata");
    }
    if (!absent(id) && (!json_is_string(id) || json_string_length(id) > MESSAGE_TEXT_CAP)) {
        return -EINVAL;
    }
    d->display_id = json_string_value(id);
    return json_is_object(d->metadata) ? 0 : -EINVAL;
}

static int clear_fill(const json_t *json, struct display *d)
{
    const json_t *wait = json_object_get(json, "wait");

    d->kind = DISPLAY_CLEAR;
    d->wait = json_is_true(wait);
    return json_is_boolean(wait) ? 0 : -EINVAL;
}

int display_message_parse(const struct frame *frame, struct display_message *ret, const char **why)
{
    struct display_message m = {.json = load_object(frame, why)};
    const json_t *sync;
    int r;

    if (!m.json) {
        return -1;
    }
    sync = json_object_get(m.json, "sync");
    m.sync = json_is_true(sync);
    r = frame->type == FRAME_CLEAR ? clear_fill(m.json, &m.display)
                                   : display_fill(m.json, &m.display);
    if (r < 0 || (!absent(sync) && !json_is_boolean(sync))) {
        json_decref(m.json);
        return wrong(why, "sent a display with fields missing or of the wrong type");
    }
    *ret = m;
    return 0;
}

void display_message_deinit(struct display_message *m)
{
    json_decref(m->json);
    m->json = NULL;
}

int note_parse(const struct frame *frame, char **ret, const char **why)
{
    json_t *json = load_object(frame, why);
    int r;

    if (!json) {
        return -1;
    }
    r = text_field(json, "text", MESSAGE_NOTE_CAP, false, ret);
    json_decref(json);
    return r == 0 ? 0 : wrong(why, "sent a note without text");
}

/* ---- DONE ---- */

static int status_of(const json_t *json, enum kernel_status *ret)
{
    static const char *const words[] = {
        [KERNEL_OK] = "ok",
        [KERNEL_ERROR] = "error",
        [KERNEL_EXIT] = "exit",
        [KERNEL_SIGNAL] = "signal",
        [KERNEL_INTERRUPTED] = "interrupted",
    };
    const char *word = json_string_value(json_object_get(json, "status"));

    for (unsigned i = 0; word && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(words[i], word) == 0) {
            *ret = (enum kernel_status)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int error_fill(const json_t *json, struct done_message *m)
{
    const json_t *error = json_object_get(json, "error");
    int r;

    if (absent(error)) {
        return m->reply.status == KERNEL_ERROR ? -EINVAL : 0;
    }
    r = text_field(error, "etype", MESSAGE_NAME_CAP, false, &m->etype);
    if (r == 0) {
        r = text_field(error, "evalue", MESSAGE_TEXT_CAP, true, &m->evalue);
    }
    if (r == 0) {
        r = text_field(error, "traceback", MESSAGE_TEXT_CAP, true, &m->traceback);
    }
    m->reply.etype = m->etype;
    m->reply.evalue = m->evalue;
    m->reply.traceback = m->traceback;
    return r;
}

static int exit_fill(const json_t *json, struct kernel_reply *reply)
{
    const json_t *code = json_object_get(json, "exit_code");
    json_int_t number;

    if (!absent(code)) {
        number = json_integer_value(code);
        if (!json_is_integer(code) || number < INT32_MIN || number > INT32_MAX) {
            return -EINVAL;
        }
        reply->has_exit_code = true;
        reply->exit_code = (int)number;
    }
    if (number_field(json, "signal", 64, &number) < 0) {
        return -EINVAL;
    }
    reply->signal = (int)number;
    if (reply->status == KERNEL_EXIT && !reply->has_exit_code) {
        return -EINVAL;
    }
    return reply->status == KERNEL_SIGNAL && reply->signal == 0 ? -EINVAL : 0;
}

static int usage_fill(const json_t *json, struct kernel_reply *reply)
{
    json_int_t count, cpu, rss;

    if (number_field(json, "execution_count", INT32_MAX, &count) < 0 ||
        number_field(json, "cpu_ms", INT64_MAX, &cpu) < 0 ||
        number_field(json, "peak_rss_kib", INT64_MAX, &rss) < 0) {
        return -EINVAL;
    }
    reply->execution_count = (int)count;
    reply->cpu_ms = (uint64_t)cpu;
    reply->peak_rss_kib = (uint64_t)rss;
    return 0;
}

static int done_fill(const json_t *json, struct done_message *m)
{
    const json_t *run = json_object_get(json, "run");

    /* A longer id is none of ours; as it is only compared, a cut one serves. */
    if (!json_is_string(run) || status_of(json, &m->reply.status) < 0) {
        return -EINVAL;
    }
    (void)snprintf(m->run, sizeof(m->run), "%s", json_string_value(run));
    m->changed = json_incref(json_object_get(json, "changed"));
    m->reply.changed = m->changed;
    if (exit_fill(json, &m->reply) < 0 || usage_fill(json, &m->reply) < 0) {
        return -EINVAL;
    }
    return error_fill(json, m);
}

int done_message_parse(const struct frame *frame, struct done_message *ret, const char **why)
{
    json_t *json = load_object(frame, why);
    int r;

    if (!json) {
        return -1;
    }
    *ret = (struct done_message){0};
    r = done_fill(json, ret);
    json_decref(json);
    if (r < 0) {
        done_message_deinit(ret);
        return wrong(why, "ended a run with fields missing or of the wrong type");
    }
    return 0;
}

void done_message_deinit(struct done_message *m)
{
    free(m->etype);
    free(m->evalue);
    free(m->traceback);
    json_decref(m->changed);
    *m = (struct done_message){0};
}

/* ---- RUN ---- */

static int dump_to_buffer(const char *bytes, size_t size, void *data)
{
    return buffer_append(data, bytes, size);
}

static json_t *argv_json(const char *const *argv)
{
    json_t *list = json_array();

    for (; list && *argv; argv++) {
        if (json_array_append_new(list, json_string(*argv)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* What only some have, where they have it. */
static int add_command(json_t *run, const struct run_request *request)
{
    int r = 0;

    if (request->argv) {
        r |= json_object_set_new(run, "argv", argv_json(request->argv));
    }
    if (request->argv && request->python) {
        r |= json_object_set_new(run, "python", json_true());
    }
    if (request->folder) {
        r |= json_object_set_new(run, "folder", json_string(request->folder));
    }
    if (request->workdir) {
        r |= json_object_set_new(run, "workdir", json_string(request->workdir));
    }
    if (request->stdin_open) {
        r |= json_object_set_new(run, "stdin_open", json_true());
    }
    return r;
}

static json_t *run_object(const struct run_request *request)
{
    json_t *input =
        request->stdin_text ? json_stringn(request->stdin_text, request->stdin_size) : json_null();
    json_t *json =
        json_pack("{s:s, s:o, s:O?}", "run", request->id, "stdin", input, "env", request->env);
    int r = 0;

    if (!request->argv) {
        r |= json_object_set_new(json, "language", json_string(request->language));
        r |= json_object_set_new(json, "code", json_stringn(request->code, request->code_size));
    }
    if (r < 0 || add_command(json, request) < 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static int append_json_frame(struct buffer *out, enum frame_type type, const json_t *json)
{
    unsigned char header[FRAME_HEADER] = {0};
    int r = buffer_append(out, header, sizeof(header));

    if (r == 0 && json_dump_callback(json, dump_to_buffer, out, JSON_COMPACT) < 0) {
        r = -EMSGSIZE;
    }
    if (r < 0) {
        buffer_reset(out);
        return r;
    }
    frame_header(header, type, buffer_size(out) - FRAME_HEADER);
    memcpy(buffer_data(out), header, sizeof(header));
    return 0;
}

int run_frame_build(struct buffer *out, const struct run_request *request)
{
    json_t *json = run_object(request);
    int r = json ? append_json_frame(out, FRAME_RUN, json) : -EILSEQ;

    json_decref(json);
    return r;
}

/* ---- STDIN, SIGNAL ---- */

int stdin_frame_build(struct buffer *out, const char *run, const char *bytes, size_t size, bool eof)
{
    size_t id = strnlen(run, RUN_ID_SIZE);
    unsigned char head[FRAME_HEADER + 2];
    size_t payload = 2 + id + size;
    int r;

    if (payload > FRAME_PAYLOAD_CAP) {
        return -EMSGSIZE;
    }
    frame_header(head, FRAME_STDIN, payload);
    head[FRAME_HEADER] = eof;
    head[FRAME_HEADER + 1] = (unsigned char)id;
    r = buffer_append(out, head, sizeof(head));
    if (r == 0) {
        r = buffer_append(out, run, id);
    }
    if (r == 0 && size > 0) {
        r = buffer_append(out, bytes, size);
    }
    if (r < 0) {
        buffer_reset(out);
    }
    return r;
}

int signal_frame_build(struct buffer *out, const char *run, int number)
{
    json_t *json = json_pack("{s:s, s:i}", "run", run, "signal", number);
    int r = json ? append_json_frame(out, FRAME_SIGNAL, json) : -ENOMEM;

    json_decref(json);
    return r;
}
