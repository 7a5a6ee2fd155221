#include "backends/modal/brought.h"

#include <stdlib.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/modal/mounting.h"

struct modal_bringing {
    struct modal_bringing_order order;
    char *app_id;
    unsigned next;
    struct modal_rpc *rpc;
    struct modal_mounting *mounting;
    uv_timer_t timer; /* one share after the other, each begun from the loop */
    struct modal_bucket *buckets;
    unsigned bucket_count;
    char **mount_ids;
    unsigned mount_count;
    struct modal_brought brought;
    bool gone;       /* nobody waits for it: it is freed when nothing calls back any more */
    bool timer_over; /* its handle is closed */
};

static void free_it(struct modal_bringing *b)
{
    for (unsigned i = 0; i < b->bucket_count; i++) {
        free((char *)b->buckets[i].secret_id);
    }
    for (unsigned i = 0; i < b->mount_count; i++) {
        free(b->mount_ids[i]);
    }
    free(b->buckets);
    free(b->mount_ids);
    free(b->app_id);
    free(b);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct modal_bringing *b = handle->data;

    b->timer_over = true;
    if (!b->rpc) {
        free_it(b);
    }
}

static void finish(struct modal_bringing *b, const struct error *err)
{
    b->brought = (struct modal_brought){.buckets = b->buckets,
                                        .bucket_count = b->bucket_count,
                                        .mount_ids = (const char *const *)b->mount_ids,
                                        .mount_count = b->mount_count};
    b->order.done(b->order.data, err ? NULL : &b->brought, err);
}

static void fail(struct modal_bringing *b, const struct share *share, const struct error *err)
{
    struct error told = {0};

    if (err->kind == ERROR_NOT_FOUND && share->type == SHARE_CLOUD) {
        error_set(&told, ERROR_NOT_FOUND,
                  "the share at %s: Modal keeps no secret that is called \"%.100s\", which is to "
                  "open the bucket %.100s. `modal secret list` shows those that are there",
                  share->dest, share->cloud.secret, share->cloud.bucket);
    } else {
        error_set(&told, err->kind, "the share at %s: %s", share->dest, err->message);
    }
    finish(b, &told);
    error_clear(&told);
}

static void on_next(uv_timer_t *timer);

static void go_on(struct modal_bringing *b)
{
    uv_timer_start(&b->timer, on_next, 0, 0);
}

static void fail_memory(struct modal_bringing *b, const struct share *share)
{
    struct error err = {0};

    error_set(&err, ERROR_INTERNAL, "out of memory");
    fail(b, share, &err);
    error_clear(&err);
}

/* ---- a bucket ---- */

static void add_bucket(struct modal_bringing *b, const struct share *share, const char *secret_id)
{
    char *copy = secret_id ? strdup(secret_id) : NULL;

    if (secret_id && !copy) {
        fail_memory(b, share);
        return;
    }
    b->buckets[b->bucket_count++] = (struct modal_bucket){share, copy};
    b->next++;
    go_on(b);
}

static void on_secret(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                      const struct error *err)
{
    const Modal__Client__SecretGetOrCreateResponse *secret = (const void *)answer;
    struct modal_bringing *b = data;
    const struct share *share;
    struct error none = {0};

    (void)status;
    b->rpc = NULL;
    if (b->gone) {
        if (b->timer_over) {
            free_it(b);
        }
        return;
    }
    share = b->order.shares[b->next];
    if (!answer) {
        fail(b, share, err);
    } else if (!secret->secret_id[0]) {
        error_set(&none, ERROR_LOST, "the service gave a secret without an id");
        fail(b, share, &none);
        error_clear(&none);
    } else {
        add_bucket(b, share, secret->secret_id);
    }
}

static void ask_for_secret(struct modal_bringing *b, const struct share *share)
{
    Modal__Client__SecretGetOrCreateRequest request =
        MODAL__CLIENT__SECRET_GET_OR_CREATE_REQUEST__INIT;
    struct modal_rpc_call call = {
        .name = "SecretGetOrCreate",
        .request = &request.base,
        .answer = &modal__client__secret_get_or_create_response__descriptor,
        .done = on_secret,
        .data = b,
    };
    struct error err = {0};

    request.deployment_name = (char *)share->cloud.secret;
    request.environment_name = (char *)modal_client_environment(b->order.client);
    b->rpc = modal_rpc_start(b->order.client, &call, &err);
    if (!b->rpc) {
        fail(b, share, &err);
    }
    error_clear(&err);
}

/* ---- a mount ---- */

static void on_mounted(void *data, const char *mount_id, const struct error *err)
{
    struct modal_bringing *b = data;
    const struct share *share = b->order.shares[b->next];

    modal_mounting_free(b->mounting);
    b->mounting = NULL;
    if (err) {
        fail(b, share, err);
        return;
    }
    b->mount_ids[b->mount_count] = strdup(mount_id);
    if (!b->mount_ids[b->mount_count]) {
        fail_memory(b, share);
        return;
    }
    b->mount_count++;
    b->next++;
    go_on(b);
}

static void on_line(void *data, const char *line)
{
    const struct modal_bringing *b = data;

    if (b->order.on_line) {
        b->order.on_line(b->order.data, line);
    }
}

static void mount(struct modal_bringing *b, const struct share *share)
{
    const struct modal_mounting_order order = {.client = b->order.client,
                                               .store = b->order.store,
                                               .app_id = b->app_id,
                                               .share = share,
                                               .on_line = on_line,
                                               .done = on_mounted,
                                               .data = b};

    b->mounting = modal_mounting_start(&order);
    if (!b->mounting) {
        fail_memory(b, share);
    }
}

/* ---- all of them ---- */

static void on_next(uv_timer_t *timer)
{
    struct modal_bringing *b = timer->data;
    const struct share *share = b->next < b->order.count ? b->order.shares[b->next] : NULL;

    if (!share) {
        finish(b, NULL);
    } else if (share->type == SHARE_MOUNT) {
        mount(b, share);
    } else if (share->cloud.secret) {
        ask_for_secret(b, share);
    } else {
        add_bucket(b, share, NULL);
    }
}

struct modal_bringing *modal_bringing_start(const struct modal_bringing_order *order)
{
    struct modal_bringing *b = calloc(1, sizeof(*b));
    size_t room = (size_t)order->count + 1;

    if (!b) {
        return NULL;
    }
    *b = (struct modal_bringing){
        .order = *order,
        .app_id = strdup(order->app_id),
        .buckets = calloc(room, sizeof(*b->buckets)),
        .mount_ids = calloc(room, sizeof(*b->mount_ids)),
    };
    if (!b->app_id || !b->buckets || !b->mount_ids) {
        free_it(b);
        return NULL;
    }
    uv_timer_init(modal_client_loop(order->client), &b->timer);
    b->timer.data = b;
    go_on(b);
    return b;
}

void modal_bringing_free(struct modal_bringing *b)
{
    if (!b) {
        return;
    }
    b->gone = true;
    modal_mounting_free(b->mounting);
    b->mounting = NULL;
    if (b->rpc) {
        modal_rpc_cancel(b->rpc);
    }
    uv_close((uv_handle_t *)&b->timer, on_timer_closed);
}
