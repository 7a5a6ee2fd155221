#ifndef CELLBLOCK_MCP_TOOLS_FILES_HOST_COPY_H
#define CELLBLOCK_MCP_TOOLS_FILES_HOST_COPY_H

#include <stdbool.h>
#include <stddef.h>

#include "backends/base/error.h"
#include "backends/files.h"

/*
 * A file or a folder that is being made on the host, out of what a sandbox gives: under a name of
 * its own beside the final one, and renamed when all of it is there. The folder that it is made in
 * is an open descriptor, and nothing is reached through a link: whoever can write there too (code
 * with a writable mount, say) can spoil the copy, and lead it nowhere else.
 *
 * Files are 0644 or 0755. Errors call the copy by its path on the host.
 */
enum {
    HOST_NAME_CAP = 255, /* bytes of a name in a path */
    HOST_DEPTH_CAP = 64,
};

struct host_copy {
    int parent;                     /* where it is made; owned */
    char *path;                     /* of the copy, for messages; owned */
    char *name;                     /* its last part; owned */
    char temp[FILE_TEMPORARY_SIZE]; /* what it is called until then; "": nothing is there */
    int tree;                       /* the folder, or -1 */
    int file;                       /* the file that is being written, or -1 */
};

/* Takes `parent`. -1 when something is at `name` that may not be replaced: a folder never. With an
 * error there is nothing to deinit, and the descriptor is closed. */
int host_copy_init(struct host_copy *c, int parent_owned, const char *folder, const char *name,
                   bool replace, struct error *err);
/* Removes what was made, unless it was committed. */
void host_copy_deinit(struct host_copy *c);

/* Is `rel` a path down from a folder: names other than "." and "..", none too long, not too many?
 */
bool host_copy_is_relative(const char *rel);

/* A folder: first the copy itself (`rel` NULL), then what is in it, parents first. `rel` has passed
 * host_copy_is_relative. */
int host_copy_mkdir(struct host_copy *c, const char *rel, struct error *err);
/* A file: the copy itself (NULL), or one in the folder; then writes, then close. */
int host_copy_open(struct host_copy *c, const char *rel, bool executable, struct error *err);
int host_copy_write(struct host_copy *c, const void *bytes, size_t size, struct error *err);
int host_copy_close(struct host_copy *c, struct error *err);

/* Gives it its name. */
int host_copy_commit(struct host_copy *c, bool replace, struct error *err);

#endif
