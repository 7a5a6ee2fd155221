#include "exec-trial.h"

#include <stdlib.h>
#include <string.h>

#include "backends/modal/internal.h"
#include "router.pb-c.h"

#define TOKEN "h.eyJpYXQiOjEwMDAsImV4cCI6MjIwMH0.s" /* {"iat":1000,"exp":2200} */

typedef Modal__TaskCommandRouter__TaskExecStdioReadRequest read_request;
typedef Modal__TaskCommandRouter__TaskExecStdinWriteRequest write_request;

static void *unpacked(const ProtobufCMessageDescriptor *type, const struct fake_call *call)
{
    void *message = protobuf_c_message_unpack(type, NULL, call->size, call->message);

    assert_non_null(message);
    return message;
}

static void serve_start(struct exec_trial *t, const struct fake_call *call,
                        struct fake_reply *reply)
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

static void serve_read(struct exec_trial *t, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__TaskCommandRouter__TaskExecStdioReadResponse some =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_STDIO_READ_RESPONSE__INIT;
    read_request *r =
        unpacked(&modal__task_command_router__task_exec_stdio_read_request__descriptor, call);
    bool errors = r->file_descriptor != 0;
    uint64_t offset = r->offset;
    const struct exec_piece *piece = t->pieces;

    protobuf_c_message_free_unpacked(&r->base, NULL);
    some.data.data = (uint8_t *)"No module\n";
    some.data.len = errors && offset == 0 ? 10 : 0;
    if (!errors) {
        t->offsets[t->reads++ % EXEC_TRIAL_WRITES] = offset;
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

static void serve_write(struct exec_trial *t, const struct fake_call *call,
                        struct fake_reply *reply)
{
    static Modal__TaskCommandRouter__TaskExecStdinWriteResponse ok =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_STDIN_WRITE_RESPONSE__INIT;
    write_request *r =
        unpacked(&modal__task_command_router__task_exec_stdin_write_request__descriptor, call);
    unsigned i = t->writes++ % EXEC_TRIAL_WRITES;

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

static void serve_wait(struct exec_trial *t, struct fake_reply *reply)
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

static void serve_access(const struct exec_trial *t, struct fake_reply *reply)
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
    struct exec_trial *t = data;
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
    ((struct exec_trial *)data)->started++;
}

static void on_output(void *data, const char *bytes, size_t size)
{
    struct exec_trial *t = data;
    size_t have = strlen(t->out);

    assert_true(have + size < sizeof(t->out));
    memcpy(t->out + have, bytes, size);
}

static void on_end(void *data, const struct modal_exec_end *end)
{
    struct exec_trial *t = data;

    t->ended++;
    t->end = *end;
    t->message = end->message ? strdup(end->message) : NULL;
}

struct modal_router *exec_trial_router(struct exec_trial *t, const char *url, struct error *err)
{
    const struct modal_router_options options = {
        .client = t->client, .sandbox_id = "sb-1", .task_id = "ta-1", .url = url, .jwt = "first"};

    return modal_router_new(&t->loop, &options, err);
}

static const struct exec_piece whole[] = {{"all of it", GRPC_OK}, {NULL, 0}};

void exec_trial_begin(struct exec_trial *t, const char *server)
{
    struct modal_credentials who = {.server_url = (char *)server,
                                    .token_id = "ak-1",
                                    .token_secret = "as-1",
                                    .environment = "",
                                    .profile = "this test"};
    struct error err = {0};

    *t = (struct exec_trial){.pieces = whole};
    assert_int_equal(uv_loop_init(&t->loop), 0);
    fake_grpc_begin(serve, t);
    t->client = modal_client_new(&t->loop, &who, &err);
    assert_non_null(t->client);
    t->router = exec_trial_router(t, "https://worker.example:443", &err);
    assert_non_null(t->router);
}

void exec_trial_start(struct exec_trial *t)
{
    static const struct modal_exec_events events = {on_started, on_output, on_end};
    static const char *const argv[] = {"python3", "-V", NULL};
    const struct modal_exec_options options = {.task_id = "ta-1", .argv = argv};
    struct error err = {0};

    t->exec = modal_exec_new(&t->loop, t->router, &options, &events, t, &err);
    assert_non_null(t->exec);
    assert_int_equal(t->ended + t->started, 0);
}

void exec_trial_run(struct exec_trial *t)
{
    while (t->ended == 0) {
        (void)uv_run(&t->loop, UV_RUN_ONCE);
    }
}

void exec_trial_closed(void *data)
{
    ((struct exec_trial *)data)->closed++;
}

void exec_trial_end(struct exec_trial *t)
{
    if (t->exec) {
        modal_exec_close(t->exec, exec_trial_closed, t);
        while (t->closed == 0) {
            (void)uv_run(&t->loop, UV_RUN_ONCE);
        }
    }
    modal_router_close(t->router, exec_trial_closed, t);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_int_equal(t->closed, t->exec ? 2 : 1);
    modal_client_close(t->client, exec_trial_closed, t);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_int_equal(fake_channels(), 0);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    free(t->message);
    fake_grpc_begin(NULL, NULL);
}

struct fake_reply exec_trial_failing(enum grpc_status status)
{
    return (struct fake_reply){.status = status, .message = "not now"};
}
