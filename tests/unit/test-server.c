#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mcp/call.h"
#include "mcp/schema.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/wire.h"

/*
 * A fake tool: `code` says what it does. "echo" answers at once with its arguments; "hold" waits
 * until the test finishes it or it is cancelled; "deaf" does not listen to a cancel; "roots"
 * answers with the roots; "chat" sends three bursts of progress.
 */
enum { HELD_CAP = 512 };

static struct {
    struct call *calls[HELD_CAP];
    int count, cancelled;
} held;

static json_t *text_result(json_t *text_owned)
{
    return json_pack("{s:[{s:s, s:o, s:{s:s}}], s:b, s:{}}", "content", "type", "text", "text",
                     text_owned, "_meta", "cellblock/part", "result", "isError", 0,
                     "structuredContent");
}

static void on_cancelled(void *data)
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

static void chat(struct call *call)
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

static void finish_held(const char *text)
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

static const struct tool *const tools[] = {&run_code, NULL};

#define MODERN                                                                                     \
    "'_meta':{'io.modelcontextprotocol/protocolVersion':'2026-07-28',"                             \
    "'io.modelcontextprotocol/clientCapabilities':{}}"

static void send_call(struct wire *w, const char *id, const char *code, const char *meta)
{
    char line[1024];
    snprintf(line, sizeof line,
             "{'jsonrpc':'2.0','id':%s,'method':'tools/call','params':{'name':'run_code',"
             "'arguments':{'code':'%s'}%s%s}}",
             id, code, *meta ? "," : "", meta);
    wire_send(w, line);
}

/* The text of the answer's first block; also checks its id. Static until the next call. */
static const char *answer_text(struct wire *w, json_int_t id)
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

