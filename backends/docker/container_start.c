#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/docker/internal.h"
#include "backends/docker/recipe.h"

/* A container's way from its name to the greeting of its supervisor. */

static void create(struct container *c);
static void look_for_it(struct container *c);

bool container_is_id(const char *text)
{
    size_t n = text ? strspn(text, "0123456789abcdef") : 0;

    return n >= 12 && n < ID_SIZE && text[n] == '\0';
}

static void wait_line(struct container *c, const char *line)
{
    if (c->base.events && c->base.events->on_waiting) {
        c->base.events->on_waiting(c->base.owner, line);
    }
}

bool container_answered(struct container *c)
{
    c->waiting--;
    if (c->base.state == CRATE_CLOSING) {
        container_settle(c);
        return false;
    }
    return true;
}

/* ---- start ---- */

static void on_started(void *data, long status, json_t *reply, const struct error *err)
{
    struct container *c = data;

    (void)status;
    (void)reply;
    if (!container_answered(c) || c->base.state >= CRATE_ENDED) {
        return;
    }
    if (err) {
        container_fail(c, ERROR_LOST, "the engine could not start a container of the image %s: %s",
                       c->place->image_name, err->message);
        return;
    }
    if (c->base.state == CRATE_STARTING) {
        c->base.state = CRATE_GREETING;
    }
    if (c->stream_over) {
        container_stream_ended(c, NULL);
    }
}

static void on_open(void *data)
{
    struct container *c = data;

    /* Ready to listen before it says anything: its first words may come before the engine's answer.
     */
    if (c->base.state != CRATE_ATTACHING || container_occupy(c) < 0) {
        return;
    }
    c->base.state = CRATE_STARTING;
    c->waiting++;
    engine_call(c->place->engine,
                &(struct engine_call){.method = "POST",
                                      .path = string_format("/containers/%s/start", c->id),
                                      .timeout_ms = CREATE_MS,
                                      .done = on_started,
                                      .data = c});
}

/* ---- attach ---- */

void container_stream_bytes(void *data, const char *bytes, size_t size)
{
    struct container *c = data;

    if (c->base.occupant && c->base.state < CRATE_ENDED) {
        c->base.occupant->ops->feed(c->base.occupant, bytes, size);
    }
}

void container_stream_end(void *data, long status, const struct error *err)
{
    (void)status;
    container_stream_ended(data, err);
}

static void attach(struct container *c)
{
    static const struct attach_events events = {on_open, container_stream_bytes,
                                                container_stream_end};
    struct error err = {0};

    c->base.state = CRATE_ATTACHING;
    c->attach = attach_open(c->place->engine, c->id, &events, c, &err);
    if (!c->attach) {
        container_fail(c, err.kind, "the engine did not attach to the container: %s", err.message);
    }
    error_clear(&err);
}

/* ---- create ---- */

/* What is ours in it counts as well: the gateway and its threads, or a relay that comes later. */
static unsigned more_pids(const struct docker_place *place)
{
    return place->kernel_image ? GATEWAY_THREADS : place->base.env->keep;
}

static void on_inspected(void *data, long status, json_t *reply, const struct error *err)
{
    struct container *c = data;
    struct docker_place *place = c->place;
    const char *lost;

    (void)status;
    if (!container_answered(c)) {
        return;
    }
    if (err) {
        container_fail(c, ERROR_LOST, "the engine did not say how it made a container: %s",
                       err->message);
        return;
    }
    lost = spec_not_held(place->base.env, more_pids(place), json_object_get(reply, "HostConfig"));
    if (lost) {
        container_fail(c, ERROR_UNSUPPORTED,
                       "the engine took the limits of a container and left out %s; nothing is run "
                       "with less. Rootless Podman needs cgroups v2 for them; `podman info` and "
                       "`docker info` say what there is",
                       lost);
        return;
    }
    place->limits_hold = true;
    attach(c);
}

/* What one container is held to all of its place are, so the first is looked at. */
static void check_limits(struct container *c)
{
    c->waiting++;
    engine_call(c->place->engine,
                &(struct engine_call){.method = "GET",
                                      .path = string_format("/containers/%s/json", c->id),
                                      .timeout_ms = CREATE_MS,
                                      .done = on_inspected,
                                      .data = c});
}

static void take_id(struct container *c, json_t *reply)
{
    const char *id = json_string_value(json_object_get(reply, "Id"));

    if (!container_is_id(id)) {
        container_fail(c, ERROR_LOST, "the engine's answer to a create has no Id");
        return;
    }
    memcpy(c->id, id, strlen(id) + 1);
    if (c->place->limits_hold) {
        attach(c);
    } else {
        check_limits(c);
    }
}

/* A limit that the engine cannot hold is told as a warning, and the container made without it. */
static const char *lost_limit(json_t *reply)
{
    size_t index;
    json_t *warning;

    json_array_foreach(json_object_get(reply, "Warnings"), index, warning)
    {
        const char *text = json_string_value(warning);
        if (text && strstr(text, "discarded")) {
            return text;
        }
    }
    return NULL;
}

