/* Requests about files over a byte stream: with a real python3, and with a far side that lies. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/files_wire.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/supervised-trial.h"

enum { CONTENT = 3 * 1000 * 1000 };

struct answer {
    int done;
    bool failed;
    struct error err;
    struct file_entry entry; /* without its texts */
    char names[256];
    size_t count, size;
    char bytes[64];
    bool more;
};

static void on_file(void *data, const struct file_reply *reply, const struct error *err)
{
    struct answer *a = data;

    a->done++;
    a->failed = !reply;
    error_clear(&a->err);
    if (!reply) {
        error_copy(&a->err, err);
        return;
    }
    assert_null(err);
    a->entry = reply->entry;
    a->count = reply->count;
    a->more = reply->more;
    a->size = reply->size;
    a->names[0] = '\0';
    for (size_t i = 0; i < reply->count && i < 8; i++) {
        (void)snprintf(a->names + strlen(a->names), sizeof(a->names) - strlen(a->names), "%s%s%s ",
                       reply->entries[i].name, reply->entries[i].target ? ">" : "",
                       reply->entries[i].target ? reply->entries[i].target : "");
    }
    if (reply->bytes) {
        (void)snprintf(a->bytes, sizeof(a->bytes), "%s", reply->bytes);
    }
}

static void ask(struct host *h, struct answer *a, const struct file_request *request)
{
    int before = a->done;

    supervised_file(h->supervised, request, on_file, a);
    assert_int_equal(a->done, before);
    wait_for(h, &a->done, before + 1);
}

/* ---- the real one ---- */

static void test_each_operation(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    struct answer a = {0};

    (void)state;
    wait_for(h, &h->readies, 1);
    ask(h, &a,
        &(struct file_request){
            .op = FILE_WRITE, .path = "d/\xff\n", .bytes = "hello", .size = 5, .mode = -1});
    assert_false(a.failed);
    assert_int_equal(a.entry.type, FILE_REGULAR);
    assert_int_equal(a.entry.mode, 0644);
    ask(h, &a,
        &(struct file_request){
            .op = FILE_READ, .path = "/workspace/d/\xff\n", .offset = 1, .length = 3});
    assert_int_equal(a.size, 3);
    assert_int_equal(a.entry.size, 5);
    assert_string_equal(a.bytes, "ell");
    ask(h, &a, &(struct file_request){.op = FILE_COPY, .path = "d/\xff\n", .dest = "e"});
    assert_false(a.failed);
    ask(h, &a, &(struct file_request){.op = FILE_MKDIR, .path = "x/y", .mode = 0700});
    assert_int_equal(a.entry.type, FILE_DIRECTORY);
    ask(h, &a, &(struct file_request){.op = FILE_MOVE, .path = "e", .dest = "x/f"});
    assert_int_equal(a.entry.size, 5);
    ask(h, &a, &(struct file_request){.op = FILE_MKDIR, .path = "x/y/z", .mode = -1});
    ask(h, &a,
        &(struct file_request){.op = FILE_LIST, .path = "x", .recursive = true, .limit = 100});
    assert_string_equal(a.names, "f y y/z ");
    assert_false(a.more);
    ask(h, &a, &(struct file_request){.op = FILE_LIST, .path = "d", .limit = 100});
    assert_string_equal(a.names, "\xff\n ");
    ask(h, &a, &(struct file_request){.op = FILE_LIST, .path = "x", .limit = 1});
    assert_string_equal(a.names, "f ");
    assert_true(a.more);
    ask(h, &a, &(struct file_request){.op = FILE_REMOVE, .path = "d"});
    assert_int_equal(a.err.kind, ERROR_INVALID);
    ask(h, &a, &(struct file_request){.op = FILE_REMOVE, .path = "d", .recursive = true});
    assert_false(a.failed);
    ask(h, &a, &(struct file_request){.op = FILE_STAT, .path = "d"});
    assert_int_equal(a.err.kind, ERROR_NOT_FOUND);
    assert_non_null(strstr(a.err.message, "d: "));
    error_clear(&a.err);
    host_free(h);
}

