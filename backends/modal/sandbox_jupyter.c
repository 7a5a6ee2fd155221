#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/kernels/jupyter/gateway.h"
#include "backends/modal/image_recipe.h"
#include "backends/modal/internal.h"
#include "backends/modal/ports.h"

/* The sandbox's first, the keeper, the gateway, the resource tracker of a kernel. */
enum { GATEWAY_OWN_PROCESSES = 6 };

/* ---- what is started ---- */

/* The folder that it works in has to be there. */
static const char in_workspace[] = "mkdir -p /workspace && cd /workspace && exec \"$@\"";

const char **sandbox_gateway_command(const struct sandbox *s, char **ret_space)
{
    static const char *const shell[] = {"sh", "-c", in_workspace, "sh"};
    enum { WORDS = sizeof(shell) / sizeof(*shell) };
    const char **argv = calloc(WORDS + 6, sizeof(*argv));

    if (!argv) {
        return NULL;
    }
    memcpy(argv, shell, sizeof(shell));
    gateway_command(modal_recipe_python(s->place->base.env), argv + WORDS);
    *ret_space = (char *)argv;
    return argv;
}

/* ---- the way to it ---- */

bool sandbox_wants_tunnel(const struct sandbox *s)
{
    return s->place->jupyter && s->place->base.env->network != NETWORK_NONE && !s->tunnel;
}

void sandbox_take_tunnels(struct sandbox *s, Modal__Client__TunnelData *const *tunnels,
                          size_t count)
{
    sandbox_take_ports(s, tunnels, count);
    for (size_t i = 0; i < count && sandbox_wants_tunnel(s); i++) {
        const Modal__Client__TunnelData *one = tunnels[i];

        if (one->container_port == MODAL_GATEWAY_PORT && modal_is_host(one->host) &&
            one->port > 0 && one->port <= UINT16_MAX) {
            s->tunnel = string_format("https://%s:%u", one->host, one->port);
        }
    }
}

static void on_tunnels(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                       const struct error *err)
{
    const Modal__Client__SandboxGetTunnelsResponse *a = (const void *)answer;
    struct sandbox *s = data;

    (void)status;
    s->rpc = NULL;
    if (s->base.state == CRATE_CLOSING) {
        sandbox_answered(s);
        return;
    }
    if (!err) {
        sandbox_take_tunnels(s, a->tunnels, a->n_tunnels);
    }
    if (err || !s->tunnel) {
        sandbox_fail(s, err ? err->kind : ERROR_LOST,
                     "Modal gave no tunnel to port %d of the sandbox, where the Kernel Gateway "
                     "listens: %s",
                     MODAL_GATEWAY_PORT, err ? err->message : "it is not among its tunnels");
        return;
    }
    sandbox_start_exec(s);
}

void sandbox_ask_tunnel(struct sandbox *s)
{
    struct error err = {0};

    s->rpc = sandbox_get_tunnels(s, on_tunnels, &err);
    if (!s->rpc) {
        sandbox_fail(s, err.kind, "%s", err.message);
    }
    error_clear(&err);
}

/* ---- who lives in it ---- */

struct occupant *sandbox_gateway(struct sandbox *s, const struct occupant_events *events,
                                 struct error *err)
{
    struct modal_place *place = s->place;
    const char *ca_file = getenv("SSL_CERT_FILE");
    struct gateway_options options = {
        .env = place->base.env->env,
        .memory_mib = place_memory(place),
        .disk_mib = place->base.env->disk_mib,
        .processes = place->base.env->processes + GATEWAY_OWN_PROCESSES,
        .python = modal_recipe_python(place->base.env),
        .keep_seconds = place->base.env->max_lifetime_seconds,
        .where_it_is = "sandbox",
        .url = s->tunnel,
        .ca_file = ca_file && *ca_file ? ca_file : NULL,
    };

    if (!place->websockets) {
        place->websockets = websocket_context_new(place->base.loop, err);
    }
    options.websockets = place->websockets;
    return place->websockets
               ? crate_gateway(&s->base, modal_exec_stream(s->exec), options, events, err)
               : NULL;
}

/* ---- its end ---- */

bool sandbox_gateway_exit(struct sandbox *s, const struct modal_exec_end *end,
                          struct machine_exit *ret)
{
    const struct environment *env = s->place->base.env;
    uint64_t disk = env->disk_mib * 1024 * 1024;

    if (end->how != MODAL_EXEC_CODE) {
        return false;
    }
    if (end->code == GATEWAY_DISK_STATUS) {
        *ret = (struct machine_exit){.how = EXIT_DISK, .used = disk, .limit = disk};
        return true;
    }
    if (end->code == GATEWAY_PROCESSES_STATUS) {
        s->result_words = string_format(
            "it had more processes than the %u that it may have and was ended", env->processes);
        *ret = (struct machine_exit){
            .how = EXIT_SIGNAL, .signal = SIGKILL, .message = s->result_words};
        return true;
    }
    return false;
}
