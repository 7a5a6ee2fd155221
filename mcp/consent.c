#include "mcp/consent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "backends/base/hex.h"
#include "backends/base/mac.h"
#include "mcp/policy_ask.h"
#include "mcp/server_internal.h"

enum {
    HANDLE_SIZE = MAC_SIZE, /* as many digits, so that it is compared as one */
    HANDLE_BYTES = HANDLE_SIZE / 2,
};

static const char answer_key[] = "consent"; /* in inputRequests and inputResponses */

/* A question that waits for its answer. */
struct asked {
    struct asked *next;
    struct consent *consent;
    struct consent_question question;
    struct call *call;              /* legacy: it waits. NULL: the client has the handle */
    struct client_request *request; /* legacy */
    char handle[HANDLE_SIZE];       /* modern, as is: */
    const struct tool *tool;
    json_t *arguments;
    uint64_t deadline; /* uv_now */
};

struct consent {
    struct server *server;
    struct asked *list;
    uv_timer_t timer; /* the nearest deadline of a handle */
    void (*closed)(void *data);
    void *closed_data;
};

bool consent_offered(const json_t *capabilities)
{
    const json_t *offered = json_object_get(capabilities, "elicitation");

    return json_is_object(offered) &&
           (json_object_size(offered) == 0 || json_is_object(json_object_get(offered, "form")));
}

/* ---- what was asked ---- */

static void drop_question(const struct consent_question *question)
{
    if (question->drop) {
        question->drop(question->data);
    }
    free(question->message);
    free(question->what);
}

static void take_out(const struct asked *asked)
{
    struct asked **at = &asked->consent->list;

    while (*at != asked) {
        at = &(*at)->next;
    }
    *at = asked->next;
}

/* One that is in no list. */
static void asked_destroy(struct asked *asked)
{
    drop_question(&asked->question);
    json_decref(asked->arguments);
    free(asked);
}

static void asked_free(struct asked *asked)
{
    take_out(asked);
    asked_destroy(asked);
}

static double wait_seconds(const struct server *s)
{
    return s->config->policy.ask ? s->config->policy.ask->wait_seconds : 0;
}

/* ---- what came of it ---- */

enum verdict {
    VERDICT_YES,
    VERDICT_NO,
    VERDICT_DISMISSED,
    VERDICT_MALFORMED,
    VERDICT_ERROR,
    VERDICT_LATE,
    VERDICT_GONE,
};

static const char *const reasons[] = {
    [VERDICT_YES] = "allowed",
    [VERDICT_NO] = "the person who was asked said no",
    [VERDICT_DISMISSED] = "the person who was asked closed the question without an answer",
    [VERDICT_MALFORMED] = "the client's answer to the question is not one that its form allows",
    [VERDICT_ERROR] = "the client answered the question with an error",
    [VERDICT_LATE] = "the person who was asked did not answer in time",
    [VERDICT_GONE] = "the client went away before there was an answer",
};

/* An ElicitResult. Only "accept" with {"allow": true} is a yes. */
static enum verdict judge(const json_t *result)
{
    const char *action = json_text_member(result, "action");
    const json_t *content = json_object_get(result, "content");
    const json_t *allow = json_object_get(content, "allow");

    if (action && strcmp(action, "decline") == 0) {
        return VERDICT_NO;
    }
    if (action && strcmp(action, "cancel") == 0) {
        return VERDICT_DISMISSED;
    }
    if (!action || strcmp(action, "accept") != 0 || json_object_size(content) != 1 ||
        !json_is_boolean(allow)) {
        return VERDICT_MALFORMED;
    }
    return json_is_true(allow) ? VERDICT_YES : VERDICT_NO;
}

static void note(const struct server *s, const struct tool *tool, enum verdict verdict)
{
    log_write(s->log, LOG_LEVEL_INFO, "consent for %s: %s", tool->name, reasons[verdict]);
}

static void fail(struct call *call, const char *what, const char *why)
{
    struct error err = {0};

    error_set(
        &err, ERROR_REFUSED,
        "%s may only be had with a person's consent, and there is none: %s. Nothing was done. "
        "Go on without it, or tell the person first why it is needed and call again",
        what, why);
    call_fail(call, &err);
    error_clear(&err);
}

