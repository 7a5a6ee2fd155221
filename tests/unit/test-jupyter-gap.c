#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/kernels/jupyter/session_internal.h"

/* What is missing after a cut: the helper is asked, and the order stays. */

struct trial {
    struct jupyter_gap gap;
    struct jupyter_output output;
    struct jupyter_session session;
    struct session_kernel kernel;
    unsigned asked;
    json_int_t from;
    char text[256];
};

/* ---- in place of the session ---- */

void session_ask(struct session_kernel *k, json_t *content_owned, const void *buffer, size_t size,
                 unsigned timeout_ms, ask_answered answered, void *data)
{
    struct trial *t = (struct trial *)((char *)k - offsetof(struct trial, kernel));

    (void)buffer;
    (void)size;
    assert_true(timeout_ms > 0 && answered && data == &t->session);
    assert_string_equal(json_string_value(json_object_get(content_owned, "op")), "kept");
    assert_string_equal(json_string_value(json_object_get(content_owned, "run")), "run");
    t->from = json_integer_value(json_object_get(content_owned, "from"));
    t->asked++;
    json_decref(content_owned);
}

void kernel_take_kept(struct jupyter *j, json_t *content)
{
    (void)j;
    (void)content;
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct trial *t = data;
    size_t n = strlen(t->text);

    (void)stream;
    assert_true(n + size < sizeof(t->text));
    memcpy(t->text + n, bytes, size + 1);
}

static const struct kernel_events events = {.on_output = on_output};

static int begin(void **state)
{
    struct trial *t = calloc(1, sizeof(*t));

    if (!t) {
        return -1;
    }
    t->output = (struct jupyter_output){.events = &events, .data = t, .cut = true};
    t->kernel.session = &t->session;
    t->kernel.is_python = t->kernel.threads = true;
    gap_begin(&t->gap);
    *state = t;
    return 0;
}

static int end(void **state)
{
    struct trial *t = *state;

    gap_end(&t->gap);
    assert_null(t->gap.held);
    assert_int_equal(t->gap.held_size, 0);
    free(t);
    return 0;
}

/* Message `number`: its letter is printed. */
static json_t *content_of(int number)
{
    char letter[] = {(char)('a' + number - 1), '\0'};
    return json_pack("{s:s, s:s, s:i}", "name", "stdout", "text", letter, "cellblock", number);
}

static void comes_with(struct trial *t, int number, size_t size)
{
    struct jupyter_message m = {.channel = JUPYTER_IOPUB,
                                .type = "stream",
                                .parent = "",
                                .content = content_of(number),
                                .content_size = size};

    gap_take(&t->gap, &t->output, &t->kernel, "run", &m);
    json_decref(m.content);
}

static void comes(struct trial *t, int number)
{
    comes_with(t, number, 50);
}

static void answers(struct trial *t, json_t *content_owned)
{
    gap_take_answer(&t->gap, &t->output, &t->kernel, "run", content_owned);
    json_decref(content_owned);
}

/* The answer has the messages from one to another. */
static json_t *kept(const char *run, int first, int last)
{
    json_t *messages = json_array();

    for (int n = first; n <= last; n++) {
        json_array_append_new(messages, json_pack("[s, o]", "stream", content_of(n)));
    }
    return json_pack("{s:s, s:o}", "run", run, "messages", messages);
}

/* ---- tests ---- */

static void test_without_a_cut_all_is_taken_as_it_comes(void **state)
{
    struct trial *t = *state;

    t->output.cut = false;
    comes(t, 1);
    comes(t, 4);
    comes(t, 3);
    assert_string_equal(t->text, "adc");
    assert_false(gap_may_come(&t->gap, &t->output, &t->kernel, "run"));
    assert_int_equal(t->asked, 0);
}

static void test_what_is_missing_is_asked_for_and_the_order_stays(void **state)
{
    struct trial *t = *state;

    comes(t, 1);
    assert_int_equal(t->asked, 0);
    comes(t, 4);
    comes(t, 5);
    assert_string_equal(t->text, "a");
    assert_int_equal(t->asked, 1);
    assert_int_equal(t->from, 2);
    answers(t, kept("run", 2, 4));
    assert_string_equal(t->text, "abcde");
    comes(t, 3); /* late */
    comes(t, 6);
    assert_string_equal(t->text, "abcdef");
    assert_int_equal(t->output.got[0], 6);
    assert_int_equal(t->asked, 1);
}

static void test_an_answer_that_takes_no_more_is_followed_by_another(void **state)
{
    struct trial *t = *state;

    comes(t, 6);
    answers(t, kept("run", 1, 2));
    assert_string_equal(t->text, "ab");
    assert_int_equal(t->asked, 2);
    assert_int_equal(t->from, 3);
    answers(t, kept("run", 3, 6));
    assert_string_equal(t->text, "abcdef");
    assert_int_equal(t->asked, 2);
}

