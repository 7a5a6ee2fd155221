#include "api.pb-c.h"

#include <math.h>
#include <string.h>

#include "backends/modal/client.h"

enum {
    FIRST_DELAY_MS = 100,
    LONGEST_DELAY_MS = 1000,
    LONGEST_THROTTLE_MS = 60 * 60 * 1000, /* more is not believed */
};

bool modal_status_is_transient(enum grpc_status status)
{
    return status == GRPC_DEADLINE_EXCEEDED || status == GRPC_UNAVAILABLE ||
           status == GRPC_CANCELLED || status == GRPC_INTERNAL || status == GRPC_UNKNOWN;
}

unsigned modal_retry_delay_ms(unsigned attempt)
{
    unsigned delay = FIRST_DELAY_MS;
    while (attempt > 1 && delay < LONGEST_DELAY_MS) {
        delay *= 2;
        attempt--;
    }
    return delay < LONGEST_DELAY_MS ? delay : LONGEST_DELAY_MS;
}

/* "type.googleapis.com/modal.client.RPCRetryPolicy", whatever the host in front is. */
static bool is_policy(const Modal__Client__RPCAny *detail)
{
    const char *name = strrchr(detail->type_url, '/');
    return strcmp(name ? name + 1 : detail->type_url, "modal.client.RPCRetryPolicy") == 0;
}

/* At least 100 ms, as the official client waits. */
static unsigned delay_of(const Modal__Client__RPCAny *detail)
{
    Modal__Client__RPCRetryPolicy *policy =
        modal__client__rpcretry_policy__unpack(NULL, detail->value.len, detail->value.data);
    if (!policy) {
        return 0;
    }
    double ms = (double)policy->retry_after_secs * 1000.0;
    modal__client__rpcretry_policy__free_unpacked(policy, NULL);
    if (isnan(ms) || ms < FIRST_DELAY_MS) {
        return FIRST_DELAY_MS;
    }
    return ms < LONGEST_THROTTLE_MS ? (unsigned)ms : LONGEST_THROTTLE_MS;
}

unsigned modal_retry_after_ms(const void *details, size_t size)
{
    if (!details || size > GRPC_DETAILS_CAP) {
        return 0;
    }
    Modal__Client__RPCStatus *status = modal__client__rpcstatus__unpack(NULL, size, details);
    unsigned delay = 0;
    for (size_t i = 0; status && i < status->n_details && delay == 0; i++) {
        if (is_policy(status->details[i])) {
            delay = delay_of(status->details[i]);
        }
    }
    modal__client__rpcstatus__free_unpacked(status, NULL);
    return delay;
}
