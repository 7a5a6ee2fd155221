#ifndef CELLBLOCK_MODAL_PORTS_H
#define CELLBLOCK_MODAL_PORTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "api.pb-c.h"
#include "backends/environment.h"

/*
 * Where the ports of a sandbox are reached: what the service says of its tunnels, checked. It names
 * hosts and ports outside, which people and programs will go to, so what has not the shape of an
 * address is left out, and so is what was not asked for. Nothing in the sandbox has a say in it.
 */
enum {
    MODAL_TUNNELS_CAP = 256, /* an environment has 96 ports at most; a longer list is not read */
    MODAL_HOST_CAP = 253,    /* characters of a host's name */
};

/* A host's name or IPv4 address, as it stands in a URL: letters, digits, hyphens and dots. */
bool modal_is_host(const char *text);

/* Is this port in an array of integers? */
bool modal_holds_port(const json_t *numbers, json_int_t wanted);

/* Has the environment ports for its user? With kernel jupyter the gateway's own is not one. */
bool modal_has_ports(const struct environment *env);

/*
 * {"8080": "https://HOST[:PORT]", "22": "tcp://HOST:PORT"} of those of its ports that the tunnels
 * lead to, a new object; "tcp" of those without TLS. The first tunnel to a port counts.
 * *ret_note (to be freed) is NULL when each port has its address and nothing was left out, else a
 * sentence for people that says what is wrong. NULL when out of memory.
 */
json_t *modal_ports_of(const struct environment *env, Modal__Client__TunnelData *const *tunnels,
                       size_t count, char **ret_note);

#endif