static void expect_error(struct wire *w, int code, const char *words)
{
    json_t *answer = wire_read(w);
    const json_t *error = json_object_get(answer, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    if (json_integer_value(json_object_get(error, "code")) != code || !strstr(message, words)) {
        fail_msg("expected %d %s, got %s", code, words, json_dumps(answer, JSON_COMPACT));
    }
    json_decref(answer);
}

/* ---- tests ---- */

static void handshake_of_every_version(void **state)
{
    static const char *const versions[][2] = {
        {"2024-11-05", "2024-11-05"}, {"2025-03-26", "2025-03-26"}, {"2025-06-18", "2025-06-18"},
        {"2025-11-25", "2025-11-25"}, {"2026-07-28", "2025-11-25"}, {"1999-01-01", "2025-11-25"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        struct wire w;
        char line[256];
        wire_open(&w, tools);
        snprintf(line, sizeof line,
                 "{'jsonrpc':'2.0','id':'i','method':'initialize','params':{'protocolVersion':'%s',"
                 "'capabilities':{},'clientInfo':{'name':'t','version':'1'}}}",
                 versions[i][0]);
        wire_send(&w, line);
        json_t *answer = wire_read(&w);
        const json_t *result = json_object_get(answer, "result");
        assert_string_equal(json_string_value(json_object_get(result, "protocolVersion")),
                            versions[i][1]);
        assert_non_null(json_object_get(json_object_get(result, "capabilities"), "tools"));
        json_decref(answer);
        wire_close(&w);
    }
}

static void nothing_before_initialize_but_ping(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_send(&w, "{'jsonrpc':'2.0','id':1,'method':'ping'}");
    wire_expect(&w, "{'jsonrpc':'2.0','id':1,'result':{}}");
    wire_send(&w, "{'jsonrpc':'2.0','id':2,'method':'tools/list'}");
    expect_error(&w, -32602, "before initialize");
    send_call(&w, "3", "echo", "");
    expect_error(&w, -32602, "before initialize");
    wire_close(&w);
}

static void a_call_is_answered(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{}");
    wire_send(&w, "{'jsonrpc':'2.0','id':4,'method':'tools/call','params':{'name':'run_code',"
                  "'arguments':{'code':'echo','stdin':null}}}\r");
    assert_string_equal(answer_text(&w, 4), "{\"code\":\"echo\"}");
    wire_send(&w, "{'jsonrpc':'2.0','id':5,'method':'tools/call','params':{'name':'run_cod'}}");
    expect_error(&w, -32602, "did you mean \"run_code\"");
    wire_send(&w, "{'jsonrpc':'2.0','id':5,'method':'tools/call','params':{'name':'run_code',"
                  "'arguments':[]}}");
    expect_error(&w, -32602, "arguments");
    wire_send(&w, "{'jsonrpc':'2.0','id':6,'method':'tools/call','params':{'name':'run_code'}}");
    assert_string_equal(answer_text(&w, 6),
                        "invalid arguments for run_code: code: missing, expected a string at most "
                        "8388608 characters long");
    wire_send(&w, "{'jsonrpc':'2.0','id':7,'method':'resources/list'}");
    expect_error(&w, -32601, "resources/list");
    wire_send(&w, "{'jsonrpc':'2.0','id':8,'method':'tools/list','params':{'cursor':'x'}}");
    expect_error(&w, -32602, "cursor");
    wire_close(&w);
}

static void a_long_call_holds_nobody_up(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{}");
    send_call(&w, "1", "hold", "");
    send_call(&w, "2", "echo", "");
    answer_text(&w, 2);
    wire_send(&w, "{'jsonrpc':'2.0','id':3,'method':'ping'}");
    wire_expect(&w, "{'jsonrpc':'2.0','id':3,'result':{}}");
    send_call(&w, "1", "echo", "");
    expect_error(&w, -32600, "in flight");
    finish_held("late");
    assert_string_equal(answer_text(&w, 1), "late");
    wire_close(&w);
}

static void a_cancelled_call_is_not_answered(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{}");
    held.cancelled = 0;
    send_call(&w, "1", "hold", "");
    send_call(&w, "'1'", "deaf", "");
    wire_send(&w, "{'jsonrpc':'2.0','method':'notifications/cancelled','params':{'requestId':1}}");
    wire_send(&w, "{'jsonrpc':'2.0','method':'notifications/cancelled','params':{'requestId':1}}");
    wire_send(&w,
              "{'jsonrpc':'2.0','method':'notifications/cancelled','params':{'requestId':'1'}}");
    wire_send(&w, "{'jsonrpc':'2.0','method':'notifications/cancelled'}");
    wire_expect_silence(&w, 50);
    assert_int_equal(held.cancelled, 1);
    finish_held("too late");
    wire_expect_silence(&w, 20);
    send_call(&w, "1", "echo", "");
    answer_text(&w, 1);
    wire_close(&w);
}

static void a_late_listener_still_hears_of_the_cancel(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{}");
    held.cancelled = 0;
    send_call(&w, "1", "deaf", "");
    wire_send(&w, "{'jsonrpc':'2.0','method':'notifications/cancelled','params':{'requestId':1}}");
    wire_turn(&w, 20);
    assert_int_equal(held.count, 1);
    call_on_cancel(held.calls[0], on_cancelled, held.calls[0]);
    assert_int_equal(held.cancelled, 0);
    wire_expect_silence(&w, 20);
    assert_int_equal(held.cancelled, 1);
    wire_close(&w);
}

static void too_many_calls_are_refused(void **state)
{
    struct wire w;
    char id[16];
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{}");
    for (int i = 0; i < 256; i++) {
        snprintf(id, sizeof id, "%d", i);
        send_call(&w, id, "hold", "");
    }
    send_call(&w, "256", "echo", "");
    assert_non_null(strstr(answer_text(&w, 256), "256 calls are in flight"));
    while (held.count) {
        finish_held("x");
        json_decref(wire_read(&w));
    }
    wire_close(&w);
}

static void expect_progress(struct wire *w, int number, const char *message)
{
    json_t *got = wire_read(w);
    const json_t *params = json_object_get(got, "params");
    assert_string_equal(json_string_value(json_object_get(got, "method")),
                        "notifications/progress");
    assert_string_equal(json_string_value(json_object_get(params, "progressToken")), "p");
    assert_int_equal(json_integer_value(json_object_get(params, "progress")), number);
    if (message) {
        assert_string_equal(json_string_value(json_object_get(params, "message")), message);
    } else {
        assert_null(json_object_get(params, "message"));
    }
    json_decref(got);
}

static void progress_comes_at_once_and_then_the_newest(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{}");
    send_call(&w, "1", "chat", "'_meta':{'progressToken':'p'}");
    expect_progress(&w, 1, "one");
    expect_progress(&w, 2, "three\xEF\xBF\xBD");
    chat(held.calls[0]);
    finish_held("end");
    assert_string_equal(answer_text(&w, 1), "end");
    wire_expect_silence(&w, 80);
    send_call(&w, "2", "chat", "");
    wire_expect_silence(&w, 20);
    finish_held("quiet");
    wire_send(&w, "{'jsonrpc':'2.0','id':3,'method':'tools/call','params':{'name':'run_code',"
                  "'arguments':{'code':'1'},'_meta':{'progressToken':1.5}}}");
    assert_string_equal(answer_text(&w, 2), "quiet");
    expect_error(&w, -32602, "progressToken");
    wire_close(&w);
}

static void old_progress_has_no_message(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2024-11-05", "{}");
    send_call(&w, "1", "chat", "'_meta':{'progressToken':'p'}");
    expect_progress(&w, 1, NULL);
    finish_held("end");
    json_t *answer = wire_read(&w);
    const json_t *result = json_object_get(answer, "result");
    assert_null(json_object_get(result, "structuredContent"));
    assert_null(json_object_get(json_array_get(json_object_get(result, "content"), 0), "_meta"));
    json_decref(answer);
    wire_close(&w);
}

static void a_batch_is_answered_in_one_line(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-03-26", "{}");
    wire_send(&w, "[{'jsonrpc':'2.0','id':1,'method':'ping'},"
                  "{'jsonrpc':'2.0','id':2,'method':'tools/call','params':{'name':'run_code',"
                  "'arguments':{'code':'hold'}}},"
                  "{'jsonrpc':'2.0','id':4,'method':'tools/call','params':{'name':'run_code',"
                  "'arguments':{'code':'hold'}}},"
                  "{'jsonrpc':'2.0','method':'notifications/x'},7]");
    wire_send(&w, "{'jsonrpc':'2.0','id':3,'method':'ping'}");
    wire_expect(&w, "{'jsonrpc':'2.0','id':3,'result':{}}");
    wire_send(&w, "{'jsonrpc':'2.0','method':'notifications/cancelled','params':{'requestId':4}}");
    wire_expect_silence(&w, 20);
    finish_held("slow");
    json_t *answer = wire_read(&w);
    assert_int_equal(json_array_size(answer), 3);
    json_decref(answer);
    wire_send(&w, "[]");
    expect_error(&w, -32600, "batch");
    wire_send(&w, "[{'jsonrpc':'2.0','method':'notifications/x'}]");
    wire_send(&w, "[{'jsonrpc':'2.0','id':1,'method':'initialize'}]");
    answer = wire_read(&w);
    assert_int_equal(json_array_size(answer), 1);
    json_decref(answer);
    wire_close(&w);
}

static void other_versions_have_no_batches(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{}");
    wire_send(&w, "[{'jsonrpc':'2.0','id':1,'method':'ping'}]");
    expect_error(&w, -32600, "2025-03-26");
    wire_close(&w);
}

static void modern_requests_stand_alone(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_send(&w, "{'jsonrpc':'2.0','id':1,'method':'server/discover','params':{" MODERN "}}");
    json_t *answer = wire_read(&w);
    const json_t *result = json_object_get(answer, "result");
    assert_string_equal(json_string_value(json_object_get(result, "resultType")), "complete");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(result, "supportedVersions"), 0)),
        "2026-07-28");
    assert_non_null(
        json_object_get(json_object_get(result, "_meta"), "io.modelcontextprotocol/serverInfo"));
    assert_true(json_is_integer(json_object_get(result, "ttlMs")));
    json_decref(answer);
    send_call(&w, "2", "echo", MODERN);
    answer = wire_read(&w);
    assert_non_null(json_object_get(json_object_get(answer, "result"), "resultType"));
    json_decref(answer);
    wire_send(&w, "{'jsonrpc':'2.0','id':3,'method':'ping','params':{" MODERN "}}");
    expect_error(&w, -32601, "ping");
    wire_send(&w, "{'jsonrpc':'2.0','id':4,'method':'tools/list'}");
    expect_error(&w, -32602, "initialize");
    wire_close(&w);
}

