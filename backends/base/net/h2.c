#include <stdlib.h>

#include "backends/base/net/h2_internal.h"

enum { PING_MS = 30000 };

struct h2 *h2_new(uv_loop_t *loop, const struct http_options *options, unsigned ping_ms,
                  struct error *err)
{
    struct h2 *h2 = calloc(1, sizeof(*h2));

    if (!h2) {
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    h2->loop = loop;
    h2->users = 1;
    h2->ping_ms = ping_ms ? ping_ms : PING_MS;
    h2->http = http_new(loop, options, err);
    if (!h2->http) {
        free(h2);
        return NULL;
    }
    return h2;
}

static void http_closed(void *data)
{
    struct h2 *h2 = data;
    void (*closed)(void *data) = h2->closed;
    void *closed_data = h2->closed_data;

    free(h2);
    if (closed) {
        closed(closed_data);
    }
}

void h2_release(struct h2 *h2)
{
    if (--h2->users == 0) {
        http_close(h2->http, http_closed, h2);
    }
}

void h2_close(struct h2 *h2, void (*closed)(void *data), void *data)
{
    h2->closing = true;
    h2->closed = closed;
    h2->closed_data = data;
    for (struct h2_request *r = h2->requests; r; r = r->next) {
        h2_cancel(r);
    }
    for (struct h2_connection *c = h2->connections, *next; c; c = next) {
        next = c->next;
        h2_connection_end(c);
    }
    h2_release(h2);
}
