#ifndef CELLBLOCK_NET_SOURCE_H
#define CELLBLOCK_NET_SOURCE_H

#include <linux/capability.h>

#include "backends/base/error.h"
#include "backends/share.h"

/*
 * Reading what a share's descriptor is of, by a thread of our own or the loop's. All of it blocks.
 *
 * Root's power to pass over permissions is not used for reading: what a file's mode keeps from the
 * server's user does not get into a sandbox, whoever runs the server.
 */

/* What this thread had before. */
struct source_rights {
    struct __user_cap_data_struct before[2];
};

/* Takes the power to pass over permissions away from this thread, and gives it back. In between the
 * thread does nothing but read. */
void source_lay_down(struct source_rights *ret);
void source_take_up(const struct source_rights *rights);

/* Opens the share's file or folder for reading: a descriptor, or -1 with the reason. What is
 * neither is refused. Between the two above. */
int source_open(const struct share *share, struct error *err);

#endif