static void modern_versions_are_checked(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_send(&w, "{'jsonrpc':'2.0','id':1,'method':'tools/list','params':{'_meta':{"
                  "'io.modelcontextprotocol/protocolVersion':'2099-01-01'}}}");
    json_t *answer = wire_read(&w);
    const json_t *data = json_object_get(json_object_get(answer, "error"), "data");
    assert_string_equal(json_string_value(json_object_get(data, "requested")), "2099-01-01");
    assert_int_equal(json_array_size(json_object_get(data, "supported")), 1);
    json_decref(answer);
    wire_send(&w, "{'jsonrpc':'2.0','id':1,'method':'tools/list','params':{'_meta':{"
                  "'io.modelcontextprotocol/protocolVersion':'2026-07-28'}}}");
    expect_error(&w, -32602, "clientCapabilities");
    wire_send(&w, "{'jsonrpc':'2.0','id':1,'method':'tools/list','params':{'_meta':{"
                  "'io.modelcontextprotocol/protocolVersion':7}}}");
    expect_error(&w, -32602, "protocolVersion");
    wire_close(&w);
}

static void subscriptions_stay_open_until_the_end(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_send(&w, "{'jsonrpc':'2.0','id':'s','method':'subscriptions/listen','params':{'"
                  "notifications':{'toolsListChanged':true}," MODERN "}}");
    wire_expect(&w, "{'jsonrpc':'2.0','method':'notifications/subscriptions/acknowledged',"
                    "'params':{'_meta':{'io.modelcontextprotocol/subscriptionId':'s'},"
                    "'notifications':{}}}");
    wire_send(&w, "{'jsonrpc':'2.0','id':'s','method':'tools/list','params':{" MODERN "}}");
    expect_error(&w, -32600, "in flight");
    wire_send(&w, "{'jsonrpc':'2.0','id':'t','method':'subscriptions/listen','params':{'"
                  "notifications':{}," MODERN "}}");
    json_decref(wire_read(&w));
    wire_send(&w,
              "{'jsonrpc':'2.0','method':'notifications/cancelled','params':{'requestId':'s'}}");
    wire_expect_silence(&w, 20);
    wire_end_input(&w);
    json_t *answer = wire_read(&w);
    assert_string_equal(json_string_value(json_object_get(answer, "id")), "t");
    json_decref(answer);
    wire_close(&w);
}

