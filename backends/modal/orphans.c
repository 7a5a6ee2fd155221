#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/internal.h"

/* Sandboxes of servers of this host that are gone: listed by the host's tag, page by page, and
 * terminated. The service's V2 list has those of V1 in it. */

enum { PAGES_MAX = 20, V1_ID_SIZE = 22 };

static void list_page(struct modal_place *place);

static void on_terminated(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                          const struct error *err)
{
    struct modal_place *place = data;

    (void)answer;
    if (!err || status == GRPC_NOT_FOUND) {
        place->orphans.removed++;
    } else {
        free(place->orphans.failed);
        place->orphans.failed = strdup(err->message);
    }
}

static bool is_v1(const char *id)
{
    const char *rest = strncmp(id, "sb-", 3) == 0 ? id + 3 : "";

    return strlen(rest) == V1_ID_SIZE &&
           strspn(rest, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") ==
               V1_ID_SIZE;
}

static void terminate(struct modal_place *place, const char *id)
{
    Modal__Client__SandboxTerminateRequest request = MODAL__CLIENT__SANDBOX_TERMINATE_REQUEST__INIT;
    const struct modal_rpc_call call = {
        .name = is_v1(id) ? "SandboxTerminate" : "SandboxTerminateV2",
        .request = &request.base,
        .answer = &modal__client__sandbox_terminate_response__descriptor,
        .timeout_ms = TERMINATE_MS,
        .done = on_terminated,
        .data = place,
    };

    place->orphans.found++;
    request.sandbox_id = (char *)id;
    (void)modal_rpc_start(place->client, &call, NULL);
}

static void sweep_one(struct modal_place *place, const Modal__Client__SandboxInfo *info)
{
    const Modal__Client__TaskInfo *task = info->task_info;
    bool finished = task && task->finished_at > 0;

    if (!finished && sandbox_is_id(info->id) && owner_is_dead(info->tags, info->n_tags) &&
        !owner_is_kept(info->tags, info->n_tags)) {
        terminate(place, info->id);
    }
}

static void on_listed(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                      const struct error *err)
{
    const Modal__Client__SandboxListResponse *a = (const void *)answer;
    struct modal_place *place = data;
    double oldest = place->orphans.before;

    (void)status;
    if (err) {
        place->orphans.looked = false; /* the next time */
        return;
    }
    for (size_t i = 0; i < a->n_sandboxes && !place->crates.closing; i++) {
        sweep_one(place, a->sandboxes[i]);
        oldest = a->sandboxes[i]->created_at;
    }
    /* A list that does not get older would never end. */
    if (a->n_sandboxes > 0 && !place->crates.closing && ++place->orphans.pages < PAGES_MAX &&
        oldest > 0 && (place->orphans.before <= 0 || oldest < place->orphans.before)) {
        place->orphans.before = oldest;
        list_page(place);
    }
}

static void list_page(struct modal_place *place)
{
    Modal__Client__SandboxListRequest request = MODAL__CLIENT__SANDBOX_LIST_REQUEST__INIT;
    Modal__Client__SandboxTag tag = MODAL__CLIENT__SANDBOX_TAG__INIT;
    Modal__Client__SandboxTag *list[] = {&tag};
    struct owner_tags me;
    const struct modal_rpc_call call = {
        .name = "SandboxListV2",
        .request = &request.base,
        .answer = &modal__client__sandbox_list_response__descriptor,
        .done = on_listed,
        .data = place,
    };

    owner_tags(&me, "");
    tag.tag_name = (char *)OWNER_TAG_HOST;
    tag.tag_value = me.space[OWNER_HOST];
    request.tags = list;
    request.n_tags = 1;
    request.environment_name = (char *)modal_client_environment(place->client);
    request.before_timestamp = place->orphans.before;
    if (!modal_rpc_start(place->client, &call, NULL)) {
        place->orphans.looked = false;
    }
}

void orphans_sweep(struct modal_place *place)
{
    if (place->orphans.looked || place->crates.closing) {
        return;
    }
    place->orphans.looked = true;
    place->orphans.before = 0;
    list_page(place);
}