static void test_beside_a_run(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    struct file_request request = {.op = FILE_WRITE, .path = "f", .size = CONTENT, .mode = -1};
    struct answer a = {0}, b = {0}, c = {0};
    char *content = malloc(CONTENT);

    (void)state;
    assert_non_null(content);
    memset(content, 'x', CONTENT);
    request.bytes = content;
    wait_for(h, &h->readies, 1);
    begin(h, "while True: pass");
    supervised_file(h->supervised, &request, on_file, &a);
    request.path = "g";
    supervised_file(h->supervised, &request, on_file, &b);
    supervised_file(h->supervised, &(struct file_request){.op = FILE_STAT, .path = "none"}, on_file,
                    &c);
    memset(content, 'y', CONTENT); /* it has a copy */
    free(content);
    wait_for(h, &a.done, 1);
    wait_for(h, &b.done, 1);
    wait_for(h, &c.done, 1);
    assert_int_equal(b.entry.size, CONTENT);
    ask(h, &a, &(struct file_request){.op = FILE_READ, .path = "f", .length = UINT64_MAX});
    assert_int_equal(a.size, CONTENT);
    assert_memory_equal(a.bytes, "xxxxxxxxxx", 10);
    supervised_kill(h->supervised);
    wait_for(h, &h->exits, 1);
    ask(h, &a, &(struct file_request){.op = FILE_STAT, .path = "g"});
    assert_false(a.failed); /* it is the worker that has gone */
    error_clear(&c.err);
    host_free(h);
}

/* ---- one that lies ---- */

static void feed(struct host *h, int type, const void *bytes, size_t size)
{
    unsigned char header[FRAME_HEADER];

    frame_header(header, (enum frame_type)type, size);
    supervised_feed(h->supervised, (const char *)header, sizeof(header));
    supervised_feed(h->supervised, bytes, size);
}

static void feed_text(struct host *h, int type, const char *text)
{
    feed(h, type, text, strlen(text));
}

static struct host *host_up(void)
{
    static const char marker[] = FRAME_MARKER "3.11.2\x03";
    struct host *h = host_new(NULL);

    supervised_open(h->supervised);
    supervised_feed(h->supervised, marker, sizeof(marker) - 1);
    feed_text(h, FRAME_HELLO, "{\"cellblock\":1,\"python\":\"3.11.2\",\"folder\":\"/tmp/x\"}");
    h->sent_size = 0;
    return h;
}

static const struct file_request requests[] = {
    [FILE_STAT] = {.op = FILE_STAT, .path = "f"},
    [FILE_LIST] = {.op = FILE_LIST, .path = "f", .limit = 3},
    [FILE_READ] = {.op = FILE_READ, .path = "f", .length = 4},
    [FILE_WRITE] = {.op = FILE_WRITE, .path = "f", .bytes = "abc", .size = 3},
    [FILE_MKDIR] = {.op = FILE_MKDIR, .path = "f"},
    [FILE_REMOVE] = {.op = FILE_REMOVE, .path = "f"},
    [FILE_COPY] = {.op = FILE_COPY, .path = "f", .dest = "g"},
    [FILE_MOVE] = {.op = FILE_MOVE, .path = "f", .dest = "g"},
};

#define DONE "{\"id\":1,\"more\":false,\"error\":null}"
#define REGULAR "\0\xa4\1\5\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define LINK "\2\xff\1\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define NO_TEXTS "\0\0\0\0"
#define NAME(size) size "\0\0\0"
#define BYTES(text) text, sizeof(text) - 1

