#ifndef CELLBLOCK_MCP_BASE64_H
#define CELLBLOCK_MCP_BASE64_H

#include <stddef.h>

/*
 * Base64 of RFC 4648, with padding. Line ends are allowed in what is decoded, as programs write it;
 * nothing else is passed over: another character, missing padding, padding in the middle, or bits
 * that stand for nothing are an error.
 */

/* NUL-terminated text, to be freed; NULL when out of memory. */
char *base64_encode(const void *bytes, size_t size);

/* 0 and *ret_bytes (to be freed; never NULL), *ret_size; -EINVAL and *ret_where, the offset in
 * `text` of what is wrong (its size: something is missing at the end); -ENOMEM. */
int base64_decode(const char *text, size_t size, char **ret_bytes, size_t *ret_size,
                  size_t *ret_where);

#endif
