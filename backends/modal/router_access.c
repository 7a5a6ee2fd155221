#include "backends/modal/router_internal.h"

#include <stdlib.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/base/strings.h"

/* Where a router is, and the token that it takes. */

enum { ROUTER_JWT_CAP = 16 * 1024 };

void router_free_secret(char *text)
{
    if (text) {
        explicit_bzero(text, strlen(text));
    }
    free(text);
}
/* A token goes into a header: printable, without spaces. */
static bool is_token(const char *jwt)
{
    size_t n = 0;

    while (jwt[n] > 0x20 && jwt[n] < 0x7f && n < ROUTER_JWT_CAP) {
        n++;
    }
    return n > 0 && jwt[n] == '\0';
}

static int take_token(struct modal_router *r, const char *jwt, struct error *err)
{
    char *bearer;

    if (!is_token(jwt)) {
        return error_set(err, ERROR_LOST, "the service gave no token for the sandbox's router");
    }
    bearer = string_format("authorization: Bearer %s", jwt);
    if (!bearer) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    router_free_secret(r->bearer);
    r->bearer = bearer;
    r->generation++;
    return 0;
}

static int take_address(struct modal_router *r, const char *url, struct error *err)
{
    const struct grpc_channel_options options = {.url = url};

    if (strncmp(url, "https://", 8) != 0 &&
        (strncmp(url, "http://", 7) != 0 || !modal_client_is_local(r->client))) {
        return error_set(err, ERROR_REFUSED,
                         "the service gave an address for the sandbox's router that is not https "
                         "(\"%.60s\"); nothing is sent there",
                         url);
    }
    r->channel = grpc_channel_new(r->loop, &options, err);
    return r->channel ? 0 : error_wrap(err, "the sandbox's router");
}

/* The address of a sandbox's router stays as it was first told, as the official client has it. */
int router_take_access(struct modal_router *r, const char *url, const char *jwt, struct error *err)
{
    if (take_token(r, jwt, err) < 0) {
        return -1;
    }
    return r->channel ? 0 : take_address(r, url, err);
}

/* All who wait for the token: with one they are sent, without one they end. */
static void token_came(struct modal_router *r, enum grpc_status status, const struct error *err)
{
    struct modal_command *next;

    for (struct modal_command *c = r->commands; c; c = next) {
        next = c->next;
        if (!c->wants_token) {
            continue;
        }
        c->wants_token = false;
        if (c->cancelled) {
            router_finish_cancelled(c);
        } else if (err) {
            router_finish(c, status, err);
        } else {
            router_send(c);
        }
    }
}

static void on_access(void *data, const char *url, const char *jwt, enum grpc_status status,
                      const struct error *err)
{
    struct modal_router *r = data;
    struct error own = {0};

    r->renewal = NULL;
    r->holds++; /* it is not freed by the last that ends */
    if (!err && router_take_access(r, url, jwt, &own) < 0) {
        err = &own;
        status = GRPC_UNAVAILABLE;
    }
    token_came(r, status, err);
    error_clear(&own);
    r->holds--;
    router_maybe_free(r);
}

static void on_access_v2(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                         const struct error *err)
{
    const Modal__Client__SandboxGetCommandRouterAccessResponse *a = (const void *)answer;

    on_access(data, a ? a->url : "", a ? a->jwt : "", status, err);
}

static void on_access_v1(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                         const struct error *err)
{
    const Modal__Client__TaskGetCommandRouterAccessResponse *a = (const void *)answer;

    on_access(data, a ? a->url : "", a ? a->jwt : "", status, err);
}

static struct modal_rpc *ask_v2(struct modal_router *r, struct error *err)
{
    Modal__Client__SandboxGetCommandRouterAccessRequest request =
        MODAL__CLIENT__SANDBOX_GET_COMMAND_ROUTER_ACCESS_REQUEST__INIT;
    const struct modal_rpc_call call = {
        .name = "SandboxGetCommandRouterAccess",
        .request = &request.base,
        .answer = &modal__client__sandbox_get_command_router_access_response__descriptor,
        .sandbox_token = r->sandbox_token,
        .done = on_access_v2,
        .data = r,
    };

    request.target_case =
        MODAL__CLIENT__SANDBOX_GET_COMMAND_ROUTER_ACCESS_REQUEST__TARGET_SANDBOX_ID;
    request.sandbox_id = r->sandbox_id;
    return modal_rpc_start(r->client, &call, err);
}

static struct modal_rpc *ask_v1(struct modal_router *r, struct error *err)
{
    Modal__Client__TaskGetCommandRouterAccessRequest request =
        MODAL__CLIENT__TASK_GET_COMMAND_ROUTER_ACCESS_REQUEST__INIT;
    const struct modal_rpc_call call = {
        .name = "TaskGetCommandRouterAccess",
        .request = &request.base,
        .answer = &modal__client__task_get_command_router_access_response__descriptor,
        .done = on_access_v1,
        .data = r,
    };

    request.task_id = r->task_id;
    return modal_rpc_start(r->client, &call, err);
}

/* -1: it cannot even be asked for. */
int router_want_token(struct modal_command *c, struct error *err)
{
    struct modal_router *r = c->router;

    if (!r->renewal) {
        r->renewal = r->sandbox_id ? ask_v2(r, err) : ask_v1(r, err);
    }
    if (!r->renewal) {
        return -1;
    }
    c->wants_token = true;
    return 0;
}
