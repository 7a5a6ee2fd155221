#include "backends/kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/buffer.h"
#include "backends/kernels/runner/frame.h"
#include "backends/kernels/runner/runner_message.h"

/*
 * The runner kernel, our side of it: frames in, events out.
 *
 * Every event can lead back here: the executor may start the next run from on_reply, or let go of
 * the kernel from any of them. So entries are counted (enter/leave), frames are looked at by one
 * entry at a time, and a detached runner is freed when the last entry is left.
 */

enum { FEED_SIZE = 64 * 1024 }; /* bytes taken in before the frames in them are looked at */

struct runner {
    struct link *link;
    struct kernel_events events;
    void *data;
    struct buffer in;
    struct buffer late; /* what came while `in` was being looked at */
    struct buffer out;
    char run[RUN_ID_SIZE]; /* "" when no run is going */
    unsigned entries;
    bool delayed;  /* the clock stands */
    bool was_late; /* it has stood once, which is all that a worker may ask for */
    bool parsing;
    bool greeted;
    bool broken;
    bool detached;
};

static struct runner *runner_of(struct kernel *k)
{
    return (struct runner *)k;
}

static void runner_free(struct runner *r)
{
    buffer_deinit(&r->in);
    buffer_deinit(&r->late);
    buffer_deinit(&r->out);
    free(r);
}

static void enter(struct runner *r)
{
    r->entries++;
}

static void leave(struct runner *r)
{
    if (--r->entries == 0 && r->detached) {
        runner_free(r);
    }
}

static bool alive(const struct runner *r)
{
    return !r->detached && !r->broken;
}

static void break_off(struct runner *r, const char *why)
{
    if (alive(r)) {
        r->broken = true;
        r->events.on_broken(r->data, why);
    }
}

/* Text that was printed before this frame comes before it. */
static void drain_output(struct runner *r)
{
    if (!r->detached && r->link->ops->drain) {
        r->link->ops->drain(r->link);
    }
}

static void send_ack(struct runner *r)
{
    unsigned char ack[FRAME_HEADER];

    if (!alive(r)) {
        return;
    }
    frame_header(ack, FRAME_ACK, 0);
    if (r->link->ops->send(r->link, ack, sizeof(ack)) < 0) {
        break_off(r, "closed its stream");
    }
}

static void take_greeting(struct runner *r, const struct frame *frame)
{
    struct greeting greeting;
    const char *why;

    if (r->greeted) {
        break_off(r, "greeted twice");
        return;
    }
    if (greeting_parse(frame, &greeting, &why) < 0) {
        break_off(r, why);
        return;
    }
    r->greeted = true;
    r->events.on_ready(r->data, greeting.description);
}

/* Between runs a display has nobody to be shown to: it is a leftover thread's, and is dropped. */
static void take_display(struct runner *r, const struct frame *frame)
{
    struct display_message message;
    const char *why;

    if (display_message_parse(frame, &message, &why) < 0) {
        break_off(r, why);
        return;
    }
    drain_output(r);
    if (alive(r) && r->run[0]) {
        r->events.on_display(r->data, &message.display);
    }
    if (message.sync) {
        send_ack(r);
    }
    display_message_deinit(&message);
}

static void take_note(struct runner *r, const struct frame *frame)
{
    const char *why;
    char *text;

    if (note_parse(frame, &text, &why) < 0) {
        break_off(r, why);
        return;
    }
    drain_output(r);
    if (alive(r) && r->run[0]) {
        r->events.on_note(r->data, text);
    }
    free(text);
}

static void take_done(struct runner *r, const struct frame *frame)
{
    struct done_message done;
    const char *why;

    if (done_message_parse(frame, &done, &why) < 0) {
        break_off(r, why);
        return;
    }
    drain_output(r);
    if (alive(r) && r->run[0]) {
        if (strcmp(done.run, r->run) != 0) {
            break_off(r, "ended a run that is not going");
        } else {
            r->run[0] = '\0';
            r->events.on_reply(r->data, &done.reply);
        }
    }
    done_message_deinit(&done);
}

static void take_delayed(struct runner *r)
{
    if (r->link->ops->may_delay && r->run[0] && !r->was_late) {
        r->delayed = r->was_late = true;
        if (r->events.on_delayed) {
            r->events.on_delayed(r->data, NULL);
        }
    }
}

static void take_begin(struct runner *r)
{
    if (r->delayed && r->run[0] && r->events.on_begun) {
        r->events.on_begun(r->data);
    }
    r->delayed = false;
}

