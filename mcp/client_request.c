#include "mcp/client_request.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/jsonrpc.h"

enum { REQUEST_ID_SIZE = 80 };

struct client_request {
    struct client_request *next;
    char id[REQUEST_ID_SIZE];
    uint64_t deadline; /* uv_now */
    client_answered *done;
    void *data;
};

struct client_requests {
    uv_loop_t *loop;
    void (*send)(void *data, json_t *message_owned);
    void *data;
    unsigned number; /* of the newest one */
    struct client_request *list;
    bool stopped;
    uv_timer_t timer; /* the nearest deadline */
    void (*closed)(void *data);
    void *closed_data;
};

/* ---- waiting ---- */

static void tell_due(uv_timer_t *timer);

static void schedule(struct client_requests *all)
{
    uint64_t now = uv_now(all->loop), nearest = UINT64_MAX;

    for (const struct client_request *r = all->list; r; r = r->next) {
        nearest = r->deadline < nearest ? r->deadline : nearest;
    }
    if (!all->list) {
        uv_timer_stop(&all->timer);
    } else {
        uv_timer_start(&all->timer, tell_due, all->stopped || nearest <= now ? 0 : nearest - now,
                       0);
    }
}

static void take_out(struct client_requests *all, const struct client_request *request)
{
    struct client_request **at = &all->list;

    while (*at != request) {
        at = &(*at)->next;
    }
    *at = request->next;
}

static void tell_nobody_waits(struct client_requests *all, const char *id, const char *reason)
{
    all->send(all->data,
              jsonrpc_notification("notifications/cancelled",
                                   json_pack("{ss ss}", "requestId", id, "reason", reason)));
}

static void tell_due(uv_timer_t *timer)
{
    struct client_requests *all = timer->data;
    uint64_t now = uv_now(all->loop);
    struct client_request *r = all->list;

    while (r) {
        if (!all->stopped && r->deadline > now) {
            r = r->next;
            continue;
        }
        take_out(all, r);
        if (!all->stopped) {
            tell_nobody_waits(all, r->id, "not answered in time");
        }
        r->done(r->data, all->stopped ? CLIENT_GONE : CLIENT_LATE, NULL);
        free(r);
        r = all->list; /* done() may have asked or forgotten others */
    }
    schedule(all);
}

/* ---- asking ---- */

struct client_request *client_request(struct client_requests *all, const char *word,
                                      const char *method, json_t *params_owned, uint64_t limit_ms,
                                      client_answered *done, void *data)
{
    struct client_request *r = calloc(1, sizeof(*r));

    if (!r) {
        abort(); /* a promise that cannot be kept: `done` is called once */
    }
    *r = (struct client_request){.next = all->list, .done = done, .data = data};
    r->deadline = uv_now(all->loop) + limit_ms;
    snprintf(r->id, sizeof(r->id), "cellblock-%.48s-%u", word, ++all->number);
    all->list = r;
    if (all->stopped) {
        json_decref(params_owned);
    } else {
        all->send(all->data, jsonrpc_request(r->id, method, params_owned));
    }
    schedule(all);
    return r;
}

void client_request_forget(struct client_requests *all, struct client_request *request)
{
    take_out(all, request);
    if (!all->stopped) {
        tell_nobody_waits(all, request->id, "nobody waits for the answer any more");
    }
    free(request);
    schedule(all);
}

void client_requests_take(struct client_requests *all, const json_t *id, const json_t *result)
{
    const char *given = json_string_value(id);
    struct client_request *r = all->stopped || !given ? NULL : all->list;

    while (r && strcmp(r->id, given) != 0) {
        r = r->next;
    }
    if (r) {
        take_out(all, r);
        schedule(all);
        r->done(r->data, result ? CLIENT_ANSWERED : CLIENT_ERROR, result);
        free(r);
    }
}

void client_requests_stop(struct client_requests *all)
{
    all->stopped = true;
    schedule(all);
}

/* ---- life ---- */

struct client_requests *
client_requests_new(uv_loop_t *loop, void (*send)(void *data, json_t *message_owned), void *data)
{
    struct client_requests *all = calloc(1, sizeof(*all));

    if (all) {
        all->loop = loop;
        all->send = send;
        all->data = data;
        uv_timer_init(loop, &all->timer);
        all->timer.data = all;
    }
    return all;
}

static void on_closed(uv_handle_t *handle)
{
    struct client_requests *all = handle->data;

    while (all->list) {
        struct client_request *r = all->list;

        all->list = r->next;
        free(r);
    }
    if (all->closed) {
        all->closed(all->closed_data);
    }
    free(all);
}

void client_requests_close(struct client_requests *all, void (*closed)(void *data), void *data)
{
    all->stopped = true;
    all->closed = closed;
    all->closed_data = data;
    uv_close((uv_handle_t *)&all->timer, on_closed);
}
