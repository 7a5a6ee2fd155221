/* A process in a sandbox through its router: streams, tokens, retries, the end (gRPC is
 * fake-grpc.c); and what the service's word on a sandbox's end means. */
#include "cmocka_all.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/modal/internal.h"
#include "fake-grpc.h"
#include "router.pb-c.h"

#define TOKEN "h.eyJpYXQiOjEwMDAsImV4cCI6MjIwMH0.s" /* {"iat":1000,"exp":2200} */

enum { WRITES = 8 };

typedef Modal__TaskCommandRouter__TaskExecStdioReadRequest read_request;
typedef Modal__TaskCommandRouter__TaskExecStdinWriteRequest write_request;

/* What one attempt to read stdout is answered: these bytes, and then that end. */
struct piece {
    const char *text;
    enum grpc_status status;
};

struct trial {
    uv_loop_t loop;
    struct modal_client *client;
    struct modal_router *router;
    struct modal_exec *exec;
    unsigned closed;
    /* How the server behaves. */
    const struct piece *pieces; /* the last one stays */
    unsigned bad_starts, bad_writes, bad_waits;
    struct fake_reply bad;
    const char *good_bearer; /* NULL: any */
    bool renewals_fail;
    bool no_end;
    int code, signal;
    /* What was seen. */
    unsigned reads;
    uint64_t offsets[WRITES];
    unsigned writes;
    uint64_t write_offsets[WRITES];
    char written[WRITES][32];
    bool write_eofs[WRITES];
    char throttled[8];
    char exec_id[64];
    bool same_id;
    /* What came of it. */
    char out[64];
    unsigned started, ended;
    struct modal_exec_end end;
    char *message;
};

static void *unpacked(const ProtobufCMessageDescriptor *type, const struct fake_call *call)
{
    void *message = protobuf_c_message_unpack(type, NULL, call->size, call->message);

    assert_non_null(message);
    return message;
}

static void serve_start(struct trial *t, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__TaskCommandRouter__TaskExecStartResponse ok =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_START_RESPONSE__INIT;
    Modal__TaskCommandRouter__TaskExecStartRequest *r =
        unpacked(&modal__task_command_router__task_exec_start_request__descriptor, call);

    assert_string_equal(r->task_id, "ta-1");
    assert_int_equal(r->n_command_args, 2);
    assert_string_equal(r->command_args[1], "-V");
    t->same_id = !t->exec_id[0] || strcmp(t->exec_id, r->exec_id) == 0;
    (void)snprintf(t->exec_id, sizeof(t->exec_id), "%s", r->exec_id);
    (void)snprintf(t->throttled, sizeof(t->throttled), "%s",
                   fake_metadata(call, "x-throttle-retry-attempt"));
    protobuf_c_message_free_unpacked(&r->base, NULL);
    if (t->bad_starts > 0) {
        t->bad_starts--;
        *reply = t->bad;
    } else {
        reply->answers[0] = &ok.base;
    }
}

static void serve_read(struct trial *t, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__TaskCommandRouter__TaskExecStdioReadResponse some =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_STDIO_READ_RESPONSE__INIT;
    read_request *r =
        unpacked(&modal__task_command_router__task_exec_stdio_read_request__descriptor, call);
    bool errors = r->file_descriptor != 0;
    uint64_t offset = r->offset;
    const struct piece *piece = t->pieces;

    protobuf_c_message_free_unpacked(&r->base, NULL);
    some.data.data = (uint8_t *)"No module\n";
    some.data.len = errors && offset == 0 ? 10 : 0;
    if (!errors) {
        t->offsets[t->reads++ % WRITES] = offset;
        some.data.data = (uint8_t *)piece->text;
        some.data.len = strlen(piece->text);
        reply->status = piece->status;
        reply->hold = t->no_end && !piece->text[0];
        t->pieces += piece[1].text ? 1 : 0;
    }
    if (some.data.len > 0) {
        reply->answers[0] = &some.base;
    }
}

static void serve_write(struct trial *t, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__TaskCommandRouter__TaskExecStdinWriteResponse ok =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_STDIN_WRITE_RESPONSE__INIT;
    write_request *r =
        unpacked(&modal__task_command_router__task_exec_stdin_write_request__descriptor, call);
    unsigned i = t->writes++ % WRITES;

    t->write_offsets[i] = r->offset;
    t->write_eofs[i] = r->eof;
    (void)snprintf(t->written[i], sizeof(t->written[i]), "%.*s", (int)r->data.len,
                   (const char *)r->data.data);
    protobuf_c_message_free_unpacked(&r->base, NULL);
    if (t->bad_writes > 0) {
        t->bad_writes--;
        *reply = t->bad;
    } else {
        reply->answers[0] = &ok.base;
    }
}

