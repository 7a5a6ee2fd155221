#include "backends/modal/grpc_status.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { UNKNOWN_STATUS = GRPC_UNKNOWN, TIMEOUT_MS_MOST = 99999999 };

const char *grpc_status_name(enum grpc_status status)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };
    return (unsigned)status < sizeof(names) / sizeof(names[0]) ? names[status] : NULL;
}

enum grpc_status grpc_status_of_http(long status)
{
    switch (status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

enum grpc_status grpc_status_of_reset(unsigned h2_error)
{
    enum { REFUSED_STREAM = 7, CANCEL = 8, ENHANCE_YOUR_CALM = 11, INADEQUATE_SECURITY = 12 };
    switch (h2_error) {
    case REFUSED_STREAM:
        return GRPC_UNAVAILABLE;
    case CANCEL:
        return GRPC_CANCELLED;
    case ENHANCE_YOUR_CALM:
        return GRPC_RESOURCE_EXHAUSTED;
    case INADEQUATE_SECURITY:
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

/* A number that is no status of gRPC's is UNKNOWN, as the specification wants it. */
static int read_status(const char *value)
{
    int n = 0;
    if (!*value || strlen(value) > 2) {
        return UNKNOWN_STATUS;
    }
    for (; *value; value++) {
        if (!isdigit((unsigned char)*value)) {
            return UNKNOWN_STATUS;
        }
        n = n * 10 + (*value - '0');
    }
    return grpc_status_name((enum grpc_status)n) ? n : UNKNOWN_STATUS;
}

void grpc_trailers_note(struct grpc_trailers *trailers, const char *name, const char *value)
{
    if (strcasecmp(name, "grpc-status") == 0) {
        trailers->status = read_status(value);
    } else if (strcasecmp(name, "grpc-message") == 0) {
        free(trailers->message);
        trailers->message = grpc_message_decode(value);
    } else if (strcasecmp(name, "grpc-status-details-bin") == 0) {
        free(trailers->details);
        trailers->details = grpc_base64_decode(value, GRPC_DETAILS_CAP, &trailers->details_size);
    }
}

void grpc_trailers_reset(struct grpc_trailers *trailers)
{
    free(trailers->message);
    free(trailers->details);
    *trailers = (struct grpc_trailers){.status = -1};
}

void grpc_timeout_header(unsigned ms, char ret[GRPC_TIMEOUT_SIZE])
{
    if (ms > TIMEOUT_MS_MOST) {
        snprintf(ret, GRPC_TIMEOUT_SIZE, "grpc-timeout: %uS", ms / 1000 + 1);
    } else {
        snprintf(ret, GRPC_TIMEOUT_SIZE, "grpc-timeout: %um", ms);
    }
}
