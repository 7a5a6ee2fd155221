#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kernel.h"
#include "backends/kernels/runner/frame.h"
#include "backends/kernels/runner/runner_message.h"

/*
 * The bytes of a worker, through the frame parser, the checks of every message and the runner
 * kernel. The first byte says how: bit 0 the worker has greeted and a run is going, bit 1 the bytes
 * come one by one, bit 2 the kernel is let go of at the first reply.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct host {
    struct link link;
    struct kernel *kernel;
    bool detach_in_reply;
    bool broken;
    int replies;
};

static int send_nowhere(struct link *link, const void *bytes, size_t size)
{
    assert(link && bytes && size >= FRAME_HEADER);
    return 0;
}

static void drain_nothing(struct link *link)
{
    assert(link);
}

static void on_ready(void *data, const char *description)
{
    assert(data && description[0]);
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    const struct host *h = data;
    volatile unsigned char last = size > 0 ? (unsigned char)bytes[size - 1] : 0;

    (void)last;
    assert(!h->broken && (stream == STREAM_STDOUT || stream == STREAM_STDERR));
}

static void on_display(void *data, const struct display *display)
{
    const struct host *h = data;

    assert(!h->broken);
    if (display->kind != DISPLAY_CLEAR) {
        assert(json_is_object(display->data) && json_is_object(display->metadata));
    }
}

static void on_note(void *data, const char *text)
{
    assert(data && strlen(text) <= MESSAGE_NOTE_CAP + 64);
}

static void on_reply(void *data, const struct kernel_reply *reply)
{
    struct host *h = data;

    assert(!h->broken && ++h->replies == 1);
    assert(reply->status != KERNEL_ERROR || reply->etype);
    assert(!reply->evalue || strlen(reply->evalue) <= MESSAGE_TEXT_CAP + 64);
    if (h->detach_in_reply) {
        runner_kernel.detach(h->kernel);
        h->kernel = NULL;
    }
}

static void on_broken(void *data, const char *why)
{
    struct host *h = data;

    assert(!h->broken && why[0]);
    h->broken = true;
}

static void greet_and_run(struct host *h)
{
    static const char greeting[] =
        "{\"cellblock\":1,\"python\":\"3.11.2\",\"implementation\":\"CPython\",\"ipython\":null}";
    unsigned char header[FRAME_HEADER];
    int r;

    frame_header(header, FRAME_GREETING, sizeof(greeting) - 1);
    h->link.events.on_frames(h->link.data, (const char *)header, sizeof(header));
    h->link.events.on_frames(h->link.data, greeting, sizeof(greeting) - 1);
    r = runner_kernel.run(
        h->kernel,
        &(struct run_request){.id = "r-1", .language = "python", .code = "1", .code_size = 1});
    assert(r == 0 && !h->broken);
    (void)r;
}

static void feed(struct host *h, const char *bytes, size_t size, bool one_by_one)
{
    size_t piece = one_by_one ? 1 : size;

    for (size_t i = 0; i < size; i += piece) {
        h->link.events.on_frames(h->link.data, bytes + i, piece);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct kernel_events events = {on_ready, on_output, on_display,
                                                on_note,  on_reply,  on_broken};
    static const struct link_ops ops = {send_nowhere, drain_nothing};
    struct host h = {.link = {.ops = &ops}};

    if (size == 0) {
        return 0;
    }
    h.kernel = runner_kernel.attach(&h.link, &events, &h);
    assert(h.kernel);
    if (data[0] & 1) {
        greet_and_run(&h);
    }
    h.detach_in_reply = data[0] & 4;
    feed(&h, (const char *)data + 1, size - 1, data[0] & 2);
    if (h.kernel) {
        h.link.events.on_end(h.link.data);
        assert(h.broken);
        runner_kernel.detach(h.kernel);
    }
    return 0;
}
