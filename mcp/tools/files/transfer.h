#ifndef CELLBLOCK_MCP_TOOLS_FILES_TRANSFER_H
#define CELLBLOCK_MCP_TOOLS_FILES_TRANSFER_H

#include <stdint.h>

#include "mcp/tools/files/file_call.h"

/*
 * What upload and download share: their caps, what was moved so far, and how that is told.
 */
enum {
    TRANSFER_CHUNK = 1024 * 1024,           /* bytes of one operation */
    TRANSFER_BYTES_CAP = 256 * 1024 * 1024, /* of one transfer */
    TRANSFER_ENTRIES_CAP = 10000,           /* files and folders of one transfer */
};

struct transfer {
    struct file_call fc;
    const char *source; /* borrowed from the arguments */
    const char *dest;
    bool replace;
    bool cancelled;
    unsigned files;
    unsigned entries;
    unsigned left_out; /* links, and what is neither a file nor a folder */
    uint64_t bytes;
};

/* source, dest, replace and session out of the arguments. `uploads`: dest is the one in the
 * sandbox; the other is of the host, and taken as it is. */
int transfer_init(struct transfer *t, struct call *call, bool uploads, struct error *err);

/* Takes the session, and hears of cancellation from then on. */
int transfer_enter(struct transfer *t, bool makes, struct error *err);

/* Between two steps: -1 when it was cancelled. */
int transfer_check(const struct transfer *t, struct error *err);

/* So many bytes are to come: told before any of them is moved, where it is known. */
int transfer_check_size(uint64_t size, struct error *err);

/* One more file or folder, or more bytes; -1 past a cap, saying what to do instead. */
int transfer_count_entry(struct transfer *t, struct error *err);
int transfer_count_bytes(struct transfer *t, size_t size, struct error *err);
void transfer_progress(struct transfer *t, const char *verb);

/* The answer to all that went well: "Uploaded 3 files (12 bytes) from … to …". */
void transfer_answer(struct transfer *t, const char *verb);

#endif
