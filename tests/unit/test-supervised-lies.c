/* The runner over a byte stream: a far side that lies, or ends too soon. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/supervised-trial.h"

/* ---- a far side that lies ---- */

static void feed(struct host *h, const void *bytes, size_t size)
{
    supervised_feed(h->supervised, bytes, size);
}

static void feed_frame(struct host *h, int type, const char *payload)
{
    unsigned char header[FRAME_HEADER];
    frame_header(header, (enum frame_type)type, strlen(payload));
    feed(h, header, sizeof(header));
    feed(h, payload, strlen(payload));
}

#define MARKER FRAME_MARKER "3.11.2\x03"
#define HELLO "{\"cellblock\":1,\"python\":\"3.11.2\",\"folder\":\"/tmp/x\"}"

/* In phase 0 … 4: nothing came; the marker; greeted; a worker is asked for; it is there. */
static struct host *host_in_phase(int phase)
{
    struct host *h = host_new(NULL);
    supervised_open(h->supervised);
    if (phase >= 1) {
        feed(h, MARKER, sizeof(MARKER) - 1);
    }
    if (phase >= 2) {
        feed_frame(h, FRAME_HELLO, HELLO);
        assert_int_equal(h->greetings, 1);
    }
    if (phase >= 3) {
        supervised_start_worker(h->supervised);
    }
    if (phase >= 4) {
        feed_frame(h, FRAME_STARTED, "{\"pid\":1}");
        assert_int_equal(h->workers, 1);
    }
    return h;
}