static void serve_wait(struct trial *t, struct fake_reply *reply)
{
    static Modal__TaskCommandRouter__TaskExecWaitResponse ended =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_WAIT_RESPONSE__INIT;

    if (t->bad_waits > 0) {
        t->bad_waits--;
        *reply = t->bad;
        return;
    }
    reply->hold = t->no_end;
    ended.exit_status_case =
        t->signal ? MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_WAIT_RESPONSE__EXIT_STATUS_SIGNAL
                  : MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_WAIT_RESPONSE__EXIT_STATUS_CODE;
    ended.code = t->signal ? t->signal : t->code;
    reply->answers[0] = &ended.base;
}

static void serve_access(const struct trial *t, struct fake_reply *reply)
{
    static Modal__Client__SandboxGetCommandRouterAccessResponse access =
        MODAL__CLIENT__SANDBOX_GET_COMMAND_ROUTER_ACCESS_RESPONSE__INIT;

    access.jwt = "second";
    access.url = "https://elsewhere.example";
    reply->answers[0] = &access.base;
    if (t->renewals_fail) {
        *reply = (struct fake_reply){.status = GRPC_NOT_FOUND, .message = "no such sandbox"};
    }
}

static void serve(void *data, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__AuthTokenGetResponse token = MODAL__CLIENT__AUTH_TOKEN_GET_RESPONSE__INIT;
    struct trial *t = data;
    const char *bearer = fake_metadata(call, "authorization");

    if (strcmp(call->method, "AuthTokenGet") == 0) {
        token.token = TOKEN;
        reply->answers[0] = &token.base;
    } else if (strcmp(call->method, "SandboxGetCommandRouterAccess") == 0) {
        serve_access(t, reply);
    } else if (t->good_bearer && strcmp(bearer, t->good_bearer) != 0) {
        *reply = (struct fake_reply){.status = GRPC_UNAUTHENTICATED, .message = "expired"};
    } else if (strcmp(call->method, "TaskExecStart") == 0) {
        serve_start(t, call, reply);
    } else if (strcmp(call->method, "TaskExecStdioRead") == 0) {
        serve_read(t, call, reply);
    } else if (strcmp(call->method, "TaskExecStdinWrite") == 0) {
        serve_write(t, call, reply);
    } else {
        assert_string_equal(call->method, "TaskExecWait");
        serve_wait(t, reply);
    }
}

static void on_started(void *data)
{
    ((struct trial *)data)->started++;
}

static void on_output(void *data, const char *bytes, size_t size)
{
    struct trial *t = data;
    size_t have = strlen(t->out);

    assert_true(have + size < sizeof(t->out));
    memcpy(t->out + have, bytes, size);
}

static void on_end(void *data, const struct modal_exec_end *end)
{
    struct trial *t = data;

    t->ended++;
    t->end = *end;
    t->message = end->message ? strdup(end->message) : NULL;
}

static struct modal_router *router_at(struct trial *t, const char *url, struct error *err)
{
    const struct modal_router_options options = {
        .client = t->client, .sandbox_id = "sb-1", .task_id = "ta-1", .url = url, .jwt = "first"};

    return modal_router_new(&t->loop, &options, err);
}

static const struct piece whole[] = {{"all of it", GRPC_OK}, {NULL, 0}};

static void begin(struct trial *t, const char *server)
{
    struct modal_credentials who = {.server_url = (char *)server,
                                    .token_id = "ak-1",
                                    .token_secret = "as-1",
                                    .environment = "",
                                    .profile = "this test"};
    struct error err = {0};

    *t = (struct trial){.pieces = whole};
    assert_int_equal(uv_loop_init(&t->loop), 0);
    fake_grpc_begin(serve, t);
    t->client = modal_client_new(&t->loop, &who, &err);
    assert_non_null(t->client);
    t->router = router_at(t, "https://worker.example:443", &err);
    assert_non_null(t->router);
}

