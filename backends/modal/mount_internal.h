#ifndef CELLBLOCK_MODAL_MOUNT_INTERNAL_H
#define CELLBLOCK_MODAL_MOUNT_INTERNAL_H

#include <sys/stat.h>

#include "backends/modal/mount_list.h"

/* Between mount_walk.c and mount_list.c. */

/* A path below the folder `root`, which nothing leads out of: its descriptor, or -errno (-EXDEV:
 * it would). "": the folder itself. */
int mount_open_below(int root, const char *path, uint64_t flags);
void mount_facts_of(const struct stat *st, struct mount_facts *ret);
bool mount_facts_equal(const struct mount_facts *a, const struct mount_facts *b);

#endif
