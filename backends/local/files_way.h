#ifndef CELLBLOCK_LOCAL_FILES_WAY_H
#define CELLBLOCK_LOCAL_FILES_WAY_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

/*
 * The way from a path to what it names, in a root that belongs to somebody else, who moves things
 * about while we walk. Each component is opened by itself and without following anything; a link is
 * read and its target walked likewise; ".." is walked anew from the root. So no way leads out of
 * the root, whatever is swapped meanwhile, and nothing but folders is ever opened for more than its
 * name (O_PATH).
 *
 * Folders of the kernel's own (proc, sysfs and their kind) are not entered: what they show depends
 * on who looks, and that would be this process.
 */
struct way {
    int root_fd;        /* O_PATH */
    const char *folder; /* where code without a root of its own sees the root; else NULL. Then only
                         * /workspace and /tmp in it can be reached */
};

enum way_flag {
    WAY_FOLLOW = 1u << 0, /* a link as the last component, too */
    WAY_SLASH = 1u << 1,  /* what is missing may be called "name/" */
    WAY_MAKE = 1u << 2,   /* folders on the way that are missing are made, 0755 */
};

/* Something, which may be missing, in a folder, which is there. */
struct spot {
    int dir;                 /* O_PATH, to be closed */
    char name[NAME_MAX + 1]; /* one component; "." for the root itself */
    bool folder;             /* the path says that it is one: it ended with a slash or a dot */
    char parent[PATH_MAX];   /* the folder's path from the root, no links in it; "" is the root */
};

/* Codes beside those of the system's calls: -EXDEV it leads out of what can be reached (folder),
 * -ENOTSUP a folder of the kernel's own, -ELOOP more than 40 links. */
int way_find(const struct way *way, const char *path, unsigned flags, struct spot *ret);
void spot_close(struct spot *spot);

/* May the code there put nothing into this spot's folder and remove nothing from it, whatever the
 * permissions say (the root, /dev, what is kept for the server)? */
bool spot_is_fixed(const struct spot *spot);

/* O_PATH, following nothing; *ret_stat is of what was opened. A descriptor or -errno. */
int spot_open(const struct spot *spot, struct stat *ret_stat);

/* Is it a folder of the kernel's own? */
bool way_is_kernels(int fd);

/* A descriptor to read or write (`flags`) what the O_PATH one is of, or -errno. */
int way_reopen(int path_fd, int flags);

/* Makes a folder that was not there, with exactly this mode. 0 or -errno. */
int way_make_folder(int dir, const char *name, unsigned mode);

#endif
