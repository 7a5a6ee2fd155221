#include "tests/unit/server-trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

struct held held;

static json_t *text_result(json_t *text_owned)
{
    return json_pack("{s:[{s:s, s:o, s:{s:s}}], s:b, s:{}}", "content", "type", "text", "text",
                     text_owned, "_meta", "cellblock/part", "result", "isError", 0,
                     "structuredContent");
}

void on_cancelled(void *data)
{
    struct call *call = data;
    held.cancelled++;
    for (int i = 0; i < held.count; i++) {
        if (held.calls[i] == call) {
            held.calls[i] = held.calls[--held.count];
            break;
        }
    }
    call_finish(call, text_result(json_string("cancelled")));
}

static void on_roots(void *data, const json_t *paths, const struct error *err)
{
    struct call *call = data;
    if (err) {
        call_fail(call, err);
    } else {
        call_finish(call, text_result(json_string_nocheck(
                              json_array_size(paths) ? json_string_value(json_array_get(paths, 0))
                                                     : "none")));
    }
}

void chat(struct call *call)
{
    call_progress(call, "one");
    call_progress(call, "two");
    call_progress(call, "three\xff");
}

static void start(struct call *call)
{
    const char *code = json_string_value(json_object_get(call_arguments(call), "code"));
    if (strcmp(code, "hold") == 0 || strcmp(code, "deaf") == 0 || strcmp(code, "chat") == 0) {
        held.calls[held.count++] = call;
        if (strcmp(code, "hold") == 0) {
            call_on_cancel(call, on_cancelled, call);
        } else if (strcmp(code, "chat") == 0) {
            chat(call);
        }
    } else if (strcmp(code, "roots") == 0) {
        call_roots(call, on_roots, call);
    } else {
        char *text = json_dumps(call_arguments(call), JSON_COMPACT);
        call_finish(call, text_result(json_string(text)));
        free(text);
    }
}

void finish_held(const char *text)
{
    assert_true(held.count > 0);
    call_finish(held.calls[--held.count], text_result(json_string(text)));
}

static const struct tool run_code = {
    .name = "run_code",
    .title = "Run code",
    .description = "Runs code.",
    .schema = "tools/run_code",
    .output_schema = "results/run_code",
    .open_world = true,
    .start = start,
};

const struct tool *const tools[] = {&run_code, NULL};

void shake_hands(struct wire *w)
{
    wire_open(w, tools);
    wire_initialize(w, "2025-11-25", "{}");
    held.cancelled = 0;
}

void send_call(struct wire *w, const char *id, const char *code, const char *meta)
{
    char line[1024];
    snprintf(line, sizeof line,
             "{'jsonrpc':'2.0','id':%s,'method':'tools/call','params':{'name':'run_code',"
             "'arguments':{'code':'%s'}%s%s}}",
             id, code, *meta ? "," : "", meta);
    wire_send(w, line);
}

const char *answer_text(struct wire *w, json_int_t id)
{
    static char text[4096];
    json_t *answer = wire_read(w);
    const json_t *block =
        json_array_get(json_object_get(json_object_get(answer, "result"), "content"), 0);
    if (json_integer_value(json_object_get(answer, "id")) != id || !block) {
        fail_msg("not the answer to %d: %s", (int)id, json_dumps(answer, JSON_COMPACT));
    }
    snprintf(text, sizeof text, "%s", json_string_value(json_object_get(block, "text")));
    json_decref(answer);
    return text;
}

void expect_error(struct wire *w, int code, const char *words)
{
    json_t *answer = wire_read(w);
    const json_t *error = json_object_get(answer, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    if (json_integer_value(json_object_get(error, "code")) != code || !strstr(message, words)) {
        fail_msg("expected %d %s, got %s", code, words, json_dumps(answer, JSON_COMPACT));
    }
    json_decref(answer);
}

int forget_schemas(void **state)
{
    (void)state;
    schema_unload();
    return 0;
}
