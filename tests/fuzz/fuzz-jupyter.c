#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "backends/kernels/jupyter/message.h"

/*
 * The bytes of a Jupyter server's WebSocket message, through the parser of both formats. The first
 * byte says how: bit 0 the v1 format was agreed on, bit 1 the message is binary.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jupyter_message m;
    const char *why = NULL;
    const json_t *content;

    if (size == 0) {
        return 0;
    }
    if (jupyter_message_parse(data[0] & 1, data[0] & 2, (const char *)data + 1, size - 1, &m,
                              &why) < 0) {
        assert(why && *why);
        return 0;
    }
    assert(m.type && m.parent && m.channel <= JUPYTER_CONTROL);
    assert(strlen(m.type) < size && strlen(m.parent) < size);
    content = jupyter_message_content(&m);
    assert(!content || json_is_object(content));
    jupyter_message_deinit(&m);
    return 0;
}
