#ifndef CELLBLOCK_MCP_CONSENT_H
#define CELLBLOCK_MCP_CONSENT_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "mcp/call.h"
#include "mcp/client_request.h"

/*
 * Consent: what the owner's policy leaves to be asked for (mcp/policy_ask.h) is asked of the person
 * in front of the client, and is good for the one call that it was asked for.
 *
 * A legacy client (2025-06-18 and later) that declared `elicitation` is sent elicitation/create,
 * and the call waits. A modern one is answered `input_required`; what the call was about to do is
 * kept here under a handle that cannot be guessed (requestState), and goes on when the same call
 * comes again with it and with the person's answer. A handle is good once, for the same tool and
 * the same arguments, until the time of the question is over.
 *
 * The agent cannot answer: what it writes are a call's arguments, and an answer comes beside them.
 */
enum {
    CONSENT_CAP = 8,          /* questions that wait for an answer */
    CONSENT_TEXT_CAP = 4096,  /* bytes of a question; a longer one is not asked */
    CONSENT_QUOTE_CAP = 1024, /* bytes of one text in it, likewise */
};

struct consent_question {
    char *message; /* for the person. What is the agent's in it went through consent_quote */
    char *what;    /* the same in a few words, for the answer when it is refused */
    /* The person has agreed. `call` is to be answered; it may be another than the one that asked:
     * with the same tool and the same arguments. Takes `data`. */
    void (*go_on)(struct call *call, void *data);
    /* Nothing comes of it. Frees `data` */
    void (*drop)(void *data);
    void *data;
};

/*
 * Asks, and sees to the answer of the call: go_on is called, or the call fails and says who refused
 * it. Takes the question, whose texts are NULL when memory ran out. `refusal` is the policy's:
 * where the client cannot ask, the call fails with that. Neither is called before this returns. The
 * tool must not touch the call any more.
 */
void call_ask(struct call *call, const struct consent_question *question,
              const struct error *refusal);

/*
 * A text of unknown origin in quotes, so that it cannot pose as part of a question: one line, with
 * everything that is not plainly seen (control characters, spaces but the ordinary one, what turns
 * the direction of writing or has no width, bytes that are not UTF-8) written as \u{XX} or \xXX.
 * To be freed. NULL when it is longer than CONSENT_QUOTE_CAP: then nobody could check it, and half
 * of it is not shown either.
 */
char *consent_quote(const char *text);

/* --- of server.c, dispatch.c and call.c --- */

struct consent;
struct server;

struct consent *consent_new(struct server *server);
/* Can this client ask, by the capabilities that it declared? A bare `elicitation: {}` means forms.
 */
bool consent_offered(const json_t *capabilities);
/* A modern call that carries a requestState, in place of its tool's start. */
void consent_resume(struct call *call, const json_t *state, const json_t *responses);
/* After all calls have ended; what is kept for calls that did not come again is dropped. */
void consent_close(struct consent *consent, void (*closed)(void *data), void *data);

#endif