static void start(struct trial *t)
{
    static const struct modal_exec_events events = {on_started, on_output, on_end};
    static const char *const argv[] = {"python3", "-V", NULL};
    const struct modal_exec_options options = {.task_id = "ta-1", .argv = argv};
    struct error err = {0};

    t->exec = modal_exec_new(&t->loop, t->router, &options, &events, t, &err);
    assert_non_null(t->exec);
    assert_int_equal(t->ended + t->started, 0);
}

static void run(struct trial *t)
{
    while (t->ended == 0) {
        (void)uv_run(&t->loop, UV_RUN_ONCE);
    }
}

static void on_closed(void *data)
{
    ((struct trial *)data)->closed++;
}

static void end(struct trial *t)
{
    if (t->exec) {
        modal_exec_close(t->exec, on_closed, t);
        while (t->closed == 0) {
            (void)uv_run(&t->loop, UV_RUN_ONCE);
        }
    }
    modal_router_close(t->router, on_closed, t);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_int_equal(t->closed, t->exec ? 2 : 1);
    modal_client_close(t->client, on_closed, t);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_int_equal(fake_channels(), 0);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    free(t->message);
    fake_grpc_begin(NULL, NULL);
}

static struct fake_reply failing(enum grpc_status status)
{
    return (struct fake_reply){.status = status, .message = "not now"};
}

/* ---- its end ---- */

static void test_a_code_and_what_it_said(void **state)
{
    struct trial t;
    char *said;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.code = 3;
    start(&t);
    run(&t);
    assert_string_equal(t.out, "all of it");
    assert_int_equal(t.started, 1);
    assert_int_equal(t.end.how, MODAL_EXEC_CODE);
    assert_int_equal(t.end.code, 3);
    assert_true(t.end.began);
    said = modal_exec_said(t.exec);
    assert_string_equal(said, "No module");
    free(said);
    end(&t);
}

static void test_a_signal_after_waits_that_came_to_nothing(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.signal = 9;
    t.bad = failing(GRPC_DEADLINE_EXCEEDED);
    t.bad_waits = 3;
    start(&t);
    run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_SIGNAL);
    assert_int_equal(t.end.code, 9);
    assert_int_equal(fake_count("TaskExecWait"), 4);
    end(&t);
}

static void test_a_start_that_is_refused(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.bad = failing(GRPC_NOT_FOUND);
    t.bad_starts = 1;
    start(&t);
    run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_LOST);
    assert_int_equal(t.end.status, GRPC_NOT_FOUND);
    assert_false(t.end.began);
    assert_non_null(strstr(t.message, "TaskExecStart"));
    assert_int_equal(t.started, 0);
    end(&t);
}

static void test_a_start_is_tried_again_with_its_id(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.bad = failing(GRPC_UNAVAILABLE);
    t.bad_starts = 3;
    start(&t);
    run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_CODE);
    assert_int_equal(fake_count("TaskExecStart"), 4);
    assert_true(t.same_id);
    assert_int_equal(strlen(t.exec_id), 36);
    end(&t);
}

static void test_one_that_is_there_already_is_the_same(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.bad = failing(GRPC_ALREADY_EXISTS);
    t.bad_starts = 1;
    start(&t);
    run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_CODE);
    end(&t);
}

