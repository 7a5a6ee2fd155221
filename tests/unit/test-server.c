/* What a server answers, in each revision. */
#include <stdio.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/server-trial.h"

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
    shake_hands(&w);
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
    wire_send(&w, "{'jsonrpc':'2.0','id':7,'method':'prompts/list'}");
    expect_error(&w, -32601, "prompts/list");
    wire_send(&w, "{'jsonrpc':'2.0','id':8,'method':'tools/list','params':{'cursor':'x'}}");
    expect_error(&w, -32602, "cursor");
    wire_close(&w);
}

static void a_long_call_holds_nobody_up(void **state)
{
    struct wire w;
    (void)state;
    shake_hands(&w);
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
    shake_hands(&w);
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
    shake_hands(&w);
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
    shake_hands(&w);
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
    shake_hands(&w);
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
    shake_hands(&w);
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
    shake_hands(&w);
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
    };
    return cmocka_run_group_tests(tests, NULL, forget_schemas);
}