/* Ends the question with the answer, for `call`. */
static void settle(struct asked *asked, struct call *call, enum verdict verdict)
{
    note(call->server, call->tool, verdict);
    if (verdict == VERDICT_YES) {
        struct consent_question question = asked->question;

        asked->question.drop = NULL; /* what it holds goes on */
        asked_free(asked);
        question.go_on(call, question.data);
    } else {
        fail(call, asked->question.what, reasons[verdict]);
        asked_free(asked);
    }
}

/* ---- the question ---- */

static json_t *form(const char *message)
{
    return json_pack("{ss ss s{ss s{s{ss ss}} s[s]}}", "mode", "form", "message", message,
                     "requestedSchema", "type", "object", "properties", "allow", "type", "boolean",
                     "title", "Allow it, this once", "required", "allow");
}

/* 2025-06-18 knows forms only, and no `mode`. */
static json_t *form_for(enum protocol version, const char *message)
{
    json_t *params = form(message);

    if (version < PROTOCOL_2025_11_25) {
        json_object_del(params, "mode");
    }
    return params;
}

static void on_answer(void *data, enum client_answer how, const json_t *result)
{
    static const enum verdict verdicts[] = {
        [CLIENT_ERROR] = VERDICT_ERROR, [CLIENT_LATE] = VERDICT_LATE, [CLIENT_GONE] = VERDICT_GONE};
    struct asked *asked = data;
    struct call *call = asked->call;

    call_on_cancel(call, NULL, NULL);
    settle(asked, call, how == CLIENT_ANSWERED ? judge(result) : verdicts[how]);
}

static void on_cancelled(void *data)
{
    struct asked *asked = data;
    struct call *call = asked->call;

    client_request_forget(call->server->requests, asked->request);
    call_finish(call, NULL); /* which is not sent */
    asked_free(asked);
}

static void ask_legacy(struct asked *asked, struct call *call)
{
    struct server *s = call->server;
    char word[32];

    asked->call = call;
    snprintf(word, sizeof(word), "consent-%.16s", asked->handle);
    asked->request = client_request(s->requests, word, "elicitation/create",
                                    form_for(call->version, asked->question.message),
                                    (uint64_t)(wait_seconds(s) * 1000), on_answer, asked);
    call_on_cancel(call, on_cancelled, asked);
    call_progress(call, "waiting for the answer of the person who was asked");
}

static void on_timer(uv_timer_t *timer);

