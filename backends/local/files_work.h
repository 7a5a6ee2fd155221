#ifndef CELLBLOCK_LOCAL_FILES_WORK_H
#define CELLBLOCK_LOCAL_FILES_WORK_H

#include "backends/local/files_do.h"
#include "backends/local/files_tree.h"

/* For the files files_*.c: one operation while it is done. Codes are -errno, with the meanings of
 * files_way.h and files_tree.h. */
struct work {
    const struct file_job *job;
    const struct file_request *request;
    struct file_reply *reply;
    bool at_dest; /* what went wrong is about dest */
    struct tree tree;
};

/* files_do.c */
int files_find(const struct work *work, const char *path, unsigned flags, struct spot *ret);
/* Opens a regular file for more than its name; never anything else. */
int files_open_regular(const struct spot *spot, int flags);
/* What there is at `name` in `dir`; a link's target as well. */
int files_entry(int dir, const char *name, struct file_entry *ret);
void files_entry_set(struct file_entry *entry, const struct stat *st);

/* files_list.c */
int files_list(const struct file_job *job, int path_fd, struct file_reply *ret);

/* files_write.c */
int files_write(struct work *work);
int files_mkdir(struct work *work);
/* How much may still be put into a root that no file system of its own holds. */
int files_measure_room(struct work *work);

/* files_pair.c */
int files_remove(struct work *work);
int files_copy(struct work *work);
int files_move(struct work *work);

#endif
