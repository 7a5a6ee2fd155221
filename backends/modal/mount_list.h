#ifndef CELLBLOCK_MODAL_MOUNT_LIST_H
#define CELLBLOCK_MODAL_MOUNT_LIST_H

#include <md5.h>
#include <sha256.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "backends/base/error.h"
#include "backends/share.h"

/*
 * What a share of type mount is to Modal: a list of files by their SHA-256. Walking and hashing
 * block, and are done by threads of libuv's pool; a list belongs to one of them at a time.
 *
 * Everything is opened below the share's own descriptor by openat2 with RESOLVE_BENEATH: the kernel
 * lets no path and no link out of it. A mount knows files only. A link that leads to a file or a
 * folder of the share is that file, or that folder, in the mount; one that leads out or nowhere is
 * refused by name, for it could neither be kept nor be left out unseen (a copy keeps links as
 * links). So is what is neither file nor folder. Empty folders are counted and left out. Names that
 * begin with a dot are names like others.
 */
enum {
    MOUNT_FILES_CAP = 50000,
    MOUNT_DEPTH_CAP = 64,
    MOUNT_NAMES_CAP = 16 * 1024 * 1024, /* bytes of all paths */
    MOUNT_PATH_CAP = 4096,              /* bytes of a path in the sandbox */
    MOUNT_INLINE_CAP = 4 * 1024 * 1024, /* a file of so many bytes or more goes as a blob */
    MOUNT_HASH_STEP = 32 * 1024 * 1024, /* bytes that one call of mount_hash reads */
    MOUNT_SETTLED_MS = 2000,            /* see mount_file.settled */
    MOUNT_PIECE = 256 * 1024,           /* bytes of a read */
};
#define MOUNT_BYTES_CAP ((uint64_t)16 << 30) /* of all files of a share */

/* What tells that a file is the same as before. */
struct mount_facts {
    dev_t dev;
    ino_t ino;
    uint64_t size;
    struct timespec mtime, ctime;
};

struct mount_file {
    char *path; /* below the source; "": the source itself, which is a file */
    uint32_t mode;
    struct mount_facts facts;
    unsigned char sha256[SHA256_DIGEST_LENGTH];
    unsigned char md5[MD5_DIGEST_LENGTH]; /* of one that goes as a blob only */
    bool hashed;
    /* It had not changed for MOUNT_SETTLED_MS when it was hashed. A younger one could change again
     * within the same tick of its file system's clock, and is hashed anew the next time. */
    bool settled;
    size_t earlier; /* its place in the list that its hashes are of; SIZE_MAX: none */
    bool there;     /* the service has it. The loop's, not the threads' */
};

struct mount_list {
    struct mount_file *files; /* by path */
    size_t count, room;
    uint64_t bytes;
    size_t names; /* bytes of paths */
    unsigned empty_folders;
    dev_t dev; /* of the source */
    ino_t ino;
};

struct mount_list *mount_list_new(void); /* NULL when out of memory */
void mount_list_free(struct mount_list *list);

/* Lists the source's files: -1 with what is in the way (a cap, a link that leads out, a file that
 * may not be read). Hashes are taken from `earlier` (may be NULL) where nothing has changed. */
int mount_list_walk(struct mount_list *list, const struct share *share,
                    const struct mount_list *earlier, struct error *err);

/* Where hashing is. Zeroed at the beginning, with `fd` -1. */
struct mount_hashing {
    size_t next; /* file */
    int fd;      /* of it, when it is begun */
    uint64_t offset;
    uint64_t bytes; /* hashed in all */
    SHA2_CTX sha256;
    MD5_CTX md5;
};
/* Hashes about MOUNT_HASH_STEP bytes more: 1 when all are hashed, 0 when there are more, -1 with
 * the reason (a file that changed meanwhile is one). */
int mount_hash(struct mount_hashing *hashing, struct mount_list *list, const struct share *share,
               struct error *err);
void mount_hashing_deinit(struct mount_hashing *hashing);

/* Opens a file of the list as it was listed; one that has changed since is refused. -1, or the
 * descriptor. */
int mount_open(const struct share *share, const struct mount_file *file, struct error *err);
/* Is the descriptor's file still as it was listed? -1 with the reason. */
int mount_unchanged(const struct share *share, const struct mount_file *file, int fd,
                    struct error *err);
/* All of a small file's bytes, as they were hashed; to be freed. NULL with the reason. */
void *mount_read(const struct share *share, const struct mount_file *file, struct error *err);

/* "/dest/path"; to be freed. NULL when out of memory. */
char *mount_file_dest(const struct share *share, const struct mount_file *file);

#endif
