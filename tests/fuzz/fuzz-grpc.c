#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/modal/grpc_frame.h"
#include "backends/modal/grpc_status.h"

/*
 * What a gRPC server sends: the first byte is how long the pieces are in which its body comes; then
 * lines "name: value", its trailers, up to an empty one; then the body.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGE_CAP = 1000 };

struct taken {
    size_t bytes, messages;
    uint8_t sum;
};

static bool take(void *data, const void *message, size_t size)
{
    struct taken *taken = data;
    assert(size <= MESSAGE_CAP);
    taken->bytes += size;
    taken->messages++;
    for (size_t i = 0; i < size; i++) {
        taken->sum ^= ((const uint8_t *)message)[i]; /* each byte can be read */
    }
    return taken->messages % 3 != 0; /* sometimes held back */
}

static void feed(const uint8_t *body, size_t size, size_t piece)
{
    struct grpc_frames frames;
    struct taken taken = {0};
    int r = 0;

    grpc_frames_init(&frames, MESSAGE_CAP);
    for (size_t at = 0; r == 0 && at < size; at += piece) {
        r = grpc_frames_feed(&frames, body + at, size - at < piece ? size - at : piece, take,
                             &taken);
        while (r == 0 && grpc_frames_waiting(&frames)) {
            r = grpc_frames_feed(&frames, NULL, 0, take, &taken);
        }
    }
    assert(r == 0 || r == -EBADMSG || r == -EMSGSIZE);
    assert(taken.bytes + taken.messages * GRPC_FRAME_HEAD + grpc_frames_left(&frames) <= size);
    assert(r < 0 ||
           taken.bytes + taken.messages * GRPC_FRAME_HEAD + grpc_frames_left(&frames) == size);
    grpc_frames_deinit(&frames);
}

/* The lines up to an empty one, which are cut up; returns what follows. */
static char *read_trailers(char *text)
{
    struct grpc_trailers trailers = {.status = -1};
    char *line;

    while ((line = strsep(&text, "\n")) && *line) {
        char *value = strstr(line, ": ");
        if (value) {
            *value = '\0';
            grpc_trailers_note(&trailers, line, value + 2);
        }
    }
    assert(trailers.status >= -1 && trailers.status <= GRPC_UNAUTHENTICATED);
    assert(!trailers.message || strlen(trailers.message) <= GRPC_MESSAGE_TEXT_CAP);
    assert(!trailers.details || trailers.details_size <= GRPC_DETAILS_CAP);
    grpc_trailers_reset(&trailers);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1), *body;

    assert(copy);
    memcpy(copy, data, size);
    copy[size] = '\0';
    if (size > 0) {
        body = read_trailers(copy + 1);
        if (body) {
            size_t at = (size_t)(body - copy);
            feed(data + at, size - at, data[0] ? data[0] : size);
        }
    }
    free(copy);
    return 0;
}