static const struct {
    enum file_op op;
    bool fine;
    const char *bytes; /* of the answer */
    size_t size;
    const char *done; /* NULL: DONE */
} cases[] = {
    {FILE_STAT, true, BYTES(REGULAR NO_TEXTS), NULL},
    {FILE_STAT, true, BYTES(LINK "\0\0\1\0t"), NULL},
    {FILE_READ, true, BYTES(REGULAR NO_TEXTS "1234"), NULL},
    {FILE_READ, true, BYTES(REGULAR NO_TEXTS), NULL},
    {FILE_LIST, true, BYTES(REGULAR NAME("\1") "a" REGULAR NAME("\1") "b"), NULL},
    {FILE_LIST, true, BYTES(""), NULL},
    {FILE_LIST, true, BYTES(REGULAR NAME("\1") "a"), "{\"id\":1,\"more\":true,\"error\":null}"},
    {FILE_REMOVE, true, BYTES(""), NULL},
    {FILE_COPY, true, BYTES(""),
     "{\"id\":1,\"more\":false,\"error\":{\"kind\":\"invalid\",\"text\":\"x\"}}"},
    {FILE_STAT, true, BYTES("half of it"),
     "{\"id\":1,\"more\":false,\"error\":{\"kind\":\"?\",\"text\":\"\"}}"},

    {FILE_STAT, false, BYTES(""), NULL},
    {FILE_STAT, false, BYTES(REGULAR "\0\0\0"), NULL},
    {FILE_STAT, false, BYTES(REGULAR NO_TEXTS "more"), NULL},
    {FILE_STAT, false, BYTES(REGULAR NAME("\1") "a"), NULL},  /* a name */
    {FILE_STAT, false, BYTES(REGULAR "\0\0\1\0t"), NULL},     /* no link */
    {FILE_STAT, false, BYTES(REGULAR "\0\0\xff\xfft"), NULL}, /* past the end */
    {FILE_STAT, false, BYTES(LINK "\0\0\2\0t\0"), NULL},      /* a NUL */
    {FILE_STAT, false,
     BYTES("\4"
           "\xa4\1"
           "\0\0\0\0\0\0\0\0"
           "\0\0\0\0\0\0\0\0" NO_TEXTS),
     NULL},
    {FILE_STAT, false,
     BYTES("\0"
           "\xff\xff"
           "\0\0\0\0\0\0\0\0"
           "\0\0\0\0\0\0\0\0" NO_TEXTS),
     NULL},
    {FILE_STAT, false,
     BYTES("\0"
           "\xa4\1"
           "\0\0\0\0\0\0\0\x80"
           "\0\0\0\0\0\0\0\0" NO_TEXTS),
     NULL},
    {FILE_STAT, false,
     BYTES("\1"
           "\xa4\1"
           "\1\0\0\0\0\0\0\0"
           "\0\0\0\0\0\0\0\0" NO_TEXTS),
     NULL},
    {FILE_STAT, false, BYTES(REGULAR NO_TEXTS), "{\"id\":1,\"more\":true,\"error\":null}"},
    {FILE_READ, false, BYTES(LINK NO_TEXTS "1234"), NULL},
    {FILE_READ, false, BYTES(REGULAR NO_TEXTS "12345"), NULL},
    {FILE_LIST, false, BYTES(REGULAR NAME("\1") "b" REGULAR NAME("\1") "a"), NULL},
    {FILE_LIST, false, BYTES(REGULAR NAME("\1") "a" REGULAR NAME("\1") "a"), NULL},
    {FILE_LIST, false, BYTES(REGULAR NO_TEXTS), NULL},
    {FILE_LIST, false, BYTES(REGULAR NAME("\2") ".."), NULL},
    {FILE_LIST, false, BYTES(REGULAR NAME("\1") "."), NULL},
    {FILE_LIST, false, BYTES(REGULAR NAME("\1") "/"), NULL},
    {FILE_LIST, false, BYTES(REGULAR NAME("\3") "a/b"), NULL}, /* not recursive */
    {FILE_LIST, false,
     BYTES(REGULAR NAME("\1") "a" REGULAR NAME("\1") "b" REGULAR NAME("\1") "c" REGULAR NAME(
         "\1") "d"),
     NULL}, /* more than the limit */
    {FILE_REMOVE, false, BYTES("x"), NULL},
    {FILE_STAT, false, BYTES(REGULAR NO_TEXTS), "{\"id\":2,\"more\":false,\"error\":null}"},
    {FILE_STAT, false, BYTES(REGULAR NO_TEXTS), "{\"id\":-1,\"more\":false,\"error\":null}"},
    {FILE_STAT, false, BYTES(REGULAR NO_TEXTS), "{\"id\":1,\"error\":null}"},
    {FILE_STAT, false, BYTES(REGULAR NO_TEXTS), "{\"id\":1,\"more\":false}"},
    {FILE_STAT, false, BYTES(REGULAR NO_TEXTS), "{\"id\":1,\"more\":false,\"error\":{}}"},
    {FILE_STAT, false, BYTES(REGULAR NO_TEXTS), "{\"id\":1,\"more\":false,\"error\":[1]}"},
    {FILE_STAT, false, BYTES(REGULAR NO_TEXTS), "[]"},
};