/* It may be anything: what can be used of it is, and the rest counts. */
static void test_what_a_run_had_made(void **state)
{
    static const struct {
        const char *said;
        unsigned named, more;
    } cases[] = {
        {"{\"files\":[[\"a\",1,2,true],[\"b/c\",1,2,false]],\"more\":3}", 2, 3},
        {"{\"files\":[[\"../a\",1,2,true],[\"/b\",1,2,false],[\"c\",\"1\",2,false]]}", 0, 3},
        {"{\"files\":{\"a\":1},\"more\":-1}", 0, 0},
        {"[[\"a\",1,2,true]]", 0, 0},
        {"\"a\"", 0, 0},
        {"null", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct host *h = host_in_phase(4);
        char text[256];

        (void)snprintf(text, sizeof(text), "{\"how\":\"code\",\"code\":1,\"changed\":%s}",
                       cases[i].said);
        feed_frame(h, FRAME_EXIT, text);
        assert_int_equal(h->exits, 1);
        assert_int_equal(h->brokens, 0);
        assert_int_equal(h->changed.count, cases[i].named);
        assert_int_equal(h->changed.more, cases[i].more);
        host_free(h);
    }
}

static void test_the_package_waits_for_the_marker(void **state)
{
    struct host *h = host_in_phase(0);
    (void)state;
    feed(h, "$ ", 2);
    assert_int_equal(h->sent_size, 0);
    for (const char *p = MARKER; *p; p++) { /* byte for byte */
        feed(h, p, 1);
    }
    assert_true(h->sent_size > 1000);
    host_free(h);
}

static void test_a_worker_that_is_asked_for_at_once(void **state)
{
    const struct supervised_options options = {.start_at_once = true};
    struct host *h = host_new(&options);

    (void)state;
    supervised_open(h->supervised);
    feed(h, MARKER, sizeof(MARKER) - 1);
    h->start_at_once = true;
    h->sent_size = 0;
    feed_frame(h, FRAME_HELLO, HELLO);
    assert_int_equal(h->greetings, 1);
    assert_int_equal(h->sent_size, 0); /* it is on its way */
    feed_frame(h, FRAME_STARTED, "{\"pid\":1}");
    assert_int_equal(h->workers, 1);
    feed_frame(h, FRAME_EXIT, "{\"how\":\"code\",\"code\":0}");
    assert_int_equal(h->exits, 1);
    supervised_start_worker(h->supervised); /* the next one is not */
    assert_int_equal(h->sent_size, FRAME_HEADER);
    assert_int_equal(h->sent[4], FRAME_START);
    host_free(h);
}

static void test_the_real_one_starts_at_once(void **state)
{
    const struct supervised_options options = {.start_at_once = true};
    struct host *h = host_with_python(&options, NULL);

    (void)state;
    wait_for(h, &h->readies, 1);
    run(h, "print(1)");
    assert_string_equal(h->output, "1\n");
    assert_int_equal(h->workers, 1);
    host_free(h);
}

/* The length that came before the package. */
static size_t package_size(const char *numbers)
{
    struct host *h = host_in_phase(0);
    const unsigned char *sent = (const unsigned char *)h->sent;
    char marker[64];
    size_t size;

    (void)snprintf(marker, sizeof(marker), FRAME_MARKER "%s\x03", numbers);
    feed(h, marker, strlen(marker));
    assert_int_equal(h->brokens, 0);
    assert_true(h->sent_size > 1000);
    size = (size_t)sent[0] | (size_t)sent[1] << 8 | (size_t)sent[2] << 16 | (size_t)sent[3] << 24;
    host_free(h);
    return size;
}

static void test_bytecode_is_for_the_python_that_takes_it(void **state)
{
    const struct embedded_file *source = embedded_find(embedded_runtime, "cellblock.zip");
    char numbers[32];

    (void)state;
    (void)snprintf(numbers, sizeof(numbers), "3.11.2.%s", embedded_worker[0].name);
    assert_int_equal(package_size(numbers), embedded_worker[0].size);
    assert_int_equal(package_size("3.11.2"), source->size);
    assert_int_equal(package_size("3.11.2.0"), source->size);
    assert_int_equal(package_size("3.11.2.1"), source->size);
    assert_int_equal(package_size("3.11.2..."), source->size);
    assert_int_equal(package_size("3.11.2.34951234567890123"), source->size);
}

static void test_an_old_python(void **state)
{
    struct host *h = host_in_phase(0);
    (void)state;
    feed(h, FRAME_MARKER "3.6.8\x03", sizeof(FRAME_MARKER "3.6.8\x03") - 1);
    assert_int_equal(h->brokens, 1);
    assert_non_null(strstr(h->broken, "3.6.8"));
    assert_int_equal(h->sent_size, 0);
    host_free(h);
}

static void test_a_banner_without_end(void **state)
{
    struct host *h = host_in_phase(0);
    char line[1024];
    (void)state;
    memset(line, 'y', sizeof(line));
    line[sizeof(line) - 1] = '\n';
    for (int i = 0; i < 100; i++) {
        feed(h, line, sizeof(line));
    }
    assert_int_equal(h->brokens, 1);
    host_free(h);
}

static void test_garbage_in_every_phase(void **state)
{
    static const struct {
        int type;
        const char *payload;
        int fine; /* the first phase in which it is no garbage, and the one after the last */
        int until;
    } cases[] = {
        {0x00, "", 9, 9},
        {0x01, "{}", 9, 9},
        {0x20, "{}", 9, 9},
        {0x3f, "{}", 9, 9},
        {0xff, "", 9, 9},
        {FRAME_HELLO, "", 9, 9},
        {FRAME_HELLO, "[]", 9, 9},
        {FRAME_HELLO, "{\"cellblock\":2,\"python\":\"3\",\"folder\":\"/x\"}", 9, 9},
        {FRAME_HELLO, "{\"cellblock\":1,\"python\":\"3\",\"folder\":\"x\"}", 9, 9},
        {FRAME_HELLO, "{\"cellblock\":1,\"python\":\"3\",\"folder\":null}", 9, 9},
        {FRAME_HELLO, HELLO, 1, 2},
        {FRAME_STARTED, "{", 9, 9},
        {FRAME_STARTED, "{}", 3, 4},
        {FRAME_BEGUN, "", 9, 9},
        {FRAME_EXIT, "{}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"well\"}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"code\",\"code\":-1}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"code\",\"code\":\"1\"}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"signal\",\"signal\":1000}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"memory\",\"used\":1e3}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"failed\",\"text\":\"why\"}", 3, 5},
        {FRAME_TAKEN, "{\"id\":1,\"bytes\":1}", 9, 9},
        {FRAME_PUT_DONE, "{\"id\":1,\"error\":null}", 9, 9},
        {FRAME_STDOUT, "text", 4, 5},
        {FRAME_DONE, "{}", 4, 5},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int phase = 1; phase <= 4; phase++) {
            struct host *h = host_in_phase(phase);
            bool fine = phase >= cases[i].fine && phase < cases[i].until;
            bool worker = phase >= 3;
            h->attach_later = true;
            if (phase == 4) { /* what the kernel makes of its frames is its own test's matter */
                runner_kernel.detach(h->kernel);
                h->kernel = NULL;
            }
            feed_frame(h, cases[i].type, cases[i].payload);
            if (h->brokens != !fine || (!fine && h->exits != worker)) {
                fail_msg("type %d %s in phase %d: %d broken (%s), %d exits", cases[i].type,
                         cases[i].payload, phase, h->brokens, h->broken, h->exits);
            }
            feed(h, "more of it", 10);
            host_free(h);
        }
    }
}