static void test_closed_while_it_goes_on(void **state)
{
    static const struct piece quiet[] = {{"", GRPC_OK}, {NULL, 0}};
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.no_end = true;
    t.pieces = quiet;
    start(&t);
    while (t.started == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    end(&t);
    assert_int_equal(t.ended, 0);
}

/* What waited is written, and that nobody is there. */
static void test_left_its_stdin_is_ended(void **state)
{
    static const struct piece quiet[] = {{"", GRPC_OK}, {NULL, 0}};
    struct trial t;
    struct byte_stream *in;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.no_end = true;
    t.pieces = quiet;
    start(&t);
    in = modal_exec_stream(t.exec);
    while (t.started == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    assert_string_equal(modal_exec_id(t.exec), t.exec_id);
    assert_int_equal(in->write(in, "last", 4), 0);
    modal_exec_leave(t.exec, on_closed, &t);
    while (t.closed == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    t.exec = NULL;
    assert_int_equal(t.writes, 1);
    assert_string_equal(t.written[0], "last");
    assert_true(t.write_eofs[0]);
    t.closed = 0;
    end(&t);
    assert_int_equal(t.ended, 0);
}

static void test_closed_before_it_has_started(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    start(&t);
    end(&t);
    assert_int_equal(t.started + t.ended, 0);
}

/* ---- streams ---- */

static void test_output_goes_on_where_it_was_cut(void **state)
{
    static const struct piece pieces[] = {{"abc", GRPC_UNAVAILABLE},
                                          {"", GRPC_INTERNAL},
                                          {"de", GRPC_UNAUTHENTICATED},
                                          {"f", GRPC_OK},
                                          {NULL, 0}};
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.pieces = pieces;
    start(&t);
    run(&t);
    assert_string_equal(t.out, "abcdef");
    assert_int_equal(t.reads, 4);
    assert_int_equal(t.offsets[1], 3);
    assert_int_equal(t.offsets[2], 3);
    assert_int_equal(t.offsets[3], 5);
    assert_int_equal(fake_count("SandboxGetCommandRouterAccess"), 1);
    assert_int_equal(t.end.how, MODAL_EXEC_CODE);
    end(&t);
}

static void test_output_that_is_lost(void **state)
{
    static const struct piece pieces[] = {{"abc", GRPC_NOT_FOUND}, {NULL, 0}};
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.pieces = pieces;
    t.bad = failing(GRPC_NOT_FOUND);
    t.bad_waits = 1;
    start(&t);
    run(&t);
    assert_string_equal(t.out, "abc");
    assert_int_equal(t.end.how, MODAL_EXEC_LOST);
    assert_true(t.end.began);
    assert_non_null(strstr(t.message, "NOT_FOUND"));
    end(&t);
}

static void test_input_is_gathered_and_sent_again_by_offset(void **state)
{
    static const struct piece quiet[] = {{"", GRPC_OK}, {NULL, 0}};
    struct trial t;
    struct byte_stream *in;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.no_end = true;
    t.pieces = quiet;
    t.bad = failing(GRPC_UNAVAILABLE);
    t.bad_writes = 1;
    start(&t);
    in = modal_exec_stream(t.exec);
    assert_int_equal(in->write(in, "he", 2), 0); /* before it has started */
    assert_int_equal(in->write(in, "ad", 2), 0);
    assert_int_equal(in->queued(in), 4);
    while (t.writes < 2 || in->queued(in) > 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    assert_string_equal(t.written[0], "head");
    assert_string_equal(t.written[1], "head");
    assert_int_equal(t.write_offsets[1], 0);
    assert_int_equal(in->write(in, "t", 1), 0);
    assert_int_equal(in->write(in, "ail", 3), 0);
    modal_exec_eof(t.exec);
    assert_int_equal(in->write(in, "x", 1), -EPIPE);
    while (t.writes < 3 || in->queued(in) > 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    assert_string_equal(t.written[2], "tail");
    assert_int_equal(t.write_offsets[2], 4);
    assert_true(t.write_eofs[2]);
    assert_false(t.write_eofs[0]);
    end(&t);
}

static void test_input_that_is_not_taken(void **state)
{
    static const struct piece quiet[] = {{"", GRPC_OK}, {NULL, 0}};
    struct trial t;
    struct byte_stream *in;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.no_end = true;
    t.pieces = quiet;
    t.bad = failing(GRPC_FAILED_PRECONDITION);
    t.bad_writes = 1;
    start(&t);
    in = modal_exec_stream(t.exec);
    assert_int_equal(in->write(in, "word", 4), 0);
    run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_LOST);
    assert_non_null(strstr(t.message, "TaskExecStdinWrite"));
    assert_int_equal(in->write(in, "x", 1), -EPIPE);
    end(&t);
}

/* ---- the router's token ---- */

static void test_a_token_is_renewed_once_for_all(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.good_bearer = "Bearer second";
    start(&t);
    run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_CODE);
    assert_string_equal(t.out, "all of it");
    assert_int_equal(fake_count("SandboxGetCommandRouterAccess"), 1);
    end(&t);
}

static void test_a_token_that_stays_bad(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.good_bearer = "Bearer third";
    start(&t);
    run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_LOST);
    assert_int_equal(t.end.status, GRPC_UNAUTHENTICATED);
    assert_int_equal(fake_count("SandboxGetCommandRouterAccess"), 1);
    end(&t);
}

static void test_no_other_token_is_to_be_had(void **state)
{
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    t.good_bearer = "Bearer second";
    t.renewals_fail = true;
    start(&t);
    run(&t);
    assert_int_equal(t.end.how, MODAL_EXEC_LOST);
    assert_int_equal(t.end.status, GRPC_NOT_FOUND);
    end(&t);
}

static void test_an_address_without_tls(void **state)
{
    struct error err = {0};
    struct modal_router *router;
    struct trial t;

    (void)state;
    begin(&t, "https://api.modal.com");
    assert_null(router_at(&t, "http://worker.example", &err));
    assert_int_equal(err.kind, ERROR_REFUSED);
    assert_non_null(strstr(err.message, "not https"));
    error_clear(&err);
    end(&t);
    begin(&t, "http://127.0.0.1:1");
    router = router_at(&t, "http://127.0.0.1:2", &err);
    assert_non_null(router);
    modal_router_close(router, on_closed, &t);
    uv_run(&t.loop, UV_RUN_DEFAULT);
    t.closed = 0;
    end(&t);
}

static void test_what_is_tried_again(void **state)
{
    struct modal_attempts a = {0};
    struct grpc_end end = {.status = GRPC_UNAVAILABLE, .message = ""};
    unsigned ms = 0;

    (void)state;
    for (unsigned i = 0; i < MODAL_ROUTER_TRIES; i++) {
        assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_LATER);
        assert_int_equal(ms, MODAL_ROUTER_DELAY_MS << i > MODAL_ROUTER_DELAY_MAX_MS
                                 ? MODAL_ROUTER_DELAY_MAX_MS
                                 : MODAL_ROUTER_DELAY_MS << i);
    }
    assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_NO);
    assert_int_equal(modal_attempts_next(&a, &end, true, UINT64_MAX, &ms), MODAL_AGAIN_LATER);
    assert_int_equal(ms, MODAL_ROUTER_SLOW_MS);
    assert_int_equal(modal_attempts_next(&a, &end, true, 500, &ms), MODAL_AGAIN_NO);
    end.status = GRPC_UNAUTHENTICATED;
    assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_RENEW);
    assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_NO);
    end.status = GRPC_RESOURCE_EXHAUSTED; /* nobody says when to come back */
    assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_NO);
    end.status = GRPC_INVALID_ARGUMENT;
    assert_int_equal(modal_attempts_next(&a, &end, false, 0, &ms), MODAL_AGAIN_NO);
}

