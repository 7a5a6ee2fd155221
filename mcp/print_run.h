#ifndef CELLBLOCK_MCP_PRINT_RUN_H
#define CELLBLOCK_MCP_PRINT_RUN_H

#include <stdbool.h>
#include <stddef.h>

#include "backends/base/error.h"

/* What `cellblock run` and `cellblock attach` have in common. */

/* All of a file with code, up to 16 MiB; to be freed. NULL with an error. */
char *read_code_of(int fd, size_t *ret_size, struct error *err);
/* All of them; false when nobody reads. */
bool print_bytes(int fd, const char *bytes, size_t size);

#endif
