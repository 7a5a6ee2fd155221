#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/docker/internal.h"

/*
 * The engine's events about our containers: one stream for the whole place, opened with the first
 * container and again with the next one when it ended (an engine that was restarted). Without it
 * all goes on, only that the reason of an end is told less well.
 */

static struct container *find(struct docker_place *place, const char *id)
{
    for (struct crate *crate = place->crates.first; crate && id; crate = crate->next) {
        struct container *c = (struct container *)crate;
        if (c->id[0] && strcmp(c->id, id) == 0) {
            return c;
        }
    }
    return NULL;
}

/* "exitCode" (Docker), "containerExitCode" (Podman). */
static int exit_code(json_t *attributes)
{
    const char *text = json_string_value(json_object_get(attributes, "exitCode"));

    if (!text) {
        text = json_string_value(json_object_get(attributes, "containerExitCode"));
    }
    return text ? (int)strtol(text, NULL, 10) : 0;
}

static void on_value(void *data, json_t *value)
{
    struct docker_place *place = data;
    const char *action = json_string_value(json_object_get(value, "Action"));
    json_t *actor = json_object_get(value, "Actor");
    struct container *c = find(place, json_string_value(json_object_get(actor, "ID")));

    if (!c || !action || c->base.state == CRATE_CLOSING) {
        return;
    }
    if (strcmp(action, "oom") == 0) {
        container_engine_word(c, "oom", 0);
    } else if (strcmp(action, "die") == 0 || strcmp(action, "died") == 0) {
        container_engine_word(c, "die", exit_code(json_object_get(actor, "Attributes")));
    }
}

static void on_end(void *data, long status, const struct error *err)
{
    struct docker_place *place = data;

    (void)status;
    (void)err;
    place->events = NULL;
}

void events_watch(struct docker_place *place)
{
    static const struct engine_lines_events events = {on_value, on_end};
    /* A container that was found again has the label of the server that made it. */
    char *filters =
        place->base.env->keep
            ? strdup("{\"type\":[\"container\"],\"label\":[\"cellblock.server\"]}")
            : string_format("{\"type\":[\"container\"],\"label\":[\"cellblock.server=%s\"]}",
                            place->server);
    char *escaped = filters ? http_escape(filters) : NULL;

    if (!place->events && !place->crates.closing && escaped) {
        place->events =
            engine_lines_open(place->engine, "GET", string_format("/events?filters=%s", escaped),
                              NULL, &events, place, NULL);
    }
    free(filters);
    free(escaped);
}
