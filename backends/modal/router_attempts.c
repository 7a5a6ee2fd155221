#include "backends/modal/router.h"

/* What is tried again, and when. */

enum { ROUTER_RETRY_LEAST_MS = 100 }; /* as the official client: no sooner, whatever is said */

static unsigned quick_delay(unsigned attempt)
{
    unsigned ms = MODAL_ROUTER_DELAY_MS;

    while (--attempt > 0 && ms < MODAL_ROUTER_DELAY_MAX_MS) {
        ms *= 2;
    }
    return ms < MODAL_ROUTER_DELAY_MAX_MS ? ms : MODAL_ROUTER_DELAY_MAX_MS;
}

static enum modal_again throttled(struct modal_attempts *a, const struct grpc_end *end,
                                  bool patient, uint64_t left_ms, unsigned *ret_ms)
{
    unsigned ms = modal_retry_after_ms(end->details, end->details_size);

    if (ms == 0 || ms > MODAL_ROUTER_WAIT_MAX_MS || (patient && ms >= left_ms)) {
        return MODAL_AGAIN_NO;
    }
    a->throttled++;
    *ret_ms = ms < ROUTER_RETRY_LEAST_MS ? ROUTER_RETRY_LEAST_MS : ms;
    return MODAL_AGAIN_LATER;
}

enum modal_again modal_attempts_next(struct modal_attempts *a, const struct grpc_end *end,
                                     bool patient, uint64_t left_ms, unsigned *ret_ms)
{
    if (end->status == GRPC_UNAUTHENTICATED && !a->renewed) {
        a->renewed = true;
        return MODAL_AGAIN_RENEW;
    }
    if (end->status == GRPC_RESOURCE_EXHAUSTED) {
        return throttled(a, end, patient, left_ms, ret_ms);
    }
    if (!modal_status_is_transient(end->status)) {
        return MODAL_AGAIN_NO;
    }
    a->transient++;
    *ret_ms = quick_delay(a->transient);
    if (!patient) {
        return a->transient <= MODAL_ROUTER_TRIES ? MODAL_AGAIN_LATER : MODAL_AGAIN_NO;
    }
    if (*ret_ms > MODAL_ROUTER_SLOW_MS) {
        *ret_ms = MODAL_ROUTER_SLOW_MS;
    }
    return *ret_ms < left_ms ? MODAL_AGAIN_LATER : MODAL_AGAIN_NO;
}