static void roots_are_asked_once_and_after_a_change(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{\"roots\":{}}");
    send_call(&w, "1", "roots", "");
    send_call(&w, "2", "roots", "");
    wire_expect(&w, "{'jsonrpc':'2.0','id':'cellblock-roots-1','method':'roots/list'}");
    wire_send(&w, "{'jsonrpc':'2.0','id':'cellblock-roots-1','result':{'roots':["
                  "{'uri':'https://x/'},{'uri':'file:///a%20b/'},{'uri':5}]}}");
    assert_string_equal(answer_text(&w, 1), "/a b");
    assert_string_equal(answer_text(&w, 2), "/a b");
    send_call(&w, "3", "roots", "");
    assert_string_equal(answer_text(&w, 3), "/a b");
    wire_send(&w, "{'jsonrpc':'2.0','method':'notifications/roots/list_changed'}");
    send_call(&w, "4", "roots", "");
    wire_expect(&w, "{'jsonrpc':'2.0','id':'cellblock-roots-2','method':'roots/list'}");
    wire_send(&w, "{'jsonrpc':'2.0','id':'cellblock-roots-1','result':{'roots':[]}}");
    wire_send(&w, "{'jsonrpc':'2.0','id':'cellblock-roots-2','error':{'code':-1,'message':'no'}}");
    assert_non_null(strstr(answer_text(&w, 4), "--share-root"));
    send_call(&w, "5", "roots", "");
    json_decref(wire_read(&w));
    wire_end_input(&w);
    assert_non_null(strstr(answer_text(&w, 5), "ended"));
    wire_close(&w);
}