/* ---- the service's word ---- */

static void test_the_service_s_word(void **state)
{
    static const struct {
        unsigned status;
        enum exit_how how;
        const char *word;
    } ends[] = {{1, EXIT_LOST, "own process"},   {2, EXIT_LOST, "failed"},
                {3, EXIT_LOST, "terminated"},    {4, EXIT_LOST, "max_lifetime_seconds"},
                {5, EXIT_LOST, "not start"},     {6, EXIT_LOST, "failure of its own"},
                {7, EXIT_LOST, "idle"},          {8, EXIT_OUT_OF_MEMORY, "evicted"},
                {9, EXIT_OUT_OF_MEMORY, "full"}, {10, EXIT_OUT_OF_MEMORY, "out of memory"},
                {77, EXIT_LOST, "(77)"}};
    Modal__Client__GenericResult result = MODAL__CLIENT__GENERIC_RESULT__INIT;
    struct machine_exit exit;
    char *words = NULL;

    (void)state;
    assert_false(result_exit(NULL, 256, &exit, &words));
    assert_false(result_exit(&result, 256, &exit, &words));
    result.exception = "first\nthe \x1breason";
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        result.status = ends[i].status;
        assert_true(result_exit(&result, 256, &exit, &words));
        assert_int_equal(exit.how, ends[i].how);
        assert_int_equal(exit.limit, exit.how == EXIT_OUT_OF_MEMORY ? 256 << 20 : 0);
        assert_non_null(strstr(words, ends[i].word));
        assert_non_null(strstr(words, "reason"));
        assert_null(strchr(words, '\x1b'));
        assert_ptr_equal(exit.message, words);
        assert_false(exit.kept);
        free(words);
    }
}

/* ---- whose it is ---- */

struct tags {
    Modal__Client__SandboxTag tags[OWNER_TAGS_MAX];
    Modal__Client__SandboxTag *list[OWNER_TAGS_MAX];
};

