#include <stdlib.h>
#include <string.h>

#include "backends/kernels/jupyter/session_internal.h"

static void answer(struct ask *ask, json_t *content, const struct error *err)
{
    ask->answered(ask->data, content, err);
    free(ask);
}

void session_ask(struct session_kernel *k, json_t *content_owned, const void *buffer, size_t size,
                 unsigned timeout_ms, ask_answered answered, void *data)
{
    struct jupyter_session *s = k->session;
    struct ask *ask = calloc(1, sizeof(*ask));
    int r;

    if (!ask || !content_owned) {
        abort(); /* so few bytes, and nobody could be told */
    }
    r = remote_send(k->remote, JUPYTER_CONTROL, "cellblock_request", content_owned, buffer, size,
                    ask->id);
    json_decref(content_owned);
    ask->answered = answered;
    ask->data = data;
    ask->deadline = r < 0 ? 0 : uv_now(s->server->loop) + timeout_ms;
    ask->next = s->asks;
    s->asks = ask;
    session_watch(s);
}

void session_ask_nobody(struct jupyter_session *s, ask_answered answered, void *data)
{
    struct ask *ask = calloc(1, sizeof(*ask));

    if (!ask) {
        abort(); /* as above */
    }
    *ask = (struct ask){.next = s->asks, .answered = answered, .data = data};
    s->asks = ask;
    session_watch(s);
}

bool session_take_answer(struct jupyter_session *s, struct jupyter_message *m)
{
    for (struct ask **at = &s->asks; *at; at = &(*at)->next) {
        if ((*at)->id[0] && strcmp((*at)->id, m->parent) == 0) {
            struct ask *ask = *at;
            *at = ask->next;
            answer(ask, jupyter_message_content(m), NULL);
            return true;
        }
    }
    return false;
}

void session_fail_asks(struct jupyter_session *s, const char *why)
{
    struct ask *list = s->asks;
    struct error err = {0};

    s->asks = NULL;
    (void)error_set(&err, ERROR_LOST, "%s", why);
    while (list) {
        struct ask *ask = list;
        list = ask->next;
        answer(ask, NULL, &err);
    }
    error_clear(&err);
}

static struct ask *take_late(struct jupyter_session *s, uint64_t now)
{
    for (struct ask **at = &s->asks; *at; at = &(*at)->next) {
        if ((*at)->deadline <= now) {
            struct ask *ask = *at;
            *at = ask->next;
            return ask;
        }
    }
    return NULL;
}

bool session_check_asks(struct jupyter_session *s, uint64_t now)
{
    struct error err = {0};
    struct ask *ask;

    (void)error_set(&err, ERROR_TIMEOUT, "the kernel did not answer in time");
    while ((ask = take_late(s, now))) {
        answer(ask, NULL, &err);
    }
    error_clear(&err);
    return s->asks != NULL;
}