static void without_the_capability_there_are_no_roots(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{}");
    send_call(&w, "1", "roots", "");
    assert_string_equal(answer_text(&w, 1), "none");
    send_call(&w, "2", "roots", MODERN);
    assert_string_equal(answer_text(&w, 2), "none");
    wire_close(&w);
}

static void log_messages_follow_the_level(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    server_log_message(w.server, LOG_LEVEL_ERROR, "test", json_string("too early"));
    wire_initialize(&w, "2025-11-25", "{}");
    server_log_message(w.server, LOG_LEVEL_DEBUG, "test", json_string("too small"));
    wire_send(&w, "{'jsonrpc':'2.0','id':1,'method':'logging/setLevel','params':{'level':'loud'}}");
    expect_error(&w, -32602, "loud");
    wire_send(&w,
              "{'jsonrpc':'2.0','id':1,'method':'logging/setLevel','params':{'level':'error'}}");
    wire_expect(&w, "{'jsonrpc':'2.0','id':1,'result':{}}");
    server_log_message(w.server, LOG_LEVEL_WARNING, "test", json_string("too small"));
    server_log_message(w.server, LOG_LEVEL_ERROR, "test", json_string("seen"));
    wire_expect(&w, "{'jsonrpc':'2.0','method':'notifications/message','params':{'level':'error',"
                    "'logger':'test','data':'seen'}}");
    wire_close(&w);
}

static void calls_in_flight_are_answered_after_the_end_of_input(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{}");
    send_call(&w, "1", "hold", "");
    wire_end_input(&w);
    wire_turn(&w, 30);
    assert_false(w.stopped);
    finish_held("done");
    assert_string_equal(answer_text(&w, 1), "done");
    wire_close(&w);
}

static void a_stop_cancels_and_does_not_wait_long(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{}");
    held.cancelled = 0;
    send_call(&w, "1", "hold", "");
    send_call(&w, "2", "deaf", "");
    wire_turn(&w, 20);
    uint64_t start = uv_hrtime();
    server_stop(w.server);
    server_stop(w.server);
    assert_int_equal(held.cancelled, 1);
    assert_false(w.stopped);
    wire_wait_stopped(&w);
    assert_true(uv_hrtime() - start < 4000000000ull);
    held.count = 0; /* the deaf call goes with the server */
    wire_close(&w);
}

static void a_stop_with_nothing_to_do_is_quick(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    uint64_t start = uv_hrtime();
    server_stop(w.server);
    wire_wait_stopped(&w);
    assert_true(uv_hrtime() - start < 500000000ull);
    wire_close(&w);
}

static void a_reader_that_goes_away_ends_it(void **state)
{
    struct wire w;
    (void)state;
    wire_open(&w, tools);
    wire_initialize(&w, "2025-11-25", "{}");
    held.cancelled = 0;
    send_call(&w, "1", "hold", "");
    wire_turn(&w, 20);
    close(w.from);
    w.from = -1;
    wire_wait_stopped(&w);
    assert_int_equal(held.cancelled, 1);
    wire_close(&w);
}

