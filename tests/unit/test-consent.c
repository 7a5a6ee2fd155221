/* What a question shows of texts that are not ours, and requests that a client answers. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "mcp/client_request.h"
#include "mcp/consent.h"

/* --- texts --- */

static void assert_quoted(const char *text, const char *quoted)
{
    char *got = consent_quote(text);

    assert_non_null(got);
    assert_string_equal(got, quoted);
    free(got);
}

static void what_is_plain_is_shown(void **state)
{
    (void)state;
    assert_quoted("", "\"\"");
    assert_quoted("/home/me/My data (1).csv", "\"/home/me/My data (1).csv\"");
    assert_quoted("/h\xc3\xa9/\xe6\x97\xa5\xe6\x9c\xac/\xf0\x9f\x98\x80",
                  "\"/h\xc3\xa9/\xe6\x97\xa5\xe6\x9c\xac/\xf0\x9f\x98\x80\"");
}

static void what_could_pose_is_escaped(void **state)
{
    (void)state;
    assert_quoted("a\nAllow: \"all\"\\", "\"a\\u{a}Allow: \\\"all\\\"\\\\\"");
    assert_quoted("\x1b[2K\r\t\x7f", "\"\\u{1b}[2K\\u{d}\\u{9}\\u{7f}\"");
    assert_quoted("\xe2\x80\xae"
                  "fdp.exe",
                  "\"\\u{202e}fdp.exe\""); /* turned round */
    assert_quoted("a\xe2\x80\x8b\xe2\x80\xa8\xef\xbb\xbf\xc2\xa0\xe3\x80\x80z",
                  "\"a\\u{200b}\\u{2028}\\u{feff}\\u{a0}\\u{3000}z\"");
    assert_quoted("\xf3\xa0\x80\xa1", "\"\\u{e0021}\""); /* a tag, which has no width */
}

static void what_is_not_utf8_is_shown_byte_by_byte(void **state)
{
    (void)state;
    assert_quoted("\xff/\xc3(\x80", "\"\\xff/\\xc3(\\x80\"");
    assert_quoted("\xc0\xaf\xe0\x80\xaf", "\"\\xc0\\xaf\\xe0\\x80\\xaf\""); /* longer than needed */
    assert_quoted("\xed\xa0\x80", "\"\\xed\\xa0\\x80\"");                   /* half a pair */
    assert_quoted("\xf4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\"");
    assert_quoted("\xe2\x82", "\"\\xe2\\x82\""); /* the end comes too early */
}

static void what_is_too_long_is_not_shown_at_all(void **state)
{
    char text[CONSENT_QUOTE_CAP + 1];
    char *quoted;

    (void)state;
    memset(text, 'a', sizeof(text));
    text[CONSENT_QUOTE_CAP - 2] = '\0';
    quoted = consent_quote(text);
    assert_int_equal(strlen(quoted), CONSENT_QUOTE_CAP);
    free(quoted);
    text[CONSENT_QUOTE_CAP - 2] = 'a';
    text[CONSENT_QUOTE_CAP - 1] = '\0';
    assert_null(consent_quote(text));
    text[CONSENT_QUOTE_CAP / 4] = '\0';
    memset(text, '\n', CONSENT_QUOTE_CAP / 4);
    assert_null(consent_quote(text)); /* counted as it is shown */
}

static void who_can_ask(void **state)
{
    static const struct {
        const char *capabilities;
        bool can;
    } cases[] = {{"{}", false},
                 {"{\"elicitation\":{}}", true},
                 {"{\"elicitation\":{\"form\":{}}}", true},
                 {"{\"elicitation\":{\"form\":{},\"url\":{}}}", true},
                 {"{\"elicitation\":{\"url\":{}}}", false},
                 {"{\"elicitation\":{\"form\":true}}", false},
                 {"{\"elicitation\":true}", false},
                 {"[]", false}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        json_t *capabilities = json_loads(cases[i].capabilities, 0, NULL);

        assert_int_equal(consent_offered(capabilities), cases[i].can);
        json_decref(capabilities);
    }
}

/* --- requests --- */

struct world {
    uv_loop_t loop;
    struct client_requests *all;
    json_t *sent; /* array */
    int told;
    enum client_answer how;
    int value;
    int closed;
    struct client_request *other; /* that done() forgets */
};

static void on_send(void *data, json_t *message_owned)
{
    json_array_append_new(((struct world *)data)->sent, message_owned);
}

static void on_closed(void *data)
{
    ((struct world *)data)->closed++;
}

