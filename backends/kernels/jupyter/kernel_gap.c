#include <stdlib.h>
#include <string.h>

#include "backends/kernels/jupyter/session_internal.h"

enum {
    ASK_MS = 5000,
    TRIES = 3,
    HELD_CAP = 16 * 1024 * 1024, /* bytes that wait for the answer */
    HELD_EACH = 512,             /* what one costs at least */
};

/* A message that came after one that is missing. */
struct held {
    struct held *next;
    json_t *content;
    size_t size;
    char type[];
};

static uint64_t number_of(json_t *content)
{
    json_int_t n = json_integer_value(json_object_get(content, "cellblock"));
    return n < 0 ? 0 : (uint64_t)n;
}

/* What is known already is not taken twice; strangers' messages have no number. */
static void take(struct jupyter_gap *gap, struct jupyter_output *o, const char *type,
                 json_t *content)
{
    uint64_t number = number_of(content);

    if (number > 0 && number < gap->next && o->cut) {
        return;
    }
    if (number >= gap->next) {
        gap->next = number + 1;
    }
    output_take_content(o, type, content);
}

/* ---- those that wait ---- */

static struct held *next_held(struct jupyter_gap *gap)
{
    struct held *h = gap->held;

    if (h) {
        gap->held = h->next;
        gap->held_size -= h->size;
        if (!gap->held) {
            gap->held_end = &gap->held;
        }
    }
    return h;
}

static void held_free(struct held *h)
{
    json_decref(h->content);
    free(h);
}

/* False: it cannot wait. */
static bool hold(struct jupyter_gap *gap, const struct jupyter_message *m)
{
    size_t length = strlen(m->type), size = m->content_size + length + HELD_EACH;
    struct held *h;

    if (size > HELD_CAP - gap->held_size) {
        return false;
    }
    h = calloc(1, sizeof(*h) + length + 1);
    if (!h) {
        return false;
    }
    memcpy(h->type, m->type, length);
    h->content = json_incref(m->content);
    h->size = size;
    *gap->held_end = h;
    gap->held_end = &h->next;
    gap->held_size += size;
    return true;
}

static void release(struct jupyter_gap *gap, struct jupyter_output *o)
{
    struct held *h;

    while ((h = next_held(gap))) {
        take(gap, o, h->type, h->content);
        held_free(h);
    }
}

/* ---- asking ---- */

static void on_kept(void *data, json_t *content, const struct error *err)
{
    struct jupyter_session *s = data;

    if (s->kernel && s->state == SESSION_LIVE && !s->closing) {
        kernel_take_kept(s->kernel, err ? NULL : content);
    }
}

void gap_ask(struct jupyter_gap *gap, struct session_kernel *k, const char *run)
{
    if (!gap->asking && gap->tries < TRIES) {
        gap->asking = true;
        session_ask(
            k,
            json_pack("{s:s, s:s, s:I}", "op", "kept", "run", run, "from", (json_int_t)gap->next),
            NULL, 0, ASK_MS, on_kept, k->session);
    }
}

bool gap_may_come(struct jupyter_gap *gap, const struct jupyter_output *o, struct session_kernel *k,
                  const char *run)
{
    if (o->cut && !gap->given_up && !gap->asking) {
        gap_ask(gap, k, run);
        gap->last = gap->asking;
    }
    return gap->asking;
}

static bool take_all(struct jupyter_gap *gap, struct jupyter_output *o, json_t *messages)
{
    uint64_t before = gap->next;
    json_t *message;
    size_t index;

    json_array_foreach(messages, index, message)
    {
        const char *type = json_string_value(json_array_get(message, 0));
        json_t *content = json_array_get(message, 1);

        if (type && json_is_object(content) && number_of(content) > 0) {
            take(gap, o, type, content);
        }
    }
    return gap->next > before;
}

/* Asked again: it was not answered, or the answer took no more. What is held still waits. */
static bool asks_again(struct jupyter_gap *gap, struct session_kernel *k, const char *run,
                       bool more)
{
    if (!gap->held || (more && number_of(gap->held->content) <= gap->next)) {
        return false;
    }
    gap_ask(gap, k, run);
    return gap->asking;
}

void gap_take_answer(struct jupyter_gap *gap, struct jupyter_output *o, struct session_kernel *k,
                     const char *run, json_t *content)
{
    const char *of = json_string_value(json_object_get(content, "run"));
    bool ours = of && strcmp(of, run) == 0;
    bool more = ours && take_all(gap, o, json_object_get(content, "messages"));

    gap->asking = false;
    if (!of) {
        gap->tries++;
    }
    gap->given_up = gap->last && of && !more;
    gap->last = false;
    if (!((!of || more) && asks_again(gap, k, run, more))) {
        release(gap, o);
    }
}

/* ---- a run ---- */

void gap_begin(struct jupyter_gap *gap)
{
    *gap = (struct jupyter_gap){.next = 1, .held_end = &gap->held};
}

void gap_end(struct jupyter_gap *gap)
{
    struct held *h;

    while ((h = next_held(gap))) {
        held_free(h);
    }
    gap->asking = false;
}

void gap_take(struct jupyter_gap *gap, struct jupyter_output *o, struct session_kernel *k,
              const char *run, struct jupyter_message *m)
{
    json_t *content = jupyter_message_content(m);

    if (!content) {
        return;
    }
    if (o->cut && number_of(content) > gap->next && k->is_python && k->threads) {
        gap_ask(gap, k, run);
        if (gap->asking && hold(gap, m)) {
            return;
        }
        release(gap, o); /* rather a gap than no end */
    }
    take(gap, o, m->type, content);
}
