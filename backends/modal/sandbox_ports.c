#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/internal.h"
#include "backends/modal/ports.h"

/*
 * Where a sandbox's own ports are reached. V2's answer to the create has the tunnels; of V1, of one
 * that was found again, and when some are missing in that answer, the service is asked beside the
 * start of what runs in it. Nothing waits for it: without addresses the session works, as a sandbox
 * of the official client does whose tunnels() fails, and who looks for them is told why.
 */

void sandbox_take_ports(struct sandbox *s, Modal__Client__TunnelData *const *tunnels, size_t count)
{
    if (modal_has_ports(s->place->base.env)) {
        json_decref(s->ports);
        free(s->ports_note);
        s->ports = modal_ports_of(s->place->base.env, tunnels, count, &s->ports_note);
        s->ports_known = s->ports && !s->ports_note;
    }
}

/* What the answer to the create had is kept. */
static void fail(struct sandbox *s, const char *why)
{
    free(s->ports_note);
    s->ports_note = string_format("Modal did not tell where the ports are reached: %s", why);
    s->ports_known = true;
}

static void on_tunnels(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                       const struct error *err)
{
    const Modal__Client__SandboxGetTunnelsResponse *a = (const void *)answer;
    struct sandbox *s = data;

    (void)status;
    s->asking_ports = NULL;
    if (s->base.state == CRATE_CLOSING) {
        sandbox_settle(s);
    } else if (s->nap == NAP_ASLEEP) {
        memory_settle(s); /* what wakes up has other addresses */
    } else if (err) {
        fail(s, err->message);
    } else if (a->result &&
               a->result->status ==
                   MODAL__CLIENT__GENERIC_RESULT__GENERIC_STATUS__GENERIC_STATUS_TIMEOUT) {
        fail(s, "the tunnels were not there in time");
    } else {
        sandbox_take_ports(s, a->tunnels, a->n_tunnels);
        s->ports_known = true; /* or never will be */
    }
}

void sandbox_forget_ports(struct sandbox *s)
{
    json_decref(s->ports);
    free(s->ports_note);
    s->ports = NULL;
    s->ports_note = NULL;
    s->ports_known = false;
}

struct modal_rpc *sandbox_get_tunnels(struct sandbox *s,
                                      void (*done)(void *data, const ProtobufCMessage *answer,
                                                   enum grpc_status status,
                                                   const struct error *err),
                                      struct error *err)
{
    Modal__Client__SandboxGetTunnelsRequest request =
        MODAL__CLIENT__SANDBOX_GET_TUNNELS_REQUEST__INIT;
    char name[64];
    const struct modal_rpc_call call = {
        .name = sandbox_rpc_name(s, "SandboxGetTunnels", name),
        .request = &request.base,
        .answer = &modal__client__sandbox_get_tunnels_response__descriptor,
        .timeout_ms = TUNNEL_MS + WAIT_SPARE_MS,
        .sandbox_token = s->token,
        .done = done,
        .data = s,
    };

    request.sandbox_id = s->id;
    request.timeout = (float)TUNNEL_MS / 1000;
    return modal_rpc_start(s->place->client, &call, err);
}

void sandbox_ask_ports(struct sandbox *s)
{
    struct error err = {0};

    if (s->ports_known || s->asking_ports || !modal_has_ports(s->place->base.env)) {
        return;
    }
    s->asking_ports = sandbox_get_tunnels(s, on_tunnels, &err);
    if (!s->asking_ports) {
        fail(s, err.message ? err.message : "out of memory");
    }
    error_clear(&err);
}

json_t *sandbox_ports(const struct crate *crate, const char **ret_note)
{
    const struct sandbox *s = (const struct sandbox *)crate;

    *ret_note = NULL;
    if (!modal_has_ports(s->place->base.env)) {
        return NULL;
    }
    if (!s->ports_known) {
        return json_null();
    }
    *ret_note = s->ports_note;
    return s->ports ? json_deep_copy(s->ports) : json_object();
}