static void take_frame(struct runner *r, const struct frame *frame)
{
    if (!r->greeted && frame->type != FRAME_GREETING) {
        break_off(r, "did not greet first");
        return;
    }
    switch (frame->type) {
    case FRAME_GREETING:
        take_greeting(r, frame);
        break;
    case FRAME_STDOUT:
        r->events.on_output(r->data, STREAM_STDOUT, frame->payload, frame->size);
        break;
    case FRAME_STDERR:
        r->events.on_output(r->data, STREAM_STDERR, frame->payload, frame->size);
        break;
    case FRAME_DISPLAY:
    case FRAME_CLEAR:
        take_display(r, frame);
        break;
    case FRAME_NOTE:
        take_note(r, frame);
        break;
    case FRAME_DELAYED:
        take_delayed(r);
        break;
    case FRAME_BEGIN:
        take_begin(r);
        break;
    default: /* frame_next lets nothing else through */
        take_done(r, frame);
        break;
    }
}

static void take_frames(struct runner *r)
{
    struct frame frame;
    int n = 0;

    while (alive(r) && (n = frame_next(&r->in, &frame)) > 0) {
        take_frame(r, &frame);
        buffer_consume(&r->in, FRAME_HEADER + frame.size);
    }
    if (n < 0) {
        break_off(r, n == -EMSGSIZE ? "sent a frame longer than any may be"
                                    : "sent something that is not a frame");
    }
}

/* ---- what the link calls ---- */

static int take_bytes(struct runner *r, const char *bytes, size_t size)
{
    while (size > 0 && alive(r)) {
        size_t piece = size < FEED_SIZE ? size : FEED_SIZE;
        int n = buffer_append(&r->in, bytes, piece);
        if (n < 0) {
            return n;
        }
        bytes += piece;
        size -= piece;
        take_frames(r);
    }
    return 0;
}

/* What came by while a frame was looked at. */
static int take_late(struct runner *r)
{
    int n = 0;

    while (n == 0 && alive(r) && buffer_size(&r->late) > 0) {
        struct buffer late = r->late;
        buffer_init(&r->late, late.cap);
        n = take_bytes(r, buffer_data(&late), buffer_size(&late));
        buffer_deinit(&late);
    }
    return n;
}

static void on_frames(void *data, const char *bytes, size_t size)
{
    struct runner *r = data;
    int n;

    enter(r);
    if (r->parsing) {
        /* From inside a callback, by a drain: the frame that is being looked at must not move. */
        n = buffer_append(&r->late, bytes, size);
    } else {
        r->parsing = true;
        n = take_bytes(r, bytes, size);
        if (n == 0) {
            n = take_late(r);
        }
        r->parsing = false;
        if (buffer_size(&r->in) == 0) {
            buffer_reset(&r->in);
        }
    }
    if (n < 0) {
        break_off(r, "sent more than there is memory for");
    }
    leave(r);
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct runner *r = data;

    enter(r);
    if (!r->detached) {
        r->events.on_output(r->data, stream, bytes, size);
    }
    leave(r);
}

static void on_leftover(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct runner *r = data;

    enter(r);
    if (!r->detached && r->events.on_leftover) {
        r->events.on_leftover(r->data, stream, bytes, size);
    }
    leave(r);
}

static void on_held(void *data, enum stream stream, uint64_t bytes, uint64_t lines)
{
    struct runner *r = data;

    enter(r);
    if (alive(r) && r->run[0] && r->events.on_held) {
        r->events.on_held(r->data, stream, bytes, lines);
    }
    leave(r);
}

static void on_sample(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct runner *r = data;

    enter(r);
    if (alive(r) && r->run[0] && r->events.on_sample) {
        r->events.on_sample(r->data, stream, bytes, size);
    }
    leave(r);
}

static void on_kept(void *data, enum stream stream, uint64_t bytes)
{
    struct runner *r = data;

    enter(r);
    if (alive(r) && r->run[0] && r->events.on_kept) {
        r->events.on_kept(r->data, stream, bytes);
    }
    leave(r);
}

static void on_end(void *data)
{
    struct runner *r = data;

    enter(r);
    break_off(r, r->greeted ? "closed its stream" : "ended before it had greeted");
    leave(r);
}

/* ---- what the executor calls ---- */