static void feed_answer(struct host *h, unsigned id, const char *bytes, size_t size)
{
    char piece[512] = {(char)id};

    assert_true(size + 4 <= sizeof(piece));
    if (size > 0) {
        memcpy(piece + 4, bytes, size);
    }
    feed(h, FRAME_FILE_BYTES, piece, size + 4);
}

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct host *h = host_up();
        struct answer a = {0};
        supervised_file(h->supervised, &requests[cases[i].op], on_file, &a);
        feed_answer(h, 1, cases[i].bytes, cases[i].size);
        feed_text(h, FRAME_FILE_DONE, cases[i].done ? cases[i].done : DONE);
        if (a.done != 1 || h->brokens != !cases[i].fine ||
            (!cases[i].fine && a.err.kind != ERROR_LOST)) {
            fail_msg("case %zu: answered %d, broken %d (%s)", i, a.done, h->brokens, h->broken);
        }
        error_clear(&a.err);
        host_free(h);
    }
}

static void test_answers_to_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct host *h = host_up();
        struct answer a = {0};
        if (i > 0) {
            supervised_file(h->supervised, &requests[FILE_REMOVE], on_file, &a);
        }
        if (i == 0 || i == 1) {
            feed_answer(h, i == 0 ? 1 : 2, "", 0);
        } else if (i == 2) {
            feed(h, FRAME_FILE_BYTES, "\1\0\0", 3);
        } else if (i == 3) {
            feed_text(h, FRAME_FILE_DONE, DONE);
            assert_int_equal(a.done, 1);
            assert_false(a.failed);
            assert_int_equal(h->brokens, 0);
            feed_text(h, FRAME_FILE_DONE, DONE); /* twice */
        } else {
            feed_text(h, FRAME_TAKEN, "{\"id\":1,\"bytes\":1}");
        }
        assert_int_equal(h->brokens, 1);
        assert_int_equal(a.done, i > 0);
        error_clear(&a.err);
        host_free(h);
    }
}

/* A READ of the most may be answered with that, and not with one byte more. */
static void test_an_answer_without_end(void **state)
{
    struct file_request request = {.op = FILE_READ, .path = "f", .length = UINT64_MAX};
    struct host *h = host_up();
    struct answer a = {0};
    size_t fed = 0;
    char *piece = calloc(1, 60000);

    (void)state;
    assert_non_null(piece);
    piece[0] = 1;
    supervised_file(h->supervised, &request, on_file, &a);
    while (h->brokens == 0) {
        assert_true(fed <= FILE_READ_CAP + FILE_WIRE_ENTRY);
        feed(h, FRAME_FILE_BYTES, piece, 60000);
        fed += 60000 - 4;
    }
    assert_true(fed > FILE_READ_CAP);
    assert_int_equal(a.err.kind, ERROR_LOST);
    error_clear(&a.err);
    free(piece);
    host_free(h);
}