static void fill_tags(struct tags *t, const struct owner_tags *mine)
{
    for (size_t i = 0; mine->list[2 * i]; i++) {
        modal__client__sandbox_tag__init(&t->tags[i]);
        t->tags[i].tag_name = (char *)mine->list[2 * i];
        t->tags[i].tag_value = (char *)mine->list[2 * i + 1];
        t->list[i] = &t->tags[i];
    }
}

static void test_whose_a_sandbox_is(void **state)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    struct owner_tags mine;
    struct tags t;

    (void)state;
    owner_tags(&mine, "a b/1");
    fill_tags(&t, &mine);
    assert_null(mine.list[(size_t)2 * OWNER_TAGS]);
    for (unsigned i = 0; i < OWNER_TAGS; i++) {
        assert_true(strlen(t.list[i]->tag_value) > 0 && strlen(t.list[i]->tag_value) < 64);
        assert_int_equal(strspn(t.list[i]->tag_value, good), strlen(t.list[i]->tag_value));
    }
    assert_string_equal(owner_tag(t.list, OWNER_TAGS, OWNER_TAG_SANDBOX), "a-b-1");
    assert_string_equal(owner_tag(t.list, OWNER_TAGS, "no-such"), "");
    assert_false(owner_is_dead(t.list, OWNER_TAGS)); /* that is us */
    assert_false(owner_is_dead(t.list, 0));
    t.tags[OWNER_PROCESS].tag_value = "1.1"; /* another start than that process had */
    assert_true(owner_is_dead(t.list, OWNER_TAGS));
    t.tags[OWNER_PIDS].tag_value = "pid-elsewhere";
    assert_false(owner_is_dead(t.list, OWNER_TAGS));
    t.tags[OWNER_BOOT].tag_value = "another-boot";
    assert_true(owner_is_dead(t.list, OWNER_TAGS));
    t.tags[OWNER_PROCESS].tag_value = "1x";
    assert_false(owner_is_dead(t.list, OWNER_TAGS));
    t.tags[OWNER_PROCESS].tag_value = "1.1";
    t.tags[OWNER_HOST].tag_value = "another-host";
    assert_false(owner_is_dead(t.list, OWNER_TAGS));
}

static void test_one_that_is_kept(void **state)
{
    struct owner_tags mine;
    struct tags t;

    (void)state;
    owner_tags(&mine, "a");
    fill_tags(&t, &mine);
    assert_false(owner_is_kept(t.list, OWNER_TAGS));
    owner_keep(&mine, "word", 100);
    fill_tags(&t, &mine);
    assert_null(mine.list[(size_t)2 * OWNER_TAGS_MAX]);
    assert_string_equal(owner_tag(t.list, OWNER_TAGS_MAX, OWNER_TAG_KEPT), "word");
    assert_true(owner_is_kept(t.list, OWNER_TAGS_MAX));
    assert_false(owner_is_kept(t.list, OWNER_UNTIL)); /* for how long, it does not say */
    owner_keep(&mine, "word", -1);
    fill_tags(&t, &mine);
    assert_false(owner_is_kept(t.list, OWNER_TAGS_MAX)); /* its time is over */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_code_and_what_it_said),
        cmocka_unit_test(test_a_signal_after_waits_that_came_to_nothing),
        cmocka_unit_test(test_a_start_that_is_refused),
        cmocka_unit_test(test_a_start_is_tried_again_with_its_id),
        cmocka_unit_test(test_one_that_is_there_already_is_the_same),
        cmocka_unit_test(test_closed_while_it_goes_on),
        cmocka_unit_test(test_left_its_stdin_is_ended),
        cmocka_unit_test(test_closed_before_it_has_started),
        cmocka_unit_test(test_output_goes_on_where_it_was_cut),
        cmocka_unit_test(test_output_that_is_lost),
        cmocka_unit_test(test_input_is_gathered_and_sent_again_by_offset),
        cmocka_unit_test(test_input_that_is_not_taken),
        cmocka_unit_test(test_a_token_is_renewed_once_for_all),
        cmocka_unit_test(test_a_token_that_stays_bad),
        cmocka_unit_test(test_no_other_token_is_to_be_had),
        cmocka_unit_test(test_an_address_without_tls),
        cmocka_unit_test(test_what_is_tried_again),
        cmocka_unit_test(test_the_service_s_word),
        cmocka_unit_test(test_whose_a_sandbox_is),
        cmocka_unit_test(test_one_that_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
