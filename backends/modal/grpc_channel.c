#include <errno.h>
#include <stdlib.h>

#include "backends/modal/grpc_internal.h"

/* Sent with every call, before the user's own. */
static const char *const own_metadata[] = {
    "content-type: application/grpc",
    "te: trailers",
    "grpc-accept-encoding: identity",
};
enum { OWN_METADATA = sizeof(own_metadata) / sizeof(own_metadata[0]) };

/* The texts stay where they are. */
static const char **with_own(const char *const *metadata)
{
    size_t n = 0;
    const char **all;

    while (metadata && metadata[n]) {
        n++;
    }
    all = calloc(OWN_METADATA + n + 1, sizeof(*all));
    for (size_t i = 0; all && i < OWN_METADATA + n; i++) {
        all[i] = i < OWN_METADATA ? own_metadata[i] : metadata[i - OWN_METADATA];
    }
    return all;
}

struct grpc_channel *grpc_channel_new(uv_loop_t *loop, const struct grpc_channel_options *options,
                                      struct error *err)
{
    struct grpc_channel *channel = calloc(1, sizeof(*channel));
    const char **metadata = with_own(options->metadata);
    struct http_options to = {
        .base = options->url,
        .ca_file = options->ca_file,
        .headers = metadata,
        .connect_timeout_ms = options->connect_timeout_ms,
        .quick_ack = true,
    };

    if (!channel || !metadata) {
        error_set(err, ERROR_INTERNAL, "out of memory");
    } else if ((channel->h2 = h2_new(loop, &to, options->ping_ms, err))) {
        channel->loop = loop;
        channel->users = 1;
    }
    free(metadata);
    if (channel && !channel->h2) {
        free(channel);
        return NULL;
    }
    return channel;
}

void grpc_channel_release(struct grpc_channel *channel)
{
    if (--channel->users == 0) {
        void (*closed)(void *data) = channel->closed;
        void *data = channel->closed_data;
        free(channel);
        if (closed) {
            closed(data);
        }
    }
}

static void h2_closed(void *data)
{
    grpc_channel_release(data);
}

void grpc_channel_close(struct grpc_channel *channel, void (*closed)(void *data), void *data)
{
    channel->closing = true;
    channel->closed = closed;
    channel->closed_data = data;
    grpc_cancel_all(channel);
    h2_close(channel->h2, h2_closed, channel);
}