static void schedule(struct consent *c)
{
    uint64_t now = uv_now(c->server->loop), nearest = UINT64_MAX;

    for (const struct asked *a = c->list; a; a = a->next) {
        nearest = !a->call && a->deadline < nearest ? a->deadline : nearest;
    }
    if (nearest == UINT64_MAX) {
        uv_timer_stop(&c->timer);
    } else {
        uv_timer_start(&c->timer, on_timer, nearest <= now ? 0 : nearest - now, 0);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct consent *c = timer->data;
    uint64_t now = uv_now(c->server->loop);
    struct asked *next;

    for (struct asked *a = c->list; a; a = next) {
        next = a->next;
        if (!a->call && a->deadline <= now) {
            note(c->server, a->tool, VERDICT_LATE);
            asked_free(a);
        }
    }
    schedule(c);
}

static int new_handle(char handle[HANDLE_SIZE])
{
    unsigned char bytes[HANDLE_BYTES];

    if (getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != (ssize_t)sizeof(bytes)) {
        return -1; /* a machine that has just come up */
    }
    hex_write(bytes, sizeof(bytes), handle);
    return 0;
}

/* Answers the call with the question; what it was about waits for another one. */
static void ask_modern(struct asked *asked, struct call *call)
{
    json_t *result =
        json_pack("{ss s{s{ss so}} ss}", "resultType", "input_required", "inputRequests",
                  answer_key, "method", "elicitation/create", "params",
                  form(asked->question.message), "requestState", asked->handle);

    asked->call = NULL;
    schedule(asked->consent);
    call_finish(call, result);
}

/* NULL with an error. The question is still the caller's. */
static struct asked *asked_new(struct call *call, const struct consent_question *question,
                               struct error *err)
{
    struct consent *c = call->server->consent;
    struct asked *asked = calloc(1, sizeof(*asked));
    size_t waiting = 0;

    for (const struct asked *a = c->list; a; a = a->next) {
        waiting++;
    }
    if (waiting >= CONSENT_CAP) {
        error_set(err, ERROR_LIMIT,
                  "%zu questions wait for a person's answer, the most there may be; wait for those",
                  waiting);
    } else if (!asked || new_handle(asked->handle) < 0) {
        error_set(err, ERROR_INTERNAL, "the question could not be made: no memory or randomness");
    } else {
        asked->next = c->list;
        asked->consent = c;
        asked->question = *question;
        asked->tool = call->tool;
        asked->arguments = json_incref(call->arguments);
        asked->deadline =
            uv_now(call->server->loop) + (uint64_t)(wait_seconds(call->server) * 1000);
        c->list = asked;
        return asked;
    }
    free(asked);
    return NULL;
}

static int check(const struct call *call, const struct consent_question *question,
                 const struct error *refusal, struct error *err)
{
    const char *why = refusal->message ? refusal->message : "refused";

    if (!call->can_ask) {
        return error_set(err, ERROR_REFUSED,
                         "%s. The owner allows it to be asked of a person, but this client cannot "
                         "ask: it has not declared the capability elicitation",
                         why);
    }
    if (!question->message || !question->what || strlen(question->message) > CONSENT_TEXT_CAP) {
        return error_set(err, ERROR_REFUSED,
                         "%s. The owner allows it to be asked of a person, but it is too long to "
                         "be shown whole, so nobody was asked",
                         why);
    }
    return 0;
}

void call_ask(struct call *call, const struct consent_question *question,
              const struct error *refusal)
{
    struct error err = {0};
    struct asked *asked =
        check(call, question, refusal, &err) == 0 ? asked_new(call, question, &err) : NULL;

    if (!asked) {
        drop_question(question);
        call_fail(call, &err);
    } else if (call_era(call) == ERA_MODERN) {
        ask_modern(asked, call);
    } else {
        ask_legacy(asked, call);
    }
    error_clear(&err);
}

/* ---- the same call again ---- */

static struct asked *find(const struct consent *c, const json_t *state)
{
    const char *given = json_string_value(state);
    struct asked *found = NULL;

    if (json_string_length(state) != HANDLE_SIZE - 1) {
        return NULL;
    }
    for (struct asked *a = c->list; a; a = a->next) {
        if (!a->call && mac_equal(given, a->handle)) {
            found = a;
        }
    }
    return found;
}

/* The client has not asked yet: the question again, under a new handle and with the old limit. */
static void ask_again(struct asked *asked, struct call *call)
{
    if (call->can_ask && new_handle(asked->handle) == 0) {
        ask_modern(asked, call);
    } else {
        settle(asked, call, VERDICT_ERROR);
    }
}

void consent_resume(struct call *call, const json_t *state, const json_t *responses)
{
    struct asked *asked = find(call->server->consent, state);
    const json_t *response = json_object_get(responses, answer_key);
    struct error err = {0};

    if (!asked || asked->tool != call->tool || !json_equal(asked->arguments, call->arguments)) {
        error_set(&err, ERROR_REFUSED,
                  "this requestState is not good for this call: %s. Nothing was done; call without "
                  "it to ask the person again",
                  asked ? "the question was about another tool or other arguments"
                        : "it is unknown, was used already, or its time is over");
        call_fail(call, &err);
        error_clear(&err);
        if (asked) {
            asked_free(asked); /* one try, right or wrong */
        }
    } else if (asked->deadline <= uv_now(call->server->loop)) {
        settle(asked, call, VERDICT_LATE);
    } else if (!response) {
        ask_again(asked, call);
    } else {
        settle(asked, call, judge(response));
    }
}

/* ---- life ---- */

struct consent *consent_new(struct server *server)
{
    struct consent *c = calloc(1, sizeof(*c));

    if (c) {
        c->server = server;
        uv_timer_init(server->loop, &c->timer);
        c->timer.data = c;
    }
    return c;
}

static void on_closed(uv_handle_t *handle)
{
    struct consent *c = handle->data;

    if (c->closed) {
        c->closed(c->closed_data);
    }
    free(c);
}

void consent_close(struct consent *consent, void (*closed)(void *data), void *data)
{
    while (consent->list) {
        struct asked *asked = consent->list;

        consent->list = asked->next;
        asked_destroy(asked);
    }
    consent->closed = closed;
    consent->closed_data = data;
    uv_close((uv_handle_t *)&consent->timer, on_closed);
}
