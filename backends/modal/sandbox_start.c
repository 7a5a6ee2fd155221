#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/internal.h"

/* A sandbox's way from its name to its id: what it is made of, and the create. */

static void get_ids(struct sandbox *s);
static void look_for_it(struct sandbox *s);

const char *sandbox_rpc_name(const struct sandbox *s, const char *name, char space[64])
{
    (void)snprintf(space, 64, "%s%s", name, s->v1 ? "" : "V2");
    return space;
}

bool sandbox_is_id(const char *text)
{
    size_t n = text ? strspn(text, "0123456789abcdefghijklmnopqrstuvwxyz"
                                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_.")
                    : 0;

    return n > 0 && n < ID_SIZE && text[n] == '\0';
}

/* ---- the one of this name ---- */

/* Found by a name that we did not make up: is it this one? Its tags tell. */
struct finding {
    struct sandbox *sandbox;
    void (*found)(struct sandbox *s, const char *id, const struct error *err);
    char id[ID_SIZE];
};

static void finding_over(struct finding *f, const char *id, const struct error *err)
{
    struct finding copy = *f;

    free(f);
    copy.sandbox->rpc = NULL;
    copy.found(copy.sandbox, id ? copy.id : NULL, err);
}

static void on_tags(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                    const struct error *err)
{
    const Modal__Client__SandboxTagsGetResponse *a = (const void *)answer;
    struct finding *f = data;
    const char *mark;

    if (err) {
        finding_over(f, NULL, status == GRPC_NOT_FOUND ? NULL : err);
        return;
    }
    mark = owner_tag(a->tags, a->n_tags, OWNER_TAG_SANDBOX);
    finding_over(f, mark && strcmp(mark, f->sandbox->mark) == 0 ? f->id : NULL, NULL);
}

int sandbox_ask_tags(struct sandbox *s, const char *id,
                     void (*done)(void *data, const ProtobufCMessage *answer,
                                  enum grpc_status status, const struct error *err),
                     void *data, struct error *err)
{
    Modal__Client__SandboxTagsGetRequest request = MODAL__CLIENT__SANDBOX_TAGS_GET_REQUEST__INIT;
    char name[64];
    const struct modal_rpc_call call = {
        .name = sandbox_rpc_name(s, "SandboxTagsGet", name),
        .request = &request.base,
        .answer = &modal__client__sandbox_tags_get_response__descriptor,
        .done = done,
        .data = data,
    };

    request.sandbox_id = (char *)id;
    s->rpc = modal_rpc_start(s->place->client, &call, err);
    return s->rpc ? 0 : -1;
}

static void get_tags(struct finding *f)
{
    struct error err = {0};

    if (sandbox_ask_tags(f->sandbox, f->id, on_tags, f, &err) < 0) {
        finding_over(f, NULL, &err);
    }
    error_clear(&err);
}

static void on_name(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                    const struct error *err)
{
    const Modal__Client__SandboxGetFromNameResponse *a = (const void *)answer;
    struct finding *f = data;

    if (err || !sandbox_is_id(a->sandbox_id)) {
        finding_over(f, NULL, status == GRPC_NOT_FOUND ? NULL : err);
        return;
    }
    memcpy(f->id, a->sandbox_id, strlen(a->sandbox_id) + 1);
    if (f->sandbox->place->base.env->sandbox_name) {
        get_tags(f);
    } else {
        finding_over(f, f->id, NULL);
    }
}

int sandbox_find(struct sandbox *s,
                 void (*found)(struct sandbox *s, const char *id, const struct error *err))
{
    Modal__Client__SandboxGetFromNameRequest request =
        MODAL__CLIENT__SANDBOX_GET_FROM_NAME_REQUEST__INIT;
    struct finding *f = calloc(1, sizeof(*f));
    char name[64];
    const struct modal_rpc_call call = {
        .name = sandbox_rpc_name(s, "SandboxGetFromName", name),
        .request = &request.base,
        .answer = &modal__client__sandbox_get_from_name_response__descriptor,
        .done = on_name,
        .data = f,
    };

    if (!f) {
        return -1;
    }
    *f = (struct finding){.sandbox = s, .found = found};
    request.sandbox_name = s->name;
    request.environment_name = (char *)modal_client_environment(s->place->client);
    request.app_name = (char *)place_app_name(s->place);
    s->rpc = modal_rpc_start(s->place->client, &call, NULL);
    if (!s->rpc) {
        free(f);
        return -1;
    }
    return 0;
}

/* ---- create ---- */

void sandbox_made(struct sandbox *s, const char *id)
{
    memcpy(s->id, id, strlen(id) + 1);
    s->unsure = false;
    s->place->reached = true;
    if (s->base.state == CRATE_CLOSING) {
        sandbox_answered(s);
        return;
    }
    sandbox_watch(s);
    if (s->task_id[0]) {
        sandbox_start_exec(s);
    } else {
        sandbox_place_it(s);
    }
}

/* May it have been made, though nobody said so? */
static bool is_unsure(enum grpc_status status)
{
    return modal_status_is_transient(status) || status == GRPC_ABORTED ||
           status == GRPC_ALREADY_EXISTS;
}

static void on_create_again(struct sandbox *s)
{
    get_ids(s);
}

static void forget(struct sandbox *s)
{
    modal_resources_forget(s->place->resources);
    mount_store_forget(&s->place->mounts);
    modal_bringing_free(s->bringing);
    s->bringing = NULL;
    s->brought = NULL;
}

static void create_failed(struct sandbox *s, enum grpc_status status, const struct error *err)
{
    s->unsure = is_unsure(status);
    s->taken = status == GRPC_ALREADY_EXISTS;
    s->asked = s->unsure;
    if (s->base.state == CRATE_CLOSING) {
        sandbox_answered(s);
    } else if (s->unsure && s->creates < CREATE_TRIES) {
        place_note_error(s->place, err->message);
        look_for_it(s);
    } else if (status == GRPC_NOT_FOUND && s->creates == 1) {
        forget(s); /* an image may be gone, a secret, a mount */
        get_ids(s);
    } else {
        bool gone = status == GRPC_NOT_FOUND && s->place->base.env->snapshot;
        sandbox_fail(s, err->kind, "the service made no sandbox%s: %s",
                     gone ? " (is the snapshot there still? It may have been deleted, or its time "
                            "is over)"
                          : "",
                     err->message);
    }
}

/* Nobody can tell which one it would be. */
static void no_id(struct sandbox *s)
{
    s->unsure = true;
    if (s->base.state == CRATE_CLOSING) {
        sandbox_answered(s);
    } else {
        sandbox_fail(s, ERROR_LOST, "the service's answer to a create has no sandbox id");
    }
}

static void on_created_v1(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                          const struct error *err)
{
    const Modal__Client__SandboxCreateResponse *a = (const void *)answer;
    struct sandbox *s = data;

    s->rpc = NULL;
    if (err) {
        create_failed(s, status, err);
    } else if (!sandbox_is_id(a->sandbox_id)) {
        no_id(s);
    } else {
        sandbox_made(s, a->sandbox_id);
    }
}

static void on_created_v2(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                          const struct error *err)
{
    const Modal__Client__SandboxCreateV2Response *a = (const void *)answer;
    struct sandbox *s = data;

    s->rpc = NULL;
    if (err) {
        create_failed(s, status, err);
        return;
    }
    if (!sandbox_is_id(a->sandbox_id)) {
        no_id(s);
        return;
    }
    s->token = a->sandbox_token[0] ? strdup(a->sandbox_token) : NULL;
    if (sandbox_is_id(a->task_id)) {
        memcpy(s->task_id, a->task_id, strlen(a->task_id) + 1);
    }
    if (a->command_router_access && a->command_router_access->url[0]) {
        s->router_url = strdup(a->command_router_access->url);
        s->router_jwt = strdup(a->command_router_access->jwt);
    }
    sandbox_take_tunnels(s, a->tunnels, a->n_tunnels);
    sandbox_made(s, a->sandbox_id);
}

static void on_found(struct sandbox *s, const char *id, const struct error *err)
{
    if (s->base.state == CRATE_CLOSING) {
        if (id) {
            sandbox_made(s, id);
        } else {
            sandbox_answered(s);
        }
    } else if (id) {
        sandbox_made(s, id);
    } else if (err) {
        sandbox_fail(s, ERROR_LOST, "the service did not say whether it made a sandbox: %s",
                     err->message);
    } else if (s->place->base.env->sandbox_name && s->taken) {
        s->asked = false;
        sandbox_fail(s, ERROR_REFUSED,
                     "sandbox_name: the app \"%s\" has a sandbox \"%s\" already, which is not "
                     "this session's; terminate it, or choose another name",
                     place_app_name(s->place), s->name);
    } else {
        sandbox_arm(s, CREATE_AGAIN_MS, on_create_again);
    }
}

static void look_for_it(struct sandbox *s)
{
    sandbox_phase(s, CRATE_CREATING,
                  "looking whether the service has made the sandbox, which it did not say");
    if (sandbox_find(s, on_found) < 0) {
        sandbox_fail(s, ERROR_INTERNAL, "out of memory");
    }
}

static void send_create(struct sandbox *s, const ProtobufCMessage *message)
{
    struct error err = {0};
    struct modal_rpc_call call = {
        .name = s->v1 ? "SandboxCreate" : "SandboxCreateV2",
        .request = message,
        .answer = s->v1 ? &modal__client__sandbox_create_response__descriptor
                        : &modal__client__sandbox_create_v2_response__descriptor,
        .timeout_ms = CREATE_MS,
        .once = true,
        .done = s->v1 ? on_created_v1 : on_created_v2,
        .data = s,
    };

    s->creates++;
    s->rpc = modal_rpc_start(s->place->client, &call, &err);
    if (s->rpc) {
        s->asked = s->unsure = true;
    } else {
        sandbox_fail(s, err.kind, "%s", err.message);
    }
    error_clear(&err);
}

static void create_with(struct sandbox *s, const struct modal_ids *ids)
{
    static const char *const sleeps[] = {"sleep", SANDBOX_SLEEP, NULL};
    char *space = NULL;
    const char **entry = s->place->memory ? memory_entry(s, &space) : NULL;
    const struct environment *env = s->place->base.env;
    struct owner_tags tags;
    const struct modal_spec spec = {
        .env = env,
        .ids = ids,
        .name = s->name,
        .tags = tags.list,
        .argv = entry ? (const char *const *)entry : sleeps,
        .command = env->sandbox_command,
        .timeout_secs = modal_spec_lifetime(env, s->place->ephemeral),
        .idle_timeout_secs = s->base.tag && !s->place->memory ? 0 : place_idle_limit(s->place),
        .brought = s->brought,
        .jupyter = s->place->jupyter && env->network != NETWORK_NONE,
    };
    ProtobufCMessage *message;

    owner_tags(&tags, s->mark);
    kept_tags(s, &tags);
    message = s->place->memory && !entry ? NULL : modal_spec_message(&spec);
    free(entry);
    free(space);
    if (!message) {
        sandbox_fail(s, ERROR_INTERNAL, "out of memory");
        return;
    }
    sandbox_phase(s, CRATE_CREATING, "waiting for Modal to start a sandbox");
    send_create(s, message);
    protobuf_c_message_free_unpacked(message, NULL);
}

/* ---- what it is made of ---- */

static void on_brought(void *data, const struct modal_brought *brought, const struct error *err)
{
    struct sandbox *s = data;

    if (err) {
        sandbox_fail(s, err->kind, "%s", err->message);
        return;
    }
    s->brought = brought;
    get_ids(s);
}

static void on_line(void *data, const char *what)
{
    struct sandbox *s = data;

    if (s->base.state == CRATE_PREPARING) {
        crate_tell(&s->base, what);
    }
}

static void bring(struct sandbox *s, const struct modal_ids *ids)
{
    const struct modal_bringing_order order = {.client = s->place->client,
                                               .store = &s->place->mounts,
                                               .app_id = ids->app_id,
                                               .shares = s->request.mounts,
                                               .count = s->request.mount_count,
                                               .on_line = on_line,
                                               .done = on_brought,
                                               .data = s};

    sandbox_phase(s, CRATE_PREPARING, "bringing in the shares");
    s->bringing = modal_bringing_start(&order);
    if (!s->bringing) {
        sandbox_fail(s, ERROR_INTERNAL, "out of memory");
    }
}

static void on_ids(void *data, const struct modal_ids *ids, const struct error *err)
{
    struct sandbox *s = data;

    s->getting = false;
    if (err) {
        place_note_error(s->place, err->message);
        sandbox_fail(s, err->kind, "%s", err->message);
        return;
    }
    s->place->reached = true;
    if (s->request.mount_count > 0 && !s->brought) {
        bring(s, ids);
    } else {
        create_with(s, ids);
    }
}

static void get_ids(struct sandbox *s)
{
    s->getting = true;
    modal_resources_get(s->place->resources, on_line, on_ids, s);
}

static void on_prepare(struct sandbox *s)
{
    struct error err = {0};

    if (place_connect(s->place, &err) < 0) {
        place_note_error(s->place, err.message);
        sandbox_fail(s, err.kind, "%s", err.message);
        error_clear(&err);
        return;
    }
    orphans_sweep(s->place);
    if (s->place->memory && memory_prepare(s) < 0) {
        return;
    }
    if (s->restore) {
        memory_restore(s);
        return;
    }
    if (s->base.where) {
        kept_find(s);
        return;
    }
    s->phase = "waiting for Modal";
    get_ids(s);
}

/* Not from inside of its owner's call. */
void sandbox_prepare(struct sandbox *s)
{
    s->base.state = CRATE_PREPARING;
    sandbox_arm(s, 0, on_prepare);
}
