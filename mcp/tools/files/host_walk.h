#ifndef CELLBLOCK_MCP_TOOLS_FILES_HOST_WALK_H
#define CELLBLOCK_MCP_TOOLS_FILES_HOST_WALK_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/base/error.h"

/*
 * Reads a folder of the host, from an opened descriptor down: one entry at a time, folders before
 * what is in them, links never followed and what is neither a file nor a folder only counted.
 */
enum { HOST_WALK_DEPTH = 64 };

struct host_walk {
    DIR *dirs[HOST_WALK_DEPTH];
    size_t ends[HOST_WALK_DEPTH]; /* how much of `path` each of them is */
    unsigned depth;
    char path[4096]; /* of the entry, from the folder on */
    unsigned left_out;
};

struct host_entry {
    const char *path; /* the walk's, until the next call */
    bool is_directory;
    bool executable;
    int fd; /* of a file, for reading; the caller's to close. -1 for a folder */
};

/* `fd` (O_PATH) stays the caller's. 0 or a negative errno. */
int host_walk_init(struct host_walk *w, int fd);
void host_walk_deinit(struct host_walk *w);

/* 1 and *ret; 0 at the end; -1 with an error. */
int host_walk_next(struct host_walk *w, struct host_entry *ret, struct error *err);

/* Opens a file that is an O_PATH descriptor for reading: never waits, and only a regular file. Its
 * descriptor, or -1 with an error that calls it `name`. */
int host_reopen_file(int fd, const char *name, bool *ret_executable, uint64_t *ret_size,
                     struct error *err);

#endif
