#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/net/http_internal.h"

/*
 * The bytes of a server that is asked for an upgrade: the head of its answer, and a refusal's body
 * in chunks.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_head head = {.status = -1};
    ssize_t n = http_head_parse((const char *)data, size, &head);
    char *copy = malloc(size ? size : 1);
    bool whole;

    assert(n == 0 || n == -EBADMSG || (n >= 16 && (size_t)n <= size));
    assert(n > 0 ? head.status >= 100 && head.status < 1000 && head.length >= -1
                 : head.status == -1);
    assert(copy);
    memcpy(copy, data, size);
    assert(http_unchunk(copy, size, &whole) <= size);
    free(copy);
    return 0;
}
