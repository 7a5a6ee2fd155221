#ifndef CELLBLOCK_LOCAL_LAUNCH_H
#define CELLBLOCK_LOCAL_LAUNCH_H

#include <stdbool.h>
#include <uv.h>

#include "backends/base/error.h"
#include "backends/environment.h"
#include "backends/local/child.h"
#include "backends/local/interpreter.h"
#include "backends/local/user.h"
#include "backends/share.h"

/*
 * Starts zygote.py: in bubblewrap, or bare for the isolations without namespaces. It sees its own
 * root of at most disk_mib, the system's folders and the interpreter's read-only, an environment
 * made from nothing, and the control socket as descriptor 3.
 */
enum launch_mode {
    LAUNCH_ZYGOTE,
    LAUNCH_SOLO,
};

struct launch {
    const struct environment *env;
    const struct interpreter *python;
    const struct sandbox_user *user;
    enum launch_mode mode;
    const char
        *folder; /* bare: the cell's folder on the host, with workspace/, tmp/ and run/ in it */
    struct share *const *mounts;
    unsigned mount_count;
    int control_fd; /* the far end; stays the caller's */
};

/* As child_spawn; -1 with `err`, and then child_close must not be called. */
int launch_start(uv_loop_t *loop, struct child *child, const struct launch *launch,
                 void (*exited)(struct child *child), void *data, struct error *err);

/*
 * The path list of a cell (cell.h): what Landlock lets it read and write, and its home. Writes at
 * most CELL_PATHS_CAP bytes to `out` and returns their number, or -ENOBUFS.
 */
int launch_paths(const struct launch *launch, char *out);

/* Makes the folder of a bare cell under /tmp, owned by the sandbox's user: *ret to be freed. 0 or
 * -errno. */
int launch_folder_make(const struct sandbox_user *user, char **ret);
/* Removes it with all in it, without following links. Blocking: for a thread of the pool. */
void launch_folder_remove(const char *folder);

#endif
