#ifndef CELLBLOCK_LOCAL_FILES_TREE_H
#define CELLBLOCK_LOCAL_FILES_TREE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/files.h"

/*
 * Trees of a sandbox's files, from a thread that has become its user, while the code there may
 * change them: only folders that were opened are gone into, by a name that is not followed.
 */
struct tree {
    const _Atomic bool *stop; /* set by others: give up with -ECANCELED */
    bool limited;             /* `room` counts */
    uint64_t room;            /* bytes that a copy may take */
    unsigned files;           /* done so far */
    bool recursive;           /* else a folder is -ENOTEMPTY (removed, with something in it) or
                               * -EISDIR (copied) */
    bool ours;                /* what is removed was made by tree_copy: its modes do not count */
    char *space;              /* for copying; tree_deinit */
    char what[FILE_PATH_CAP + 1]; /* where it failed, from the top's name on; "" is the top */
};

/* Codes beside those of the system's calls: -EMLINK too many files, -EOVERFLOW nested too deep,
 * -ENXIO neither a file, a folder nor a link, -ENOTSUP a folder of the kernel's own, -EBUSY
 * something is mounted there. */
/* Nothing is removed of what holds more than can be removed. */
int tree_remove(struct tree *tree, int dir, const char *name);
/* Copies what `from_name` is, a link as a link, to the new entry `name`. When it fails what there
 * is of it is left for tree_remove. */
int tree_copy(struct tree *tree, int from_dir, const char *from_name, int dir, const char *name);

void tree_deinit(struct tree *tree);

/* Bytes of all files below a folder, as far as they can be seen. */
uint64_t tree_size(int dir, const char *name);

/* Writes all of it. 0 or -errno. */
int write_all(int fd, const void *bytes, size_t size);

#endif
