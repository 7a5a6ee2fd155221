#include "backends/docker/demux.h"

#include <errno.h>
#include <string.h>

static int take_head(struct demux *d)
{
    const unsigned char *h = d->head;

    if (h[0] < DEMUX_STDOUT || h[0] > DEMUX_ENGINE || h[1] || h[2] || h[3]) {
        return -EPROTO;
    }
    d->left = (uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 | (uint32_t)h[6] << 8 | h[7];
    return 0;
}

static size_t fill_head(struct demux *d, const char *bytes, size_t size)
{
    size_t n = sizeof(d->head) - d->have;

    n = n < size ? n : size;
    memcpy(d->head + d->have, bytes, n);
    d->have += n;
    if (d->have == sizeof(d->head)) {
        d->broken = take_head(d);
    }
    return n;
}

int demux_feed(struct demux *d, const char *bytes, size_t size)
{
    while (size > 0 && !d->broken) {
        size_t n;

        if (d->have < sizeof(d->head)) {
            n = fill_head(d, bytes, size);
        } else {
            n = size < d->left ? size : d->left;
            d->left -= (uint32_t)n;
            d->on_bytes(d->data, (enum demux_stream)d->head[0], bytes, n);
        }
        if (d->have == sizeof(d->head) && d->left == 0) {
            d->have = 0;
        }
        bytes += n;
        size -= n;
    }
    return d->broken;
}
