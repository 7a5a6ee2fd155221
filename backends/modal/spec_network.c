#include <stdio.h>
#include <string.h>

#include "backends/modal/spec_make.h"

/* ---- the way out ---- */

enum { RANGE_SIZE = 64 };

/* One address is a range, too. */
static const char *as_range(const char *host, char range[RANGE_SIZE])
{
    (void)snprintf(range, RANGE_SIZE, "%s%s", host,
                   strchr(host, '/')   ? ""
                   : strchr(host, ':') ? "/128"
                                       : "/32");
    return range;
}

static Modal__Client__NetworkAccess *network_of(struct maker *m, const struct environment *env)
{
    Modal__Client__NetworkAccess *access = make(m, sizeof(*access));
    size_t index;
    json_t *value;

    if (!access) {
        return NULL;
    }
    modal__client__network_access__init(access);
    access->network_access_type =
        env->network == NETWORK_ALL ? MODAL__CLIENT__NETWORK_ACCESS__NETWORK_ACCESS_TYPE__OPEN
        : env->network == NETWORK_HOSTS
            ? MODAL__CLIENT__NETWORK_ACCESS__NETWORK_ACCESS_TYPE__ALLOWLIST
            : MODAL__CLIENT__NETWORK_ACCESS__NETWORK_ACCESS_TYPE__BLOCKED;
    json_array_foreach(env->network_hosts, index, value)
    {
        const char *host = json_string_value(value);
        char range[RANGE_SIZE];

        if (host_is_range(host)) {
            add_text(m, &access->allowed_cidrs, &access->n_allowed_cidrs, as_range(host, range));
        } else {
            add_text(m, &access->allowed_domains, &access->n_allowed_domains, host);
        }
    }
    return access;
}

/* ---- the ways in ---- */

enum port_kind { PORT_ENCRYPTED, PORT_UNENCRYPTED, PORT_H2 };

static void add_port(struct maker *m, Modal__Client__PortSpecs *ports, uint32_t number,
                     enum port_kind kind)
{
    Modal__Client__PortSpec *port;

    for (size_t i = 0; i < ports->n_ports; i++) {
        if (ports->ports[i]->port == number) {
            return;
        }
    }
    port = make(m, sizeof(*port));
    if (port) {
        modal__client__port_spec__init(port);
        port->port = number;
        port->unencrypted = kind == PORT_UNENCRYPTED;
        port->tunnel_type = kind == PORT_H2 ? MODAL__CLIENT__TUNNEL_TYPE__TUNNEL_TYPE_H2
                                            : MODAL__CLIENT__TUNNEL_TYPE__TUNNEL_TYPE_UNSPECIFIED;
        add_message(m, (void *)&ports->ports, &ports->n_ports, port);
    }
}

static void add_ports(struct maker *m, Modal__Client__PortSpecs *ports, const json_t *numbers,
                      enum port_kind kind)
{
    size_t index;
    json_t *port;

    json_array_foreach(numbers, index, port)
    {
        add_port(m, ports, (uint32_t)json_integer_value(port), kind);
    }
}

static void set_ports(struct maker *m, Modal__Client__Sandbox *sandbox,
                      const struct modal_spec *spec)
{
    Modal__Client__PortSpecs *ports = make(m, sizeof(*ports));

    if (!ports) {
        return;
    }
    modal__client__port_specs__init(ports);
    sandbox->open_ports_oneof_case = MODAL__CLIENT__SANDBOX__OPEN_PORTS_ONEOF_OPEN_PORTS;
    sandbox->open_ports = ports;
    if (spec->jupyter) {
        add_port(m, ports, MODAL_GATEWAY_PORT, PORT_ENCRYPTED);
    }
    add_ports(m, ports, spec->env->ports, PORT_ENCRYPTED);
    add_ports(m, ports, spec->env->unencrypted_ports, PORT_UNENCRYPTED);
    add_ports(m, ports, spec->env->h2_ports, PORT_H2);
}

static void set_inbound(struct maker *m, Modal__Client__Sandbox *sandbox,
                        const struct environment *env)
{
    char range[RANGE_SIZE];
    size_t index;
    json_t *value;

    json_array_foreach(env->inbound_cidr_allowlist, index, value)
    {
        add_text(m, &sandbox->inbound_cidr_allowlist, &sandbox->n_inbound_cidr_allowlist,
                 as_range(json_string_value(value), range));
    }
}

void spec_add_network(struct maker *m, Modal__Client__Sandbox *sandbox,
                      const struct modal_spec *spec)
{
    const struct environment *env = spec->env;

    sandbox->network_access = network_of(m, env);
    set_ports(m, sandbox, spec);
    set_inbound(m, sandbox, env);
    set_text(m, &sandbox->proxy_id, spec->ids->proxy_id);
    set_text(m, &sandbox->custom_domain, env->custom_domain);
}

/* ---- when it is ready ---- */

static Modal__Client__Probe__ExecCommand *command_of(struct maker *m, const json_t *words)
{
    Modal__Client__Probe__ExecCommand *command = make(m, sizeof(*command));
    size_t index;
    json_t *word;

    if (!command) {
        return NULL;
    }
    modal__client__probe__exec_command__init(command);
    json_array_foreach(words, index, word)
    {
        add_text(m, &command->argv, &command->n_argv, json_string_value(word));
    }
    return command;
}

static Modal__Client__Probe *probe_of(struct maker *m, const json_t *probe)
{
    const json_t *interval = json_object_get(probe, "interval_ms");
    const json_t *words = json_object_get(probe, "command");
    Modal__Client__Probe *made = make(m, sizeof(*made));

    if (!made) {
        return NULL;
    }
    modal__client__probe__init(made);
    made->interval_ms = interval ? (uint32_t)json_integer_value(interval) : MODAL_PROBE_INTERVAL_MS;
    if (!words) {
        made->probe_oneof_case = MODAL__CLIENT__PROBE__PROBE_ONEOF_TCP_PORT;
        made->tcp_port = (uint32_t)json_integer_value(json_object_get(probe, "port"));
        return made;
    }
    made->exec_command = command_of(m, words);
    made->probe_oneof_case = made->exec_command ? MODAL__CLIENT__PROBE__PROBE_ONEOF_EXEC_COMMAND
                                                : MODAL__CLIENT__PROBE__PROBE_ONEOF__NOT_SET;
    return made;
}

void spec_add_probe(struct maker *m, Modal__Client__Sandbox *sandbox, const struct environment *env)
{
    if (json_object_size(env->readiness_probe) > 0) {
        sandbox->readiness_probe = probe_of(m, env->readiness_probe);
    }
}