static void test_lengths_past_the_cap(void **state)
{
    static const unsigned char longs[][FRAME_HEADER] = {
        {0xff, 0xff, 0xff, 0xff, FRAME_STDOUT},
        {0, 0, 0, 3, FRAME_DISPLAY},
        {0, 0, 2, 0, FRAME_EXIT},
    };
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct host *h = host_in_phase(4);
        feed(h, longs[i], FRAME_HEADER);
        assert_int_equal(h->brokens, 1);
        assert_int_equal(h->exits, 1);
        assert_int_equal(h->exit.how, EXIT_LOST);
        host_free(h);
    }
}

static void test_ended_in_every_phase(void **state)
{
    (void)state;
    for (int phase = 0; phase <= 4; phase++) {
        struct host *h = host_in_phase(phase);
        supervised_ended(h->supervised, "gone");
        supervised_ended(h->supervised, "gone");
        assert_int_equal(h->brokens, phase < 2);
        assert_int_equal(h->exits, phase >= 3);
        assert_non_null(strstr(phase < 2   ? h->broken
                               : phase < 3 ? "gone"
                                           : h->exit_message,
                               "gone"));
        host_free(h);
    }
}

static void test_closed_in_every_phase(void **state)
{
    (void)state;
    for (int phase = 0; phase <= 4; phase++) {
        host_free(host_in_phase(phase));
    }
}

/* ---- one that outlives its stream ---- */

static int write_last(struct byte_stream *stream, const void *bytes, size_t size)
{
    struct host *h = (struct host *)((char *)stream - offsetof(struct host, stream));

    h->sent_size = size < sizeof(h->sent) ? size : sizeof(h->sent);
    memcpy(h->sent, bytes, h->sent_size);
    return 0;
}

/* What it was told at last, when the marker has come. */
static struct host *kept_host(const struct supervised_options *options, json_t **ret_told)
{
    struct host *h = host_new(options);

    h->stream.write = write_last;
    supervised_open(h->supervised);
    feed(h, MARKER, sizeof(MARKER) - 1);
    *ret_told = json_loadb(h->sent, h->sent_size, 0, NULL);
    assert_non_null(*ret_told);
    return h;
}