static void on_created(void *data, long status, json_t *reply, const struct error *err)
{
    struct container *c = data;
    const char *warning;

    if (!container_answered(c)) {
        return;
    }
    if (err && status == 404 && !c->tried_image) {
        c->tried_image = true;
        c->asked = false;
        place_forget_image(c->place);
        container_prepare(c);
    } else if (err && (status == 0 || status == 409) && !c->tried_create) {
        look_for_it(c);
    } else if (err) {
        container_fail(c, status >= 500 || status == 0 ? ERROR_LOST : ERROR_UNSUPPORTED,
                       "the engine made no container of the image %s: %s", c->place->image_name,
                       err->message);
    } else if ((warning = lost_limit(reply))) {
        container_fail(c, ERROR_UNSUPPORTED,
                       "the engine cannot hold a container to all of its limits (%.300s); nothing "
                       "is run with less. `docker info` says what is missing",
                       warning);
    } else {
        take_id(c, reply);
    }
}

/* A create without an answer may have been done: its name tells. */
static void on_found(void *data, long status, json_t *reply, const struct error *err)
{
    struct container *c = data;
    json_t *labels = json_object_get(json_object_get(reply, "Config"), "Labels");
    const char *server = json_string_value(json_object_get(labels, "cellblock.server"));

    if (!container_answered(c)) {
        return;
    }
    if (!err && server && strcmp(server, c->place->server) == 0) {
        take_id(c, reply);
    } else if (status == 404) {
        create(c);
    } else {
        container_fail(c, ERROR_LOST, "the engine did not say whether it made a container: %s",
                       err ? err->message : "one of somebody else's has its name");
    }
}

static void look_for_it(struct container *c)
{
    c->tried_create = true;
    c->waiting++;
    engine_call(c->place->engine,
                &(struct engine_call){.method = "GET",
                                      .path = string_format("/containers/%s/json", c->name),
                                      .done = on_found,
                                      .data = c});
}

static void add_pids(json_t *body, unsigned more)
{
    json_t *host = json_object_get(body, "HostConfig");
    json_t *limit = json_object_get(host, "PidsLimit");

    json_object_set_new(host, "PidsLimit", json_integer(json_integer_value(limit) + more));
}

static json_t *create_body(struct docker_place *place, struct spec *spec)
{
    const char *argv[6];
    char *text = NULL;
    json_t *body;

    if (place->kernel_image) {
        gateway_command(RECIPE_PYTHON, argv);
        spec->command = argv;
    } else {
        const char *python = place->base.env->python;
        spec->command = supervised_command(python ? python : "python3", false, &text);
    }
    body = spec->command ? spec_create(spec) : NULL;
    if (body) {
        add_pids(body, more_pids(place));
    }
    spec->command = NULL; /* what it led to ends here */
    free(text);
    return body;
}

static json_t *body_of(struct container *c, struct error *err)
{
    struct docker_place *place = c->place;
    const struct environment *env = place->base.env;
    const struct image_facts *image = place_image(place);
    struct spec_user user;
    json_t *labels = kept_labels(c);
    struct spec spec = {
        .env = env,
        .image = place_image_name(place),
        .user = &user,
        .labels = labels,
        .volumes = image->volumes,
        .mounts = c->request.mounts,
        .mount_count = c->request.mount_count,
        .copies = c->request.copies,
        .copy_count = c->request.copy_count,
        .podman = engine_facts(place->engine) && engine_facts(place->engine)->podman,
    };
    json_t *body;

    if (spec_user(env, image->user, &user, err) < 0) {
        json_decref(labels);
        return NULL;
    }
    body = create_body(place, &spec);
    json_decref(labels);
    json_decref(c->folders);
    c->folders = json_incref(json_object_get(json_object_get(body, "HostConfig"), "Tmpfs"));
    if (!body) {
        error_set(err, ERROR_INTERNAL, "out of memory");
    }
    return body;
}

static int check_request(const struct container *c, struct error *err)
{
    const struct start_request *request = &c->request;
    const struct engine_facts *facts = engine_facts(c->place->engine);

    if (request->mount_count && facts && facts->remote) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "the engine (%s) is reached over TCP and may be another machine, where "
                         "the path %s is something else: use a share of type copy",
                         facts->name, request->mounts[0]->source);
    }
    for (unsigned i = 0; i < request->mount_count; i++) {
        if (spec_check_mount(request->mounts[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void create(struct container *c)
{
    struct error err = {0};
    json_t *body = NULL;

    if (check_request(c, &err) == 0) {
        body = body_of(c, &err);
    }
    if (!body) {
        container_fail(c, err.kind, "%s", err.message);
        error_clear(&err);
        return;
    }
    c->base.state = CRATE_CREATING;
    c->asked = true;
    c->waiting++;
    engine_call(c->place->engine,
                &(struct engine_call){.method = "POST",
                                      .path = string_format("/containers/create?name=%s", c->name),
                                      .body = body,
                                      .timeout_ms = CREATE_MS,
                                      .done = on_created,
                                      .data = c});
}

/* ---- prepare ---- */

static void on_prepared(void *data, const struct error *err)
{
    struct container *c = data;
    const struct engine_facts *facts = engine_facts(c->place->engine);
    char line[512];

    if (!container_answered(c)) {
        return;
    }
    if (err) {
        container_fail(c, err->kind, "%s", err->message ? err->message : "out of memory");
        return;
    }
    (void)snprintf(line, sizeof(line), "starting a container of %.200s (%s %s)",
                   c->place->image_name, facts && facts->podman ? "Podman" : "Docker",
                   facts ? facts->version : "");
    if (c->base.where) {
        kept_find(c);
        return;
    }
    wait_line(c, line);
    create(c);
}

void container_prepare(struct container *c)
{
    c->base.state = CRATE_PREPARING;
    c->waiting++;
    place_prepare(c->place, on_prepared, c);
}
