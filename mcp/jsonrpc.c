#include "mcp/jsonrpc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/json_write.h"

int fault_set(struct fault *fault, enum jsonrpc_code code, const char *format, ...)
{
    va_list args;
    fault->code = code;
    fault->data = NULL;
    va_start(args, format);
    /* The analyzer of LLVM 14 loses sight of this one va_start. */
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized)
    vsnprintf(fault->text, sizeof(fault->text), format, args);
    va_end(args);
    return -1;
}

/* ---- a look at the bytes before the parser sees them ---- */

struct scan {
    const char *at;
    const char *end;
};

/* Moves past a string whose opening quote has been read; false when it does not end. */
static bool skip_string(struct scan *s)
{
    while (s->at < s->end) {
        char c = *s->at++;
        if (c == '"') {
            return true;
        }
        if (c == '\\' && s->at < s->end) {
            s->at++;
        }
    }
    return false;
}

/* The parser recurses once a level, so the depth is measured without it. */
static int check_depth(const char *line, size_t size, struct fault *fault)
{
    struct scan s = {line, line + size};
    int depth = 0;
    while (s.at < s.end) {
        char c = *s.at++;
        if (c == '"') {
            skip_string(&s);
        } else if (c == '[' || c == '{') {
            if (++depth > MESSAGE_DEPTH_CAP) {
                return fault_set(fault, JSONRPC_PARSE_ERROR,
                                 "Parse error: at byte %zu the message is nested deeper than %d "
                                 "levels, the most that is read. Send large structures as text.",
                                 (size_t)(s.at - line), MESSAGE_DEPTH_CAP);
            }
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return 0;
}

static void skip_space(struct scan *s)
{
    while (s->at < s->end && strchr(" \t\r\n", *s->at) && *s->at) {
        s->at++;
    }
}

/* The id after `"id":`, when it is a string or a whole number and what follows it looks right. */
static json_t *read_id(struct scan *s)
{
    const char *start = s->at;
    if (s->at < s->end && *s->at == '"') {
        s->at++;
        if (!skip_string(s)) {
            return NULL;
        }
    } else {
        while (s->at < s->end && strchr("-0123456789", *s->at) && *s->at) {
            s->at++;
        }
    }
    const char *stop = s->at;
    skip_space(s);
    if (s->at < s->end && *s->at != ',' && *s->at != '}') {
        return NULL;
    }
    return json_loadb(start, (size_t)(stop - start), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

struct sighting {
    json_t *id;
    int ids;
    bool method;
};

static void note_member(struct sighting *seen, struct scan *s, const char *key, size_t size)
{
    skip_space(s);
    if (s->at >= s->end || *s->at != ':') {
        return;
    }
    s->at++;
    skip_space(s);
    seen->method |= size == 6 && memcmp(key, "method", 6) == 0;
    if (size == 2 && memcmp(key, "id", 2) == 0 && seen->ids++ == 0) {
        seen->id = read_id(s);
    }
}

/* Finds a request's id in text that could not be parsed; NULL when there is doubt. */
static json_t *recover_id(const char *line, size_t size)
{
    struct scan s = {line, line + size};
    struct sighting seen = {0};
    int depth = 0;
    while (s.at < s.end) {
        char c = *s.at++;
        if (c == '"') {
            const char *key = s.at;
            if (skip_string(&s) && depth == 1) {
                note_member(&seen, &s, key, (size_t)(s.at - key - 1));
            }
        } else if (c == '{') {
            depth++;
        } else if (c == '[') {
            depth += depth == 0 ? 2 : 1; /* a batch's members are nobody's */
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    if (seen.ids != 1 || !seen.method || !jsonrpc_is_id(seen.id)) {
        json_decref(seen.id);
        return NULL;
    }
    return seen.id;
}

json_t *jsonrpc_parse(const char *line, size_t size, struct fault *fault, json_t **ret_id)
{
    const char *nul = memchr(line, '\0', size);
    json_error_t where;
    json_t *value = NULL;
    if (nul) {
        fault_set(fault, JSONRPC_PARSE_ERROR,
                  "Parse error: there is a NUL byte at byte %zu; in JSON it is written \\u0000.",
                  (size_t)(nul - line) + 1);
    } else if (check_depth(line, size, fault) == 0) {
        value = json_loadb(line, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY,
                           &where);
        if (!value) {
            fault_set(fault, JSONRPC_PARSE_ERROR, "Parse error at byte %d: %s.", where.position,
                      where.text);
        }
    }
    if (!value) {
        *ret_id = recover_id(line, size);
    }
    return value;
}

/* ---- classifying ---- */

bool jsonrpc_is_id(const json_t *id)
{
    return json_is_string(id) || json_is_integer(id);
}

const char *json_text_member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);
    return text && strlen(text) == json_string_length(value) ? text : NULL;
}

static void invalid(struct message *m, const char *text)
{
    m->kind = MESSAGE_INVALID;
    fault_set(&m->fault, JSONRPC_INVALID_REQUEST, "Invalid request: %s", text);
}

static void classify_call(json_t *value, struct message *m)
{
    json_t *params = json_object_get(value, "params");
    m->method = json_text_member(value, "method");
    m->kind = m->id ? MESSAGE_REQUEST : MESSAGE_NOTIFICATION;
    if (!m->method) {
        invalid(m, "\"method\" must be a string.");
    } else if (json_is_object(params)) {
        m->params = params;
    } else if (params && !json_is_null(params)) {
        m->kind = MESSAGE_INVALID;
        fault_set(&m->fault, JSONRPC_INVALID_PARAMS,
                  "Invalid params: \"params\" of %.64s must be an object.", m->method);
    }
}

void jsonrpc_classify(json_t *value, struct message *ret)
{
    *ret = (struct message){0};
    json_t *id = json_object_get(value, "id");
    ret->id = jsonrpc_is_id(id) ? id : NULL;
    const char *version = json_text_member(value, "jsonrpc");
    if (!json_is_object(value)) {
        invalid(ret, "a message is a JSON object.");
    } else if (!version || strcmp(version, "2.0") != 0) {
        invalid(ret, "\"jsonrpc\" must be \"2.0\".");
    } else if (json_object_get(value, "method")) {
        classify_call(value, ret);
        if (id && !ret->id) {
            invalid(ret, "\"id\" must be a string or a whole number.");
        }
    } else if (json_object_get(value, "result") || json_object_get(value, "error")) {
        ret->kind = MESSAGE_RESPONSE;
        ret->result = json_object_get(value, "result");
    } else {
        invalid(ret, "it has no \"method\".");
    }
}

/* ---- building ---- */

/* Bytes of the well-formed character at `p`, 0 when it is none. */
static size_t character_size(const unsigned char *p, size_t left)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = *p < 0x80 ? 1 : *p >> 5 == 6 ? 2 : *p >> 4 == 14 ? 3 : *p >> 3 == 30 ? 4 : 0;
    if (n < 2) {
        return n;
    }
    unsigned code = *p & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (i >= left || p[i] >> 6 != 2) {
            return 0;
        }
        code = code << 6 | (p[i] & 0x3Fu);
    }
    bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    return code < least[n] || code > 0x10FFFF || surrogate ? 0 : n;
}

json_t *json_text(const char *bytes, size_t size)
{
    json_t *clean = json_stringn(bytes, size);
    char *out = clean ? NULL : malloc(size * 3 + 1);
    size_t n = 0;
    if (!out) {
        return clean;
    }
    for (size_t i = 0; i < size;) {
        size_t step = character_size((const unsigned char *)bytes + i, size - i);
        memcpy(out + n, step ? bytes + i : "\xEF\xBF\xBD", step ? step : 3);
        n += step ? step : 3;
        i += step ? step : 1;
    }
    clean = json_stringn(out, n);
    free(out);
    return clean;
}

static json_t *new_message(void)
{
    json_t *message = json_object();
    if (message && json_object_set_new_nocheck(message, "jsonrpc", json_string("2.0")) < 0) {
        json_decref(message);
        message = NULL;
    }
    return message;
}

/* Gives up a message that could not be completed: never send half of one. */
static json_t *whole_or_nothing(json_t *message, int failed)
{
    if (failed) {
        json_decref(message);
        return NULL;
    }
    return message;
}

json_t *jsonrpc_result(json_t *id, json_t *result_owned)
{
    json_t *message = new_message();
    int failed = json_object_set_nocheck(message, "id", id);
    failed |= json_object_set_new_nocheck(message, "result", result_owned);
    return whole_or_nothing(message, failed);
}

json_t *jsonrpc_fault(json_t *id_or_null, const struct fault *fault)
{
    json_t *message = new_message();
    json_t *error = json_object();
    json_t *id = id_or_null ? json_incref(id_or_null) : json_null();
    int failed = json_object_set_new_nocheck(error, "code", json_integer(fault->code));
    failed |=
        json_object_set_new_nocheck(error, "message", json_text(fault->text, strlen(fault->text)));
    if (fault->data) {
        failed |= json_object_set_nocheck(error, "data", fault->data);
    }
    failed |= json_object_set_new_nocheck(message, "id", id);
    failed |= json_object_set_new_nocheck(message, "error", error);
    return whole_or_nothing(message, failed);
}

json_t *jsonrpc_notification(const char *method, json_t *params_owned)
{
    json_t *message = new_message();
    int failed = json_object_set_new_nocheck(message, "method", json_string(method));
    if (params_owned) {
        failed |= json_object_set_new_nocheck(message, "params", params_owned);
    }
    return whole_or_nothing(message, failed);
}

json_t *jsonrpc_request(const char *id, const char *method, json_t *params_owned)
{
    json_t *message = jsonrpc_notification(method, params_owned);
    return whole_or_nothing(message, json_object_set_new_nocheck(message, "id", json_string(id)));
}

int jsonrpc_encode(const json_t *message, struct buffer *out)
{
    size_t before = buffer_size(out);
    int rc = message ? json_write(message, out) : -1;
    if (rc == 0) {
        rc = buffer_append(out, "\n", 1);
    }
    if (rc < 0) {
        out->end = out->start + before;
        return !message ? -ENOMEM : -ENOBUFS;
    }
    return 0;
}
