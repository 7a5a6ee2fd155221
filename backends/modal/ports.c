#include "backends/modal/ports.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/spec.h"

enum { KEY_SIZE = 12, MISSING_CAP = 800 };

bool modal_is_host(const char *text)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                  ".-";
    size_t size = text ? strnlen(text, MODAL_HOST_CAP + 1) : 0;

    return size > 0 && size <= MODAL_HOST_CAP && strspn(text, allowed) == size &&
           !strchr(".-", text[0]) && !strchr(".-", text[size - 1]) && !strstr(text, "..");
}

/* ---- those that were asked for ---- */

static bool is_own(const struct environment *env, json_int_t port)
{
    return modal_spec_is_jupyter(env) && port == MODAL_GATEWAY_PORT;
}

bool modal_holds_port(const json_t *numbers, json_int_t wanted)
{
    size_t index;
    json_t *number;

    json_array_foreach(numbers, index, number)
    {
        if (json_integer_value(number) == wanted) {
            return true;
        }
    }
    return false;
}

static bool is_wanted(const struct environment *env, json_int_t port)
{
    return !is_own(env, port) &&
           (modal_holds_port(env->ports, port) || modal_holds_port(env->h2_ports, port) ||
            modal_holds_port(env->unencrypted_ports, port));
}

static bool has_any(const struct environment *env, const json_t *numbers)
{
    size_t index;
    json_t *number;

    json_array_foreach(numbers, index, number)
    {
        if (!is_own(env, json_integer_value(number))) {
            return true;
        }
    }
    return false;
}

bool modal_has_ports(const struct environment *env)
{
    return has_any(env, env->ports) || has_any(env, env->h2_ports) ||
           has_any(env, env->unencrypted_ports);
}

/* ---- one tunnel ---- */

static bool is_port(uint32_t port)
{
    return port > 0 && port <= UINT16_MAX;
}

/* Where it is reached, to be freed; NULL: that is no address. */
static char *address_of(const struct environment *env, const Modal__Client__TunnelData *t)
{
    if (modal_holds_port(env->unencrypted_ports, t->container_port)) {
        return modal_is_host(t->unencrypted_host) && is_port(t->unencrypted_port)
                   ? string_format("tcp://%s:%u", t->unencrypted_host, t->unencrypted_port)
                   : NULL;
    }
    if (!modal_is_host(t->host) || !is_port(t->port)) {
        return NULL;
    }
    return t->port == 443 ? string_format("https://%s", t->host)
                          : string_format("https://%s:%u", t->host, t->port);
}

/* False: it is left out. The gateway's own is, without a word. */
static bool take(const struct environment *env, const Modal__Client__TunnelData *t, json_t *ports)
{
    char key[KEY_SIZE], *address;
    bool good;

    if (is_own(env, t->container_port)) {
        return true;
    }
    (void)snprintf(key, sizeof(key), "%u", t->container_port);
    if (!is_wanted(env, t->container_port) || json_object_get(ports, key)) {
        return false;
    }
    address = address_of(env, t);
    good = address && json_object_set_new(ports, key, json_string(address)) == 0;
    free(address);
    return good;
}

/* ---- what is said of them ---- */

/* Adds ", 8080" for each that has no address; there is room for all that there can be. */
static void list_missing(const struct environment *env, const json_t *numbers, const json_t *ports,
                         char text[MISSING_CAP])
{
    size_t index, used = strlen(text);
    json_t *number;

    json_array_foreach(numbers, index, number)
    {
        unsigned port = (unsigned)json_integer_value(number);
        char key[KEY_SIZE];

        (void)snprintf(key, sizeof(key), "%u", port);
        if (!is_own(env, port) && !json_object_get(ports, key) && used + KEY_SIZE < MISSING_CAP) {
            used += (size_t)snprintf(text + used, MISSING_CAP - used, "%s%u", used > 0 ? ", " : "",
                                     port);
        }
    }
}

static char *note_of(const struct environment *env, const json_t *ports, size_t count,
                     size_t left_out)
{
    char missing[MISSING_CAP] = "", out[80] = "";

    list_missing(env, env->ports, ports, missing);
    list_missing(env, env->h2_ports, ports, missing);
    list_missing(env, env->unencrypted_ports, ports, missing);
    if (left_out > 0) {
        (void)snprintf(out, sizeof(out), "%zu of the %zu tunnels that it named were left out",
                       left_out, count);
    }
    if (missing[0]) {
        return string_format("Modal told no usable address of port %s%s%s", missing,
                             out[0] ? "; " : "", out);
    }
    return out[0] ? string_format("Modal's answer on the ports was not all as asked for: %s (no "
                                  "address, no port of this environment, or there twice)",
                                  out)
                  : NULL;
}

json_t *modal_ports_of(const struct environment *env, Modal__Client__TunnelData *const *tunnels,
                       size_t count, char **ret_note)
{
    json_t *ports = json_object();
    size_t left_out = count > MODAL_TUNNELS_CAP ? count : 0;

    *ret_note = NULL;
    for (size_t i = 0; ports && count <= MODAL_TUNNELS_CAP && i < count; i++) {
        left_out += !take(env, tunnels[i], ports);
    }
    if (ports) {
        *ret_note = note_of(env, ports, count, left_out);
    }
    return ports;
}
