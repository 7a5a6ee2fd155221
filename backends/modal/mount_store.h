#ifndef CELLBLOCK_MODAL_MOUNT_STORE_H
#define CELLBLOCK_MODAL_MOUNT_STORE_H

#include "backends/modal/mount_list.h"

/*
 * What this process has uploaded: of the newest MOUNT_STORE_CAP mounts (fewer, when they hold more
 * than MOUNT_STORE_FILES files) the list of files, what the
 * service has of them, and the mount's id. So the next sandbox with the same share costs a walk
 * over the folder, and no call where nothing has changed.
 */
enum {
    MOUNT_STORE_CAP = 16,
    MOUNT_STORE_FILES = 2 * MOUNT_FILES_CAP,
};

struct mount_kept {
    unsigned refs;
    struct mount_list *list; /* not changed any more, but for `there` */
    char *dest;
    char *app_id;
    char *id; /* NULL: the service does not know it any more */
};

struct mount_store {
    struct mount_kept *kept[MOUNT_STORE_CAP]; /* the newest first */
    unsigned count;
    unsigned forgotten; /* how often */
};

/* The one of this source (its descriptor) and dest, with a reference to drop; NULL. */
struct mount_kept *mount_store_find(struct mount_store *store, const struct share *share);
void mount_kept_drop(struct mount_kept *kept);
/* Takes the list (always). In place of an earlier one of its source and dest. */
void mount_store_keep(struct mount_store *store, struct mount_list *list_owned, const char *dest,
                      const char *app_id, const char *id);
/* The service said that something is gone: it is asked anew. The hashes stay. */
void mount_store_forget(struct mount_store *store);
void mount_store_deinit(struct mount_store *store);

#endif