static struct kernel *runner_attach(struct link *link, const struct kernel_events *events,
                                    void *data)
{
    struct runner *r = calloc(1, sizeof(*r));

    if (!r) {
        return NULL;
    }
    r->link = link;
    r->events = *events;
    r->data = data;
    buffer_init(&r->in, FRAME_HEADER + FRAME_PAYLOAD_CAP + FEED_SIZE);
    buffer_init(&r->late, FRAME_HEADER + FRAME_PAYLOAD_CAP + FEED_SIZE);
    buffer_init(&r->out, FRAME_HEADER + FRAME_PAYLOAD_CAP);
    link->events = (struct link_events){on_frames, on_output, on_end, on_leftover,
                                        on_held,   on_sample, on_kept};
    link->data = r;
    return (struct kernel *)r;
}

/* What was built. `built` is what came of that. */
static int send_out(struct runner *r, int built)
{
    int n = built;

    if (n == 0) {
        n = r->link->ops->send(r->link, buffer_data(&r->out), buffer_size(&r->out));
    }
    buffer_reset(&r->out);
    return n;
}

static bool runner_keeps(const struct kernel *k)
{
    const struct runner *r = (const struct runner *)k;

    return alive(r) && r->link->ops->keeps && r->link->ops->keeps(r->link);
}

/* Tells the far side what becomes of the output, where it is to do anything about it. */
static int plan_output(struct runner *r, const struct run_request *request)
{
    char path[sizeof(RUN_OUTPUT_FOLDER) + RUN_ID_SIZE + 1];
    const struct output_plan plan = {
        .path = request->keep_full_output ? path : NULL,
        .after = RUN_SPOOL_AFTER,
        .cap = RUN_SPOOL_CAP,
        .head = request->output_head,
        .tail = request->output_tail,
    };

    if (!runner_keeps((struct kernel *)r) || (!plan.path && plan.head == 0)) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), RUN_OUTPUT_FOLDER "/%s", request->id);
    return r->link->ops->plan(r->link, &plan);
}

static int runner_run(struct kernel *k, const struct run_request *request)
{
    struct runner *r = runner_of(k);
    int n;

    if (!alive(r)) {
        return -EPIPE;
    }
    n = run_frame_build(&r->out, request);
    n = send_out(r, n < 0 ? n : plan_output(r, request));
    if (n < 0) {
        return n;
    }
    memcpy(r->run, request->id, strnlen(request->id, RUN_ID_SIZE - 1) + 1);
    r->run[RUN_ID_SIZE - 1] = '\0';
    return 0;
}

static int runner_signal(struct kernel *k, const char *run, int number)
{
    struct runner *r = runner_of(k);

    return alive(r) ? send_out(r, signal_frame_build(&r->out, run, number)) : -EPIPE;
}

static int runner_write(struct kernel *k, const char *run, const char *bytes, size_t size, bool eof)
{
    struct runner *r = runner_of(k);

    return alive(r) ? send_out(r, stdin_frame_build(&r->out, run, bytes, size, eof)) : -EPIPE;
}

static void runner_drain(struct kernel *k)
{
    struct runner *r = runner_of(k);

    enter(r);
    drain_output(r);
    leave(r);
}

/* The link stays usable for a place that reads on: what comes then is nobody's. */
static void no_bytes(void *data, const char *bytes, size_t size)
{
    (void)data;
    (void)bytes;
    (void)size;
}

static void no_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    (void)data;
    (void)stream;
    (void)bytes;
    (void)size;
}

static void no_end(void *data)
{
    (void)data;
}

static void no_count(void *data, enum stream stream, uint64_t bytes, uint64_t lines)
{
    (void)data;
    (void)stream;
    (void)bytes;
    (void)lines;
}

static void no_kept(void *data, enum stream stream, uint64_t bytes)
{
    (void)data;
    (void)stream;
    (void)bytes;
}

static void runner_detach(struct kernel *k)
{
    struct runner *r = runner_of(k);

    r->link->events =
        (struct link_events){no_bytes, no_output, no_end, no_output, no_count, no_output, no_kept};
    r->link->data = NULL;
    r->link = NULL;
    enter(r);
    r->detached = true;
    leave(r);
}

const struct kernel_ops runner_kernel = {
    .name = "runner",
    .attach = runner_attach,
    .run = runner_run,
    .signal = runner_signal,
    .write = runner_write,
    .keeps = runner_keeps,
    .drain = runner_drain,
    .detach = runner_detach,
};
