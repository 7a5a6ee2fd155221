#ifndef CELLBLOCK_MCP_JSON_WRITE_H
#define CELLBLOCK_MCP_JSON_WRITE_H

#include <jansson.h>

#include "backends/base/buffer.h"

/*
 * A value as compact JSON, byte for byte what json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY)
 * gives. Text that needs no escapes is found eight bytes at a time: jansson takes it character by
 * character, which for a file of 1 MB in base64 is most of what reading it costs.
 *
 * 0, or negative: -EINVAL for a string that is no UTF-8, -ENOBUFS or -ENOMEM of the buffer; what
 * has been written by then is the caller's to take back.
 */
int json_write(const json_t *value, struct buffer *out);

#endif
