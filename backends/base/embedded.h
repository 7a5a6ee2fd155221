#ifndef CELLBLOCK_BASE_EMBEDDED_H
#define CELLBLOCK_BASE_EMBEDDED_H

#include <stddef.h>

/*
 * A file that is part of the program, written at build time by tools/embed.py. A NUL follows the
 * last byte and is not counted.
 */
struct embedded_file {
    const char *name;
    const unsigned char *data;
    size_t size;
};

/* Tables, each ended by a row without a name. */
extern const struct embedded_file embedded_schemas[]; /* "tools/run_code", "config" … */
extern const struct embedded_file
    embedded_runtime[]; /* what goes into a sandbox: "cellblock.zip", "libcell.so", "zygote.py" */

/* NULL when the table has no such name. */
const struct embedded_file *embedded_find(const struct embedded_file *table, const char *name);

#endif
