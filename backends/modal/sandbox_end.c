#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/internal.h"

/* A sandbox's end: who is told, and that nothing of it is left at the service. */

/* ---- telling ---- */

void sandbox_fail(struct sandbox *s, enum error_kind kind, const char *format, ...)
{
    va_list args;

    if (s->base.left && kind == ERROR_NOT_FOUND) {
        kind = ERROR_LOST; /* what leads to it was not found; it may be there */
    }
    va_start(args, format);
    crate_vfail(&s->base, kind, format, args);
    va_end(args);
}

/* ---- letting go ---- */

static void free_secret(char *text)
{
    if (text) {
        explicit_bzero(text, strlen(text));
    }
    free(text);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct sandbox *s = handle->data;

    if (--s->open_timers > 0) {
        return;
    }
    modal_bringing_free(s->bringing);
    free_secret(s->token);
    free_secret(s->router_jwt);
    free(s->router_url);
    free(s->tunnel);
    json_decref(s->ports);
    free(s->ports_note);
    free(s->result_words);
    free(s->restore);
    crate_deinit(&s->base);
    free(s);
}

static void close_timers(struct sandbox *s)
{
    if (s->timers_closing) {
        return;
    }
    s->timers_closing = true;
    uv_close((uv_handle_t *)&s->timer, on_timer_closed);
    uv_close((uv_handle_t *)&s->tick, on_timer_closed);
    uv_close((uv_handle_t *)&s->again, on_timer_closed);
}

static void give_up(struct sandbox *s, const struct error *err)
{
    free(s->place->left);
    s->place->left =
        string_format("%s (%s)", s->name, err && err->message ? err->message : "it stays");
    s->terminated = true;
}

/* ---- terminating ---- */

static void on_terminated(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                          const struct error *err)
{
    struct sandbox *s = data;

    (void)answer;
    s->rpc = NULL;
    if (err && status != GRPC_NOT_FOUND) {
        give_up(s, err);
    }
    s->terminated = true;
    sandbox_settle(s);
}

static void terminate(struct sandbox *s)
{
    Modal__Client__SandboxTerminateRequest request = MODAL__CLIENT__SANDBOX_TERMINATE_REQUEST__INIT;
    struct error err = {0};
    char name[64];
    const struct modal_rpc_call call = {
        .name = sandbox_rpc_name(s, "SandboxTerminate", name),
        .request = &request.base,
        .answer = &modal__client__sandbox_terminate_response__descriptor,
        .timeout_ms = TERMINATE_MS / 2,
        .total_ms = TERMINATE_MS,
        .sandbox_token = s->token,
        .done = on_terminated,
        .data = s,
    };

    request.sandbox_id = s->id;
    s->rpc = modal_rpc_start(s->place->client, &call, &err);
    if (!s->rpc) {
        give_up(s, &err);
    }
    error_clear(&err);
}

/* Whoever says that there is none may say it too early: the create may be on its way still. */
static void on_found(struct sandbox *s, const char *id, const struct error *err)
{
    (void)err;
    if (id) {
        sandbox_made(s, id);
    } else if (s->finds >= FIND_TRIES) {
        s->unsure = false;
        sandbox_settle(s);
    } else {
        sandbox_arm(s, FIND_AGAIN_MS, sandbox_settle);
    }
}

static void find_it(struct sandbox *s)
{
    s->finds++;
    if (sandbox_find(s, on_found) < 0) {
        s->unsure = false;
    }
}

static bool has_parts(const struct sandbox *s)
{
    return s->getting || s->wait || s->asking_ports || s->base.occupant || s->exec || s->router;
}

/* Goes on with the closing, whatever has ended just now. */
void sandbox_settle(struct sandbox *s)
{
    if (s->base.state != CRATE_CLOSING) {
        memory_settle(s);
        return;
    }
    if (s->rpc || uv_is_active((uv_handle_t *)&s->timer)) {
        return;
    }
    if (s->id[0] && !s->over && !s->terminated && !s->base.left) {
        terminate(s);
    } else if (!s->id[0] && s->unsure) {
        find_it(s);
    }
    if (!s->rpc && !has_parts(s)) {
        close_timers(s);
    }
}

void sandbox_answered(struct sandbox *s)
{
    uv_timer_stop(&s->timer);
    sandbox_settle(s);
}

/* ---- closing ---- */

static void on_router_closed(void *data)
{
    struct sandbox *s = data;

    s->router = NULL;
    sandbox_settle(s);
}

static void close_router(struct sandbox *s)
{
    if (s->router) {
        modal_router_close(s->router, on_router_closed, s);
    }
}

static void on_exec_closed(void *data)
{
    struct sandbox *s = data;

    s->exec = NULL;
    close_router(s);
    sandbox_settle(s);
}

static void close_exec(struct sandbox *s)
{
    if (s->exec && s->base.left) {
        modal_exec_leave(s->exec, on_exec_closed, s);
    } else if (s->exec) {
        modal_exec_close(s->exec, on_exec_closed, s);
    } else {
        close_router(s);
    }
}

static void on_occupant_closed(void *data)
{
    struct sandbox *s = data;

    s->base.occupant = NULL;
    close_exec(s);
    sandbox_settle(s);
}

static void on_create_limit(struct sandbox *s)
{
    if (s->rpc) {
        modal_rpc_cancel(s->rpc);
    }
    sandbox_settle(s);
}

static void stop_start(struct sandbox *s, bool creating)
{
    uv_timer_stop(&s->timer);
    uv_timer_stop(&s->tick);
    uv_timer_stop(&s->again);
    if (s->getting) {
        s->getting = false;
        modal_resources_leave(s->place->resources, s);
    }
    modal_bringing_free(s->bringing);
    s->bringing = NULL;
    s->brought = NULL;
    if (s->wait) {
        modal_rpc_cancel(s->wait);
    }
    if (s->asking_ports) {
        modal_rpc_cancel(s->asking_ports);
    }
    if (s->rpc && creating) {
        sandbox_arm(s, LET_CREATE_MS, on_create_limit); /* its answer is the best that there is */
    } else if (s->rpc) {
        modal_rpc_cancel(s->rpc);
    }
}

void sandbox_let_parts_go(struct sandbox *s)
{
    if (s->parting) {
        return;
    }
    s->parting = true;
    if (s->base.occupant) {
        s->base.occupant->ops->close(s->base.occupant, on_occupant_closed, s);
    } else {
        close_exec(s);
    }
}

void sandbox_close(struct crate *crate)
{
    struct sandbox *s = (struct sandbox *)crate;
    bool creating = s->base.state == CRATE_CREATING;

    if (s->base.state == CRATE_CLOSING) {
        return;
    }
    s->base.state = CRATE_CLOSING;
    s->base.events = NULL;
    s->request = (struct start_request){0};
    sandbox_lose_snapshots(s);
    stop_start(s, creating);
    sandbox_let_parts_go(s);
    sandbox_settle(s);
}
