#include <stdlib.h>
#include <string.h>

#include "backends/base/log.h"
#include "backends/base/strings.h"
#include "mcp/session_private.h"

/* Where the ports of a session's sandbox are reached: in its facts, and once in a note. */

static json_t *ports_of(const struct session *s, const char **ret_note)
{
    *ret_note = NULL;
    return s->executor ? executor_ports(s->executor, ret_note) : NULL;
}

void session_add_ports(const struct session *s, json_t *facts)
{
    const char *note;
    json_t *ports = ports_of(s, &note);

    if (!ports) {
        return;
    }
    json_object_set_new(facts, "ports", json_object_size(ports) > 0 ? ports : json_null());
    if (json_object_size(ports) == 0) {
        json_decref(ports);
    }
    if (note) {
        json_object_set_new(facts, "ports_note", json_string(note));
    }
}

/* "8080 at https://…, 22 at tcp://…"; to be freed. */
static char *list_text(json_t *ports)
{
    char *text = strdup("");
    const char *port;
    json_t *address;

    json_object_foreach(ports, port, address)
    {
        char *more = text ? string_format("%s%s%s at %s", text, text[0] ? ", " : "", port,
                                          json_string_value(address))
                          : NULL;

        free(text);
        text = more;
    }
    return text;
}

static char *sentence(json_t *ports, const char *note)
{
    char *list = list_text(ports), *text = NULL;
    bool any = json_object_size(ports) > 0;

    if (list) {
        text = string_format(
            "%s%s%s%s%s%s", any ? "The sandbox's ports are reached from outside: " : "", list,
            any ? "." : "", any && note ? " " : "", note ? note : "", note ? "." : "");
    }
    free(list);
    return text;
}

char *session_take_ports(struct session *s)
{
    const char *note;
    json_t *ports = ports_of(s, &note);
    char *text;

    if (!json_is_object(ports) || json_equal(ports, s->ports_told)) {
        json_decref(ports);
        return NULL;
    }
    if (note) {
        log_write(s->owner->log, LOG_LEVEL_WARNING, "session %s: %s", s->id, note);
    }
    json_decref(s->ports_told);
    s->ports_told = ports;
    text = sentence(ports, note);
    if (text && !text[0]) {
        free(text);
        text = NULL;
    }
    return text;
}