static void a_signal_ends_it(void **state)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct wire w;
        signal(numbers[i], SIG_DFL); /* whatever started us may ignore SIGHUP */
        wire_open(&w, tools);
        wire_turn(&w, 5);
        raise(numbers[i]);
        wire_wait_stopped(&w);
        wire_close(&w);
    }
}

/* A file is read like a script: one call after the other, all answered. */
static void requests_from_a_file(void **state)
{
    static const char init[] = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":"
                               "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{}}}\n";
    static const char call[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":"
                               "{\"name\":\"run_code\",\"arguments\":{\"code\":\"hold\"}}}\n";
    static const char last[] = "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}";
    struct wire w;
    (void)state;
    int fd = memfd_create("requests", MFD_CLOEXEC);
    assert_int_equal(write(fd, init, strlen(init)), strlen(init));
    assert_int_equal(write(fd, call, strlen(call)), strlen(call));
    assert_int_equal(write(fd, last, strlen(last)), strlen(last));
    lseek(fd, 0, SEEK_SET);
    wire_open_input(&w, tools, fd);
    json_decref(wire_read(&w));
    wire_expect_silence(&w, 30);
    finish_held("first");
    assert_string_equal(answer_text(&w, 1), "first");
    wire_expect(&w, "{'jsonrpc':'2.0','id':2,'result':{}}");
    wire_close(&w);
}

static void input_from_dev_null_ends_at_once(void **state)
{
    struct wire w;
    (void)state;
    wire_open_input(&w, tools, open("/dev/null", O_RDONLY | O_CLOEXEC));
    wire_close(&w);
}

static void descriptors_that_are_none_are_refused(void **state)
{
    struct config config = {0};
    struct server_options options = {.config = &config, .tools = tools, .in_fd = -1, .out_fd = -1};
    struct error err = {0};
    uv_loop_t loop;
    (void)state;
    uv_loop_init(&loop);
    assert_null(server_new(&loop, &options, NULL, NULL, &err));
    assert_non_null(err.message);
    error_clear(&err);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static int forget_schemas(void **state)
{
    (void)state;
    schema_unload();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshake_of_every_version),
        cmocka_unit_test(nothing_before_initialize_but_ping),
        cmocka_unit_test(a_call_is_answered),
        cmocka_unit_test(a_long_call_holds_nobody_up),
        cmocka_unit_test(a_cancelled_call_is_not_answered),
        cmocka_unit_test(a_late_listener_still_hears_of_the_cancel),
        cmocka_unit_test(too_many_calls_are_refused),
        cmocka_unit_test(progress_comes_at_once_and_then_the_newest),
        cmocka_unit_test(old_progress_has_no_message),
        cmocka_unit_test(a_batch_is_answered_in_one_line),
        cmocka_unit_test(other_versions_have_no_batches),
        cmocka_unit_test(modern_requests_stand_alone),
        cmocka_unit_test(modern_versions_are_checked),
        cmocka_unit_test(subscriptions_stay_open_until_the_end),
        cmocka_unit_test(roots_are_asked_once_and_after_a_change),
        cmocka_unit_test(without_the_capability_there_are_no_roots),
        cmocka_unit_test(log_messages_follow_the_level),
        cmocka_unit_test(calls_in_flight_are_answered_after_the_end_of_input),
        cmocka_unit_test(a_stop_cancels_and_does_not_wait_long),
        cmocka_unit_test(a_stop_with_nothing_to_do_is_quick),
        cmocka_unit_test(a_reader_that_goes_away_ends_it),
        cmocka_unit_test(a_signal_ends_it),
        cmocka_unit_test(requests_from_a_file),
        cmocka_unit_test(input_from_dev_null_ends_at_once),
        cmocka_unit_test(descriptors_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, forget_schemas);
}
