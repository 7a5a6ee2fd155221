#include "mcp/progress.h"

#include <stdlib.h>
#include <string.h>

#include "mcp/jsonrpc.h"

struct progress {
    uv_timer_t pause; /* runs after something was sent */
    unsigned number;
    json_t *next; /* waits for the pause to end; NULL: nothing new */
    void (*send)(void *data, unsigned number, json_t *text_owned);
    void *data;
};

json_t *progress_tail(const char *text)
{
    size_t size = strlen(text);
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r')) {
        size--;
    }
    if (size <= PROGRESS_TEXT_CAP) {
        return json_text(text, size);
    }
    const char *start = text + size - PROGRESS_TEXT_CAP;
    const char *end = text + size;
    const char *newline = start[-1] == '\n' ? start - 1 : memchr(start, '\n', PROGRESS_TEXT_CAP);
    if (newline) {
        start = newline + 1;
    }
    while (start < end && ((unsigned char)*start & 0xC0) == 0x80) {
        start++;
    }
    return json_text(start, (size_t)(end - start));
}

static void on_pause_over(uv_timer_t *timer);

static void send_next(struct progress *p)
{
    json_t *text = p->next;
    p->next = NULL;
    uv_timer_start(&p->pause, on_pause_over, PROGRESS_INTERVAL_MS, 0);
    p->send(p->data, ++p->number, text);
}

static void on_pause_over(uv_timer_t *timer)
{
    struct progress *p = timer->data;
    if (p->next) {
        send_next(p);
    }
}

struct progress *progress_new(uv_loop_t *loop,
                              void (*send)(void *data, unsigned number, json_t *text_owned),
                              void *data)
{
    struct progress *p = calloc(1, sizeof *p);
    if (!p) {
        return NULL;
    }
    uv_timer_init(loop, &p->pause);
    p->pause.data = p;
    p->send = send;
    p->data = data;
    return p;
}

void progress_update(struct progress *p, const char *text)
{
    json_decref(p->next);
    p->next = progress_tail(text);
    if (p->next && !uv_is_active((uv_handle_t *)&p->pause)) {
        uv_update_time(p->pause.loop);
        send_next(p);
    }
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void progress_close(struct progress *p)
{
    if (p) {
        json_decref(p->next);
        p->next = NULL;
        uv_close((uv_handle_t *)&p->pause, on_closed);
    }
}
