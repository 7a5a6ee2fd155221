#include <stdlib.h>
#include <string.h>

#include "backends/modal/image_recipe.h"
#include "backends/modal/internal.h"

/* A sandbox that is made: where it runs, what runs in it, and the service's word on its end. */

/* ---- the service's word ---- */

static void watch_again(uv_timer_t *timer)
{
    sandbox_watch(timer->data);
}

static void on_waited(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                      const struct error *err)
{
    const Modal__Client__SandboxWaitResponse *a = (const void *)answer;
    struct sandbox *s = data;
    struct machine_exit exit;
    char *words = NULL;
    bool early = uv_now(s->place->base.loop) - s->waited_at < WAIT_AGAIN_MS;

    s->wait = NULL;
    if (s->base.state == CRATE_CLOSING || s->nap >= NAP_TAKING) {
        sandbox_settle(s);
    } else if (!err && result_exit(a->result, place_memory(s->place), &exit, &words)) {
        sandbox_over(s, &exit, words);
    } else if (status == GRPC_NOT_FOUND) {
        exit = (struct machine_exit){.how = EXIT_LOST,
                                     .kind = ERROR_LOST,
                                     .message = "the service does not know the sandbox any more"};
        sandbox_over(s, &exit, NULL);
    } else if (err || early) {
        uv_timer_start(&s->again, watch_again, WAIT_AGAIN_MS, 0);
    } else {
        sandbox_watch(s);
    }
}

void sandbox_watch(struct sandbox *s)
{
    Modal__Client__SandboxWaitRequest request = MODAL__CLIENT__SANDBOX_WAIT_REQUEST__INIT;
    char name[64];
    const struct modal_rpc_call call = {
        .name = sandbox_rpc_name(s, "SandboxWait", name),
        .request = &request.base,
        .answer = &modal__client__sandbox_wait_response__descriptor,
        .timeout_ms = WAIT_HOLD_MS + WAIT_SPARE_MS,
        .sandbox_token = s->token,
        .done = on_waited,
        .data = s,
    };

    if (s->wait || s->base.state >= CRATE_CLOSING || s->nap >= NAP_TAKING) {
        return;
    }
    request.sandbox_id = s->id;
    request.timeout = (float)WAIT_HOLD_MS / 1000;
    s->waited_at = uv_now(s->place->base.loop);
    s->wait = modal_rpc_start(s->place->client, &call, NULL);
    if (!s->wait) {
        uv_timer_start(&s->again, watch_again, WAIT_AGAIN_MS, 0);
    }
}

/* ---- what runs in it ---- */

static void on_exec_started(void *data)
{
    struct sandbox *s = data;

    if (s->base.state != CRATE_STARTING) {
        return;
    }
    sandbox_phase(s, CRATE_GREETING, "waiting for Python in the sandbox");
    (void)sandbox_occupy(s);
}

static void on_exec_output(void *data, const char *bytes, size_t size)
{
    struct sandbox *s = data;

    if (s->base.occupant && (s->base.state == CRATE_GREETING || s->base.state == CRATE_UP)) {
        s->base.occupant->ops->feed(s->base.occupant, bytes, size);
    }
}

static void on_exec_end(void *data, const struct modal_exec_end *end)
{
    sandbox_exec_ended(data, end);
}

static int open_router(struct sandbox *s, struct error *err)
{
    const struct modal_router_options router = {
        .client = s->place->client,
        .sandbox_id = s->v1 ? NULL : s->id,
        .sandbox_token = s->token,
        .task_id = s->task_id,
        .url = s->router_url,
        .jwt = s->router_jwt,
    };

    s->router = modal_router_new(s->place->base.loop, &router, err);
    return s->router ? 0 : -1;
}

static int start_exec(struct sandbox *s, const char *const *argv, struct error *err)
{
    static const struct modal_exec_events events = {on_exec_started, on_exec_output, on_exec_end};
    const struct modal_exec_options options = {.task_id = s->task_id, .argv = argv};

    s->exec = modal_exec_new(s->place->base.loop, s->router, &options, &events, s, err);
    return s->exec ? 0 : -1;
}