static void test_it_is_told_to_outlive_its_stream(void **state)
{
    const struct supervised_options options = {
        .workspace = "/workspace", .proof = "ab12", .keep_seconds = 60};
    json_t *told, *keep;
    struct host *h = kept_host(&options, &told);

    (void)state;
    keep = json_object_get(told, "keep");
    assert_string_equal(json_string_value(json_object_get(keep, "proof")), "ab12");
    assert_true(json_number_value(json_object_get(keep, "seconds")) == 60);
    assert_int_equal(json_string_value(json_object_get(keep, "folder"))[0], '/');
    json_decref(told);
    host_free(h);
}

static struct host *found(const char *hello)
{
    const struct supervised_options options = {
        .workspace = "/workspace", .proof = "ab12", .secret = "5e"};
    json_t *told;
    struct host *h = kept_host(&options, &told);

    assert_string_equal(json_string_value(json_object_get(told, "secret")), "5e");
    assert_int_equal(json_integer_value(json_object_get(told, "pid")), 1);
    assert_null(json_object_get(told, "keep"));
    json_decref(told);
    feed_frame(h, FRAME_HELLO, hello);
    return h;
}

#define FOUND(REST) "{\"cellblock\":1,\"python\":\"3.11.2\"" REST "}"

static void test_one_that_was_left_lies(void **state)
{
    static const char *const lies[] = {FOUND(""), FOUND(",\"worker\":1"),
                                       FOUND(",\"worker\":false,\"end\":7"),
                                       FOUND(",\"worker\":true,\"folder\":\"/tmp/x\"")};
    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
        struct host *h = found(lies[i]);
        assert_int_equal(h->brokens, 1);
        assert_int_equal(h->greetings, 0);
        assert_false(supervised_is_another(h->supervised));
        host_free(h);
    }
}

static void test_one_that_was_left(void **state)
{
    struct host *h =
        found(FOUND(",\"worker\":false,\"end\":\"it ended\\u001b[2J with exit code 7\""));

    (void)state;
    assert_int_equal(h->brokens, 1);
    assert_non_null(strstr(h->broken, "it ended [2J with exit code 7"));
    assert_true(supervised_is_another(h->supervised));
    host_free(h);

    h = found(FOUND(",\"worker\":true"));
    assert_int_equal(h->greetings, 1);
    assert_int_equal(h->brokens, 0);
    supervised_start_worker(h->supervised);
    feed_frame(h, FRAME_STARTED, "{\"pid\":1}");
    assert_int_equal(h->workers, 1);
    assert_false(supervised_is_another(h->supervised));
    host_free(h);
}

static void test_the_command_is_plain(void **state)
{
    char *space = NULL;
    const char *const *argv = supervised_command("python3", true, &space);
    (void)state;
    assert_non_null(argv);
    for (size_t i = 0; argv[i]; i++) {
        assert_null(strpbrk(argv[i], " \t\n\"'`$&|;<>()[]{}*?!#~\\^"));
    }
    free(space);
    assert_null(supervised_command("/opt/my python", true, &space));
    assert_null(supervised_command("python3;id", true, &space));
    assert_non_null(supervised_command("/opt/my python", false, &space));
    free(space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_package_waits_for_the_marker),
        cmocka_unit_test(test_what_a_run_had_made),
        cmocka_unit_test(test_a_worker_that_is_asked_for_at_once),
        cmocka_unit_test(test_the_real_one_starts_at_once),
        cmocka_unit_test(test_bytecode_is_for_the_python_that_takes_it),
        cmocka_unit_test(test_an_old_python),
        cmocka_unit_test(test_a_banner_without_end),
        cmocka_unit_test(test_garbage_in_every_phase),
        cmocka_unit_test(test_lengths_past_the_cap),
        cmocka_unit_test(test_ended_in_every_phase),
        cmocka_unit_test(test_closed_in_every_phase),
        cmocka_unit_test(test_it_is_told_to_outlive_its_stream),
        cmocka_unit_test(test_one_that_was_left_lies),
        cmocka_unit_test(test_one_that_was_left),
        cmocka_unit_test(test_the_command_is_plain),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
