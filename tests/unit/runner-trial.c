#include "tests/unit/runner-trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

struct host *host_of(struct link *link)
{
    return (struct host *)((char *)link - offsetof(struct host, link));
}

static int fake_send(struct link *link, const void *bytes, size_t size)
{
    struct host *h = host_of(link);

    if (h->send_result < 0) {
        return h->send_result;
    }
    h->acks += size == FRAME_HEADER && ((const unsigned char *)bytes)[4] == FRAME_ACK;
    return buffer_append(&h->sent, bytes, size);
}

static void fake_drain(struct link *link)
{
    host_of(link)->drains++;
}

static const struct link_ops fake_link = {fake_send, fake_drain};

static void on_ready(void *data, const char *description)
{
    struct host *h = data;
    (void)snprintf(h->ready, sizeof(h->ready), "%s", description);
}

void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct host *h = data;
    size_t used = strlen(h->log);
    (void)snprintf(h->log + used, sizeof(h->log) - used, "%s%.*s", stream ? "!" : "", (int)size,
                   bytes);
}

static void on_display(void *data, const struct display *display)
{
    struct host *h = data;
    size_t used = strlen(h->log);
    assert_true(display->kind == DISPLAY_CLEAR || json_is_object(display->metadata));
    (void)snprintf(h->log + used, sizeof(h->log) - used, "<%d %s>", display->kind,
                   display->display_id ? display->display_id : "-");
}

static void on_note(void *data, const char *text)
{
    struct host *h = data;
    (void)snprintf(h->note, sizeof(h->note), "%s", text);
}

static void on_reply(void *data, const struct kernel_reply *reply)
{
    struct host *h = data;
    h->replies++;
    h->reply = *reply;
    (void)snprintf(h->etype, sizeof(h->etype), "%s", reply->etype ? reply->etype : "");
    free(h->evalue);
    free(h->traceback);
    h->evalue = reply->evalue ? strdup(reply->evalue) : NULL;
    h->traceback = reply->traceback ? strdup(reply->traceback) : NULL;
    if (h->detach_in_reply) {
        runner_kernel.detach(h->kernel);
        h->kernel = NULL;
    }
}

static void on_broken(void *data, const char *why)
{
    struct host *h = data;
    assert_string_equal(h->broken, ""); /* once */
    (void)snprintf(h->broken, sizeof(h->broken), "%s", why);
}

const struct kernel_events events = {on_ready, on_output, on_display, on_note, on_reply, on_broken};

int setup(void **state)
{
    struct host *h = calloc(1, sizeof(*h));

    assert_non_null(h);
    h->link.ops = &fake_link;
    buffer_init(&h->sent, FRAME_PAYLOAD_CAP + 100);
    h->kernel = runner_kernel.attach(&h->link, &events, h);
    assert_non_null(h->kernel);
    *state = h;
    return 0;
}

int teardown(void **state)
{
    struct host *h = *state;

    if (h->kernel) {
        runner_kernel.detach(h->kernel);
    }
    buffer_deinit(&h->sent);
    free(h->evalue);
    free(h->traceback);
    free(h);
    return 0;
}

static void feed_n(struct host *h, int type, const char *payload, size_t size)
{
    char *bytes = malloc(FRAME_HEADER + size + 1);

    assert_non_null(bytes);
    frame_header((unsigned char *)bytes, (enum frame_type)type, size);
    memcpy(bytes + FRAME_HEADER, payload, size);
    h->link.events.on_frames(h->link.data, bytes, FRAME_HEADER + size);
    free(bytes);
}

void feed(struct host *h, int type, const char *payload)
{
    feed_n(h, type, payload, strlen(payload));
}

int start(struct host *h, const char *id)
{
    return runner_kernel.run(
        h->kernel,
        &(struct run_request){
            .id = id, .language = "python", .code = "a\0b", .code_size = 3, .timeout_seconds = 1});
}

void greeted(struct host *h)
{
    feed(h, FRAME_GREETING, GREETING);
    assert_string_equal(h->broken, "");
}
