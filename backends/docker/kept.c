#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/base/mac.h"
#include "backends/base/strings.h"
#include "backends/docker/internal.h"
#include "backends/docker/recipe.h"

/*
 * Containers that outlive the server which made them: with the jupyter kernel their gateway lives
 * on without a stream, with the runner their supervisor does. What the engine and the container are
 * given is made of the session's tag, which neither of them can lead back to:
 *
 *   label cellblock.tag    proves that the container is the session's
 *   label cellblock.until  when it may be taken for an orphan; the keeper ends it by then
 *   the gateway's token    so that it need not be written down anywhere
 *   the relay's secret     likewise; the supervisor is given what proves it, and not it
 *
 * A container that is found again is inspected first; then a keeper or a relay of our own is
 * started in it, by exec, which only carries bytes, and everything else is as with a new one.
 */
enum {
    EXEC_MS = 30 * 1000,
};

#define TAG_LABEL "cellblock.tag"
#define UNTIL_LABEL "cellblock.until"

json_t *kept_labels(const struct container *c)
{
    json_t *labels = json_copy(c->place->labels);
    char word[MAC_SIZE], until[32];

    if (c->base.tag && labels) {
        kept_word(c->base.tag, "label", word);
        (void)snprintf(until, sizeof(until), "%lld",
                       (long long)time(NULL) + (long long)c->place->base.env->max_lifetime_seconds);
        json_object_set_new(labels, TAG_LABEL, json_string(word));
        json_object_set_new(labels, UNTIL_LABEL, json_string(until));
    }
    return labels;
}

bool kept_is_alive(json_t *labels)
{
    const char *until = json_string_value(json_object_get(labels, UNTIL_LABEL));

    return until && json_object_get(labels, TAG_LABEL) &&
           strtoll(until, NULL, 10) > (long long)time(NULL);
}

int kept_take(struct container *c)
{
    const char *id = json_string_value(json_object_get(c->base.where, "container"));
    const char *name = json_string_value(json_object_get(c->base.where, "name_there"));

    c->request.tag = NULL;
    c->request.where = NULL;
    if (c->base.where && !container_is_id(id)) {
        return -1;
    }
    if (id) {
        (void)snprintf(c->id, sizeof(c->id), "%s", id);
        (void)snprintf(c->name, sizeof(c->name), "%s", name ? name : id);
    }
    return 0;
}

/* ---- finding it again ---- */

static void on_open(void *data)
{
    struct container *c = data;

    if (c->base.state == CRATE_ATTACHING) {
        c->base.state = CRATE_GREETING;
        (void)container_occupy(c);
    }
}

static void on_exec(void *data, long status, json_t *reply, const struct error *err)
{
    static const struct attach_events events = {on_open, container_stream_bytes,
                                                container_stream_end};
    struct container *c = data;
    const char *exec = json_string_value(json_object_get(reply, "Id"));
    struct error failure = {0};

    (void)status;
    if (!container_answered(c)) {
        return;
    }
    if (err || !container_is_id(exec)) {
        container_fail(c, ERROR_LOST, "the engine did not let us into the container %s: %s",
                       c->name, err ? err->message : "its answer has no Id");
        return;
    }
    c->base.state = CRATE_ATTACHING;
    c->attach = attach_open_exec(c->place->engine, exec, &events, c, &failure);
    if (!c->attach) {
        container_fail(c, failure.kind, "the engine did not let us into the container: %s",
                       failure.message);
    }
    error_clear(&failure);
}

/* A keeper, or a relay. */
static json_t *command_of(const struct docker_place *place)
{
    const char *python = place->base.env->python;
    const char *keeper[6];
    const char *const *argv = keeper;
    char *text = NULL;
    json_t *words = json_array();

    if (place->kernel_image) {
        gateway_command(RECIPE_PYTHON, keeper);
    } else {
        argv = supervised_command(python ? python : "python3", false, &text);
    }
    for (; argv && *argv; argv++) {
        json_array_append_new(words, json_string(*argv));
    }
    free(text);
    return words;
}

static void enter(struct container *c)
{
    c->waiting++;
    engine_call(c->place->engine,
                &(struct engine_call){.method = "POST",
                                      .path = string_format("/containers/%s/exec", c->id),
                                      .body = json_pack("{s:b, s:b, s:b, s:b, s:o}", "AttachStdin",
                                                        1, "AttachStdout", 1, "AttachStderr", 1,
                                                        "Tty", 0, "Cmd", command_of(c->place)),
                                      .timeout_ms = EXEC_MS,
                                      .done = on_exec,
                                      .data = c});
}

static bool shows_tag(const struct container *c, json_t *reply)
{
    json_t *labels = json_object_get(json_object_get(reply, "Config"), "Labels");
    char word[MAC_SIZE];

    kept_word(c->base.tag, "label", word);
    return mac_equal(word, json_string_value(json_object_get(labels, TAG_LABEL)));
}

static void on_inspected(void *data, long status, json_t *reply, const struct error *err)
{
    struct container *c = data;
    json_t *state = json_object_get(reply, "State");

    if (!container_answered(c)) {
        return;
    }
    if (err && status == 404) {
        container_fail(c, ERROR_NOT_FOUND, "the container %s is gone from the engine", c->name);
    } else if (err) {
        container_fail(c, ERROR_LOST, "the engine did not say what became of the container: %s",
                       err->message);
    } else if (!shows_tag(c, reply)) {
        container_fail(c, ERROR_NOT_FOUND,
                       "the container %s is another's: it does not show this session's tag",
                       c->name);
    } else if (!json_is_true(json_object_get(state, "Running"))) {
        c->asked = true; /* ours, and of no use: removed */
        container_fail(c, ERROR_NOT_FOUND, "the container %s has ended", c->name);
    } else if (c->request.to_end) {
        c->asked = true; /* whatever the code in it has done to its supervisor */
        container_fail(c, ERROR_NOT_FOUND, "the container %s was ended", c->name);
    } else {
        c->asked = c->base.left = true; /* ours; it stays until it has been reached */
        c->base.used = true;
        c->folders = json_incref(json_object_get(json_object_get(reply, "HostConfig"), "Tmpfs"));
        enter(c);
    }
}

void kept_find(struct container *c)
{
    c->base.state = CRATE_CREATING;
    c->waiting++;
    engine_call(c->place->engine,
                &(struct engine_call){.method = "GET",
                                      .path = string_format("/containers/%s/json", c->id),
                                      .timeout_ms = EXEC_MS,
                                      .done = on_inspected,
                                      .data = c});
}

/* ---- what leads to it ---- */

json_t *container_where(const struct crate *crate)
{
    const struct container *c = (const struct container *)crate;
    json_t *where = crate->occupant->ops->where(crate->occupant);

    if (where) {
        json_object_set_new(where, "container", json_string(c->id));
        json_object_set_new(where, "name_there", json_string(c->name));
    }
    return where;
}