static void test_what_is_gone_there_is_not_waited_for(void **state)
{
    struct trial *t = *state;

    comes(t, 5);
    answers(t, kept("run", 4, 4));
    assert_string_equal(t->text, "de");
    comes(t, 7);
    answers(t, kept("another", 6, 6));
    assert_string_equal(t->text, "deg");
}

static void test_no_answer(void **state)
{
    struct trial *t = *state;

    comes(t, 2);
    for (unsigned n = 1; n <= 3; n++) {
        assert_int_equal(t->asked, n);
        assert_string_equal(t->text, "");
        answers(t, n == 2 ? json_pack("{s:s}", "error", "no such op: kept") : NULL);
    }
    assert_int_equal(t->asked, 3);
    assert_string_equal(t->text, "b");
    comes(t, 4);
    assert_string_equal(t->text, "bd");
    assert_false(gap_may_come(&t->gap, &t->output, &t->kernel, "run"));
}

static void test_too_much_to_wait(void **state)
{
    struct trial *t = *state;

    comes(t, 2);
    comes_with(t, 3, (size_t)16 * 1024 * 1024);
    assert_string_equal(t->text, "bc");
    answers(t, kept("run", 1, 3));
    assert_string_equal(t->text, "bc");
}

static void test_after_the_end_it_is_asked_until_there_is_no_more(void **state)
{
    struct trial *t = *state;

    assert_true(gap_may_come(&t->gap, &t->output, &t->kernel, "run"));
    assert_true(gap_may_come(&t->gap, &t->output, &t->kernel, "run"));
    assert_int_equal(t->asked, 1);
    answers(t, kept("run", 1, 2));
    assert_true(gap_may_come(&t->gap, &t->output, &t->kernel, "run"));
    assert_int_equal(t->from, 3);
    answers(t, kept("run", 1, 0));
    assert_false(gap_may_come(&t->gap, &t->output, &t->kernel, "run"));
    assert_string_equal(t->text, "ab");
}

/* What was asked before the end says nothing of what came after it. */
static void test_an_answer_from_before_the_end_is_not_the_last(void **state)
{
    struct trial *t = *state;

    gap_ask(&t->gap, &t->kernel, "run");
    assert_true(gap_may_come(&t->gap, &t->output, &t->kernel, "run"));
    answers(t, kept("run", 1, 0));
    assert_true(gap_may_come(&t->gap, &t->output, &t->kernel, "run"));
    assert_int_equal(t->asked, 2);
}

static void test_a_kernel_that_cannot_be_asked_meanwhile(void **state)
{
    struct trial *t = *state;

    t->kernel.threads = false;
    comes(t, 2);
    assert_string_equal(t->text, "b");
    assert_int_equal(t->asked, 0);
}

static void test_answers_that_lie(void **state)
{
    static const char *const lies[] = {
        "{\"run\": \"run\"}",
        "{\"run\": \"run\", \"messages\": 5}",
        "{\"run\": \"run\", \"messages\": {\"0\": []}}",
        "{\"run\": \"run\", \"messages\": [5, [], [\"stream\"], [5, {}], [\"stream\", []]]}",
        "{\"run\": \"run\", \"messages\": [[\"stream\", {\"text\": \"x\"}]]}",
        "{\"run\": \"run\", \"messages\": [[\"stream\", {\"text\": \"x\", \"cellblock\": -1}]]}",
        "{\"run\": \"run\", \"messages\": [[\"stream\", {\"text\": \"x\", \"cellblock\": \"1\"}]]}",
        "{\"run\": 5, \"messages\": [[\"stream\", {\"text\": \"x\", \"cellblock\": 1}]]}",
        "{\"run\": \"another\", \"messages\": [[\"stream\", {\"text\": \"x\", \"cellblock\": 1}]]}",
    };
    struct trial *t = *state;

    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        t->gap.tries = 0;
        gap_ask(&t->gap, &t->kernel, "run");
        answers(t, json_loads(lies[i], 0, NULL));
        assert_string_equal(t->text, "");
        assert_false(t->gap.asking);
    }
}

static void test_what_waits_at_the_end_of_a_run_is_freed(void **state)
{
    struct trial *t = *state;

    comes(t, 2);
    comes(t, 3);
    assert_non_null(t->gap.held);
}

int main(void)
{
#define TRIAL(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        TRIAL(test_without_a_cut_all_is_taken_as_it_comes),
        TRIAL(test_what_is_missing_is_asked_for_and_the_order_stays),
        TRIAL(test_an_answer_that_takes_no_more_is_followed_by_another),
        TRIAL(test_what_is_gone_there_is_not_waited_for),
        TRIAL(test_no_answer),
        TRIAL(test_too_much_to_wait),
        TRIAL(test_after_the_end_it_is_asked_until_there_is_no_more),
        TRIAL(test_an_answer_from_before_the_end_is_not_the_last),
        TRIAL(test_a_kernel_that_cannot_be_asked_meanwhile),
        TRIAL(test_answers_that_lie),
        TRIAL(test_what_waits_at_the_end_of_a_run_is_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
