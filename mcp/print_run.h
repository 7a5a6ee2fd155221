#ifndef CELLBLOCK_MCP_PRINT_RUN_H
#define CELLBLOCK_MCP_PRINT_RUN_H

#include <stdbool.h>
#include <stddef.h>

#include "backends/base/error.h"
#include "backends/executor.h"

/* What `cellblock run` and `cellblock attach` have in common. */

/* All of a file with code, up to 16 MiB; to be freed. NULL with an error. */
char *read_code_of(int fd, size_t *ret_size, struct error *err);
/* All of them; false when nobody reads. */
bool print_bytes(int fd, const char *bytes, size_t size);

/* What they say of a run goes where its output goes. */
typedef void print_output(void *data, enum stream stream, const char *bytes, size_t size);
/* The text form of a value or a figure, as an interpreter in a terminal shows it. */
void print_display(print_output *output, void *data, const struct display *display);
void print_note(print_output *output, void *data, const char *text);
/* The traceback or the error, and the note. */
void print_outcome(print_output *output, void *data, const struct outcome *outcome);

#endif
