#include "mcp/tools/result.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/text.h"

enum {
    TEXT_LIMIT = 8 * 1000, /* bytes of a short result */
};

int argument_name(const struct call *call, const char *key, const char **ret, struct error *err)
{
    const json_t *value = json_object_get(call_arguments(call), key);
    const char *text = json_string_value(value);

    if (text && strlen(text) != json_string_length(value)) {
        return error_set(err, ERROR_INVALID, "%s holds a NUL character, which is not allowed", key);
    }
    *ret = text;
    return 0;
}

bool argument_bool(const struct call *call, const char *key, bool otherwise)
{
    const json_t *value = json_object_get(call_arguments(call), key);

    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

char *session_hint(struct session *s, bool made)
{
    char *notice = session_take_notice(s), *hint = NULL;
    int n;

    if (made) {
        n = asprintf(&hint,
                     "%s%sSession %s was made for this call. To go on in it, pass "
                     "\"session\": \"%s\" to the next one.",
                     notice ? notice : "", notice ? " " : "", session_id(s), session_id(s));
        free(notice);
        return n < 0 ? NULL : hint;
    }
    return notice;
}

static json_t *note_block(const char *text)
{
    return json_pack("{ss so s{ss}}", "type", "text", "text", text_json(text, TEXT_LIMIT), "_meta",
                     "cellblock/part", "note");
}

static void answer(struct call *call, const struct session *s, const char *text, const char *hint,
                   bool is_error)
{
    json_t *content = json_array();
    json_t *result;
    struct error err = {0};

    json_array_append_new(content, note_block(text));
    if (hint) {
        json_array_append_new(content, note_block(hint));
    }
    result = json_pack("{so sb s{ss}}", "content", content, "isError", is_error, "_meta",
                       "cellblock/session", session_id(s));
    if (result) {
        call_finish(call, result);
        return;
    }
    error_set_code(&err, ERROR_INTERNAL, ENOMEM, "the result");
    call_fail(call, &err);
    error_clear(&err);
}

void call_finish_text(struct call *call, const struct session *s, const char *text,
                      const char *hint)
{
    answer(call, s, text, hint, false);
}

void call_fail_in(struct call *call, const struct session *s, const struct error *err,
                  const char *hint)
{
    answer(call, s, err->message ? err->message : "out of memory", hint, true);
}
