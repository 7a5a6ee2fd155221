#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends/modal/grpc_internal.h"

void grpc_outcome_find(struct grpc_outcome *outcome, enum grpc_status status, const char *format,
                       ...)
{
    va_list args;

    if (outcome->found) {
        return;
    }
    outcome->found = true;
    outcome->finding = status;
    va_start(args, format);
    if (vasprintf(&outcome->words, format, args) < 0) {
        outcome->words = NULL;
    }
    va_end(args);
}

/* No answer came, or not all of it. */
static void settle_failure(struct grpc_outcome *o, const struct http_reply *reply,
                           const struct error *err)
{
    enum grpc_status status = GRPC_UNAVAILABLE;
    if (reply->reset) {
        status = grpc_status_of_reset(reply->h2_error);
    } else if (err->kind == ERROR_LIMIT) {
        status = GRPC_RESOURCE_EXHAUSTED;
    } else if (err->kind == ERROR_INTERNAL) {
        status = GRPC_INTERNAL;
    }
    grpc_outcome_find(o, status, "%s", err->message);
}

/* An answer that is not gRPC's: a proxy's, or another server's. */
static void settle_http(struct grpc_outcome *o, const struct http_reply *reply)
{
    struct error err = {0};
    http_refusal(reply, "not a gRPC answer", &err);
    grpc_outcome_find(o, grpc_status_of_http(reply->status), "%s",
                      err.message ? err.message : "not a gRPC answer");
    error_clear(&err);
}

static void settle_ok(struct grpc_outcome *o, size_t left, bool unary)
{
    if (left > 0) {
        grpc_outcome_find(o, GRPC_INTERNAL,
                          "the answer ended in the middle of a message (%zu bytes of it came)",
                          left);
    } else if (unary && o->messages != 1) {
        grpc_outcome_find(o, GRPC_INTERNAL, "the server answered OK without the answer's message");
    }
}

void grpc_outcome_settle(struct grpc_outcome *outcome, const struct http_reply *reply,
                         const struct error *err, size_t left, bool unary)
{
    struct grpc_outcome *o = outcome;

    if (err) {
        settle_failure(o, reply, err);
    } else if (o->trailers.status == GRPC_OK && o->is_grpc) {
        settle_ok(o, left, unary);
    } else if (o->trailers.status > GRPC_OK) {
        return; /* the server's own word */
    } else if (reply->status != 200) {
        settle_http(o, reply);
    } else if (!o->is_grpc) {
        grpc_outcome_find(o, GRPC_UNAVAILABLE,
                          "the server answered with the content type \"%.100s\", which is not "
                          "gRPC; is the address right?",
                          o->other_type ? o->other_type : "");
    } else if (left > 0) {
        grpc_outcome_find(o, GRPC_INTERNAL,
                          "the answer ended in the middle of a message, without a status");
    } else {
        grpc_outcome_find(o, GRPC_INTERNAL, "the answer ended without a status (grpc-status)");
    }
}

struct grpc_end grpc_outcome_end(const struct grpc_outcome *outcome)
{
    const struct grpc_outcome *o = outcome;
    if (o->cancelled) {
        return (struct grpc_end){GRPC_CANCELLED, "cancelled", NULL, 0, true};
    }
    if (o->found) {
        return (struct grpc_end){o->finding, o->words ? o->words : "", NULL, 0, true};
    }
    return (struct grpc_end){
        .status = (enum grpc_status)o->trailers.status,
        .message = o->trailers.message ? o->trailers.message : "",
        .details = o->trailers.details,
        .details_size = o->trailers.details ? o->trailers.details_size : 0,
    };
}

void grpc_outcome_clear(struct grpc_outcome *outcome)
{
    grpc_trailers_reset(&outcome->trailers);
    free(outcome->other_type);
    free(outcome->words);
}
