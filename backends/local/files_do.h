#ifndef CELLBLOCK_LOCAL_FILES_DO_H
#define CELLBLOCK_LOCAL_FILES_DO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/files.h"
#include "backends/local/files_way.h"

/* One operation on the files of a root (files.h), from a thread that has become its user. */
struct file_job {
    struct way way;
    const struct file_request *request; /* checked by file_request_check */
    uint64_t disk_limit; /* of bytes in /workspace and /tmp, where no file system of their own holds
                          * them; 0: none */
    _Atomic bool stop;   /* set by others: give up soon */
};

/* Blocking. 0, or -1 with `err`, and then `ret` is as it was. */
int files_do(const struct file_job *job, struct file_reply *ret, struct error *err);

#endif