static void test_the_window_of_a_write(void **state)
{
    struct file_request request = {.op = FILE_WRITE, .path = "f", .size = CONTENT, .mode = -1};
    struct host *h = host_up();
    struct answer a = {0};
    char *content = calloc(1, CONTENT);

    (void)state;
    request.bytes = content;
    supervised_file(h->supervised, &request, on_file, &a);
    free(content);
    feed_text(h, FRAME_TAKEN, "{\"id\":1,\"bytes\":1000000}");
    feed_text(h, FRAME_TAKEN, "{\"id\":1,\"bytes\":1000000}");
    assert_int_equal(h->brokens, 0);
    feed_text(h, FRAME_TAKEN, "{\"id\":1,\"bytes\":2999999}"); /* not sent yet */
    assert_int_equal(h->brokens, 1);
    error_clear(&a.err);
    host_free(h);
}

static void test_the_end_answers_all(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        struct host *h = host_up();
        struct answer a = {0}, b = {0};
        supervised_file(h->supervised, &requests[FILE_STAT], on_file, &a);
        if (way == 0) {
            supervised_ended(h->supervised, "gone");
        } else if (way == 1) {
            feed_text(h, 0x99, "");
        }
        assert_int_equal(a.done, way < 2);
        if (way < 2) { /* one that comes when all is over */
            supervised_file(h->supervised, &requests[FILE_STAT], on_file, &b);
            assert_int_equal(b.done, 0);
            wait_for(h, &b.done, 1);
            assert_int_equal(b.err.kind, ERROR_LOST);
        }
        host_free(h);
        assert_int_equal(a.done, 1);
        assert_int_equal(a.err.kind, ERROR_LOST);
        error_clear(&a.err);
        error_clear(&b.err);
    }
}

/* ---- a stream that takes nothing ---- */

static int refusing_write(struct byte_stream *stream, const void *bytes, size_t size)
{
    (void)stream;
    (void)bytes;
    (void)size;
    return -ENOBUFS;
}

static void test_a_far_side_that_does_not_read(void **state)
{
    struct host *h = host_up();
    struct answer a = {0};

    (void)state;
    h->stream.write = refusing_write;
    supervised_file(h->supervised, &requests[FILE_WRITE], on_file, &a);
    assert_int_equal(a.done, 0);
    wait_for(h, &a.done, 1);
    assert_int_equal(a.err.kind, ERROR_LOST);
    assert_int_equal(h->brokens, 1);
    error_clear(&a.err);
    host_free(h);
}

static void test_texts_of_errors(void **state)
{
    struct host *h = host_up();
    struct answer a = {0};

    (void)state;
    supervised_file(h->supervised, &requests[FILE_COPY], on_file, &a);
    feed_text(h, FRAME_FILE_DONE,
              "{\"id\":1,\"more\":false,\"error\":{\"kind\":\"refused\",\"dest\":true,"
              "\"text\":\"\\u001b[2J\\u0007no\\n\\u202e\"}}");
    assert_int_equal(a.err.kind, ERROR_REFUSED);
    assert_memory_equal(a.err.message, "g:  [2J no ", 11);
    assert_null(strpbrk(a.err.message, "\x1b\x07\n\xe2"));
    error_clear(&a.err);
    host_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_operation),
        cmocka_unit_test(test_beside_a_run),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_answers_to_nothing),
        cmocka_unit_test(test_an_answer_without_end),
        cmocka_unit_test(test_the_window_of_a_write),
        cmocka_unit_test(test_the_end_answers_all),
        cmocka_unit_test(test_a_far_side_that_does_not_read),
        cmocka_unit_test(test_texts_of_errors),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
