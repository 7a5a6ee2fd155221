#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/internal.h"

/* A sandbox's end: who is told, and that nothing of it is left at the service. */

/* ---- telling ---- */

void sandbox_gone(struct sandbox *s, const struct machine_exit *exit)
{
    const struct sandbox_events *events = s->events;
    void *owner = s->owner;

    s->state = SANDBOX_ENDED;
    s->events = NULL;
    if (s->occupant) {
        s->occupant->ops->ended(s->occupant, exit->message);
    }
    if (events) {
        events->on_gone(owner, exit);
    }
    sandbox_close(s);
}

void sandbox_fail(struct sandbox *s, enum error_kind kind, const char *format, ...)
{
    struct machine_exit exit = {.how = EXIT_LOST, .kind = kind};
    char *message = NULL;
    va_list args;

    if (s->state >= SANDBOX_ENDED) {
        return;
    }
    va_start(args, format);
    if (vasprintf(&message, format, args) < 0) {
        message = NULL;
    }
    va_end(args);
    exit.message = message;
    sandbox_gone(s, &exit);
    free(message);
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
    free_secret(s->tag);
    json_decref(s->where);
    free_secret(s->router_jwt);
    free(s->router_url);
    free(s->tunnel);
    free(s->result_words);
    free(s->reason);
    json_decref(s->held_changed);
    place_sandbox_freed(s->place, s);
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
    return s->getting || s->wait || s->occupant || s->exec || s->router;
}

/* Goes on with the closing, whatever has ended just now. */
void sandbox_settle(struct sandbox *s)
{
    if (s->rpc || uv_is_active((uv_handle_t *)&s->timer)) {
        return;
    }
    if (s->id[0] && !s->over && !s->terminated && !s->left) {
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
    if (s->exec && s->left) {
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

    s->occupant = NULL;
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
    if (s->rpc && creating) {
        sandbox_arm(s, LET_CREATE_MS, on_create_limit); /* its answer is the best that there is */
    } else if (s->rpc) {
        modal_rpc_cancel(s->rpc);
    }
}

void sandbox_close(struct sandbox *s)
{
    bool creating = s->state == SANDBOX_CREATING;

    if (s->state == SANDBOX_CLOSING) {
        return;
    }
    s->state = SANDBOX_CLOSING;
    s->events = NULL;
    s->request = (struct start_request){0};
    sandbox_lose_snapshots(s);
    stop_start(s, creating);
    if (s->occupant) {
        s->occupant->ops->close(s->occupant, on_occupant_closed, s);
    } else {
        close_exec(s);
    }
    sandbox_settle(s);
}