void sandbox_start_program(struct sandbox *s)
{
    const char *python = modal_recipe_python(s->place->base.env);
    const char *const *argv;
    const char *words[6];
    struct error err = {0};
    char *space = NULL;

    if (s->place->memory && !s->base.where) {
        argv = memory_carrier(s, words);
    } else {
        argv = s->place->jupyter ? sandbox_gateway_command(s, &space)
                                 : supervised_command(python, false, &space);
    }
    if (!argv || start_exec(s, argv, &err) < 0) {
        sandbox_fail(s, err.kind ? err.kind : ERROR_INTERNAL, "%s",
                     err.message ? err.message : "out of memory");
    }
    free(space);
    error_clear(&err);
}

void sandbox_start_exec(struct sandbox *s)
{
    struct error err = {0};

    if (sandbox_wants_tunnel(s)) {
        sandbox_phase(s, CRATE_PLACING, "waiting for a tunnel to the sandbox");
        sandbox_ask_tunnel(s);
        return;
    }
    sandbox_ask_ports(s);
    sandbox_phase(s, CRATE_STARTING,
                  s->place->jupyter ? "starting a Kernel Gateway in the sandbox"
                                    : "starting Python in the sandbox");
    if (open_router(s, &err) < 0) {
        sandbox_fail(s, err.kind, "%s", err.message);
    } else if (s->base.where) {
        kept_end_last(s, sandbox_start_program);
    } else if (modal_spec_probe_seconds(s->place->base.env) > 0) {
        sandbox_wait_ready(s);
    } else {
        sandbox_start_program(s);
    }
    error_clear(&err);
}

/* ---- where it runs ---- */

static void ask_task(struct sandbox *s);

static void on_place_again(struct sandbox *s)
{
    ask_task(s);
}

static bool took_too_long(const struct sandbox *s)
{
    return uv_now(s->place->base.loop) - s->placing_since > PLACE_MS;
}

static void take_task(struct sandbox *s, const Modal__Client__SandboxGetTaskIdResponse *a)
{
    struct machine_exit exit;
    char *words = NULL;

    if (sandbox_is_id(a->task_id)) {
        memcpy(s->task_id, a->task_id, strlen(a->task_id) + 1);
        sandbox_start_exec(s);
    } else if (result_exit(a->task_result, place_memory(s->place), &exit, &words)) {
        sandbox_over(s, &exit, words);
    } else if (took_too_long(s)) {
        sandbox_fail(s, ERROR_LIMIT,
                     "Modal had no room for a sandbox of this size within %d minutes; ask for less "
                     "(cpu, memory_mib, gpu, region), or later",
                     PLACE_MS / 60000);
    } else {
        sandbox_arm(s, PLACE_AGAIN_MS, on_place_again);
    }
}

static void on_task(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                    const struct error *err)
{
    struct sandbox *s = data;

    (void)status;
    s->rpc = NULL;
    if (s->base.state == CRATE_CLOSING) {
        sandbox_answered(s);
    } else if (err) {
        sandbox_fail(s, err->kind, "Modal did not say where it runs the sandbox: %s", err->message);
    } else {
        take_task(s, (const void *)answer);
    }
}

static void ask_task(struct sandbox *s)
{
    Modal__Client__SandboxGetTaskIdRequest request =
        MODAL__CLIENT__SANDBOX_GET_TASK_ID_REQUEST__INIT;
    struct error err = {0};
    char name[64];
    const struct modal_rpc_call call = {
        .name = sandbox_rpc_name(s, "SandboxGetTaskId", name),
        .request = &request.base,
        .answer = &modal__client__sandbox_get_task_id_response__descriptor,
        .sandbox_token = s->token,
        .done = on_task,
        .data = s,
    };

    request.sandbox_id = s->id;
    s->rpc = modal_rpc_start(s->place->client, &call, &err);
    if (!s->rpc) {
        sandbox_fail(s, err.kind, "%s", err.message);
    }
    error_clear(&err);
}

void sandbox_place_it(struct sandbox *s)
{
    s->placing_since = uv_now(s->place->base.loop);
    sandbox_phase(s, CRATE_PLACING, "waiting for Modal to find a machine for the sandbox");
    ask_task(s);
}
