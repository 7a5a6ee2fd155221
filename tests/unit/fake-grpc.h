#ifndef CELLBLOCK_TESTS_FAKE_GRPC_H
#define CELLBLOCK_TESTS_FAKE_GRPC_H

#include <protobuf-c/protobuf-c.h>

#include "backends/modal/grpc.h"

/* grpc.h without a network: a test answers each call itself, from the loop. Linked instead of
 * backends/modal/grpc*.c. */
struct fake_call {
    const char *url;    /* the channel's */
    const char *method; /* without the service: "SandboxCreateV2" */
    const void *message;
    size_t size;
    unsigned number; /* of this method's calls, from 1 */
    unsigned timeout_ms;
    char *const *metadata; /* the channel's and the call's */
};

enum { FAKE_ANSWERS = 4 };

struct fake_reply {
    enum grpc_status status;
    const char *message; /* NULL: "" */
    bool local;
    const void *details;
    size_t details_size;
    const ProtobufCMessage *answers[FAKE_ANSWERS]; /* packed when serve returns; NULL-ended */
    const void *raw;                               /* bytes of one more message */
    size_t raw_size;
    bool hold; /* no answer until it is cancelled */
};

void fake_grpc_begin(void (*serve)(void *data, const struct fake_call *call,
                                   struct fake_reply *reply),
                     void *data);
/* "" when it is not there. */
const char *fake_metadata(const struct fake_call *call, const char *name);
/* How many calls of a method there were; channels that are open. */
unsigned fake_count(const char *method);
unsigned fake_channels(void);

#endif