static void on_done(void *data, enum client_answer how, const json_t *result)
{
    struct world *w = data;

    w->told++;
    w->how = how;
    w->value = (int)json_integer_value(result);
    if (w->other) {
        client_request_forget(w->all, w->other);
        w->other = NULL;
    }
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    uv_loop_init(&w->loop);
    w->sent = json_array();
    w->all = client_requests_new(&w->loop, on_send, w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    client_requests_stop(w->all);
    client_requests_close(w->all, on_closed, w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(w->closed, 1);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    json_decref(w->sent);
    free(w);
    return 0;
}

static struct client_request *ask(struct world *w, const char *word, uint64_t limit_ms)
{
    return client_request(w->all, word, "roots/list", json_object(), limit_ms, on_done, w);
}

static void answer(struct world *w, const char *id, int value)
{
    json_t *key = json_string(id), *result = value ? json_integer(value) : NULL;

    client_requests_take(w->all, key, result);
    json_decref(key);
    json_decref(result);
}

static const char *sent_id(const struct world *w, size_t index)
{
    return json_string_value(json_object_get(json_array_get(w->sent, index), "id"));
}

static void an_answer_counts_once(void **state)
{
    struct world *w = *state;

    ask(w, "roots", 10000);
    assert_string_equal(sent_id(w, 0), "cellblock-roots-1");
    answer(w, "cellblock-roots-2", 5);
    answer(w, "cellblock-roots-", 5);
    client_requests_take(w->all, NULL, NULL);
    assert_int_equal(w->told, 0);
    answer(w, "cellblock-roots-1", 7);
    assert_int_equal(w->told, 1);
    assert_int_equal(w->how, CLIENT_ANSWERED);
    assert_int_equal(w->value, 7);
    answer(w, "cellblock-roots-1", 8);
    assert_int_equal(w->told, 1);
    ask(w, "roots", 10000);
    answer(w, sent_id(w, 1), 0);
    assert_int_equal(w->how, CLIENT_ERROR);
}

static void each_has_its_limit(void **state)
{
    struct world *w = *state;
    json_t *taken;

    ask(w, "slow", 60000);
    ask(w, "quick", 1);
    while (w->told == 0) {
        uv_run(&w->loop, UV_RUN_NOWAIT); /* ONCE would wait for the others as well */
    }
    assert_int_equal(w->how, CLIENT_LATE);
    taken = json_array_get(w->sent, 2); /* the client is told */
    assert_string_equal(json_string_value(json_object_get(taken, "method")),
                        "notifications/cancelled");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(taken, "params"), "requestId")),
        "cellblock-quick-2");
    answer(w, "cellblock-quick-2", 1);
    assert_int_equal(w->told, 1);
    answer(w, "cellblock-slow-1", 1);
    assert_int_equal(w->told, 2);
}

static void one_may_be_forgotten_also_by_another(void **state)
{
    struct world *w = *state;
    struct client_request *first = ask(w, "a", 10000);

    client_request_forget(w->all, first);
    assert_int_equal(json_array_size(w->sent), 2);
    answer(w, "cellblock-a-1", 1);
    assert_int_equal(w->told, 0);
    w->other = ask(w, "b", 5000);
    ask(w, "c", 1);
    while (w->told == 0) {
        uv_run(&w->loop, UV_RUN_NOWAIT); /* ONCE would wait for the others as well */
    }
    assert_null(w->other);
    answer(w, "cellblock-b-2", 1);
    assert_int_equal(w->told, 1);
}

static void the_end_is_told_and_nothing_sent(void **state)
{
    struct world *w = *state;

    ask(w, "a", 10000);
    client_requests_stop(w->all);
    assert_int_equal(w->told, 0);
    answer(w, "cellblock-a-1", 1);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(w->told, 1);
    assert_int_equal(w->how, CLIENT_GONE);
    ask(w, "b", 10000);
    assert_int_equal(w->told, 1); /* never before it returns */
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(w->told, 2);
    assert_int_equal(json_array_size(w->sent), 1);
    ask(w, "never", 10000); /* closed before it could be told */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_plain_is_shown),
        cmocka_unit_test(what_could_pose_is_escaped),
        cmocka_unit_test(what_is_not_utf8_is_shown_byte_by_byte),
        cmocka_unit_test(what_is_too_long_is_not_shown_at_all),
        cmocka_unit_test(who_can_ask),
        TEST(an_answer_counts_once),
        TEST(each_has_its_limit),
        TEST(one_may_be_forgotten_also_by_another),
        TEST(the_end_is_told_and_nothing_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
